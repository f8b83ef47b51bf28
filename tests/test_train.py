"""Training: resuming bit for bit, interruptions, own generators, the run directory."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import sslzoo
from sslzoo.exchange.weights import save_encoder
from sslzoo.recipes.recipe import method_names
from sslzoo.tools.errors import UserError
from sslzoo.training import checkpoints
from sslzoo.training.guards import Interrupted
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.run import resume, train


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A small .npz of noise around a colour per class."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 60), ("test", 20)):
        labels = np.arange(n) % 4
        colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])[labels]
        noise = rng.integers(-40, 40, (n, 12, 12, 3))
        arrays[f"{split}_images"] = (colours[:, None, None] + noise).clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(tmp_path / "colours.npz", **arrays)
    return str(tmp_path / "colours.npz")


def options(data: str, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"data": data, "out": str(tmp_path / "runs"), "epochs": 4, "batch_size": 16, "knn_every": 1, **more}


def same_state(a: str, b: str) -> None:
    """Two runs ended with the same bits."""
    left, right = (checkpoints.read(Path(path)) for path in (a, b))
    assert left.model.keys() == right.model.keys()
    for name, value in left.model.items():
        other = right.model[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
    assert [replace(row, images_per_second=0) for row in left.log] == [
        replace(row, images_per_second=0) for row in right.log
    ]
    assert all(torch.equal(left.random[name], right.random[name]) for name in left.random)


EXPRESSIONS = [
    *method_names(),
    "simsiam + snapshot every=2",
    "swav sinkhorn_queue=true queue_epoch=1 queue_length=20 freeze_epochs=3",
    "dino code_temperature_start=0.02 code_warmup_epochs=3",
    "moco_v3 optimizer.name=adamw",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_stopped_after_two_of_four_epochs_and_resumed(data: str, tmp_path: Path, expression: str) -> None:
    whole = train(expression, **options(data, tmp_path))
    half = train(expression, stop_after=2, **options(data, tmp_path))
    assert (half["epochs"], whole["epochs"]) == (2, 4)
    torch.manual_seed(123)  # whatever happened in between
    again = resume(half["run"])
    same_state(whole["run"], again["run"])
    assert {k: again[k] for k in ("loss", "std", "rank", "knn")} == {
        k: whole[k] for k in ("loss", "std", "rank", "knn")
    }
    assert again["run"] == half["run"]


class Stopper(Reporter):
    """Presses Ctrl-C after some steps."""

    def __init__(self, after: int):
        self.left = after

    def step(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("after", [1, 4, 6])
def test_ctrl_c_inside_an_epoch_saves_and_the_rest_is_the_same(data: str, tmp_path: Path, after: int) -> None:
    whole = train("simclr", **options(data, tmp_path))
    with pytest.raises(Interrupted) as stop:
        train("simclr", reporter=Stopper(after), **options(data, tmp_path))
    same_state(whole["run"], resume(str(stop.value))["run"])


def test_like_trains_bit_for_bit_as_the_other_method(data: str, tmp_path: Path) -> None:
    one = train("byol - momentum like=simsiam", **options(data, tmp_path))
    two = train("simsiam", **options(data, tmp_path))
    same_state(one["run"], two["run"])
    assert one["method"] == "simsiam"


def test_evaluation_does_not_disturb_training(data: str, tmp_path: Path) -> None:
    often = train("byol", **options(data, tmp_path, knn_every=1))
    seldom = train("byol", **options(data, tmp_path, knn_every=4, eval="test"))
    states = [dict(checkpoints.read(Path(r["run"])).model) for r in (often, seldom)]
    for model in states:
        del model["clock._extra_state"]  # no tensor
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_seeds_differ_and_repeat(data: str, tmp_path: Path) -> None:
    losses = [train("simsiam", **options(data, tmp_path, epochs=1, seed=seed))["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_the_run_directory(data: str, tmp_path: Path) -> None:
    result = train("byol - momentum", **options(data, tmp_path))
    run = Path(result["run"])
    assert run.name == "byol-no-momentum-colours-s0-1"
    about = json.loads((run / "run.json").read_text())
    assert {"command", "versions", "device", "options", "backbone", "image_size", "mean", "std", "started"} <= set(
        about
    )
    assert (run / "log.csv").read_text().count("\n") == 5
    assert json.loads((run / "knn.json").read_text()) == result.to_json()
    with safe_open(run / "encoder.safetensors", "pt") as file:
        assert json.loads(file.metadata()["backbone"]) == "small"
    encoder = sslzoo.encoder(run)
    assert not encoder.training
    weights = load_file(run / "encoder.safetensors")
    assert encoder.state_dict().keys() == weights.keys()
    model = checkpoints.read(run).model
    assert all(torch.equal(value, model[f"online.encoder.{name}"]) for name, value in weights.items())
    again = sslzoo.load(str(run / "recipe.toml"))
    assert again.method == "simsiam"
    second = train(str(run / "recipe.toml"), **options(data, tmp_path))
    same_state(result["run"], second["run"])


def test_colours_are_learnt_or_at_least_kept(data: str, tmp_path: Path) -> None:
    result = train("simclr jitter=0 grayscale=0", **options(data, tmp_path))
    assert result["knn"]["k5"] == 1.0
    assert result["images_per_second"] > 0
    assert result["seconds"] > 0


def test_a_loss_that_is_not_finite_stops_with_advice(data: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"not finite at step 2 of epoch 1; .*last\.pt keeps the state before the first step\. Lower optim",
    ):
        train("simsiam - l2 similarity=mse optimizer.lr=1e30", **options(data, tmp_path))


def test_files_are_streamed_and_resumed_like_tensors(data: str, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "photos" / ("train" if i < 32 else "test") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 50 + i, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    some = options(str(tmp_path / "photos"), tmp_path, batch_size=8, image_size=16, workers=1, epochs=2)
    whole = train("simclr", **some)
    half = train("simclr", stop_after=1, **some)
    same_state(whole["run"], resume(half["run"])["run"])
    assert whole["knn"] is not None


def test_changed_data_are_refused_on_resume(data: str, tmp_path: Path) -> None:
    half = train("simsiam", stop_after=1, **options(data, tmp_path))
    with np.load(data) as file:
        arrays = dict(file)
    np.savez(data, **{key: value[:18] for key, value in arrays.items()})
    with pytest.raises(UserError, match="training split has 18 images in place of 60; bring them back"):
        resume(half["run"])


OWN = """
title = "Mine"
idea = "Tell an image's nearest neighbour apart from the batch, with channels that do not covary."

