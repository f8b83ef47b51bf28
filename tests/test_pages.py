"""README and docs: what a person copies from them works, links lead somewhere, and figures are the committed ones."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sslzoo
from sslzoo.cli import main
from sslzoo.recipes.algebra import parse
from sslzoo.tools.errors import UserError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERYWHERE = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "benchmarks").glob("**/*.md"))]
TINY = {"epochs=2": "epochs=1, limit=64, batch_size=32, device='cpu'"}  # in place of what takes a minute


def blocks(page: Path, kind: str) -> list[str]:
    """The code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def command_lines(page: Path) -> Iterator[str]:
    """Every command of sslzoo on a page, in blocks and, where it has words, in sentences; without redirections."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [part for line in text.splitlines() for part in line.split("&&")]
    sentences = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines += [
        line for line in re.findall(r"`(sslzoo [^`]*)`", sentences) if line.count(" ") > 1 and "--help" not in line
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["torchrun"]:
            words = ["sslzoo", *words[words.index("sslzoo") + 1 :]]
        if words[:1] == ["sslzoo"]:
            yield shlex.join(words[1 : words.index(">") if ">" in words else None])


COMMANDS = sorted({(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in command_lines(page)})
ALL_PYTHON = [(page.relative_to(ROOT).as_posix(), code) for page in PAGES for code in blocks(page, "python")]
PLUGINS = [(page, code) for page, code in ALL_PYTHON if "SwitchValue" in code]
EXPORT = [code for page, code in ALL_PYTHON if page == "docs/exporting.md"]
API = [code for _, code in ALL_PYTHON if re.search(r"sslzoo\.(Callback|Run|embed)\b", code)]
PYTHON = [given for given in ALL_PYTHON if given not in PLUGINS and given[1] not in (*API, *EXPORT)]


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of words: the innermost command's parameters, nothing run."""
    command: click.Command = main
    ctx = main.make_context("sslzoo", words)
    while isinstance(command, click.Group) and (rest := [*ctx._protected_args, *ctx.args]):
        name, found, rest = command.resolve_command(ctx, rest)
        assert found is not None
        command, ctx = found, found.make_context(name, rest, parent=ctx)
    return ctx.params


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_on_a_page_is_one(page: str, line: str) -> None:
    """Its options exist, and its expression is legal."""
    found = parsed(shlex.split(line))
    expression = [word for word in found.get("expression") or () if word not in ("EXPRESSION", "mine.toml")]
    if expression:
        parse(expression)


def test_a_command_that_is_none_is_seen() -> None:
    """The check above is one: a misspelt option, command and word are refused."""
    with pytest.raises(click.UsageError):
        parsed(["train", "simsiam", "--epoch-s", "3"])
    with pytest.raises(click.UsageError):
        parsed(["methods", "shwo", "byol"])
    with pytest.raises(UserError):
        parse(parsed(["train", "byol", "-", "momentun"])["expression"])
    assert len(COMMANDS) > 40
    assert {"train simsiam", "train byol - momentum"} <= {line for page, line in COMMANDS if page == "README.md"}


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_python_on_a_page_runs_at_a_tiny_size(page: str, code: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Literally, but for the number of epochs; the names that a page leaves to the reader are given."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for usual, small in TINY.items():
        code = code.replace(usual, small)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16))
    batch = ([torch.randn(8, 3, 16, 16), torch.randn(8, 3, 16, 16)], torch.arange(8))
    names: dict[str, Any] = {
        "encoder": net, "samples": 8, "steps": 2, "n": 8, "loader": [batch, batch],
        "bank": rng.standard_normal((20, 4)), "bank_labels": rng.integers(2, size=20),
        "queries": rng.standard_normal((5, 4)), "query_labels": rng.integers(2, size=5),
    }  # fmt: skip
    weights = net[2].weight.detach().clone()
    exec(compile(code, page, "exec"), names)
    if "loader" in code:
        assert not torch.equal(weights, net[2].weight)
        assert torch.isfinite(names["loss"])
    else:
        assert isinstance(names["encoder"], nn.Module)
        assert names["encoder"] is not net
        assert 0 <= names["scores"]["knn"]["k5"] <= 1
        assert next((tmp_path / "runs").iterdir()).is_dir()


