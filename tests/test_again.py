"""What a fresh look found: each row once came out wrong without a word, as a raw error, or with wrong advice."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing import queues
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sslzoo
from sslzoo.cli import interrupt
from sslzoo.data import sets
from sslzoo.data.contents import hashes
from sslzoo.data.contents.hashes import NOTHING, Hashes
from sslzoo.data.contents.identity import Identity
from sslzoo.data.images import FileImages
from sslzoo.recipes import plugins
from sslzoo.studies.ablate import ablate
from sslzoo.studies.watch import Watch
from sslzoo.tools.errors import UserError
from sslzoo.training import guards
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.run import resume
from sslzoo.views import loading
from sslzoo.views.loading import hand_over_error

QUICK = {"epochs": 2, "batch_size": 8, "device": "cpu", "baselines": False, "workers": 0}


def bitmaps(root: Path) -> Path:
    """Eight bitmaps of two classes, a training split and a test split: all of one size."""
    for split, n in (("train", 4), ("test", 2)):
        for i, label in enumerate("ab"):
            (root / split / label).mkdir(parents=True)
            for j in range(n):
                pixels = np.random.default_rng([n, i, j]).integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{j}.bmp")
    return root


@pytest.fixture
def at_once(tmp_path, monkeypatch):
    """Bitmaps that were all written in one tick of the clock, as an archive's small files are; None is just changed."""
    monkeypatch.setattr(hashes, "SETTLED", 0)
    root = bitmaps(tmp_path / "set")
    files = sorted(root.rglob("*.bmp"))
    for _ in range(10_000):
        for path in files:
            os.utime(path, (1.6e9, 1.6e9))
        if len({path.stat().st_ctime_ns for path in files}) == 1:
            time.sleep(0.01)
            return root
    pytest.skip("the clock of this file system ticks faster than files are made")


def swap(root: Path, one: str, other: str) -> None:
    (root / one).rename(root / "x")
    (root / other).rename(root / one)
    (root / "x").rename(root / other)


def test_folders_of_one_tick_that_swap_names_are_told_apart(at_once, tmp_path):
    """Names, sizes and all times stay: of what `stat` says, inodes alone differ."""
    run = sslzoo.train("simsiam", data=str(at_once), out=str(tmp_path / "runs"), stop_after=1, **QUICK)["run"]
    before = Identity.of(sets.load(str(at_once)), read=True)
    swap(at_once, "train/a", "train/b")
    assert before.difference(Identity.of(sets.load(str(at_once)), read=True)) is not None
    with pytest.raises(UserError, match=r"8 images have other content, first train/a/0\.bmp"):
        resume(run)
    swap(at_once, "train/a", "train/b")
    assert before.difference(Identity.of(sets.load(str(at_once)), read=True)) is None
    resume(run)


def test_a_file_too_large_for_a_picture_is_not_read_into_memory_for_its_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "MOST_BYTES", 1000)
    (tmp_path / "large.png").write_bytes(bytes(1001))
    (tmp_path / "small.png").write_bytes(bytes(1000))
    assert Hashes(tmp_path).of(tmp_path / "large.png") == NOTHING
    assert Hashes(tmp_path).of(tmp_path / "small.png") != NOTHING


def test_memory_that_cannot_be_shared_is_said_at_once(tmp_path):
    """As in a container with a small /dev/shm; Python lets who waits for the batch wait for ever."""
    bitmaps(tmp_path / "set")
    words = "-m sslzoo embed random --out out.npz --data set --device cpu --workers 1"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 1; exec {sys.executable} {words}"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: No memory can be shared with processes that read (File too large); see")
    assert done.stderr.count("\n") == 1


def test_a_batch_that_cannot_be_handed_over_comes_as_its_reason(monkeypatch):
    monkeypatch.setattr(queues.Queue, "_on_queue_feeder_error", hand_over_error)

    class Stays:
        def __reduce__(self):
            raise OSError(errno.EMFILE, "Too many open files")

    queue = multiprocessing.Queue()
    queue.put((7, Stays()))
    number, instead = queue.get(timeout=20)
    assert number == 7
    with pytest.raises(UserError, match=r"The system gives no more \(Too many open files\); .*take --workers 0\.$"):
        instead.reraise()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"max_bad": "5%"}, "max_bad cannot be '5%'; it is a number"),
        ({"max_bad": None}, "max_bad cannot be None; it is a number"),
        ({"checkpoint_every": 1}, "checkpoint_every cannot be 1; it is a text"),
        ({"data": 7}, "data= cannot be 7; give a name"),
        ({"keep": None}, "keep cannot be None; it is a whole number"),
        ({"accumulate": None}, "accumulate cannot be None; it is a whole number"),
        ({"baselines": "no"}, "baselines cannot be 'no'; it is True or False"),
        ({"compile": "no"}, "compile cannot be 'no'; it is True or False"),
        ({"stop_after": "1"}, "stop_after cannot be '1'; it is a whole number"),
        ({"expression": None}, "expression cannot be None; it is a text or a list of texts"),
        ({"expression": ["simsiam", 5]}, "expression cannot be ['simsiam', 5]; it is a text or"),
    ],
)
def test_an_argument_of_another_kind_is_said(tmp_path, option, said):
    given = {"expression": "simsiam", "limit": 8, "out": str(tmp_path / "runs"), **QUICK, **option}
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        sslzoo.train(given.pop("expression"), **given)
    assert not (tmp_path / "runs").exists()


