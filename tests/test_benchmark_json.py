"""The JSON of knn, embed and search, key by key, as it was recorded before results had types."""

import json

import numpy as np
import pytest

from sslzoo.evaluation.results import (
    BenchmarkResult,
    Deviation,
    EmbedResult,
    Health,
    Neighbour,
    Retrieval,
    SearchResult,
    SeedGroup,
)

RANKED = [
    "recall@1", "recall@5", "recall@10", "precision@1", "precision@5", "precision@10", "r_precision", "map@r", "map",
    "map_revisited", "mrr", "ndcg", "anmrr",
]  # fmt: skip
TOP = "data protocol rows bad groups"
PROTOCOL = "name names bank features index weights k temperature ties intervals"
ROW = (
    "source dimension health bank queries leaked leave_one_out knn recall protocols retrieval interval indexes probe "
    "seed group seconds"
)
LISTING = {  # the keys of each object, in order, by its path; "[]" are the items of a list
    "labelled": {
        "": TOP, "protocol": PROTOCOL, "rows[]": ROW, "rows[].health": "std rank uniformity",
        "rows[].knn": "k1 k20", "rows[].recall": "r1 r5 r10", "rows[].protocols": "own",
        "rows[].protocols.own": "said knn balanced top5 per_class", "rows[].protocols.own.knn": "k1 k20",
        "rows[].protocols.own.balanced": "k1 k20", "rows[].protocols.own.top5": "k1 k20",
        "rows[].protocols.own.per_class": "k1 k20", "rows[].protocols.own.per_class.k1": "0 1 2 3 4 5 6 7",
        "rows[].protocols.own.per_class.k20": "0 1 2 3 4 5 6 7",
        "rows[].retrieval": " ".join([*RANKED, "queries without_positive"]),
        "rows[].interval": ["own k1", "own k20", *(f"retrieval {name}" for name in RANKED)],
        "rows[].indexes[]": "index recall@10 queries_per_second build_seconds bytes knn",
        "rows[].indexes[].knn": "k1 k20", "rows[].probe": "accuracy C",
    },
    "several labels": {
        "": TOP, "protocol": PROTOCOL.replace("intervals", "several intervals"),
        "rows[]": ROW.replace(" knn", " labels knn").replace("seconds", "note seconds"),
        "rows[].health": "std rank uniformity", "rows[].knn": "k1 k20", "rows[].recall": "r1 r5 r10",
        "rows[].protocols": "own", "rows[].protocols.own": "said knn balanced top5 per_class",
        "rows[].protocols.own.knn": "k1 k20", "rows[].protocols.own.balanced": "k1 k20",
        "rows[].protocols.own.per_class": "k1 k20", "rows[].protocols.own.per_class.k1": "0 1 2 3 4 5 6 7",
        "rows[].protocols.own.per_class.k20": "0 1 2 3 4 5 6 7",
        "rows[].retrieval": " ".join([*RANKED, "queries without_positive"]),
        "rows[].interval": ["own k1", "own k20", *(f"retrieval {name}" for name in RANKED)],
        "rows[].indexes[]": "index recall@10 queries_per_second build_seconds bytes knn",
        "rows[].indexes[].knn": "k1 k20",
    },
    "no retrieval": {
        "": TOP, "protocol": PROTOCOL, "rows[]": ROW.replace(" retrieval", ""),
        "rows[].health": "std rank uniformity", "rows[].knn": "k5", "rows[].recall": "r1 r5 r10",
        "rows[].protocols": "own", "rows[].protocols.own": "said knn balanced top5 per_class",
        "rows[].protocols.own.knn": "k5", "rows[].protocols.own.balanced": "k5", "rows[].protocols.own.top5": "k5",
        "rows[].protocols.own.per_class": "k5", "rows[].protocols.own.per_class.k5": "0 1 2 3 4 5 6 7",
        "rows[].interval": ["own k5"],
    },
    "no labels": {
        "": TOP, "protocol": PROTOCOL, "rows[]": "source dimension knn recall health seconds",
        "rows[].health": "std rank uniformity",
    },
    "not finite": {
        "": TOP, "protocol": PROTOCOL, "rows[]": "source dimension knn recall health seconds", "rows[].health": "",
    },
}  # fmt: skip
WORDS = {  # the command, and its exit code: 2 where labels are missing, which standard error says
    "labelled": (["two.npz", "-k", "1", "-k", "20", "--index", "flat", "--probe"], 0),
    "several labels": (["marks.npz", "-k", "1", "-k", "20", "--index", "flat", "--probe"], 0),
    "no retrieval": (["two.npz", "-k", "5", "--retrieval", "none"], 0),
    "no labels": (["none.npz"], 2),
    "not finite": (["nan.npz"], 2),
}


