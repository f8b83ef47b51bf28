"""The two kinds of image sources: the same pictures in memory and in files have the same places, pixels and hashes."""

import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image

from sslzoo.data import sets
from sslzoo.data.images import FileImages, MemoryImages
from sslzoo.data.picture import square

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 24, 24, 3), np.uint8)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(PIXELS))]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return FileImages(tuple(paths))


@pytest.fixture
def memory():
    return MemoryImages(torch.tensor(PIXELS).permute(0, 3, 1, 2).contiguous())


def test_both_kinds_read_the_same_pixels(files, memory):
    expected = torch.tensor(PIXELS).permute(0, 3, 1, 2)
    for source in (files, memory):
        assert len(source) == len(source.names) == 7
        pixels, unreadable, _ = source.read([5, 0, 5], 24)
        assert torch.equal(pixels, expected[[5, 0, 5]])
        assert unreadable == []
        taken = source.take(torch.tensor([6, 2]))
        assert torch.equal(taken.read([0, 1], 24)[0], expected[[6, 2]])
        assert (type(taken), len(taken)) == (type(source), 2)
    assert torch.equal(memory.read([3], 12)[0], files.read([3], 12)[0])
    assert torch.equal(memory.pixels, expected)
    assert files.pixels is None
    assert memory.paths == ()


def test_files_that_cannot_be_read_are_named_by_place(files):
    files.paths[2].write_bytes(b"")
    files.paths[4].unlink()
    pixels, unreadable, seen = files.read([4, 1, 2], 24)
    assert torch.equal(pixels, torch.tensor(PIXELS[1:2]).permute(0, 3, 1, 2))
    assert unreadable == [(4, "no such file or directory"), (2, "it is empty")]
    assert [(place, stamp[:20].hex()) for place, stamp in seen] == [
        (1, hashlib.sha1(files.paths[1].read_bytes()).hexdigest())
    ]
    nothing, unreadable, _ = files.read([2], 24)
    assert (tuple(nothing.shape), len(unreadable)) == ((0, 3, 24, 24), 1)


def test_digests_are_of_content(files, memory):
    assert memory.digests() == [hashlib.sha1(x.transpose(2, 0, 1).tobytes()).digest() for x in PIXELS]
    files.paths[4].unlink()
    expected = [path.read_bytes() if path.exists() else b"" for path in files.paths]
    assert files.digests() == [hashlib.sha1(content).digest() for content in expected]


def test_a_fingerprint_is_of_content(files, memory, tmp_path):
    """Of files wherever they lie and whatever their times."""
    pixels = PIXELS.transpose(0, 3, 1, 2)
    assert b"".join(memory.fingerprint()) == b"(7, 3, 24, 24)" + pixels.tobytes()
    before = [*files.fingerprint()]
    moved = []
    for path in files.paths:
        moved.append(tmp_path / "elsewhere" / path.name)
        moved[-1].parent.mkdir(exist_ok=True)
        moved[-1].write_bytes(path.read_bytes())
        os.utime(moved[-1], (1, 1))
    assert [*FileImages(tuple(moved)).fingerprint()] == before
    moved[3].write_bytes(moved[4].read_bytes())
    again = FileImages(tuple(moved)).fingerprint()
    assert [i for i, (a, b) in enumerate(zip(again, before, strict=True)) if a != b] == [1 + 3]  # behind the range


def test_pictures_read_into_memory_keep_their_names(tmp_path):
    for i, pixels in enumerate(PIXELS):
        folder = tmp_path / ("test" if i == 6 else "train") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "train" / "a" / "2.png").write_bytes(b"")
    train = sets.load(str(tmp_path), memory="always", limit=4).train
    assert train.images.pixels is not None
    assert train.images.names == tuple(map(str, train.images.paths))
    train = train.readable()
    for name, image, label in zip(train.images.names, train.images.pixels, train.labels.tolist(), strict=True):
        assert np.array_equal(np.asarray(Image.open(name)), image.permute(1, 2, 0).numpy())
        assert os.path.basename(os.path.dirname(name)) == "ab"[label]
    assert sets.load("digits", limit=3).train.images.names == ("0", "1", "2")


def test_resizing_keeps_the_mean():
    """Rounding to the nearest of 256 values is as often up as down; cutting off would darken by half a value."""
    noise = torch.randint(0, 256, (200, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert abs(float(square(noise, 16).double().mean() - noise.double().mean())) < 0.1
