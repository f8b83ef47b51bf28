"""Several labels a row, from end to end: what they are worth is written anew here from its definition, in float64."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets
from sslzoo.data.survey import survey
from sslzoo.evaluation.drawn import gallery
from sslzoo.tools.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*of classes that the bank has no row of:UserWarning")

Array = npt.NDArray[Any]


def slow_knn(bank: Array, marks: Array, queries: Array, truth: Array, k: int, heat: float | None = 0.07) -> float:
    """The share of queries whose label with the most votes is one of their own; where labels tie, their share.

    Each of the k nearest rows votes exp(cosine / heat), or 1, for each label that it has. No two rows of these
    galleries are equally near. A query without a label is none, and where nobody votes nothing is right.
    """
    earned = []
    for x, own in zip(queries, truth, strict=True):
        if not own.any():
            continue
        cosine = [float(x @ row / np.linalg.norm(x) / np.linalg.norm(row)) for row in bank]
        votes = np.zeros(marks.shape[1])
        for row in sorted(range(len(bank)), key=lambda i: -cosine[i])[:k]:
            votes += marks[row] * (1.0 if heat is None else np.exp(cosine[row] / heat))
        best = np.isclose(votes, votes.max(), rtol=1e-12) & (votes > 0)
        earned.append((best & (own > 0)).sum() / best.sum() if best.any() else 0.0)
    return float(np.mean(earned))


def slow_hit(bank: Array, marks: Array, queries: Array, truth: Array, k: int) -> float:
    """The share of queries with a row among the k nearest that has a label of theirs."""
    found = []
    for x, own in zip(queries, truth, strict=True):
        if own.any():
            order = np.argsort([-float(x @ row / np.linalg.norm(row)) for row in bank])[:k]
            found.append(any((marks[i] * own).any() for i in order))
    return float(np.mean(found))


def clouds(seed: int, columns: int, share: float, rows: int = 90, asked: int = 40) -> tuple[Array, ...]:
    """A bank and queries that gather about the labels that they have."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(columns, 6))
    marks = (rng.random((rows + asked, columns)) < share).astype(np.int64)
    x = marks @ centres + rng.normal(size=(rows + asked, 6))
    return x[:rows], marks[:rows], x[rows:], marks[rows:]


SHAPES = [(0, 2, 0.5), (1, 3, 0.5), (2, 14, 0.05), (3, 14, 0.3), (4, 5, 0.9), (5, 40, 0.02)]


