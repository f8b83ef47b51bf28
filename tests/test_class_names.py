"""Names of classes travel: from folders and arrays into embed's file, tables, pictures, search and JSON."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sslzoo.data import downloads, sets
from sslzoo.data.survey import survey
from sslzoo.evaluation.drawn import gallery, planes
from sslzoo.tools.errors import UserError

Array = npt.NDArray[Any]
NAMES = ("ant", "bee", "cow")
PETS = ("1 mouse", "2 rat", "10 cat")  # in natural order
RNG = np.random.default_rng(0)


def noise(n: int) -> Array:
    """Pictures of noise."""
    return RNG.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets of three named classes in the working directory: a folder, images and several labels in arrays."""
    monkeypatch.chdir(tmp_path)
    for split, n in (("train", 5), ("test", 2)):
        for name in PETS:
            (tmp_path / "album" / split / name).mkdir(parents=True)
            for i, pixels in enumerate(noise(n)):
                Image.fromarray(pixels).save(tmp_path / "album" / split / name / f"{i}.png")
    parts = {"train_images": noise(30), "test_images": noise(9)}
    labels, truth = np.arange(30) % 3, np.arange(9) % 3
    np.savez("one.npz", **parts, train_labels=labels, test_labels=truth, classes=NAMES)  # type: ignore[arg-type]
    marks = np.eye(3, dtype=int)[labels] | np.eye(3, dtype=int)[0]
    np.savez("several.npz", **parts, train_labels=marks, test_labels=marks[:9], classes=NAMES)  # type: ignore[arg-type]
    np.savez("plain.npz", **parts, train_labels=labels, test_labels=truth)  # type: ignore[arg-type]
    return tmp_path


SETS = {"album": PETS, "one.npz": NAMES, "several.npz": NAMES, "plain.npz": ()}


def output(run_cli: Callable[..., Any], *words: str) -> Any:
    """The object that a command prints with --json."""
    result = run_cli(*words, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("data", SETS)
def test_data_sets(data: str, here: Path) -> None:
    assert sets.load(data).names == SETS[data]


def test_digits_are_called_as_they_are() -> None:
    assert sets.load("digits", limit=8).names == tuple("0123456789")


def test_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data sets have their names in ``classes``; STL-10's unlabelled split has them too."""
    import torchvision.datasets

    class Ten:
        classes = ("airplane", "automobile")

        def __init__(self, root: Path, train: bool, download: bool):
            self.data, self.targets = noise(10), [0, 1] * 5

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Ten)
    assert sets.load("cifar10").names == ("airplane", "automobile")
    assert downloads.TORCHVISION["cifar10"]()["classes"] == ["airplane", "automobile"]


@pytest.mark.parametrize("data", SETS)
def test_embed_and_knn(data: str, here: Path, run_cli: Callable[..., Any]) -> None:
    """What embed writes is read without pickle, by numpy and by knn, with the same names as the images have."""
    names = SETS[data]
    shapes = output(run_cli, "embed", "raw", "--data", data, "--out", "f.npz")["arrays"]
    assert shapes.get("classes") == ([3] if names else None)
    with np.load("f.npz", allow_pickle=False) as file:
        assert tuple(file["classes"] if names else ()) == names
    rows = [output(run_cli, "knn", *words)["rows"][0] for words in (("raw", "--data", data), ("f.npz",))]
    for row in rows:
        assert tuple(row.get("classes", ())) == names
        assert list(row["protocols"]["sslzoo"]["per_class"]["k5"]) == ["0", "1", "2"]
    assert rows[0]["protocols"] == rows[1]["protocols"]


def test_a_folder_of_arrays(here: Path, run_cli: Callable[..., Any]) -> None:
    assert run_cli("embed", "raw", "--data", "one.npz", "--out", "f.npz", "--device", "cpu").exit_code == 0
    (here / "f").mkdir()
    with np.load("f.npz") as file:
        for key in file.files:
            np.save(f"f/{key}.npy", file[key])
    assert tuple(output(run_cli, "knn", "f")["rows"][0]["classes"]) == NAMES


