"""Sources of features: runs, untrained and pretrained backbones, weights in a file, raw pixels, files of features."""

import os.path
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core import encoders
from ..core.siamese import Siamese
from ..data import sets
from ..data.splits import Dataset, Split
from ..exchange import pretrained, weights
from ..processes.launched import readers
from ..recipes.algebra import parse
from ..recipes.layers import Circumstances, backbone_for, resolve_here
from ..tools import files
from ..tools.bounds import check_numbers
from ..tools.errors import UserError, within
from ..training import checkpoints, runs
from ..training.device import find_device
from ..training.guards import enough_memory
from ..training.plan import circumstances
from ..views.features import BATCH, Preprocessing, features
from . import store

ARRAYS = ("train_features", "train_labels", "test_features", "test_labels")
LAYERS, NETWORKS = ("encoder", "projector"), ("online", "target")


@dataclass(frozen=True)
class Embedding:
    """Features and labels of splits, by MedMNIST-like names; of what images, and what a run's seed is apart from."""

    source: str
    data: str
    arrays: dict[str, npt.NDArray[Any]]
    images: Dataset | None = None
    seed: int | None = None
    group: str | None = None  # the run's name but for its seed
    device: str = "cpu"  # where its neighbours are searched

    @property
    def features(self) -> npt.NDArray[Any]:
        """Those of the first split [N, D]."""
        return next(array for name, array in self.arrays.items() if name.endswith("features"))


@dataclass(frozen=True)
class Look:
    """How sources are looked at. Raises `UserError` where that cannot be."""

    data: str
    device: str = "auto"
    seed: int = 0
    image_size: int | None = None
    limit: int | None = None
    workers: int | None = None
    backbone: str | None = None
    layer: str = "encoder"
    network: str = "online"
    cached: bool = True
    progress: Callable[[str, int, int], None] | None = None  # a source, the images done and all of them

    def __post_init__(self) -> None:
        check_numbers(image_size=self.image_size, limit=self.limit, workers=self.workers, seed=self.seed)
        if self.layer not in LAYERS or self.network not in NETWORKS:
            raise UserError(f"--layer is {' or '.join(LAYERS)}, and --network {' or '.join(NETWORKS)}.")

    @property
    def usual(self) -> bool:
        """Whether nothing but the online encoder is asked for."""
        return (self.layer, self.network) == (LAYERS[0], NETWORKS[0])


@dataclass(frozen=True)
class Source:
    """A network, or None for raw pixels, with the image size and normalisation that it was made for."""

    label: str
    net: nn.Module | None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int | None = None
    group: str | None = None


def shared_data(sources: Sequence[str], given: str | None) -> str:
    """The data to use: the given one, else the runs' own where they agree, else digits."""
    if given is not None:
        return given
    paths = [Path(os.path.expanduser(source)) for source in sources]
    own = {runs.read_run(path).options.data for path in paths if runs.is_run(path)}
    if len(own) > 1:
        raise UserError(
            f"These runs were trained on different data ({', '.join(sorted(own))}); choose one with --data."
        )
    return str(own.pop()) if own else "digits"


def holds_features(path: Path) -> bool:
    """Whether a source is features in files, and no network."""
    return path.suffix == ".npz" or any(os.path.isfile(path / f"{first}.npy") for first in (ARRAYS[0], "features"))


def embed(name: str, look: Look) -> Embedding:
    """The features of a source. Raises `UserError`."""
    path = Path(os.path.expanduser(name))
    if holds_features(path):
        if look.backbone or not look.usual:
            raise UserError(f"{name} holds features and no network; leave --backbone, --layer and --network out.")
        return replace(read_features(path), device=str(find_device(look.device)))
    source, dataset, device = opened(name, look)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, part in (("train", dataset.bank), ("test", dataset.test)):
        if part is not None:
            arrays[f"{split}_features"] = rows_of(source, dataset, part, look, device)
            if part.labels is not None:
                arrays[f"{split}_labels"] = cast(Tensor, part.readable().labels).numpy()
    test = dataset.test and dataset.test.readable()
    dataset = replace(dataset, bank=dataset.bank.readable(), test=test)  # a row for each
    return Embedding(source.label, dataset.name, arrays, dataset, source.seed, source.group, str(device))


def opened(name: str, look: Look) -> tuple[Source, Dataset, torch.device]:
    """A source's network, the data at the size that it takes, and the device. Raises `UserError`."""
    device = find_device(look.device)
    source = _made(name, Path(os.path.expanduser(name)), look)
    dataset = sets.load(look.data, look.image_size or source.size, look.limit)
    if source.net is not None:
        encoders.check_size(source.net, name, dataset.size)
    if source.net is None and name != "raw":
        source = _untrained(name, dataset, look, device)
    return source, dataset, device


def rows_of(source: Source, dataset: Dataset, part: Split, look: Look, device: torch.device) -> store.Floats:
    """The features of ``part.readable()``, as it is afterwards; a network's are kept on disk."""
    how = Preprocessing(dataset.size, source.mean or dataset.mean, source.std or dataset.std)
    net = source.net.to(device) if source.net is not None else None

    def make() -> store.Floats:
        told = look.progress
        done = None if told is None else lambda n: told(source.label, n, len(part))
        readers_of_files = readers() if look.workers is None else look.workers
        with enough_memory(f"{BATCH} images of {dataset.size} px", "take a smaller --image-size, or --device cpu"):
            return features(net, part, how, device, readers_of_files, done)

    if net is None or not look.cached:
        return make()
    transform = {**asdict(how), "device": device.type, "net": str(net)}
    return store.kept(store.key(net, part, transform), part, make)


