"""Labels as people have them: a mark for none, gaps, one column a class; what they are worth is computed apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sslzoo
from sslzoo.data import sets
from sslzoo.tools.errors import UserError

RNG = np.random.default_rng(0)
BANK, QUERIES = RNG.standard_normal((200, 6)), RNG.standard_normal((60, 6))
CLASSES, ASKED = RNG.integers(3, size=200), RNG.integers(3, size=60)


def nearest_neighbour(
    bank: npt.NDArray[Any], labels: npt.NDArray[Any], queries: npt.NDArray[Any], truth: npt.NDArray[Any]
) -> float:
    """The share of queries whose nearest row by cosine has their class, in float64."""
    b, q = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    return float((labels[(q @ b.T).argmax(axis=1)] == truth).mean())


@pytest.mark.parametrize("mark", [-1, -2, -(2**40), np.nan])
@pytest.mark.parametrize(("of_bank", "of_queries"), [(120, 0), (0, 20), (120, 20), (199, 59)])
def test_rows_without_a_label_neither_vote_nor_ask(mark: float, of_bank: int, of_queries: int) -> None:
    labels, truth = CLASSES.astype(float), ASKED.astype(float)
    labels[:of_bank], truth[:of_queries] = mark, mark
    got = sslzoo.knn(BANK, labels, QUERIES, truth, ks=1, recall_at=1)
    right = nearest_neighbour(BANK[of_bank:], CLASSES[of_bank:], QUERIES[of_queries:], ASKED[of_queries:])
    assert got["knn"]["k1"] == got["recall"]["r1"] == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("nobody", ["bank", "queries"])
def test_labels_of_nobody_are_refused(nobody: str) -> None:
    labels, truth = (np.full(200, -1), ASKED) if nobody == "bank" else (CLASSES, np.full(60, -1))
    with pytest.raises(UserError, match="has a label from 0 on"):
        sslzoo.knn(BANK, labels, QUERIES, truth)


@pytest.mark.parametrize("mark", [-1, np.nan])
@pytest.mark.parametrize("of_bank", [0, 120])
@pytest.mark.parametrize("of_queries", [0, 20])
def test_features_in_a_file(
    mark: float, of_bank: int, of_queries: int, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    labels, truth = CLASSES.astype(float), ASKED.astype(float)
    labels[:of_bank], truth[:of_queries] = mark, mark
    np.savez(tmp_path / "f.npz", train_features=BANK, train_labels=labels, test_features=QUERIES, test_labels=truth)
    result = run_cli("knn", str(tmp_path / "f.npz"), "-k", "1", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["bank"], row["queries"]) == (200 - of_bank, 60 - of_queries)
    right = nearest_neighbour(BANK[of_bank:], CLASSES[of_bank:], QUERIES[of_queries:], ASKED[of_queries:])
    assert row["knn"]["k1"] == pytest.approx(right, abs=1e-12)
    for n, place in ((of_bank, "train_features have no label and are not in the bank"),
                     (of_queries, "test_features have no label and are no queries")):  # fmt: skip
        assert (f"{n} rows of {place}" in row.get("note", "")) == (n > 0)


def images(n: int) -> npt.NDArray[np.uint8]:
    """Small pictures of noise."""
    return RNG.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def test_images_without_a_label_train(tmp_path: Path) -> None:
    """As in STL-10 and in solo-learn's lists: all rows are trained on, the others are bank and queries."""
    labels, truth = np.arange(40) % 4, np.arange(12) % 4
    labels[:25], truth[:2] = -1, -1
    pixels = images(40)
    np.savez(tmp_path / "d.npz", train_images=pixels, train_labels=labels, test_images=images(12), test_labels=truth)
    found = sets.load(str(tmp_path / "d.npz"))
    assert (len(found.train), len(found.bank), len(found.test or ()), found.classes) == (40, 15, 10, 4)
    assert found.bank.labels is not None
    assert found.bank.labels.tolist() == (np.arange(25, 40) % 4).tolist()
    assert (found.bank.images.pixels == found.train.images.pixels[25:]).all()  # type: ignore[index, union-attr]
    assert "without a label, neither in kNN's bank nor among its queries: 27 images" in found.notes


def test_a_gap_in_a_table_is_no_label(tmp_path: Path) -> None:
    labels = np.array([0.0, 1.0, np.nan, 1.0] * 6)
    truth = np.array([0.0, 1.0])
    np.savez(tmp_path / "d.npz", train_images=images(24), train_labels=labels, test_images=images(2), test_labels=truth)
    found = sets.load(str(tmp_path / "d.npz"))
    assert (len(found.train), len(found.bank), found.classes) == (24, 18, 2)


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_label_at_all_is_data_without_labels(split: str, tmp_path: Path) -> None:
    labels = {"train": np.arange(24) % 2, "test": np.arange(6) % 2} | {
        split: np.full(24 if split == "train" else 6, -1)
    }
    arrays = {f"{key}_images": images(len(of)) for key, of in labels.items()}
    np.savez(tmp_path / "d.npz", **arrays, **{f"{key}_labels": of for key, of in labels.items()})
    found = sets.load(str(tmp_path / "d.npz"))
    assert not found.labelled
    assert (len(found.train), found.classes) == (24, 0)
    assert "no labels: health is shown, kNN is left out" in found.notes


@pytest.mark.parametrize("classes", [2, 5])
def test_one_column_a_class(classes: int, tmp_path: Path) -> None:
    labels = np.arange(20) % classes
    one_hot = np.eye(classes, dtype=np.uint8)[labels]
    np.savez(
        tmp_path / "d.npz", train_images=images(20), train_labels=one_hot, test_images=images(20), test_labels=one_hot
    )
    found = sets.load(str(tmp_path / "d.npz"))
    assert found.train.labels is not None
    assert found.train.labels.tolist() == labels.tolist()
    assert f"{classes} columns of labels with one 1 in each row are taken for as many classes" in found.notes
