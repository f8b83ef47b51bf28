"""Embeddings that people bring along: every form of file gives the numbers of the .npz, or a sentence."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from safetensors.torch import save_file

from sslzoo.evaluation.given import banks, formats
from sslzoo.evaluation.given.banks import Reading
from sslzoo.tools.errors import UserError

CLASSES = np.array(["ape", "bee", "cöw, old"])
WIDE = [f"f{i}" for i in range(6)]


class Made:
    """Rows around three centres; every fourth asks."""

    def __init__(self, n: int = 120) -> None:
        rng = np.random.default_rng(0)
        self.labels = rng.integers(0, 3, n)
        self.features = (rng.normal(size=(3, 6))[self.labels] + rng.normal(size=(n, 6))).astype(np.float32)
        self.test = np.arange(n) % 4 == 0
        self.files = np.array([f"pict ures/ünder {i}.png" for i in range(n)])

    def table(self) -> pd.DataFrame:
        about = {"file": self.files, "split": np.where(self.test, "test", "train"), "label": CLASSES[self.labels]}
        return pd.concat([pd.DataFrame(about), pd.DataFrame(self.features, columns=WIDE)], axis=1)


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


@pytest.fixture
def expected(made, tmp_path, numbers):
    """What the .npz of ``sslzoo embed`` gives."""
    path = tmp_path / "usual.npz"
    arrays = {}
    for split, rows in (("train", ~made.test), ("test", made.test)):
        arrays |= {f"{split}_features": made.features[rows], f"{split}_labels": made.labels[rows]}
    np.savez(path, classes=CLASSES, **arrays)
    return numbers(path)


@pytest.fixture
def numbers(run_cli):
    """Return kNN, recall and retrieval of a command line, which has to do."""

    def of(*words):
        done = run_cli("knn", *map(str, words), "--json")
        assert done.exit_code == 0, done.output
        row = json.loads(done.stdout)["rows"][0]
        return {key: row[key] for key in ("knn", "recall", "retrieval", "bank", "queries", "health")}

    return of


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """As numpy and pandas print float32: with the digits that it takes."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows([[*map(str, row)] for row in table.itertuples(index=False)])
    return path


# ---- one set in every form gives one result


def test_a_csv_gives_the_numbers_of_the_npz(made, expected, numbers, tmp_path):
    assert numbers(write_csv(tmp_path / "e.csv", made.table())) == expected


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("groups", [None, 7])
def test_a_parquet_gives_the_numbers_of_the_npz(made, expected, numbers, tmp_path, lists, groups):
    pytest.importorskip("pyarrow")
    table = made.table()
    if lists:
        table = table[["file", "split", "label"]].assign(embedding=[*made.features])
    table.to_parquet(tmp_path / "e.parquet", row_group_size=groups)
    assert numbers(tmp_path / "e.parquet") == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_folder_of_shards_is_one_source(made, expected, numbers, tmp_path, suffix):
    table, folder = made.table(), tmp_path / "shards"
    folder.mkdir()
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    for i, start in enumerate((0, 50, 51)):
        part = table.iloc[start : (50, 51, None)[i]]
        name = folder / f"part-{i:03}{suffix}"
        part.to_parquet(name) if suffix == ".parquet" else write_csv(name, part)
    assert numbers(folder) == expected


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_arrays_under_other_names_give_the_numbers_of_the_npz(made, expected, numbers, tmp_path, suffix):
    for split, rows in (("bank", ~made.test), ("queries", made.test)):
        arrays = {"emb": made.features[rows], "animal": made.labels[rows]}
        save(tmp_path / f"{split}{suffix}", arrays)
    assert numbers("--bank", tmp_path / f"bank{suffix}", "--queries", tmp_path / f"queries{suffix}") == expected


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ""])
@pytest.mark.parametrize("wordy", [False, True])
def test_arrays_of_each_split_give_the_numbers_of_the_npz(made, expected, numbers, tmp_path, suffix, wordy):
    """Under the names of `sslzoo embed`, in any file of arrays, with classes as numbers or as texts."""
    arrays: dict[str, np.ndarray] = {}
    labels = CLASSES[made.labels] if wordy else made.labels
    for split, rows in (("train", ~made.test), ("test", made.test)):
        arrays |= {f"{split}_features": made.features[rows], f"{split}_labels": labels[rows]}
    path = tmp_path / f"e{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == "":
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    elif suffix == ".pt":
        torch.save({k: v.tolist() if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in arrays.items()}, path)
    elif wordy:
        pytest.skip("has no texts")
    else:
        save(path, arrays)
    assert numbers(path) == expected


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "fiu"}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