def _made(name: str, path: Path, look: Look) -> Source:
    """A source whose network is there before the data is; for others a source without one."""
    if runs.is_run(path):
        return _run(path, look)
    if os.path.isdir(path):
        raise UserError(
            f"{path} is no run directory, it has no run.json, and no folder of features either, it has no "
            "train_features.npy; 'sslzoo runs' lists runs."
        )
    if not look.usual:
        raise UserError(f"{name} is no run, so it has no {look.network} {look.layer}; leave --layer and --network out.")
    if name.startswith("timm:"):
        return Source(name, *pretrained.pretrained(name.removeprefix("timm:")))
    if name.startswith("torchvision:"):
        return Source(name, *pretrained.of_torchvision(name.removeprefix("torchvision:")))
    if path.suffix in (".safetensors", ".pt", ".pth"):
        if look.backbone is None:
            raise UserError(f"{name} holds weights alone; say with --backbone of which of timm's models.")
        net = encoders.build(look.backbone, look.image_size or 32)
        weights.load_weights(net, path)
        return Source(f"{name} ({look.backbone})", net)
    return Source(name, None)


def _run(path: Path, look: Look) -> Source:
    """A run's online backbone, or what else of its networks is asked for."""
    about = runs.read_run(path)
    with within(str(path)):
        check_numbers(image_size=about.image_size)
    if not (_is_colour(about.mean) and _is_colour(about.std)) or min(about.std) <= 0:
        raise UserError(f"{path} has no mean and std in its run.json that are three numbers; train it anew.")
    label, net = str(path), runs.encoder(path)
    if not look.usual:
        device = torch.device("cuda" if "cuda" in about.device else "cpu")  # it chose some knobs
        here = Circumstances(about.data, about.image_size, about.images, device.type)
        recipe = resolve_here(parse([str(path / "recipe.toml")]), here, about.options.flags)
        model = Siamese(net, recipe, about.images)
        state = checkpoints.read(path)
        try:
            model.load_state_dict(state.model)
        except (RuntimeError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}/last.pt belongs to another recipe; give another run.") from None
        if look.network == "target" and recipe.switches.target == "shared":
            raise UserError(f"{path} has no target network of its own; leave --network out.")
        chosen = model.target if look.network == "target" else model.online
        net = chosen if look.layer == "projector" else chosen.encoder
        label = f"{path} ({look.network} {look.layer})"
    options = {key: value for key, value in about.options.to_json().items() if key not in ("seed", "out")}
    words = (f"{key}={value}" for key, value in sorted(options.items()))
    group = " ".join([about.expression, about.data, look.network, look.layer, *words])
    mean, std = tuple(about.mean), tuple(about.std)
    return Source(label, net.eval(), about.image_size, mean, std, about.options.seed, group)


def _is_colour(found: Sequence[Any]) -> bool:
    """Whether a list is three finite numbers."""
    return len(found) == 3 and all(type(x) in (int, float) and isfinite(x) for x in found)


def _untrained(name: str, dataset: Dataset, look: Look, device: torch.device) -> Source:
    """A fresh backbone: the default one, or that of an expression."""
    torch.manual_seed(look.seed)
    if name == "random":
        return Source(name, encoders.build(look.backbone or backbone_for(circumstances(dataset, device)), dataset.size))
    recipe = resolve_here(parse(name), circumstances(dataset, device))
    net = encoders.build(look.backbone or recipe.training.backbone, dataset.size)
    return Source(f"{recipe.expression} (untrained)", net)


# ---- files of features -----------------------------------------------------------------------------------------------


def read_features(path: Path) -> Embedding:
    """Features that ``sslzoo embed`` wrote, or anybody: an .npz, or a folder of .npy files that are memory-mapped.

    With ``features`` and ``labels`` alone, the set is its own bank. Raises `UserError`.
    """
    if path.suffix == ".npz":
        arrays = sets.read_npz(path, f"'sslzoo embed SOURCE --out {path}' writes one")
    else:
        found = sorted(path.glob("*.npy"))
        arrays = {file.stem: sets.read_npy(file) for file in found if file.stem in (*ARRAYS, "features", "labels")}
    if "features" in arrays and "train_features" not in arrays:
        arrays = {f"train_{key}": array for key, array in arrays.items() if key in ("features", "labels")}
    if "train_features" not in arrays:
        raise UserError(f"{path} lacks {ARRAYS[0]}; it has to hold {', '.join(ARRAYS)}.")
    for split in ("train", "test"):
        rows, labels = arrays.get(f"{split}_features"), arrays.get(f"{split}_labels")
        if rows is not None and (np.ndim(rows) != 2 or 0 in rows.shape or rows.dtype.kind not in "fiub"):
            raise UserError(
                f"{path} has {split}_features of shape {list(np.shape(rows))} and kind {rows.dtype}; they have to be "
                "numbers [rows, columns], neither empty."
            )
        if labels is not None and np.ndim(labels) not in (1, 2):
            raise UserError(f"{path} has {split}_labels of shape {list(np.shape(labels))}; they have to be [rows].")
        if rows is not None and labels is not None and len(rows) != len(labels):
            raise UserError(f"{path} has {len(rows)} {split}_features and {len(labels)} {split}_labels; one per row.")
    return Embedding(str(path), path.stem, arrays)


def write_features(path: Path, embedding: Embedding) -> None:
    """Write features as an .npz that ``sslzoo knn`` reads. Raises `UserError`."""
    files.check_out(path, ".npz")
    files.write(path, lambda file: np.savez(file, **embedding.arrays))  # type: ignore[arg-type]
