"""A messy folder of photos from end to end: no row is lost or shifted, and every name leads back to its file.

300 drawn photos, or 3,000 of a folder: SSLZOO_PHOTOS=path/to/photos pytest tests/test_messy.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import messy
import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
NUMBER = 3000 if "SSLZOO_PHOTOS" in os.environ else 300


class Album:
    """The folder ``photos`` below ``place``, what is known of its files, and a run on it."""

    def __init__(self, place: Path):
        self.place, self.truth = place, messy.make(place / "photos", NUMBER)
        words = ("simsiam", "--data", "photos", "--class-depth", "1", "--epochs", "1", "--image-size", "32")
        self.result = self.json("train", *words, "--batch-size", "32", "--device", "cpu", "--backbone", "small")
        self.run = self.result["run"]
        self.broken = {name for name, photo in self.truth.items() if photo.broken}

    def json(self, *words: str) -> Any:
        """What a command prints as JSON."""
        done = subprocess.run([sys.executable, "-m", "sslzoo", *words, "--json"], cwd=self.place, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0 or words[:2] == ("data", "check"), done.stderr
        self.said = done.stderr
        return json.loads(done.stdout)

    def below(self, path: str) -> str:
        """A path as it is below the folder of photos."""
        whole = Path(path) if Path(path).is_absolute() else self.place / path
        return whole.relative_to(self.place / "photos").as_posix()

    def twin(self, name: str) -> str:
        """The other file of the same picture."""
        own = self.truth[name].picture
        return next(other for other, photo in self.truth.items() if photo.picture == own and other != name)

    def joined(self, table: str) -> Any:
        """A table of ours beside what is known, joined by the files' names, which both have once."""
        known = pandas.DataFrame([{"file": name, **vars(photo)} for name, photo in self.truth.items()])
        ours = pandas.read_csv(self.place / table, dtype=str, keep_default_na=False)
        assert len(ours) == len(known)
        both = ours.merge(known, on="file", validate="one_to_one")
        assert len(both) == len(known)
        return both


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Album:
    return Album(tmp_path_factory.mktemp("messy"))


def test_data_check_names_what_is_broken(album: Album) -> None:
    found = album.json("data", "check", "photos", "--class-depth", "1")
    assert found["images"] == len(album.truth)
    assert {album.below(row["path"]) for row in found["bad"]} == album.broken
    labels = dict.fromkeys(messy.SPECIES, 0)
    for photo in album.truth.values():
        if photo.species:
            labels[photo.species] += 1
    counted = dict.fromkeys(labels, 0)
    for split in found["splits"].values():
        for name, number in split["classes"].items():
            if name in counted:
                counted[name] += number
    assert counted == labels


def test_training_leaves_out_what_is_broken(album: Album) -> None:
    listed = (album.place / album.run / "bad_images.txt").read_text().splitlines()
    assert {album.below(line.split("\t")[0]) for line in listed} == album.broken
    assert album.result["knn"] is not None  # of the photos with a species


def test_rows_of_embed_are_the_files(album: Album) -> None:
    album.json("embed", album.run, "--out", "f.csv")
    both = album.joined("f.csv")
    assert (both["label"] == both["species"]).all()
    columns = [name for name in both.columns if name.startswith("f") and name[1:].isdigit()]
    empty = (both[columns] == "").all(axis=1)
    assert set(both["file"][empty]) == album.broken
    whole = both[~empty].set_index("file")
    features = whole[columns].astype(np.float64).to_numpy()
    place = {name: i for i, name in enumerate(whole.index)}
    pairs = [(i, place[album.twin(name)]) for name, i in place.items() if album.twin(name) in place]
    assert len(pairs) > 0.9 * len(place)
    one, other = (features[[pair[side] for pair in pairs]] for side in (0, 1))
    np.testing.assert_allclose(one, other, atol=1e-4)  # a shifted row would be another picture's
    apart = np.abs(one[:-1] - one[1:]).max(axis=1)
    assert np.median(apart) > 0.01


def test_search_finds_the_other_file_of_a_picture(album: Album) -> None:
    splits = album.joined("f.csv").set_index("file")["split"]
    names = [name for name in splits[splits == "train"].index
             if not {name, album.twin(name)} & album.broken and splits[album.twin(name)] == "train"]  # fmt: skip
    names = [name for name in names if album.truth[name].species][:4] + names[:2]
    found = album.json("search", album.run, *(f"photos/{name}" for name in names), "-n", "3", "--out", "near.png")
    for name, row in zip(names, found["queries"], strict=True):
        near = [album.below(one["file"]) for one in row["neighbours"]]
        assert name not in near
        assert near[0] == album.twin(name)
        assert row["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-4)


def test_clusters_have_every_file_and_know_copies(album: Album) -> None:
    found = album.json("cluster", album.run, "--k", "5", "--near", "0.99999", "--out", "clusters.csv")
    both = album.joined("clusters.csv")
    assert found["images"] == len(both) - len(album.broken)
    assert {album.below(row["path"]) for row in found["bad"]} == album.broken
    rows = both.set_index("file")
    for name in rows.index:
        other = album.twin(name)
        if name in album.broken:
            assert rows.loc[name, "cluster"] == ""
        elif other not in album.broken:
            assert rows.loc[name, "duplicates"] == rows.loc[other, "duplicates"] != ""
            assert rows.loc[name, "cluster"] == rows.loc[other, "cluster"]
