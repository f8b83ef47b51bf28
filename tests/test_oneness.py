"""One meaning whatever the machine: where images are kept and who reads them changes no bit of a run."""

import json
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets
from sslzoo.data.picture import Picture, square
from sslzoo.tools.errors import UserError
from sslzoo.views.features import Preprocessing, features, raw_size

RUN = {"epochs": 2, "batch_size": 16, "precision": "float32", "device": "cpu"}
WAYS = {
    "kept": {"memory": "always"},
    "kept, read by one": {"memory": "always", "workers": 1},
    "alone": {"memory": "never", "workers": 0},
    "one reader": {"memory": "never", "workers": 1},
    "two readers": {"memory": "never", "workers": 2},
    "little memory": {},
    "second thread": {"memory": "never", "workers": 2},
}


def photos(root: Path, sizes, broken: bool = False) -> Path:
    """Two classes of 24 + 6 smooth pictures of these sizes in turn, JPEG and PNG, one of them cut off where asked."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("test", 6)):
        for label in "ab":
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                width, height = sizes[i % len(sizes)]
                small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
                small.resize((width, height), Image.BICUBIC).save(folder / f"{i:02}.{'jpg' if i % 2 else 'png'}")
    if broken:
        for name in ("train/a/03.jpg", "train/b/10.png", "test/a/01.jpg"):
            content = (root / name).read_bytes()
            (root / name).write_bytes(content[: len(content) // 2])
    return root


DATA = {
    "photos": {"sizes": [(60, 40), (40, 52), (200, 150)]},
    "large photos": {"sizes": [(700, 500), (300, 420)]},
    "squares": {"sizes": [(40, 40)]},
    "photos, some cut off": {"sizes": [(60, 40), (40, 52), (200, 150)], "broken": True},
    "squares, some cut off": {"sizes": [(40, 40)], "broken": True},
}


@pytest.fixture(scope="module", params=DATA)
def data(request, tmp_path_factory):
    """A folder, and what a run in memory comes to."""
    root = photos(tmp_path_factory.mktemp("data") / "set", **DATA[request.param])
    return root, run(root, tmp_path_factory.mktemp("first"), memory="always")


def run(root, out, expression="simsiam", **options):
    """The losses, kNN and weights of a run, with its notes."""
    given = {**RUN, "data": str(root), "out": str(out), "image_size": 32, "max_bad": 0.2, **options}
    result = sslzoo.train(expression, **given)
    path = Path(result["run"])
    log = [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows(path / "log.csv")]
    numbers = (result["loss"], result["knn"], result["raw_knn"], result["random_knn"])
    about = json.loads((path / "run.json").read_text())
    weights = sslzoo.encoder(str(path)).state_dict()
    return log, numbers, {k: v.numpy().tobytes() for k, v in weights.items()}, (about["mean"], about["std"])


def rows(path):
    head, *lines = path.read_text().splitlines()
    return [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_one_bit_for_bit(data, way, tmp_path, monkeypatch):
    root, expected = data
    if way == "little memory":  # half of what the set takes
        available = psutil.virtual_memory()._replace(available=sum(p.stat().st_size for p in root.rglob("*.*")) // 2)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    if way != "second thread":
        assert run(root, tmp_path, **WAYS[way]) == expected
        return
    found = []
    thread = threading.Thread(target=lambda: found.append(run(root, tmp_path, **WAYS[way])))
    thread.start()
    thread.join(120)
    assert found == [expected]


@pytest.mark.parametrize("expression", ["dino optimizer.warmup_epochs=1", "instdisc"])
def test_so_are_local_crops_and_a_bank_of_images(expression, tmp_path):
    root = photos(tmp_path / "set", **DATA["photos, some cut off"])
    first, second = (run(root, tmp_path, expression, memory=memory, workers=1) for memory in ("always", "never"))
    assert first == second


@pytest.mark.parametrize("kind", ["photos", "squares"])
@pytest.mark.parametrize("limit", [None, 20])
def test_the_same_pixels_are_evaluated(kind, limit, tmp_path):
    root = photos(tmp_path, **DATA[kind])
    kept, streamed = (sets.load(str(root), 32, limit, memory) for memory in ("always", "never"))
    assert kept.train.images.pixels is not None
    assert streamed.train.images.pixels is None
    assert (kept.mean, kept.std, kept.train.images.names) == (streamed.mean, streamed.std, streamed.train.images.names)
    for size in (32, raw_size(10**8, 32)):  # a small one, too
        one, other = (features(None, d.bank, Preprocessing(size, d.mean, d.std), device()) for d in (kept, streamed))
        assert np.array_equal(one, other)


def device():
    import torch

    return torch.device("cpu")


def test_mean_and_deviation_are_those_of_the_pixels_that_are_seen(tmp_path):
    root = photos(tmp_path, **DATA["photos"])
    found = sets.load(str(root), 32, memory="never")
    pixels = np.concatenate(
        [square(Picture(path).pixels()[None], 32).numpy() for path in found.train.images.paths]
    ).astype(float)
    assert np.allclose(found.mean, pixels.mean(axis=(0, 2, 3)) / 255, atol=2e-3)
    assert np.allclose(found.std, pixels.std(axis=(0, 2, 3)) / 255, atol=2e-3)


def test_a_part_that_is_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("sslzoo.data.folders.MEASURED", 10)
    root = photos(tmp_path, **DATA["squares"])
    notes = sets.load(str(root), 32).notes
    assert any("mean and deviation of pixels are those of 10 of 48 training images" in note for note in notes)


@pytest.mark.parametrize(("memory", "said"), [("always", "kept in memory"), ("never", "read from their files")])
def test_where_images_are_is_said(tmp_path, memory, said):
    root = photos(tmp_path, **DATA["squares"])
    assert any(said in note for note in sets.load(str(root), 32, memory=memory).notes)


def test_arrays_are_in_memory_and_that_is_said(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.zeros((8, 32, 32, 3), np.uint8))
    assert "arrays are in memory, whatever --memory says" in sets.load(str(tmp_path / "x.npz"), memory="never").notes


def test_other_words_are_refused(tmp_path):
    with pytest.raises(UserError, match="--memory cannot be 'much'; it is auto, always or never"):
        sets.load("digits", memory="much")
