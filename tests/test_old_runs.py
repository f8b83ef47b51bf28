"""What the code of commit 5a1bc71 wrote is still read, and gone on with; tests/fixtures/README.md says how it was made.

The expected numbers are what that code itself came to, from the same files.
"""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import sslzoo
from sslzoo.cli import main
from sslzoo.training import checkpoints, runs
from sslzoo.training.listeners.reporter import Result

FIXTURES = Path(__file__).parent / "fixtures"
RUN = FIXTURES / "run-5a1bc71"
TABLE = FIXTURES / "ablate-5a1bc71" / "cells.json"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the old run, alone in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, tmp_path / RUN.name)
    return RUN.name


def loaded(*words: str) -> dict[str, Any]:
    """The one JSON object that a command prints."""
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_the_fixture_is_whole_and_names_no_machine() -> None:
    assert {path.name for path in RUN.iterdir()} == {
        "encoder.safetensors", "knn.json", "last.pt", "log.csv", "recipe.toml", "run.json",
    }  # fmt: skip
    about = json.loads((RUN / "run.json").read_text())
    assert (about["data"], about["options"]["data"], about["options"]["out"]) == ("digits", "digits", "runs")
    texts = [path.read_text() for path in (*RUN.iterdir(), TABLE) if path.suffix not in (".pt", ".safetensors")]
    assert not any(f'"{start}' in text for text in texts for start in ("/", "~", "C:"))


def test_its_records_are_written_as_they_were(run: str) -> None:
    """What is read and written again is the same, but for the keys that are new."""
    folder = Path(run)
    old = json.loads((folder / "run.json").read_text())
    about = runs.read_run(folder).to_json()
    assert about == {
        **old,
        "plugins": [],
        "tf32": None,
        "decisions": [],
        "identity": None,
        "options": {**old["options"], "baselines": True, "memory": "auto"},
    }
    assert [key for key in about if key in old] == list(old)
    log = (folder / "log.csv").read_text()
    runs.write_log(folder / "log.csv", runs.read_log(folder))
    assert (folder / "log.csv").read_text() == log
    result = json.loads((folder / "knn.json").read_text())
    again = Result.from_json(result).to_json()
    assert again == {**result, "leaked": None, "notes": [], "colour_knn": None}
    assert [key for key in again if key in result] == list(result)
    state = torch.load(folder / "last.pt", weights_only=True)
    assert list({"format": state.pop("format"), **checkpoints.read(folder).to_json()}) == ["format", *state]


def test_its_encoder_loads(run: str) -> None:
    encoder = sslzoo.encoder(run)
    assert not encoder.training
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(images)
    assert features.shape == (5, 128 * 4 * 4)  # a map of 4 x 4 with 128 channels, as SmallNet says
    assert features.isfinite().all()
    assert features.std() > 0
    kept = load_file(RUN / "encoder.safetensors")
    state = encoder.state_dict()
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], value) for name, value in kept.items())


def test_its_features_are_worth_what_they_were(run: str) -> None:
    found = loaded("knn", run, "--data", "digits", "--limit", "300", "--device", "cpu", "--retrieval", "none")
    (row,) = found["rows"]
    assert (row["bank"], row["queries"], row["dimension"]) == (300, 1440, 2048)
    assert row["knn"] == pytest.approx({"k1": 0.19583, "k5": 0.19167, "k20": 0.17847, "k200": 0.18125}, abs=0.005)


def test_it_is_listed(run: str) -> None:
    (row,) = loaded("runs", "--out", ".")["runs"]
    assert (row["run"], row["method"], row["data"], row["done"], row["epochs"]) == (run, "nnclr", "digits", 1, 2)
    assert (row["loss"], row["rank"], row["knn"]) == pytest.approx((3.73024, 6.10911, 0.16875), rel=1e-4)


def test_it_is_resumed_and_ends_as_it_would_have(run: str) -> None:
    """One epoch of five steps is done; without the queue, the momentum or the order of images, the loss is another."""
    found = loaded("train", "--resume", run, "--quiet")
    assert (found["run"], found["epochs"], found["method"]) == (run, 2, "nnclr")
    assert found["loss"] == pytest.approx(3.494309, rel=1e-3)
    assert (found["std"], found["rank"]) == pytest.approx((0.92058, 5.80725), rel=1e-2)
    assert (found["knn"]["k20"], found["random_knn"]) == pytest.approx((0.15486, 0.17292), abs=0.02)
    with (Path(run) / "log.csv").open() as file:
        first, second = csv.DictReader(file)
    with (RUN / "log.csv").open() as file:
        (old,) = csv.DictReader(file)
    assert {key: float(value) for key, value in first.items() if value} == {k: float(v) for k, v in old.items() if v}
    assert float(second["lr"]) == 0  # the cosine has come to its end


def test_an_old_table_stays_and_its_numbers_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe has a knob that it had not then, so the table is another one; what it says is the same."""
    monkeypatch.chdir(tmp_path)
    old = json.loads(TABLE.read_text())
    folder = Path(old["folder"])
    folder.mkdir(parents=True)
    shutil.copy(TABLE, folder)
    words = "simsiam dim=8 hidden=8 predictor_hidden=8 --flip stop_gradient --data digits --limit 160 --batch-size 32"
    more = "--epochs 1 --device cpu --precision float32 --out tables --quiet"
    found = loaded("ablate", *words.split(), *more.split())
    assert json.loads((folder / "cells.json").read_text()) == json.loads(TABLE.read_text())
    assert sorted(os.listdir("tables")) == sorted({folder.name, Path(found["folder"]).name})
    assert [cell["switches"] for cell in found["cells"]] == [cell["switches"] for cell in old["cells"]]
    assert [cell["loss"] for cell in found["cells"]] == pytest.approx([-0.103, -0.087], abs=0.01)
    now, then = ([cell["knn"]["mean"] for cell in table["cells"]] for table in (found, old))
    assert now == pytest.approx(then, abs=0.02)  # processors round in other ways
