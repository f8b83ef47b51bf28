"""Hostile files: pictures, methods and run directories made to run a program, to wait for ever, or to fill memory."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import EpsImagePlugin, Image
from safetensors.torch import load_file, save_file

from sslzoo.cli import main
from sslzoo.data import picture
from sslzoo.data.picture import Picture, UnreadableImage
from sslzoo.data.unreadable import UnreadableImages
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.recipe import read_method

NOISE = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
PATIENCE = 5.0  # seconds, of which a case needs a hundredth


def saved(kind: str, image: Any = NOISE, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


# ---- pictures


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "MPO"])
def test_what_people_have_is_read_whatever_its_name(kind: str, tmp_path: Path) -> None:
    options = {"quality": 100, "lossless": True} if kind == "WEBP" else {}
    (tmp_path / "a.jpg").write_bytes(saved(kind, **options))
    pixels = Picture(tmp_path / "a.jpg").pixels().numpy().transpose(1, 2, 0).astype(int)
    assert pixels.shape == (40, 40, 3)
    lossless = kind in ("PNG", "BMP", "PPM", "TIFF", "WEBP")
    assert np.abs(pixels - NOISE).mean() < (0.01 if lossless else 60)  # of other noise it were 85


ENDLESS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n{} loop\n%%EOF\n"
OTHERS: dict[str, bytes] = {
    "EPS with an endless loop": ENDLESS,
    "PDF": saved("PDF"), "PCX": saved("PCX"), "TGA": saved("TGA"), "ICO": saved("ICO"), "SGI": saved("SGI"),
    "DDS": saved("DDS"), "MSP": b"DanM" + bytes(28), "FITS": b"SIMPLE  =                    T",
    "XBM": b"#define im_width 8\n#define im_height 1\nstatic char im_bits[] = {0x00};",
    "WMF": b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(40), "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "text": b"no image at all", "program": b"#!/bin/sh\ntouch here\n",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_decoder_opens_a_picture(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: ran.append(given))
    monkeypatch.setattr("subprocess.Popen", lambda *given, **_: ran.append(given))
    (tmp_path / "a.jpg").write_bytes(OTHERS[name])
    started = time.monotonic()
    with pytest.raises(UnreadableImage) as caught:
        Picture(tmp_path / "a.jpg").pixels()
    assert caught.value.reason == "it holds no image"
    assert time.monotonic() - started < PATIENCE
    assert ran == []


def refined(side: int, times: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    file = saved("JPEG", np.full((side, side, 3), 120, np.uint8), progressive=True)
    last = file.rfind(b"\xff\xc4", 0, file.rfind(b"\xff\xda"))
    return file[:-2] + file[last:-2] * times + b"\xff\xd9"


def test_a_jpeg_of_too_many_scans_is_unreadable_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(refined(3000, 300))
    started = time.monotonic()
    with pytest.raises(UnreadableImage, match="scans") as caught:
        Picture(tmp_path / "a.jpg").pixels()
    assert caught.value.reason == "has 310 scans, which take too long; save it anew"
    assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(("side", "times"), [(1200, 0), (64, 300)])
def test_usual_scans_and_small_pictures_are_read(side: int, times: int, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(refined(side, times))
    assert Picture(tmp_path / "a.jpg").pixels().shape == (3, side, side)


def test_a_sparse_file_is_not_read_into_memory(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(UnreadableImage, match="larger than"):
        Picture(tmp_path / "a.jpg")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


IRREGULAR = {"a pipe": pipe, "a device": zero, "a folder": folder}


@pytest.mark.parametrize("kind", IRREGULAR)
def test_only_regular_files_are_pictures(kind: str, tmp_path: Path) -> None:
    IRREGULAR[kind](tmp_path / "a.jpg")
    assert not picture.is_image(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage):
        Picture(tmp_path / "a.jpg")


# ---- method files and expressions

TOML: dict[str, str] = {
    "dotted keys": "[switches]\n" + "a." * 40_000 + "b = 1\n",
    "quoted dotted keys": "'a' . \"b\" ." * 9_000 + " c = 1\n",
    "dotted tables": "[" + "a." * 40_000 + "b]\n",
    "lists in lists": "a = " + "[" * 40_000,
    "tables in tables": "a = " + "{a = " * 15_000,
    "many tables": "".join(f"[a.b.c.d.e{i}]\n" for i in range(4_000)),
    "long text": "title = '" + "a" * 99_000 + "'\n",
    "a long key": "a" * 90_000 + " = 1\n",
    "too large": "#" * 200_000,
}


@pytest.mark.parametrize("name", TOML)
def test_a_method_file_takes_no_time(name: str, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "m.toml").write_text(TOML[name])
    started = time.monotonic()
    with refused("m.toml"):
        read_method(tmp_path / "m.toml")
    assert time.monotonic() - started < PATIENCE


@pytest.mark.parametrize("kind", IRREGULAR)
def test_only_regular_files_are_methods(kind: str, tmp_path: Path, refused: Any) -> None:
    IRREGULAR[kind](tmp_path / "m.toml")
    with refused("m.toml cannot be read"):
        read_method(tmp_path / "m.toml")


LONG = ["{}", "simsiam + {}", "simsiam - {}", "simsiam {}", "simsiam {}=1", "simsiam predictor={}", "simsiam like={}"]


@pytest.mark.parametrize("length", [9_000, 100_000])
@pytest.mark.parametrize("words", LONG)
def test_a_long_word_takes_no_time_and_is_cut(words: str, length: int) -> None:
    started = time.monotonic()
    found = CliRunner().invoke(main, ["train", *words.format("a" * length).split()])
    assert found.exit_code == 2
    assert len(found.stderr) < 2_500
    assert time.monotonic() - started < PATIENCE


def test_a_long_expression_is_refused_in_python(refused: Any) -> None:
    with refused("at most 10,000"):
        parse("simsiam " + "+ momentum - momentum " * 9_000)


# ---- run directories


@pytest.fixture
def run(true_run: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped, beside the data that it was trained on."""
    import bad_files

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.npz").write_bytes(bad_files.images())
    (tmp_path / "run").mkdir()
    for name, content in true_run.items():
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


