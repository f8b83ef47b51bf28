"""Pictures of one to thirteen channels and of more than 8 bits: their values arrive as numpy has them."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import sslzoo
from sslzoo.cli import main
from sslzoo.data import sets
from sslzoo.data.decoded.bands import npy
from sslzoo.data.given.options import DataOptions
from sslzoo.evaluation.sources import EmbedOptions, open_source
from sslzoo.recipes.algebra import parse, resolve
from sslzoo.views import pixels
from sslzoo.views.batches import pipelines

QUICK = {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32"}


def values(seed: int, channels: int, dtype: Any = np.uint16, top: int = 4095, side: int = 32) -> Any:
    """A smooth picture [side, side, channels]."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.uniform(0, 1, (1, channels, 5, 5)))
    big = torch.nn.functional.interpolate(small, (side, side), mode="bilinear")[0].permute(1, 2, 0).numpy()
    return (big * top).astype(dtype)


def album(root: Path, channels: int, save: Any, n: int = 40, **how: Any) -> dict[str, Any]:
    """A folder of two classes; the values of each picture by its path."""
    found = {}
    for i in range(n):
        place = root / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        array = values(i, channels, **how)
        path = save(array, place / f"{i:02}")
        found[str(path)] = array
    return found


def as_npy(array: Any, stem: Path) -> Path:
    np.save(stem.with_suffix(".npy"), array)
    return stem.with_suffix(".npy")


def as_npy_first(array: Any, stem: Path) -> Path:
    return as_npy(array.transpose(2, 0, 1), stem)


def as_tiff(array: Any, stem: Path) -> Path:
    tifffile = pytest.importorskip("tifffile")
    how = {"planarconfig": "contig"} if array.shape[-1] > 1 else {}
    tifffile.imwrite(stem.with_suffix(".tif"), array, photometric="minisblack", **how)
    return stem.with_suffix(".tif")


def as_tiff_in_planes(array: Any, stem: Path) -> Path:
    tifffile = pytest.importorskip("tifffile")
    first = array.transpose(2, 0, 1)
    how = {"planarconfig": "separate"} if len(first) > 1 else {}
    tifffile.imwrite(stem.with_suffix(".tif"), first, photometric="minisblack", **how)
    return stem.with_suffix(".tif")


def as_pages(array: Any, stem: Path) -> Path:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(stem.with_suffix(".tif")) as file:
        for page in array.transpose(2, 0, 1):
            file.write(page, photometric="minisblack", contiguous=True)
    return stem.with_suffix(".tif")


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize("save", [as_npy, as_npy_first, as_tiff, as_tiff_in_planes, as_pages])
def test_pixels_are_the_files_values_within_one_of_255(save: Any, channels: int, tmp_path: Path) -> None:
    true = album(tmp_path / "set", channels, save)
    found = sets.read(DataOptions(str(tmp_path / "set"), channels=channels, range="0,4095", image_size=32))
    assert found.test is not None
    assert len(found.train) + len(found.test) == 40
    assert len(found.mean) == len(found.std) == channels
    for split in (found.train, found.test):
        read = split.images.read([*range(len(split))], 32).pixels
        for path, one in zip(split.images.paths, read, strict=True):
            right = true[str(path)].transpose(2, 0, 1) / 4095
            assert np.abs(one.numpy() / 255 - right).max() <= 1 / 255
    shares = np.stack([true[str(path)] for path in found.train.images.paths]).astype(np.float64) / 4095
    assert np.allclose(found.mean, shares.mean(axis=(0, 1, 2)), atol=1 / 255)
    assert np.allclose(found.std, shares.std(axis=(0, 1, 2)), atol=1 / 255)


def test_one_channel_is_pillows_gray(tmp_path: Path) -> None:
    def save(array: Any, stem: Path) -> Path:
        Image.fromarray(array).save(stem.with_suffix(".png"))
        return stem.with_suffix(".png")

    album(tmp_path / "set", 3, save, dtype=np.uint8, top=255)
    found = sets.read(DataOptions(str(tmp_path / "set"), channels=1, image_size=32))
    read = found.train.images.read([*range(len(found.train))], 32).pixels
    for path, one in zip(found.train.images.paths, read, strict=True):
        assert np.array_equal(one[0].numpy(), np.asarray(Image.open(path).convert("L")))