@pytest.mark.parametrize("labels", [".npy", ".csv", ".txt", ".parquet", ".npz"])
def test_a_bank_and_queries_in_files_of_their_own(made, expected, numbers, tmp_path, labels):
    words = []
    for name, rows in (("bank", ~made.test), ("queries", made.test)):
        np.save(tmp_path / f"{name}.npy", made.features[rows])
        file, own = tmp_path / f"{name}-labels{labels}", CLASSES[made.labels[rows]]
        if labels == ".npy":
            np.save(file, made.labels[rows])
        elif labels == ".npz":
            np.savez(file, anything=made.labels[rows])
        elif labels == ".txt":
            file.write_text("\n".join(own) + "\n", encoding="utf-8")
        elif labels == ".csv":
            pd.DataFrame({"label": own}).to_csv(file, index=False)
        else:
            pytest.importorskip("pyarrow")
            pd.DataFrame({"species": own}).to_parquet(file)
        words += [f"--{name}", tmp_path / f"{name}.npy"]
        words += ["--bank-labels" if name == "bank" else "--query-labels", file]
    assert numbers(*words) == expected


def test_labels_are_joined_by_the_names_of_files(made, expected, numbers, tmp_path):
    """A table of labels in another order, and of more files than were embedded."""
    table = made.table()
    write_csv(tmp_path / "e.csv", table.drop(columns=["label", "split"])[~made.test])
    write_csv(tmp_path / "q.csv", table.drop(columns=["label", "split"])[made.test])
    table[["file", "label"]].sample(frac=1, random_state=1).to_csv(tmp_path / "labels.csv", index=False, sep=";")
    words = ("--bank-labels", tmp_path / "labels.csv", "--query-labels", tmp_path / "labels.csv")
    assert numbers("--bank", tmp_path / "e.csv", "--queries", tmp_path / "q.csv", *words) == expected


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_other_precisions_are_read_as_the_numbers_that_they_are(made, numbers, tmp_path, kind, suffix):
    """The same numbers as float32 of numpy give the same result."""
    tensors = {"features": torch.from_numpy(made.features).to(kind), "labels": torch.from_numpy(made.labels)}
    torch.save(tensors, tmp_path / "a.pt") if suffix == ".pt" else save_file(tensors, tmp_path / "a.safetensors")
    usual = tensors["features"].double().numpy()
    np.savez(
        tmp_path / "b.npz", features=usual if kind == torch.float64 else usual.astype(np.float32), labels=made.labels
    )
    assert numbers(tmp_path / f"a{suffix}") == numbers(tmp_path / "b.npz")


def test_float64_in_a_csv_stays_float64(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 2))
    pd.DataFrame(values, columns=["x0", "x1"]).to_csv(tmp_path / "a.csv", index=False)
    read = formats.read(tmp_path / "a.csv", {}).features
    assert read.dtype == np.float64
    assert np.array_equal(read, values)


# ---- splits


def test_one_set_without_splits_asks_itself(made, numbers, tmp_path):
    table = made.table().drop(columns="split")
    found = numbers(write_csv(tmp_path / "e.csv", table))
    assert (found["bank"], found["queries"]) == (120, 120)
    rows = made.features / np.linalg.norm(made.features, axis=1, keepdims=True)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -2)
    by_hand = (made.labels[similar.argmax(axis=1)] == made.labels).mean()
    assert found["knn"]["k1"] == pytest.approx(by_hand)


def test_a_share_that_asks_is_drawn_by_the_seed_and_said(made, run_cli, tmp_path):
    path = write_csv(tmp_path / "e.csv", made.table().drop(columns="split"))
    found = [run_cli("knn", str(path), "--hold-out", "0.25", "--seed", str(s), "--json") for s in (0, 0, 1)]
    rows = [json.loads(one.stdout)["rows"][0] for one in found]
    assert (rows[0]["bank"], rows[0]["queries"]) == (90, 30)
    assert rows[0]["knn"] == rows[1]["knn"]
    assert "30 of 120 rows ask, drawn by seed 0" in rows[0]["note"]
    assert "seed 1" in rows[2]["note"]


