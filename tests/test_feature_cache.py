"""Kept features are checked when they are read: damaged ones are made anew, and that is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sslzoo
from sslzoo.data.contents import hashes
from sslzoo.data.images import MemoryImages
from sslzoo.data.splits import Split
from sslzoo.evaluation import encode, sources
from sslzoo.evaluation.embedding import Embedding
from sslzoo.evaluation.kept import features as store
from sslzoo.tools.places import cache

MUTATIONS = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on digits."""
    out = tmp_path_factory.mktemp("runs")
    options = {"limit": 64, "epochs": 1, "batch_size": 32, "device": "cpu", "baselines": False, "out": str(out)}
    return sslzoo.train("simsiam", **options)["run"]


def embed(run: str) -> Embedding:
    return encode.embed(run, sources.EmbedOptions(limit=100, device="cpu", workers=0))


def mutated(content: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """A file as disks, kills and people leave it."""
    kind, n = rng.integers(8), len(content)
    at = int(rng.integers(n))
    if kind == 0:  # a flipped bit
        return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
    if kind == 1:  # cut off
        return content[:at]
    if kind == 2:  # longer
        return content + rng.bytes(int(rng.integers(1, 100)))
    if kind == 3:  # a block of zeros
        return content[:at] + bytes(min(512, n - at)) + content[at + 512 :]
    if kind == 4:  # noise
        return rng.bytes(int(rng.integers(0, 400)))
    if kind == 5:  # a bit of the header
        at = int(rng.integers(128))
        return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
    if kind == 6:  # a part twice
        return content[:at] + content[max(at - 64, 0) :]
    return others[int(rng.integers(len(others)))]  # arrays of other shapes and kinds


def test_of_many_damaged_files_each_is_made_anew_and_said(tmp_path):
    net, split = nn.Linear(2, 2), Split(MemoryImages(torch.zeros(100, 3, 2, 2, dtype=torch.uint8)))
    expected = np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32)
    store.cached(net, split, {}, lambda: expected)
    (path,) = (cache() / "features").glob("*.npy")
    whole, others = path.read_bytes(), []
    for array in (np.zeros(3), np.array(1.0), np.array(["a", "b"]), np.zeros((100, 2)), np.zeros((2, 2), np.float32)):
        np.save(tmp_path / "x.npy", array)
        others.append((tmp_path / "x.npy").read_bytes())
    rng, changed = np.random.default_rng(0), 0
    for _ in range(MUTATIONS):
        content, said = mutated(whole, rng, others), []
        path.write_bytes(content)
        assert np.array_equal(store.cached(net, split, {}, lambda: expected, said.append), expected)
        assert [str(path) in sentence for sentence in said] == [True] * (content != whole)
        assert path.read_bytes() == whole
        changed += content != whole
    assert changed > MUTATIONS * 0.95


def test_that_is_said_where_they_are_used(run):
    expected = embed(run)
    assert expected.note is None
    path = min((cache() / "features").glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-40])
    found = embed(run)
    assert found.note == f"the cached features {path} were damaged, and are made anew"
    assert all(np.array_equal(found.arrays[name], expected.arrays[name]) for name in expected.arrays)


@pytest.mark.parametrize("damage", [b"", b"\0\0", b"/etc/passwd\tit is empty\n" * 3, b"\xff\xfe"])
def test_a_damaged_list_of_unreadable_images_changes_no_number(run, damage):
    expected = embed(run)
    for path in (cache() / "features").glob("*.txt"):
        path.write_bytes(damage)
    found = embed(run)
    assert all(np.array_equal(found.arrays[name], expected.arrays[name]) for name in expected.arrays)


def test_features_of_files_are_found_again_wherever_these_lie(run, tmp_path, monkeypatch):
    """And not where one has changed, whatever its times."""
    from PIL import Image

    monkeypatch.setattr(hashes, "SETTLED", 0)
    for i in range(24):
        path = tmp_path / "set" / ("test" if i > 17 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)

    def known(root: Path) -> list[Path]:
        encode.embed(run, sources.EmbedOptions(str(root), device="cpu", workers=0))
        return sorted((cache() / "features").glob("*.npy"))

    first = known(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / "moved")
    assert known(tmp_path / "moved") == first
    path = tmp_path / "moved" / "train" / "a" / "0.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    assert len(known(tmp_path / "moved")) == len(first) + 1