[switches]
predictor = "linear"
target = "momentum"
stop_gradient = true
negatives = "batch"
clustering = "none"
positive = "neighbour"
normalize = "standardize"
similarity = "cosine"
regularizer = "decorrelation"
symmetric = true

[small.loss]
temperature = 0.5
regularizer_weight = 0.01

[small.memory]
queue_length = 64
"""


def test_adding_a_method_is_one_file(data: str, tmp_path: Path) -> None:
    """A recipe of switches that no shipped method has trains by its path, and can be flipped like any other."""
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    result = train(str(path), **options(data, tmp_path))
    assert (result["method"], result["expression"], result["epochs"]) == (None, "mine", 4)
    assert result["switches"]["regularizer"] == "decorrelation"
    assert result["knn"]["k5"] > 0.9  # colours alone tell these classes
    assert sslzoo.load(f"{path} - decorrelation normalize=l2 predictor=mlp - momentum").method == "nnclr"


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    """Whatever order the library's metadata come in; and the file is one that it reads."""
    metadata = {"backbone": "small", "image_size": 32, "mean": [0.1], "std": [0.2], "expression": 'a "b" \u00e9'}
    net = torch.nn.Linear(3, 2)
    for n in range(8):
        save_encoder(tmp_path / f"{n}.safetensors", net, metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert {key: json.loads(value) for key, value in file.metadata().items()} == metadata
        assert torch.equal(file.get_tensor("weight"), net.weight)
