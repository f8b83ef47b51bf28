"""Sources of features: runs, untrained and pretrained backbones, weights, raw pixels, colours, files of features."""

import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import nn

from ..core import backbones, encoders
from ..core.siamese import Siamese
from ..data import sets
from ..data.decoded.ranges import reading
from ..data.given.options import DataOptions
from ..data.splits import Dataset
from ..exchange import pretrained
from ..exchange.files import is_weights_file
from ..exchange.opening import open_weights
from ..exchange.transform import OURS, Asked, Transform
from ..recipes.algebra import parse
from ..recipes.layers import Circumstances, backbone_for, resolve_here
from ..tools.bounds import check_numbers
from ..tools.errors import UserError, listing, within
from ..training import checkpoints, runs
from ..training.machine import find_device
from ..training.options import Options
from ..training.plan import circumstances
from ..views.colours import Colours
from ..views.features import raw_size
from .embedding import holds_features
from .given.banks import Reading
from .given.formats import ARRAYS, TABLES, WEIGHTS, beside_shards, shards_of, suffix
from .given.named import holds_weights

LAYERS, NETWORKS = ("encoder", "projector"), ("online", "target")


@dataclass(frozen=True)
class EmbedOptions(DataOptions):
    """Says how sources are embedded, of data that are by default the runs' own, else digits.

    Raises `UserError` for what cannot be. ``seed`` is that of untrained backbones, and ``workers`` the number of
    processes that read files, by default the cores less one. ``backbone`` is that of weights in a file, or of "random".
    ``layer`` and ``network`` are of a run: "encoder" or "projector", "online" or "target". With ``cached`` features are
    kept on disk and used again. Where ``memory`` is "auto", nothing is kept of images that are read once; ``range`` is
    by default the run's. ``reading`` is for files of features, and ``transform`` says what of a source's own transform
    is otherwise. ``progress`` is called with a source, the number of its images that are done, and the number of all.
    """

    device: str = "auto"
    seed: int = 0
    workers: int | None = None
    backbone: str | None = None
    layer: str = "encoder"
    network: str | None = None
    cached: bool = True
    reading: Reading = field(default_factory=Reading)
    transform: Asked = field(default_factory=Asked)
    progress: Callable[[str, int, int], None] | None = None

    def __post_init__(self) -> None:
        check_numbers(image_size=self.image_size, limit=self.limit, workers=self.workers, seed=self.seed)
        reading(self.range, self.channels)
        self.transform.check()
        if self.layer not in LAYERS or self.network == "":
            raise UserError(f"--layer is {' or '.join(LAYERS)}, and --network {' or '.join(NETWORKS)}.")

    @property
    def usual(self) -> bool:
        """Return whether features are those of the online encoder, as of any source."""
        return (self.layer, self.network or NETWORKS[0]) == (LAYERS[0], NETWORKS[0])


@dataclass(frozen=True)
class Source:
    """Holds a network, or None for raw pixels, with the transform and precision that it was made for.

    Without a ``transform`` images are cut as our own views are, to the data's size, with the data's mean. ``about``
    says in a line what was made of a file, and what is done to images; ``range`` is its run's. The precision is that of
    a GPU; others compute in float32. One that is ``tried`` was built for its size, and takes it.
    """

    label: str
    net: nn.Module | None
    transform: Transform | None = None
    about: str | None = None
    seed: int | None = None
    group: str | None = None
    precision: str = "float32"
    range: str | None = None
    channels: int | None = None
    tried: bool = False


def shared_data(sources: Sequence[str], given: EmbedOptions) -> EmbedOptions:
    """Return options with the data to use: the given ones, else the runs' own where they agree, else digits.

    Raises `UserError`.
    """
    own = [] if given.named else _options_of_runs(sources)
    if len({options.source for options in own}) > 1:
        places = sorted({options.described for options in own})
        raise UserError(f"These runs were trained on different data ({', '.join(places)}); choose one with --data.")
    found = given.over(own[0]) if own else given
    return found if found.named else replace(found, data=found.place)


def shared_reading(sources: Sequence[str], given: EmbedOptions) -> EmbedOptions:
    """Return options with the range and the channels of the runs, where these agree and none are given."""
    for name in ("range", "channels"):
        own = {getattr(options, name) for options in _options_of_runs(sources)}
        if getattr(given, name) is None and len(own) == 1:
            given = replace(given, **{name: own.pop()})
    return given


