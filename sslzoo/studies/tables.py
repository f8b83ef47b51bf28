"""The files of a table: Markdown and CSV of its cells, and its pictures."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from ..recipes.knobs import spelled
from ..recipes.schema import Value
from ..tools import quoting
from ..tools.files import write as write_whole
from .lattice import plain_name
from .results import Head, Result, Spread, Table

FEWEST = 8  # cells whose ranks are correlated: of fewer, chance alone gives high correlations
NOISE = 0.01  # of kNN over seeds, where it is not known
NUMBERS = ("random_knn", "raw_knn", "std", "rank", "loss")

# ---- values as text --------------------------------------------------------------------------------------------------


def flipped_value(values: Sequence[Value]) -> str:
    """Return a flipped switch's value as tables show it, of a cell's combinations; "any" where they differ in it."""
    value = values[0]
    if len(set(values)) > 1:
        return "any"
    off = value is False or value == "none"  # 0 equals False
    return "-" if off else "yes" if value is True else spelled(value)


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits, or "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def mean_and_deviation(knn: Spread | None) -> str:
    """Return ``0.512 ± 0.010``, without the deviation where there is one run, and "-" where there is none."""
    if knn is None:
        return "-"
    return decimal(knn.mean) + ("" if knn.sd is None else f" ± {knn.sd:.3f}")


def correlation(rho: float | None) -> str:
    """Return a correlation as text; "undefined" where one side of it is constant."""
    return "undefined" if rho is None else f"{rho:.2f}"


def counted(n: int, noun: str) -> str:
    """Return ``1 epoch``, ``2 epochs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def verdict(cell: Result) -> str:
    """Return what came of a cell in a word: its verdict, "refused", or "-" where it has no runs."""
    return "refused" if cell.refused else cell.verdict or "-"


# ---- sentences of a table --------------------------------------------------------------------------------------------


def title(head: Head) -> str:
    """Return the table's title."""
    if head.paper is not None:
        return head.paper.title
    return f"{head.expression}, every combination of {', '.join(head.flip or {})}"


def protocol(head: Head) -> str:
    """Return what the numbers depend on, in a line."""
    shared = head.protocol
    batch = "batch varies" if shared.batch_size is None else f"batch {shared.batch_size}"
    return (
        f"{shared.data}, {shared.images:,} images of {shared.image_size} px, {epochs(head)}, {batch}, "
        f"{shared.backbone or 'backbone varies'}, {counted(shared.seeds, 'seed')}, {shared.device} ({shared.precision})"
    )


def epochs(head: Head) -> str:
    """Return the number of epochs as text; it may differ between the cells."""
    return "epochs vary" if head.protocol.epochs is None else counted(head.protocol.epochs, "epoch")


def notes(head: Head) -> list[str]:
    """Return the sentences that belong to a study: its question, and where this table is not the one of its file."""
    return [text for text in (head.paper.question if head.paper else None, head.note) if text]


def refusals(table: Table) -> list[str]:
    """Return why cells were refused: a sentence for each reason, and how many it refuses."""
    reasons = [cell.refused for cell in table.cells if cell.refused]
    return [f"{reasons.count(reason)} refused: {reason}" for reason in dict.fromkeys(reasons)]


def findings(table: Table) -> list[str]:
    """Return the sentences below a table: what its kNN is worth, and what ranks its cells, if more than chance does."""
    found = list(dict.fromkeys(note for cell in table.cells for note in cell.notes))
    if table.order is not None and telling(table.cells, table.order.n):
        rho, n = correlation(table.order.spearman), table.order.n
        found.append(f"The order of the paper: Spearman {rho} between published and measured, n = {n}.")
    if table.scoreboard is not None and telling(table.cells, table.scoreboard.n):
        rhos = ", ".join(f"{name} {correlation(rho)}" for name, rho in table.scoreboard.spearman.items())
        found.append(f"Label-free scores against kNN, Spearman over n = {table.scoreboard.n} cells: {rhos}.")
    return found


def telling(cells: Sequence[Result], n: int) -> bool:
    """Return whether a correlation over ``n`` of the cells says more than chance: it is a finding, and else a number.

    It says nothing of few cells, nor where the cells' kNN differ by no more than that of one cell does over its seeds.
    Where no cell has several seeds, that is taken to be `NOISE`.
    """
    known = [cell.knn for cell in cells if cell.knn]
    errors = [knn.sd**2 / knn.n for knn in known if knn.sd is not None]
    noise = fmean(errors) ** 0.5 if errors else NOISE
    return n >= FEWEST and stdev(knn.mean for knn in known) > noise


