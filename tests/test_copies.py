"""Small copies of large pictures: what they look like, that they are made once, and that no result depends on them."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_oneness import run

from sslzoo.data import sets
from sslzoo.data.contents.copies import Held
from sslzoo.data.decoded.ranges import Range
from sslzoo.data.images import FileImages, Packed
from sslzoo.data.picture import Picture
from sslzoo.recipes.schema import View
from sslzoo.views.readers import Crops


def picture(path: Path, width: int = 1600, height: int = 1200, seed: int = 0) -> Path:
    """A large photo: smooth colours, with some noise."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    noise = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    Image.fromarray((np.dstack([x, y, (x + y) / 2]) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("size", "shape"), [(64, (3, 128, 171)), (224, (3, 448, 597)), (600, (3, 1200, 1600)), (1000, (3, 1200, 1600))]
)
def test_a_copy_is_twice_as_large_as_a_view_and_no_larger_than_its_picture(tmp_path, size, shape):
    """And looks like it: Pillow's reduction of the whole picture, but for what decoding at a part of its size does."""
    found = Picture(picture(tmp_path / "x.jpg")).copy(size)
    assert tuple(found.shape) == shape
    with Image.open(tmp_path / "x.jpg") as whole:
        theirs = np.asarray(whole.convert("RGB").resize(shape[:0:-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found.numpy().transpose(1, 2, 0).astype(int) - theirs).mean() < 2


def decoded(monkeypatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names, before = [], Picture.pixels

    def pixels(self, *given):
        names.append(self.path.name)
        return before(self, *given)

    monkeypatch.setattr(Picture, "pixels", pixels)
    return names


def copied(path: Path, size: int = 64) -> np.ndarray:
    return FileImages((path,)).open(0, size).copy().numpy()


def aged(path: Path) -> Path:
    """A file that did not change just now, which might change once more in the same tick of the clock."""
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def settled(monkeypatch):
    """Files count as unchanged at once."""
    monkeypatch.setattr("sslzoo.data.contents.hashes.SETTLED", -(10**18))


def test_a_large_picture_is_decoded_once(tmp_path, monkeypatch, settled):
    path = picture(tmp_path / "x.jpg")
    names, fresh = decoded(monkeypatch), Picture(path).copy(64).numpy()
    first, second = copied(path), copied(path)
    assert names == ["x.jpg", "x.jpg"]  # by the test itself, and once
    assert np.array_equal(first, fresh)
    assert np.array_equal(second, fresh)
    assert copied(path, 32).shape == (3, 64, 85)  # another view's is another one
    assert names == ["x.jpg"] * 3


def test_a_picture_that_is_small_or_has_just_changed_is_not_copied(tmp_path, monkeypatch):
    small = aged(picture(tmp_path / "small.jpg", 400, 300))
    new = picture(tmp_path / "new.jpg")
    names = decoded(monkeypatch)
    for _ in range(2):
        copied(small), copied(new)
    assert names == ["small.jpg", "new.jpg"] * 2


@pytest.mark.parametrize("damage", ["one byte", "cut off", "empty", "no JSON", "another shape", "a folder"])
def test_a_copy_that_is_damaged_is_made_anew(tmp_path, monkeypatch, settled, damage):
    path = picture(tmp_path / "x.jpg")
    whole = copied(path)
    (kept,) = (one for one in (tmp_path / "cache" / "copies").rglob("*") if one.is_file())
    content = kept.read_bytes()
    broken = {
        "one byte": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:], "cut off": content[:-7], "empty": b"",
        "no JSON": b"{" + content, "another shape": content.replace(b"[128, 171]", b"[171, 127]"),
        "a folder": b"",
    }[damage]  # fmt: skip
    kept.write_bytes(broken)
    if damage == "a folder":
        kept.unlink()
        kept.mkdir()
    names = decoded(monkeypatch)
    assert np.array_equal(copied(path), whole)
    assert names == ["x.jpg"]
    assert np.array_equal(copied(path), whole)
    assert len(names) == (2 if damage == "a folder" else 1)


@pytest.mark.parametrize("change", ["content", "range", "renamed over"])
def test_a_picture_that_is_another_now_is_decoded_again(tmp_path, settled, change):
    path = picture(tmp_path / "x.jpg")
    before, state = copied(path), os.stat(path)
    if change == "content":  # with the same size in bytes and the same time
        content = path.read_bytes()
        other = picture(path, seed=1).read_bytes()
        size = max(len(content), len(other))
        path.write_bytes(content.ljust(size, b"\0"))  # what follows a JPEG's end is no part of it
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        before = copied(path)
        path.write_bytes(other.ljust(size, b"\0"))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "renamed over":
        picture(tmp_path / "y.jpg", seed=2).replace(path)
    shown = Range.parse("0,100") if change == "range" else None
    after = FileImages((path,), shown=shown).open(0, 64).copy().numpy()
    assert np.array_equal(after, Picture(path, shown).copy(64).numpy())
    assert change == "range" or not np.array_equal(after, before)


def test_no_copy_is_kept_where_the_disk_is_nearly_full(tmp_path, monkeypatch, settled):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=100, free=9))
    path = picture(tmp_path / "x.jpg")
    names = decoded(monkeypatch)
    copied(path), copied(path)
    assert names == ["x.jpg"] * 2
    assert not [*(tmp_path / "cache").rglob("copies/*/*")]


