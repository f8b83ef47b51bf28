"""Presets of views: ranges over a method's own views, their place among the layers, and what a run keeps of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sslzoo
from sslzoo.recipes.algebra import colour_preset, parse, resolve, with_preset
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.recipes.presets import PRESETS
from sslzoo.recipes.recipe import Layer, dump, find_method, method_names
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare

DIGITS = Circumstances("digits", 32, 1437, "cpu")

BY_HAND = {  # the method's own value, within the preset's range
    ("simclr fine", "small"): {
        "hue": 0.02, "saturation": 0.2, "grayscale": 0, "solarize": 0, "jitter": 0.8, "brightness": 0.2,
        "contrast": 0.2, "flip": 0.5, "scale_min": 0.4, "scale_max": 1,
    },
    ("byol fine", "large"): {
        "first.blur": 1.0, "second.blur": 0.1, "second.solarize": 0, "hue": 0.02, "saturation": 0.2,
    },
    ("byol photo", "large"): {"first.solarize": 0, "second.solarize": 0.2, "hue": 0.1, "grayscale": 0.2},
    ("ressl document", "small"): {"first.jitter": 0.8, "second.jitter": 0, "first.grayscale": 0.2, "flip": 0},
    ("swav document", "large"): {
        "first.scale_min": 0.5, "local.scale_min": 0.25, "local.scale_max": 0.5, "second.scale_max": 1, "hue": 0.2,
    },
    ("instdisc texture", "large"): {"scale_min": 0.2, "hue": 0.4, "blur": 0, "flip": 0.5},
    ("dino medical", "large"): {"hue": 0.05, "brightness": 0.2, "flip": 0.5, "first.blur": 0, "local.scale_max": 0.4},
}  # fmt: skip


def views(recipe: sslzoo.Recipe) -> dict[str, Any]:
    """The knobs of the views that are read, without their table's name."""
    return {key.removeprefix("views."): value for key, value in recipe.knobs().items() if key.startswith("views.")}


@pytest.mark.parametrize(("words", "scale"), BY_HAND)
def test_a_method_keeps_its_own_views_within_the_ranges(words: str, scale: str) -> None:
    method, preset = words.split()
    found = views(sslzoo.load(f"{method} preset={preset}", scale))
    for key, value in BY_HAND[words, scale].items():
        for one in [key] if "." in key else [f"first.{key}", f"second.{key}"]:
            assert found[one] == value, one


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", method_names())
def test_every_preset_fits_every_method_and_changes_its_views_alone(name: str, method: str) -> None:
    for scale in ("small", "large"):
        with_it, without = (sslzoo.load(f"{method} preset={one}", scale) for one in (name, "none"))
        ranges = {key: (low, high) for key, low, high in PRESETS[name].ranges}
        for key, value in without.knobs().items():
            view, _, what = key.removeprefix("views.").rpartition(".")
            low, high = ranges.get(f"{view}.{what}", ranges.get(what, (value, value)) if view else (value, value))
            expected = name if key == "views.preset" else min(max(value, low), high)
            assert with_it.knobs()[key] == expected, key


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is(name: str) -> None:
    preset = PRESETS[name]
    assert preset.title
    assert preset.why.endswith(".")
    assert not preset.paper or preset.paper.startswith("https://arxiv.org/abs/")
    assert all(low <= high for _, low, high in preset.ranges)


@pytest.mark.parametrize("method", method_names())
def test_no_preset_is_none(method: str) -> None:
    for here in (DIGITS, Circumstances("mine", 224, 9000, "cuda")):
        plain, said = (resolve_here(parse(words), here) for words in (method, f"{method} views.preset=none"))
        assert said.knobs() == plain.knobs()
        assert plain.views.preset == "none"
        assert not any(origin.startswith("preset") for origin in {*plain.origins.values(), *said.origins.values()})


def test_it_comes_after_the_data_and_before_the_words() -> None:
    recipe = resolve_here(parse("simclr views.preset=fine views.grayscale=0.3"), DIGITS)
    assert (recipe.views.first.hue, recipe.origins["views.first.hue"]) == (0.02, "preset fine")  # digits ask for 0.5
    assert (recipe.views.first.flip, recipe.origins["views.first.flip"]) == (0.0, "data digits")
    assert (recipe.views.second.grayscale, recipe.origins["views.second.grayscale"]) == (0.3, "expression")
    assert recipe.origins["views.preset"] == "expression"
    asked = [Layer("data mine", {"views.preset": "document"})]  # data may ask for one
    assert resolve(parse("simclr"), layers=asked).views.first.flip == 0
    assert resolve(parse("simclr preset=none"), layers=asked).views.first.flip == 0.5
    assert sslzoo.load("simclr like=byol preset=fine", "large").views.first.blur == 1.0


def test_a_file_may_name_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    switches = '[switches]\nnegatives = "batch"\nnormalize = "l2"\nsymmetric = true\n'
    path.write_text(f'{switches}[small.views]\npreset = "fine"\nhue = 0.3\n')
    recipe = sslzoo.load(str(path))
    assert (recipe.views.first.hue, recipe.origins["views.first.hue"]) == (0.02, "preset fine")  # over its own views
    assert sslzoo.load(f"{path} preset=none").views.first.hue == 0.3
    assert sslzoo.load(str(path), "large").views.first.hue == 0.1
    path.write_text(f'{switches}[views]\npreset = "fine"\nhue = 0.3\n')
    recipe = sslzoo.load(str(path))
    assert (recipe.views.first.hue, recipe.views.first.grayscale) == (0.3, 0)  # what it spells out has the last word
    assert sslzoo.load(f"{path} preset=medical").views.first.hue == 0.05  # but over a preset of the words


