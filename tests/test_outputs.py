"""Files that are written: an input is never one, what is not ours stays, and names are quoted where they come out."""

import csv
import io
import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sslzoo.cli import main
from sslzoo.cli.output import emit, reserved
from sslzoo.recipes.recipe import METHODS
from sslzoo.tools import files, quoting
from sslzoo.tools.errors import UserError
from sslzoo.tools.toml import to_toml

TINY = ["dim=8", "hidden=8", "predictor_hidden=8", "--epochs", "1", "--batch-size", "8", "--device", "cpu", "--quiet"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images in an .npz, features, a picture of somebody's, and one of ours."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {f"{s}_images": rng.integers(0, 255, (24, 12, 12, 3), dtype=np.uint8) for s in ("train", "test")}
    arrays |= {f"{s}_labels": np.arange(24) % 3 for s in ("train", "test")}
    np.savez("in.npz", **arrays)  # type: ignore[arg-type]
    rows = {f"{s}_features": rng.normal(size=(24, 6)) for s in ("train", "test")}
    np.savez("rows.npz", **rows, **{f"{s}_labels": np.arange(24) % 3 for s in ("train", "test")})  # type: ignore[arg-type]
    Image.fromarray(arrays["train_images"][0]).save("mine.png")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, (result.exception, result.output)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(".\n")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


# ---- what may be written over

INPUTS = [  # a command whose output is an input, and the option
    ("embed raw --data in.npz --out in.npz", "--out"),
    ("embed raw --data in.npz --out ./in.npz --force", "--out"),
    ("embed raw --data in.npz --out link.npz", "--out"),
    ("embed rows.npz --out rows.npz", "--out"),
    ("search raw mine.png --data in.npz --out mine.png", "--out"),
    ("search raw mine.png --data in.npz --out mine.png --force", "--out"),
    ("knn raw rows.png --data in.npz --gallery rows.png", "--gallery"),
    ("knn rows.png --map rows.png --force", "--map"),
    ("knn rows.png --index flat --tradeoff rows.png", "--tradeoff"),
]


@pytest.mark.parametrize(("words", "option"), INPUTS)
def test_an_input_is_never_an_output(words: str, option: str, place: Path) -> None:
    os.link("in.npz", "other.npz")
    os.symlink("other.npz", "link.npz")
    Path("rows.png").write_bytes(Path("rows.npz").read_bytes())
    before = {path: path.read_bytes() for path in place.iterdir()}
    refused(run(*words.split()), f"{option} ", "is what is read")
    assert {path: path.read_bytes() for path in place.iterdir()} == before


FOREIGN = [
    ("embed raw --data in.npz --out there.npz", "there.npz"),
    ("search raw test:0 --data in.npz --out there.png", "there.png"),
    ("knn rows.npz --map there.png", "there.png"),
    ("knn raw --data in.npz --gallery there.png", "there.png"),
    ("knn rows.npz --index flat --tradeoff there.png", "there.png"),
    ("methods map --out there.svg", "there.svg"),
]


@pytest.mark.parametrize(("words", "name"), FOREIGN)
def test_what_is_not_ours_is_replaced_with_force_alone(words: str, name: str, place: Path) -> None:
    Path(name).write_bytes(b"somebody's")
    refused(run(*words.split()), f"{name} is there", "--force")
    assert Path(name).read_bytes() == b"somebody's"
    assert run(*words.split(), "--force").exit_code == 0
    written = Path(name).read_bytes()
    assert written != b"somebody's"
    result = run(*words.split())  # it is ours now
    assert result.exit_code == 0, result.output


def test_a_file_keeps_its_permissions_and_a_link_leads_to_it(place: Path) -> None:
    assert run("embed", "raw", "--data", "in.npz", "--out", "secret.npz").exit_code == 0
    os.chmod("secret.npz", 0o600)
    Path("folder").mkdir()
    os.symlink("folder/real.npz", "link.npz")
    os.symlink("secret.npz", "second.npz")
    for name in ("secret.npz", "link.npz", "second.npz"):
        assert run("embed", "raw", "--data", "in.npz", "--out", name).exit_code == 0
    assert stat.S_IMODE(os.stat("secret.npz").st_mode) == 0o600
    assert os.path.islink("link.npz")
    assert os.path.islink("second.npz")
    assert np.load("folder/real.npz")["train_features"].shape == (24, 432)


def test_what_a_killed_process_left_is_swept(place: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = Path(f".{int(gone.stdout)}.77.tmp")
    own, other = Path(f".{os.getpid()}.77.tmp"), Path(".notes.tmp")
    for path in (left, own, other):
        path.write_bytes(b"half")
    assert run("embed", "raw", "--data", "in.npz", "--out", "f.npz").exit_code == 0
    assert (left.exists(), own.exists(), other.exists()) == (False, True, True)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "f").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "f", interrupted)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "before")]


