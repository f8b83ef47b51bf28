"""Tables of features from elsewhere: which column is which is known by its name, and what is decided is said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from sslzoo.data.given.sheet import MISSING
from sslzoo.evaluation.embedding import Embedding
from sslzoo.evaluation.given.banks import Given, Reading, embedding_between, embedding_of
from sslzoo.evaluation.given.formats import read
from sslzoo.evaluation.given.rows import Rows
from sslzoo.evaluation.tasks import make_task
from sslzoo.tools.errors import UserError


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def between(folder: Path, bank: str, queries: str) -> Embedding:
    """The embedding of two tables of text."""
    given = Given(bank=written(folder / "bank.csv", bank), queries=written(folder / "queries.csv", queries))
    return embedding_between(given, Reading())


# ---- columns of features


def test_columns_without_numbers_are_matched_by_their_names(tmp_path: Path) -> None:
    made = between(tmp_path, "width,depth,label\n1,2,a\n3,4,b\n", "depth,label,width\n20,a,10\n")
    assert made.arrays["train_features"].tolist() == [[1, 2], [3, 4]]
    assert made.arrays["test_features"].tolist() == [[10, 20]]
    with pytest.raises(UserError, match=r"not the same columns of features \(depth, height\)"):
        between(tmp_path, "width,depth,label\n1,2,a\n", "height,label,width\n20,a,10\n")


def test_shards_are_matched_by_their_names_too(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    written(tmp_path / "s" / "0.csv", "width,depth\n1,2\n")
    written(tmp_path / "s" / "1.csv", "depth,width\n20,10\n")
    assert read(tmp_path / "s", {}).features.tolist() == [[1, 2], [10, 20]]


def test_names_beside_none_are_said(tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", np.ones((2, 2)))
    given = Given(bank=written(tmp_path / "b.csv", "width,depth,label\n1,2,a\n"), queries=tmp_path / "q.npy")
    note = embedding_between(given, Reading()).note
    assert note is not None
    assert "columns of features are taken in their order, as width, depth are names that not all" in note


@pytest.mark.parametrize(
    ("head", "features", "said"),
    [
        (",a,b,label", ["a", "b"], None),  # pandas' index
        ("Unnamed: 0,a,b,label", ["a", "b"], None),
        ("id,a,b,label", ["a", "b"], "left out: id"),
        ("Index,a,b,label", ["a", "b"], "left out: Index"),
        ("z,x,y,label", ["z", "x", "y"], None),  # of a map
        ("f0,f1,id,label", ["f0", "f1"], "left out: id"),
    ],
)
def test_a_number_of_the_row_is_no_feature(tmp_path: Path, head: str, features: list[str], said: str | None) -> None:
    names = head.split(",")
    rows = read(written(tmp_path / "t.csv", f"{head}\n7,1,2,a\n9,3,4,b\n"), {})
    assert rows.labels is not None
    assert rows.labels.tolist() == ["a", "b"]
    values = [[7, 1, 2], [9, 3, 4]]
    assert rows.features.tolist() == [[row[names.index(name)] for name in features] for row in values]
    assert said is None or any(said in note for note in rows.notes)


def test_the_axes_of_a_map_are_no_label(tmp_path: Path) -> None:
    path = written(tmp_path / "umap.csv", "x,y\n1,2\n3,4\n5,6\n")
    assert read(path, {}).labels is None
    assert read(path, {}).features.shape == (3, 2)
    chosen = read(path, {"labels": "y"})
    assert chosen.labels is not None
    assert chosen.labels.tolist() == ["2", "4", "6"]


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "f0,f1,f2\n1,2,3\n4,n/a?,6\n")
    with pytest.raises(UserError, match=r"has 'n/a\?' in the column f1, one of f0 to f2; mend it"):
        read(path, {})
    other = read(written(tmp_path / "o.csv", "f0,f1,g1,g2\n1,2,3,a\n4,5,6,b\n"), {})  # of another series
    assert other.features.tolist() == [[1, 2], [4, 5]]


def test_a_parquet_names_a_column_of_text_in_a_series(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"f0": [1.0], "f1": ["?"], "f2": [2.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="in the column f1, one of f0 to f2"):
        read(tmp_path / "t.parquet", {})


# ---- labels


def test_classes_with_zeros_in_front_stay_apart(tmp_path: Path) -> None:
    made = between(tmp_path, "f0,f1,label\n1,2,1\n3,4,01\n5,6,10\n", "f0,f1,label\n1,2,10\n")
    assert made.names == ("01", "1", "10")
    assert made.arrays["train_labels"].tolist() == [1, 0, 2]
    assert made.arrays["test_labels"].tolist() == [2]


def test_numbers_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    made = between(tmp_path, "f0,f1,label\n1,2,1.0\n3,4,0.0\n", "f0,f1,label\n1,2, 1 \n")
    assert made.arrays["train_labels"].tolist() == [1, 0]
    assert made.arrays["test_labels"].tolist() == [1]


def test_a_label_below_0_counts_as_none_and_is_said(tmp_path: Path) -> None:
    made = between(tmp_path, "f0,f1,label\n1,2,-1\n3,4,0\n", "f0,f1,label\n1,2,0\n")
    assert made.note is not None
    assert "1 labels are below 0, which counts as none" in made.note


def test_what_pandas_reads_as_missing_is_missing_and_said(tmp_path: Path) -> None:
    """The words are those of pandas' own reader."""
    words = sorted(MISSING - {""})
    rows = "".join(f"1,2,{word}\n" for word in words)
    text = f"f0,f1,label\n{rows}1,2,none\n3,4,cat\n"
    path = written(tmp_path / "t.csv", text)
    there = pd.read_csv(path)["label"].notna().tolist()
    found = read(path, {})
    assert found.labels is not None
    assert (found.labels != "").tolist() == there
    assert any(f"{len(words)} of label say #N/A or" in note for note in found.notes)