def test_paths_are_as_good_as_text(tmp_path):
    bitmaps(tmp_path / "set")
    one = sslzoo.train("simsiam", data=tmp_path / "set", out=tmp_path / "runs", **{**QUICK, "epochs": 1})
    other = sslzoo.train("simsiam", data=tmp_path / "set", out=tmp_path, init=Path(one.run), **{**QUICK, "epochs": 1})
    assert (Path(one.run).parent, Path(other.run).parent) == (tmp_path / "runs", tmp_path)


def test_a_cache_that_can_be_none_is_not_called_damaged(tmp_path, monkeypatch, run_cli):
    monkeypatch.setenv("SSLZOO_CACHE", os.devnull)
    bitmaps(tmp_path / "set")
    done = run_cli("knn", "random", "--data", str(tmp_path / "set"), "-k", "1", "--workers", "0")
    assert done.exit_code == 0
    assert "damaged" not in done.output


def test_a_name_between_colons_is_no_picture(run_cli):
    assert "There is no data ':dog:';" in run_cli("train", "simsiam", "--data", ":dog:").stderr


def test_a_run_without_its_recipe_is_not_given_another(tmp_path, true_run, run_cli):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "last.pt"):
        (run / name).write_bytes(true_run[name])
    about = json.loads((run / "run.json").read_text())
    about["options"]["data"] = "digits"
    (run / "run.json").write_text(json.dumps(about))
    said = run_cli("train", "--resume", str(run)).stderr
    assert said == f"Error: {run} has lost its recipe.toml, and nothing else says what it trains; start a new run.\n"


def test_cells_of_a_plugins_data_that_have_changed_are_trained_anew(tmp_path, monkeypatch, trained):
    """Its arrays may come from anywhere; pixels that only change places leave mean and deviation as they are."""
    pixels = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(16) % 2
    arrays = {"train_images": pixels, "train_labels": labels, "test_images": pixels[:4], "test_labels": labels[:4]}
    monkeypatch.setitem(plugins._data, "mine", lambda: arrays)
    given = {"data": "mine", "out": str(tmp_path / "runs"), "epochs": 1, "batch_size": 8}
    for change, runs in (({}, 2), ({}, 2), ({"test_labels": labels[:4] * 0}, 4), ({"test_images": pixels[4:8]}, 6)):
        arrays.update(change)
        ablate("simsiam", ["predictor"], given, 1, Watch())
        assert len(trained.asked) == runs


def test_a_ctrl_c_that_comes_to_a_finalizer_is_heard_all_the_same():
    """Out of `__del__`, in which a loader waits for its processes, Python raises nothing: a run went on after it."""
    script = """
import os, signal, time
from sslzoo.cli import interrupt

class Loader:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

interrupt.install()
interrupt.at_work()
try:
    Loader()
    time.sleep(20)
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("heard\n", "", 0)


def test_a_reader_says_nothing_of_a_run_that_is_gone(capsys):
    for error in (ConnectionResetError(104, "reset by peer"), EOFError(), BrokenPipeError()):
        loading.unless_nobody_reads(type(error), error, None)
    assert capsys.readouterr().err == ""
    loading.unless_nobody_reads(ValueError, ValueError("of another kind"), None)
    assert "ValueError: of another kind" in capsys.readouterr().err


def test_no_warning_of_more_readers_than_cores():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loading.loader(range(4), 1000, torch.device("cpu"))


def test_a_second_ctrl_c_ends_a_run_that_does_not_come_to_its_stop(monkeypatch):
    monkeypatch.setattr(interrupt, "_working", [True])
    monkeypatch.setattr(interrupt, "_heard", [])
    before = signal.signal(signal.SIGINT, interrupt._handle)
    try:
        with guards.signals() as caught:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # in the same moment: the same
            assert len(caught) == 2
            guards.heard[:] = [when - 2 * guards.PATIENCE for when in guards.heard]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
        guards.heard.clear()


DIES = """
import os, sys
from sslzoo.data import images
from sslzoo.views import loading
import sslzoo, threading