def _options_of_runs(sources: Sequence[str]) -> list[Options]:
    return [runs.read_run(p).options for p in map(Path, map(os.path.expanduser, sources)) if runs.is_run(p)]


def files_among(names: Sequence[str], given: EmbedOptions) -> list[str]:
    """Return the sources that are features in files."""
    return [name for name in names if is_features(Path(os.path.expanduser(name)), given.backbone)]


def is_features(path: Path, backbone: str | None = None) -> bool:
    """Return whether a source is features in files: by its suffix; of weights only where no backbone is named."""
    if suffix(path) in WEIGHTS:
        return backbone is None and os.path.isfile(path) and not holds_weights(path)
    if is_weights_file(path):
        return False
    if suffix(path) in (*ARRAYS, *TABLES):
        return True
    return holds_features(path) or (not runs.is_run(path) and bool(shards_of(path)))


def check_used(files: Sequence[str], given: EmbedOptions) -> None:
    """Raise `UserError` for options of images beside nothing but these files of features, which take none."""
    if files and (given.named or given.asked):
        option = "--data" if given.data is not None else given.asked[0]
        raise UserError(
            f"{option} is of images, and {files[0]} holds features; leave it out, or give labels of features with "
            "'sslzoo knn --bank FILE --bank-labels FILE'."
        )


def check_transform(names: Sequence[str], given: EmbedOptions) -> None:
    """Raise `UserError` for options of a transform where none of the sources has one of its own."""
    paths = [Path(os.path.expanduser(name)) for name in names]
    own = [pretrained.is_published(name) or runs.is_run(path) or (is_weights_file(path) and not is_features(path))
           for name, path in zip(names, paths, strict=True)]  # fmt: skip
    if given.transform.named and not any(own):
        raise UserError(
            f"{given.transform.named[0]} is of networks that come with a transform of their own, and "
            f"{names[0] if names else 'features'} has none; leave it out."
        )


def open_source(name: str, options: EmbedOptions) -> tuple[Source, Dataset, torch.device]:
    """Return a source's network, the data at the size that it takes, and the device. Raises `UserError`."""
    device = find_device(options.device)
    source = _given(name, Path(os.path.expanduser(name)), options)
    own = source.transform
    if own is not None and options.channels not in (None, made_for := source.channels or 3):
        raise UserError(f"{name} was trained on {made_for} channels; leave --channels {options.channels} out.")
    data, size = shared_data([name], options), options.image_size or (None if own is None else own.size)
    shown, channels = options.range or source.range, options.channels or source.channels
    cuts = own is not None and own.crop is not None
    once = options.memory == "auto" and sets.is_of_files(data.place)
    memory = "never" if once or cuts else options.memory
    given = replace(data, image_size=size, memory=memory, range=shown, channels=channels)
    dataset = sets.read(given, squares=not cuts)
    if own is not None and own.mean is not None and len(own.mean) != dataset.channels:
        raise UserError(
            f"--mean has {len(own.mean)} numbers, for {dataset.channels} channels; give one for each, or --channels."
        )
    if isinstance(source.net, Colours) and dataset.channels != 3:
        raise UserError(f"colours are of three channels, and the data have {dataset.channels}; leave colours out.")
    if source.net is not None and not isinstance(source.net, Colours) and not source.tried:
        encoders.check_size(source.net, name, dataset.size, channels=dataset.channels)
    if source.net is None and name != "raw":
        source = _untrained(name, dataset, options, device)
    elif source.net is None and (small := raw_size(dataset.scored, dataset.size)) < dataset.size:
        source = replace(source, label=f"raw at {small} px")  # more takes too much memory
    return source, dataset, device