def test_one_split_of_features(here: Path, run_cli: Callable[..., Any]) -> None:
    np.savez("f.npz", features=RNG.normal(size=(30, 4)), labels=np.arange(30) % 3, classes=NAMES)
    assert tuple(output(run_cli, "knn", "f.npz")["rows"][0]["classes"]) == NAMES


@pytest.mark.parametrize("data", SETS)
def test_data_check(data: str, here: Path, run_cli: Callable[..., Any]) -> None:
    names = SETS[data] or ("0", "1", "2")
    report, _ = survey(data)
    assert tuple(report.splits["train"].classes) == tuple(report.splits["test"].classes) == names
    assert sum(report.splits["train"].classes.values()) == {"album": 15, "several.npz": 50}.get(data, 30)
    page = run_cli("data", "check", data).output
    assert all(name in page for name in names)


def test_classes_of_one_name_are_counted_apart(here: Path) -> None:
    """ImageNet has two cranes."""
    labels = np.repeat([0, 1, 2], [5, 10, 15])
    np.savez("d.npz", train_images=noise(30), train_labels=labels, test_images=noise(3), test_labels=np.arange(3),
             classes=["crane", "bee", "crane"])  # fmt: skip
    assert survey("d.npz")[0].splits["train"].classes == {"crane (0)": 5, "bee": 10, "crane (2)": 15}


@pytest.mark.parametrize(("data", "first", "said"), [
    ("album", "1 mouse", "1 mouse"), ("one.npz", "ant", "ant"), ("several.npz", "ant", "ant"),
    ("plain.npz", None, "class 0"),
])  # fmt: skip
def test_search(data: str, first: str | None, said: str, here: Path, run_cli: Callable[..., Any]) -> None:
    words = ("search", "raw", "test:0", "test:1", "--data", data, "-n", "20")
    found = output(run_cli, *words)["queries"]
    assert found[0]["label_name"] == first
    if data == "several.npz":
        assert found[1]["label_name"] == "ant, bee"
        assert [one["label_name"].split(", ") for one in found[0]["neighbours"]] == [
            [NAMES[i] for i in one["labels"]] for one in found[0]["neighbours"]
        ]
    elif first is not None:
        names = [*SETS[data]]
        assert all(names[one["label"]] == one["label_name"] for one in found[0]["neighbours"])
    page = " ".join(run_cli(*words, "--device", "cpu").output.split())
    assert f"test:0, {said}" in page


