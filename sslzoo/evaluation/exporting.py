"""The encoder of a run written for other libraries, with a model card made from the run."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import cast

from torch import nn

from ..core.network import Network
from ..exchange.export import folder
from ..exchange.export.card import Facts, Score, card
from ..exchange.export.formats import FORMATS, Format
from ..exchange.export.subject import Subject, Written
from ..recipes.algebra import parse
from ..recipes.recipe import switch_values
from ..tools.arguments import checked
from ..tools.errors import UserError, did_you_mean, listing
from ..tools.records import Record
from ..training import runs
from ..training.listeners.reporter import Result
from ..training.options import Options
from .sources import LAYERS, EmbedOptions, of_run

NORMAL_95 = 1.959964  # standard deviations around the mean
HUB = re.compile(r"hf:([\w.-]+(?:/[\w.-]+)?)")
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
Writer = Callable[[Subject, Path, str], Written]


@dataclass(frozen=True, kw_only=True)
class ExportResult(Record):
    """Describes an encoder that went out: what ``sslzoo export --json`` prints.

    ``files`` have their sizes in bytes. ``network`` and ``layer`` are what was written of the run. ``features`` is the
    width of what comes out; ``size``, in px, and ``channels`` are those of an image that goes in, ``mean`` and ``std``
    those by which it is normalised, which what was written does itself where ``normalised_inside``. ``interpolation``
    is what the library is told, ``free`` names the axes of the input that may have any length, and ``tried`` the
    heights and widths at which the features were compared with the encoder's own: ``difference`` is the largest, as a
    part of the largest feature. ``pushed`` is the address on the Hub, where it went there.
    """

    run: str
    to: str
    out: str
    files: Mapping[str, int]
    backbone: str
    network: str
    layer: str
    features: int
    size: int
    channels: int
    mean: Sequence[float]
    std: Sequence[float]
    normalised_inside: bool
    interpolation: str | None
    free: Sequence[str]
    tried: Sequence[Sequence[int]]
    difference: float
    licence: str | None
    notes: Sequence[str]
    pushed: str | None


@checked
def export(
    run: str | Path,
    *,
    to: str,
    out: str | Path,
    network: str = "online",
    projector: bool = False,
    normalise: bool | None = None,
    licence: str | None = None,
    force: bool = False,
    push: str | None = None,
) -> ExportResult:
    """Write the encoder of the directory ``run`` to the folder ``out``, for another library, with a model card.

    ``to`` is "timm", "torchvision", "torch", "onnx" or "hf". ``network`` is "online" or "target". What "torch" and
    "onnx" write may end in the ``projector``, and may ``normalise`` by itself, as it does by default: then it takes
    pixels in [0, 1]. ``licence`` is what the card says, as "mit"; without it, that none is stated. With ``force`` files
    that are not ours may be replaced. ``push`` is a repository on the Hugging Face Hub, for "timm" and "hf".

    The folder is written whole or not at all, and only once what is loaded from it has given the encoder's own
    features. Raises `UserError`.
    """
    kind = _format(to)
    _check(to, kind, projector, normalise, licence, push)
    path, place = runs.named(run), Path(out)
    about = runs.read_run(path)
    folder.check(place, [path], force)
    options = EmbedOptions(device="cpu", network=network, layer=LAYERS[projector])
    subject = _subject(path, about, options, normalise is not False)
    facts = _facts(path, about, options, licence)
    write = _writer(kind)
    with folder.filled(place) as stage:
        written: Written = write(subject, stage, str(place))
        (stage / folder.CARD).write_text(
            card(facts, kind, written, subject.size), encoding="utf-8", errors="backslashreplace"
        )
        sizes = {file.name: file.stat().st_size for file in sorted(stage.iterdir())}
    pushed = None
    if push is not None:
        from ..exchange.export import hub

        pushed = hub.push(place, push)
    return ExportResult(
        run=str(path), to=to, out=str(place), files=sizes, backbone=about.backbone, network=network,
        layer=options.layer, features=written.features, size=written.size, channels=subject.channels,
        mean=subject.mean, std=subject.std, normalised_inside=kind.traced and subject.normalise,
        interpolation=written.interpolation, free=written.free, tried=written.tried, difference=written.difference,
        licence=licence, notes=written.notes, pushed=pushed,
    )  # fmt: skip


def _format(to: str) -> Format:
    if to not in FORMATS:
        raise UserError(f"There is no format {to!r}{did_you_mean(to, FORMATS)}; --to is {listing(FORMATS)}.")
    return FORMATS[to]


def _check(
    to: str, kind: Format, projector: bool, normalise: bool | None, licence: str | None, push: str | None
) -> None:
    """Raise `UserError` for what a format cannot hold, and for a module that it needs and that is not there."""
    if projector and not kind.traced:
        raise UserError(
            f"A projector is no part of a backbone, and --to {to} holds a backbone alone; use --to torch or onnx, or "
            "leave --with projector out."
        )
    if normalise is not None and not kind.traced:
        raise UserError(
            f"What --to {to} writes is a backbone, which the transform beside it normalises for; leave --normalise out."
        )
    if licence is not None and not LICENCE.fullmatch(licence):
        raise UserError(f"--licence cannot be {licence!r:.80}; give an identifier, as mit, apache-2.0 or cc-by-nc-4.0.")
    if push is not None and to not in ("timm", "hf"):
        raise UserError(
            f"--push takes a folder of timm's to the Hub; use --to timm or hf, or leave it out of --to {to}."
        )
    if push is not None:
        from ..exchange.export import hub

        hub.check(push)
    missing = [name for name in kind.needs if find_spec(name) is None]
    if missing:
        raise UserError(f"--to {to} needs {listing(missing)}; pip install 'sslzoo[{kind.extra}]' brings it.")


def _subject(path: Path, about: runs.RunAbout, options: EmbedOptions, normalise: bool) -> Subject:
    """Return what goes out of a run."""
    source = of_run(path, options)
    mean, std = tuple(map(float, about.mean)), tuple(map(float, about.std))
    encoder, projector = cast(nn.Module, source.net), None
    if isinstance(encoder, Network):
        encoder, projector = encoder.encoder, cast(nn.Module, encoder.projector)
    return Subject(about.backbone, encoder.eval(), about.image_size, mean, std, projector, normalise)


def _writer(kind: Format) -> Writer:
    file, _, name = kind.place.partition(":")
    write: Writer = getattr(import_module(f"..exchange.export.{file}", __package__), name)
    return write


# ---- what the card says


def _facts(path: Path, about: runs.RunAbout, options: EmbedOptions, licence: str | None) -> Facts:
    """Return what a card says of a run."""
    file = path / "knn.json"
    result = Result.read(file, f"{file} is broken; train the run anew.") if file.is_file() else None
    recipe = path / "recipe.toml"
    switches = switch_values(parse([str(recipe)]).switches)
    done = len(runs.read_log(path))
    rows = [
        ("Expression", about.expression),
        ("Backbone", f"{about.backbone}, {options.network} {options.layer}"),
        ("Data", f"{about.data}, {about.images:,} images, without their labels"),
        ("Views", f"{about.image_size} px, {len(about.mean)} channels"),
        ("Mean and deviation", f"{_numbers(about.mean)}; {_numbers(about.std)}"),
        ("Epochs", f"{done} of {about.epochs}, batch {about.batch_size}"),
        ("Device", f"{about.device}, {about.precision or 'float32'}"),
        ("Began", about.started or "not known"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in (about.versions or {}).items()) or "not known"),
    ]
    scores, scored = _scores(about, result)
    hub = HUB.match(about.options.data or "")
    return Facts(
        expression=about.expression, rows=rows, scores=scores, scored=scored,
        switches=", ".join(f"{name} {str(value).lower()}" for name, value in switches.items()),
        recipe=recipe.read_text(encoding="utf-8"), commands=[_command(about)],
        datasets=() if hub is None else (hub[1],), licence=licence,
    )  # fmt: skip


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _scores(about: runs.RunAbout, result: Result | None) -> tuple[list[Score], str]:
    """Return the accuracies that a run measured at its end, and what they are of."""
    test = None if about.identity is None else about.identity.test
    n = None if test is None or test.labels is None else test.images
    knn = None if result is None or result.knn is None else result.knn.get("k20")
    untrained = "the untrained backbone" if about.options.init is None else f"the initial weights, {about.options.init}"
    rows = [("this encoder", knn)]
    if result is not None:
        rows += [(untrained, result.random_knn), ("raw pixels", result.raw_knn)]
        rows += [] if result.colour_knn is None else [("colour histograms", result.colour_knn)]
    else:
        rows += [(untrained, None), ("raw pixels", None)]
    scores = [Score(of, value, None if n is None or value is None else wilson(value, n)) for of, value in rows]
    if knn is None:
        why = "The run has not ended" if result is None else "The data have no labels to measure with"
        return scores, f"{why}."
    many = "" if n is None else f"the {n:,} images of "
    interval = "" if n is None else ", with 95% intervals (Wilson's)"
    notes = "".join(f" {note.rstrip('.')}." for note in (result.notes if result is not None else ()))
    of = f"Accuracy of the online encoder on {many}the test split of {about.data}{interval}"
    return scores, f"{of}; the bank is the training split.{notes}"


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of n, by Wilson; it holds too for a mean of numbers in [0, 1], and is wide."""
    square = NORMAL_95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL_95 * sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _command(about: runs.RunAbout) -> str:
    """Return the command that began a run, as it was typed; of a run that Python began, one that does the same."""
    typed = list(about.command)
    if len(typed) > 2 and Path(typed[0]).name in ("sslzoo", "__main__.py") and typed[1] == "train":
        return shlex.join(["sslzoo", *typed[1:]])
    words = ["sslzoo", "train", about.expression]
    for field in fields(Options):
        value = getattr(about.options, field.name)
        if value is None or value == field.default or field.name == "out":
            continue
        option = "--" + field.name.replace("_", "-")
        words += (
            [option.replace("--", "--no-")] if value is False else [option] if value is True else [option, f"{value}"]
        )
    return shlex.join(words)
