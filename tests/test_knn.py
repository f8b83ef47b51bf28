"""knn against a plain float64 reference of its docstring, and what it refuses."""

from collections import Counter
from math import comb, exp, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sslzoo.metrics import index
from sslzoo.metrics.index import search
from sslzoo.metrics.knn import TEMPERATURE, knn
from sslzoo.metrics.neighbours import SPARE
from sslzoo.metrics.rows import unit_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*of classes that the bank has no row of:UserWarning")

RNG = np.random.default_rng
TIE = 1e-14  # rounding in float64, and more


def reference(bank, bank_labels, queries, query_labels, ks, temperature=TEMPERATURE, recall_at=(1, 5, 10)):
    """The docstring's rules in plain loops; votes are equal where similarities within the tie would make them so."""

    def unit(row):
        norm = sqrt(sum(float(x) ** 2 for x in row))
        return [float(x) / (norm or 1) for x in row]

    def split(similar, k):
        """What is above the tie at the k-th similarity, what is in it, and how many of these are among the first k."""
        kth = sorted(similar, reverse=True)[k - 1]
        above = [i for i, s in enumerate(similar) if s > kth + TIE]
        return above, [i for i, s in enumerate(similar) if abs(s - kth) <= TIE], k - len(above)

    rows, right, found = [unit(row) for row in bank], Counter(), Counter()
    for query, label in zip([unit(row) for row in queries], query_labels, strict=True):
        similar = [sum(x * y for x, y in zip(row, query, strict=True)) for row in rows]
        for k in ks:
            above, tied, left = split(similar, min(k, len(rows)))
            votes = Counter()
            for i in above:
                votes[bank_labels[i]] += exp(similar[i] / temperature)
            for i in tied:
                votes[bank_labels[i]] += exp(similar[i] / temperature) * left / len(tied)
            winners = [c for c, v in votes.items() if v >= max(votes.values()) * exp(-TIE / temperature)]
            right[k] += (label in winners) / len(winners)
        for k in recall_at:
            above, tied, left = split(similar, min(k, len(rows)))
            others = sum(bank_labels[i] != label for i in tied)
            sure = any(bank_labels[i] == label for i in above)
            found[k] += 1 if sure else 1 - comb(others, left) / comb(len(tied), left)
    n = len(queries)
    return {"knn": {f"k{k}": right[k] / n for k in ks}, "recall": {f"r{k}": found[k] / n for k in recall_at}}


def check(bank, bank_labels, queries, query_labels, ks=(1, 3, 10), **options):
    """knn agrees with the reference; returns what it gives."""
    expected = reference(bank, bank_labels, queries, query_labels, ks, **options)
    got = knn(bank, bank_labels, queries, query_labels, ks=ks, **options)
    for table in ("knn", "recall"):
        assert got[table] == pytest.approx(expected[table], abs=1e-7), (got, expected)
    return got


def repeated(seed, rows, distinct, classes=3, width=4):
    """Rows that repeat few distinct vectors at various lengths, with labels that do not depend on them."""
    rng = RNG(seed)
    vectors = rng.normal(size=(distinct, width))
    return vectors[rng.integers(distinct, size=rows)] * rng.uniform(0.1, 9, (rows, 1)), rng.integers(classes, size=rows)


@pytest.mark.parametrize(
    ("rows", "queries", "width", "classes", "temperature"),
    [(120, 30, 8, 4, 0.07), (60, 7, 3, 2, 0.5), (40, 20, 1, 3, 0.07), (90, 12, 512, 10, 0.02)],
)
def test_random_data(rows, queries, width, classes, temperature):
    rng = RNG(rows)
    bank, bank_labels = rng.normal(size=(rows, width)), rng.integers(classes, size=rows)
    asked, labels = rng.normal(size=(queries, width)), rng.integers(classes, size=queries)
    check(bank, bank_labels, asked, labels, (1, 2, 5, 20), temperature=temperature)


def test_more_queries_than_a_chunk_with_and_without_open_ties():
    bank, bank_labels = repeated(1, 90, 12)
    asked, labels = repeated(2, 600, 300)
    check(np.vstack([bank, RNG(3).normal(size=(30, 4))]), np.append(bank_labels, [0, 1, 2] * 10), asked, labels, (1, 8))


@pytest.mark.parametrize("distinct", [1, 2, 3, 10])
def test_exact_ties(distinct):
    """Few distinct vectors with mixed labels, so that most ties go on beyond the 10 + SPARE neighbours searched."""
    bank, bank_labels = repeated(distinct, 150, distinct)
    check(bank, bank_labels, bank[::9], bank_labels[::9])
    check(bank, bank_labels, *repeated(7, 15, 15))


