"""Run directories: their names, their files, written whole or not at all, and the encoder that one holds."""

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from .encoders import build
from .errors import UserError

FORMAT = 2  # of last.pt


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


def write(path: Path, content: bytes | str) -> None:
    """Write a file whole: to a temporary name, flushed to the disk, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}); make room or give --out another folder."
        ) from None


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


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint that `read_checkpoint` takes."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write(path, buffer.getvalue())


def read_checkpoint(run: Path) -> dict[str, Any]:
    """The checkpoint of a run, plain tensors and numbers only. Raises `UserError` for a missing or foreign one."""
    path = run / "last.pt"
    if not path.is_file():
        raise UserError(f"{run} holds no last.pt, so there is nothing to go on from; give a run directory of sslzoo.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise UserError(f"{path} is no checkpoint of sslzoo ({type(error).__name__}); start the run anew.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of this version of sslzoo; start the run anew.")
    return content


def read_run(run: Path) -> dict[str, Any]:
    """run.json of a run directory. Raises `UserError`."""
    if not run.is_dir():
        raise UserError(f"There is no run {run}; 'sslzoo runs' lists them.")
    try:
        content = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return dict(content)
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"{run} is no run directory: its run.json is missing or broken; 'sslzoo runs' lists them."
        ) from None


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory."""
    return (path / "run.json").is_file()


def listed(out: Path) -> list[dict[str, Any]]:
    """The runs below a folder, oldest first, with what came of them."""
    rows = []
    for path in sorted(out.iterdir() if out.is_dir() else [], key=lambda p: p.stat().st_mtime):
        if is_run(path):
            about = read_run(path)
            log = read_log(path)
            result = json.loads((path / "knn.json").read_text()) if (path / "knn.json").is_file() else {}
            keys = ("expression", "method", "data", "epochs", "started")
            row = {"run": str(path), **{key: about.get(key) for key in keys}, "done": len(log)}
            row |= {key: log[-1].get(key) if log else None for key in ("loss", "std", "rank")}
            rows.append({**row, "knn": (result.get("knn") or {}).get("k20")})
    return rows


def read_log(path: Path) -> list[dict[str, float]]:
    """The numbers of a run's log, a row an epoch; empty where the run has gone."""
    file = path / "log.csv"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [
        {key: float(value) for key, value in row.items() if _is_number(value)}
        for row in csv.DictReader(text.splitlines())
    ]


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
    path = path / "encoder.safetensors" if path.is_dir() else path
    if not path.is_file():
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
