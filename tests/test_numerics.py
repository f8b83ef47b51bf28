"""kNN, rankings and the recall of indexes of float32 features against brute force in float64, wherever rows lie."""

import warnings

import numpy as np
import pytest
import torch

from sslzoo.evaluation import protocols
from sslzoo.evaluation.embedding import Embedding
from sslzoo.evaluation.evaluate import Evaluation, evaluate
from sslzoo.evaluation.tasks import make_task
from sslzoo.metrics.index import Index
from sslzoo.metrics.knn import knn
from sslzoo.metrics.neighbours import ranked
from sslzoo.metrics.precise import DOUBLE, SINGLE, error, tie
from sslzoo.metrics.ranking import retrieval
from sslzoo.metrics.rows import unit_rows
from sslzoo.metrics.task import Task

USUAL = protocols.find("sslzoo")


def gallery(seed, rows, queries, columns, classes, offset, spread=2.0):
    """Bank and queries of several classes, float32, with a constant added to every column."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, columns))
    labels, truth = rng.integers(classes, size=rows), rng.integers(classes, size=queries)
    made = [centres[x] + spread * rng.standard_normal((len(x), columns)) + offset for x in (labels, truth)]
    return made[0].astype(np.float32), labels, made[1].astype(np.float32), truth


def cosines(bank, queries):
    """The cosines in float64 of rows as they are."""
    b, q = (x.astype(np.float64) for x in (bank, queries))
    b, q = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (b, q))
    return q @ b.T


def voted(similar, labels, truth, k, temperature=0.07):
    """The accuracy of the k nearest rows' votes; no rows are tied."""
    near = np.argsort(-similar, axis=1)[:, :k]
    right = 0
    for i, rows in enumerate(near):
        votes = np.zeros(labels.max() + 1)
        np.add.at(votes, labels[rows], np.exp((similar[i, rows] - similar[i, rows[0]]) / temperature))
        right += votes.argmax() == truth[i]
    return right / len(truth)


def mean_average_precision(similar, labels, truth):
    found = []
    for i, order in enumerate(np.argsort(-similar, axis=1)):
        hits = labels[order] == truth[i]
        if hits.any():
            found.append((np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean())
    return np.mean(found)


def embedding(bank, labels, queries, truth):
    names = ("train_features", "train_labels", "test_features", "test_labels")
    return Embedding("e.npz", "e", dict(zip(names, (bank, labels, queries, truth), strict=True)))


SHAPES = [(300, 60, 8, 3), (1000, 80, 32, 5), (700, 50, 128, 10), (150, 40, 3, 2), (500, 30, 512, 7), (90, 50, 16, 4)]


@pytest.mark.parametrize("offset", [0, 30, 100, 300, 3000])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_galleries_agree_with_float64(shape, offset):
    """30 shapes: k1, k5, k20, mAP, and the true neighbours by which an index is judged."""
    bank, labels, queries, truth = gallery(sum(shape) + offset, *shape, offset)
    similar = cosines(bank, queries)
    row = evaluate(
        embedding(bank, labels, queries, truth), Evaluation([USUAL], retrieval="all", indexes=["IVF4,PQ1x4"])
    )
    for k in (1, 5, 20):
        assert row.knn[f"k{k}"] == pytest.approx(voted(similar, labels, truth, k), abs=1e-9), k
    assert row.retrieval.metrics["map"] == pytest.approx(mean_average_precision(similar, labels, truth), abs=1e-6)
    task = make_task(embedding(bank, labels, queries, truth), False)
    order = np.argsort(-similar, axis=1)[:, :10]
    assert np.array_equal(ranked(task, 10)[1], order)
    index = Index("IVF4,PQ1x4", shape[2])
    index.build(task.bank)
    found = index.search(task.queries, min(216, shape[0]))[1][:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, order, strict=True)])
    assert row.indexes[0].recall == pytest.approx(recall, abs=1e-9)


def classes_of(columns, constant):
    """The data of the first report: 5 classes, 1,000 bank and 400 query rows, float32, with a constant added."""
    bank, labels, queries, truth = gallery(7, 1000, 400, columns, 5, constant)
    assert len(np.unique(bank, axis=0)) == len(bank)
    return bank, labels, queries, truth


@pytest.mark.parametrize("constant", [0, 100, 300, 3000])
def test_a_constant_added_to_every_column_ties_nothing(constant):
    """No two rows are equal, so k1 is the class of the one nearest row, in float64."""
    bank, labels, queries, truth = classes_of(32, constant)
    nearest = cosines(bank, queries).argmax(axis=1)
    assert knn(bank, labels, queries, truth)["knn"]["k1"] == (labels[nearest] == truth).mean()