@pytest.mark.parametrize("words", [["e.npz"], ["--bank", "e.npz"]])
def test_a_share_that_leaves_no_bank_is_refused(tmp_path, monkeypatch, bad_input, words):
    """Of one file, and of a bank's: of three rows, all are less than 0.99 x 3 from the first."""
    monkeypatch.chdir(tmp_path)
    np.savez("e.npz", features=np.eye(3), labels=np.arange(3))
    bad_input("e.npz has 3 rows, too few for --hold-out 0.99", "knn", *words, "--hold-out", "0.99")


def test_rows_of_a_validation_split_are_left_out_beside_a_test_split(made, numbers, expected, tmp_path, run_cli):
    table = made.table()
    more = table.iloc[:10].assign(split="val")
    path = write_csv(tmp_path / "e.csv", pd.concat([table, more]))
    assert numbers(path) == expected
    assert "10 rows of the validation split are left out" in run_cli("knn", str(path)).output.replace("\n", " ")


def test_a_row_without_features_is_left_out_and_said(made, tmp_path, run_cli):
    table = made.table().astype(dict.fromkeys(WIDE, object))
    table.loc[[3, 7], WIDE] = ""
    done = run_cli("knn", str(write_csv(tmp_path / "e.csv", table)), "--json")
    row = json.loads(done.stdout)["rows"][0]
    assert row["bank"] + row["queries"] == 118
    assert "2 of 120 rows have no features and are left out" in row["note"]


# ---- what cannot be known is refused with the flag that decides it


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"a": np.ones((4, 2)), "b": np.ones((4, 3))},
            "has a [4, 2], b [4, 3], and no name says which are the features",
        ),
        ({"a": np.ones(4)}, "say so with --column features=NAME"),
        ({"features": np.ones((4, 2)), "embedding": np.ones((4, 3))}, "features and embedding, each of which may be"),
        ({"features": np.ones((4, 2)), "labels": np.arange(3)}, "4 rows of features and 3 labels"),
        ({"features": np.ones((4, 2, 2))}, "has features [4, 2, 2], a map of each; pool them"),
        ({"features": np.array([["a", "b"]])}, "have to be numbers"),
        ({"features": np.ones((0, 2))}, "neither empty"),
    ],
)
def test_arrays_that_say_too_little(arrays, sentence, tmp_path, bad_input):
    np.savez(tmp_path / "a.npz", **arrays)
    bad_input(sentence, "knn", str(tmp_path / "a.npz"))


def test_a_person_says_which_column_is_what(made, expected, numbers, tmp_path):
    table = made.table().rename(columns={"label": "zoo", "split": "part"})
    table = table.assign(**{f"g{i}": 0.5 for i in range(6)}, target="x")
    path = write_csv(tmp_path / "e.csv", table)
    words = ("--column", "features=f", "--column", "labels=zoo", "--column", "splits=part")
    assert numbers(path, *words) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("0.1,0.2\n0.3,0.4\n", "begins with numbers"),
        ("f0,f1\n", "has no rows"),
        ("f0,f1\n1,2\n3\n", "has 1 cells in line 3, and 2 names"),
        ("f0,f0\n1,2\n", "has two columns 'f0'"),
        ("f0,f1,g0,g1,label\n1,2,3,4,a\n", "several series of columns (f, g)"),
        ("file,label\nx.png,a\n", "has no column of numbers"),
        ("f0,f1,label,class\n1,2,a,b\n", "has label and class, each of which may be the labels"),
        ("f0,f1,split\n1,2,fold3\n", "has rows of the split 'fold3'"),
        ("f0,f1\n1,2\n" + "3,4\n" * 20 + "5,x\n", "no number among its features"),
        ("f0,f1,label\n1,nan,a\n2,3,b\n", "not finite"),
    ],
)
def test_a_csv_that_cannot_be_read(text, sentence, tmp_path, bad_input):
    (tmp_path / "e.csv").write_text(text)
    bad_input(sentence, "knn", str(tmp_path / "e.csv"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.csv"], "There is no file nowhere.csv"),
        (["nowhere.npz"], "There is no file nowhere.npz"),
        (["nowhere.npy"], "nowhere.npy"),
        (["nowhere.parquet"], "nowhere.parquet"),
        (["--queries", "q.npy"], "--bank is missing"),
        (["--bank", "b.npy", "--query-labels", "q.npy"], "--query-labels are of --queries"),
        (["raw", "--column", "labels=x"], "are for files of features, and no source is one"),
        (["raw", "--hold-out", "2"], "--hold-out cannot be 2"),
        (["x.npz", "--column", "labels"], "--column cannot be 'labels'"),
        (["x.npz", "--column", "colour=a"], "no"),
        ([], "Name at least one source"),
    ],
)
def test_words_that_cannot_be(words, sentence, bad_input):
    bad_input(sentence, "knn", *words)