@pytest.mark.parametrize("expression", ["byol preset=fine hue=0.3", "swav preset=document", "simclr preset=medical"])
def test_a_resolved_recipe_means_the_same_anywhere(tmp_path: Path, expression: str) -> None:
    for scale, here in (("small", DIGITS), ("large", Circumstances("mine", 224, 9000, "cuda"))):
        recipe, path = resolve(parse(expression), scale), tmp_path / "recipe.toml"
        path.write_text(dump(recipe))
        assert f'preset = "{recipe.views.preset}"' in path.read_text()
        again = resolve_here(parse([str(path)]), here)
        assert again.knobs() == recipe.knobs()
        path.write_text(dump(again))
        assert resolve(parse([str(path)]), scale).knobs() == recipe.knobs()


def test_a_run_trained_again_from_its_recipe_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3)).astype(np.uint8)
    np.savez("images.npz", train_images=images, train_labels=np.arange(60) % 3, test_images=images[:20],
             test_labels=np.arange(20) % 3)  # fmt: skip
    options: dict[str, Any] = {"data": "images.npz", "epochs": 1, "device": "cpu", "baselines": False}
    words = "simclr dim=8 hidden=8 batch_size=20"
    first = sslzoo.train(f"{words} preset=fine", **options)
    again = sslzoo.train(str(Path(first.run) / "recipe.toml"), **options)
    other = sslzoo.train(words, **options)
    assert (first.loss, first.std, first.knn) == (again.loss, again.std, again.knn)
    assert first.loss != other.loss
    texts = [(Path(one.run) / "recipe.toml").read_text().partition("[switches]")[2] for one in (first, again)]
    assert texts[0] == texts[1]
    assert texts[0]


def test_the_pages_show_it(run_cli: Callable[..., Any]) -> None:
    shown = run_cli("train", "simclr", "preset=fine", "--dry-run").output
    assert any(line.split() == ["views.hue", "0.02", "preset", "fine"] for line in shown.splitlines())
    origins = json.loads(run_cli("train", "simclr", "preset=fine", "--dry-run", "--json").stdout)["origins"]
    assert origins["views.first.grayscale"] == "preset fine"
    page = run_cli("methods", "presets").output
    assert all(f"{name}  {preset.title}" in page for name, preset in PRESETS.items())
    assert "hue 0 to 0.02" in page
    assert "local.scale_max 0 to 0.5" in page or "local.scale_max 0.5 to 1" in page
    found = json.loads(run_cli("methods", "presets", "--json").stdout)["presets"]
    assert [one["name"] for one in found] == list(PRESETS)
    assert found[1]["ranges"]["views.hue"] == [0, 0.02]
    assert [one["name"] for one in found if one["keeps_colour"]] == ["fine", "medical"]
    refused = run_cli("train", "simclr", "views.preset=fien")
    assert refused.exit_code == 2
    assert "did you mean 'fine'" in refused.output
    assert all(name in refused.output for name in PRESETS)


# ---- which one is suggested where colours alone do better


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ("simclr", "fine"),
        ("simclr preset=document", "fine"),
        ("simclr preset=photo hue=0.1", "fine"),
        ("ressl", "fine"),  # one of its views alone has jitter
        ("simclr preset=fine", None),
        ("simclr preset=fine scale_min=0.5", None),
        ("simclr preset=medical", None),
        ("simclr hue=0 saturation=0 grayscale=0", None),  # kept by hand
        ("simclr jitter=0 grayscale=0", None),
        ("simclr jitter=0", "fine"),
    ],
)
def test_a_preset_is_suggested_where_views_take_colours_away(words: str, suggested: str | None) -> None:
    assert colour_preset(sslzoo.load(words)) == suggested


@pytest.mark.parametrize(
    ("words", "better"),
    [
        ("simclr", "simclr views.preset=fine"),
        ("simclr - negatives + predictor", "simclr - negatives + predictor views.preset=fine"),
        ("simclr preset=document lr=0.1", "simclr lr=0.1 views.preset=fine"),
        ("simclr hue=0.4 views.first.grayscale=1 flip=0.3 scale_min=0.3", "simclr flip=0.3 views.preset=fine"),
        ("byol - momentum like=simsiam", "byol - momentum like=simsiam views.preset=fine"),
    ],
)  # fmt: skip
def test_the_suggested_expression_has_its_effect(words: str, better: str) -> None:
    assert with_preset(sslzoo.load(words), "fine") == better
    recipe = sslzoo.load(better)
    assert (recipe.views.first.hue, recipe.views.second.grayscale) == (0.02, 0)


def test_a_plan_of_digits_has_no_preset() -> None:
    assert prepare("simsiam", Options(device="cpu")).recipe.views.preset == "none"
    assert find_method("simsiam").tables["small"].get("views.preset") is None