def test_a_run_is_the_same_with_copies_and_without(tmp_path, monkeypatch, settled):
    root = tmp_path / "set"
    for split, n in (("train", 12), ("test", 4)):
        for i in range(n):
            (root / split / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            picture(root / split / "ab"[i % 2] / f"{i}.jpg", 1000 + 40 * i, 800, seed=i)
    fresh = [run(root, tmp_path, memory=memory, workers=1, batch_size=4) for memory in ("always", "never")]
    assert [*(tmp_path / "cache").rglob("copies/*/*")]
    again = [run(root, tmp_path, memory=memory, workers=1, batch_size=4) for memory in ("always", "never")]
    assert all(one == fresh[0] for one in [*fresh, *again])


def test_memory_is_that_of_the_copies(tmp_path):
    """Twelve photos of 1600 x 1200 px for views of 256 px: copies of 512 x 683 px, and squares."""
    for i in range(12):
        picture(tmp_path / f"{i}.jpg", seed=i)
    notes = sets.load(str(tmp_path), 256).notes
    taken = 12 * 3 * (512 * 512 * 1600 / 1200 + 256 * 256) / 1e6
    assert any(f"{taken:,.0f} MB" in note for note in notes), (taken, notes)


def test_a_file_is_hashed_once_and_not_in_each_epoch(tmp_path, monkeypatch):
    """Its content is asked for where nobody knows it yet; a small picture's copy is not kept, and needs none."""
    paths = [aged(picture(tmp_path / f"{i}.jpg", 100, 80, seed=i)) for i in range(3)]
    hashed, before = [], Picture.stamp.fget
    monkeypatch.setattr(Picture, "stamp", property(lambda self: hashed.append(self.path.name) or before(self)))
    reader = Crops(FileImages(tuple(paths)), 32, [(View(), 32)], seed=0)
    for epoch in range(4):
        reader.__getitems__([(epoch, place) for place in range(3)])
    assert sorted(hashed) == ["0.jpg", "1.jpg", "2.jpg"]


def test_copies_in_memory_and_in_the_cache_keep_the_channels_of_a_pixel_together(tmp_path):
    """torch resizes uint8 with the channels side by side a third faster; the values are Pillow's either way."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (37, 23, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    pixels = FileImages((tmp_path / "a.png",)).open(0, 16).copy()
    packed = Packed.of([None, Held(37, 23, pixels)]).open(1)
    for found in (packed.pixels, packed.pixels[:, 3:20, 5:19]):
        assert found.stride(0) == 1
    assert np.array_equal(packed.pixels.permute(1, 2, 0).numpy(), array)