def test_a_pickle_is_never_run(tmp_path, bad_input):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"features": torch.ones(3, 2), "x": Evil()}, tmp_path / "a.pt", pickle_protocol=2)
    np.save(tmp_path / "b.npy", np.array([Evil(), Evil()], dtype=object), allow_pickle=True)
    for name in ("a.pt", "b.npy"):
        bad_input("", "knn", "--bank", str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_labels_of_two_kinds_are_refused(tmp_path, bad_input):
    np.savez(tmp_path / "b.npz", features=np.ones((3, 2)), labels=np.array(["a", "b", "c"]))
    np.savez(tmp_path / "q.npz", features=np.ones((3, 2)), labels=np.arange(3))
    words = ("--bank", str(tmp_path / "b.npz"), "--queries", str(tmp_path / "q.npz"))
    bad_input("labels that are texts and others that are numbers", "knn", *words)
    np.savez(tmp_path / "w.npz", features=np.ones((3, 5)), labels=np.arange(3))
    bad_input("2 columns of features and", "knn", "--bank", words[1], "--queries", str(tmp_path / "w.npz"))


def test_text_labels_are_one_numbering_over_bank_and_queries(tmp_path):
    """A class that the queries alone have must not take the number of another."""
    np.savez(tmp_path / "b.npz", features=np.eye(3), labels=np.array(["b", "d", ""]))
    np.savez(tmp_path / "q.npz", features=np.eye(3), labels=np.array(["c", "d", "b"]))
    given = banks.Given(bank=tmp_path / "b.npz", queries=tmp_path / "q.npz")
    arrays = banks.embedding_between(given, Reading()).arrays
    assert arrays["classes"].tolist() == ["b", "c", "d"]
    assert arrays["train_labels"].tolist() == [0, 2, -1]
    assert arrays["test_labels"].tolist() == [1, 2, 0]


def test_an_npy_is_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 2), np.float32))
    assert isinstance(formats.read(tmp_path / "a.npy", {}).features, np.memmap)


# ---- what `sslzoo embed` writes