def said(*words: str) -> str:
    found = CliRunner().invoke(main, list(words))
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    assert found.exit_code in (0, 2), found.output
    return found.stderr


FILES = ["run.json", "recipe.toml", "log.csv", "last.pt", "encoder.safetensors", "knn.json", "bad_images.txt"]


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", FILES)
def test_an_irregular_file_of_a_run_holds_nobody_up(name: str, kind: str, run: Path) -> None:
    (run / name).unlink(missing_ok=True)
    IRREGULAR[kind](run / name)
    started = time.monotonic()
    said("knn", "run", "--data", "tiny.npz")
    said("runs", "--out", ".")
    said("train", "--resume", "run", "--quiet")
    assert time.monotonic() - started < 20


def test_a_list_of_unreadable_images_reaches_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, outside = tmp_path / "data", tmp_path / "secret.jpg"
    data.mkdir()
    outside.write_bytes(b"no image")
    (data / "broken.jpg").write_bytes(b"no image")
    os.mkfifo(data / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    lines = [data / "broken.jpg", data / "pipe.jpg", outside, tmp_path / "pipe.jpg", data / ".." / "secret.jpg"]
    (tmp_path / "bad_images.txt").write_text("".join(f"{path}\twhy\n" for path in lines))
    opened: list[str] = []
    monkeypatch.setattr("sslzoo.data.unreadable.opened", lambda path, *_: opened.append(path.name) or Picture(path))
    found = UnreadableImages(data, 4)
    found.read_list(tmp_path / "bad_images.txt")
    assert opened == ["broken.jpg", "pipe.jpg"]
    assert {path.parent for path in found.reasons} == {data}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("words", ["train simsiam --data tiny.npz --init run", "embed run --out f.npz --data tiny.npz"])
def test_weights_that_are_not_finite_are_refused_by_name(words: str, value: float, run: Path) -> None:
    weights = load_file(run / "encoder.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] = value
    save_file(weights, run / "encoder.safetensors")
    found = said(*words.split())
    assert "not finite" in found
    assert name in found
    assert "optimizer.lr" not in found
    assert not Path("f.npz").exists()
    assert not Path("runs").exists()


def test_features_that_are_not_finite_are_not_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslzoo.evaluation import encode

    monkeypatch.setattr(encode, "features", lambda *_: np.full((20, 4), np.nan, np.float32))
    assert "not finite" in said("embed", "raw", "--data", "tiny.npz", "--out", "f.npz")
    assert not Path("f.npz").exists()


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes with some of them changed, cut, doubled or taken out."""
    data, kind = bytearray(content), int(rng.integers(4))
    at = int(rng.integers(max(len(data), 1)))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        return bytes(data[:at] + data[at + int(rng.integers(1, 64)) :])
    if kind == 2:
        return bytes(data[:at] + data[at : at + 40] + data[at:])
    for place in rng.integers(len(data), size=int(rng.integers(1, 9))):
        data[place] = int(rng.integers(256))
    return bytes(data)


COMMANDS: list[Callable[[], str]] = [
    lambda: said("runs", "--out", "."),
    lambda: said("train", "--resume", "run", "--quiet"),
    lambda: said("knn", "run", "--data", "tiny.npz", "--no-cache", "--retrieval", "none"),
]
ROUNDS = int(os.environ.get("SSLZOO_FUZZ", "6"))  # of mutations of each file


@pytest.mark.parametrize("name", ["run.json", "recipe.toml", "log.csv", "last.pt", "encoder.safetensors"])
def test_a_mutated_run_is_used_or_refused_in_a_sentence(name: str, run: Path, true_run: dict[str, bytes]) -> None:
    rng = np.random.default_rng(FILES.index(name))
    for round_ in range(ROUNDS):
        for path in run.iterdir():
            path.unlink()
        for other, content in true_run.items():
            (run / other).write_bytes(content)
        (run / name).write_bytes(flip(rng, true_run[name]))
        torch.manual_seed(0)
        COMMANDS[round_ % 3]()
