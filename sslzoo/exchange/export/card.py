"""A model card: what a run was and how it scored, and the Python that loads what was written of it, as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...tools.quoting import markdown, markdown_code
from .formats import Format
from .subject import Written

UNKNOWN = "not measured"
NOT_STATED = "The licence is not stated: whoever publishes this says it, at the head of this file (`license:`)."


@dataclass(frozen=True)
class Score:
    """Is a kNN accuracy in [0, 1] of something, with its 95% interval where the number of queries is known."""

    of: str
    accuracy: float | None
    interval: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """Return the number as a person reads it."""
        if self.accuracy is None:
            return UNKNOWN
        spread = "" if self.interval is None else f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})"
        return f"{self.accuracy:.3f}{spread}"


@dataclass(frozen=True)
class Facts:
    """Says of a run what a card tells: its ``expression``, ``rows`` of names and values, and the ``scores`` of kNN.

    ``scored`` says what the scores are of; ``switches`` is one line, ``recipe`` the text of the recipe's file, and
    ``commands`` those that trained it. ``datasets`` are names on the Hugging Face Hub. ``licence`` is what a person
    said, None where nobody did.
    """

    expression: str
    rows: Sequence[tuple[str, str]]
    scores: Sequence[Score]
    scored: str
    switches: str
    recipe: str
    commands: Sequence[str]
    datasets: Sequence[str] = ()
    licence: str | None = None


def head(facts: Facts, kind: Format) -> list[str]:
    """Return the front matter's lines: what the Hub reads."""
    tags = ["image-feature-extraction", "self-supervised-learning", "sslzoo", *kind.tags]
    lines = ["---", "tags:", *(f"- {tag}" for tag in tags), "pipeline_tag: image-feature-extraction"]
    lines += [] if kind.library is None else [f"library_name: {kind.library}"]
    lines += [f"license: {facts.licence or 'other'}"]
    lines += [] if facts.licence else ["license_name: not-stated"]
    lines += ["datasets:", *(f"- {name}" for name in facts.datasets)] if facts.datasets else []
    return [*lines, "---"]


def card(facts: Facts, kind: Format, written: Written, size: int) -> str:
    """Return the card of a run in a format, whose pictures were seen at ``size`` px."""
    lines = [*head(facts, kind), f"# {markdown(facts.expression)}", ""]
    lines += ["An image encoder that sslzoo trained without labels. The features have "
              f"{written.features} numbers, of pictures seen at {size} px.", ""]  # fmt: skip
    lines += [*written.notes, ""] if written.notes else []
    lines += ["## Use", "", "```python", written.usage.rstrip(), "```", ""]
    lines += ["## Score", "", f"{facts.scored}", "", "| | kNN, k = 20 |", "|---|---|"]
    lines += [f"| {markdown(score.of)} | {score.text} |" for score in facts.scores]
    lines += ["", "## Training", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {markdown_code(value)} |" for name, value in facts.rows]
    lines += ["", f"Switches: {facts.switches}.", "", "```sh", *facts.commands, "```", ""]
    lines += ["Every value of the recipe:", "", "```toml", facts.recipe.rstrip(), "```", ""]
    licence = f"{markdown(facts.licence)}." if facts.licence else NOT_STATED
    lines += ["## Licence", "", licence]
    return "\n".join(lines) + "\n"
