"""Images and rows of both splits, and classes of one alone: said where kNN is printed, and counted in its JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets, splits

Array = npt.NDArray[Any]
TRAIN = "simsiam dim=8 hidden=8 --epochs 1 --batch-size 8 --device cpu --precision float32 --no-baselines"


def noise(n: int, seed: int = 0) -> Array:
    """Pictures of noise, no two equal."""
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


def write(path: Path, leaks: int, pixels: bool = True, bank: Array | None = None, asked: Array | None = None) -> str:
    """An .npz of 40 training and 20 test images or rows, of which so many are copied from the training split."""
    kind = "images" if pixels else "features"
    train, test = (noise(n, n) if pixels else np.random.default_rng(n).normal(size=(n, 6)) for n in (40, 20))
    test[:leaks] = train[7 : 7 + leaks]
    labels, truth = np.arange(40) % 4 if bank is None else bank, np.arange(20) % 4 if asked is None else asked
    np.savez(path, **{f"train_{kind}": train, f"test_{kind}": test}, train_labels=labels, test_labels=truth)  # type: ignore[arg-type]
    return str(path)


def knn(run_cli: Callable[..., Any], *words: str) -> tuple[Any, str]:
    """The first row of ``knn --json``, and what the command says beside it."""
    found = run_cli("knn", *words, "--device", "cpu", "--json")
    assert found.exit_code == 0, found.output
    said = run_cli("knn", *words, "--device", "cpu")
    return json.loads(found.stdout)["rows"][0], said.output


SENTENCES = {
    1: "1 of 20 test images is in the training split too (equal content): kNN is too high by that",
    12: "12 of 20 test images are in the training split too (equal content): kNN is too high by that",
    20: "20 of 20 test images are in the training split too (equal content): kNN is too high by that",
}


@pytest.mark.parametrize("leaks", [0, 1, 12, 20])
def test_images_in_memory(leaks: int, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    data = write(tmp_path / "d.npz", leaks)
    assert splits.leaked(sets.load(data)) == leaks
    row, said = knn(run_cli, "raw", "--data", data)
    assert row["leaked"] == leaks
    assert (SENTENCES.get(leaks, "in the training split too") in said) == (leaks > 0)
    assert said.count("in the training split too") == (leaks > 0)


@pytest.mark.parametrize("leaks", [0, 12])
def test_train_says_it_where_knn_is_printed(leaks: int, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    data = write(tmp_path / "d.npz", leaks)
    words = (*TRAIN.split(), "--data", data, "--out", str(tmp_path / "runs"))
    found = json.loads(run_cli("train", *words, "--json").stdout)
    assert found["leaked"] == leaks
    assert [note.split(";")[0] for note in found["notes"]] == [SENTENCES[12]] * (leaks > 0)
    said = " ".join(run_cli("train", *words).output.split())
    assert (f"Warning: {SENTENCES[12]}" in said.split("kNN on the test split")[1]) == (leaks > 0)


def test_tables_say_it_once(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    data = write(tmp_path / "d.npz", 12)
    words = (*TRAIN.split(), "--flip", "stop_gradient", "--data", data, "--out", str(tmp_path / "table"))
    result = run_cli("ablate", *words)
    assert result.exit_code == 0, result.output
    assert " ".join(result.output.split()).count(SENTENCES[12]) == 1
    assert (next((tmp_path / "table").rglob("table.md"))).read_text().count(SENTENCES[12].split("(")[0]) == 1


def test_sources_share_a_line(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    result = run_cli("knn", "raw", "random", "--data", write(tmp_path / "d.npz", 12), "--device", "cpu")
    assert result.output.count(SENTENCES[12]) == 1


# ---- folders


def album(root: Path, leaks: int = 0) -> Path:
    """A folder of two classes, with so many of the 6 test images of each copied from train under other names."""
    for split, n in (("train", 10), ("test", 6)):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for i, pixels in enumerate(noise(n, n + ord(label))):
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
    for label in ("a", "b"):
        for i in range(leaks):
            shutil.copy(root / "train" / label / f"{9 - i}.png", root / "test" / label / f"{i}.png")
    return root


@pytest.mark.parametrize("leaks", [0, 1, 6])
@pytest.mark.parametrize("memory", ["always", "never"])
def test_files(leaks: int, memory: str, tmp_path: Path) -> None:
    root = album(tmp_path / "album", leaks)
    assert splits.leaked(sets.load(str(root), memory=memory)) == 2 * leaks
    shutil.copy(root / "train" / "a" / "0.png", root / "test" / "b" / "5.png")
    assert splits.leaked(sets.load(str(root), memory=memory)) == 2 * leaks + (leaks < 6)


def test_files_that_cannot_be_read_are_no_leak(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    """Empty files have equal content."""
    root = album(tmp_path / "album", 1)
    for name in ("train/a/0.png", "test/a/5.png"):
        (root / name).write_bytes(b"")
    row, said = knn(run_cli, "raw", "--data", str(root))
    assert (row["leaked"], row["queries"]) == (2, 11)
    assert "2 of 11 test images are in" in said


@pytest.mark.parametrize("memory", ["always", "never"])
def test_knn_of_files(memory: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    row, said = knn(run_cli, "raw", "--data", str(album(tmp_path / "album", 3)), "--memory", memory)
    assert row["leaked"] == 6
    assert "6 of 12 test images are in" in said


@pytest.mark.parametrize("kind", ["held out", "left out"])
def test_no_leak_where_equal_images_are_kept_together(kind: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    if kind == "held out":  # by their hash
        images = noise(100)[np.arange(300) % 100]
        np.savez(tmp_path / "d.npz", train_images=images, train_labels=np.arange(300) % 3)
        assert splits.leaked(sets.load(str(tmp_path / "d.npz"))) == 0
    else:
        row, _ = knn(run_cli, "raw", "--data", write(tmp_path / "d.npz", 12), "--leave-one-out")
        assert row["leaked"] is None


def test_training_images_without_a_label_are_no_bank(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    """A copy that has no label answers nothing."""
    labels = np.arange(40) % 4
    labels[7:13] = -1
    row, said = knn(run_cli, "raw", "--data", write(tmp_path / "d.npz", 12, bank=labels))
    assert row["leaked"] == 6
    assert "6 of 20 test images" in said


# ---- features


@pytest.mark.parametrize("leaks", [0, 1, 12])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int64])
def test_features(leaks: int, kind: Any, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    with np.load(write(tmp_path / "f.npz", leaks, pixels=False)) as file:
        arrays = {key: (1e4 * file[key]).astype(kind) if "features" in key else file[key] for key in file.files}
    np.savez(tmp_path / "f.npz", **arrays)
    row, said = knn(run_cli, str(tmp_path / "f.npz"))
    assert row["leaked"] == leaks
    word = {0: None, 1: "1 query equals a row of the bank bit by bit", 12: "12 of 20 queries equal rows of the bank"}[
        leaks
    ]
    assert (word is None and "bit by bit" not in said) or (word or "") in said
    assert ("if they are of the same images" in said) == (leaks > 0)


COLLAPSED: dict[str, Callable[[], tuple[Array, Array]]] = {
    "one point": lambda: (np.ones((40, 6)), np.ones((20, 6))),
    "zeros": lambda: (np.zeros((40, 6)), np.zeros((20, 6))),
    "two points": lambda: (np.eye(6)[np.arange(40) // 5 % 2], np.eye(6)[np.arange(20) // 5 % 2]),
    "a dead half": lambda: (
        np.where(np.arange(40)[:, None] < 20, 0, np.random.default_rng(0).random((40, 6))),
        np.where(np.arange(20)[:, None] < 10, 0, np.random.default_rng(1).random((20, 6))),
    ),
}


@pytest.mark.parametrize(("case", "classes"), [*((case, 4) for case in COLLAPSED), ("one point", 1), ("zeros", 1)])
def test_collapsed_features_are_no_leak(case: str, classes: int, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    train, test = COLLAPSED[case]()
    np.savez(
        tmp_path / "f.npz", train_features=train, test_features=test, train_labels=np.arange(40) % classes,
        test_labels=np.arange(20) % classes,
    )  # fmt: skip
    row, said = knn(run_cli, str(tmp_path / "f.npz"))
    assert row["leaked"] == 0
    assert "bit by bit" not in said


def test_a_collapsed_network_of_images_that_leak_not(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    """What counts are the images, where they are known."""
    data = write(tmp_path / "d.npz", 5)
    assert run_cli("embed", "raw", "--data", data, "--out", str(tmp_path / "f.npz"), "--device", "cpu").exit_code == 0
    row, _ = knn(run_cli, str(tmp_path / "f.npz"))
    assert row["leaked"] == 5


# ---- classes of one split alone

LABELS: dict[str, tuple[Array, Array, int]] = {  # of bank and queries, and how many queries nobody can answer
    "disjoint": (np.arange(40) % 4, 4 + np.arange(20) % 4, 20),
    "some": (np.arange(40) % 4, np.arange(20) % 5, 4),
    "more in the bank": (np.arange(40) % 4, np.arange(20) % 2, 0),
    "columns, disjoint": (np.eye(8)[np.arange(40) % 3] + np.eye(8)[3], np.eye(8)[4 + np.arange(20) % 3], 20),
    "columns, some": (np.eye(8)[np.arange(40) % 3] + np.eye(8)[3], np.eye(8)[2 + np.arange(20) % 4], 10),
    "columns, a second": (
        np.eye(8)[np.arange(40) % 3] + np.eye(8)[3],
        np.eye(8)[2] + np.eye(8)[3 + np.arange(20) % 4],
        0,
    ),
}


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("case", LABELS)
def test_classes_that_the_bank_lacks(case: str, pixels: bool, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    labels, truth, lost = LABELS[case]
    data = write(tmp_path / "d.npz", 0, pixels, labels, truth)
    row, said = knn(run_cli, *(("raw", "--data", data) if pixels else (data,)))
    sentence = f"{lost} of 20 queries are of classes that the bank has no row of"
    assert (sentence in said) == (lost > 0)
    assert ("has no row of" in row.get("note", "")) == (lost > 0)
    if lost == 20:
        assert set(row["knn"].values()) == {0}


@pytest.mark.parametrize("case", ["disjoint", "some", "columns, disjoint"])
def test_train_and_data_check_say_it(case: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    labels, truth, lost = LABELS[case]
    data = write(tmp_path / "d.npz", 0, True, labels, truth)
    sentence = f"{lost} of 20 queries are of classes that the bank has no row of"
    words = (*TRAIN.split(), "--data", data, "--out", str(tmp_path / "runs"))
    (note,) = json.loads(run_cli("train", *words, "--json").stdout)["notes"]
    assert sentence in note
    before, after = " ".join(run_cli("train", *words).output.split()).split("run: ", 1)
    assert sentence in before
    assert sentence in after
    assert sentence in " ".join(run_cli("data", "check", data).output.split())


def test_classes_that_the_bank_lacks_are_a_warning_in_python():
    rows = np.eye(6)
    with pytest.warns(UserWarning, match="6 of 6 queries are of classes that the bank has no row of"):
        assert sslzoo.knn(rows, np.arange(6), rows, np.arange(6) + 10, ks=1)["knn"] == {"k1": 0}
