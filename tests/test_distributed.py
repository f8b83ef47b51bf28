"""Many processes: loss, gradients and state as of one; batch norm over all rows; torchrun, its restarts, its errors."""

import copy
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sslzoo.processes.batchnorm import SyncBatchNorm, convert_sync_batchnorm
from sslzoo.recipes.recipe import method_names
from sslzoo.training import checkpoints

HERE = Path(__file__).parent
EXPRESSIONS = [
    *method_names(),
    "swav sinkhorn_queue=true queue_epoch=0 queue_length=21 freeze_epochs=2",
    "instdisc bank_sample=10",
    "w_mse whiten_size=6 dim=3 whiten_epsilon=0.1",
    "w_mse whiten_size=6 dim=3 whiten_epsilon=0.1 w_iter=3",
    "dino code_temperature_start=0.02 code_warmup_epochs=3",
    "simclr + momentum + queue + stop_gradient",
    "simclr together=true",
    "swav local_crops=2 together=true",
    "dino local_crops=1 together=true",
    "byol clip_grad=0.05 lr=2",
]
BOUND = {torch.float64: 1e-10, torch.float32: 1e-5}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def processes(n: int, out: Path, expressions: list[str], **env: str) -> list[dict]:
    """What each of n processes saw."""
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(n), **env}
    words = [sys.executable, str(HERE / "ranks_worker.py"), str(out), *expressions]
    running = [subprocess.Popen(words, env={**env, "RANK": str(rank)}, cwd=HERE) for rank in range(n)]
    assert [process.wait(timeout=300) for process in running] == [0] * n
    return [torch.load(out / f"{n}-{rank}.pt") for rank in range(n)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What one, two and four processes saw of all expressions."""
    return {n: processes(n, tmp_path_factory.mktemp(f"ranks{n}"), EXPRESSIONS) for n in (1, 2, 4)}


def differ(one: torch.Tensor, other: torch.Tensor) -> float:
    """The distance of two tensors, over the length of the first or 1."""
    assert one.shape == other.shape
    return float((one.double() - other.double()).norm() / one.double().norm().clamp(min=1))


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_many_processes_are_as_one(seen, expression, n, dtype):
    alone = seen[1][0][expression, dtype]
    assert sum(name.startswith("gradients") for name in alone) == 3
    assert alone["gradients 2"].norm() > 1e-3
    for other in seen[n]:
        assert other[expression, dtype].keys() == alone.keys()
        worst = {name: differ(value, other[expression, dtype][name]) for name, value in alone.items()}
        assert {name: value for name, value in worst.items() if value > BOUND[dtype]} == {}


def test_all_kinds_of_state_were_compared(seen):
    names = {name for found in seen[1][0].values() for name in found}
    for part in (
        "queue.rows",
        "queue.pointer",
        "bank.rows",
        "codes.centre",
        "codes.assigned",
        "codebook.weight",
        "copy.",
    ):
        assert any(part in name for name in names), part


@pytest.mark.parametrize("expression", ["simclr", "dcl", "vicreg"])
def test_a_gather_without_gradient_is_noticed(seen, expression, tmp_path):
    """The comparison above fails where `gather` loses its gradient: batch norm, negatives, covariances need it."""
    lost = processes(2, tmp_path, [expression], LOSE_GRADIENT="1")[0][expression, torch.float64]
    alone = seen[1][0][expression, torch.float64]
    assert differ(alone["loss 0"], lost["loss 0"]) < 1e-10
    assert differ(alone["gradients 0"], lost["gradients 0"]) > 1e-3


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 3)])
def test_own_batch_norm_is_torchs(shape):
    torch.manual_seed(0)
    plain = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    ours = convert_sync_batchnorm(copy.deepcopy(plain))
    assert isinstance(ours, SyncBatchNorm)
    for _ in range(2):
        x = torch.randn(shape, dtype=torch.float64) * 3 + 1
        sides = [x.clone().requires_grad_() for _ in range(2)]
        weights = torch.randn(shape, dtype=torch.float64)
        results = [net(side) for net, side in zip((plain, ours), sides, strict=True)]
        grads = [
            torch.autograd.grad((y * weights).sum(), [side, *net.parameters()])
            for y, side, net in zip(results, sides, (plain, ours), strict=True)
        ]
        torch.testing.assert_close(results[1], results[0], rtol=1e-10, atol=1e-10)
        for mine, torchs in zip(grads[1], grads[0], strict=True):
            torch.testing.assert_close(mine, torchs, rtol=1e-10, atol=1e-10)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


def test_a_backbones_own_kinds_of_batch_norm_keep_what_they_do():
    """timm's norms have an activation inside, which is easily lost."""
    import timm

    net = timm.create_model("efficientnet_b0", num_classes=0)
    x = torch.randn(2, 3, 64, 64)
    other = convert_sync_batchnorm(copy.deepcopy(net))
    assert sum(isinstance(m, SyncBatchNorm) for m in other.modules()) > 20
    for mode in (True, False):
        torch.testing.assert_close(other.train(mode)(x), net.train(mode)(x), rtol=1e-3, atol=1e-3)


# ---- what processes agree on, and the gradients that they wait for ---------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """What each of three processes saw; three, since the sum of two numbers does not depend on their order."""
    out = tmp_path_factory.mktemp("three")
    rng = np.random.default_rng(0)
    splits = {"train": 48, "test": 20}
    arrays = {f"{split}_images": rng.integers(0, 255, (n, 12, 12, 3), dtype=np.uint8) for split, n in splits.items()}
    np.savez(out / "noise.npz", **arrays, **{f"{split}_labels": np.arange(n) % 4 for split, n in splits.items()})
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "3"}
    words = [sys.executable, str(HERE / "agree_worker.py"), str(out)]
    running = [subprocess.Popen(words, env={**env, "RANK": str(rank)}, cwd=HERE) for rank in range(3)]
    assert [process.wait(timeout=300) for process in running] == [0] * 3
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(3)]


