"""Sources of features: run directories, untrained backbones, timm's models, raw pixels and files of features."""

import io
import os.path
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from . import data, runs
from .algebra import parse
from .embed import features
from .encoders import build, pretrained
from .errors import UserError
from .knn import KS, RECALL_AT, TEMPERATURE, knn, protocol
from .plan import Options, backbone_for, check_numbers, find_device, recipe_for

ARRAYS = ("train_features", "train_labels", "test_features", "test_labels")


@dataclass(frozen=True)
class Embedding:
    """Features and labels of both splits, by MedMNIST-like names; ``data`` says of what."""

    source: str
    data: str
    arrays: dict[str, npt.NDArray[Any]]


def benchmark(
    sources: Sequence[str],
    data_name: str | None = None,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    device: str = "auto",
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """What ``sslzoo knn --json`` prints: kNN and recall of every source on one data set."""
    if not sources:
        raise UserError("Name at least one source: a run directory, random, raw, timm:NAME or features.npz.")
    if any(k < 1 for k in ks) or not temperature > 0:
        raise UserError("-k has to be at least 1 and --temperature above 0.")
    rows: list[dict[str, Any]] = []
    name = shared_data(sources, data_name)
    embeddings = [embed(source, name, device, seed, **options) for source in sources]
    for started, embedding in embeddings:
        found = embedding.arrays
        bank, bank_labels, queries, query_labels = (found[key] for key in ARRAYS)
        scores = knn(bank, bank_labels, queries, query_labels, ks, temperature, RECALL_AT)
        dimension = found["train_features"].shape[1]
        rows.append({"source": embedding.source, "dimension": dimension, **scores, "seconds": time.time() - started})
    about = sorted({embedding.data for _, embedding in embeddings})
    return {"data": ", ".join(about), "protocol": protocol(ks, temperature), "rows": rows}


def shared_data(sources: Sequence[str], given: str | None) -> str:
    """The data to use: the given one, else the runs' own where they agree, else digits."""
    if given is not None:
        return given
    own = {runs.read_run(Path(s))["options"]["data"] for s in sources if runs.is_run(Path(s))}
    if len(own) > 1:
        raise UserError(
            f"These runs were trained on different data ({', '.join(sorted(own))}); choose one with --data."
        )
    return str(own.pop()) if own else "digits"


def embed(
    source: str,
    data_name: str,
    device: str = "auto",
    seed: int = 0,
    image_size: int | None = None,
    limit: int | None = None,
    workers: int = 2,
    labelled: bool = True,
) -> tuple[float, Embedding]:
    """The features of a source, and when their making began. Raises `UserError`."""
    started = time.time()
    check_numbers(image_size=image_size, seed=seed, workers=workers)
    path = Path(os.path.expanduser(source))
    if path.suffix == ".npz":
        return started, read_features(path)
    where = find_device(device)
    encoder: nn.Module | None = None
    label, mean, std = source, None, None
    if runs.is_run(path):
        about = runs.read_run(path)
        encoder, label = runs.encoder(path), str(path)
        image_size = about["image_size"] if image_size is None else image_size
        mean, std = tuple(about["mean"]), tuple(about["std"])
    elif os.path.isdir(path):
        raise UserError(f"{path} is no run directory: it has no run.json; 'sslzoo runs' lists them.")
    elif source.startswith("timm:"):
        encoder, size, mean, std = pretrained(source.removeprefix("timm:"))
        image_size = size if image_size is None else image_size
    dataset = data.load(data_name, image_size, limit)
    if labelled and not dataset.labelled:
        raise UserError(f"{data_name} has no labels for kNN; give data with labels, one per image.")
    if encoder is None and source != "raw":
        torch.manual_seed(seed)
        if source == "random":
            backbone = backbone_for(dataset, where)
        else:
            recipe = recipe_for(parse(source), Options(), dataset.name, dataset.size, len(dataset.train), where)
            backbone, label = recipe.training.backbone, f"{recipe.expression} (untrained)"
        encoder = build(backbone, dataset.size)
    if encoder is not None:
        encoder.to(where)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, part in (("train", dataset.bank), ("test", dataset.test)):
        if part is not None:
            found = features(encoder, part, dataset.size, mean or dataset.mean, std or dataset.std, where, workers)
            arrays[f"{split}_features"] = found
            if part.labels is not None:
                arrays[f"{split}_labels"] = part.labels.numpy()
    return started, Embedding(label, dataset.name, arrays)


def read_features(path: Path) -> Embedding:
    """Features that ``sslzoo embed`` wrote, or anybody. Raises `UserError`."""
    arrays = data.read_npz(path, f"'sslzoo embed SOURCE --out {path}' writes one")
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; it has to hold {', '.join(ARRAYS)}.")
    return Embedding(str(path), path.stem, arrays)


def check_out(path: Path) -> None:
    """Raise `UserError` for a place where no .npz can be written."""
    if path.suffix != ".npz":
        raise UserError(f"--out {path} has to end in .npz.")
    if not os.path.isdir(path.parent):
        raise UserError(f"There is no folder {path.parent}; make it first or give --out another place.")


def write_features(path: Path, embedding: Embedding) -> None:
    """Write features as an .npz that ``sslzoo knn`` reads. Raises `UserError`."""
    check_out(path)
    buffer = io.BytesIO()
    np.savez(buffer, **embedding.arrays)  # type: ignore[arg-type]
    runs.write(path, buffer.getvalue())
