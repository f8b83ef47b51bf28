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
from ..data.depth import Range
from ..data.splits import Dataset, Split
from ..exchange import pretrained, weights
from ..processes.launched import readers
from ..recipes.algebra import parse
from ..recipes.layers import Circumstances, backbone_for, resolve_here
from ..tools import files
from ..tools.bounds import check_numbers
from ..tools.errors import UserError, within
from ..training import checkpoints, runs
from ..training.guards import enough_memory
from ..training.machine import evaluation_autocast, find_device
from ..training.plan import Options, circumstances
from ..views.features import BATCH, Preprocessing, features, raw_size
from . import store

ARRAYS = ("train_features", "train_labels", "test_features", "test_labels")
LAYERS, NETWORKS = ("encoder", "projector"), ("online", "target")


@dataclass(frozen=True)
class Embedding:
    """Holds features [N, D] and labels of splits, by MedMNIST-like names: train_features, test_labels, ...

    ``data`` names the data set, and ``images`` are its images where they are known, one for each row. Of a run there
    are its ``seed`` and its ``group``, which runs share that differ by their seed alone. Neighbours are searched on
    ``device``.
    """

    source: str
    data: str
    arrays: dict[str, npt.NDArray[Any]]
    images: Dataset | None = None
    seed: int | None = None
    group: str | None = None
    device: str = "cpu"

    @property
    def features(self) -> npt.NDArray[Any]:
        """Return the features of the first split [N, D]."""
        return next(array for name, array in self.arrays.items() if name.endswith("features"))


@dataclass(frozen=True)
class EmbedOptions:
    """Says how sources are embedded. Raises `UserError` for what cannot be.

    ``data`` is the data set, by default that of the runs, else digits; ``image_size`` its images' size in px, and
    ``limit`` the number of training images. ``seed`` is that of untrained backbones, and ``workers`` the number of
    processes that read files, by default the cores less one. ``backbone`` is that of weights in a file, or of "random".
    ``layer`` and ``network`` are of a run: "encoder" or "projector", "online" or "target". With ``cached`` features are
    kept on disk and used again. ``range`` are the values that are black and white in images of more than 8 bits, as in
    "0,4095", by default the run's. ``progress`` is called with a source, the number of its images that are done, and
    the number of all.
    """

    data: str | None = None
    device: str = "auto"
    seed: int = 0
    image_size: int | None = None
    limit: int | None = None
    workers: int | None = None
    backbone: str | None = None
    layer: str = "encoder"
    network: str = "online"
    cached: bool = True
    range: str | None = None
    progress: Callable[[str, int, int], None] | None = None

    def __post_init__(self) -> None:
        check_numbers(image_size=self.image_size, limit=self.limit, workers=self.workers, seed=self.seed)
        Range.parse(self.range)
        if self.layer not in LAYERS or self.network not in NETWORKS:
            raise UserError(f"--layer is {' or '.join(LAYERS)}, and --network {' or '.join(NETWORKS)}.")

    @property
    def usual(self) -> bool:
        """Return whether features are those of the online encoder, as of any source."""
        return (self.layer, self.network) == (LAYERS[0], NETWORKS[0])


@dataclass(frozen=True)
class Source:
    """Holds a network, or None for raw pixels, with the image size, normalisation and precision that it was made for.

    ``range`` is its run's. The precision is that of a GPU; others compute in float32.
    """

    label: str
    net: nn.Module | None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int | None = None
    group: str | None = None
    precision: str = "float32"
    range: str | None = None


def shared_data(sources: Sequence[str], given: str | None) -> str:
    """Return the data to use: the given one, else the runs' own where they agree, else digits. Raises `UserError`."""
    if given is not None:
        return given
    trained_on = {options.data for options in _options_of_runs(sources)}
    if len(trained_on) > 1:
        raise UserError(
            f"These runs were trained on different data ({', '.join(sorted(trained_on))}); choose one with --data."
        )
    return str(trained_on.pop()) if trained_on else "digits"


def shared_range(sources: Sequence[str], given: str | None) -> str | None:
    """Return the range to use for all: the given one, else the runs' own where they agree. Raises `UserError`."""
    trained_with = {options.range for options in _options_of_runs(sources)}
    return trained_with.pop() if given is None and len(trained_with) == 1 else given


