"""What nobody would type: whatever comes in, a command works, or it says in one sentence why not, and runs nothing."""

import json
import os
import pickle
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from bad_files import FILES, Payload, Run, images, lay, recipe, rows
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sslzoo import UserError
from sslzoo.cli import main
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.recipe import METHODS, method_names
from sslzoo.recipes.schema import KNOBS, SWITCHES
from sslzoo.recipes.values import WORDS
from sslzoo.studies.lattice import lattice, read_flips

MORE = int(os.environ.get("SSLZOO_FUZZ", "0"))  # examples of each test, and others every time
Data = st.DataObject


def examples(number: int) -> Any:
    """So many, the same every time; or many more, for a hunt."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=MORE or number, derandomize=not MORE, deadline=None, database=None, suppress_health_check=quiet
    )


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; what a command writes is below it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def sound(work: Path, *words: str) -> Result:
    """Run a command: it works, or it ends in one sentence."""
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, repr(result.exception))
    assert result.exit_code in (0, 2), (words, result.output)
    if result.exit_code:
        sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(sentences) == 1, (words, result.stderr)
        assert result.stderr.endswith(".\n"), (words, result.stderr)
    assert set(os.listdir(work.parent)) <= {"work", "cache"}
    assert not Path("marker").exists()
    return result


# ---- what is drawn

LETTERS = st.characters(exclude_characters="/~\0\n\r", exclude_categories=("Cs",)) | st.sampled_from(
    "\udcff+-=.'\"|,:[]"
)
TEXT = st.text(LETTERS, max_size=20).filter(lambda text: text.strip(". ") or not text)  # no folder above this one
NUMBERS = st.integers() | st.integers(-3, 40) | st.integers(10**6, 10**40) | st.sampled_from([10**400, -(10**400)])
FLOATS = st.floats() | st.sampled_from([1e-320, 1e308, 0.5, 1.0])
SPELLED = st.one_of(
    NUMBERS.map(str), FLOATS.map(str), TEXT, st.sampled_from(["1e400", "true", "no", "1_0", "٣", "0x10"])
)
VALUES = st.recursive(
    st.one_of(st.booleans(), NUMBERS, FLOATS, TEXT, st.sampled_from(["mlp", "none", "l2", "momentum", "all"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


def mutated(data: Data, content: bytes) -> bytes:
    """Bytes with a few of them changed, cut out, doubled or put in."""
    found = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(found) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "end", "double", "put"])):
            case "flip" if found:
                found[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del found[at : at + data.draw(st.integers(1, 60))]
            case "end":
                del found[at:]
            case "double":
                found[at:at] = found[at : at + data.draw(st.integers(1, 60))]
            case "put":
                found[at:at] = data.draw(st.binary(max_size=20))
    return bytes(found)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that lies in tables and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


def changed(data: Data, tree: Any, values: Any = VALUES) -> Any:
    """Tables in which a value is another, has gone, or has another name."""
    tree = json.loads(json.dumps(tree))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(tree)))
        if not path:
            continue
        home = tree
        for key in path[:-1]:
            home = home[key]
        value, how = home[path[-1]], data.draw(st.sampled_from(["other", "gone", "name"]))
        if how == "other" or isinstance(home, list):
            home[path[-1]] = data.draw(values)
        else:
            del home[path[-1]]
            if how == "name":
                home[data.draw(st.sampled_from([path[-1][:-1], path[-1].upper(), "dim", "views", "large"]) | TEXT)] = (
                    value
                )
    return tree


def toml(tables: Mapping[str, Any]) -> str:
    """Tables as TOML, all in one line each."""

    def spelled(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{spelled(k)} = {spelled(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(spelled, value)) + "]"
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)

    return "\n".join(f"{spelled(key)} = {spelled(value)}" for key, value in tables.items())


# ---- recipes and expressions


@examples(80)
@given(data=st.data())
def test_method_files_of_other_values(work: Path, data: Data) -> None:
    content = tomllib.loads((METHODS / f"{data.draw(st.sampled_from(method_names()))}.toml").read_text())
    Path("m.toml").write_bytes(toml(changed(data, content)).encode("utf-8", "surrogateescape"))
    sound(work, "methods", "show", "m.toml", *data.draw(st.sampled_from([[], ["--scale", "large"], ["+", "momentum"]])))


@examples(60)
@given(data=st.data())
def test_method_files_of_other_bytes(work: Path, data: Data) -> None:
    text = mutated(data, recipe("[heads]\ndim = 8").encode())
    Path("m.toml").write_bytes(data.draw(st.just(text) | st.binary() | st.text().map(lambda t: t.encode())))
    sound(work, "methods", "show", "m.toml")
    sound(work, "study", "m.toml")


WORD = st.one_of(
    st.sampled_from(["+", "-", *SWITCHES, *WORDS]),
    st.sampled_from([f"{name}={value}" for name, f in SWITCHES.items() for value in f.values]),
    st.builds("{}={}".format, st.sampled_from([*KNOBS, *(key.rpartition(".")[2] for key in KNOBS)]), SPELLED),
    st.builds("like={}".format, st.sampled_from(method_names()) | TEXT),
    st.builds("{}{}".format, st.sampled_from("+-"), st.sampled_from([*SWITCHES, *WORDS]) | TEXT),
    TEXT,
)  # fmt: skip
EXPRESSIONS = st.lists(WORD, max_size=8).map(list)


@examples(150)
@given(first=st.sampled_from(method_names()) | TEXT, rest=EXPRESSIONS, times=st.sampled_from([1, 1, 1, 300]))
def test_expressions(work: Path, first: str, rest: Sequence[str], times: int) -> None:
    sound(work, "methods", "show", first, *(word for word in rest * times if not word.startswith("--")))
    sound(work, "methods", "diff", "--", " ".join([first, *rest]), "simsiam")


@examples(60)
@given(base=st.sampled_from(method_names()), flips=st.lists(st.lists(WORD, max_size=3).map("|".join), max_size=2))
def test_flips(base: str, flips: Sequence[str]) -> None:
    with suppress(UserError):
        cells = lattice([base], read_flips(flips, parse(base).switches, base))
        assert all((cell.recipe is None) != (cell.refused is None) for cell in cells)


# ---- options

BASE = {
    "train": ["simsiam", "--dry-run"], "ablate": ["simsiam", "--flip", "predictor"], "study": ["predictor"],
    "knn": ["rows.npz"], "embed": ["raw", "--out", "f.npz"], "search": ["raw", "test:0"], "protocols": [], "runs": [],
    "list": [], "show": ["simsiam"], "diff": ["simsiam", "byol"], "map": [], "copy": ["simsiam", "m.toml"],
    "completion": ["bash"],
}  # fmt: skip
COMMANDS = {**main.commands, **main.commands["methods"].commands}  # type: ignore[attr-defined]
SIZES = st.integers(-9, 64) | st.integers(4097, 10**9)  # others are as they should be, and large


@pytest.mark.parametrize("name", BASE)
@examples(25)
@given(data=st.data())
def test_options(work: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: Data) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise UserError("Nothing is trained here.")

    monkeypatch.setattr("sslzoo.studies.cells.run", nothing)
    shutil.rmtree(work)
    work.mkdir()
    os.chdir(work)
    Path("rows.npz").write_bytes(rows())
    Path("tiny.npz").write_bytes(images())
    options = [one for one in COMMANDS[name].params if isinstance(one, click.Option)]
    words = [*BASE[name], *(["--data", "tiny.npz"] if any(one.name == "data" for one in options) else [])]
    for one in data.draw(st.lists(st.sampled_from(options), max_size=3)) if options else []:
        value = data.draw(SIZES.map(str) if one.name == "image_size" else SPELLED)
        words += [one.opts[0], *([] if one.is_flag else [value])]
    words += data.draw(st.lists(TEXT, max_size=1))
    sound(work, *(["methods"] if name in COMMANDS and name not in main.commands else []), name, *words)


# ---- files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny.npz", "knn raw --data tiny.npz --retrieval none"),
        ("tiny.npz", "train simsiam --data tiny.npz --dry-run"),
        ("rows.npz", "knn rows.npz --retrieval none"),
        ("rows.npz", "embed rows.npz --out f.npz"),
        ("npy-good", "knn npy-good --retrieval none"),
        ("a.png", "search raw a.png --data tiny.npz"),
        ("a.png", "train simsiam --data folder --dry-run"),
    ],
)
@examples(30)
@given(data=st.data())
def test_files_of_other_bytes(work: Path, name: str, words: str, data: Data) -> None:
    if name == "npy-good":
        whole = FILES[name]["features.npy"]
        Path(name).mkdir(exist_ok=True)
        Path(name, "labels.npy").write_bytes(whole)
        path = Path(name, "features.npy")
    else:
        whole, path = FILES[name], Path("folder" if "folder" in words else ".", name)
        path.parent.mkdir(exist_ok=True)
    if "tiny" in words:
        Path("tiny.npz").write_bytes(images())
    path.write_bytes(mutated(data, whole))
    sound(work, *words.split())


# ---- runs


def laid(work: Path, run: Run, **other: bytes) -> None:
    """A true run in this folder, with files that are others."""
    shutil.rmtree("runs", ignore_errors=True)
    os.mkdir("runs")
    (work / "tiny.npz").write_bytes(images())
    told = json.loads(run["run.json"])
    told["options"]["data"] = str(work / "tiny.npz")
    files = {**run, "run.json": json.dumps(told).encode(), **{k.replace("_", "."): v for k, v in other.items()}}
    lay(Path("runs", "one"), files, run)


@examples(60)
@given(data=st.data(), name=st.sampled_from(["run.json", "log.csv", "knn.json"]))
def test_runs_of_other_bytes(work: Path, true_run: Run, data: Data, name: str) -> None:
    laid(work, true_run, **{name: mutated(data, true_run.get(name, b'{"knn": {"k20": 0.5}}'))})
    sound(work, "runs")
    sound(work, "runs", "--json")


@examples(40)
@given(data=st.data())
def test_runs_of_other_values(work: Path, true_run: Run, data: Data) -> None:
    told = json.loads(true_run["run.json"])
    told["options"].pop("data")
    other = changed(data, told, VALUES.filter(lambda value: not isinstance(value, str)) | TEXT)
    laid(work, true_run)
    if isinstance(other.get("options"), dict):
        other["options"]["data"] = str(work / "tiny.npz")
    Path("runs/one/run.json").write_text(json.dumps(other))
    sound(work, "runs")
    sound(work, "knn", "runs/one", "--retrieval", "none")
    sound(work, "knn", "runs/one", "--retrieval", "none", "--layer", "projector")


RESUME, PROJECTOR = "train --resume runs/one --stop-after 1 --quiet", "knn runs/one --layer projector --no-cache"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("last.pt", RESUME),
        ("recipe.toml", RESUME),
        ("last.pt", PROJECTOR),
        ("recipe.toml", PROJECTOR),
        ("encoder.safetensors", PROJECTOR),
    ],
)
@examples(15)
@given(data=st.data())
def test_checkpoints_of_other_bytes(work: Path, true_run: Run, name: str, words: str, data: Data) -> None:
    laid(work, true_run, **{name: mutated(data, true_run[name])})
    sound(work, *words.split())


# ---- nothing is run


def test_the_payload_would_run(work: Path) -> None:
    pickle.loads(pickle.dumps(Payload())).close()
    assert Path("marker").exists()


@pytest.mark.parametrize(
    "words",
    [
        "train simsiam --data d-payload.npz",
        "train simsiam --data d-code.npz",
        "train simsiam --data tiny.npz --init w-payload.pt",
        "train simsiam --data tiny.npz --init w-payload-legacy.pt",
        "train simsiam --data tiny.npz --init w-bare-payload.pt",
        "train --resume r-last-payload",
        "train --resume r-last-bare-payload",
        "knn f-payload.npz",
        "knn npy-payload",
        "knn w-payload.pt --backbone small",
        "knn r-last-payload --layer projector",
        "embed f-payload.npz --out f.npz",
    ],
)
def test_no_pickle_is_run(work: Path, true_run: Run, words: str) -> None:
    for name in set(words.split()) & FILES.keys():
        lay(Path(name), FILES[name], true_run)
    assert sound(work, *words.split()).exit_code == 2


@pytest.mark.parametrize(
    "code", ["open('marker', 'w')", "$(touch marker)", "`touch marker`", "; touch marker", "{open('marker', 'w')}"]
)
def test_no_text_is_run(work: Path, code: str) -> None:
    where: list[Callable[[str], str]] = [
        lambda text: recipe(f"[optimizer]\nlr = {text}"),
        lambda text: recipe(f'[heads]\nbatchnorm = "{text}"'),
        lambda text: recipe(old='title = "SimSiam"', new=f'title = "{text}"'),
        lambda text: f"# {text}\n" + recipe(),
    ]
    for made in where:
        Path("m.toml").write_text(made(code))
        sound(work, "methods", "show", "m.toml")
    for word in (f"lr={code}", f"like={code}", code):
        assert sound(work, "methods", "show", "simsiam", word).exit_code == 2
