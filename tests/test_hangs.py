"""Nothing hangs, nothing blames the wrong thing: readers that wait or are left behind, machines that have no more."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import picture
from sslzoo.data.picture import Picture, UnreadableImage
from sslzoo.tools.errors import UserError
from sslzoo.training.listeners.reporter import Reporter

QUICK = {"epochs": 1, "batch_size": 8, "device": "cpu", "baselines": False, "memory": "never", "workers": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixteen small pictures without labels."""
    root = tmp_path_factory.mktemp("photos") / "set"
    root.mkdir()
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 52, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:02}.png")
    return root


def threads(number: int, work, seconds: float) -> list:
    """What so many threads come to at once; none may hang."""
    found: dict[int, object] = {}

    def run(i: int) -> None:
        found[i] = work(i)

    started = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(number)]
    for thread in started:
        thread.start()
    until = time.monotonic() + seconds
    for thread in started:
        thread.join(max(until - time.monotonic(), 0))
    assert not any(thread.is_alive() for thread in started)
    return [found[i] for i in range(number)]


def test_a_reader_is_not_forked_while_a_lock_is_held_that_it_needs(photos):
    path, held = photos / "00.png", threading.Event()

    def hold() -> None:
        with picture._unbounded():
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(10)  # it ends, whatever happens
        os._exit(0 if Picture(path).pixels().shape == (3, 40, 52) else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_twenty_threads_that_train_with_readers_come_to_what_one_does(photos, tmp_path):
    def train(i: int) -> float:
        return sslzoo.train("simsiam", data=str(photos), out=str(tmp_path / str(i)), seed=i % 4, **QUICK)["loss"]

    expected = [train(i) for i in range(4)]
    assert len(set(expected)) == 4
    assert threads(20, train, 240) == expected * 5


class Moves(Reporter):
    """Moves the data away, or a part of them, once the first epoch has ended."""

    def __init__(self, path: Path):
        self.path = path

    def epoch(self, row, epochs):
        if self.path.exists():
            self.path.rename(self.path.with_name("gone"))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_data_that_are_moved_away_end_a_run_with_a_sentence(photos, tmp_path, workers):
    shutil.copytree(photos, tmp_path / "set")
    options = {**QUICK, "epochs": 50, "workers": workers, "data": str(tmp_path / "set"), "out": str(tmp_path / "runs")}
    started = time.monotonic()
    with pytest.raises(UserError, match=rf"{tmp_path / 'set'} is gone; bring the folder back, and start again"):
        sslzoo.train("simsiam", reporter=Moves(tmp_path / "set"), **options)
    assert time.monotonic() - started < 60
    assert len(list((tmp_path / "runs").glob("*/last.pt"))) == 1  # the epoch before is kept


def command(limit: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", f"ulimit {limit}; exec {sys.executable} -m sslzoo {' '.join(words)}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("files", [24, 32, 48])
def test_too_few_open_files_are_said(photos, tmp_path, files):
    done = command(
        f"-n {files}", "train", "simsiam", "--data", str(photos), "--out", str(tmp_path), "--epochs", "2",
        "--batch-size", "8", "--device", "cpu", "--memory", "never", "--workers", "4",
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    if done.returncode:
        assert "Traceback" not in done.stderr
        assert "open files" in done.stderr or "ancdata" in done.stderr or "ulimit" in done.stderr, done.stderr


def test_no_more_processes_are_said(photos, tmp_path, monkeypatch):
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(UserError, match=r"The system gives no more .*raise 'ulimit', or take --workers 0"):
        sslzoo.train("simsiam", data=str(photos), out=str(tmp_path), **QUICK)


STUCK = """
import sys, time
from pathlib import Path
import sslzoo
from sslzoo.data import images
from sslzoo.tools import errors
from sslzoo.views import loading

def stuck(self, place, size):
    time.sleep(1000)

images.FileImages.open = stuck
loading.READERS_PATIENCE = 2
how = {"epochs": 1, "batch_size": 8, "device": "cpu", "memory": "never", "workers": 2}
sslzoo.train("simsiam", data=sys.argv[1], out=sys.argv[2], **how)
"""


def test_readers_that_give_nothing_end_and_are_said(photos, tmp_path):
    done = subprocess.run([sys.executable, "-c", STUCK, photos, tmp_path], capture_output=True, text=True, timeout=60)
    assert "No image has come for 10 minutes; see that the disk of the data answers" in done.stderr


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_what_the_machine_lacks_makes_no_picture_unreadable(photos, monkeypatch, number):
    def fails(path, most):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(picture, "read_with_state", fails)
    if number == errno.ENOMEM:
        monkeypatch.setattr("builtins.bytearray", lambda n: [][n])  # nothing is left
        monkeypatch.setattr("builtins.bytearray", raising(MemoryError()))
    with pytest.raises(UserError) as caught:
        Picture(photos / "00.png")
    assert not isinstance(caught.value, UnreadableImage)
    assert str(caught.value).endswith(".")


def raising(error):
    def fails(*_):
        raise error

    return fails


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP])
def test_what_a_file_is_makes_it_unreadable(photos, monkeypatch, number):
    monkeypatch.setattr(picture, "read_with_state", raising(OSError(number, os.strerror(number))))
    with pytest.raises(UnreadableImage):
        Picture(photos / "00.png")


def test_full_memory_is_told_from_a_file_that_claims_too_much(photos, monkeypatch):
    monkeypatch.setattr(picture, "as_rgb", raising(MemoryError()))
    with pytest.raises(UnreadableImage, match="it is broken, MemoryError"):  # memory is there: the file is at fault
        Picture(photos / "00.png").pixels()
    monkeypatch.setattr(picture, "bytearray", raising(MemoryError()), raising=False)
    with pytest.raises(UserError, match=r"Memory does not hold .*00.png \(52 x 40 px\)"):
        Picture(photos / "00.png").pixels()
