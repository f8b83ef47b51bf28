"""Benchmarks of embeddings: what is left out, intervals, indexes, the linear probe, seeds."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from sslzoo.evaluation import protocols
from sslzoo.evaluation.embedding import Embedding
from sslzoo.evaluation.evaluate import Evaluation, evaluate, group_by_seed, intervals
from sslzoo.evaluation.indexes import compare
from sslzoo.evaluation.results import BenchmarkRow, Deviation, Health
from sslzoo.evaluation.tasks import make_task, read_labels
from sslzoo.metrics import index
from sslzoo.metrics.knn import among, judge, knn
from sslzoo.metrics.neighbours import nearest
from sslzoo.metrics.probe import Probe, linear_probe
from sslzoo.metrics.rows import unit_rows
from sslzoo.metrics.task import Task

USUAL = protocols.find("sslzoo")
RNG = np.random.default_rng


def clusters(rows, classes=8, width=12, spread=0.6, seed=0):
    """Rows around a centre for each class, and their classes."""
    labels = RNG(seed).integers(classes, size=rows)
    centres = RNG(99).standard_normal((classes, width))
    return (centres[labels] + spread * RNG(seed + 1).standard_normal((rows, width))).astype(np.float32), labels


def embedding(train=None, test=None, **more):
    """An embedding of arrays."""
    arrays = {}
    for split, pair in (("train", train), ("test", test)):
        if pair is not None:
            arrays |= {f"{split}_features": pair[0], f"{split}_labels": pair[1]}
    return Embedding("e.npz", "e", arrays, **more)


def row_of(found, wanted=(USUAL,), **more):
    """The row of an embedding."""
    return evaluate(found, Evaluation(wanted, **more))


BANK, QUERIES = clusters(300), clusters(80, seed=5)


def test_a_row_holds_what_knn_gives():
    row = row_of(embedding(BANK, QUERIES))
    assert {"knn": row.knn, "recall": row.recall} == knn(*BANK, *QUERIES)
    assert (row.bank, row.queries, row.dimension, row.leave_one_out) == (300, 80, 12, False)
    assert None not in (row.health.std, row.health.rank, row.health.uniformity)
    assert row.retrieval.metrics["recall@1"] == pytest.approx(row.recall["r1"])
    assert row.retrieval.without_positive == 0


def test_classes_one_by_one_and_balanced():
    bank, labels = clusters(200, classes=7)
    queries, truth = clusters(60, classes=7, seed=3)
    truth = np.where(truth == 6, 0, truth)  # unbalanced
    found = row_of(embedding((bank, labels), (queries, truth))).protocols["sslzoo"]
    one_by_one = {
        str(c): knn(bank, labels, queries[truth == c], truth[truth == c])["knn"]["k5"] for c in np.unique(truth)
    }
    assert found.per_class["k5"] == pytest.approx(one_by_one)
    assert found.balanced["k5"] == pytest.approx(np.mean(list(one_by_one.values())))
    assert found.knn["k5"] <= found.top5["k5"] <= 1


@pytest.mark.parametrize("classes", [2, 5])
def test_top_5_is_defined_above_five_classes(classes):
    row = row_of(embedding(clusters(60, classes), clusters(20, classes, seed=2)))
    assert row.protocols["sslzoo"].top5 is None


def test_among_the_best_where_votes_are_equal():
    votes = np.array([[5.0, 4, 4, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert [among(votes[:1], np.array([c]), 2, 1e-6)[0][0] for c in range(6)] == [1, 0.5, 0.5, 0, 0, 0]
    assert among(votes[:1], np.array([4]), 5, 1e-6)[0][0] == pytest.approx(2 / 3)
    assert among(votes[1:], np.array([3]), 5, 1e-6)[0][0] == pytest.approx(5 / 6)


@pytest.mark.parametrize("retrieval", ["all", "none"])
def test_left_one_out_equals_a_bank_without_the_row(retrieval):
    """Also for twins, and where the set comes without a test split."""
    rows, labels = clusters(60, 3, spread=2)
    rows[7] = rows[9]
    alone = row_of(embedding((rows, labels)), retrieval=retrieval)
    asked = row_of(embedding(BANK, (rows, labels)), leave_one_out=True, retrieval=retrieval)
    assert alone.leave_one_out
    assert asked.leave_one_out
    each = [
        knn(np.delete(rows, i, 0), np.delete(labels, i), rows[i : i + 1], labels[i : i + 1])["knn"] for i in range(60)
    ]
    expected = {k: np.mean([one[k] for one in each]) for k in each[0]}
    assert alone.knn == pytest.approx(expected)
    assert asked.knn == pytest.approx(expected)
    assert (alone.retrieval is not None) == (retrieval == "all")


def test_left_one_out_of_a_collapsed_set_is_its_prior_without_the_row():
    rows, labels = np.ones((30, 4), np.float32), np.repeat([0, 1], [20, 10])
    row = row_of(embedding((rows, labels)))
    assert row.knn == pytest.approx(dict.fromkeys(row.knn, 2 / 3))
    assert row.recall["r1"] == pytest.approx((20 * 19 / 29 + 10 * 9 / 29) / 30)


def test_order_of_rows_and_batches_change_nothing():
    once = row_of(embedding(BANK, QUERIES))
    i, j = RNG(1).permutation(300), RNG(2).permutation(80)
    again = row_of(embedding((BANK[0][i], BANK[1][i]), (QUERIES[0][j], QUERIES[1][j])))
    for table in ("knn", "recall", "retrieval"):
        assert again.to_json()[table] == pytest.approx(once.to_json()[table], abs=1e-6)


def test_several_labels_are_retrieved_and_voted_on():
    rows, labels = clusters(50, 4)
    marks = np.eye(4, dtype=np.int64)[labels]
    marks[:, 0] |= labels == 2  # a second label
    row = row_of(embedding((rows, marks), (rows[:9], marks[:9])))
    assert row.labels == 4
    assert 0.5 < row.knn["k1"] <= 1
    assert 0.5 < row.retrieval.metrics["map"] <= 1


def test_several_protocols_each_have_their_numbers():
    chosen = protocols.chosen(("monitor", "uniform"), (), None)
    row = row_of(embedding(BANK, QUERIES), chosen)
    assert row.protocols["monitor"].knn == knn(*BANK, *QUERIES, ks=(200,), temperature=0.1)["knn"] == row.knn
    uniform = knn(*BANK, *QUERIES, ks=(1, 5, 20, 200), weights="uniform")["knn"]
    assert row.protocols["uniform"].knn == uniform
    assert row.protocols["monitor"].summary == "monitor: k = 200, T = 0.1"
    assert "one vote each" in row.protocols["uniform"].summary


def test_protocols_are_refused(refused):
    with refused("no protocol 'monitr'", "did you mean 'monitor'"):
        protocols.find("monitr")
    with refused("leave --protocol"):
        protocols.chosen(("dino",), (5,), None)
    with refused("at least 1"):
        protocols.chosen((), (0,), None)
    with refused("at least 0.001"):
        protocols.chosen((), (), -1.0)


@pytest.mark.parametrize("name", protocols.names())
def test_every_protocol_is_read(name):
    found = protocols.find(name)
    assert found.title
    assert found.weights in ("exp", "uniform")
    assert (found.temperature is None) == (found.weights == "uniform")


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_a_mean():
    right = (RNG(0).random(4000) < 0.3).astype(float)
    low, high = intervals({"x": right}, 0)["x"]
    assert (low + high) / 2 == pytest.approx(right.mean(), abs=0.002)
    assert high - low == pytest.approx(2 * 1.96 * right.std() / 4000**0.5, rel=0.1)


def test_intervals_leave_out_what_has_no_value():
    right = np.array([0.0, 1, 1, 0, 1] * 40)
    with_none = np.concatenate([right, np.full(1000, np.nan)])
    assert intervals({"x": with_none}, 1)["x"] == pytest.approx(intervals({"x": right}, 2)["x"], abs=0.03)
    assert intervals({"x": np.full(5, np.nan), "y": np.ones(3)}, 0) == {"x": None, "y": (1.0, 1.0)}


# ---- indexes ---------------------------------------------------------------------------------------------------------


def test_torchs_search_is_faiss(monkeypatch):
    """What a GPU does, here on the CPU; also where bank and queries come in parts."""
    b, q = unit_rows("b", RNG(0).standard_normal((500, 16))), unit_rows("q", RNG(1).standard_normal((1500, 16)))
    similar, near = index.search(b, q, 30)
    for rows in (7, 64, 10_000):
        other, places = index.search_on("cpu", b, q, 30, rows)
        assert np.array_equal(places, near)
        assert other == pytest.approx(similar, abs=1e-6)
    other, places = index.best(torch.from_numpy(b), q, 30)
    assert np.array_equal(places, near)
    assert other == pytest.approx(similar, abs=1e-6)


def test_indexes_beside_the_exact_search(tmp_path):
    task = make_task(embedding(clusters(3000), clusters(100, seed=4)), False)
    flat, graph, lists = compare(task, USUAL, ["flat", "HNSW16:efSearch=200", "IVF20,Flat:nprobe=20"])
    assert flat.recall == lists.recall == 1
    assert flat.knn == row_of(embedding(clusters(3000), clusters(100, seed=4))).knn
    assert graph.recall > 0.9
    assert compare(task, USUAL, ["IVF20,Flat:nprobe=1"])[0].recall < 1
    assert all(row.bytes > task.bank.nbytes for row in (flat, graph, lists))
    made = index.Index("IVF20,Flat:nprobe=20", 12)
    made.build(task.bank)
    made.save(tmp_path / "i.faiss")
    again = index.Index.load(tmp_path / "i.faiss", "IVF20,Flat:nprobe=20")
    assert np.array_equal(again.search(task.queries, 5)[1], made.search(task.queries, 5)[1])


def test_indexes_are_kept_in_a_folder_and_found_again(tmp_path):
    """For the same rows alone; inverted lists are files of their own."""
    tasks = [make_task(embedding(clusters(1000, seed=s), QUERIES), False) for s in (0, 1)]
    specs = ["IVF8,Flat:nprobe=8", "HNSW8"]
    once, again = (compare(tasks[0], USUAL, specs, tmp_path) for _ in range(2))
    assert [row.build_seconds > 0 for row in (*once, *again)] == [True, True, False, False]
    assert [row.recall for row in again] == [row.recall for row in once]
    assert once[0].recall == 1
    assert len(list(tmp_path.glob("*.lists"))) == 1
    assert compare(tasks[1], USUAL, specs[:1], tmp_path)[0].build_seconds > 0


def test_rows_that_do_not_fit_memory_are_normalised_in_a_file(monkeypatch):
    expected = unit_rows("b", BANK[0])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    found = unit_rows("b", BANK[0])
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, expected)
    assert knn(*BANK, *QUERIES)["knn"]["k1"] > 0.5


@pytest.mark.parametrize("spec", ["nonsense", "IVF,", "HNSW32:efSerch=3", "PQ7"])
def test_indexes_that_faiss_does_not_take_are_refused(refused, spec):
    with refused(repr(spec), "flat"):
        index.Index(spec, 12)


def test_an_index_with_more_lists_than_rows_is_refused(refused):
    with refused("IVF400", "300 rows", "fewer lists"):
        index.Index("IVF400,Flat", 12).build(unit_rows("b", BANK[0]))


def test_places_that_an_index_leaves_empty_do_not_vote():
    """With one list looked at there are fewer neighbours than asked for."""
    task = make_task(embedding(clusters(400, 4), clusters(30, 4, seed=8)), False)
    (row,) = compare(task, USUAL, ["IVF8,Flat:nprobe=1"])
    assert 0 <= row.knn["k200"] <= 1


# ---- the rest --------------------------------------------------------------------------------------------------------


def test_the_probe_finds_what_is_linear():
    probe = linear_probe(Task(*clusters(400, 4, spread=0.3), *clusters(100, 4, spread=0.3, seed=6)))
    assert probe.accuracy > 0.97
    assert probe.strength in (0.001, 0.01, 0.1)
    assert Probe.to_json(probe) == {"accuracy": probe.accuracy, "C": probe.strength}
    assert linear_probe(Task(BANK[0], np.zeros(300), QUERIES[0], np.zeros(80))) is None
    few = Task(BANK[0][:6], np.array([0, 0, 0, 0, 0, 1]), QUERIES[0], np.zeros(80))
    assert linear_probe(few).strength == 0.01


def test_runs_that_differ_by_their_seed_are_put_together():
    rest = {
        "dimension": 2, "health": Health(), "bank": 9, "queries": 9, "leave_one_out": True, "recall": {},
        "protocols": {}, "interval": {}, "indexes": [], "probe": None,
    }  # fmt: skip
    rows = [BenchmarkRow(source=f"r{i}", group=g, seed=s, knn={"k20": k}, **rest) for i, (g, s, k) in enumerate(
        [("a", 0, 0.2), ("a", 1, 0.4), ("b", 0, 0.9), (None, None, 0.1), ("c", 2, 0.5), ("c", 2, 0.7)]
    )]  # fmt: skip
    (group,) = group_by_seed(rows)
    assert (group.sources, group.seeds) == (["r0", "r1"], [0, 1])
    assert group.knn["k20"] == Deviation(pytest.approx(0.3), pytest.approx(0.02**0.5))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_features": BANK[0]}, ("lacks train_labels",)),
        ({"train_features": BANK[0], "train_labels": BANK[1], "test_features": QUERIES[0]}, ("lacks test_labels",)),
        ({"train_features": BANK[0][:1], "train_labels": BANK[1][:1]}, ("one row",)),
        (dict(zip(("train_features", "train_labels", "test_features", "test_labels"),
                  (*BANK, QUERIES[0][:, :5], QUERIES[1]), strict=True)), ("12 columns", "5")),
    ],
)  # fmt: skip
def test_embeddings_that_do_not_do_are_refused(refused, arrays, words):
    with refused("e.npz" if "12 columns" not in words else "bank", *words):
        make_task(Embedding("e.npz", "e", arrays), False)


def test_columns_of_labels_have_to_be_marks(refused):
    with refused("3 columns", "0 or 1"):
        read_labels("labels", np.full((4, 3), 2))
    assert read_labels("labels", np.zeros((4, 1))).tolist() == [0] * 4


def test_judging_what_an_index_found_looks_no_further():
    """All rows are tied, and it found those of one class."""
    b, q = unit_rows("b", np.ones((40, 2))), unit_rows("q", np.ones((3, 2)))
    labels, truth = np.repeat([0, 1], [10, 30]), np.zeros(3, np.int64)
    there = (np.ones((3, 5), np.float32), np.tile(np.arange(5), (3, 1)))
    found = judge(Task(b, labels, q, truth), (5,), 0.07, neighbours=there, exact=False)
    assert set(found.top1) == {5}
    assert found.top1[5].tolist() == [1, 1, 1]
    assert judge(Task(b, labels, q, truth), (5,), 0.07).top1[5].tolist() == [0, 0, 0]


def test_places_left_empty_are_nobodys():
    """Another label of the first row, which they would point at, changes nothing for queries that do not meet it."""
    bank, labels = unit_rows("b", RNG(0).standard_normal((50, 3))), np.arange(50) % 2
    near = np.tile(np.r_[np.arange(5, 10), np.full(31, -1)], (4, 1))
    similar = np.tile(np.r_[np.linspace(0.9, 0.5, 5), np.full(31, -2)].astype(np.float32), (4, 1))
    scores = []
    for first in (0, 1):
        labels[0] = first
        truth = np.array([0, 1, 0, 1])
        task = Task(bank, labels, bank[:4], truth)
        found = judge(task, (20,), 0.07, (20,), "uniform", (similar, near), False)
        scores.append((found.top1[20].tolist(), found.recall[20].tolist()))
        others = nearest(bank, bank[:4], 20, np.arange(4), lambda *_: (similar, near))
        task = Task(bank, labels, bank[:4], truth, np.arange(4))
        alone = judge(task, (20,), 5.0, neighbours=others, exact=False)
        assert alone.top1[20].tolist() == found.top1[20].tolist()
    assert scores[0] == scores[1] == ([0, 1, 0, 1], [1, 1, 1, 1])


@pytest.mark.parametrize("spec", ["IVF8,Flat:nprobe=1", "HNSW8:efSearch=4", "PQ4x4"])
def test_indexes_of_a_set_that_is_its_own_bank(spec):
    """A query's own row is no neighbour, neither of the index nor of the exact search."""
    task = make_task(embedding(clusters(300)), False)
    (row,) = compare(task, USUAL, [spec])
    assert 0 <= row.recall <= 1
    assert compare(task, USUAL, ["flat"])[0].recall == 1


def test_the_number_of_threads_changes_nothing():
    import faiss

    before, found = faiss.omp_get_max_threads(), []
    bank, queries = clusters(5000, width=64), clusters(300, width=64, seed=2)
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        found.append(row_of(embedding(bank, queries)))
    faiss.omp_set_num_threads(before)
    for table in ("knn", "recall", "retrieval"):
        assert found[0].to_json()[table] == pytest.approx(found[1].to_json()[table], abs=1e-6)