@pytest.mark.parametrize("tied", [10, 10 + SPARE - 1, 10 + SPARE, 10 + SPARE + 1, 40, 70])
def test_tie_that_goes_on_beyond_what_was_searched(tied, monkeypatch):
    """The search sees 26 of a bank of 100, nearly all of class 0; class 1 wins by rows of the tie beyond them."""
    searched = []
    monkeypatch.setattr(index, "search", lambda b, q, k: searched.append(k) or search(b, q, k))
    bank = [[1.0, 0.0]] * tied + [[0.0, 1.0]] * (100 - tied)
    labels = ([0] * 20 + [1] * 50)[:tied] + [2] * (100 - tied)
    got = check(bank, labels, [[1.0, 0.0]] * 3, [0, 1, 2], (1, 10))
    assert searched == [10 + SPARE]
    earned = [check(bank, labels, [[1.0, 0.0]], [c], (10,))["knn"]["k10"] for c in range(3)]
    assert earned == [float(tied < 40) or 0.5 * (tied == 40), float(tied > 40) or 0.5 * (tied == 40), 0]
    assert got["knn"]["k10"] == pytest.approx(1 / 3)


def test_tie_behind_nearer_rows_goes_on_beyond_what_was_searched():
    bank = [[1.0, 0.0]] * 2 + [[1.0, 0.5]] * 60 + [[1.0, -0.5]] * 60 + [[-1.0, 0.0]] * 9
    check(bank, [0] * 2 + [1, 2] * 60 + [3] * 9, [[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], [0, 1, 2], (1, 2, 5, 10))


@pytest.mark.parametrize("k", [4, 5, 6, 1000])
def test_k_beyond_the_bank_takes_all_of_it(k):
    bank, asked = RNG(0).normal(size=(5, 3)), RNG(1).normal(size=(8, 3))
    got = check(bank, [0, 1, 0, 1, 2], asked, [0, 1, 2, 0, 1, 2, 0, 1], (k,), recall_at=(k,))
    assert k < 5 or got["recall"] == {f"r{k}": 1.0}


@pytest.mark.parametrize("queries", [1, 2, 9])
def test_few_queries(queries):
    bank, labels = repeated(3, 40, 20)
    check(bank, labels, RNG(4).normal(size=(queries, 4)), [0, 1, 2, 0, 1, 2, 0, 1, 2][:queries])


def test_one_image_and_one_query():
    assert check([[3.0]], [7], [[0.1]], [7])["knn"] == {"k1": 1, "k3": 1, "k10": 1}
    assert check([[3.0]], [7], [[0.1]], [8])["recall"] == {"r1": 0, "r5": 0, "r10": 0}
    assert check([[3.0]], [7], [[-0.1]], [7])["knn"]["k1"] == 1


def test_classes_missing_from_a_split():
    bank, labels = repeated(5, 60, 30, classes=5)
    asked, _ = repeated(6, 12, 12)
    check(bank, labels, asked, np.array([0, 1, 2] * 4))
    check(bank, labels, asked, np.array([0, 99, 4] * 4))
    assert knn(bank, labels, asked, [99] * 12)["knn"] == {"k1": 0, "k5": 0, "k20": 0, "k200": 0}


def test_unbalanced():
    rng = RNG(8)
    labels = np.where(rng.random(150) < 0.9, 0, rng.integers(1, 6, 150))
    check(rng.normal(size=(150, 5)), labels, rng.normal(size=(20, 5)), rng.integers(6, size=20), (1, 20, 140))


def test_zero_rows():
    bank, labels = repeated(9, 50, 5)
    bank[::3] = 0
    check(bank, labels, np.vstack([np.zeros((2, 4)), -bank[1:4]]), [0, 1, 2, 0, 1], (1, 5, 40))


def test_order_of_rows_changes_nothing():
    bank, labels = repeated(10, 300, 25)
    asked, truth = repeated(11, 40, 30)
    once = knn(bank, labels, asked, truth)
    for seed in range(5):
        i, j = RNG(seed).permutation(300), RNG(seed).permutation(40)
        again = knn(bank[i], labels[i], asked[j], truth[j])
        assert all(again[t] == pytest.approx(once[t], abs=1e-9) for t in once)


@pytest.mark.parametrize("arrangement", ["sorted", "reversed", "shuffled"])
@pytest.mark.parametrize("noise", [0, 1e-16])
@pytest.mark.parametrize("counts", [(40, 40, 40, 40), (30, 50, 20), (3, 3), (300, 100)])
def test_collapsed_embedding_scores_the_prior(counts, noise, arrangement):
    """All rows equal, or so up to rounding: the majority class, or of m equal ones 1/m, for every k and order."""
    rng = RNG(len(counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = {"sorted": labels, "reversed": labels[::-1], "shuffled": rng.permutation(labels)}[arrangement]
    rows = np.full((len(labels), 64), 0.3) + noise * rng.normal(size=(len(labels), 64))
    winners = np.flatnonzero(np.array(counts) == max(counts))
    asked = np.arange(len(counts)).repeat(7)
    expected = np.isin(asked, winners).mean() / len(winners)
    got = knn(rows, labels, rows[rng.integers(len(rows), size=len(asked))], asked)
    assert got["knn"] == pytest.approx(dict.fromkeys(("k1", "k5", "k20", "k200"), expected))
    prior = np.mean([counts[c] / sum(counts) for c in asked])
    assert got["recall"]["r1"] == pytest.approx(prior)


def test_equal_votes_are_split():
    """Two classes with one neighbour each at the same similarity, and a third too far away to matter."""
    got = check([[1, 1], [1, -1], [-1, 0]], [0, 1, 2], [[1, 0]] * 3, [0, 1, 2], (2,), recall_at=(1, 2))
    assert got["knn"]["k2"] == pytest.approx(1 / 3)
    assert got["recall"] == pytest.approx({"r1": 1 / 3, "r2": 2 / 3})


def test_nearer_neighbours_outvote_more_of_them():
    bank, labels = [[1, 0], [1, 0.9], [1, -0.9]], [0, 1, 1]
    assert check(bank, labels, [[1, 0]], [0], (3,))["knn"]["k3"] == 1
    assert check(bank, labels, [[1, 0]], [0], (3,), temperature=10)["knn"]["k3"] == 0


@st.composite
def cases(draw):
    """Small whole features, so that ties abound, and a bank that may be longer than what is searched."""
    width, classes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    row = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    sides = []
    for most in (45, 6):
        rows = draw(st.lists(row, min_size=1, max_size=most))
        label = st.integers(0, classes - 1)
        sides += [rows, draw(st.lists(label, min_size=len(rows), max_size=len(rows)))]
    ks = draw(st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True))
    return sides, ks, draw(st.sampled_from([0.07, 0.5, 5]))


@settings(max_examples=150, deadline=None)
@given(cases())
@example((([[1]] * 40, [0] * 20 + [1] * 20, [[1]], [1]), [1], 0.07))
def test_any_small_case(case):
    sides, ks, temperature = case
    check(*sides, ks, temperature=temperature, recall_at=(1, 2))


def test_lists_columns_of_labels_and_integers_are_taken():
    bank, labels = [[1, 0], [0, 1]], [[0], [1]]
    expected = {"knn": {"k1": 1.0}, "recall": {"r1": 1.0}}
    assert knn(bank, labels, bank, labels, ks=(1,), recall_at=(1,)) == expected
    asked = np.asfortranarray(bank, np.float16)
    assert knn(np.array(bank), np.array(labels), asked, np.arange(2, dtype=np.uint8), ks=[1], recall_at=[1]) == expected


def test_input_is_left_alone():
    bank = np.full((4, 3), 2, np.float32)
    knn(bank, [0, 1, 0, 1], bank, [0, 1, 0, 1])
    assert (bank == 2).all()
    assert np.linalg.norm(unit_rows("bank", bank), axis=1) == pytest.approx(1)


GOOD = ([[1.0, 0.0], [0.0, 1.0]], [0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(refused, bad):
    rows = np.ones((9, 2))
    rows[[4, 7], [0, 1]] = bad
    with refused("bank has 2 rows that are not finite", "first at 4"):
        knn(rows, [0] * 9, *GOOD)
    with refused("queries has 2 rows that are not finite", "first at 4"):
        knn(*GOOD, rows, [0] * 9)


@pytest.mark.parametrize(
    ("bank", "labels", "words"),
    [
        (np.ones((2, 3)), [0, 1], ("3 columns", "2")),
        (np.ones((2, 2)), [0, 1, 2], ("2 rows", "3", "labels")),
        (np.ones((2, 2)), [[0, 1], [1, 0]], ("labels",)),
        (np.ones((0, 2)), [], ("bank", "[0, 2]")),
        (np.ones((2, 0)), [0, 1], ("bank", "[2, 0]")),
        (np.ones(2), [0, 1], ("bank", "[2]")),
        (np.ones((2, 1, 2)), [0, 1], ("bank", "[2, 1, 2]")),
    ],
)
def test_shapes_that_do_not_fit_are_refused(refused, bank, labels, words):
    with refused(*words):
        knn(bank, labels, *GOOD)


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.5, 1.0], [0.0, np.inf]])
def test_labels_that_are_no_whole_numbers_are_refused(refused, labels):
    with refused("labels"):
        knn(GOOD[0], np.array(labels), *GOOD)


@pytest.mark.parametrize("options", [{"ks": (0,)}, {"recall_at": (5, -1)}, {"temperature": 0}, {"temperature": np.nan}])
def test_numbers_out_of_range_are_refused(refused, options):
    with refused("at least"):
        knn(*GOOD, *GOOD, **options)
