"""Retrieval metrics against a slow reference that averages over all orders of tied rows, and hand-made rankings."""

import numpy as np
import pytest
import retrieval_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from sslzoo.metrics.ranking import metrics, positives, retrieval
from sslzoo.metrics.task import Task

AT = (1, 2, 5, 99)
SLOW = {
    "r_precision": reference.r_precision, "map@r": reference.map_at_r, "map": reference.average_precision,
    "map_revisited": reference.average_precision_trapezoid, "mrr": reference.reciprocal_rank, "ndcg": reference.ndcg,
}  # fmt: skip


def expected(scores, positive, largest):
    """The reference's values of one query."""
    found = {f"recall@{k}": reference.expected(lambda o, k=k: reference.hit_at(o, k), scores, positive) for k in AT}
    found |= {
        f"precision@{k}": reference.expected(lambda o, k=k: reference.precision_at(o, k), scores, positive) for k in AT
    }
    found |= {name: reference.expected(metric, scores, positive) for name, metric in SLOW.items()}
    return found | {"anmrr": reference.expected(lambda o: reference.nmrr(o, largest), scores, positive)}


def ours(scores, positive, largest):
    """The same of several queries at once."""
    return metrics(np.array(scores) / 8, np.array(positive), AT, largest, len(scores[0]), 1e-14)


@st.composite
def galleries(draw):
    """Queries of one gallery with few distinct scores, so that ties abound."""
    width = draw(st.integers(1, 8))
    score, hit = (
        st.lists(st.integers(0, 4), min_size=width, max_size=width),
        st.lists(st.booleans(), min_size=width, max_size=width),
    )
    return draw(st.lists(st.tuples(score, hit), min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(galleries())
def test_any_small_gallery(gallery):
    scores, positive = zip(*gallery, strict=True)
    largest = max(map(sum, positive))
    got = ours(scores, positive, largest)
    for i, (one, hits) in enumerate(gallery):
        if any(hits):
            assert {name: values[i] for name, values in got.items()} == pytest.approx(expected(one, hits, largest))
        else:
            assert all(np.isnan(values[i]) for values in got.values())


@pytest.mark.parametrize(
    ("ranks", "rows", "values"),
    [
        ((0, 1, 4), 6, {"map": 0.8667, "map_revisited": 0.85, "map@r": 2 / 3, "r_precision": 2 / 3, "anmrr": 4 / 33}),
        ((2, 3), 6, {"map": 0.416667, "map_revisited": 0.291667, "mrr": 1 / 3, "ndcg": 0.570642, "anmrr": 4 / 7}),
        ((0, 1, 2), 3, {"map": 1, "map_revisited": 1, "ndcg": 1, "anmrr": 0, "precision@99": 1}),
        ((9,), 10, {"map": 0.1, "map_revisited": 0.05, "mrr": 0.1, "recall@5": 0, "recall@99": 1, "anmrr": 1}),
    ],
)
def test_rankings_by_hand(ranks, rows, values):
    positive = [[i in ranks for i in range(rows)]]
    got = ours([list(range(rows, 0, -1))], positive, len(ranks))
    assert {name: got[name][0] for name in values} == pytest.approx(values, abs=1e-4)


def embedded(seed, rows, classes, width=6):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.integers(classes, size=rows)


def test_a_bank_and_queries_are_ranked_by_their_inner_products():
    (bank, labels), (queries, truth) = embedded(0, 9, 3), embedded(1, 5, 4)
    got = retrieval(Task(bank, labels, queries, truth), AT)
    positive = truth[:, None] == labels
    largest = int(positive.sum(axis=1).max())
    for i, query in enumerate(queries):
        if positive[i].any():
            slow = expected((bank @ query).tolist(), positive[i].tolist(), largest)
            assert {name: values[i] for name, values in got.items()} == pytest.approx(slow)
        else:
            assert np.isnan(got["map"][i])


def test_left_one_out_a_querys_own_row_is_no_positive_and_takes_no_place():
    """Also where its twin, which is as near, stays."""
    rows, labels = embedded(2, 8, 2)
    rows[3] = rows[5]
    own = np.arange(8)
    got = retrieval(Task(rows, labels, rows, labels, own), AT)
    for i in own:
        rest = np.delete(own, i)
        alone = retrieval(Task(rows[rest], labels[rest], rows[i : i + 1], labels[i : i + 1]), AT)
        for name in set(got) - {"anmrr"}:  # which depends on the other queries' positives
            assert got[name][i] == pytest.approx(alone[name][0], nan_ok=True), name


def test_a_shared_label_is_a_hit():
    bank, queries = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], bool), np.array([[0, 1, 1], [0, 0, 0]], bool)
    assert positives(queries, bank, None).tolist() == [[True, True, False], [False, False, False]]
    assert positives(bank, bank, np.arange(3)).tolist() == [[False] * 3] * 3


@pytest.mark.parametrize("cells", [1, 30, 10_000])
def test_parts_and_order_of_rows_change_nothing(cells, monkeypatch):
    (bank, labels), (queries, truth) = embedded(3, 60, 3, width=2), embedded(4, 20, 3, width=2)
    bank[10:40] = bank[5]
    once = retrieval(Task(bank, labels, queries, truth))
    monkeypatch.setattr("sslzoo.metrics.ranking.CELLS", cells)
    for seed in range(3):
        i, j = (np.random.default_rng(seed).permutation(n) for n in (60, 20))
        again = retrieval(Task(bank[i], labels[i], queries[j], truth[j]))
        assert all(again[name] == pytest.approx(values[j]) for name, values in once.items())


def test_a_collapsed_embedding_retrieves_by_chance():
    """All rows tied: each metric is its mean over random rankings."""
    labels = np.repeat([0, 1], [30, 10])
    rows = np.full((40, 4), 0.5, np.float32)
    got = retrieval(Task(rows, labels, rows[:2], np.array([0, 1])), (1, 5))
    assert got["precision@1"].tolist() == got["precision@5"].tolist() == got["r_precision"].tolist() == [0.75, 0.25]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(labels == 1) for _ in range(4000)]
    assert got["map"][1] == pytest.approx(np.mean([reference.average_precision(list(o)) for o in orders]), abs=0.01)
    assert got["mrr"][1] == pytest.approx(np.mean([reference.reciprocal_rank(list(o)) for o in orders]), abs=0.02)


def test_a_dense_ranking_is_no_one_tie():
    """Each row is near the next, and yet the first and the last are far apart."""
    similar = (0.5 - np.arange(20_000) * 1e-14)[None]
    positive = np.zeros((1, 20_000), bool)
    positive[0, :100] = True
    got = metrics(similar, positive, (1,), 100, 20_000, 2.5e-14)
    assert got["recall@1"] == 1
    assert got["map"] > 0.95