@pytest.mark.parametrize("data", SETS)
def test_captions(data: str, here: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def shown(rows: Any) -> bytes:
        seen.extend(tile.caption for _, tiles in rows for tile in tiles)
        return b""

    monkeypatch.setattr(gallery, "png", shown)
    run_cli("knn", "raw", "--data", data, "--device", "cpu", "--gallery", "g.png", "--force")
    run_cli("search", "raw", "test:0", "--data", data, "--device", "cpu", "--out", "s.png", "--force")
    words = {one.split(" ", 1)[1] if one[0] in "01-" and "." in one else one for one in seen}
    if data == "several.npz":
        assert words <= {"ant", "ant, bee", "ant, cow"}
    else:
        assert words <= {*(SETS[data] or ("class 0", "class 1", "class 2"))}
    assert len(words) == 3


@pytest.mark.parametrize("caption", ["0.993 class 3", "0.993 ant", "W" * 60, "0.993 Platelets, RBC, WBC", "ö" * 400])
def test_captions_stay_below_their_pictures(caption: str) -> None:
    """Ink of a tile's caption does not reach the picture beside it."""
    black = torch.zeros(3, 8, 8, dtype=torch.uint8)
    bare, written = (
        np.asarray(Image.open(io.BytesIO(gallery.png([("", [gallery.Tile(black, text), gallery.Tile(black, " ")])]))))
        for text in (" ", caption)
    )
    columns = (bare != written).any(axis=(0, 2)).nonzero()[0]
    assert len(columns) > 0
    assert columns.max() < gallery.GAP + gallery.TILE + 2 * gallery.FRAME + gallery.GAP


@pytest.mark.parametrize("name", ["$x_", "_hidden", "$", "a\x1b[31mb", "ö", "$\\frac$"])
def test_any_name_is_in_a_legend(name: str) -> None:
    """matplotlib would take some for formulas, and leave others out."""
    points = RNG.normal(size=(6, 2))
    assert planes.plane(points, np.arange(6) % 2, "raw", "pca", [name, "b"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "classes", [np.array(["ant", "bee"]), np.array([["ant", "bee", "cow"]]), np.array("ant"), np.array([b"ant"])]
)
@pytest.mark.parametrize("kind", ["images", "features"])
def test_names_that_do_not_do(kind: str, classes: Array, here: Path, run_cli: Callable[..., Any]) -> None:
    rows = {"images": noise, "features": lambda n: RNG.normal(size=(n, 4))}[kind]
    np.savez("d.npz", **{f"train_{kind}": rows(9), f"test_{kind}": rows(3)}, train_labels=np.arange(9) % 3,  # type: ignore[arg-type]
             test_labels=np.arange(3), classes=classes)  # fmt: skip
    words = ("knn", "raw", "--data", "d.npz") if kind == "images" else ("knn", "d.npz")
    result = run_cli(*words, "--device", "cpu")
    assert result.exit_code == 2
    sentence = f"has labels up to 2, and classes of shape {list(classes.shape)}; give a list of names"
    assert sentence in " ".join(result.output.split())


@pytest.mark.parametrize("classes", [np.arange(3), np.eye(3), np.array([b"ant", b"bee", b"cow"]), np.array(NAMES)])
def test_names_of_other_kinds(classes: Array, here: Path) -> None:
    """Numbers are no names; bytes are."""
    np.savez("d.npz", train_images=noise(9), test_images=noise(3), train_labels=np.arange(9) % 3,
             test_labels=np.arange(3), classes=classes)  # fmt: skip
    assert sets.load("d.npz").names == (NAMES if classes.dtype.kind in "SU" else ())


def test_labels_that_are_no_numbers_are_refused_as_such(here: Path) -> None:
    np.savez("d.npz", train_images=noise(3), train_labels=np.array(NAMES), classes=np.array(NAMES))
    with pytest.raises(UserError, match="no whole numbers"):
        sets.load("d.npz")


@pytest.mark.parametrize("words", ["data check d.npz", "search raw test:0 --data d.npz --device cpu"])
def test_names_are_quoted(words: str, here: Path, run_cli: Callable[..., Any]) -> None:
    """Neither a terminal nor rich takes them for orders."""
    names = ["\x1b[31mred", "[bold]x[/bold]", "line\rbreak"]
    parts = {"train_images": noise(9), "test_images": noise(3)}
    np.savez("d.npz", **parts, train_labels=np.arange(9) % 3, test_labels=np.arange(3), classes=names)  # type: ignore[arg-type]
    page = run_cli(*words.split()).output
    assert not {"\x1b", "\r"} & {*page}
    assert "\\x1b[31mred" in page
    assert "[bold]x[/bold]" in page


def test_a_table_of_both_kinds_of_labels_says_what_is_right(here: Path, run_cli: Callable[..., Any]) -> None:
    x, labels = RNG.normal(size=(30, 4)), np.arange(30) % 3
    np.savez("f.npz", features=x, labels=labels)
    np.savez("g.npz", features=x, labels=np.eye(3)[labels] + np.eye(3)[0] * (labels > 1)[:, None])
    for sources in (("f.npz", "g.npz"), ("g.npz", "f.npz")):
        found = json.loads(run_cli("knn", *sources, "--device", "cpu", "--json").stdout)
        assert "label with the most votes" in found["protocol"]["several"]
        assert sorted(row.get("labels", 0) for row in found["rows"]) == [0, 3]
