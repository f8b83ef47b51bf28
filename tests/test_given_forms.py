"""Splits and labels that are given beside data in files of other formats: shards, parquet, a CSV of paths."""

import csv
from pathlib import Path

import numpy as np
import pytest
from test_forms import NAMES, as_parquet, as_webdataset, classes_below, files, run

import sslzoo
from sslzoo.data import sets
from sslzoo.data.given.options import DataOptions
from sslzoo.data.survey import survey
from sslzoo.training import runs

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return classes_below(tmp_path_factory.mktemp("given") / "folder")


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def shards(folder):
    (out := folder.parent / "shards").mkdir()
    return as_webdataset(folder, out, 4)


def test_shards_of_each_split_are_one_run_with_the_folder(folder, shards, expected, tmp_path, monkeypatch):
    """A pattern, a star, and a folder beside: the same images in the same order."""
    monkeypatch.chdir(shards.parent)
    ways = {
        "patterns": {"train": "shards/train-{000..003}.tar", "test": f"{shards}/test-*.tar"},
        "a folder beside": {"train": "shards/train-*.tar", "test": "folder/test"},
        "shards beside": {"train": "folder/train", "test": "shards/test-{000..003}.tar"},
        "a split beside one": {"data": "shards/train-*.tar", "test": "shards/test-*.tar"},
    }
    for name, way in ways.items():
        assert run(way.get("data"), tmp_path / name, **{k: v for k, v in way.items() if k != "data"}) == expected, name


def run_given(out, **given):
    return sslzoo.train(
        "simsiam", **given, out=str(out), epochs=2, batch_size=16, precision="float32", device="cpu", image_size=32,
        stop_after=1,
    )  # fmt: skip


def test_a_run_on_shards_of_each_split_goes_on_from_elsewhere(shards, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(shards.parent)
    half = run_given(tmp_path, train="shards/train-*.tar", test="shards/test-*.tar")
    own = runs.read_run(Path(half.run)).options
    assert (own.train, own.test) == (f"{shards}/train-*.tar", f"{shards}/test-*.tar")
    monkeypatch.chdir(tmp_path)
    assert sslzoo.resume(half.run).knn == expected[1]


def test_a_table_labels_images_inside_files(folder, tmp_path):
    """By the bare names of parquet's rows, as by those of files."""
    (tmp_path / "set").mkdir()
    data = as_parquet(folder, tmp_path / "set")
    with (tmp_path / "l.csv").open("w", newline="") as file:
        rows = [(path.name, path.name[:1] + str(split == "train")) for split in ("train", "test")
                for path, _ in files(folder, split)][::-1]  # fmt: skip
        csv.writer(file).writerows([("image", "label"), *dict(rows).items()])
    with pytest.raises(sslzoo.UserError, match="is the name of several images"):
        sets.find(DataOptions(str(data), labels=str(tmp_path / "l.csv")))
    train = str(data / "data" / "train-*.parquet")
    found = sets.find(DataOptions(train=train, labels=str(tmp_path / "l.csv")))
    words = {Path(path).name: found.names[label] for path, label in
             zip(found.bank.images.names, found.bank.labels.tolist(), strict=True)}  # fmt: skip
    assert words == {name: dict(rows)[name] for name in words}
    assert len(found.bank) + len(found.test) == 48


def test_unlabelled_shards_train_beside_a_folder(folder, shards):
    found = sets.find(DataOptions(str(folder), unlabelled=str(shards / "test-000.tar")))
    assert (len(found.train), len(found.bank), len(found.test)) == (51, 48, 12)
    assert [name for name in found.train.images.names if ".tar/" in name] == [*found.train.images.names[48:]]
    pixels = found.train.images.read([48, 49, 50], 32).pixels
    assert np.array_equal(pixels, found.test.images.read([0, 1, 2], 32).pixels)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train": "shards"}, "has splits of its own; give it as --data, or --train files of one split"),
        ({"train": "shards/train-*.tar", "test": "shards"}, "or --test files of one split"),
        ({"data": "shards", "test": "folder/test"}, "has a test split already; leave --test out"),
        ({"data": "shards", "class_depth": 1}, "--class-depth is for folders of images"),
        ({"train": "folder/train", "test": "gone-*.tar"}, "No file is called"),
        ({"train": "shards/train-*.tar", "test": "shards/train-*.tar"}, "--test and --train are one place"),
    ],
)
def test_what_cannot_be_is_refused(given, words, shards, monkeypatch):
    monkeypatch.chdir(shards.parent)
    with pytest.raises(sslzoo.UserError, match=words):
        sets.find(DataOptions(**given))


def test_data_check_counts_shards_of_each_split(shards):
    given = DataOptions(train=str(shards / "train-*.tar"), test=str(shards / "test-*.tar"))
    report, why = survey(given)
    assert why is None
    assert {split: one.images for split, one in report.splits.items()} == {"train": 48, "test": 12}
    assert report.splits["test"].classes == dict.fromkeys(NAMES, 4)