@pytest.mark.parametrize("memory", ["always", "never"])
def test_thirteen_channels_train_and_are_looked_at_again(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and from files, at the pictures' size and cut out of larger ones; resumed, and by kNN of the run."""
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "set", 13, as_npy, side=48)
    given = {
        "data": "set",
        "channels": 13,
        "range": "0,4095",
        "memory": memory,
        "image_size": 16,
        "workers": 0 if memory == "always" else 2,
    }
    whole = sslzoo.train("simclr", **given, **{**QUICK, "epochs": 2}, out="whole")
    half = sslzoo.train("simclr", **given, **{**QUICK, "epochs": 2}, out="half", stop_after=1)
    assert sslzoo.resume(half.run).knn == whole.knn
    about = json.loads((Path(whole.run) / "run.json").read_text())
    assert (about["options"]["channels"], len(about["mean"]), len(about["std"])) == (13, 13, 13)
    assert sslzoo.encoder(whole.run)(torch.zeros(2, 13, 16, 16)).shape[0] == 2
    result = CliRunner().invoke(main, ["knn", whole.run, "random", "raw", "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert whole.knn is not None
    assert rows[0]["knn"]["k20"] == pytest.approx(whole.knn["k20"])
    assert rows[2]["dimension"] == 13 * 48 * 48  # of their own size
    result = CliRunner().invoke(main, ["search", whole.run, "test:0", "--out", "g.png", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    with Image.open("g.png") as drawn:
        assert drawn.mode == "RGB"


def test_arrays_of_channels_are_one_run_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures, in an .npz of channels last and of channels first."""
    monkeypatch.chdir(tmp_path)
    parts = {}
    for split in ("train", "test"):
        true = album(tmp_path / "set" / split, 5, as_npy, n=24 if split == "train" else 8, dtype=np.uint8, top=255)
        names = sorted(true)
        parts[f"{split}_images"] = np.stack([true[name] for name in names])
        parts[f"{split}_labels"] = np.array([Path(name).parent.name == "b" for name in names]).astype(int)
    np.savez("last.npz", **parts)
    first = {key: x.transpose(0, 3, 1, 2) if x.ndim == 4 else x for key, x in parts.items()}
    np.savez("first.npz", **first)
    runs = [sslzoo.train("simclr", data=data, channels=5, **QUICK, out="runs") for data in
            ("set", "last.npz", "first.npz")]  # fmt: skip
    assert len({(run.loss, json.dumps(run.knn)) for run in runs}) == 1


def test_operations_that_need_rgb_are_left_out_and_said(tmp_path: Path) -> None:
    recipe = resolve(parse("simclr"), "large")
    for (four, _), (three, _) in zip(pipelines(recipe, 32, 4), pipelines(recipe, 32), strict=True):
        assert min(three.saturation, three.hue, three.grayscale, three.brightness, three.blur) > 0
        assert four == replace(three, saturation=0, hue=0, grayscale=0)
    images = torch.rand(3, 4, 8, 8, dtype=torch.float64)
    factor = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    right = (images * factor.view(3, 1, 1, 1) + mean * (1 - factor.view(3, 1, 1, 1))).clamp(0, 1)
    assert torch.allclose(pixels.contrast(images, factor), right)
    album(tmp_path / "set", 4, as_npy, dtype=np.uint8, top=255)
    words = ["train", "simsiam", "--data", str(tmp_path / "set"), "--channels", "4", "--dry-run", "--device", "cpu"]
    result = CliRunner().invoke(main, [*words, "--epochs", "1", "--batch-size", "8"])
    assert result.exit_code == 0, result.output
    said = " ".join((result.output + result.stderr).split())
    assert "4 channels: saturation, hue and grayscale need RGB and are left out" in said


@pytest.mark.parametrize(
    ("channels", "given", "words"),
    [
        (13, {"channels": 13}, "has values of uint16 from .* say which range is black to white with --range 0,4095"),
        (5, {"channels": 4, "range": "0,4095"}, "it is an array of 32 x 32 x 5, which is not the 4 of --channels"),
        (5, {"channels": 14}, "--channels cannot be 14; it is from 1 to 13"),
        (5, {"channels": 0}, "--channels cannot be 0; it is from 1 to 13"),
        (5, {}, "holds no images"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(channels: int, given: Any, words: str, tmp_path: Path) -> None:
    album(tmp_path / "set", channels, as_npy)
    with pytest.raises(sslzoo.UserError, match=words):
        sets.read(DataOptions(str(tmp_path / "set"), **given))


def test_pages_that_are_not_read_are_said(tmp_path: Path) -> None:
    """A TIFF of 13 pages is its first page, unless its channels are asked for."""
    true = album(tmp_path / "set", 13, as_pages)
    found = sets.read(DataOptions(str(tmp_path / "set"), range="0,4095", image_size=32))
    said = f"{len(found.train)} pictures have 13, which --channels 13 reads as so many channels"
    assert said in "\n".join(found.notes)
    path, one = found.train.images.paths[0], found.train.images.read([0], 32).pixels[0]
    assert np.abs(one.numpy() / 255 - true[str(path)][..., 0] / 4095).max() <= 1 / 255
    all_of_them = sets.read(DataOptions(str(tmp_path / "set"), range="0,4095", channels=13, image_size=32))
    one = all_of_them.train.images.read([0], 32).pixels[0]
    assert np.abs(one.numpy() / 255 - true[str(path)].transpose(2, 0, 1) / 4095).max() <= 1 / 255


def test_arrays_of_colours_have_pillows_gray(tmp_path: Path) -> None:
    images = np.stack([values(i, 3, np.uint8, 255) for i in range(20)])
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(20) % 2)
    found = sets.find(DataOptions(str(tmp_path / "a.npz"), channels=1))
    assert found.test is not None
    read = {
        one.numpy().tobytes()
        for split in (found.train, found.test)
        for one in split.images.read([*range(len(split))], 32).pixels
    }
    assert read == {np.asarray(Image.fromarray(one).convert("L")).tobytes() for one in images}


def test_arrays_name_the_flag(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.zeros((20, 16, 16, 6), np.uint8), train_labels=np.arange(20) % 2)
    with pytest.raises(sslzoo.UserError, match=r"it has to be .*; or say --channels 6\."):
        sets.read(DataOptions(str(tmp_path / "a.npz")))


def test_without_tifffile_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album(tmp_path / "set", 7, as_tiff)
    monkeypatch.setattr("sslzoo.data.decoded.bands.find_spec", lambda name: None)
    with pytest.raises(sslzoo.UserError, match=r"pip install 'sslzoo\[tiff\]'"):
        sets.read(DataOptions(str(tmp_path / "set"), channels=7, range="0,4095"))


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<f4", "<f8", "<i4", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_is_numpys(kind: str, order: str) -> None:
    """By many threads at a time: in Python 3.11 numpy's own reading fails now and then there."""
    values = np.random.default_rng(0).integers(0, 2, (4, 3, 5)).astype(kind)
    file = io.BytesIO()
    np.save(file, np.asarray(values, order=order))
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(npy, [file.getvalue()] * 200):
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values)
    with pytest.raises(ValueError, match="truncated"):
        npy(file.getvalue()[:-1])
    objects = io.BytesIO()
    np.save(objects, np.array([None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        npy(objects.getvalue())


def test_a_run_has_the_channels_that_it_was_trained_on(tmp_path: Path) -> None:
    album(tmp_path / "set", 5, as_npy)
    options = {"epochs": 1, "batch_size": 16, "device": "cpu", "backbone": "small", "image_size": 16, "range": "0,4095"}
    run = sslzoo.train("simsiam", data=str(tmp_path / "set"), channels=5, out=str(tmp_path / "runs"), **options).run
    with pytest.raises(sslzoo.UserError, match="was trained on 5 channels; leave --channels 4 out"):
        open_source(run, EmbedOptions(channels=4))