def untrained(table: Table) -> float | None:
    """Return kNN of the untrained backbone, the mean over the cells; None without labels."""
    known = [cell.random_knn for cell in table.cells if cell.random_knn is not None]
    return sum(known) / len(known) if known else None


# ---- the table and its files -----------------------------------------------------------------------------------------


def columns(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table: the flipped values or the labels first, then what came of them."""
    papers = any(cell.published for cell in table.cells)
    names = [plain_name(key) for key in table.head.flip or {}] or ["variant"]
    heads = [*names, *(["paper"] if papers else []), "kNN", "untrained", "std", "rank", "loss", "guards", "verdict"]
    return heads, [_row(cell, bool(table.head.flip), papers) for cell in table.cells]


def _row(cell: Result, lattice: bool, papers: bool) -> list[str]:
    names = [flipped_value(column) for column in zip(*cell.combinations, strict=True)] if lattice else [cell.label]
    paper = [cell.published or "-"] if papers else []
    word = verdict(cell)
    if cell.diverged and word != "diverged":
        word += f", {cell.diverged} diverged"
    guards = ", ".join(cell.guards) or "none"
    return [
        *names, *paper, mean_and_deviation(cell.knn), decimal(cell.random_knn), decimal(cell.std, 2),
        decimal(cell.rank, 1), decimal(cell.loss), "-" if cell.refused else guards, word,
    ]  # fmt: skip


def markdown(table: Table) -> str:
    """Return the table with its protocol, as a page."""
    heads, rows = columns(table)
    url = table.head.paper.url if table.head.paper else ""
    lines = [f"# {quoting.markdown(title(table.head))}", ""]
    lines += [quoting.markdown(text) + "\n" for text in (*notes(table.head), url) if text]
    lines += [
        quoting.markdown_code(table.head.command) + "\n",
        quoting.markdown(protocol(table.head)) + ".",
        "kNN on the test split, k = 20, last epoch, mean ± sample deviation over seeds;",
    ]
    lines += ["std is times sqrt(d); guards are what is known to prevent collapse.", ""]
    lines += [
        f"| {' | '.join(map(quoting.markdown, row))} |" for row in ([*heads, "expression"], ["---"] * (len(heads) + 1))
    ]
    for row, cell in zip(rows, table.cells, strict=True):
        code = quoting.markdown_code(cell.expression)
        lines.append(f"| {' | '.join(map(quoting.markdown, row))} | {code} |")
    lines += ["", *(f"{quoting.markdown(text)}\n" for text in (*refusals(table), *findings(table)))]
    lines.append(", ".join(f"{name} {number}" for name, number in table.head.protocol.versions.items()))
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """Return the table as CSV, numbers in full."""
    text, scores = io.StringIO(), list(dict.fromkeys(name for cell in table.cells for name in cell.scores))
    switches = list(table.cells[0].switches)
    heads = ["label", "expression", *switches, "published", "knn", "knn_sd", "n", *NUMBERS, *scores, "guards"]
    writer = csv.DictWriter(text, [*heads, "verdict", "diverged", "refused", "seconds", "run"], extrasaction="ignore")
    writer.writeheader()
    for cell in table.cells:
        knn = {"knn": cell.knn.mean, "knn_sd": cell.knn.sd, "n": cell.knn.n} if cell.knn else {"knn": None, "n": 0}
        row = {**cell.to_json(), **cell.switches, **cell.scores, "guards": "; ".join(cell.guards)}
        writer.writerow({key: quoting.csv_cell(value) for key, value in {**row, **knn}.items()})
    return text.getvalue()


def write(table: Table, pictures: Mapping[str, bytes]) -> Table:
    """Write table.md, table.csv and pictures, by their files' names, into the table's folder.

    Returns the table with the names of all its files. Raises `UserError`.
    """
    folder = Path(table.folder)
    files: dict[str, bytes | str] = {"table.md": markdown(table), "table.csv": comma_separated(table), **pictures}
    for name, content in files.items():
        write_whole(folder / name, content)
    return replace(table, files=[str(folder / name) for name in ("cells.json", *files)])
