"""A kept result belongs to its data: names, labels, splits and contents of images, wherever they lie."""

import hashlib
import json
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets
from sslzoo.data.contents import hashes
from sslzoo.data.contents.hashes import Hashes
from sslzoo.data.contents.identity import Identity
from sslzoo.evaluation import encode, sources
from sslzoo.evaluation.benchmark import Request, benchmark
from sslzoo.evaluation.evaluate import Evaluation
from sslzoo.evaluation.protocols import chosen
from sslzoo.studies import setting
from sslzoo.studies.ablate import ablate
from sslzoo.studies.study import study
from sslzoo.studies.watch import Watch
from sslzoo.tools.errors import UserError
from sslzoo.training import contents
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.run import resume

QUICK = {"epochs": 2, "batch_size": 8, "device": "cpu", "baselines": False}


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def folder(root: Path) -> Path:
    """12 + 4 pictures of two classes, of a time when clocks tell changes apart."""
    for split, n in (("train", 12), ("test", 4)):
        for i in range(n):
            photo(root / split / "ab"[i % 2] / f"{i:02}.png", i + 100 * (split == "test"))
    return root


def archive(root: Path) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train_images": rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8),
        "train_labels": np.arange(12) % 2,
        "test_images": rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8),
        "test_labels": np.arange(4) % 2,
    }
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


def in_archive(change):
    def changed(path: Path) -> None:
        arrays = dict(np.load(path))
        change(arrays)
        np.savez(path, **arrays)

    return changed


def pixel(path: Path) -> None:
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def pixel_of_the_same_times(root: Path) -> None:
    """As a copy with its times kept makes it: neither size nor time of change tell."""
    path = root / "train" / "a" / "00.bmp"
    old = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_mtime_ns == old.st_mtime_ns
    assert path.stat().st_size == old.st_size


def swap(one: str, other: str):
    def changed(root: Path) -> None:
        (root / one).rename(root / "x")
        (root / other).rename(root / one)
        (root / "x").rename(root / other)

    return changed


CHANGES = {  # of a folder, and what is said
    "a pixel": (lambda root: pixel(root / "train/a/04.png"), "1 image has other content, first train/a/04.png"),
    "a pixel, with size and time kept": (pixel_of_the_same_times, "other content, first train/a/00.bmp"),
    "a pixel of test": (lambda root: pixel(root / "test/b/01.png"), "other content, first test/b/01.png"),
    "a label": (lambda root: (root / "train/a/04.png").rename(root / "train/b/04.png"), "training split has files of"),
    "a class's name": (
        lambda root: [(root / s / "b").rename(root / s / "c") for s in ("train", "test")],
        "other names",
    ),
    "two classes' names": (swap("train/a", "train/b"), "training split has files of other names"),
    "one more": (lambda root: photo(root / "train/a/99.png", 9), "training split has 13 images in place of 12"),
    "one less of test": (lambda root: (root / "test/a/02.png").unlink(), "test split has 3 images in place of 4"),
    "all others": (
        lambda root: [photo(p, 1000 + i) for i, p in enumerate(sorted(root.rglob("*.png")))],
        "15 images have other content, first test/a/00.png",
    ),
    "the order": (swap("train/a/02.png", "train/a/04.png"), "2 images have other content, first train/a/02.png"),
    "no test split": (lambda root: shutil.rmtree(root / "test"), "in place of 12"),
}
ARRAY_CHANGES = {
    "a pixel": (lambda a: a["train_images"].__setitem__((0, 0, 0, 0), 7), "training split has images of other content"),
    "a pixel of test": (lambda a: a["test_images"].__setitem__((0, 0, 0, 0), 7), "test split has images of other"),
    "a label": (lambda a: a["train_labels"].__setitem__(3, 0), "training split has other labels"),
    "a label of test": (lambda a: a["test_labels"].__setitem__(3, 0), "test split has other labels"),
    "the order": (lambda a: a.update(train_images=a["train_images"][::-1]), "in another order"),
    "the test split": (lambda a: [a.pop("test_images"), a.pop("test_labels")], "in place of 12"),
}


@pytest.fixture
def data(tmp_path):
    """A folder of sixteen pictures, one of them a .bmp."""
    root = folder(tmp_path / "set")
    with Image.open(root / "train/a/00.png") as image:
        image.save(root / "train/a/00.bmp")
    (root / "train/a/00.png").unlink()
    return root


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """No file has only just changed: the tests' own changes come later than a tick of the clock."""
    monkeypatch.setattr(hashes, "SETTLED", 0)
    time.sleep(0.01)


def begun(data: Path, out: Path, **options) -> Path:
    return Path(sslzoo.train("simsiam", data=str(data), out=str(out), stop_after=1, **{**QUICK, **options})["run"])