def test_a_folder_that_is_gone_is_no_lack_of_room(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone") as caught:
        files.write(tmp_path / "run" / "last.pt", b"")
    assert "room" not in str(caught.value)


# ---- names

NAMES = ["plain", "a\rb", "a\x1b[31mb", "a\x7fb", "a\tb\n", 'q"uote\\', "caf\xe9", "\u202egnp", "\x00"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_goes_through_toml_and_back(name: str) -> None:
    assert tomllib.loads(to_toml({"title": name, "table": {"key": name}})) == {"title": name, "table": {"key": name}}


@pytest.mark.parametrize("name", [b"m\r\x1b\x7f.toml", b"l\xe9.toml", b"a\nb.toml"])
def test_a_method_of_any_name_trains_and_goes_on(name: bytes, place: Path) -> None:
    word = os.fsdecode(name)
    Path(word).write_bytes((METHODS / "simsiam.toml").read_bytes())
    words = ["train", word, *TINY, "--data", "in.npz", "--image-size", "12"]
    words[words.index("--epochs") + 1] = "2"
    result = run(*words, "--stop-after", "1", "--json")
    assert result.exit_code == 0, (result.exception, result.output)
    found = json.loads(result.stdout)["run"]
    tomllib.loads(Path(found, "recipe.toml").read_text())
    assert run("train", "--resume", found, "--quiet").exit_code == 0
    assert run("knn", found).exit_code == 0


def test_bytes_that_are_no_letters_lose_no_table(place: Path) -> None:
    word, data = os.fsdecode(b"l\xe9<b>.toml"), os.fsdecode(b"d\xe9.npz")
    Path(word).write_bytes((METHODS / "simsiam.toml").read_bytes())
    os.rename("in.npz", data)
    result = run("ablate", word, *TINY, "--data", data, "--flip", "predictor", "--image-size", "12")
    assert result.exit_code == 0, (result.exception, result.output)
    folder = next(Path("runs").iterdir())
    page = (folder / "table.md").read_text()
    assert "l\\xe9&lt;b>.toml" in page.splitlines()[0]
    assert not re.search("<(?![^`]*`)", page)  # no HTML but in code
    assert {"table.csv", "cells.json", "lattice.png"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\x9bb", r"a\x9bb"), ("line\nline", r"line\x0aline"), ("a\x7f", r"a\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"), (os.fsdecode(b"\xff"), r"\xff"), ("caf\xe9 \u4e2d", "caf\xe9 \u4e2d"),
    ],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_spelled(text: str, shown: str) -> None:
    assert quoting.printable(text) == shown


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("=1+1", "'=1+1"), ("+cmd", "'+cmd"), ("-cmd", "'-cmd"), ("@sum", "'@sum"), ("\tx", "'\tx"), ("\r=1", "'\r=1"),
        ("-", "-"), ("-0.5", "-0.5"), ("+1e3", "+1e3"), (-0.5, -0.5), (None, None), ("simsiam - predictor",) * 2,
    ],
)  # fmt: skip
def test_no_cell_of_a_csv_is_a_formula(cell: object, kept: object) -> None:
    assert quoting.csv_cell(cell) == kept
    text = io.StringIO()
    csv.writer(text).writerow([quoting.csv_cell(cell)])
    assert not text.getvalue().strip('"').startswith(("=", "@"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"), ("a | b", "a / b"), ("a\n# b", "a\\x0a# b"),
        ("![i](http://x)", "!\\[i\\](http://x)"), ("`a`", "\\`a\\`"), ("0.512 ± 0.010", "0.512 ± 0.010"),
    ],
)  # fmt: skip
def test_markdown_shows_a_text_and_does_no_more(text: str, shown: str) -> None:
    assert quoting.markdown(text) == shown


