"""What befalls a run: signals, steps that are not finite, full memory and disks, dead helpers, a second process."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from sslzoo.core.siamese import Siamese
from sslzoo.tools.errors import Diverged, UserError
from sslzoo.training import checkpoints, runs
from sslzoo.training.guards import Interrupted
from sslzoo.training.learner import Learner
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare
from sslzoo.training.run import resume, train


@pytest.fixture
def given(tmp_path):
    """Options of a short run on noise."""
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 255, (n, 12, 12, 3), dtype=np.uint8) for split, n in SPLITS.items()}
    labels = {f"{split}_labels": np.arange(n) % 4 for split, n in SPLITS.items()}
    np.savez(tmp_path / "noise.npz", **arrays, **labels)
    return {"data": str(tmp_path / "noise.npz"), "out": str(tmp_path / "runs"), "epochs": 3, "batch_size": 16}


SPLITS = {"train": 64, "test": 20}


class At(Reporter):
    """Does something after a step of the run."""

    def __init__(self, step: int, act: Any):
        self.left, self.act = step, act

    def step(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def same(a: Path | str, b: Path | str) -> bool:
    one, two = (checkpoints.read(Path(path)).model for path in (a, b))
    return all(torch.equal(v, two[k]) for k, v in one.items() if isinstance(v, torch.Tensor))


def progress(run: Path) -> list[int]:
    """The epochs and the steps of the next one that a checkpoint has."""
    found = checkpoints.read(run)
    return [found.epoch, found.position]


def only_run(options: dict[str, Any]) -> Path:
    (run,) = Path(options["out"]).iterdir()
    return run


# ---- signals and checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_inside_an_epoch(given, tmp_path, number):
    whole = train("moco_v2 queue_length=32", **given)
    with pytest.raises(Interrupted) as stop:
        train("moco_v2 queue_length=32", reporter=At(6, lambda: os.kill(os.getpid(), number)), **given)
    assert checkpoints.read(Path(str(stop.value))).position == 2
    assert same(whole["run"], resume(str(stop.value))["run"])


def test_the_exit_code_of_a_signal_says_that_it_can_go_on(given, tmp_path):
    words = ["train", "simsiam", "--data", given["data"], "--epochs", "9999", "--batch-size", "16", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sslzoo", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("runs/*/log.csv")):
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert said == "Stopped and saved; 'sslzoo train --resume runs/simsiam-noise-s0-1' goes on.\n"


class Death(BaseException):
    """Ends a run as a kill does: nothing is saved any more."""


def die() -> None:
    raise Death


@pytest.mark.parametrize("step", [1, 5, 8, 11])
def test_minutes_between_checkpoints_and_a_death(given, step):
    """With a checkpoint after each step, a run that dies at any of them ends like one that lived."""
    given |= {"checkpoint_every": "0.00001m"}
    whole = train("swav prototypes=8", **given)
    with pytest.raises(Death):
        train("swav prototypes=8", reporter=At(step, die), **given)
    run = next(path for path in Path(given["out"]).iterdir() if str(path) != whole["run"])
    state = checkpoints.read(run)
    assert 4 * state.epoch + state.position == step - 1
    assert same(whole["run"], resume(run)["run"])
    assert runs.read_log(run)[-1].loss == runs.read_log(Path(whole["run"]))[-1].loss


def test_epochs_between_checkpoints(given):
    with pytest.raises(Death):
        train("simsiam", reporter=At(11, die), **given, checkpoint_every="2")
    run = only_run(given)
    assert progress(run) == [1, 4]
    assert checkpoints.read(run / "last-1.pt").position == 0  # before the first step
    assert resume(run)["epochs"] == 3
    assert [row.epoch for row in runs.read_log(run)] == [1, 2, 3]


def test_a_look_at_knn_that_fails_loses_no_step(given, monkeypatch):
    """The checkpoint is written before it; the run goes on with the look."""
    whole = train("simsiam", **given)
    with monkeypatch.context() as patch:
        patch.setattr("sslzoo.training.scoring.live", lambda *_: die())
        with pytest.raises(Death):
            train("simsiam", **given)
    run = next(path for path in Path(given["out"]).iterdir() if str(path) != whole["run"])
    assert progress(run) == [0, 4]
    again = resume(run)
    assert same(whole["run"], again["run"])
    assert [row.knn for row in runs.read_log(run)] == [row.knn for row in runs.read_log(Path(whole["run"]))]


def test_a_run_that_died_before_its_first_checkpoint_begins_again(given):
    whole = train("simsiam", **given)
    with pytest.raises(Death):
        train("simsiam", reporter=At(2, die), **given)
    run = next(path for path in Path(given["out"]).iterdir() if str(path) != whole["run"])
    assert runs.listed(Path(given["out"]))
    assert same(whole["run"], resume(run)["run"])


def test_going_on_from_an_older_checkpoint(given):
    whole = train("simsiam", **given)
    run = Path(whole["run"])
    (run / "last.pt").write_bytes(b"cut")
    with pytest.raises(UserError, match=rf"'sslzoo train --resume {run}/last-1.pt' goes on from the one before\."):
        resume(run)
    assert progress(run / "last-1.pt") == [2, 4]
    again = resume(run / "last-1.pt")
    assert again["epochs"] == 3
    assert again["loss"] == whole["loss"]
    assert checkpoints.read(run).epoch == 3


def test_other_switches_are_refused(given):
    run = Path(train("simsiam", stop_after=1, **given)["run"])
    other = Path(train("byol", stop_after=1, **given)["run"])
    (run / "last.pt").write_bytes((other / "last.pt").read_bytes())
    with pytest.raises(
        UserError, match=r"belongs to another recipe or is damaged; 'sslzoo train --resume .*last-1\.pt'"
    ):
        resume(run)


def test_a_run_is_held_by_one_process(given):
    def second() -> None:
        with pytest.raises(UserError, match="is in use by another process; wait for its end, or stop it"):
            resume(only_run(given))
        seen.append(True)

    seen: list[bool] = []
    train("simsiam", reporter=At(5, second), **given)
    assert seen
    assert resume(only_run(given))["epochs"] == 3  # and let go of at the end


# ---- steps that are not finite ---------------------------------------------------------------------------------------


@pytest.fixture
def poisoned(monkeypatch):
    """Let the loss of some steps be nan."""

    def at(*steps: int) -> None:
        forward, count = Siamese.forward, [0]

        def call(self: Siamese, *words: Any) -> Any:
            loss, keys = forward(self, *words)
            count[0] += 1
            return loss * (torch.nan if count[0] in steps else 1), keys

        monkeypatch.setattr(Siamese, "forward", call)

    return at


def test_a_loss_that_is_not_finite_stops_at_its_step(given, poisoned):
    poisoned(7)
    with pytest.raises(
        Diverged, match=r"The loss is not finite at step 3 of epoch 2; .*last\.pt keeps the state after"
    ):
        train("simsiam", **given)
    state = checkpoints.read(only_run(given))
    assert (state.epoch, state.position) == (0, 4)  # all steps of the first epoch
    assert all(v.isfinite().all() for v in state.model.values() if isinstance(v, torch.Tensor))


def test_steps_that_are_not_finite_are_left_out_if_asked(given, poisoned):
    poisoned(2, 3, 7)
    found = train("moco_v2 queue_length=32", **given, on_nan="skip")
    log = runs.read_log(Path(found["run"]))
    assert [row.skipped for row in log] == [2, 1, 0]
    assert all(np.isfinite(row.loss) for row in log)
    state = checkpoints.read(Path(found["run"])).model
    assert all(v.isfinite().all() for v in state.values() if isinstance(v, torch.Tensor))
    assert int(state["queue.pointer"]) == (16 * 9) % 32  # keys of nine steps of twelve


def test_a_step_that_is_left_out_leaves_nothing_in_batch_norm(given, monkeypatch):
    """A pixel that is not finite is in the running statistics before the loss tells."""
    step, count = Learner.step, [0]

    def call(self: Learner, views: Any, index: Any, number: int) -> bool:
        count[0] += 1
        if count[0] == 3:
            views[0][0, 0, 0, 0] = torch.nan
        return step(self, views, index, number)

    monkeypatch.setattr(Learner, "step", call)
    found = train("byol", **given, on_nan="skip")
    assert [row.skipped for row in runs.read_log(Path(found["run"]))] == [1, 0, 0]
    state = checkpoints.read(Path(found["run"])).model
    assert all(v.isfinite().all() for v in state.values() if isinstance(v, torch.Tensor))
    assert any("running_var" in name for name in state)
    assert all(
        np.isfinite(getattr(row, key)) for row in runs.read_log(Path(found["run"])) for key in ("std", "rank", "loss")
    )


def test_too_many_in_a_row_stop_also_then(given, poisoned):
    poisoned(*range(1, 1000))
    with pytest.raises(Diverged, match=r"not finite at step 4 of epoch 5.*bring back what the expression removed\.$"):
        train("simsiam", **{**given, "epochs": 9}, on_nan="skip")


def test_weights_that_are_not_finite_are_not_kept(given):
    """The step before the one whose loss would tell."""

    def spoil() -> None:
        with torch.no_grad():
            next(trained[0].model.predictor.parameters()).fill_(torch.inf)

    trained: list[Learner] = []
    init = Learner.__init__

    def remember(self: Learner, *words: Any) -> None:
        init(self, *words)
        trained.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "__init__", remember)
        with pytest.raises(Diverged, match=r"The weights are not finite .*last\.pt keeps the state after epoch 1\."):
            train("simsiam", reporter=At(8, spoil), **given)
    state = checkpoints.read(only_run(given)).model
    assert all(v.isfinite().all() for v in state.values() if isinstance(v, torch.Tensor))


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_full_memory_names_a_batch_that_fits(given, monkeypatch):
    def forward(self: Siamese, views: Any, index: Any = None, real: Any = Siamese.forward) -> Any:
        if len(views[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, views, index)

    monkeypatch.setattr(Siamese, "forward", forward)
    with pytest.raises(UserError, match=r"does not hold a step with a batch of 16; --batch-size 4 was tried and fits"):
        train("simsiam", **given)
    assert list(Path(given["out"]).iterdir()) == []  # nothing was learnt
    assert train("simsiam", **{**given, "batch_size": 4, "epochs": 1})["epochs"] == 1


def test_full_memory_where_nothing_fits(given, monkeypatch):
    def full(*_: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(Siamese, "forward", full)
    with pytest.raises(UserError, match="no smaller batch fits either; a smaller --image-size or another --backbone"):
        train("simsiam", **given)


def test_other_errors_are_not_hidden(given, monkeypatch):
    def wrong(*_: Any) -> Any:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4).")

    monkeypatch.setattr(Siamese, "forward", wrong)
    with pytest.raises(RuntimeError, match="must match"):
        train("simsiam", **given)


def test_a_full_disk_keeps_the_checkpoint_before(given, monkeypatch):
    sync, calls = os.fsync, [0]

    def full(number: int) -> None:
        calls[0] += 1
        if calls[0] == 13:  # file and folder: recipe, checkpoint, run.json; checkpoint, encoder, log; then one
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"last\.pt cannot be written \(No space left on device\); make room, and 'sslz"
    ):
        train("simsiam", **given)
    run = only_run(given)
    assert progress(run) == [0, 4]
    assert not list(run.glob(".*"))
    monkeypatch.undo()
    assert resume(run)["epochs"] == 3


def test_a_disk_that_is_full_at_once_leaves_nothing(given, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        train("simsiam", **given)
    assert list(Path(given["out"]).iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch's loader, when it is let go
def test_a_dead_reader_of_images_is_named(given, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "photos" / ("train" if i < 32 else "test") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (60, 50 + i, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    some = {**given, "data": str(tmp_path / "photos"), "batch_size": 8, "image_size": 16, "workers": 1, "epochs": 50}

    def kill() -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()

    with pytest.raises(UserError, match=r"fewer --workers, or go on with 'sslzoo train --resume .*'"):
        train("simsiam", reporter=At(9, kill), **some)
    assert progress(only_run(given)) == [1, 4]
    assert resume(only_run(given), stop_after=3)["epochs"] == 3


# ---- accumulation ----------------------------------------------------------------------------------------------------

SMALL = "batchnorm=none dim=8 hidden=16"
ROWWISE = [
    f"simsiam {SMALL} predictor_hidden=8", f"byol {SMALL} predictor_hidden=8",
    f"nnsiam {SMALL} predictor_hidden=8 queue_length=32", f"moco_v2 {SMALL} queue_length=32",
    f"ressl {SMALL} queue_length=32", f"instdisc {SMALL.replace(' hidden=16', '')}", f"dino {SMALL} prototypes=8",
]  # fmt: skip


@pytest.mark.parametrize("expression", ROWWISE)
def test_accumulated_parts_are_as_the_whole_batch(given, expression):
    """Without batch norm, of which each part has its own."""
    import importlib

    module = importlib.import_module("sslzoo.training.loop")
    found = []
    for n in (1, 2, 4):
        plan = prepare(expression, Options(**{**given, "backbone": "test_convnext", "image_size": 32, "accumulate": n}))
        training = module.Training(plan)
        for number, (index, views) in enumerate(training.batches.epoch(0)):
            training.learner.step(views, index, number)
        found.append((training.learner.loss, training.learner.model.state_dict()))
    for loss, state in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-4, atol=1e-4)
        assert state.keys() == found[0][1].keys()
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, found[0][1][name], rtol=1e-3, atol=1e-4)