@pytest.fixture
def photos(tmp_path):
    """Two kinds in train/ and test/, one picture of each split broken, and names with spaces, umlauts and commas."""
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    for i in range(40):
        place = folder / ("train", "test")[i % 4 == 0] / ("ape", "b, ee")[i % 2 if i % 4 else i // 4 % 2]
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"ünder {i:02}.png"
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
        if i in (5, 8):
            file.write_bytes(b"broken")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_a_row_for_each_file_and_is_joined_back_by_pandas(photos, run_cli, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"e{suffix}"
    done = run_cli("embed", "raw", "--data", str(photos), "--image-size", "10", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    files = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    assert sorted(table.file) == files  # no row lost
    assert table.split.tolist() == [Path(name).parts[0] for name in table.file]
    assert table.label.tolist() == [Path(name).parts[1] for name in table.file]
    width = [name for name in table.columns if name not in ("file", "split", "label")]
    assert width == [f"f{i}" for i in range(3 * 10 * 10)]
    for row in table.itertuples(index=False):  # and none shifted
        numbers = np.array(row[3:], float)
        try:
            with Image.open(photos / row.file) as picture:
                pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        except UnidentifiedImageError:
            assert np.isnan(numbers).all()
            continue
        small = F.interpolate(pixels.float(), (10, 10), mode="bilinear", antialias=True).round() / 255
        assert np.abs(numbers - small.flatten().numpy()).max() < 1e-6
    bad = json.loads(done.stdout)["bad"]
    assert len(bad) == 2
    assert table[width].isna().all(axis=1).sum() == 2


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_what_is_written_is_a_source_with_the_same_numbers(photos, numbers, run_cli, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    data = ("--data", photos, "--image-size", "12")
    usual = numbers("raw", *data)
    out = tmp_path / f"e{suffix}"
    assert run_cli("embed", "raw", *map(str, data), "--out", str(out)).exit_code == 0
    assert numbers(out) == usual
    if suffix == ".npz":
        with np.load(out) as file:
            found = dict(file)
        assert found["test_files"].tolist() == sorted(found["test_files"].tolist())
        assert found["train_files"][0] == "train/ape/ünder 02.png"
        assert found["classes"].tolist() == ["ape", "b, ee"]
        assert len(found["train_files"]) == len(found["train_features"]) == 29


@pytest.mark.parametrize("names", [("red", "round"), ()])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_several_labels_a_row_are_columns_of_0_and_1(run_cli, tmp_path, numbers, names, suffix):
    """By their names, or by their numbers where they have none."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 30), ("test", 12)):
        arrays |= {f"{split}_features": rng.normal(size=(n, 3)).astype(np.float32)}
        arrays |= {f"{split}_labels": rng.integers(0, 2, (n, 2))}
    np.savez(tmp_path / "m.npz", **arrays, **({"classes": np.array(names)} if names else {}))
    out = tmp_path / f"m{suffix}"
    assert run_cli("embed", str(tmp_path / "m.npz"), "--out", str(out)).exit_code == 0
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    marks = table[[f"label:{name}" for name in names or "01"]].astype(int)
    assert marks.to_numpy()[:30].tolist() == arrays["train_labels"].tolist()
    assert numbers(out) == numbers(tmp_path / "m.npz")


def test_a_file_of_another_kind_is_refused(bad_input):
    bad_input("has to end in .npz, .csv or .parquet", "embed", "raw", "--out", "e.xlsx")


def test_a_dictionary_has_no_label_where_a_cell_is_missing(tmp_path: Path) -> None:
    """As Categorical of pandas is written: numpy would take a missing cell for the last class."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from sslzoo.evaluation.given.formats import read

    labels = [None, "a", "b", None, "c"]
    rows = arrow.array(np.eye(5, 3).tolist())
    table = arrow.table({"label": arrow.array(labels).dictionary_encode(), "features": rows})
    parquet.write_table(table, tmp_path / "d.parquet")
    found = read(tmp_path / "d.parquet", {}).labels
    assert found is not None
    assert found.tolist() == ["", "a", "b", "", "c"]


def test_a_missing_whole_number_in_a_later_group_is_no_number(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from sslzoo.evaluation.given.formats import read

    columns = {f"f{i}": arrow.array([1, 2, 3, 4, None, 6], arrow.int64()) for i in range(2)}
    parquet.write_table(arrow.table(columns), tmp_path / "g.parquet", row_group_size=2)
    assert read(tmp_path / "g.parquet", {}).features[:, 0].tolist() == [1, 2, 3, 4, 6]


def test_columns_of_labels_are_known_by_their_names(tmp_path: Path) -> None:
    from sslzoo.evaluation.given.banks import Given, Reading, embedding_between

    (tmp_path / "b.csv").write_text("f0,f1,label:cat,label:dog\n1,0,1,0\n0,1,0,1\n")
    (tmp_path / "q.csv").write_text("f0,f1,label:dog,label:cat\n1,0,0,1\n0,1,1,0\n")
    made = embedding_between(Given(bank=tmp_path / "b.csv", queries=tmp_path / "q.csv"), Reading())
    assert made.arrays["train_labels"].tolist() == made.arrays["test_labels"].tolist() == [[1, 0], [0, 1]]
    (tmp_path / "q.csv").write_text("f0,f1,label:dog,label:eel\n1,0,0,1\n")
    with pytest.raises(UserError, match="have not the same columns of labels"):
        embedding_between(Given(bank=tmp_path / "b.csv", queries=tmp_path / "q.csv"), Reading())


def test_names_that_a_table_cannot_hold_as_they_are(tmp_path: Path) -> None:
    """A carriage return is quoted, and bytes that are no UTF-8 are escapes: pandas reads a row for each image."""
    import pandas as pd

    from sslzoo.evaluation.embedding import Embedding
    from sslzoo.evaluation.written.writing import write

    names = ["a\rb.jpg", "c,d.jpg", os.fsdecode(b"caf\xe9.jpg"), 'q"q.jpg']
    arrays = {"train_features": np.eye(4, 2, dtype=np.float32), "train_files": np.array(names)}
    write(tmp_path / "n.csv", Embedding("s", "d", arrays))
    found = pd.read_csv(tmp_path / "n.csv")
    assert found["file"].tolist() == [*names[:2], "caf\\udce9.jpg", names[3]]
