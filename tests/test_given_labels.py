"""Labels in tables and splits in folders of their own: what pandas says of a table is what an image's label is."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

import sslzoo
from sslzoo.cli import main
from sslzoo.data import sets
from sslzoo.data.given.options import DataOptions
from sslzoo.data.given.places import Listing, list_data
from sslzoo.data.splits import Dataset, Split
from sslzoo.evaluation import encode, sources
from sslzoo.training import runs

NAMES = ("one.png", "two words.png", "sub/three.png", "sub/deep/Straße é.png", "sub/five.png", "6.png")
WORDS = ("cat", "dog", "cat", "ünïcode, with a comma", "dog", "cat")
QUICK = {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32", "backbone": "small"}


def picture(path: Path, seed: int, side: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def album(root: Path, names: Any = NAMES, first: int = 0) -> Path:
    """A folder of small pictures of these names, each another."""
    for seed, name in enumerate(names, first):
        picture(root / name, seed)
    return root


def named_labels(dataset: Dataset | Listing, split: Split) -> dict[str, Any]:
    """The label of each image by the path of its file: a name, names, or None."""
    assert split.labels is not None
    rows = split.labels.tolist()
    words: list[Any]
    if split.labels.ndim == 2:
        words = [None if row[0] < 0 else {dataset.names[i] for i, mark in enumerate(row) if mark} for row in rows]
    else:
        words = [dataset.names[row] if row >= 0 else None for row in rows]
    return dict(zip(map(str, split.images.paths), words, strict=True))


def all_labels(root: Path, labels: str | Path, **given: Any) -> dict[str, Any]:
    """The label of each image below a folder by its path there, whatever its split."""
    dataset = list_data(DataOptions(str(root), labels=str(labels), **given))
    found: dict[str, Any] = {}
    for split in {id(one): one for one in (dataset.train, dataset.test, dataset.val) if one is not None}.values():
        found |= named_labels(dataset, split)
    return {Path(path).relative_to(root).as_posix(): label for path, label in found.items()}


@pytest.fixture
def twenty(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A folder of 40 pictures without order, and the table of their labels."""
    names = [f"{'abc'[i % 3]}/{i:02}.png" for i in range(40)]
    root = album(tmp_path / "set", names)
    return root, pd.DataFrame({"file": names, "label": [f"class {i % 4}" for i in range(40)]})


WRITTEN: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "commas": lambda t, p: t.to_csv(p, index=False),
    "an index": lambda t, p: t.to_csv(p),
    "semicolons": lambda t, p: t.to_csv(p, index=False, sep=";"),
    "tabs": lambda t, p: t.to_csv(p, index=False, sep="\t"),
    "a mark of bytes": lambda t, p: t.to_csv(p, index=False, encoding="utf-8-sig"),
    "utf-16": lambda t, p: t.to_csv(p, index=False, encoding="utf-16", sep="\t"),
    "all quoted": lambda t, p: t.to_csv(p, index=False, quoting=1),
    "lines of Windows": lambda t, p: t.to_csv(p, index=False, lineterminator="\r\n"),
    "Excel's first line": lambda t, p: p.write_text("sep=;\n" + t.to_csv(index=False, sep=";")),
    "no head": lambda t, p: t.to_csv(p, index=False, header=False),
    "other heads": lambda t, p: t.rename(columns={"file": "Image Path", "label": "Species"}).to_csv(p, index=False),
    "the label first": lambda t, p: t[["label", "file"]].to_csv(p, index=False),
    "letters composed otherwise": lambda t, p: t.assign(
        file=[unicodedata.normalize("NFD", name) for name in t["file"]]
    ).to_csv(p, index=False),
    "backslashes": lambda t, p: t.assign(file=t["file"].str.replace("/", "\\")).to_csv(p, index=False),
    "dots": lambda t, p: t.assign(file="./x/../" + t["file"]).to_csv(p, index=False),
    "bare names": lambda t, p: t.assign(file=t["file"].str.split("/").str[-1]).to_csv(p, index=False),
    "no suffixes": lambda t, p: t.assign(file=t["file"].str.split("/").str[-1].str[:-4]).to_csv(p, index=False),
    "space": lambda t, p: t.assign(file=" " + t["file"] + " ", label=t["label"] + "  ").to_csv(p, index=False),
    "rows twice": lambda t, p: pd.concat([t, t]).to_csv(p, index=False),
    "empty lines": lambda t, p: p.write_text(t.to_csv(index=False).replace("\n", "\n\n")),
    "another order": lambda t, p: t.iloc[::-1].to_csv(p, index=False),
}  # fmt: skip


