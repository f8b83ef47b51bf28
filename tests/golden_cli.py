"""The golden listing of the command line: every command, argument and option, and the keys of what --json prints.

``python tests/golden.py cli`` writes ``golden/cli.txt`` anew. Parameters come from click's own structures, keys from
real runs of every command at a tiny size: a dotted path names a key in a key, ``[]`` an element of a list, and ``*`` a
key, or the end of one, that depends on the data.
"""

import glob
import json
import os
import re
import shlex
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.testing import CliRunner
from golden_curves import one_thread
from PIL import Image

from sslzoo.cli import main

FILE = Path(__file__).parent / "golden" / "cli.txt"
HEAD = """\
# The command line: every command with its arguments and options, and the keys of the object that --json prints.
# 'python tests/golden.py cli' writes this file anew; tests/golden_cli.py says how it is made.
"""
SIZES = "dim=8 hidden=8"
TINY = f"{SIZES} --epochs 1 --batch-size 8 --device cpu --precision float32 --quiet"
KNN = "--device cpu --no-cache -k 1 -k 5 --retrieval all --index flat --index IVF2,Flat:nprobe=2 --probe"
STUDY = """\
title = "Tiny"
source = "nobody"
paper = "https://example.org"
question = "Does it run?"
data = "labelled.npz"
epochs = 1
seeds = 1
batch_size = 8
picture = "{picture}"
words = "{words}"
"""
VARIANTS = STUDY.format(picture="curves", words=SIZES) + "".join(
    f'[[variants]]\nlabel = "{name}"\nexpression = "{name}"\npublished = "{published}"\n'
    for name, published in (("simsiam", "68.1"), ("simclr", "66.5"), ("byol", "66.6"), ("vicreg", ""))
)
FLIPPED = STUDY.format(picture="lattice", words=SIZES) + 'base = "simsiam"\nflip = ["stop_gradient"]\n'
SHOWN = (  # expressions that read every knob between them
    "byol", "swav sinkhorn_queue=true", "dino code_warmup_epochs=1", "deepcluster_v2", "instdisc", "w_mse", "vicreg",
    "lejepa", "simsiam + snapshot", "simclr - negatives + predictor + stop_gradient", "moco_v1",
    "simsiam - predictor + average", "swav --scale large",
)  # fmt: skip
RUNS: dict[str, tuple[str, ...]] = {  # of every command with --json; together they print each of its parts
    "methods list": ("",),
    "methods show": SHOWN,
    "methods diff": ("byol simsiam", "simclr swav"),
    "methods map": ("",),
    "methods presets": ("",),
    "protocols": ("",),
    "data check": ("photos", "labelled.npz", "flat.npz"),
    "train --dry-run": ("simsiam --data labelled.npz --device cpu", "simsiam - predictor --data flat.npz --device cpu"),
    "train": (
        f"swav --data labelled.npz --out one {TINY}", f"swav --data labelled.npz --seed 1 --out two {TINY}",
        f"simsiam jitter=0 grayscale=0 batchnorm=none --data flat.npz --out three {TINY}",  # it collapses: advice
    ),
    "runs": ("--out one", "--out three"),
    "ablate": (f"simsiam --flip stop_gradient --seeds 2 --data labelled.npz {TINY}",),
    "study": ("", "variants.toml --device cpu --quiet", "flipped.toml --device cpu --quiet"),
    "knn": (
        f"one/* two/* random --data labelled.npz {KNN}", f"raw --data photos {KNN}",
        "raw --data flat.npz --device cpu --no-cache",
    ),
    "embed": (
        "raw --data photos --out features.npz --device cpu --no-cache",
        "raw --data flat.npz --out flat-features.npz --device cpu --no-cache",
    ),
    "search": (
        "raw test:0 photos/test/a/1.png --data photos -n 2 --device cpu --no-cache",
        "raw test:0 --data labelled.npz -n 2 --device cpu --no-cache --out found.png",
    ),
    "export": (
        "one/* --to timm --out exported", "two/* --to torch --out traced --with projector --licence mit",
    ),
    "cluster": (
        "raw --data photos --k 2 --out clusters.csv --device cpu --no-cache",
        "raw --data labelled.npz --k 2 --near -1 --out found.csv --montage clusters.png --device cpu --no-cache",
    ),
}  # fmt: skip
STARRED = {  # where keys are names of what there is: of knobs, protocols, classes, ...
    "methods show": ("knobs", "origins"),
    "methods diff": ("switches", "knobs"),
    "methods presets": ("presets[].ranges",),
    "train --dry-run": ("knobs", "origins"),
    "data check": ("kinds", "skipped", "splits.train.classes", "splits.test.classes"),
    "ablate": ("flip",),
    "study": ("flip",),
    "knn": ("rows[].protocols", "rows[].interval"),
    "cluster": ("clusters[].labels",),
    "export": ("files",),
}
KINDS = {str: "text", bool: "true or false", int: "whole number", float: "number", list: "list", dict: "object"}
Keys = dict[str, Counter[str]]  # dotted path -> how often it was of each kind