def test_a_wish_is_heeded_a_step_later_by_all(three):
    for found in three:
        assert found["agreed"]["told"] == [0, 0, 2, 0, 0, 0]


def test_no_process_waits_for_the_others_wishes(three):
    """The second one is late at each call; the first one's first call returns before it is there."""
    assert three[0]["agreed"]["seconds"][0] < 0.2
    assert sum(three[0]["agreed"]["seconds"]) > 0.4  # later ones hear of calls before


def test_unused_parameters_are_looked_for_where_there_can_be_some(three):
    for found in three:
        assert not found["simsiam"]["looked"]
        assert found["frozen"]["always"]


@pytest.mark.parametrize("kind", ["simsiam", "frozen"])
def test_a_resumed_run_of_three_adds_gradients_in_the_same_order(three, kind):
    assert all(found[kind]["same"] for found in three)


# ---- torchrun --------------------------------------------------------------------------------------------------------


def torchrun(n: int, *words: str, **options: str) -> list[str]:
    """The command line of so many processes on this machine."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    start = [sys.executable, "-m", "torch.distributed.run", f"--master-port={free_port()}", f"--nproc-per-node={n}"]
    return [*start, *flags, "-m", "sslzoo", *words]


SMALL = ("train", "simclr", "--limit", "160", "--batch-size", "16", "--device", "cpu", "--checkpoint-every", "1")


def run_in(folder: Path, words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=200)


def with_one_killed(command: list[str], folder: Path, begun: str, patience: int = 100) -> str:
    """What processes print that torchrun starts, of which one is killed once there is a file of this pattern."""
    agent = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + patience
    while not [*folder.glob(begun)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    out, err = agent.communicate(timeout=patience)
    assert agent.returncode == 0, err
    return out


def test_torchrun_trains_one_run_and_one_process_speaks(tmp_path):
    done = run_in(tmp_path, torchrun(2, *SMALL, "--epochs", "2", "--json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # one object, so one speaker
    assert done.stderr.count("epoch 1/2") == 1
    run = tmp_path / found["run"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name]
    assert json.loads((run / "run.json").read_text())["processes"] == 2
    alone = run_in(tmp_path, [sys.executable, "-m", "sslzoo", *SMALL, "--epochs", "2", "--json", "--quiet"])
    one = json.loads(alone.stdout)
    assert found["loss"] == pytest.approx(one["loss"], abs=0.05)  # twenty steps of float32 apart
    assert (found["raw_knn"], found["colour_knn"]) == (one["raw_knn"], one["colour_knn"])
    assert found["random_knn"] == pytest.approx(one["random_knn"], abs=0.01)
    assert found["knn"]["k20"] == pytest.approx(one["knn"]["k20"], abs=0.1)


def test_an_error_is_said_once_and_nothing_is_left(tmp_path):
    done = run_in(tmp_path, torchrun(2, "train", "simclr", "--batch-size", "33", "--limit", "160", "--device", "cpu"))
    assert done.returncode != 0
    assert done.stderr.count("A batch of 33 cannot be shared by 2 processes; use --batch-size 32 or 34") == 1
    assert "/sslzoo/" not in done.stderr  # no traceback of ours beside torchrun's report
    assert not (tmp_path / "runs").exists()


def test_a_process_ends_with_its_code_whatever_its_threads_do(tmp_path):
    """gloo's thread, which is there until its group is, ended processes by SIGABRT now and then."""
    script = """
import torch.distributed as dist
from sslzoo.cli import main
dist.init_process_group("gloo", init_method="file://" + __import__("os").path.abspath("meet"), rank=0, world_size=1)
main(["train", "nothing_like_it"])
"""
    done = run_in(tmp_path, [sys.executable, "-c", script])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_a_restart_goes_on_with_the_run(tmp_path):
    """A process is killed; torchrun starts both anew, and they go on from the last checkpoint, bit for bit."""
    whole = run_in(tmp_path, torchrun(2, *SMALL, "--epochs", "3", "--out", "whole", "--quiet", "--json"))
    command = torchrun(2, *SMALL, "--epochs", "3", "--out", "runs", "--quiet", "--json", max_restarts="1")
    out = with_one_killed(command, tmp_path, "runs/simclr-digits-s0-1/log.csv")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["simclr-digits-s0-1"]
    one, two = (checkpoints.read(tmp_path / json.loads(text)["run"]) for text in (whole.stdout, out))
    assert all(torch.equal(v, two.model[k]) for k, v in one.model.items() if isinstance(v, torch.Tensor))


