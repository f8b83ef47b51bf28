"""Raw pixels and the untrained backbone: their right values, once for all runs, within bounded memory."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from sslzoo.data import sets
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.tools import places
from sslzoo.training import baselines, scoring
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare
from sslzoo.training.run import resume, train
from sslzoo.views import features
from sslzoo.views.colours import Colours
from sslzoo.views.features import raw_size

WORDS = "dim=8 hidden=8 predictor_hidden=8"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """An .npz of four classes, each with a colour of its own; and no memory of earlier tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "_known", {})
    save("colours.npz")
    return "colours.npz"


def save(name, seed=0, labels=None):
    rng, arrays = np.random.default_rng(seed), {}
    for split, n in (("train", 80), ("test", 30)):
        truth = np.arange(n) % 4
        pixels = rng.integers(0, 200, (n, 12, 12, 3)) + 14 * truth[:, None, None, None]
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": truth if labels is None else
                   labels[:n]}  # fmt: skip
    np.savez(name, **arrays)


@pytest.fixture
def asked(monkeypatch):
    """What kNN was measured of, in order."""
    found, score = [], scoring.score

    def noted(plan, encoder, bank, queries):
        found.append("raw" if encoder is None else "colours" if isinstance(encoder, Colours) else "network")
        return score(plan, encoder, bank, queries)

    monkeypatch.setattr(scoring, "score", noted)
    return found


def run(data, words="simsiam", **options):
    usual = {"epochs": 1, "batch_size": 16, "device": "cpu", "knn_every": 9, "precision": "float32"}
    return train(f"{words} {WORDS if 'byol' in words or 'simsiam' in words else 'dim=8 hidden=8'}",
                 data=data, **{**usual, **options})  # fmt: skip