def _given(name: str, path: Path, options: EmbedOptions) -> Source:
    """Return a source whose network is known without the data; for others a source without one."""
    if runs.is_run(path):
        return of_run(path, options)
    published = pretrained.is_published(name)
    if is_weights_file(path) and not published:
        return _weights(name, path, options)
    if published and options.usual:
        found = pretrained.published(name)
        transform = found.transform.changed(options.transform, options.image_size)
        return Source(name, found.net, transform, transform.words, channels=channels_of(found.net))
    if os.path.isdir(path) and not published and (other := beside_shards(path)) is not None:
        raise UserError(
            f"{path} is no folder of shards, since it holds {other} beside its .parquet files; move it elsewhere."
        )
    if os.path.isdir(path) and not published:
        raise UserError(
            f"{path} is no run directory, since it has no run.json, and no folder of features; 'sslzoo runs' lists "
            f"runs, and images are given with --data, as in 'sslzoo knn random --data {quote(str(path))}'."
        )
    if not options.usual:
        raise UserError(
            f"{name} is no run, so it has no {options.network or NETWORKS[0]} {options.layer}; leave --layer and "
            "--network out."
        )
    if name == "colours":
        return Source(name, Colours())
    if os.path.isfile(path) and path.suffix != ".toml":
        raise UserError(
            f"{name} is no source: features come in {listing([*TABLES, *ARRAYS])}, weights in {listing(WEIGHTS)}; save "
            "it as one of these."
        )
    if os.sep in name and not path.exists() and path.suffix != ".toml":
        raise UserError(f"There is no run {name}; 'sslzoo runs' lists those of a folder.")
    return Source(name, None)


def _weights(name: str, path: Path, options: EmbedOptions) -> Source:
    """Return the network of a file of weights, or of a folder of them, with its own transform if it says one."""
    if options.layer != LAYERS[0]:
        raise UserError(f"{name} is no run, so it has no online {options.layer}; leave --layer out.")
    if not path.exists():
        raise UserError(f"There is no file {name}; give one that is there.")
    found = open_weights(path, options.backbone, options.network)
    own = found.transform.changed(options.transform, options.image_size)
    about = "; ".join(part for part in (found.said, own.words) if part)
    return Source(name, found.network(own.size), own, about, channels=found.channels, tried=True)


def channels_of(net: nn.Module) -> int | None:
    """Return the channels of the images that a network takes, by its first convolution; None where it has none."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def of_run(path: Path, options: EmbedOptions) -> Source:
    """Return a run's online backbone, or the layer and network of it that the options name. Raises `UserError`."""
    if options.network not in (None, *NETWORKS):
        raise UserError(f"--network online or target is of a run, and {options.network!r} is neither.")
    about = runs.read_run(path)
    with within(str(path)):
        check_numbers(image_size=about.image_size)
    if not (_is_colour(about.mean, about) and _is_colour(about.std, about)) or min(about.std) <= 0:
        raise UserError(f"{path} has no mean and std in its run.json, a number for each channel; train it anew.")
    label, net, network = str(path), runs.encoder(path), options.network or NETWORKS[0]
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
        if network == "target" and recipe.switches.target == "shared":
            raise UserError(f"{path} has no target network of its own; leave --network out.")
        chosen = model.target if network == "target" else model.online
        net = chosen if options.layer == "projector" else chosen.encoder
        label = f"{path} ({network} {options.layer})"
    trained_with = {key: value for key, value in about.options.to_json().items() if key not in ("seed", "out")}
    words = (f"{key}={value}" for key, value in sorted(trained_with.items()))
    group = " ".join([about.expression, about.data, network, options.layer, *words])
    given, asked, size = about.options, options.transform, about.image_size
    own = Transform(size, size, OURS, mean=tuple(map(float, about.mean)), std=tuple(map(float, about.std)))
    own = own.changed(asked, options.image_size)
    said = own.words if asked.named else None
    made = Source(label, net.eval(), own, said, given.seed, group, about.precision or "float32")
    return replace(made, range=given.range, channels=given.channels)


def _is_colour(values: Sequence[Any], about: runs.RunAbout) -> bool:
    """Return whether a list is a finite number for each channel of an image."""
    return len(values) == (about.options.channels or 3) and all(type(x) in (int, float) and isfinite(x) for x in values)


def _untrained(name: str, dataset: Dataset, options: EmbedOptions, device: torch.device) -> Source:
    """Return a fresh backbone: the default one, or that of an expression."""
    here = circumstances(dataset, device)
    recipe = None if name == "random" else resolve_here(parse(name), here)
    backbone = backbone_for(here) if recipe is None else backbones.backbone_of(recipe)
    with backbones.DRAWING:
        torch.manual_seed(options.seed)
        net = backbones.build(options.backbone or backbone, dataset.size, channels=dataset.channels)
    return Source(name if recipe is None else f"{recipe.expression} (untrained)", net)
