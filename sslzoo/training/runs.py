"""Run directories: what one holds, written whole or not at all and read strictly, and the encoder of one."""

import csv
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any

from torch import nn

from ..core.backbones import backbone_of, build
from ..data.contents.identity import Identity
from ..exchange import opening, weights
from ..processes import collectives
from ..processes.launched import restart_count
from ..recipes.plugins import Plugin, loaded, require
from ..recipes.recipe import dump
from ..tools import files
from ..tools.errors import UserError
from ..tools.records import Misfit, Record, write_json
from ..views.given import name_of
from . import checkpoints
from .listeners.reporter import LogRow
from .machine import device_name, restored_generators, versions
from .options import Extension, Options
from .plan import Plan

INITIAL = "initial.safetensors"  # the weights that a run began with, where they were not drawn


@dataclass(frozen=True, kw_only=True)
class RunAbout(Record):
    """Describes a run as its run.json does: what was asked for, what is trained, and on which machine it began.

    ``image_size`` is in pixels, ``mean`` and ``std`` are the channels'; `evaluation.sources` has the sentence for
    others. ``launch`` has the names of torchrun's launch, ``resident`` says whether the images are in memory,
    ``decisions`` has what was decided about the data, and ``identity`` tells these from others. ``augment`` is what
    makes the views, where a person gave it in Python; ``extended`` is how the run went on beyond its ``epochs``.
    """

    expression: str
    method: str | None
    data: str
    images: int
    image_size: int
    mean: Sequence[Any]
    std: Sequence[Any]
    epochs: int
    batch_size: int
    backbone: str
    options: Options
    command: Sequence[str] = ()
    device: str = ""
    processes: int = 1
    launch: Sequence[str] = ()
    precision: str | None = None
    tf32: bool | None = None
    resident: bool | None = None
    decisions: Sequence[str] = ()
    identity: Identity | None = None
    plugins: Sequence[Plugin] = ()
    versions: Mapping[str, str] | None = None
    started: str | None = None
    augment: str | None = field(default=None, metadata={"optional": True})
    extended: Sequence[Extension] | None = field(default=None, metadata={"optional": True})

    @property
    def all_epochs(self) -> int:
        """The epochs in all, beyond the recipe's where the run was extended."""
        return self.extended[-1].epochs if self.extended else self.epochs

    @classmethod
    def of(cls, plan: Plan, launch: Sequence[str]) -> "RunAbout":
        """Return what is to be said of a run that begins now."""
        data, recipe = plan.data, plan.recipe
        return cls(
            expression=recipe.expression, method=recipe.method, data=data.name, images=len(data.train),
            image_size=data.size, mean=data.mean, std=data.std, epochs=recipe.training.epochs,
            batch_size=recipe.training.batch_size, backbone=backbone_of(recipe),
            options=plan.options.resolved() if data.own else plan.options, command=sys.argv,
            device=device_name(plan.device), processes=collectives.world(), launch=launch, precision=plan.precision,
            tf32=plan.device.type == "cuda" and plan.precision != "float32",
            resident=plan.resident, decisions=data.notes, identity=Identity.of(data), plugins=loaded(),
            versions=versions(), started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            augment=None if plan.augment is None else name_of(plan.augment),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunRow(Record):
    """Describes a run in the list of runs: ``done`` of ``epochs`` are trained; None for what is not known yet."""

    run: str
    expression: str
    method: str | None
    data: str
    epochs: int
    started: str | None
    done: int
    loss: float | None
    std: float | None
    rank: float | None
    knn: float | None


@dataclass(frozen=True)
class _Ended(Record):
    """Describes what the list of runs reads of knn.json."""

    knn: Mapping[str, float] | None


# ---- writing


def slug(expression: str) -> str:
    """Return an expression as a part of a file's name."""
    words = re.sub(r"\s*([+-])\s*", r"\1", expression.replace(" - ", " -no-").replace(" + ", "+"))
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "-", words).strip("-.")[:80]


def create(out: Path, expression: str, data: str, seed: int) -> Path:
    """Make a new directory ``<expression>-<data>-s<seed>-<n>`` below ``out``. Raises `UserError` where none can be."""
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


def begin(plan: Plan, checkpoint: checkpoints.Checkpoint, launch: Sequence[str]) -> Path:
    """Make a run's directory with what is known before the first step; run.json, which makes it a run, comes last.

    Raises `UserError`, and leaves nothing, where it cannot be written.
    """
    path = create(Path(plan.options.out), plan.recipe.expression, plan.data.name, plan.options.seed)
    try:
        files.write(path / "recipe.toml", dump(plan.recipe, title=plan.recipe.expression))
        checkpoints.write(path, checkpoint)
        if plan.initial is not None:
            used = plan.initial.transform
            about = {"backbone": plan.initial.backbone, "image_size": used.size, "mean": used.mean, "std": used.std}
            weights.save_state(path / INITIAL, plan.initial.state, about)
        write_json(path / "run.json", RunAbout.of(plan, launch))
    except UserError:
        shutil.rmtree(path)
        raise
    return path


