"""Run directories: their names, their files, written whole or not at all, and the encoder that one holds."""

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from .encoders import build
from .errors import UserError
from .files import write
from .launched import attempt
from .plan import Options

NUMBER = int | float
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON."""
    write(path, json.dumps(content, indent=2) + "\n")


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, a row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(path, text.getvalue())


def fits(content: object, kinds: Mapping[str, Any]) -> bool:
    """Whether a piece of JSON is an object that has these keys, each of its kind."""
    return isinstance(content, dict) and all(key in content and isinstance(content[key], kinds[key]) for key in kinds)


def read_json(path: Path, kinds: Mapping[str, Any], wrong: str) -> dict[str, Any]:
    """The object in a JSON file. Raises `UserError` with the sentence ``wrong`` where it does not fit the kinds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UserError(wrong) from None
    if not fits(content, kinds):
        raise UserError(wrong)
    return dict(content)


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
        ended = (path / "knn.json").exists() and not attempt()
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


def save_encoder(path: Path, encoder: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a backbone's weights as safetensors, with what is needed to use them as its metadata."""
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    write(path, save(weights, {key: json.dumps(value) for key, value in metadata.items()}))


def encoder(run: str | Path) -> nn.Module:
    """The trained online backbone of a run directory, in eval mode. Raises `UserError`."""
    path = Path(run)
    about = read_run(path)
    model = build(about["backbone"], about["image_size"])
    load_weights(model, path / "encoder.safetensors")
    return model.eval()


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a .safetensors or .pt file, or from a run directory. Raises `UserError`."""
    path = path / "encoder.safetensors" if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise UserError(f"There are no weights at {path}; give a run that has ended an epoch, or a file.")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = cast(dict[str, torch.Tensor], torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}); give a .safetensors or .pt file."
        ) from None
    except Exception as error:  # pickle.UnpicklingError and kin
        raise UserError(f"{path} is no plain state dict ({type(error).__name__}); save it with safetensors.") from None
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path} does not fit the backbone ({detail}); give the --backbone that it was trained with."
        ) from None
