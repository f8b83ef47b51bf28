"""A run that has ended goes on: on a new cosine or a constant rate, bit for bit whether it is interrupted or not."""

import json
from math import cos, pi
from pathlib import Path

import numpy as np
import pytest
import torch

from sslzoo.training import checkpoints, runs
from sslzoo.training.run import resume, train

WORDS = "byol heads.hidden=16 heads.dim=8 optimizer.lr=0.4 tau=0.5 tau_end=1"
OPTIONS = {"epochs": 2, "batch_size": 8, "device": "cpu", "knn_every": 100}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "d.npz"
    images = rng.integers(0, 255, (32, 16, 16, 3), dtype=np.uint8)
    np.savez(path, train_images=images[:24], test_images=images[24:], train_labels=[0, 1] * 12, test_labels=[0, 1] * 4)
    return str(path)


@pytest.fixture
def ended(data, tmp_path):
    """A run of two epochs of three steps, whose cosine ended at 0, and its learning rate."""
    return train(WORDS, data=data, out=str(tmp_path), **OPTIONS).run, 0.4 * 8 / 256


def rates(run):
    return [row.lr for row in runs.read_log(Path(run))]


def test_a_new_cosine_begins_where_it_is_asked_to(ended):
    run, rate = ended
    result = resume(run, epochs=5, rate=0.5)
    assert result.epochs == 5
    cosine = [0.5 * rate * (1 + cos(pi * step / 9)) / 2 for step in (3, 6, 9)]
    assert rates(run)[2:] == pytest.approx(cosine)
    assert [row.done for row in runs.listed(Path(run).parent)] == [5]
    about = json.loads((Path(run) / "run.json").read_text())
    assert about["epochs"] == 2
    assert about["extended"] == [{"start": 2, "epochs": 5, "schedule": "cosine", "rate": 0.5}]


def test_a_constant_rate_goes_on_and_on(ended):
    run, rate = ended
    resume(run, epochs=3, schedule="constant", rate=0.25)
    assert rates(run)[2:] == pytest.approx([0.25 * rate])
    resume(run, epochs=5)  # a cosine, from the last rate
    assert rates(run)[3:] == pytest.approx([0.25 * rate * (1 + cos(pi * step / 6)) / 2 for step in (3, 6)])


def test_an_interrupted_extension_is_the_uninterrupted_one(ended, data, tmp_path):
    run, _ = ended
    other = train(WORDS, data=data, out=str(tmp_path / "other"), **OPTIONS).run
    whole = resume(run, epochs=5, rate=0.5)
    resume(other, epochs=5, rate=0.5, stop_after=3)
    assert resume(other).loss == whole.loss
    states = [checkpoints.read(Path(one)).model for one in (run, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert rates(run) == rates(other)


def test_the_target_stays_at_the_end_of_its_schedule(ended):
    """tau ended at 1: what was averaged is as it was, and does not go back to where the schedule began."""
    run, _ = ended
    before = {
        k: v.clone() for k, v in checkpoints.read(Path(run)).model.items() if k.startswith("copy.encoder.layers.0.w")
    }
    resume(run, epochs=3, rate=0.5)
    after = checkpoints.read(Path(run)).model
    assert before
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"epochs": 4}, ("ended at a learning rate of 0", "--rate")),
        ({"epochs": 1}, ("has 2 epochs; give --epochs more",)),
        ({"epochs": 4, "schedule": "linear"}, ("--schedule cannot be 'linear'; it is cosine or constant",)),
        ({"epochs": 4, "rate": -1.0}, ("--rate cannot be -1",)),
    ],
)
def test_what_cannot_go_on_is_one_sentence(ended, refused, more, words):
    run, _ = ended
    before = (Path(run) / "run.json").read_text()
    with refused(*words):
        resume(run, **more)
    assert (Path(run) / "run.json").read_text() == before


def test_a_run_that_has_not_ended_ends_first(data, tmp_path, refused):
    run = train(WORDS, data=data, out=str(tmp_path), stop_after=1, **OPTIONS).run
    with refused("has trained 1 of its 2 epochs", "without --epochs"):
        resume(run, epochs=4, rate=0.1)
    assert resume(run, epochs=2).epochs == 2  # its own


def test_the_command_line_says_how_it_goes_on(ended, run_cli):
    run, _ = ended
    done = run_cli("train", "--resume", run, "--epochs", "3", "--rate", "0.5")
    assert done.exit_code == 0, done.output
    assert "goes on beyond epoch 2 to 3, with a new cosine from 0.5 of the learning rate" in done.output.replace(
        "\n", " "
    )
    assert "epoch 3/3" in done.output
