"""The command line at its edges: advice that fits, signals, readers that go away, and machines that give no more."""

import errno
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import sslzoo
from sslzoo.cli import interrupt, main
from sslzoo.tools import places
from sslzoo.tools.errors import UserError, did_you_mean, from_workers, no_memory
from sslzoo.training import guards

TINY = ["dim=8", "hidden=8", "predictor_hidden=8", "--batch-size", "8", "--device", "cpu"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few images in an .npz, and folders that look like data."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {f"{s}_images": rng.integers(0, 255, (24, 12, 12, 3), dtype=np.uint8) for s in ("train", "test")}
    np.savez("in.npz", **arrays, train_labels=np.arange(24) % 3, test_labels=np.arange(24) % 3)  # type: ignore[arg-type]
    (tmp_path / "My flower photos").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


# ---- advice

ADVICE: list[tuple[list[str], str]] = [
    (["train", "simsiam", "--lr", "0.1"], "No such option '--lr'; write optimizer.lr=0.1 in the expression."),
    (["train", "simsiam", "--tau", "0.9"], "No such option '--tau'; write target.tau=0.9 in the expression."),
    (["train", "simsiam", "--temperature=1"], "write loss.temperature=VALUE in the expression."),
    (["train", "--hidden", "8", "simsiam"], "write heads.hidden=8 in the expression."),
    (["ablate", "simsiam", "--weight-decay", "1"], "write optimizer.weight_decay=1 in the expression."),
    (["train", "simsiam", "--epoch", "3"], "did you mean '--epochs'?"),
    (["train", "My flower photos"], "give it with --data 'My flower photos'"),
    (["train", "simsiam", "My flower photos"], "give it with --data 'My flower photos'"),
    (["train", "photos"], "give it with --data photos"),
    (["train", "in.npz"], "give it with --data in.npz"),
    (["ablate", "photos", "--flip", "predictor"], "give it with --data photos"),
    (["methods", "show", "photos"], "give it with --data photos"),
    (["knn", "runs/nothing"], "There is no run runs/nothing; 'sslzoo runs' lists"),
    (["embed", "runs/nothing", "--out", "f.npz"], "There is no run runs/nothing"),
    (["search", "./nothing", "test:0"], "There is no run ./nothing"),
    (["knn", "notes.txt"], "features come in .csv, .tsv, .parquet"),
    (["train", "simsiam", "+", "tau"], "write tau=VALUE, without a sign."),
    (["train", "simsiam", "-", "lr"], "write lr=VALUE, without a sign."),
    (["tarin"], "Error: No such command 'tarin' (did you mean 'train'?).\n"),
    (["methods", "shwo"], "Error: No such command 'shwo' (did you mean 'show'?).\n"),
    (["train", "simsiam", "--max-bad", "much"], "is no share, as in 0.05 or 5%."),
    (["train", "simsiam", "--max-bad", "120%"], "a share of the images, from 0 to 1."),
    (["ablate", "simsiam", "--flip", "predictor", "--max-bad", "5"], "a share of the images, from 0 to 1."),
    (["study", "stop_gradient", "--max-bad", "-1"], "a share of the images, from 0 to 1."),
    (["ablate", "simsiam", "--flip", "predictor", "--workers", "-1"], "--workers cannot be -1"),
]


@pytest.mark.parametrize(
    ("words", "part"), ADVICE, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_advice_is_what_can_be_typed(words: list[str], part: str, place: Path) -> None:
    found = run(*words)
    assert found.exit_code == 2, (found.exception, found.output)
    assert part in found.stderr
    assert found.stderr.count("\n") == 1
    assert "?." not in found.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.05", 0.05), ("0", 0.0), ("100%", 1.0), ("1.5%", 0.015)])
def test_a_share_may_be_in_per_cent(text: str, value: float, place: Path) -> None:
    words = ["train", "simsiam", *TINY, "--data", "in.npz", "--epochs", "1", "--quiet", "--json", "--max-bad", text]
    found = run(*words)
    assert found.exit_code == 0, found.output
    (made,) = Path("runs").iterdir()
    assert f'"max_bad": {value}' in (made / "run.json").read_text()


def test_flags_of_data_are_those_of_every_command_that_trains() -> None:
    options = {
        name: {option for param in main.commands[name].params for option in param.opts}
        for name in ("train", "ablate", "study")
    }
    data = {"--data", "--image-size", "--limit", "--workers", "--max-bad", "--device", "--precision", "--plugin"}
    assert all(data <= found for found in options.values())


def test_a_table_is_found_again_whatever_the_workers(place: Path) -> None:
    words = ["ablate", "simsiam", *TINY, "--data", "in.npz", "--epochs", "1", "--flip", "predictor", "--quiet"]
    for more in ([], ["--workers", "0", "--max-bad", "2%"]):
        assert run(*words, *more).exit_code == 0
    assert len(list(Path("runs").iterdir())) == 1


# ---- memory, files, processes


def raising(error: BaseException) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


EXHAUSTED: list[tuple[BaseException, str]] = [
    (MemoryError(), "Memory is full"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "Memory is full"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "Memory is full"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "Memory is full"),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "Memory is full"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "--workers 0"),
    (OSError(errno.EMFILE, "Too many open files"), "ulimit"),
    (RuntimeError("can't start new thread"), "--workers 0"),
]


@pytest.mark.parametrize(("error", "part"), EXHAUSTED, ids=lambda value: repr(value)[:40])
def test_a_machine_that_gives_no_more_is_one_sentence(
    error: BaseException, part: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sslzoo.evaluation.encode.embed", raising(error))
    found = run("embed", "raw", "--data", "in.npz", "--out", "f.npz")
    assert found.exit_code == 2, found.exception
    assert part in found.stderr
    assert "output cannot be written" not in found.stderr
    assert found.stderr.count("\n") == 1


def test_an_error_of_the_program_stays_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslzoo.evaluation.encode.embed", raising(RuntimeError("a wrong line")))
    assert isinstance(run("embed", "raw", "--data", "in.npz", "--out", "f.npz").exception, RuntimeError)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("not enough memory: you tried to allocate")])