@pytest.mark.parametrize("memory", ["always", "never"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(data, tmp_path, change, memory):
    run = begun(data, tmp_path / "runs", memory=memory, workers=0)
    before = (run / "last.pt").read_bytes()
    make, said = CHANGES[change]
    time.sleep(0.01)
    make(data)
    with pytest.raises(
        UserError, match=f"The data of .* have changed: .*{said}.*; bring them back, or start a new run"
    ):
        resume(run)
    assert (run / "last.pt").read_bytes() == before


@pytest.mark.parametrize("change", ARRAY_CHANGES)
def test_nor_with_other_arrays(tmp_path, change):
    path = archive(tmp_path / "set")
    run = begun(path, tmp_path / "runs")
    make, said = ARRAY_CHANGES[change]
    in_archive(make)(path)
    with pytest.raises(UserError, match=f"have changed: .*{said}"):
        resume(run)


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_it_goes_on_with_the_same_data_at_another_place(data, tmp_path, kind):
    """As if they had not been moved, and knows the new place from then on."""
    place = data if kind == "folder" else archive(tmp_path / "archive")
    whole = sslzoo.train("simsiam", data=str(place), out=str(tmp_path / "whole"), **QUICK)
    run = begun(place, tmp_path / "runs")
    moved = tmp_path / "elsewhere" / place.name
    moved.parent.mkdir()
    shutil.copytree(place, moved) if kind == "folder" else shutil.copy(place, moved)
    shutil.rmtree(place) if kind == "folder" else place.unlink()
    with pytest.raises(UserError, match=r"are no longer at .*; say with --data where they are"):
        resume(run)
    result = resume(run, data=str(moved))
    assert (result["loss"], result["knn"]) == (whole["loss"], whole["knn"])
    assert json.loads((run / "run.json").read_text())["options"]["data"] == str(moved)
    assert encode.embed(str(run), sources.EmbedOptions()).note is None


def test_another_place_with_other_data_is_refused(data, tmp_path, bad_input):
    run = begun(data, tmp_path / "runs")
    other = tmp_path / "other"
    shutil.copytree(data, other)
    pixel(other / "train/b/01.png")
    bad_input("have changed: 1 image has other content, first train/b/01.png", "train", "--resume", str(run), "--data",
              str(other))  # fmt: skip
    bad_input(
        "have changed: it is digits in place of a folder or file", "train", "--resume", str(run), "--data", "digits"
    )


@pytest.mark.parametrize(
    "change", ["a pixel", "a label", "two classes' names", "a pixel of test", "one less of test", "the order"]
)
def test_knn_says_that_a_runs_data_have_changed(data, tmp_path, change):
    run = begun(data, tmp_path / "runs")
    first = rows(run)
    assert first.note is None
    time.sleep(0.01)
    CHANGES[change][0](data)
    row = rows(run)
    assert "its data have changed since it was trained" in row.note
    assert row.note == rows(run).note  # from what is kept, too
    assert rows(run, cached=False).knn == row.knn


def rows(run, **options):
    asked = sources.EmbedOptions(workers=0, **options)
    return benchmark(Request([str(run)], Evaluation(chosen((), (1, 3), None)), asked)).result.rows[0]


def test_knn_says_that_a_run_is_of_another_version(data, tmp_path):
    run = begun(data, tmp_path / "runs")
    about = json.loads((run / "run.json").read_text())
    about["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(about))
    assert rows(run).note == f"it was trained with torch 1.0 (now {version('torch')})"


STUDY = """
title = "Mine"
source = "Table 1"
paper = "https://arxiv.org/abs/2011.10566"
question = "Is it so?"
data = "digits"
epochs = 1
seeds = 1
base = "simsiam"
flip = "predictor"
"""


@pytest.mark.parametrize("change", ["a pixel", "a label", "a pixel of test", "the order"])
def test_a_study_of_other_data_is_trained_anew_and_that_is_said(data, tmp_path, change):
    (tmp_path / "mine.toml").write_text(STUDY)
    given = {"data": str(data), "out": str(tmp_path / "runs"), "batch_size": 8, "baselines": False}
    watch = Heard()
    for _ in range(2):
        study(str(tmp_path / "mine.toml"), given, None, watch)
    assert watch.kept == [(2, 0), (0, 2)]
    time.sleep(0.01)
    CHANGES[change][0](data)
    study(str(tmp_path / "mine.toml"), given, None, watch)
    assert watch.kept[-1] == (2, 0)
    assert ["of other data, options or versions" in note for note in watch.notes] == [True]


class Heard(Watch):
    def __init__(self):
        self.kept, self.notes = [], []

    def begin(self, head, cells, todo, kept):
        self.kept.append((todo, kept))

    def note(self, sentence):
        self.notes.append(sentence)


@pytest.mark.parametrize("change", ["a pixel", "a label", "two classes' names", "a pixel of test", "the order"])
def test_cells_of_other_data_are_trained_anew_and_that_is_said(data, tmp_path, change):
    given = {"data": str(data), "out": str(tmp_path / "runs"), "epochs": 1, "batch_size": 8, "baselines": False}
    watch = Heard()
    for _ in range(2):
        ablate("simsiam", ["predictor"], given, 1, watch)
    assert watch.kept == [(2, 0), (0, 2)]
    time.sleep(0.01)
    CHANGES[change][0](data)
    ablate("simsiam", ["predictor"], given, 1, watch)
    assert watch.kept[-1] == (2, 0)
    assert ["of other data, options or versions" in note for note in watch.notes] == [True]


def test_so_are_those_of_another_version_and_of_data_that_moved_none(data, tmp_path, monkeypatch):
    given = {"data": str(data), "out": str(tmp_path / "runs"), "epochs": 1, "batch_size": 8, "baselines": False}
    watch = Heard()
    ablate("simsiam", ["predictor"], given, 1, watch)
    data.rename(tmp_path / "moved")
    given["data"] = str(tmp_path / "moved")
    ablate("simsiam", ["predictor"], given, 1, watch)
    assert watch.kept == [(2, 0), (0, 2)]
    versions = setting.versions()
    monkeypatch.setattr("sslzoo.studies.setting.versions", lambda: {**versions, "torch": "1.0"})
    ablate("simsiam", ["predictor"], given, 1, watch)
    assert watch.kept[-1] == (2, 0)


def test_a_run_says_that_it_goes_on_with_another_version(data, tmp_path):
    run = begun(data, tmp_path / "runs")
    about = json.loads((run / "run.json").read_text())
    about["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(about))
    noted = []

    class Told(Reporter):
        def begin(self, plan, run, epoch):
            noted.extend(plan.data.notes)

    resume(run, Told())
    assert f"this run began with torch 1.0 (now {version('torch')})" in noted


def test_a_files_hash_is_kept_by_path_size_and_times(data, monkeypatch):
    first = Hashes(data)
    path = data / "train/b/01.png"
    sha1 = first.of(path)
    first.save()
    second = Hashes(data)
    monkeypatch.setattr("os.open", None)  # nothing is read
    assert second.of(path) == sha1
    assert second.known(data / "train/b/03.png") is None


@pytest.mark.parametrize("damage", ["cut", "a letter", "empty", "another format", "gone"])
def test_damaged_hashes_are_taken_anew(data, damage):
    first, path = Hashes(data), data / "train/b/01.png"
    sha1 = first.of(path)
    first.save()
    kept = hashes._file(data)
    content = kept.read_bytes()
    changed = {"cut": content[:-9], "a letter": content.replace(bytes.fromhex(sha1), b"0" * 20), "empty": b"",
               "another format": b'{"sha1": 3, "files": []}'}  # fmt: skip
    kept.unlink() if damage == "gone" else kept.write_bytes(changed[damage])
    assert Hashes(data).kept == {}
    assert Hashes(data).of(path) == sha1


def test_a_file_that_has_only_just_changed_is_read_again(data, monkeypatch):
    """Another change within the clock's tick would leave the same times."""
    monkeypatch.setattr(hashes, "SETTLED", 10**12)
    first, path = Hashes(data), data / "train/b/01.png"
    first.of(path)
    first.save()
    assert Hashes(data).kept == {}
    assert first.known(path) is None


def test_the_identity_is_of_content(data, tmp_path):
    one = Identity.of(sets.load(str(data)), read=True)
    shutil.copytree(data, tmp_path / "again" / "another name")
    other = Identity.of(sets.load(str(tmp_path / "again" / "another name"), memory="never"), read=True)
    assert one.difference(other) is None
    assert one.digest() == other.digest()
    assert one.digest() != Identity.of(sets.load(str(data), limit=11), read=True).digest()
    assert one.digest() != Identity.of(sets.load("digits", limit=12), read=True).digest()


def test_what_processes_have_read_differently_is_said():
    with pytest.raises(UserError, match=r"The content of a/1\.png has changed while the run went on, or is another on"):
        contents._joined([{"a/0.png": "1", "a/1.png": "2"}, {"a/1.png": "3"}])


def test_a_run_of_a_version_that_cut_views_otherwise_does_not_go_on(data, tmp_path):
    run = begun(data, tmp_path / "runs")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "identity": None}))
    with pytest.raises(UserError, match="is of an older version, which cut views out of files otherwise; start a new"):
        resume(run)


def test_a_run_keeps_what_its_files_held(data, tmp_path):
    """The hash of each, as sha1sum prints it."""
    run = Path(sslzoo.train("simsiam", data=str(data), out=str(tmp_path), memory="never", workers=1, **QUICK)["run"])
    kept = json.loads((run / "images.json").read_text())["images"]
    files = [path for path in data.rglob("*.*") if path.suffix in (".png", ".bmp")]
    assert kept == {str(p.relative_to(data)): hashlib.sha1(p.read_bytes()).hexdigest() for p in files}