def brute_force(bank, labels, queries, truth, k=20):
    """The accuracy of k neighbours in float64, each with the vote exp(cosine / 0.07)."""
    b, q = (x.reshape(len(x), -1).astype(float) for x in (bank, queries))
    similar = (q / np.linalg.norm(q, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    right = []
    for row, label in zip(similar, truth, strict=True):
        near = np.argsort(-row)[:k]
        votes = [np.exp(row[near][labels[near] == c] / 0.07).sum() for c in range(4)]
        right.append(np.argmax(votes) == label)
    return np.mean(right)


def test_raw_pixels_are_measured_right(images):
    found = run(images)
    arrays = np.load(images)
    names = ("train_images", "train_labels", "test_images", "test_labels")
    assert found["raw_knn"] == pytest.approx(brute_force(*(arrays[name] for name in names)))


def test_the_second_run_measures_only_itself(images, asked):
    first = run(images)
    count = len(asked)
    assert asked.count("raw") == 1
    second = run(images, "byol")
    assert asked[count:].count("raw") == 0
    assert len(asked) - count == 2  # its validation, and the test split
    assert (second["raw_knn"], second["random_knn"]) == (first["raw_knn"], first["random_knn"])


CHANGES = {
    "another seed": ({"seed": 1}, 0), "another size": ({"image_size": 16}, 1), "other images": ({"data": "b.npz"}, 1),
    "other labels": ({"data": "c.npz"}, 1), "fewer images": ({"limit": 60}, 0), "nothing": ({}, 0),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_they_depend_on_makes_them_anew(images, asked, change):
    save("b.npz", seed=1)
    save("c.npz", labels=np.random.default_rng(0).integers(4, size=80))
    options, raw = CHANGES[change]
    run(images)
    count = len(asked)
    run(**{"data": images, **options})
    assert asked[count:].count("raw") in ((raw, 1) if change == "fewer images" else (raw,))
    networks = asked[count:].count("network") - 2  # beside validation and test
    assert networks == (0 if change == "nothing" else 1) or change == "fewer images"


def test_another_backbone_is_another_network(images, asked):
    run(images)
    count = len(asked)
    run(images, backbone="resnet18", image_size=16, epochs=1, limit=40)
    assert asked[count:].count("network") == 3


def test_without_a_place_to_keep_them_they_are_remembered(images, asked, monkeypatch):
    monkeypatch.setattr(baselines, "cache", lambda: Path("/proc/nowhere"))
    run(images)
    count = len(asked)
    run(images)
    assert len(asked) - count == 2


def test_kept_numbers_are_those_of_a_new_process(images, asked, monkeypatch):
    first = run(images)
    monkeypatch.setattr(baselines, "_known", {})
    count = len(asked)
    again = run(images)
    assert len(asked) - count == 2
    assert again["raw_knn"] == first["raw_knn"]


def test_no_damaged_number_is_believed(images, monkeypatch):
    """A hundred mutations of what is kept: each is read as it was written, or not at all."""
    run(images)
    dice = random.Random(0)
    for path in (places.cache() / "baselines").glob("*.json"):
        whole, value = path.read_bytes(), json.loads(path.read_bytes())["k20"]
        assert baselines.read(path.stem) == value
        for _ in range(50):
            content = bytearray(whole)
            at = dice.randrange(len(content))
            content[at] = dice.choice([content[at] ^ (1 << dice.randrange(8)), 48 + dice.randrange(10), 0])
            path.write_bytes(bytes(content[: dice.choice([None, None, at])]))
            assert baselines.read(path.stem) in (None, value)
        path.write_bytes(whole)
        path.rename(path.with_name("0.json"))
        assert baselines.read("0") is None  # another one's


@pytest.mark.parametrize("content", ["", "[]", "3", "null", '{"k20": "x"}', '{"k20": NaN}', "{"])
def test_what_is_no_number_is_none(content):
    path = places.cache() / "baselines" / "k.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert baselines.read("k") is None


def test_they_may_be_left_out(images, asked, run_cli):
    found = run(images, baselines=False)
    assert asked == ["network"] * 2
    assert (found["raw_knn"], found["random_knn"]) == (None, None)
    assert found["knn"]["k20"] >= 0
    assert resume(found["run"])["raw_knn"] is None  # as the run began
    words = ("train", "simsiam", *WORDS.split(), "--data", images, "--epochs", "1", "--device", "cpu")
    shown = run_cli(*words, "--no-baselines").output
    assert "kNN on the test split" in shown
    assert "raw pixels" not in shown
    assert "raw pixels" in run_cli(*words).output


@pytest.mark.parametrize(("flags", "raw", "networks"), [((), 1, 1), (("--no-baselines",), 0, 0)])
def test_an_ablation_measures_them_once_for_all_its_cells(images, asked, run_cli, flags, raw, networks):
    words = f"ablate simsiam {WORDS} --flip predictor,stop_gradient --data {images} --epochs 1 --device cpu --json"
    done = run_cli(*words.split(), *flags)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert asked.count("raw") == raw
    assert asked.count("network") == 2 * 4 + networks  # each cell's validation and test
    assert all((cell["random_knn"] is not None) is bool(raw) for cell in found["cells"])
    assert ("--no-baselines" in found["command"]) is not bool(raw)


@pytest.mark.parametrize(("count", "size", "expected"), [
    (1437, 28, 28), (60_000, 32, 32), (70_000, 28, 28), (10_000, 224, 94), (100_000, 224, 29), (1_300_000, 224, 8),
    (1_000_000_000, 224, 8), (1, 4096, 4096), (1, 8, 8), (0, 224, 224),
])  # fmt: skip
def test_raw_pixels_take_no_more_than_a_gibibyte(count, size, expected):
    """Of float32 numbers, three a pixel, where eight pixels a side are not too many already."""
    assert raw_size(count, size) == expected
    assert expected == 8 or 12 * count * expected**2 <= 2**30
    assert expected == size or expected == 8 or 12 * count * (expected + 1) ** 2 > 2**30


def test_smaller_pixels_are_said_and_the_same_everywhere(images, monkeypatch):
    monkeypatch.setattr(features, "RAW_BYTES", 110 * 12 * 100)  # for 110 images of 10 px
    plan = prepare("simsiam", Options(data=images, device="cpu"))
    assert any("compared at 10 px" in note for note in plan.notes)
    embedded = embed("raw", EmbedOptions(data=images))
    assert embedded.source == "raw at 10 px"
    assert embedded.features.shape == (80, 300)
    assert sets.load(images).size == 12
    assert not any("Raw pixels" in one for one in prepare("simsiam", Options(data=images, baselines=False)).notes)
