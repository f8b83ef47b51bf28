"""Run directories: their names, their files, written whole or not at all, and the encoder that one holds."""

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn

from ..core.encoders import build
from ..exchange.weights import load_weights
from ..processes.launched import restart_count
from ..recipes.plugins import Plugin, require
from ..tools.errors import UserError
from ..tools.files import write
from ..tools.records import NUMBER, Misfit, fits, read_json
from .plan import Options

ABOUT = {  # what others read of run.json
    "expression": str, "method": str | None, "data": str, "images": int, "image_size": int, "mean": list, "std": list,
    "epochs": int, "batch_size": int, "backbone": str, "options": dict,
}  # fmt: skip


def slug(expression: str) -> str:
    """An expression as a part of a file's name."""
    words = re.sub(r"\s*([+-])\s*", r"\1", expression.replace(" - ", " -no-").replace(" + ", "+"))
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", words).strip("-.")[:80]


def create(out: Path, expression: str, data: str, seed: int) -> Path:
    """A new directory ``<expression>-<data>-s<seed>-<n>`` below ``out``. Raises `UserError` where none can be made."""
    data = re.sub(r"[^A-Za-z0-9_.-]+", "-", data).strip("-.")[:40] or "data"
    for n in range(1, 100_000):
        path = out / f"{slug(expression)}-{data}-s{seed}-{n}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if out.exists() and not out.is_dir():
                raise UserError(f"{out} is a file; give --out a folder.") from None
            continue
        except OSError as error:
            raise UserError(f"{out} cannot be written ({error.strerror}); give --out another folder.") from None
        return path
    raise UserError(f"{out} is full of runs of this name; give --out another folder.")


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, a row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(path, text.getvalue())


def read_run(run: Path) -> dict[str, Any]:
    """run.json of a run directory. Raises `UserError`."""
    if not os.path.isdir(run):
        raise UserError(f"There is no run {run}; 'sslzoo runs' lists them.")
    wrong = f"{run} is no run directory: its run.json is missing or broken; remove it or give another one."
    about = read_json(run / "run.json", ABOUT, wrong)
    unknown = about["options"].keys() - {option.name for option in fields(Options)}
    if unknown or not fits(about["options"], {"data": str}):
        raise UserError(wrong)
    return about


def require_plugins(run: Path, about: Mapping[str, Any]) -> None:
    """Raise `UserError` where a run was trained with plugins that are not loaded, or not as they were."""
    try:
        needed = [Plugin.from_json(one) for one in about.get("plugins", [])]
    except (Misfit, TypeError):
        raise UserError(f"{run}/run.json is broken where it names plugins; give another run.") from None
    require(needed, run)


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory."""
    return os.path.isfile(path / "run.json")


def of_launch(out: Path, launch: Sequence[str], expression: str, options: Mapping[str, Any]) -> Path | None:
    """The newest run of an expression and options that a launch of torchrun has begun, to go on with.

    One that has ended counts only after a restart, which begins at a script's first line.
    """
    found = sorted(filter(is_run, out.iterdir()), key=_begun, reverse=True) if launch and out.is_dir() else []
    for path in found:
        try:
            about = read_run(path)
        except UserError:  # none of this launch: it would have written it whole
            continue
        same = about["expression"] == expression and about["options"] == dict(options)
        ended = (path / "knn.json").exists() and not restart_count()
        if same and not ended and {*launch} & {*about.get("launch", [])}:
            return path
    return None


def _begun(path: Path) -> float:
    return (path / "run.json").stat().st_mtime


def listed(out: Path) -> list[dict[str, Any]]:
    """The runs below a folder, oldest first, with what came of them."""
    rows = []
    found = filter(is_run, out.iterdir() if os.path.isdir(out) else [])
    for path in sorted(found, key=lambda p: p.stat().st_mtime):
        about, log = read_run(path), read_log(path)
        keys = ("expression", "method", "data", "epochs", "started")
        row = {"run": str(path), **{key: about.get(key) for key in keys}, "done": len(log)}
        row |= {key: log[-1].get(key) if log else None for key in ("loss", "std", "rank")}
        rows.append({**row, "knn": _read_k20(path / "knn.json")})
    return rows


def _read_k20(path: Path) -> float | None:
    """kNN, k = 20, of a run that has ended; None before its end and without labels."""
    if not os.path.isfile(path):
        return None
    wrong = f"{path} is broken; remove it, and the run is listed as one that has not ended."
    scores = read_json(path, {"knn": dict | None}, wrong)["knn"]
    if scores is not None and not (fits(scores, {"k20": NUMBER}) and 0 <= scores["k20"] <= 1):  # nan fails too
        raise UserError(wrong)
    return scores and float(scores["k20"])


def read_log(path: Path) -> list[dict[str, float]]:
    """The numbers of a run's log, a row an epoch; empty where the run has gone. Raises `UserError`."""
    file = path / "log.csv"
    try:
        text = file.read_text(encoding="utf-8") if os.path.isfile(file) else ""
        table = list(csv.DictReader(text.splitlines(), restkey=""))
    except (OSError, UnicodeDecodeError, csv.Error):
        table = [{}]
    rows = [{key: float(value) for key, value in row.items() if key and _is_number(value)} for row in table]
    if not all("epoch" in row for row in rows):
        raise UserError(f"{file} is broken; remove {path}.")
    return rows


def _is_number(text: str | None) -> bool:
    try:
        return isfinite(float(text or ""))
    except ValueError:
        return False


def encoder(run: str | Path) -> nn.Module:
    """Return the trained online backbone of the directory ``run``, in eval mode. Raises `UserError`."""
    path = Path(run)
    about = read_run(path)
    require_plugins(path, about)
    model = build(about["backbone"], about["image_size"])
    load_weights(model, path / "encoder.safetensors")
    return model.eval()
