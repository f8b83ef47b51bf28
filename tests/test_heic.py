"""HEIC photos: read as pillow-heif reads them, and named with the extra where it is not installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import sslzoo
from sslzoo.cli import main
from sslzoo.data import sets
from sslzoo.data.decoded import heif
from sslzoo.data.picture import Picture, UnreadableImage

pillow_heif = pytest.importorskip("pillow_heif")

ORIENTATION = 0x0112


def photo(seed: int, width: int = 48, height: int = 32) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow_heif.from_pillow(image).save(path, quality=90, **how)
    return path


def true_pixels(path: Path) -> Any:
    """By the library itself, without Pillow's plugin."""
    found = pillow_heif.read_heif(path)
    return np.asarray(Image.frombytes(found.mode, found.size, bytes(found.data), "raw", found.mode, found.stride))


def test_pixels_are_the_librarys(tmp_path: Path) -> None:
    path = save(photo(0), tmp_path / "a.heic")
    picture = Picture(path)
    assert (picture.width, picture.height) == (48, 32)
    found = picture.pixels().permute(1, 2, 0).numpy()
    assert np.array_equal(found, true_pixels(path))
    assert np.abs(found.astype(int) - np.asarray(photo(0)).astype(int)).mean() < 8  # near to what was saved


def test_a_photo_that_lies_on_its_side_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(photo(1), tmp_path / "a.heic", exif=exif.tobytes())
    heif.register()
    with Image.open(path) as opened:  # which the plugin has turned already
        assert opened.size == (32, 48)
        true = np.asarray(opened.convert("RGB"))
    assert np.array_equal(Picture(path).pixels().permute(1, 2, 0).numpy(), true)


def test_transparent_parts_lie_on_white(tmp_path: Path) -> None:
    image = photo(2).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    path = save(image, tmp_path / "a.heif")
    assert int(Picture(path).pixels().min()) == 255


def test_a_telephones_folder_trains(tmp_path: Path) -> None:
    for i in range(40):
        if i % 2:
            save(photo(i), tmp_path / "set" / f"class {i % 3}" / f"IMG_{i}.HEIC")
        else:
            (tmp_path / "set" / f"class {i % 3}").mkdir(parents=True, exist_ok=True)
            photo(i).save(tmp_path / "set" / f"class {i % 3}" / f"IMG_{i}.jpg")
    found = sets.find(str(tmp_path / "set"))
    assert found.test is not None
    assert len(found.train) + len(found.test) == 40
    result = sslzoo.train(
        "simsiam", data=str(tmp_path / "set"), out=str(tmp_path), epochs=1, batch_size=8, device="cpu", workers=2
    )
    assert np.isfinite(result.loss)
    assert not (Path(result.run) / "bad_images.txt").exists() or not (Path(result.run) / "bad_images.txt").read_text()


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypheic" + bytes(500)])
def test_a_broken_photo_is_unreadable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(content)
    with pytest.raises(UnreadableImage, match="cannot be read as an image"):
        Picture(tmp_path / "a.heic").pixels()


def test_a_photo_that_breaks_off_is_unreadable(tmp_path: Path) -> None:
    whole = save(photo(3), tmp_path / "a.heic").read_bytes()
    (tmp_path / "b.heic").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImage, match="cannot be read as an image"):
        Picture(tmp_path / "b.heic").pixels()


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(photo(0), tmp_path / "set" / "a.heic")
    monkeypatch.setattr(heif, "is_there", lambda: False)
    result = CliRunner().invoke(main, ["train", "simsiam", "--data", str(tmp_path / "set")])
    assert result.exit_code == 2
    assert "1 .heic file in set/ cannot be read here; pip install 'sslzoo[heic]' reads HEIC" in result.stderr
    with pytest.raises(UnreadableImage, match=r"needs pillow-heif: pip install 'sslzoo\[heic\]'"):
        Picture(tmp_path / "set" / "a.heic")