def test_the_python_on_pages_works_from_one_block_to_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    """Literally, but for a number of epochs and a pretrained net; names that a page leaves to the reader are given."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("photos", "other-photos"):
        for i in range(100):
            place = tmp_path / folder / ("train", "test")[i % 5 == 0] / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(place / f"{i}.png")
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save("mine.jpg")
    code = (
        "\n".join(API).replace("callbacks=[Watch()],", "callbacks=[Watch()], epochs=1,").replace("timm:resnet50", "raw")
    )
    names: dict[str, Any] = {
        "sslzoo": sslzoo, "torch": torch, "MyNet": lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 16)),
        "my_views": lambda images: images.flip(-1), "picture": Image.open("mine.jpg"),
        "bank": rng.standard_normal((20, 4)), "bank_labels": rng.integers(2, size=20),
        "queries": rng.standard_normal((5, 4)), "query_labels": rng.integers(2, size=5),
    }  # fmt: skip
    exec(compile(code, "docs/python.md", "exec"), names)
    assert len(API) == 3
    assert len(names["near"].queries[0].neighbours) == 8
    assert names["found"].arrays["train_files"].shape == (80,)
    assert set(names["scores"]) > {"recall@1", "map"}


def test_the_python_that_takes_an_encoder_along(tmp_path: Path, monkeypatch: Any) -> None:
    """Of a run of one epoch, whose stem is the one for small images: timm's transform repeats pixels."""
    monkeypatch.chdir(tmp_path)
    run = sslzoo.train("simsiam", data="digits", epochs=1, limit=64, batch_size=32, backbone="resnet18", device="cpu")
    names: dict[str, Any] = {"result": run}
    exec(compile("\n".join(EXPORT), "docs/exporting.md", "exec"), names)
    assert len(EXPORT) == 2
    shown = names["transform"](Image.new("RGB", (32, 32)))
    assert shown.shape == (3, 128, 128)
    assert names["net"](shown[None]).shape == (1, 512)


@pytest.mark.parametrize(("page", "code"), PLUGINS)
def test_a_plugin_on_a_page_trains(
    page: str, code: str, tmp_path: Path, monkeypatch: Any, forgotten: None, loaded: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(code)
    size = ["--epochs", "1", "--limit", "64", "--batch-size", "32", "--device", "cpu"]
    result = loaded("train", "simsiam", "+", "koleo", "--plugin", "mine.py", *size)
    assert result["switches"]["regularizer"] == "koleo"


def test_pages_have_python() -> None:
    assert {page for page, _ in PYTHON} == {"README.md", "docs/python.md"}
    assert {page for page, _ in PLUGINS} == {"docs/methods.md"}
    assert set(re.findall(r"sslzoo\.(\w+)", "".join(code for _, code in PYTHON))) <= set(sslzoo.__all__)


@pytest.mark.parametrize("page", EVERYWHERE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if heading:
            heads = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.M)
            assert heading in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    rest = re.sub(r"<!-- methods: .*<!-- /methods -->\n", "", readme, flags=re.S)
    assert rest.count("\n") <= 120
    assert "pip install -e '.[test]' && pytest" in blocks(ROOT / "README.md", "sh")[0]
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in rest, page.name


def test_the_study_figures_are_those_of_the_tables() -> None:
    """Every measured figure of a row stands in the committed table that the row links."""
    rows = re.findall(
        r"^\| .*?\(\.\./(benchmarks/results/studies/\w+/table\.md)\)(.*)$", (ROOT / "docs/studies.md").read_text(), re.M
    )
    assert len(rows) == 7
    for path, row in rows:
        figures = re.findall(r"0\.\d{3}(?: ± 0\.\d{3})?", row)
        assert len(figures) >= 2
        table = (ROOT / path).read_text()
        assert [figure for figure in figures if f"| {figure} |" not in table] == []