@pytest.mark.parametrize("how", WRITTEN)
def test_a_table_gives_each_image_its_label(how: str, tmp_path: Path) -> None:
    root = album(tmp_path / "set", [*NAMES, *(f"more/{i}.jpg.png" for i in range(30))])
    table = pd.DataFrame({"file": NAMES, "label": WORDS})
    if how in ("no suffixes", "bare names"):
        assert table["file"].str.split("/").str[-1].is_unique
    WRITTEN[how](table, tmp_path / "labels.csv")
    found = all_labels(root, tmp_path / "labels.csv")
    assert {name: found[name] for name in NAMES} == dict(zip(NAMES, WORDS, strict=True))
    assert {label for name, label in found.items() if name not in NAMES} == {None}
    assert len(found) == 36


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("where", ["below the data", "below the table", "whole", "from here"])
def test_paths_may_begin_anywhere(
    where: str, here: bool, twenty: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, table = twenty
    starts = {"below the data": "", "below the table": "../set/", "whole": f"{root}/", "from here": "set/"}
    (place := root.parent / "tables").mkdir()
    monkeypatch.chdir(root.parent)
    table.assign(file=starts[where] + table["file"]).to_csv(place / "l.csv", index=False)
    assert all_labels(Path("set") if here else root, place / "l.csv") == dict(
        zip(table["file"], table["label"], strict=True)
    )


def test_numbers_are_classes_in_their_order_and_negative_ones_are_none(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    numbers = [[1, 2, 10, -1, np.nan][i % 5] for i in range(40)]  # which pandas writes as 1.0, 2.0, ...
    table.assign(label=numbers).to_csv(root.parent / "l.csv", index=False)
    dataset = sets.find(DataOptions(str(root), labels=str(root.parent / "l.csv")))
    assert dataset.names == ("1", "2", "10")
    right = {name: str(int(x)) if x > 0 else None for name, x in zip(table["file"], numbers, strict=True)}
    assert all_labels(root, root.parent / "l.csv") == right


def test_columns_of_0_and_1_are_several_labels(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    rng = np.random.default_rng(0)
    marks = pd.DataFrame(rng.integers(0, 2, (40, 3)), columns=["red", "blue", "green"])
    marks.insert(0, "id", table["file"])
    marks.loc[5, "red"] = np.nan  # of which nothing is known
    marks.to_csv(root.parent / "l.csv", index=False)
    right = {
        row["id"]: None if place == 5 else {name for name in ("red", "blue", "green") if row[name] == 1}
        for place, row in marks.iterrows()
    }
    assert all_labels(root, root.parent / "l.csv") == right
    lists = pd.DataFrame({"file": table["file"], "labels": ["|".join(sorted(x or ())) for x in right.values()]})
    lists.to_csv(root.parent / "lists.csv", index=False)
    found = all_labels(root, root.parent / "lists.csv")
    assert found == {name: x or None for name, x in right.items()}  # an empty cell says nothing


def test_columns_with_one_1_in_each_row_are_classes(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    pd.get_dummies(table.set_index("file")["label"]).to_csv(root.parent / "l.csv")
    assert all_labels(root, root.parent / "l.csv") == dict(zip(table["file"], table["label"], strict=True))


def test_a_column_is_named_behind_a_colon(twenty: tuple[Path, pd.DataFrame], refused: Any) -> None:
    root, table = twenty
    file = root.parent / "l.csv"
    table.rename(columns={"label": "fine"}).assign(coarse=table["label"].str[-1].isin(["0", "1"])).to_csv(
        file, index=False
    )
    with refused("has the columns fine, coarse", f"as in --labels {file}:fine"):
        all_labels(root, file)
    assert all_labels(root, f"{file}:fine") == dict(zip(table["file"], table["label"], strict=True))
    assert all_labels(root, f"{file}:label=fine") == all_labels(root, f"{file}:fine")  # as of other forms of data
    found = all_labels(root, f"{file}:coarse")
    assert found == {name: str(label[-1] in "01") for name, label in zip(table["file"], table["label"], strict=True)}
    with refused("has no column 'fin'", "did you mean 'fine'?"):
        all_labels(root, f"{file}:fin")


def test_a_column_of_splits_is_taken(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    words = ["train", "valid", "Test", "train"] * 10
    table.assign(split=words).to_csv(root.parent / "l.csv", index=False)
    dataset = sets.find(DataOptions(str(root), labels=str(root.parent / "l.csv")))
    assert dataset.test is not None
    assert dataset.val is not None
    parts = {"train": dataset.train, "valid": dataset.val, "Test": dataset.test}
    for word, split in parts.items():
        right = {f"{root}/{name}" for name, one in zip(table["file"], words, strict=True) if one == word}
        assert {*map(str, split.images.paths)} == right
    assert "splits are those of its column: 20 train, 10 val, 10 test" in dataset.notes


def test_half_labelled_data_train_on_all_and_are_scored_on_the_labelled(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    table.iloc[:24].to_csv(root.parent / "l.csv", index=False)
    dataset = sets.find(DataOptions(str(root), labels=str(root.parent / "l.csv")))
    assert dataset.test is not None
    labelled = {f"{root}/{name}" for name in table["file"][:24]}
    bank, test = ({*map(str, split.images.paths)} for split in (dataset.bank, dataset.test))
    assert bank | test == labelled
    assert not bank & test
    assert {*map(str, dataset.train.images.paths)} == {*map(str, root.rglob("*.png"))} - test
    notes = "\n".join(dataset.notes)
    assert "16 images have no row in l.csv" in notes
    assert "without a label, neither in kNN's bank nor among its queries: 16 images" in notes


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("file,label\na/00.png,x\na/00.png,y\n", ["says two things of a/00.png", "x in line 2 and y in line 3"]),
        ("file,label\nq.png,x\nr.png,y\n", ["No row of", "names an image", "q.png, x"]),
        ("file,label\na/00.png,x\nb/01.png,y,z\n", ["has 3 cells in line 3 and 2 in the first"]),
        ("file\na/00.png\n", ["has one column; give the file's name and its label"]),
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ("file,label\n", ["No row of"]),
        ("file,red,blue\na/00.png,0,1\nb/01.png,2,1\n", ["has the columns red, blue"]),
        ("file,label\n,x\n00.png,x\n", ["00.png is the name of several images"]),
    ],
    ids=["two labels", "other files", "a comma", "one column", "empty", "blank", "a head", "counts", "ambiguous"],
)  # fmt: skip
def test_a_table_that_cannot_be_right_is_refused(
    rows: str, words: list[str], twenty: tuple[Path, pd.DataFrame], refused: Any
) -> None:
    root, _ = twenty
    picture(root / "z" / "00.png", 99)
    (root.parent / "l.csv").write_text(rows)
    with refused(*words):
        all_labels(root, root.parent / "l.csv")


def test_bytes_that_are_no_text_are_refused(twenty: tuple[Path, pd.DataFrame], refused: Any) -> None:
    root, table = twenty
    table.assign(label="Stra\xdfe").to_csv(root.parent / "l.csv", index=False, encoding="latin-1")
    with refused("is not in UTF-8; save it as 'CSV UTF-8'"):
        all_labels(root, root.parent / "l.csv")


def test_rows_of_files_that_are_not_there_are_counted(twenty: tuple[Path, pd.DataFrame]) -> None:
    root, table = twenty
    (root / "b" / "01.png").unlink()
    table.to_csv(root.parent / "l.csv", index=False)
    notes = sets.find(DataOptions(str(root), labels=str(root.parent / "l.csv"))).notes
    assert "1 row of l.csv is of no image here: b/01.png in line 3" in notes


def test_a_path_with_folders_is_never_another_image(twenty: tuple[Path, pd.DataFrame]) -> None:
    """``x/00.png`` is not ``a/00.png``, though that is the only one of this name."""
    root, table = twenty
    table.assign(file=["x/00.png", *table["file"][1:]]).to_csv(root.parent / "l.csv", index=False)
    assert all_labels(root, root.parent / "l.csv")["a/00.png"] is None


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_metadata_beside_the_images_is_read_as_hugging_face_has_it(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 40)):
        names = [f"{i}.png" for i in range(20)]
        album(tmp_path / "set" / split, names, first)
        table = pd.DataFrame({"file_name": names, "label": [i % 2 + (split == "test") for i in range(20)]})
        table.to_csv(tmp_path / "set" / split / "metadata.csv", index=False)
    dataset = sets.find(str(tmp_path / "set"))
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.test), dataset.names) == (20, 20, ("0", "1", "2"))
    train, test = named_labels(dataset, dataset.train), named_labels(dataset, dataset.test)
    assert {Path(path).stem: label for path, label in train.items()} == {str(i): str(i % 2) for i in range(20)}
    assert {Path(path).stem: label for path, label in test.items()} == {str(i): str(i % 2 + 1) for i in range(20)}


def test_metadata_without_labels_leave_the_folders(tmp_path: Path) -> None:
    root = album(tmp_path / "set", [f"{'ab'[i % 2]}/{i}.png" for i in range(30)])
    pd.DataFrame({"file_name": ["a/0.png"], "caption": ["a cat"]}).to_csv(root / "metadata.csv", index=False)
    dataset = sets.find(str(root))
    assert dataset.names == ("a", "b")
    assert any(f"say --labels {root / 'metadata.csv'}:caption" in note for note in dataset.notes)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_level_of_folders_is_the_classes(depth: int, tmp_path: Path) -> None:
    names = [f"k{i % 2}/s{i % 3}/t{i % 5}/{i}.png" for i in range(60)]
    root = album(tmp_path / "set", [*names, "loose.png"])
    dataset = sets.find(DataOptions(str(root), class_depth=depth))
    assert dataset.test is not None
    found = named_labels(dataset, dataset.train) | named_labels(dataset, dataset.test)
    right = {f"{root}/{name}": name.split("/")[depth - 1] for name in names} | {f"{root}/loose.png": None}
    assert {**right, **found} == right
    assert (
        {label for label in found.values() if label}
        == {*dataset.names}
        == {name.split("/")[depth - 1] for name in names}
    )


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    """Which lie anywhere; one that lies in another is no part of it."""
    for place, first in (("x/pictures", 0), ("x/pictures/held", 30), ("y/look", 50)):
        album(tmp_path / place, [f"{'ab'[i % 2]}/{i}.png" for i in range(first, first + 20)], first)
    places = {"train": "x/pictures", "test": "x/pictures/held", "val": "y/look"}
    dataset = sets.find(DataOptions(**{split: str(tmp_path / place) for split, place in places.items()}))
    assert dataset.test is not None
    assert dataset.val is not None
    parts = {"x/pictures": dataset.train, "x/pictures/held": dataset.test, "y/look": dataset.val}
    held = {*(tmp_path / "x/pictures/held").rglob("*.png")}
    for place, split in parts.items():
        right = {*(tmp_path / place).rglob("*.png")} - (held if place == "x/pictures" else set())
        assert {*split.images.paths} == right
        labels = named_labels(dataset, split)
        assert all(label == Path(path).parent.name for path, label in labels.items())


@pytest.mark.parametrize("inside", [True, False])
def test_unlabelled_images_train_and_are_no_class(inside: bool, tmp_path: Path) -> None:
    root = album(tmp_path / "set", [f"{'ab'[i % 2]}/{i}.png" for i in range(40)])
    apart = album(root / "unsorted" if inside else tmp_path / "elsewhere", [f"u/{i}.png" for i in range(12)], 100)
    dataset = sets.find(DataOptions(str(root), unlabelled=str(apart)))
    assert dataset.names == ("a", "b")
    assert dataset.test is not None
    trained = {*dataset.train.images.paths}
    assert {*apart.rglob("*.png")} <= trained
    assert trained | {*dataset.test.images.paths} == {*root.rglob("*.png"), *apart.rglob("*.png")}
    assert not {*apart.rglob("*.png")} & {*dataset.bank.images.paths, *dataset.test.images.paths}


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_finds_its_labels_and_splits_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed, moved, and looked at by kNN from another folder."""
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "a" / "train", [f"{i}.png" for i in range(32)])
    album(tmp_path / "a" / "test", [f"t{i}.png" for i in range(12)], 50)
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png")]
    pd.DataFrame({"f": names, "label": [int(path.stem.strip("t")) % 3 for path in names]}).to_csv("l.csv", index=False)
    given = {"train": "a/train", "test": "a/test", "labels": "l.csv"}
    whole = sslzoo.train("simsiam", **given, **{**QUICK, "epochs": 2}, out="whole")
    half, third = (
        sslzoo.train("simsiam", **given, **{**QUICK, "epochs": 2}, out=str(tmp_path / out), stop_after=1)
        for out in ("half", "third")
    )
    kept = json.loads((Path(half.run) / "run.json").read_text())["options"]
    assert {key: kept[key] for key in given} == {key: str(tmp_path / place) for key, place in given.items()}
    assert kept["data"] is None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ended = sslzoo.resume(tmp_path / half.run)
    assert (ended.loss, ended.knn) == (whole.loss, whole.knn)
    embedded = encode.embed(str(tmp_path / half.run), sources.EmbedOptions(workers=0))
    assert embedded.note is None
    assert len(embedded.arrays["train_features"]) == 32
    right = [path.stem.strip("t") for path in (tmp_path / "a" / "test").rglob("*.png")]
    assert sorted(embedded.arrays["test_labels"]) == sorted(int(stem) % 3 for stem in right)

    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(sslzoo.UserError, match="say with --train where they are"):
        sslzoo.resume(tmp_path / half.run)
    more = {"train": str(tmp_path / "b/train"), "test": str(tmp_path / "b/test")}
    (tmp_path / "l.csv").rename(tmp_path / "m.csv")
    with pytest.raises(sslzoo.UserError, match="say with --labels where they are"):
        sslzoo.resume(third.run, **more)
    moved = sslzoo.resume(third.run, **more, labels=str(tmp_path / "m.csv"))
    assert moved.knn == whole.knn


def test_other_labels_are_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "a", names := [f"{i}.png" for i in range(40)])
    table = pd.DataFrame({"f": names, "label": [i % 3 for i in range(40)]})
    table.to_csv("l.csv", index=False)
    run = sslzoo.train("simsiam", data="a", labels="l.csv", **{**QUICK, "epochs": 2}, out="runs", stop_after=1).run
    table.assign(label=[i % 2 for i in range(40)]).to_csv("l.csv", index=False)
    with pytest.raises(sslzoo.UserError, match="has other labels"):
        sslzoo.resume(run)


def test_labels_are_given_to_a_run_that_had_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "a", names := [f"{i}.png" for i in range(60)])
    pd.DataFrame({"f": names, "label": [i % 3 for i in range(60)]}).to_csv("l.csv", index=False)
    run = sslzoo.train("simsiam", data="a", **QUICK, out="runs").run
    assert runs.read_run(Path(run)).options.labels is None
    result = CliRunner().invoke(main, ["knn", run, "--labels", "l.csv", "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert row["bank"] + row["queries"] == 60
    assert "k1" in row["knn"]


def test_every_command_that_reads_images_takes_the_same_options() -> None:
    data, methods = main.commands["data"], main.commands["methods"]
    every = [main.commands[name] for name in ("train", "ablate", "study", "knn", "embed", "search")]
    every += [data.commands["check"], methods.commands["show"]]  # type: ignore[attr-defined]
    names = {f"--{name.replace('_', '-')}" for name in DataOptions.__dataclass_fields__}
    for command in every:
        options = {one.opts[0]: one for one in command.params if one.opts[0] in names}
        assert options.keys() == names, command.name
        helps = {name: getattr(one, "help", None) for name, one in options.items()}
        assert helps == {one.opts[0]: getattr(one, "help", None) for one in every[0].params if one.opts[0] in names}


def test_data_check_reports_the_labels_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "a", names := [f"{i}.png" for i in range(60)])
    album(tmp_path / "u", [f"{i}.png" for i in range(7)], 80)
    pd.DataFrame({"f": names[:50], "label": ["xy"[i % 2] for i in range(50)]}).to_csv("l.csv", index=False)
    words = ["data", "check", "a", "--labels", "l.csv", "--unlabelled", "u", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["images"], found["splits"]["train"]["classes"]) == (67, {"x": 25, "y": 25})