def save(path: Path, plan: Plan, checkpoint: checkpoints.Checkpoint, encoder: nn.Module) -> None:
    """Write a checkpoint, the encoder, and which images could not be read. Raises `UserError`."""
    plan.data.unreadable.save(path)
    checkpoints.write(path, checkpoint, plan.options.keep)
    about = {"backbone": backbone_of(plan.recipe), "image_size": plan.data.size}
    about |= {"mean": plan.data.mean, "std": plan.data.std, "expression": plan.recipe.expression}
    weights.save_encoder(path / "encoder.safetensors", encoder, about)


def write_log(path: Path, log: Sequence[LogRow]) -> None:
    """Write the log as a table, a row an epoch. Raises `UserError`."""
    text, rows = io.StringIO(), [row.to_json() for row in log]
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(path, text.getvalue())


# ---- reading


def read_run(run: Path) -> RunAbout:
    """Return what the run.json of a run directory says. Raises `UserError`."""
    if not os.path.isdir(run):
        raise UserError(f"There is no run {run}; 'sslzoo runs' lists them.")
    wrong = (
        f"{run} is no run directory: its run.json is missing, broken or of another version of sslzoo; give another one."
    )
    return RunAbout.read(run / "run.json", wrong)


def named(run: str | Path) -> Path:
    """Return the path of a run that a person names. Raises `UserError` for what is no name."""
    if not isinstance(run, str | os.PathLike):
        raise UserError(f"A run cannot be {run!r:.80}; give the path of its directory.")
    return Path(run)


def is_run(path: Path) -> bool:
    """Return whether a folder is a run directory."""
    return os.path.isfile(path / "run.json")


def of_launch(out: Path, launch: Sequence[str], expression: str, options: Options) -> Path | None:
    """Return the newest run of an expression and options that a launch of torchrun has begun, to go on with.

    One that has ended counts only after a restart, which begins at a script's first line.
    """
    found = sorted(filter(is_run, out.iterdir()), key=_begun, reverse=True) if launch and out.is_dir() else []
    for path in found:
        try:
            about = read_run(path)
        except UserError:  # none of this launch: it would have written it whole
            continue
        same = about.expression == expression and about.options == options
        ended = (path / "knn.json").exists() and not restart_count()
        if same and not ended and {*launch} & {*about.launch}:
            return path
    return None


def _begun(path: Path) -> float:
    return (path / "run.json").stat().st_mtime


def listed(out: Path) -> list[RunRow]:
    """Return the runs below a folder, oldest first, with what came of them. Raises `UserError` for a broken one."""
    found = filter(is_run, out.iterdir() if os.path.isdir(out) else [])
    return [_row(path) for path in sorted(found, key=lambda p: p.stat().st_mtime)]


def _row(path: Path) -> RunRow:
    about, log = read_run(path), read_log(path)
    last = log[-1] if log else None
    loss, std, rank = (last.loss, last.std, last.rank) if last else (nan, nan, nan)
    return RunRow(
        run=str(path), expression=about.expression, method=about.method, data=about.data,
        epochs=about.all_epochs, started=about.started, done=len(log), loss=_finite(loss), std=_finite(std),
        rank=_finite(rank), knn=_read_k20(path / "knn.json"),
    )  # fmt: skip


def _finite(x: float) -> float | None:
    return x if isfinite(x) else None


def _read_k20(path: Path) -> float | None:
    """Return kNN, k = 20, of a run that has ended; None before its end and without labels."""
    if not os.path.isfile(path):
        return None
    wrong = f"{path} is broken; move it away, and the run is listed as one that has not ended."
    scores = _Ended.read(path, wrong).knn
    if scores is not None and not 0 <= scores.get("k20", -1) <= 1:  # nan fails too
        raise UserError(wrong)
    return None if scores is None else scores["k20"]


def read_log(path: Path) -> list[LogRow]:
    """Return the rows of a run's log, one an epoch; none where the run has gone. Raises `UserError`."""
    file = path / "log.csv"
    try:
        text = file.read_text(encoding="utf-8") if os.path.isfile(file) else ""
        table = csv.DictReader(text.splitlines(), restkey="")
        return [LogRow.from_json({key: _number(cell) for key, cell in row.items() if key}) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error, Misfit):
        raise UserError(f"{file} is broken; move it away, and the run is listed without its epochs.") from None


def _number(cell: str | None) -> int | float | str | None:
    """Return what a cell of a log says: a number, or None where it is empty; another text as it is."""
    for kind in (int, float):
        try:
            return kind(cell) if cell else None
        except ValueError:
            continue
    return cell


def encoder(run: str | Path) -> nn.Module:
    """Return the trained online backbone of the directory ``run``, in eval mode. Raises `UserError`."""
    path = named(run)
    about = read_run(path)
    require(about.plugins, path)
    with restored_generators():  # which a fresh backbone draws from
        model = build(about.backbone, about.image_size, channels=len(about.mean))
    file = path / "encoder.safetensors"
    try:
        opening.load_weights(model, file)
    except UserError as error:
        again = f"'sslzoo train --resume {path}' writes it anew" if (path / checkpoints.name(0)).is_file() else ""
        raise UserError(f"{str(error).partition(';')[0].rstrip('.')}; {again or 'train it anew'}.") from None
    return model.eval()
