"""The files of a table: Markdown and CSV of its cells, and its picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..recipes.knobs import spelled
from ..tools.files import write as write_whole

Row = dict[str, Any]
NUMBERS = ("random_knn", "raw_knn", "std", "rank", "loss")


def columns(result: Row) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table: the flipped values or the labels first, then what came of them."""
    flip: Mapping[str, Any] = result.get("flip") or {}
    papers = any(cell["published"] for cell in result["cells"])
    names = [key.rpartition(".")[2].replace("_", " ") for key in flip] or ["variant"]
    heads = [*names, *(["paper"] if papers else []), "kNN", "untrained", "std", "rank", "loss", "guards", "verdict"]
    return heads, [_row(cell, bool(flip), papers) for cell in result["cells"]]


def _row(cell: Row, lattice: bool, papers: bool) -> list[str]:
    first = [values(column) for column in zip(*cell["at"], strict=True)] if lattice else [cell["label"]]
    first += [cell["published"] or "-"] if papers else []
    verdict = "refused" if cell["refused"] else cell["verdict"] or "-"
    if cell["diverged"] and verdict != "diverged":
        verdict += f", {cell['diverged']} diverged"
    guards = ", ".join(cell["guards"]) or "none"
    return [
        *first, spread(cell["knn"]), number(cell["random_knn"]), number(cell["std"], 2), number(cell["rank"], 1),
        number(cell["loss"]), "-" if cell["refused"] else guards, verdict,
    ]  # fmt: skip


def values(places: Sequence[Any]) -> str:
    """A flipped switch's value, as tables show it; "any" where a cell does not read the flipped knob."""
    one = places[0]
    if len(set(places)) > 1:
        return "any"
    return "-" if one is False or one == "none" else "yes" if one is True else spelled(one)  # 0 equals False


def number(value: float | None, digits: int = 3) -> str:
    """A number, or "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def spread(knn: Mapping[str, Any] | None) -> str:
    """Mean and deviation."""
    if knn is None:
        return "-"
    return number(knn["mean"]) + ("" if knn["sd"] is None else f" ± {knn['sd']:.3f}")


def refusals(result: Row) -> list[str]:
    """Why cells were refused: a sentence for each reason, and how many it refuses."""
    reasons = [cell["refused"] for cell in result["cells"] if cell["refused"]]
    return [f"{reasons.count(reason)} refused: {reason}" for reason in dict.fromkeys(reasons)]


def protocol(result: Row) -> str:
    """What the numbers depend on, in a line."""
    batch = "batch varies" if result["batch_size"] is None else f"batch {result['batch_size']}"
    return (
        f"{result['data']}, {result['images']:,} images of {result['image_size']} px, {passes(result)}, {batch}, "
        f"{result['backbone'] or 'backbone varies'}, {counted(result['seeds'], 'seed')}, {result['device']} "
        f"({result['precision']})"
    )


def passes(result: Row) -> str:
    """The epochs of a table, which may differ between its cells."""
    return "epochs vary" if result["epochs"] is None else counted(result["epochs"], "epoch")


def counted(n: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def findings(result: Row) -> list[str]:
    """The sentences below a table: what ranks its cells."""
    found = []
    if result["order"] is not None:
        rho, n = correlation(result["order"]["spearman"]), result["order"]["n"]
        found.append(f"The order of the paper: Spearman {rho} between published and measured, n = {n}.")
    board = result["scoreboard"]
    if board is not None:
        rhos = ", ".join(f"{name} {correlation(rho)}" for name, rho in board.items() if name != "n")
        found.append(f"Label-free scores against kNN, Spearman over n = {board['n']} cells: {rhos}.")
    return found


def notes(result: Row) -> list[str]:
    """The sentences that belong to a study: its question, and where this table is a smaller one."""
    return [text for text in (result.get("question"), result.get("note")) if text]


def correlation(rho: float | None) -> str:
    """A correlation; one side of it may be constant."""
    return "undefined" if rho is None else f"{rho:.2f}"


def untrained(result: Row) -> float | None:
    """kNN of the untrained backbone, the mean over the cells; None without labels."""
    there = [cell["random_knn"] for cell in result["cells"] if cell["random_knn"] is not None]
    return sum(there) / len(there) if there else None


def title(result: Row) -> str:
    """The table's title."""
    return str(result.get("title") or f"{result['expression']}, every combination of {', '.join(result['flip'])}")


def markdown(result: Row) -> str:
    """The table with its protocol, as a page."""
    heads, rows = columns(result)
    lines = [f"# {title(result)}", ""]
    lines += [text + "\n" for text in (*notes(result), result.get("paper")) if text]
    lines += [
        f"`{result['command']}`\n",
        protocol(result) + ".",
        "kNN on the test split, k = 20, last epoch, mean ± sample deviation over seeds;",
    ]
    lines += ["std is times sqrt(d); guards are what is known to prevent collapse.", ""]
    lines += [f"| {' | '.join(row)} |" for row in ([*heads, "expression"], ["---"] * (len(heads) + 1))]
    for row, cell in zip(rows, result["cells"], strict=True):
        lines.append(f"| {' | '.join(text.replace('|', '/') for text in row)} | `{cell['expression']}` |")
    lines += ["", *(f"{text}\n" for text in (*refusals(result), *findings(result)))]
    lines.append(", ".join(f"{name} {number}" for name, number in result["versions"].items()))
    return "\n".join(lines) + "\n"


def comma_separated(result: Row) -> str:
    """The table as CSV, numbers in full."""
    text, scores = io.StringIO(), list(dict.fromkeys(name for cell in result["cells"] for name in cell["scores"]))
    switches = list(result["cells"][0]["switches"])
    heads = ["label", "expression", *switches, "published", "knn", "knn_sd", "n", *NUMBERS, *scores, "guards"]
    writer = csv.DictWriter(text, [*heads, "verdict", "diverged", "refused", "seconds", "run"], extrasaction="ignore")
    writer.writeheader()
    for cell in result["cells"]:
        knn = cell["knn"] or {"mean": None, "sd": None, "n": 0}
        row = {**cell, **cell["switches"], **cell["scores"], "guards": "; ".join(cell["guards"])}
        writer.writerow({**row, "knn": knn["mean"], "knn_sd": knn["sd"], "n": knn["n"]})
    return text.getvalue()


def write(result: Row, pictures: Mapping[str, bytes]) -> None:
    """Write table.md, table.csv and pictures, by their files' names, into the table's folder; ``files`` names all."""
    folder = Path(result["folder"])
    files: dict[str, bytes | str] = {"table.md": markdown(result), "table.csv": comma_separated(result), **pictures}
    for name, content in files.items():
        write_whole(folder / name, content)
    result["files"] = [str(folder / name) for name in ("cells.json", *files)]