loading.LOOK = 1
images.FileImages.read = lambda self, places, size: os._exit(1)

def train():
    try:
        sslzoo.train("simsiam", data="set", epochs=1, batch_size=4, memory="never", workers=2, device="cpu")
    except sslzoo.UserError as error:
        print(error, file=sys.stderr)

if sys.argv[1] == "thread":
    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
else:
    train()
"""


@pytest.mark.parametrize("where", ["thread", "main"])
def test_readers_that_all_die_are_said_once_wherever_they_are_waited_for(tmp_path, where):
    """torch raises an error in the main thread for each, whatever that does then; and none in another thread."""
    bitmaps(tmp_path / "set")
    done = subprocess.run([sys.executable, "-c", DIES, where], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stderr.startswith("A process that reads images has died, perhaps for lack of memory; start again with")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["train simsiam", "knn random", "embed random --out x.npz", "data check ."])
def test_a_command_that_starts_in_a_folder_that_is_gone(tmp_path, monkeypatch, run_cli, words):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    result = run_cli(*words.split())
    assert result.stderr == "Error: The folder that you are in is gone; change to one that is there, and start again.\n"
    assert result.exit_code == 2


def test_a_stop_does_not_wait_for_readers_that_give_nothing(tmp_path, monkeypatch):
    """As on a disk that does not answer; what was trained is saved, and the run goes on as if it had never stopped."""
    given = {**QUICK, "data": str(bitmaps(tmp_path / "set")), "batch_size": 4, "workers": 1, "memory": "never"}
    whole = sslzoo.train("simsiam", out=str(tmp_path / "whole"), **given)
    sign, read = tmp_path / "stuck", FileImages.read

    def slow(self, places, size):
        while sign.exists():
            time.sleep(0.1)
        return read(self, places, size)

    class Stops(Reporter):
        def epoch(self, row, epochs):
            sign.touch()
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loading, "LOOK", 1)
    monkeypatch.setattr(FileImages, "read", slow)
    with pytest.raises(guards.Interrupted) as stopped:
        sslzoo.train("simsiam", out=str(tmp_path / "runs"), reporter=Stops(), **given)
    sign.unlink()
    again = resume(str(stopped.value))
    assert (again.loss, again.knn) == (whole.loss, whole.knn)


@pytest.mark.parametrize("words", ["knn raw -k 1 --gallery", "knn raw -k 1 --map", "search raw test:0 --out"])
def test_a_picture_of_the_data_is_not_replaced_even_by_force(tmp_path, run_cli, words):
    root = bitmaps(tmp_path / "set")
    picture = root / "train" / "a" / "3.png"
    Image.new("RGB", (32, 32)).save(picture)
    before = picture.read_bytes()
    result = run_cli(*words.split(), str(picture), "--data", str(root), "--force")
    assert (result.exit_code, picture.read_bytes()) == (2, before)
    assert f"{picture} is what is read; give {words.split()[-1]} another place." in result.stderr


def test_two_pictures_need_two_places(tmp_path, run_cli):
    place = str(tmp_path / "x.png")
    said = run_cli("knn", "raw", "--gallery", place, "--map", place).stderr
    assert said == "Error: --gallery, --map and --tradeoff cannot be one file; give each its own.\n"


def test_more_broken_pictures_than_a_resumed_run_allows_can_be_allowed(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:02}.png")
    how = {"epochs": 2, "batch_size": 8, "device": "cpu", "baselines": False, "memory": "never", "workers": 0}
    run = sslzoo.train("simsiam", data=str(root), out=str(tmp_path / "runs"), stop_after=1, **how)["run"]
    (Path(run) / "images.json").unlink()
    content = (root / "03.png").read_bytes()
    (root / "03.png").write_bytes(content[:100])
    with pytest.raises(UserError, match="raise --max-bad"):
        resume(run)
    assert resume(run, max_bad=0.1)["epochs"] == 2
    assert json.loads((Path(run) / "run.json").read_text())["options"]["max_bad"] == 0.1


def test_a_broken_encoder_of_a_run_is_written_anew_by_going_on(tmp_path):
    how = {"limit": 64, "batch_size": 16, "epochs": 2, "device": "cpu", "baselines": False}
    run = Path(sslzoo.train("simsiam", out=str(tmp_path), stop_after=1, **how)["run"])
    whole = (run / "encoder.safetensors").read_bytes()
    (run / "encoder.safetensors").write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"encoder.safetensors cannot be read as weights .*; 'sslzoo train --resume"):
        sslzoo.encoder(str(run))
    resume(run)
    assert not sslzoo.encoder(str(run)).training