@pytest.mark.parametrize("k", [1, 4, 20, 90])
@pytest.mark.parametrize(("seed", "columns", "share"), SHAPES)
def test_votes_for_labels(seed: int, columns: int, share: float, k: int) -> None:
    given = clouds(seed, columns, share)
    for weights, heat in (("exp", 0.07), ("uniform", None)):
        got = sslzoo.knn(*given, ks=k, recall_at=k, weights=weights)
        assert got["knn"][f"k{k}"] == pytest.approx(slow_knn(*given, k, heat), abs=1e-12)
        assert got["recall"][f"r{k}"] == pytest.approx(slow_hit(*given, k), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_one_label_in_columns_is_a_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, classes = rng.normal(size=(120, 5)), rng.integers(7, size=120)
    columns = np.eye(7)[classes]
    one, several = (sslzoo.knn(x[:80], y[:80], x[80:], y[80:], ks=(1, 5, 20)) for y in (classes, columns))
    assert one == several


def test_ties_between_labels_earn_their_share() -> None:
    """The nearest row has three labels, of which a query has one, two, all or none."""
    bank, marks = np.eye(4), np.array([[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    truth = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1]])
    for own, right in zip(truth, (1 / 3, 2 / 3, 1, 0), strict=True):
        got = sslzoo.knn(bank, marks, bank[:1], own[None], ks=1, recall_at=1)
        assert got["knn"]["k1"] == pytest.approx(right, abs=1e-15)
        assert got["recall"]["r1"] == (right > 0)


def test_where_nobody_votes_nothing_is_right() -> None:
    marks = np.array([[0, 0], [1, 0], [0, 1]])
    assert sslzoo.knn(np.eye(3), marks, np.eye(3)[:1], np.array([[1, 0]]), ks=1)["knn"]["k1"] == 0


@pytest.mark.parametrize("kind", [np.uint8, bool, np.float32, np.int64])
def test_marks_of_any_kind(kind: Any) -> None:
    x, marks, q, truth = clouds(3, 14, 0.3)
    assert sslzoo.knn(x, marks.astype(kind), q, truth.astype(kind)) == sslzoo.knn(x, marks, q, truth)


@pytest.mark.parametrize("mark", [-1, np.nan])
def test_rows_that_nobody_has_looked_at(mark: float) -> None:
    """One cell is enough: it may be any of the two."""
    x, marks, q, truth = clouds(3, 14, 0.3)
    some, asked = marks.astype(float), truth.astype(float)
    some[:30, 2], asked[:10] = mark, mark
    assert sslzoo.knn(x, some, q, asked) == sslzoo.knn(x[30:], marks[30:], q[10:], truth[10:])


@pytest.mark.parametrize(
    ("marks", "truth", "words"),
    [
        (np.eye(3), np.eye(4), "3 columns of labels and the queries 4"),
        (np.eye(3), np.arange(3), "3 columns of labels and the queries 1"),
        (2 * np.eye(3), np.eye(3), "0 or 1"),
        (np.eye(3) / 2, np.eye(3), "0 or 1"),
        (np.eye(3), np.zeros((3, 3)), "has a label"),
        (-np.ones((3, 3)), np.eye(3), "has a label"),
    ],
)
def test_labels_that_do_not_do(marks: Array, truth: Array, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sslzoo.knn(np.eye(3), marks, np.eye(len(truth)), truth) if len(truth) == 3 else sslzoo.knn(
            np.eye(3), marks, np.eye(4)[:, :3] + 1, truth
        )


# ---- features in a file


def bench(run_cli: Callable[..., Any], *words: object) -> Any:
    """The one row of ``knn --json``."""
    result = run_cli("knn", *map(str, words), "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    return row


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_features(share: float, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    x, marks, q, truth = clouds(7, 14, share)
    np.savez(tmp_path / "f.npz", train_features=x, train_labels=marks, test_features=q, test_labels=truth)
    row = bench(run_cli, tmp_path / "f.npz", "-k", 5, "--index", "flat")
    right = slow_knn(x, marks, q, truth, 5)
    assert row["knn"]["k5"] == pytest.approx(right, abs=1e-12)
    assert row["indexes"][0]["knn"]["k5"] == pytest.approx(right, abs=1e-6)
    assert (row["bank"], row["queries"], row["labels"]) == (90, int(truth.any(axis=1).sum()), 14)
    assert row["recall"]["r1"] == pytest.approx(slow_hit(x, marks, q, truth, 1), abs=1e-12)
    each = row["protocols"]["own"]["per_class"]["k5"]
    for label in np.flatnonzero(truth.any(axis=0)):
        have = truth[:, label] > 0
        assert each[str(label)] == pytest.approx(slow_knn(x, marks, q[have], truth[have], 5), abs=1e-12)
    silent = int((~truth.any(axis=1)).sum())
    assert (f"{silent} rows of test_features have no label and are no queries." in row.get("note", "")) == (silent > 0)


def test_left_one_out(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    """The only split is bank and queries: rows without a label stay in the bank, and those not looked at do not."""
    x, marks, _, _ = clouds(8, 14, 0.1)
    unknown = marks.copy()
    unknown[:20] = -1
    np.savez(tmp_path / "f.npz", features=x, labels=unknown)
    row = bench(run_cli, tmp_path / "f.npz", "-k", 5)
    x, marks = x[20:], marks[20:]
    asked = np.flatnonzero(marks.any(axis=1))
    each = [slow_knn(np.delete(x, i, 0), np.delete(marks, i, 0), x[i][None], marks[i][None], 5) for i in asked]
    assert (row["bank"], row["queries"]) == (70, len(asked))
    assert row["knn"]["k5"] == pytest.approx(np.mean(each), abs=1e-12)


def test_the_foot_says_what_is_right(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    x, marks, q, truth = clouds(7, 14, 0.3)
    np.savez(tmp_path / "f.npz", train_features=x, train_labels=marks, test_features=q, test_labels=truth)
    result = run_cli("knn", str(tmp_path / "f.npz"), "--device", "cpu", "--probe")
    assert "several labels a row: right where the label with the most votes is one of the query's own" in result.output
    assert "There is no linear probe of rows with several labels." in result.output


# ---- images


def chest(n: int, seed: int, unknown: int = 0) -> tuple[Array, Array]:
    """Pictures of noise with ChestMNIST's 14 columns: the third is there in a third of the rows, many have none."""
    rng = np.random.default_rng(seed)
    marks = (rng.random((n, 14)) < 0.04).astype(np.int64)
    marks[:, 2] = np.arange(n) % 3 == 0
    marks[1] = 0
    marks[:2, 3] = 0, 0
    marks[3, :6] = 1
    marks[n - unknown :] = -1
    images = rng.integers(0, 100, (n, 16, 16, 3), dtype=np.uint8)
    images[:, :8] += (120 * np.maximum(marks[:, 2], 0)[:, None, None, None]).astype(np.uint8)
    return images, marks


@pytest.fixture
def npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Such a set in the working directory, with rows of -1."""
    monkeypatch.chdir(tmp_path)
    (images, labels), (test, truth) = chest(60, 0, unknown=6), chest(30, 1, unknown=2)
    np.savez("chest.npz", train_images=images, train_labels=labels, test_images=test, test_labels=truth)
    return "chest.npz"


def test_images(npz: str) -> None:
    found, (_, labels), (_, truth) = sets.load(npz), chest(60, 0, 6), chest(30, 1, 2)
    assert found.labelled
    assert (len(found.train), len(found.bank), len(found.test or ()), found.classes) == (60, 54, 28, 14)
    assert found.bank.labels is not None
    assert found.bank.labels.tolist() == labels[:54].tolist()
    without = int((labels[:54].sum(axis=1) == 0).sum() + (truth[:28].sum(axis=1) == 0).sum())
    assert found.notes[1:] == (
        "without a label, neither in kNN's bank nor among its queries: 8 images; each has a gap or a negative cell in "
        "some column, where 0 says that the label is absent",
        f"with none of the labels, in kNN's bank but not among its queries: {without} images",
    )
    assert "14 labels, of which an image may have several: kNN is right where" in found.notes[0]


def test_queries_held_out_of_the_training_split_have_labels(npz: str) -> None:
    images, labels = chest(60, 0)
    labels[:50] = 0
    np.savez(npz, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    for seed in range(20):
        bank, queries = sets.load(npz).validation(seed)
        assert bool(queries.asking.any())
        assert len(bank) + len(queries) == 60


TRAIN = "simsiam dim=8 hidden=8 --epochs 1 --batch-size 8 --device cpu --precision float32 --quiet"


def test_train_embed_and_knn(npz: str, run_cli: Callable[..., Any]) -> None:
    """What train prints is what its features say, which are as embed writes them."""
    printed = json.loads(run_cli("train", *TRAIN.split(), "--data", npz, "--json").stdout)
    assert run_cli("embed", printed["run"], "--out", "f.npz", "--device", "cpu").exit_code == 0
    with np.load("f.npz") as file:
        x, marks, q, truth = (file[key] for key in ("train_features", "train_labels", "test_features", "test_labels"))
    assert (marks.shape, truth.shape) == ((54, 14), (28, 14))
    for k in (1, 5, 20):
        right = slow_knn(x.astype(float), marks, q.astype(float), truth, k)
        assert printed["knn"][f"k{k}"] == pytest.approx(right, abs=1e-6)
    assert 0 <= printed["random_knn"] <= 1
    row, again = bench(run_cli, printed["run"], "--data", npz), bench(run_cli, "f.npz")
    assert row["knn"] == pytest.approx(printed["knn"], abs=1e-6)
    assert again["knn"] == pytest.approx(printed["knn"], abs=1e-6)


def test_raw_pixels_see_what_is_there(npz: str, run_cli: Callable[..., Any]) -> None:
    """Where the column that shows is the only one, the nearest pictures share it."""
    (images, labels), (test, truth) = chest(60, 0), chest(30, 1)
    for table in (labels, truth):
        table[:, [i for i in range(14) if i != 2]] = 0
        table[1, 5] = 1
    np.savez(npz, train_images=images, train_labels=labels, test_images=test, test_labels=truth)
    row = bench(run_cli, "raw", "--data", npz, "-k", 1, "-k", 5)
    asked = truth.any(axis=1).sum()
    assert row["queries"] == asked
    assert row["protocols"]["own"]["per_class"]["k5"]["2"] == 1


@pytest.mark.parametrize("words", ["ablate simsiam --flip stop_gradient", "study study.toml"])
def test_tables(words: str, npz: str, run_cli: Callable[..., Any]) -> None:
    Path("study.toml").write_text(
        'title = "T"\nsource = "nobody"\npaper = "https://example.org"\nquestion = "Does it run?"\ndata = "chest.npz"\n'
        'epochs = 1\nseeds = 1\nbatch_size = 8\npicture = "lattice"\nwords = "dim=8 hidden=8"\nbase = "simsiam"\n'
        'flip = ["stop_gradient"]\n'
    )
    size = "--epochs 1 --batch-size 8 --device cpu --quiet --json"
    more = f"--data {npz} {size}" if words.startswith("ablate") else "--device cpu --quiet --json"
    result = run_cli(*words.split(), *(["dim=8", "hidden=8"] if "ablate" in words else []), *more.split())
    assert result.exit_code == 0, result.output
    assert all(0 <= cell["knn"]["mean"] <= 1 for cell in json.loads(result.stdout)["cells"])


def test_pictures(npz: str, run_cli: Callable[..., Any]) -> None:
    words = ("raw", "--data", npz, "--device", "cpu", "--gallery", "g.png", "--map", "m.png")
    assert run_cli("knn", *words).exit_code == 0
    for name in ("g.png", "m.png"):
        with Image.open(name) as picture:
            assert min(picture.size) > 100


def test_a_gallery_shows_the_queries_that_it_names(
    npz: str, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without a label are no queries, and the numbers of the others are those of the test split."""
    shown: list[Any] = []
    monkeypatch.setattr(gallery, "png", lambda rows: shown.extend(rows) or b"")
    assert run_cli("knn", "raw", "--data", npz, "--device", "cpu", "--gallery", "g.png").exit_code == 0
    images, truth = chest(30, 1)
    for heading, (query, *_) in shown:
        number = int(heading.split("query ")[1].split(",")[0])
        assert (query.picture.permute(1, 2, 0).numpy() == images[number]).all()
        assert query.caption == ", ".join(map(str, np.flatnonzero(truth[number])))


def test_search(npz: str, run_cli: Callable[..., Any]) -> None:
    _, labels = chest(60, 0)
    _, truth = chest(30, 1)
    result = run_cli("search", "raw", "test:3", "test:1", "--data", npz, "-n", "9", "--device", "cpu", "--json")
    shares, none = json.loads(result.stdout)["queries"]
    assert (shares["label"], shares["labels"]) == (None, np.flatnonzero(truth[3]).tolist())
    for one in shares["neighbours"]:
        assert one["labels"] == np.flatnonzero(labels[one["place"]]).tolist()
        assert one["right"] == bool((labels[one["place"]] * truth[3]).any())
    assert none["labels"] == []
    assert {one["right"] for one in none["neighbours"]} == {None}


def test_data_check(npz: str) -> None:
    report, _ = survey(npz)
    (_, labels), (_, truth) = chest(60, 0, 6), chest(30, 1, 2)
    for split, table in (("train", labels[:54]), ("test", truth[:28])):
        assert report.splits[split].classes == {str(i): int(n) for i, n in enumerate(table.sum(axis=0))}


@pytest.mark.parametrize("held", ["test", "val", None])
def test_splits(held: str | None, tmp_path: Path) -> None:
    (images, labels), (test, truth) = chest(200, 0), chest(30, 1)
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {f"{held}_images": test, f"{held}_labels": truth} if held else {}
    np.savez(tmp_path / "d.npz", **arrays)
    found = sets.load(str(tmp_path / "d.npz"))
    assert found.labelled
    assert found.test is not None
    assert found.test.labels is not None
    assert found.test.labels.shape == (30 if held else 200 - len(found.train), 14)


def test_a_test_split_of_one_label_a_row_by_chance(tmp_path: Path) -> None:
    """What columns are is decided by both splits."""
    images, labels = chest(30, 0)
    np.savez(
        tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images[:5], test_labels=np.eye(14)[:5]
    )
    found = sets.load(str(tmp_path / "d.npz"))
    assert found.test is not None
    assert found.test.labels is not None
    assert found.test.labels.tolist() == np.eye(14)[:5].tolist()


def test_columns_that_differ_are_refused(tmp_path: Path) -> None:
    images, labels = chest(30, 0)
    np.savez(
        tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images[:5], test_labels=np.arange(5)
    )
    with pytest.raises(UserError, match=r"different numbers of columns \(train_labels 14, test_labels 1\)"):
        sets.load(str(tmp_path / "d.npz"))


@pytest.mark.parametrize("mark", [0, -1])
def test_a_split_without_any_label_is_data_without(mark: int, tmp_path: Path) -> None:
    images, labels = chest(30, 0)
    np.savez(
        tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images[:5],
        test_labels=np.full((5, 14), mark),
    )  # fmt: skip
    found = sets.load(str(tmp_path / "d.npz"))
    assert not found.labelled
    assert "no labels: health is shown, kNN is left out" in found.notes
