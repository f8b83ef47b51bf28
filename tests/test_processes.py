"""What processes agree on, what a launch finds again, and what is let go of with its process."""

import importlib
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslzoo.data.contents.identity import Identity
from sslzoo.processes import agree, launched
from sslzoo.tools.errors import UserError
from sslzoo.training import runs
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare
from sslzoo.training.run import train

module = importlib.import_module("sslzoo.training.run")
SMALL = {"limit": 64, "batch_size": 16, "epochs": 1, "device": "cpu"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that a launch of torchrun has begun, and that has ended."""
    monkeypatch.setattr(agree, "launch_ids", lambda: ["node1 17 1.00", "id 100"])
    return Path(train("simsiam", out=str(tmp_path / "runs"), **SMALL)["run"])


def found(run: Path, expression: str = "simsiam", launch: tuple[str, ...] = ("node1 17 1.00",), **more) -> Path | None:
    options = {"out": str(run.parent), **SMALL, **more}
    return runs.of_launch(run.parent, launch, expression, Options(**options))


def test_a_launch_finds_its_run_and_no_other(run):
    (run / "knn.json").unlink()
    assert found(run) == run
    assert found(run, launch=("node2 5 2.00", "id 100")) == run
    assert found(run, launch=("node1 17 9.00",)) is None  # another process of the same number
    assert found(run, launch=()) is None
    assert found(run, "byol") is None
    assert found(run, seed=1) is None


def test_an_ended_run_counts_only_after_a_restart(run, monkeypatch):
    """A launch with an old id is a new one; a script that trains twice begins anew after a restart."""
    assert found(run) is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert found(run) == run


def test_a_broken_run_beside_does_not_matter(run):
    (run / "knn.json").unlink()
    other = run.parent / "broken"
    other.mkdir()
    (other / "run.json").write_text("{")
    assert found(run) == run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: replace(data, train=data.train.take(torch.arange(63))), "split has 64 images in place of 63"),
        (lambda data: replace(data, size=16), "it is seen at 32 px in place of 16"),
        (lambda data: replace(data, mean=(0.1, 0.1, 0.1)), "its images have other content"),
        (lambda data: replace(data, test=data.test.take(torch.arange(9).flip(0))), "test split has"),
    ],
)  # fmt: skip
def test_other_data_than_the_first_processs_are_refused(monkeypatch, change, said):
    plan = prepare("simsiam", Options(**SMALL))
    first = change(plan.data)
    monkeypatch.setattr(agree, "broadcast", lambda _: (Identity.of(first), (first.mean, first.std)))
    with pytest.raises(UserError, match=f"not the first process's data: .*{said}.*; give all machines the same data"):
        module.alike(lambda: plan)


def test_a_run_goes_on_wherever_its_images_are(tmp_path, monkeypatch):
    """In memory at first, and from their files when there is none left: it is one run."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    some = {"data": str(tmp_path / "photos"), "out": str(tmp_path / "runs"), "batch_size": 8, "epochs": 2}
    whole, half = train("simclr", **some), train("simclr", stop_after=1, **some)
    monkeypatch.setattr("sslzoo.data.folders.MEMORY_SHARE", 0)
    assert not prepare("simclr", Options(**some)).resident
    assert module.resume(half["run"])["loss"] == whole["loss"]


def test_a_plain_process_is_alone(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # some schedulers set it, without a number of processes
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (launched.world_size(), launched.rank()) == (1, 0)
    assert agree.on_all(lambda: 1) == agree.on_first(lambda: 1) == agree.broadcast(1) == agree.all_reduce_max(1) == 1
    with agree.process_group():
        assert not launched.in_process_group()


def test_its_own_readers_do_not_hold_a_folder(tmp_path):
    """A process that was forked while the folder was held, and outlives it, does not keep others out."""
    (tmp_path / "run.json").write_text("{}")
    code = (
        "import os, time; from pathlib import Path; from sslzoo.tools.files import locked\n"
        "with locked(Path('run.json')):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(20); os._exit(0)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    time.sleep(1)  # for the other one to have begun, of its twenty
    with agree.locked(tmp_path / "run.json"):
        pass


def test_readers_leave_stopping_to_the_run():
    code = (
        "import signal; from sslzoo.views.loading import begin_reader; begin_reader(0)\n"
        "for name in ('SIGINT', 'SIGTERM', 'SIGUSR1'):\n"
        "    assert signal.getsignal(getattr(signal, name)) == signal.SIG_IGN\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_batch_that_cannot_be_shared(monkeypatch):
    from sslzoo.training import plan as plans

    monkeypatch.setattr(plans, "world", lambda: 3)
    plan = replace(Options(**SMALL), batch_size=16)
    with pytest.raises(UserError, match="A batch of 16 cannot be shared by 3 processes; use --batch-size 15 or 18, or"):
        prepare("simsiam", plan)


@pytest.mark.parametrize(
    ("cores", "here", "readers"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 2), (4, 1, 3), (8, 1, 7), (17, 1, 16), (64, 1, 16), (64, 8, 7), (4, 4, 1), (2, 4, 1)],
)
def test_readers_are_as_many_as_the_cores_allow(monkeypatch, cores, here, readers):
    """Cores less one for each process of a machine, from 2 to 16, and no more than cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 1000)  # what others have is not ours
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    assert launched.readers() == readers
    plan = prepare("simsiam", Options(**SMALL))
    assert plan.workers == (readers if launched.cores() > 2 else 0)  # of images in memory
    assert replace(plan, device=torch.device("cuda")).workers == readers
    assert replace(plan, options=Options(**SMALL, workers=5)).workers == 5


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_does_not_wait_for_ever_for_others_that_never_come(monkeypatch, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(agree, "MEETING", timedelta(seconds=2))
    with pytest.raises(UserError, match="did not meet within"), agree.process_group():
        pass