def test_labels_in_a_file_of_their_own_are_missing_by_the_same_words(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.eye(3))
    given = Given(tmp_path / "b.npy", written(tmp_path / "l.csv", "label\ncat\nNA\nnone\n"))
    made = embedding_between(given, Reading())
    assert (made.names, made.arrays["train_labels"].tolist()) == (("cat", "none"), [0, -1, 1])
    assert made.note is not None
    assert "1 of labels say NA, which counts as none" in made.note


def test_spaces_around_labels_and_splits_are_none_of_theirs(tmp_path: Path) -> None:
    found = read(
        written(tmp_path / "t.csv", "file,f0,f1,label,split\n a.jpg,1,2, cat , train\nb.jpg,1,2,cat,test\n"), {}
    )
    assert found.labels is not None
    assert found.splits is not None
    assert found.files is not None
    assert found.labels.tolist() == ["cat", "cat"]
    assert found.splits.tolist() == ["train", "test"]
    assert found.files.tolist() == [" a.jpg", "b.jpg"]  # a name may begin with one


def test_labels_that_are_lists_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"f0": [1.0, 2.0], "f1": [1.0, 2.0], "label": [["a", "b"], ["a"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has labels that are lists; give one a row"):
        read(tmp_path / "t.parquet", {})


def test_labels_that_are_taken_in_order_are_said_and_never_where_there_is_none(tmp_path: Path) -> None:
    vectors = {f"{i}.jpg": torch.tensor([float(i), 1.0]) for i in range(12)}
    save_file(vectors, tmp_path / "b.safetensors")
    np.save(tmp_path / "l.npy", np.arange(12) % 2)
    with pytest.raises(UserError, match="has a vector for each name, in no order of its own; give --bank-labels"):
        embedding_between(Given(tmp_path / "b.safetensors", tmp_path / "l.npy"), Reading())
    written(tmp_path / "l.csv", "label,file\n" + "".join(f"{i % 2},{i}.jpg\n" for i in range(12)))
    joined = embedding_between(Given(tmp_path / "b.safetensors", tmp_path / "l.csv"), Reading())
    assert joined.arrays["train_labels"].tolist() == (joined.arrays["train_features"][:, 0] % 2).tolist()
    np.save(tmp_path / "b.npy", np.eye(12))
    made = embedding_between(Given(tmp_path / "b.npy", tmp_path / "l.csv"), Reading())
    assert made.note is not None
    assert "labels of l.csv are taken in the order of its rows" in made.note


def test_splits_of_a_bank_are_said_to_be_left_alone(tmp_path: Path) -> None:
    made = between(tmp_path, "f0,f1,label,split\n1,2,a,train\n3,4,b,test\n", "f0,f1,label\n1,2,a\n")
    assert made.arrays["train_labels"].tolist() == [0, 1]
    assert made.note is not None
    assert "all rows of bank.csv are taken, of whatever split" in made.note


def test_marks_are_true_and_false_too(tmp_path: Path) -> None:
    """As get_dummies of pandas writes them."""
    marks = pd.get_dummies(pd.Series(["cat", "dog", "cat"])).add_prefix("label:")
    table = pd.concat([pd.DataFrame({"f0": [1, 2, 3], "f1": [4, 5, 6]}), marks], axis=1)
    table.to_csv(tmp_path / "t.csv", index=False)
    found = read(tmp_path / "t.csv", {})
    assert found.labels is not None
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [[1, 0], [0, 1], [1, 0]])


def test_columns_that_are_no_labels_are_named_where_none_are(tmp_path: Path, bad_input) -> None:
    written(tmp_path / "t.csv", "f0,f1,species\n1,2,a\n3,4,b\n")
    with pytest.raises(UserError, match=r"lacks train_labels .*left out: species.*; give one label per row"):
        make_task(embedding_of(tmp_path / "t.csv", Reading()), leave_one_out=False)


def test_rows_without_a_line_of_names_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="begins with numbers"):
        read(written(tmp_path / "t.csv", "0.1,0.2,cat\n0.3,0.4,dog\n"), {})
    written(tmp_path / "l.csv", "cat\ndog\n")
    np.save(tmp_path / "b.npy", np.eye(2))
    with pytest.raises(UserError, match=r"1 labels for the 2 rows of .*, and its first line is taken for the n"):
        embedding_between(Given(tmp_path / "b.npy", tmp_path / "l.csv"), Reading())