@pytest.mark.parametrize("k", [1, 7, 333, 999, 1000, 5000])
@pytest.mark.parametrize("constant", [0, 300])
def test_exact_for_every_k_up_to_the_whole_bank(constant, k):
    bank, labels, queries, truth = classes_of(16, constant)
    queries, truth = queries[:60], truth[:60]
    similar = cosines(bank, queries)
    got = knn(bank, labels, queries, truth, ks=k, recall_at=k)
    assert got["knn"] == {f"k{k}": pytest.approx(voted(similar, labels, truth, min(k, 1000)), abs=1e-12)}
    hits = (labels[np.argsort(-similar, axis=1)[:, :k]] == truth[:, None]).any(axis=1)
    assert got["recall"] == {f"r{k}": pytest.approx(hits.mean())}


@pytest.mark.parametrize("temperature", [0.001, 0.07, 10.0])
def test_votes_that_float32_cannot_tell_apart_are_counted_in_float64(temperature):
    bank, labels, queries, truth = classes_of(32, 3000)
    similar = cosines(bank, queries)
    got = knn(bank, labels, queries, truth, ks=(5,), temperature=temperature)["knn"]["k5"]
    assert got == pytest.approx(voted(similar, labels, truth, 5, temperature), abs=1e-9)


@pytest.mark.parametrize("columns", [1, 8, 64, 512, 2048])
@pytest.mark.parametrize("kind", ["normal", "positive", "constant"])
def test_float32s_similarities_are_no_further_off_than_said(columns, kind):
    rng = np.random.default_rng(columns)
    bank, queries = (rng.standard_normal((n, columns)).astype(np.float32) for n in (600, 70))
    if kind == "positive":
        bank, queries = np.maximum(bank, 0), np.maximum(queries, 0)
    if kind == "constant":
        bank, queries = bank + 1000, queries + 1000
    b, q = unit_rows("b", bank), unit_rows("q", queries)
    with np.errstate(invalid="ignore"):
        true = np.nan_to_num(cosines(bank, queries))
    assert np.abs(q @ b.T - true).max() <= error(columns, SINGLE)
    assert error(columns, DOUBLE) < tie(columns) < 1e-6 * error(columns, SINGLE)


@pytest.mark.parametrize("constant", [0, 300])
def test_copies_of_a_row_are_tied_whatever_their_length(constant):
    """Each row of the bank stands there in two classes, once twice as long: both have equal parts of a vote."""
    bank, _, queries, truth = gallery(3, 200, 50, 24, 4, constant)
    twice, labels = np.concatenate([bank, 2 * bank]), np.repeat([0, 1], 200)
    got = knn(twice, labels, queries, truth % 2, ks=(1, 3), recall_at=(1, 2))
    assert got["knn"]["k1"] == pytest.approx(0.5)
    assert got["recall"] == pytest.approx({"r1": 0.5, "r2": 1})
    task = Task(unit_rows("b", twice), labels, unit_rows("q", queries), truth % 2, given=(twice, queries))
    assert retrieval(task, (1, 2))["recall@1"] == pytest.approx(0.5)


def test_left_one_out_among_rows_that_lie_close():
    bank, labels, _, _ = classes_of(32, 300)
    bank, labels = bank[:300], labels[:300]
    similar = cosines(bank, bank)
    np.fill_diagonal(similar, -2)
    arrays = {"features": bank, "labels": labels}
    alone = Embedding("e.npz", "e", {f"train_{name}": array for name, array in arrays.items()})
    row = evaluate(alone, Evaluation([USUAL], retrieval="all"))
    assert row.knn["k1"] == (labels[similar.argmax(axis=1)] == labels).mean()
    assert row.knn["k20"] == pytest.approx(voted(similar, labels, labels, 20))


def test_a_poor_index_of_rows_that_lie_close_is_seen_to_be_poor():
    """Its neighbours are as good as the true ones to five digits, and yet others."""
    rows = []
    for constant in (0, 300):
        embedded = embedding(*classes_of(32, constant))
        rows.append(evaluate(embedded, Evaluation([USUAL], retrieval="none", indexes=["flat", "PQ2x4"])).indexes)
    assert rows[0][0].recall == 1
    assert rows[1][1].recall < 0.3


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-60, 1e-30, 1.0, 1e30, 1e60, 1e200])
def test_the_scale_of_features_changes_nothing(scale):
    bank, labels, queries, truth = (x.astype(np.float64) for x in gallery(1, 300, 60, 8, 4, 0.0))
    expected = knn(bank, labels, queries, truth)
    assert knn(bank * scale, labels, queries * scale, truth) == expected


GOOD = gallery(5, 40, 12, 6, 3, 0.0)


def as_bf16(x):
    return torch.from_numpy(x).bfloat16()


def as_sparse(x):
    return torch.from_numpy(x).to_sparse()