def _options_of_runs(sources: Sequence[str]) -> list[Options]:
    return [runs.read_run(p).options for p in map(Path, map(os.path.expanduser, sources)) if runs.is_run(p)]


def holds_features(path: Path) -> bool:
    """Return whether a source is features in files, and no network."""
    return path.suffix == ".npz" or any(os.path.isfile(path / f"{name}.npy") for name in (ARRAYS[0], "features"))


def embed(name: str, options: EmbedOptions) -> Embedding:
    """Return the features of a source. Raises `UserError`."""
    path = Path(os.path.expanduser(name))
    if holds_features(path):
        if options.backbone or not options.usual:
            raise UserError(f"{name} holds features and no network; leave --backbone, --layer and --network out.")
        return replace(read_features(path), device=str(find_device(options.device)))
    source, dataset, device = open_source(name, options)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for split, part in (("train", dataset.bank), ("test", dataset.test)):
        if part is not None:
            arrays[f"{split}_features"] = features_of(source, dataset, part, options, device)
            if part.labels is not None:
                arrays[f"{split}_labels"] = cast(Tensor, part.readable().labels).numpy()
    test = dataset.test and dataset.test.readable()
    dataset = replace(dataset, bank=dataset.bank.readable(), test=test)  # a row for each
    return Embedding(source.label, dataset.name, arrays, dataset, source.seed, source.group, str(device))


def open_source(name: str, options: EmbedOptions) -> tuple[Source, Dataset, torch.device]:
    """Return a source's network, the data at the size that it takes, and the device. Raises `UserError`."""
    device = find_device(options.device)
    source = _given(name, Path(os.path.expanduser(name)), options)
    data, size = shared_data([name], options.data), options.image_size or source.size
    dataset = sets.load(data, size, options.limit, range=options.range or source.range)
    if source.net is not None:
        encoders.check_size(source.net, name, dataset.size)
    if source.net is None and name != "raw":
        source = _untrained(name, dataset, options, device)
    elif source.net is None and (small := raw_size(dataset.scored, dataset.size)) < dataset.size:
        source = replace(source, label=f"raw at {small} px")  # more takes too much memory
    return source, dataset, device


def features_of(
    source: Source, dataset: Dataset, part: Split, options: EmbedOptions, device: torch.device
) -> store.Floats:
    """Return the features of ``part.readable()``, as it is afterwards; a network's are kept on disk."""
    size = dataset.size if source.net is not None else raw_size(dataset.scored, dataset.size)
    how = Preprocessing(size, source.mean or dataset.mean, source.std or dataset.std)
    net = source.net.to(device) if source.net is not None else None

    def make() -> store.Floats:
        progress = options.progress
        done = None if progress is None else lambda n: progress(source.label, n, len(part))
        workers = readers() if options.workers is None else options.workers
        with enough_memory(f"{BATCH} images of {dataset.size} px", "take a smaller --image-size, or --device cpu"):
            return features(net, part, how, device, workers, done, evaluation_autocast(device, source.precision))

    if net is None or not options.cached:
        return make()
    transform = {**asdict(how), "device": device.type, "net": str(net)}
    transform |= {"precision": source.precision} if device.type == "cuda" else {}
    return store.cached(store.key(net, part, transform), part, make)


def _given(name: str, path: Path, options: EmbedOptions) -> Source:
    """Return a source whose network is known without the data; for others a source without one."""
    if runs.is_run(path):
        return _run(path, options)
    if os.path.isdir(path):
        raise UserError(
            f"{path} is no run directory, it has no run.json, and no folder of features either, it has no "
            "train_features.npy; 'sslzoo runs' lists runs."
        )
    if not options.usual:
        raise UserError(
            f"{name} is no run, so it has no {options.network} {options.layer}; leave --layer and --network out."
        )
    if name.startswith("timm:"):
        return Source(name, *pretrained.pretrained(name.removeprefix("timm:")))
    if name.startswith("torchvision:"):
        return Source(name, *pretrained.of_torchvision(name.removeprefix("torchvision:")))
    if path.suffix in (".safetensors", ".pt", ".pth"):
        if options.backbone is None:
            raise UserError(f"{name} holds weights alone; say with --backbone of which of timm's models.")
        net = encoders.build(options.backbone, options.image_size or 32)
        weights.load_weights(net, path)
        return Source(f"{name} ({options.backbone})", net)
    if os.path.isfile(path) and path.suffix != ".toml":
        raise UserError(
            f"{name} is no source: features come in an .npz or a folder of .npy files, weights in a .safetensors, .pt "
            "or .pth file."
        )
    if os.sep in name and not path.exists() and path.suffix != ".toml":
        raise UserError(f"There is no run {name}; 'sslzoo runs' lists those of a folder.")
    return Source(name, None)