def test_a_restart_over_two_nodes_meets_again(tmp_path):
    """Each agent counts its own restarts; after one of them has lost a process, both go on with the run."""
    rendezvous = {"nnodes": "2", "rdzv_backend": "c10d", "rdzv_id": "job", "rdzv_endpoint": f"127.0.0.1:{free_port()}"}
    command = torchrun(1, *SMALL, "--epochs", "12", "--quiet", "--json", max_restarts="1", **rendezvous)
    agents = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    log = tmp_path / "runs" / "simclr-digits-s0-1" / "log.csv"
    deadline = time.monotonic() + 100
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = subprocess.run(["pgrep", "-P", str(agents[1].pid)], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
    said = [agent.communicate(timeout=100) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert [path.name for path in log.parent.parent.iterdir()] == [log.parent.name]
    assert checkpoints.read(log.parent).epoch == 12


def test_sigterm_saves_and_any_number_of_processes_goes_on(tmp_path):
    command = torchrun(2, *SMALL, "--epochs", "400", "--quiet")
    agent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "runs" / "simclr-digits-s0-1"
    deadline = time.monotonic() + 100
    while not (run / "log.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    agent.send_signal(signal.SIGTERM)
    _, err = agent.communicate(timeout=60)
    assert err.count("Stopped and saved; 'sslzoo train --resume runs/simclr-digits-s0-1' goes on.") == 1
    state = checkpoints.read(run)
    stop = str(state.epoch + 1)
    alone = run_in(tmp_path, [sys.executable, "-m", "sslzoo", "train", "--resume", str(run), "--stop-after", stop])
    assert alone.returncode == 0, alone.stderr
    assert checkpoints.read(run).epoch == state.epoch + 1


def test_most_commands_are_for_one_process(monkeypatch, run_cli):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for words in (
        ("ablate", "simsiam", "--flip", "predictor"), ("study", "stop_gradient"), ("knn", "raw"), ("runs",),
        ("search", "raw", "test:0"), ("cluster", "raw", "--out", "c.csv"), ("data", "check", "photos"),
    ):  # fmt: skip
        result = run_cli(*words)
        assert result.exit_code == 2
        assert "is made by one process; start it without torchrun" in result.stderr