def keys(value, path=""):
    """The keys of each object of a piece of JSON, by its path; items of a list have the same."""
    found = {}
    if isinstance(value, dict):
        found[path] = list(value)
        for key, one in value.items():
            found |= keys(one, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for one in value:
            below = keys(one, f"{path}[]")
            assert all(found.get(key, names) == names for key, names in below.items())
            found |= below
    return found


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Files of features in the working directory: labelled, with several labels, without any, and not finite."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(200, 6)).astype(np.float32), np.arange(200) % 8
    x[:, 0] += labels
    parts = {"train_features": x[:150], "test_features": x[150:]}
    np.savez("two.npz", **parts, train_labels=labels[:150], test_labels=labels[150:])
    marks = np.eye(8, dtype=int)[labels]
    np.savez("marks.npz", **parts, train_labels=marks[:150], test_labels=marks[150:])
    np.savez("none.npz", features=x)
    x[3, 3] = np.nan
    np.savez("nan.npz", features=x)


@pytest.mark.parametrize("case", LISTING)
def test_the_keys_of_knn(case, arrays, run_cli):
    words, code = WORDS[case]
    result = run_cli("knn", *words, "--json")
    assert result.exit_code == code, result.output
    content = json.loads(result.stdout)
    expected = {path: names.split() if isinstance(names, str) else names for path, names in LISTING[case].items()}
    assert keys(content) == expected
    assert BenchmarkResult.from_json(content).to_json() == content


def test_the_keys_of_embed_and_search(run_cli, tmp_path):
    printed = run_cli("embed", "raw", "--limit", "64", "--out", str(tmp_path / "f.npz"), "--json").stdout
    names = [f"{split}_{what}" for split in ("train", "test") for what in ("features", "labels", "files")] + ["classes"]
    assert keys(json.loads(printed)) == {"": ["source", "data", "out", "arrays", "bad"], "arrays": names}
    assert EmbedResult.from_json(json.loads(printed)).to_json() == json.loads(printed)

    printed = run_cli("search", "raw", "test:0", "train:1", "--limit", "64", "-n", "2", "--json").stdout
    assert keys(json.loads(printed)) == {
        "": ["source", "data", "split", "bad", "queries", "out"],
        "queries[]": ["image", "label", "neighbours", "label_name"],
        "queries[].neighbours[]": ["place", "file", "label", "similarity", "distance", "right", "label_name"],
    }  # fmt: skip
    assert SearchResult.from_json(json.loads(printed)).to_json() == json.loads(printed)


def test_the_keys_of_what_a_small_benchmark_has_not():
    group = SeedGroup(["a", "b"], [0, 1], {"k20": Deviation(0.5, 0.1)})
    assert group.to_json() == {"sources": ["a", "b"], "seeds": [0, 1], "knn": {"k20": {"mean": 0.5, "sd": 0.1}}}
    assert SeedGroup.from_json(group.to_json()) == group
    assert Health.from_json({}) == Health()
    nothing = {**dict.fromkeys(RANKED), "queries": 3, "without_positive": 3}  # no query has a positive
    assert Retrieval.from_json(nothing).to_json() == nothing
    assert Neighbour(7, None, None, 1.0, 0.0, None).to_json() == {
        "place": 7, "file": None, "label": None, "similarity": 1.0, "distance": 0.0, "right": None,
        "label_name": None,
    }  # fmt: skip