def _run(path: Path, options: EmbedOptions) -> Source:
    """Return a run's online backbone, or the layer and network of it that the options name."""
    about = runs.read_run(path)
    with within(str(path)):
        check_numbers(image_size=about.image_size)
    if not (_is_colour(about.mean) and _is_colour(about.std)) or min(about.std) <= 0:
        raise UserError(f"{path} has no mean and std in its run.json that are three numbers; train it anew.")
    label, net = str(path), runs.encoder(path)
    if not options.usual:
        device = torch.device("cuda" if "cuda" in about.device else "cpu")  # it chose some knobs
        here = Circumstances(about.data, about.image_size, about.images, device.type)
        recipe = resolve_here(parse([str(path / "recipe.toml")]), here, about.options.flags)
        model = Siamese(net, recipe, about.images)
        state = checkpoints.read(path)
        try:
            model.load_state_dict(state.model)
        except (RuntimeError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}/last.pt belongs to another recipe; give another run.") from None
        if options.network == "target" and recipe.switches.target == "shared":
            raise UserError(f"{path} has no target network of its own; leave --network out.")
        chosen = model.target if options.network == "target" else model.online
        net = chosen if options.layer == "projector" else chosen.encoder
        label = f"{path} ({options.network} {options.layer})"
    trained_with = {key: value for key, value in about.options.to_json().items() if key not in ("seed", "out")}
    words = (f"{key}={value}" for key, value in sorted(trained_with.items()))
    group = " ".join([about.expression, about.data, options.network, options.layer, *words])
    mean, std = tuple(about.mean), tuple(about.std)
    given, precision = about.options, about.precision or "float32"
    return Source(label, net.eval(), about.image_size, mean, std, given.seed, group, precision, given.range)


def _is_colour(values: Sequence[Any]) -> bool:
    """Return whether a list is three finite numbers."""
    return len(values) == 3 and all(type(x) in (int, float) and isfinite(x) for x in values)


def _untrained(name: str, dataset: Dataset, options: EmbedOptions, device: torch.device) -> Source:
    """Return a fresh backbone: the default one, or that of an expression."""
    torch.manual_seed(options.seed)
    if name == "random":
        return Source(
            name, encoders.build(options.backbone or backbone_for(circumstances(dataset, device)), dataset.size)
        )
    recipe = resolve_here(parse(name), circumstances(dataset, device))
    net = encoders.build(options.backbone or recipe.training.backbone, dataset.size)
    return Source(f"{recipe.expression} (untrained)", net)


# ---- files of features -----------------------------------------------------------------------------------------------


def read_features(path: Path) -> Embedding:
    """Return features that ``sslzoo embed`` or anybody wrote: an .npz, or a folder of memory-mapped .npy files.

    With ``features`` and ``labels`` alone, the set is its own bank. Raises `UserError`.
    """
    if path.suffix == ".npz":
        arrays = sets.read_npz(path, f"'sslzoo embed SOURCE --out {path}' writes one")
    else:
        files_there = sorted(path.glob("*.npy"))
        arrays = {
            file.stem: sets.read_npy(file) for file in files_there if file.stem in (*ARRAYS, "features", "labels")
        }
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
    for name, rows in embedding.arrays.items():
        if name.endswith("_features") and not np.isfinite(rows).all():
            raise UserError(f"{embedding.source} gives features that are not finite; its weights are of no use.")
    files.write(path, lambda file: np.savez(file, **embedding.arrays))  # type: ignore[arg-type]