def test_labels_of_which_no_two_are_alike_are_refused(tmp_path: Path, bad_input) -> None:
    written(tmp_path / "t.csv", "f0,f1,label\n1,2,a\n3,4,b\n")
    bad_input("has no two rows of one label, so that no neighbour can be right", "knn", str(tmp_path / "t.csv"))


# ---- how tables of text are written


def test_lists_in_a_csv_are_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"embedding": [[0.5, 1.5], [2.0, 3.0]], "label": ["a", "b"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert read(tmp_path / "t.csv", {}).features.tolist() == [[0.5, 1.5], [2, 3]]
    table.rename(columns={"embedding": "z"}).to_csv(tmp_path / "t.csv", index=False)
    found = read(tmp_path / "t.csv", {})
    assert found.features.tolist() == [[0.5, 1.5], [2, 3]]
    assert found.notes == ("features are z, its only column of lists",)
    with pytest.raises(UserError, match=r"has lists in z that are not all of as many numbers, as \[0.1, 0.2\]"):
        read(written(tmp_path / "b.csv", "z,label\n[0.1 0.2],a\n"), {})
    with pytest.raises(UserError, match="not all of as many numbers"):
        read(written(tmp_path / "b.csv", 'z,label\n"[1,2]",a\n[1],b\n'), {})


TABLE = "file,f0,f1,label\nä.jpg,0.5,-1.25,cöw\nb.jpg,2,3e-1,ape\n"


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        (TABLE, "utf-16", "t.csv"),
        (TABLE, "utf-8-sig", "t.CSV"),
        ("sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"), "utf-8", "t.csv"),
        ("\n\n" + TABLE, "utf-8", "t.csv"),
        (TABLE.replace(",", "\t"), "utf-8", "t.tsv"),
        (TABLE.replace(",", ";").replace(".5", ",5").replace("1.25", "1,25"), "utf-8", "t.csv"),
    ],
)
def test_a_table_is_read_however_a_spreadsheet_writes_it(tmp_path: Path, text: str, encoding: str, name: str) -> None:
    found = read(written(tmp_path / name, text, encoding), {})
    assert found.features.tolist() == [[0.5, -1.25], [2, np.float32(0.3)]]
    assert found.labels is not None
    assert found.files is not None
    assert found.labels.tolist() == ["cöw", "ape"]
    assert found.files.tolist() == ["ä.jpg", "b.jpg"]
    assert any("decimal comma" in note for note in found.notes) == ("1,25" in text)


