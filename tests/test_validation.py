"""A validation split beside a test split: it asks while a run goes on, and nothing else of it is used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets
from sslzoo.training import scoring

QUICK = {"epochs": 1, "batch_size": 8, "device": "cpu", "baselines": False}


def folder(root: Path, val: str = "val") -> Path:
    """12 training, 6 validation and 4 test pictures of two classes."""
    for k, (split, n) in enumerate({"train": 12, val: 6, "test": 4}.items()):
        for i in range(n):
            path = root / split / "ab"[i % 2] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(100 * k + i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    return root


def archive(root: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 12), ("val", 6), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n) % 2
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


@pytest.mark.parametrize("make", [folder, lambda root: folder(root, "Validation"), archive])
@pytest.mark.parametrize("memory", ["always", "never"])
def test_it_is_the_split_of_the_looks_and_not_of_the_end(make, memory, tmp_path, monkeypatch):
    data = make(tmp_path)
    found = sets.load(str(data), memory=memory)
    assert [len(split) for split in found.splits.values()] == [12, 6, 4]
    assert any("validation split, for kNN while a run goes on" in note for note in found.notes)
    asked = []
    score = scoring.score
    monkeypatch.setattr(scoring, "score", lambda *args: asked.append((len(args[2]), len(args[3]))) or score(*args))
    sslzoo.train("simsiam", data=str(data), out=str(tmp_path / "runs"), memory=memory, workers=0, **QUICK)
    assert asked == [(12, 6), (12, 4)]


def test_without_classes_or_labels_it_is_not_used(tmp_path):
    root = folder(tmp_path / "set")
    for path in [*root.glob("val/*/*.png")]:
        path.rename(root / "val" / f"{path.parent.name}{path.name}")
    for empty in ("a", "b"):
        (root / "val" / empty).rmdir()
    found = sets.load(str(root))
    assert found.val is None
    assert "val/ is not used: 6 images" in found.notes
    arrays = dict(np.load(archive(tmp_path)))
    np.savez(tmp_path / "set.npz", **{**arrays, "val_labels": np.full(6, -1)})
    assert sets.load(str(tmp_path / "set.npz")).val is None


def test_a_tenth_of_training_asks_where_there_is_none(tmp_path):
    arrays = dict(np.load(archive(tmp_path)))
    del arrays["val_images"], arrays["val_labels"]
    np.savez(tmp_path / "set.npz", **arrays)
    found = sets.load(str(tmp_path / "set.npz"))
    assert found.val is None
    assert [len(split) for split in found.validation(0)] == [11, 1]