@pytest.mark.parametrize(("text", "shown"), [("a b", "`a b`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```")])
def test_code_is_one_piece_of_code(text: str, shown: str) -> None:
    assert quoting.markdown_code(text) == shown


def test_a_hostile_study_makes_plain_pages(place: Path) -> None:
    Path("s.toml").write_text(
        'title = "<script>x</script>"\nsource = "[l](http://x)"\nquestion = "<img src=x>?"\npaper = "https://x.y/"\n'
        'data = "digits"\nepochs = 1\nseeds = 1\n[[variants]]\nlabel = "=cmd|x"\n'
        'expression = "simsiam dim=8 hidden=8 predictor_hidden=8"\n'
    )
    words = ["study", "s.toml", "--limit", "32", "--batch-size", "16", "--device", "cpu", "--quiet"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    (folder,) = Path("runs").iterdir()
    page = (folder / "table.md").read_text()
    assert not re.search(r"<[a-z/]", page)
    assert "](http" not in page.replace("\\]", "")
    with open(folder / "table.csv", newline="") as file:
        assert next(csv.DictReader(file))["label"] == "'=cmd|x"


def test_names_of_classes_and_files_are_quoted_on_the_screen(place: Path) -> None:
    for name in ("cl\x1b[31mass", "b"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(place / "photos" / name / f"{i}.png")
    (place / "photos" / "b" / "br\x1b]0;title\x07oken.png").write_bytes(b"no image")
    shown = run("data", "check", "photos")
    assert "\x1b" not in shown.output
    assert "\x07" not in shown.output
    assert "cl\\x1b[31mass" in shown.output
    assert "br\\x1b]0;title\\x07oken.png" in shown.output
    found = run("search", "raw", "photos/b/1.png", "--data", "photos")
    assert found.exit_code == 0, found.output
    assert "\x1b" not in found.output


# ---- one object on standard output


def test_what_libraries_print_is_not_on_standard_output() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from sslzoo.cli.output import emit, reserved\n"
        "with reserved():\n"
        "    print('python'); os.write(1, b'library\\n'); subprocess.run(['echo', 'child'])\n"
        "    emit({'a': 1})\n"
        "    print('late'); os.write(1, b'later\\n')\n"
        "print('after')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == '{"a": 1}\nafter\n'
    assert {"python", "library", "child", "late", "later"} <= set(found.stderr.split())


def test_a_printing_library_leaves_one_object(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslzoo.evaluation import encode

    real = encode.embed

    def loud(*args: object, **options: object) -> object:
        print("Downloading: a model")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(encode, "embed", loud)
    result = run("embed", "raw", "--data", "in.npz", "--out", "f.npz", "--json")
    assert json.loads(result.stdout)["out"] == "f.npz"
    assert "Downloading" in result.stderr


def test_an_object_outside_of_a_block_is_printed_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    emit([1])
    with reserved():
        print("other")
        emit([2])
    assert capsys.readouterr().out == "[1]\n[2]\n"


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    """A renaming would put a file in the place of a device, if the person may."""
    device = tmp_path / "device"
    os.mkfifo(device)  # as little a regular file as a device, and no harm
    (tmp_path / "out.npz").symlink_to(device)
    with pytest.raises(UserError, match="is no regular file"):
        files.write(tmp_path / "out.npz", b"x")
    assert stat.S_ISFIFO(device.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "out.npz"]