@pytest.mark.parametrize("start", [0, 20])
@pytest.mark.parametrize("parted_by", [",", ";"])
def test_commas_that_part_thousands_are_no_decimal_ones(tmp_path: Path, start: int, parted_by: str) -> None:
    rows = [["1.5", "2", "3"]] * (start + 1) + [['"1,234"', "3", "4"]] + [["1.5", "2", "3"]]
    path = written(tmp_path / "t.csv", "\n".join(parted_by.join(row) for row in [["f0", "f1", "f2"], *rows]))
    with pytest.raises(UserError, match=r"1,234"):
        read(path, {})


# ---- shards


def parquet_shard(path: Path, rows: list[list[float]] | None, kind: str = "float32") -> None:
    """A column of lists of two numbers, or an empty one."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lists = arrow.array(rows or [], arrow.list_(getattr(arrow, kind)()))
    parquet.write_table(arrow.table({"features": lists}), path)


def test_shards_follow_each_other_by_number_and_spark_s_files_are_none(tmp_path: Path) -> None:
    for i in (0, 1, 2, 10, 11):
        parquet_shard(tmp_path / f"shard_{i}.parquet", [[i, i]])
    (tmp_path / "_SUCCESS").touch()
    found = read(tmp_path, {})
    assert found.features[:, 0].tolist() == [0, 1, 2, 10, 11]
    assert any("by the numbers in their names, from shard_0.parquet to shard_11.parquet" in one for one in found.notes)


def test_a_shard_without_rows_adds_none(tmp_path: Path) -> None:
    for name, rows in (("0", []), ("1", [[1.0, 2.0]]), ("2", [])):
        parquet_shard(tmp_path / f"{name}.parquet", rows)
    assert read(tmp_path, {}).features.tolist() == [[1, 2]]


def test_a_narrow_first_shard_narrows_no_other(tmp_path: Path) -> None:
    exact = [[1 + 2.0**-20, 2.0]]
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    half = arrow.array([np.array([1, 2], np.float16)], arrow.list_(arrow.float16()))
    parquet.write_table(arrow.table({"features": half}), tmp_path / "0.parquet")
    parquet_shard(tmp_path / "1.parquet", exact)
    found = read(tmp_path, {}).features
    assert found.dtype == np.float32
    assert found[1].tolist() == exact[0]


def test_a_stray_file_beside_shards_is_named(tmp_path: Path, bad_input) -> None:
    parquet_shard(tmp_path / "0.parquet", [[1.0, 2.0]])
    (tmp_path / "notes.txt").touch()
    bad_input("since it holds notes.txt beside its .parquet files", "knn", str(tmp_path))


def test_lists_that_are_all_missing_in_the_first_group(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lists = arrow.array([None, None, [1.0, 2.0], [3.0, 4.0]], arrow.list_(arrow.float32()))
    parquet.write_table(arrow.table({"features": lists}), tmp_path / "t.parquet", row_group_size=2)
    found = read(tmp_path / "t.parquet", {})
    assert found.features.tolist() == [[1, 2], [3, 4]]
    assert found.notes[-1] == "2 of 4 rows have no features and are left out"


def test_one_name_twice_in_a_parquet_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = arrow.Table.from_arrays([arrow.array([1.0]), arrow.array([2.0])], names=["f0", "f0"])
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has two columns 'f0'"):
        read(tmp_path / "t.parquet", {})


# ---- tensors


def test_a_vector_for_each_file_is_a_row(tmp_path: Path) -> None:
    vectors = {"a.jpg": torch.tensor([1.0, 2.0]), "b.jpg": torch.tensor([3.0, 4.0])}
    torch.save(vectors, tmp_path / "t.pt")
    save_file(vectors, tmp_path / "t.safetensors")
    for name in ("t.pt", "t.safetensors"):
        found: Rows = read(tmp_path / name, {})
        assert found.files is not None
        assert dict(zip(found.files.tolist(), found.features.tolist(), strict=True)) == {
            "a.jpg": [1, 2], "b.jpg": [3, 4],
        }  # fmt: skip


def test_pooled_features_lose_their_last_axes_and_maps_are_refused(tmp_path: Path, bad_input) -> None:
    torch.save(torch.arange(6.0).reshape(3, 2, 1, 1), tmp_path / "t.pth")
    assert read(tmp_path / "t.pth", {}).features.tolist() == [[0, 1], [2, 3], [4, 5]]
    torch.save(torch.ones(3, 2, 7, 7), tmp_path / "m.pt")
    bad_input("has features [3, 2, 7, 7], a map of each; pool them", "knn", str(tmp_path / "m.pt"))


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "bfloat16"])
def test_tensors_of_kinds_that_numpy_lacks(tmp_path: Path, kind: str) -> None:
    values = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    made = values.to(getattr(torch, kind))
    torch.save({"features": made}, tmp_path / "t.pt")
    assert read(tmp_path / "t.pt", {}).features.tolist() == values.tolist()


def test_a_tensor_without_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"features": torch.empty(3, 2, device="meta")}, tmp_path / "t.pt")
    with pytest.raises(UserError, match="has a tensor without plain numbers"):
        read(tmp_path / "t.pt", {})


@pytest.mark.parametrize("name", ["nothere.pt", "nothere.npy", "nothere.safetensors", "nothere.csv"])
def test_a_file_that_is_not_there(name: str, bad_input) -> None:
    bad_input(f"There is no file {name}; give one that is there", "knn", name)


def test_arrays_by_scikit_learn_s_names(tmp_path: Path) -> None:
    arrays = {"X_train": np.eye(4, 2), "y_train": np.arange(4) % 2, "X_test": np.eye(2), "y_test": np.arange(2)}
    np.savez(tmp_path / "a.npz", **arrays)
    found = embedding_of(tmp_path / "a.npz", Reading())
    assert {name: found.arrays[name].tolist() for name in sorted(found.arrays)} == {
        "test_features": arrays["X_test"].tolist(), "test_labels": [0, 1],
        "train_features": arrays["X_train"].tolist(), "train_labels": [0, 1, 0, 1],
    }  # fmt: skip
    assert found.note == (
        "train_features are X_train, train_labels are y_train, test_features are X_test, test_labels are y_test"
    )


def test_a_list_of_vectors_is_a_table(tmp_path: Path) -> None:
    torch.save({"features": [torch.ones(2), torch.zeros(2)], "labels": [1, 0]}, tmp_path / "t.pt")
    assert read(tmp_path / "t.pt", {}).features.tolist() == [[1, 1], [0, 0]]


def test_arrays_of_objects_name_their_mend(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=np.eye(2), labels=np.array(["a", "b"], dtype=object))
    with pytest.raises(UserError, match=r"save it with numpy.savez, and texts with .astype\(str\)"):
        read(tmp_path / "a.npz", {})


def test_two_columns_of_lists_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": [[1.0, 2.0]], "b": [[1.0, 2.0]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has a, b, each of which may be the features; say which with --column"):
        read(tmp_path / "t.parquet", {})


# ---- beside what is not used


def test_what_is_of_images_is_refused_beside_features(tmp_path: Path, bad_input, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", features=np.eye(4, 2), labels=np.arange(4) % 2)
    bad_input("--data is of images, and a.npz holds features", "knn", "a.npz", "--data", "digits")
    bad_input("--labels is of images, and a.npz holds features", "knn", "a.npz", "--labels", "l.csv")
    bad_input("--data is of images, and a.npz holds features", "embed", "a.npz", "--data", "digits", "--out", "o.csv")
    bad_input("--data is of images, and a.npz holds features", "cluster", "a.npz", "--data", "digits", "--out", "o.csv")


def test_a_validation_split_of_an_npz_is_left_out_and_said(tmp_path: Path) -> None:
    arrays = {f"{split}_features": np.eye(4, 2) for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": np.arange(4) for split in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **arrays)
    from sslzoo.evaluation.embedding import read_features

    assert read_features(tmp_path / "a.npz").note == "4 rows of val_features are left out"


def test_rows_of_a_file_keep_their_notes(tmp_path: Path) -> None:
    found = embedding_of(written(tmp_path / "t.csv", "a,b,label\n1,2,NA\n3,4,x\n5,6,x\n"), Reading())
    assert found.note is not None
    assert "1 of label say NA, which counts as none" in found.note