def as_torch_csr(x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this is young
        return torch.from_numpy(x).to_sparse_csr()


def as_csr(x):
    from scipy.sparse import csr_matrix

    return csr_matrix(x)


TAKEN = {
    "requires_grad": lambda x: torch.from_numpy(x).requires_grad_(),
    "sparse": as_sparse,
    "sparse csr": as_torch_csr,
    "scipy": as_csr,
    "masked, nothing of it": lambda x: np.ma.masked_array(x),
    "conjugate": lambda x: torch.complex(torch.from_numpy(x), torch.zeros(x.shape)).conj().real,
    "negated": lambda x: torch._neg_view(torch.from_numpy(-x)),
    "objects": lambda x: x.astype(object),
    "other bytes": lambda x: x.astype(">f4"),
    "Fortran": np.asfortranarray,
    "lists": lambda x: x.tolist(),
    "list of tensors": lambda x: list(torch.from_numpy(x)),
    "not contiguous": lambda x: np.repeat(x, 2, axis=0)[::2],
}


@pytest.mark.parametrize("kind", TAKEN)
def test_arrays_that_hold_the_same_numbers_score_the_same(kind):
    bank, labels, queries, truth = GOOD
    make = TAKEN[kind]
    assert knn(make(bank), labels, make(queries), torch.from_numpy(truth)) == knn(bank, labels, queries, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_it_is(dtype):
    bank, queries = (torch.from_numpy(x).to(dtype) for x in (GOOD[0], GOOD[2]))
    expected = knn(bank.float().numpy(), GOOD[1], queries.float().numpy(), GOOD[3])
    assert knn(bank, GOOD[1], queries, GOOD[3]) == expected


REFUSED = {
    "complex": (lambda x: x.astype(np.complex64), "complex"),
    "complex tensor": (lambda x: torch.from_numpy(x).to(torch.complex64), "complex"),
    "masked": (lambda x: np.ma.masked_less(x, 0), "masked entries"),
    "strings": (lambda x: x.astype(str), "no numbers"),
    "dates": (lambda x: x.astype("datetime64[s]"), "no numbers"),
    "ragged": (lambda x: [[1.0, 2.0], [1.0]], "several lengths"),
    "a string": (lambda x: "features.npz", "no numbers"),
    "nothing": (lambda x: None, "[rows, columns]"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_arrays_that_mean_nothing_are_refused(refused, kind):
    make, words = REFUSED[kind]
    with refused("bank", words):
        knn(make(GOOD[0]), GOOD[1], GOOD[2], GOOD[3])


def test_one_number_of_neighbours_is_one():
    assert knn(*GOOD, ks=5, recall_at=1).keys() == {"knn", "recall"}
    assert knn(*GOOD, ks=5, recall_at=1) == knn(*GOOD, ks=(5,), recall_at=[1])
    assert knn(*GOOD, ks=np.int64(5))["knn"] == knn(*GOOD, ks=np.array([5]))["knn"]


@pytest.mark.parametrize("options", [
    {"ks": 0}, {"ks": 2.5}, {"ks": "5"}, {"ks": None}, {"ks": True}, {"ks": ()}, {"ks": (5, -1)}, {"recall_at": "abc"},
    {"weights": "Exp"}, {"weights": "distance"}, {"weights": None}, {"temperature": 0}, {"temperature": "warm"},
])  # fmt: skip
def test_other_options_are_refused(refused, options):
    with refused(*options):
        knn(*GOOD, **options)


def test_rows_of_any_length_stand_beside_each_other():
    """Each row has a scale of its own, beyond what float32 holds: the cosines are as they were, and health is known."""
    bank, labels, queries, truth = (x.astype(np.float64) for x in gallery(2, 200, 40, 6, 3, 0.0))
    scales = 10.0 ** np.linspace(-250, 250, 200)[:, None]
    arrays = (bank, labels, queries, truth), (bank * scales, labels, queries * scales[:40], truth)
    plain, scaled = (evaluate(embedding(*x), Evaluation([USUAL], retrieval="all")) for x in arrays)
    assert scaled.knn == plain.knn
    assert scaled.retrieval.metrics == pytest.approx(plain.retrieval.metrics)
    assert scaled.health.to_json() == pytest.approx(plain.health.to_json(), rel=1e-4)


@pytest.mark.parametrize(("shift", "said"), [(0, None), (10, "40 of 40"), (2, "queries are of classes")])
def test_queries_of_classes_that_the_bank_lacks_are_said(shift, said):
    bank, labels, queries, truth = gallery(2, 200, 40, 6, 3, 0.0)
    row = evaluate(embedding(bank, labels, queries, truth + shift), Evaluation([USUAL], retrieval="none"))
    assert (row.note is None) if said is None else (said in row.note)
    assert shift < 10 or row.knn["k20"] == 0