def test_a_model_that_memory_does_not_hold_leaves_nothing(
    error: Exception, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sslzoo.training.learner.build", raising(error))
    with pytest.raises(UserError, match="--backbone"):
        sslzoo.train("simsiam", data="in.npz", epochs=1, batch_size=8, device="cpu")
    found = run("ablate", "simsiam", *TINY, "--data", "in.npz", "--flip", "predictor", "--epochs", "1")
    assert (found.exit_code, found.stderr.count("\n")) == (2, 1)


def test_readers_without_files_say_how_to_go_on() -> None:
    def items() -> Iterator[int]:
        raise RuntimeError("Too many open files. Communication with the workers is no longer possible.")
        yield 0

    with pytest.raises(UserError, match="ulimit"):
        next(iter(from_workers(items())))


@pytest.mark.parametrize("error", [ValueError("out of bounds"), RuntimeError("shapes differ"), OSError(28, "No space")])
def test_other_errors_are_not_taken_for_memory(error: Exception) -> None:
    assert not no_memory(error)


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSLZOO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: os.fspath(path))  # as for a uid without an entry
    assert places.cache().is_absolute()
    assert str(os.getuid()) in places.cache().name


def test_a_run_that_is_deleted_is_not_out_of_room(place: Path) -> None:
    import shutil

    from sslzoo.training.listeners.reporter import Reporter

    class Deletes(Reporter):
        def epoch(self, row: Any, epochs: int) -> None:
            shutil.rmtree("runs", ignore_errors=True)

    with pytest.raises(UserError, match="gone") as caught:
        sslzoo.train("simsiam", data="in.npz", epochs=3, batch_size=8, device="cpu", reporter=Deletes())
    assert "room" not in str(caught.value)


def test_a_long_word_is_compared_with_nothing() -> None:
    assert did_you_mean("simsiam" * 20_000, ["simsiam"]) == ""
    assert did_you_mean("simsaim", ["simsiam"]) == " (did you mean 'simsiam'?)"


# ---- signals


@pytest.fixture
def training(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run in a process of its own, after its first epoch."""
    words = ["train", "simsiam", *TINY, "--data", "in.npz", "--epochs", "9999", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sslzoo", *words], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which is ignored below nohup
    )  # fmt: skip
    while not list(place.glob("runs/*/log.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_a_signal_saves_however_often_it_comes(name: str, training: subprocess.Popen[str]) -> None:
    for _ in range(20 if name == "SIGINT" else 1):
        if training.poll() is None:
            training.send_signal(getattr(signal, name))
        time.sleep(0.002)
    _, said = training.communicate(timeout=60)
    assert training.returncode == 75, said
    assert re.fullmatch(r"Stopped and saved; 'sslzoo train --resume runs/\S+' goes on\.\n", said)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with guards.signals() as caught:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert caught == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_at_once_are_one_and_a_later_one_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "PATIENCE", 0.1)
    with guards.signals() as caught:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGINT)
        assert len(caught) == 20
        time.sleep(0.15)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("delay", [0.02, 0.3, 1.0, 1.8])
def test_an_interrupt_while_modules_load_ends(delay: float, place: Path) -> None:
    words = ["knn", "random", "--data", "in.npz", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "sslzoo", *words], stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, interrupt.EXIT_CODE)
    if "Traceback" in said:  # Python's own, before a line of ours was run
        assert ", in run" not in said
    else:
        assert said in ("", "Interrupted.\n")


def test_an_interrupt_is_no_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslzoo.evaluation.encode.embed", raising(KeyboardInterrupt()))
    found = run("embed", "raw", "--data", "in.npz", "--out", "f.npz")
    assert (found.exit_code, found.stderr.lstrip()) == (130, "Interrupted.\n")


# ---- readers that go away, and the live line


def test_a_run_outlives_the_reader_of_its_output(place: Path) -> None:
    words = ["train", "simsiam", *TINY, "--data", "in.npz", "--epochs", "4"]
    process = subprocess.Popen([sys.executable, "-m", "sslzoo", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)
    assert len((next(Path("runs").iterdir()) / "log.csv").read_text().splitlines()) == 5


def test_the_live_line_leaves_no_state_behind(place: Path) -> None:
    words = ["train", "simsiam", *TINY, "--data", "in.npz", "--epochs", "2"]
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sslzoo", *words], stdout=there, stderr=there, env={**os.environ, "TERM": "xterm"}
    )
    os.close(there)
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(here, 4096):
                shown.extend(part)
        except OSError:  # the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(timeout=60) == 0
    reader.join()
    os.close(here)
    text = shown.decode()
    last = text.rindex("left")
    assert "\x1b[2K" in text[last:]  # the line is erased
    assert "\x1b[?25h" in text[last:]  # and the cursor is shown


def test_importing_leaves_signals_alone() -> None:
    code = "import signal, sslzoo, sslzoo.cli, sslzoo.__main__; print(signal.getsignal(signal.SIGINT).__name__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "default_int_handler\n"
