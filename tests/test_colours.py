"""Colour histograms: against a loop in float64, beside a run and as a source, and the sentence where they do better."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sslzoo.data import sets
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.training import baselines, scoring
from sslzoo.training.options import Options
from sslzoo.training.plan import Plan, prepare
from sslzoo.training.run import resume, train
from sslzoo.training.scoring import Scores
from sslzoo.views.colours import Colours, gray
from sslzoo.views.features import Preprocessing, features

Array = npt.NDArray[Any]
WORDS = "simclr dim=8 hidden=8 batch_size=16"
USUAL: dict[str, Any] = {"epochs": 1, "device": "cpu", "knn_every": 9, "precision": "float32"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own, and no memory of earlier tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "_known", {})


def save(name: str, kind: str = "colours", queries: int = 40, size: int = 12) -> str:
    """An .npz of four classes that differ by colour alone, or of the same in gray."""
    rng, arrays = np.random.default_rng(0), {}
    tints = np.array([[150, 20, 20], [20, 150, 20], [20, 20, 150], [150, 150, 20]])
    for split, n in (("train", 80), ("test", queries)):
        truth = np.arange(n) % 4
        pixels = rng.integers(0, 200, (n, size, size, 3)) // 2 + tints[truth][:, None, None] // 2
        if kind == "gray":
            pixels = pixels[..., :1].repeat(3, axis=-1)
        arrays |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": truth}
    np.savez(name, **arrays)  # type: ignore[arg-type]
    return name


def by_loop(image: Array) -> Array:
    """The root of an image's joint histogram: uint8 [H, W, 3], every n-th pixel so that a side has at most 64."""
    step = 1
    while -(-max(image.shape[:2]) // step) > 64:
        step += 1
    counts, pixels = np.zeros((8, 8, 8)), 0
    for row in image[::step, ::step]:
        for red, green, blue in row.tolist():
            counts[red // 32, green // 32, blue // 32] += 1
            pixels += 1
    return np.sqrt(counts / pixels).reshape(-1)


@pytest.mark.parametrize(("size", "pixels"), [(8, 64), (12, 144), (64, 4096), (65, 33**2), (130, 44**2)])
def test_a_histogram_is_that_of_a_loop(size: int, pixels: int) -> None:
    images = np.random.default_rng(size).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    np.savez("some.npz", train_images=images, test_images=images)
    how = Preprocessing(size, (0.0,) * 3, (1.0,) * 3)
    found = features(Colours(), sets.load("some.npz", image_size=size).train, how, torch.device("cpu"))
    expected = np.stack([by_loop(image) for image in images])
    assert found.shape == (3, 512)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[0] ** 2 * pixels, np.rint(found[0] ** 2 * pixels), atol=1e-3)  # whole pixels


def test_every_value_of_a_pixel_has_its_bin() -> None:
    """All 256 values of a channel, 32 in each of its eight ranges."""
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    (row,) = Colours()(ramp).square()
    torch.testing.assert_close(row[row > 0], torch.full((8,), 1 / 8))
    assert row.nonzero().squeeze(1).tolist() == [73 * i for i in range(8)]


def test_where_a_colour_lies_does_not_matter() -> None:
    image = torch.randint(256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    moved = image.flatten(2)[:, :, torch.randperm(256, generator=torch.Generator().manual_seed(1))].view_as(image)
    red, blue = (torch.zeros(1, 3, 16, 16).index_fill(1, torch.tensor(i), 230) for i in (0, 2))
    rows = [Colours()(x) for x in (image, moved, red, blue)]
    assert all(float(row.norm()) == pytest.approx(1) for row in rows)
    assert torch.equal(rows[0], rows[1])
    assert float((rows[2] * rows[3]).sum()) == 0


def test_gray_images_have_no_colours() -> None:
    pixels = torch.randint(256, (4, 1, 10, 10)).expand(-1, 3, -1, -1)
    assert gray(Colours()(pixels).numpy())
    coloured = pixels.clone()
    coloured[3, :, 0, 0] = torch.tensor([255, 0, 0])  # one pixel of one image
    assert not gray(Colours()(coloured).numpy())


def brute_force(name: str) -> float:
    """The accuracy of 20 neighbours in float64, each with the vote exp(cosine / 0.07)."""
    arrays = np.load(name)
    b, q = (np.stack([by_loop(image) for image in arrays[f"{split}_images"]]) for split in ("train", "test"))
    truth, right = arrays["train_labels"], []
    for row, label in zip(q @ b.T, arrays["test_labels"], strict=True):
        near = np.argsort(-row)[:20]
        votes = [np.exp(row[near][truth[near] == c] / 0.07).sum() for c in range(4)]
        right.append(np.argmax(votes) == label)
    return float(np.mean(right))


def test_a_run_and_a_benchmark_have_the_same_number(run_cli: Callable[..., Any]) -> None:
    name = save("a.npz")
    found = train(WORDS, data=name, **USUAL)
    assert found.colour_knn == pytest.approx(brute_force(name))
    assert json.loads((Path(found.run) / "knn.json").read_text())["colour_knn"] == found.colour_knn
    rows = json.loads(run_cli("knn", "colours", found.run, "--json").stdout)["rows"]
    by_source = {row["source"]: row for row in rows}
    assert by_source["colours"]["knn"]["k20"] == pytest.approx(found.colour_knn)
    assert by_source["colours"]["dimension"] == 512
    baselines._known.clear()
    assert train(WORDS, data=name, **USUAL).colour_knn == found.colour_knn  # as it was kept


def test_gray_images_have_no_row_and_a_benchmark_says_so(run_cli: Callable[..., Any]) -> None:
    name = save("gray.npz", "gray")
    found = train(WORDS, data=name, **USUAL)
    assert found.colour_knn is None
    assert found.raw_knn is not None
    baselines._known.clear()
    assert train(WORDS, data=name, **USUAL).colour_knn is None  # as it was kept
    (row,) = json.loads(run_cli("knn", "colours", "--data", name, "--json").stdout)["rows"]
    assert "gray" in row["note"]
    assert (embed("colours", EmbedOptions(data=save("b.npz"))).note, row["dimension"]) == (None, 512)


def test_the_screen_shows_them_unless_they_are_left_out(run_cli: Callable[..., Any]) -> None:
    words = ("train", *WORDS.split(), "--data", save("a.npz"), "--epochs", "1", "--device", "cpu")
    shown = run_cli(*words).output
    (line,) = [line for line in shown.splitlines() if line.startswith("colour histogram")]
    assert float(line.split()[-1]) == pytest.approx(brute_force("a.npz"), abs=5e-4)
    assert "random raw colours" in shown
    without = run_cli(*words, "--no-baselines").output
    assert "colour histogram" not in without
    assert "Colours alone" not in without
    gray_ones = run_cli(*words[:-5], save("gray.npz", "gray"), *words[-4:]).output
    assert "raw pixels" in gray_ones
    assert "colour histogram" not in gray_ones


# ---- the sentence


def plan_of(words: str, queries: int = 40) -> Plan:
    return prepare(words, Options(data=save("q.npz", queries=queries, size=8), device="cpu"))


SAID = [  # queries, colours, learned, and whether it is said: 1.96 sqrt((c (1 - c) + l (1 - l)) / n), or .02
    (40, 0.9, 0.5, True),  # .181 is chance
    (40, 0.65, 0.5, False),  # .214
    (40, 0.5, 0.9, False),
    (5000, 0.54, 0.5, True),  # .0196
    (5000, 0.519, 0.5, False),
    (5000, 0.015, 0.0, False),  # .0034, but less than .02
    (5000, 0.025, 0.0, True),
]


@pytest.mark.parametrize(("queries", "colours", "learned", "said"), SAID)
def test_it_is_said_beyond_chance_alone(queries: int, colours: float, learned: float, said: bool) -> None:
    plan = plan_of(WORDS, queries)
    scores = Scores({"k20": learned}, 0.1, 0.1, colours)
    found = scoring.colour_advice(plan, scores)
    assert len(found) == said
    if said:
        assert f"{colours:.3f}" in found[0]
        assert f"{learned:.3f}" in found[0]
        assert f"try 'sslzoo train {WORDS} views.preset=fine' with the flags" in found[0]
    assert not scoring.colour_advice(plan, replace(scores, colour_knn=None))
    assert not scoring.colour_advice(plan, Scores())


def test_not_where_colours_are_kept_already() -> None:
    scores = Scores({"k20": 0.1}, 0.1, 0.1, 0.9)
    assert scoring.colour_advice(plan_of("simclr preset=document"), scores)
    assert not scoring.colour_advice(plan_of("simclr preset=fine"), scores)
    assert not scoring.colour_advice(plan_of("simclr hue=0 saturation=0 grayscale=0"), scores)


def test_a_run_says_it_at_its_end(run_cli: Callable[..., Any]) -> None:
    """Kinds that differ by colour alone, and views that have none."""
    name = save("a.npz")
    words = ("train", *WORDS.split(), "grayscale=1", "--data", name, "--epochs", "2", "--device", "cpu")
    found = json.loads(run_cli(*words, "--json").stdout)
    said = [one for one in found["advice"] if one.startswith("Colours alone")]
    beaten = found["colour_knn"] - found["knn"]["k20"]
    error = sum(p * (1 - p) for p in (found["colour_knn"], found["knn"]["k20"])) / 40
    assert len(said) == (beaten > max(0.02, 1.96 * error**0.5))
    resumed = resume(found["run"])
    assert [one for one in resumed.advice if one.startswith("Colours alone")] == said