# ---- what commands take ----------------------------------------------------------------------------------------------


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and those below it, by their names."""
    yield name, command
    if isinstance(command, click.Group):
        for key in sorted(command.commands):
            yield from commands(command.commands[key], f"{name} {key}".strip())


def parameters(command: click.Command) -> list[str]:
    """A line for each argument, in order, and for each option, by name."""
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option)]
    lines = [
        f"argument {param.make_metavar(click.Context(command))}: {described(param, command)}" for param in arguments
    ]
    return lines + sorted(f"option {names(param)}: {described(param, command)}" for param in options)


def names(option: click.Option) -> str:
    """All names of an option, and behind a stroke those that switch it off."""
    return "/".join(", ".join(sorted(some)) for some in (option.opts, option.secondary_opts) if some)


def described(param: click.Parameter, command: click.Command) -> str:
    """What a parameter takes, whether it must be there, and its default."""
    flag = isinstance(param, click.Option) and param.is_flag
    kind = "flag" if flag else param.type.name
    if isinstance(param.type, click.Choice) and not flag:
        kind = "one of " + ", ".join(map(str, param.type.choices))
    parts = [kind, *["several"] * (param.multiple or param.nargs != 1), *["required"] * param.required]
    default = param.get_default(click.Context(command), call=False)
    if isinstance(default, str | int | float) and not (default is False and not getattr(param, "secondary_opts", [])):
        parts.append(f"default {json.dumps(default)}")
    return ", ".join(parts)


# ---- what commands print ---------------------------------------------------------------------------------------------


@contextmanager
def workplace() -> Iterator[None]:
    """A folder with small data: labelled arrays, images that are all one colour, photos of which some are no use."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            rng = np.random.default_rng(0)
            arrays: dict[str, Any] = {}
            for split, n in (("train", 32), ("test", 20)):
                arrays[f"{split}_images"] = rng.integers(0, 255, (n, 16, 16, 3), dtype=np.uint8)
                arrays[f"{split}_labels"] = np.arange(n)[:, None] % 3
            np.savez("labelled.npz", **arrays)
            np.savez("flat.npz", train_images=np.full((16, 16, 16, 3), 90, np.uint8))
            for split, kind, n in (("train", "a", 45), ("train", "b", 45), ("test", "a", 10), ("test", "b", 10)):
                for i in range(n):
                    place = Path("photos", split, kind, f"{i}.png")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.integers(0, 255, (16, 16 + i % 2, 3), dtype=np.uint8)).save(place)
            Path("photos/train/a/0.png").write_bytes(b"no picture")
            Path("photos/train/a/notes.txt").write_text("no image")
            Path("photos/train/empty").mkdir()
            Path("photos/train/b/1.png").write_bytes(Path("photos/train/b/0.png").read_bytes())
            Image.new("RGBA", (16, 16)).save("photos/train/a/2.png")
            Path("variants.toml").write_text(VARIANTS)
            Path("flipped.toml").write_text(FLIPPED)
            yield
        finally:
            os.chdir(before)


def printed(name: str, words: str) -> Any:
    """The object that a command prints; it may end with an error behind it, as for data without labels."""
    parts = [part for word in shlex.split(words) for part in (sorted(glob.glob(word)) if "*" in word else [word])]
    result = CliRunner().invoke(main, [*name.split(), *parts, "--json"])
    if result.exit_code not in (0, 2) or not result.stdout.startswith("{"):
        raise AssertionError(f"sslzoo {name} {words} --json: {result.output}") from result.exception
    return json.loads(result.stdout)


def collect(value: Any, path: str, starred: tuple[str, ...], found: Keys) -> None:
    """Note the kinds of all that is in an object, by paths; a list in itself, as in a tree, is noted once."""
    found[path]["null" if value is None else KINDS[type(value)]] += 1
    if isinstance(value, dict):
        for key, inner in value.items():
            name = "*" if path in starred else re.sub(r"\d+$", "*", key)
            collect(inner, f"{path}.{name}".removeprefix("."), starred, found)
    elif isinstance(value, list):
        own = f"{path}[]"
        last = own.rpartition(".")[2]
        again = f".{own}.".find(f".{last}.")
        for inner in value:
            collect(inner, own[: again + len(last)] if again + len(last) < len(own) else own, starred, found)


def keys(name: str) -> list[str]:
    """A line for each key of what a command prints, over all of its runs."""
    found: Keys = defaultdict(Counter)
    for words in RUNS[name]:
        collect(printed(name, words), "", STARRED.get(name, ()), found)
    lines = []
    for path, kinds in sorted(found.items()):
        inside = any(other.startswith((f"{path}.", f"{path}[]")) for other in found)
        if not path or (inside and len(kinds) == 1):
            continue
        said = [kind for kind in kinds if not (kind == "whole number" and "number" in kinds)]
        parent = path.rpartition(".")[0]
        seldom = not path.endswith(("*", "[]")) and kinds.total() < found[parent]["object"]
        lines.append(f"json {path}: {' or '.join(sorted(said))}{', not always' if seldom else ''}")
    return lines


def listing() -> str:
    """The whole file."""
    text = HEAD
    with workplace(), one_thread():
        printing = {name: keys(name) for name in RUNS}
    for name, command in commands(main, ""):
        lines = parameters(command)
        dry = [f"{line}".replace("json", "json (--dry-run)", 1) for line in printing.get(f"{name} --dry-run", [])]
        text += "\n".join(
            ["", f"sslzoo {name}".strip(), *(f"  {line}" for line in lines + printing.get(name, []) + dry)]
        )
        text += "\n"
    return text
