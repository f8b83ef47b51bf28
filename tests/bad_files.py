"""Files that are wrong in one way each, by name; `tests/test_bad_input.py` makes those that a command names."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sslzoo.recipes.recipe import METHODS
from sslzoo.studies.study import STUDIES
from sslzoo.training.checkpoints import FORMAT

Content = Any  # bytes, a text, a folder of these by name, or a function of a true run's files
Run = Mapping[str, bytes]


class Payload:
    """A pickle of this makes a file when it is loaded by anything that runs it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("marker", "w"))


# ---- arrays and images


def npz(**arrays: Any) -> bytes:
    """The bytes of an .npz."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def noise(n: int = 20, side: int = 12) -> Any:
    return np.random.default_rng(0).integers(0, 255, (n, side, side, 3), dtype=np.uint8)


def images(**other: Any) -> bytes:
    """A tiny data set with some arrays changed, or left out where they are None."""
    classes = np.arange(20) % 2
    arrays = {"train_images": noise(), "train_labels": classes, "test_images": noise(), "test_labels": classes}
    return npz(**{key: array for key, array in {**arrays, **other}.items() if array is not None})


def rows(**other: Any) -> bytes:
    """Features with some arrays changed, or left out where they are None."""
    x, classes = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 2
    arrays = {"train_features": x, "train_labels": classes, "test_features": x + 1, "test_labels": classes}
    return npz(**{key: array for key, array in {**arrays, **other}.items() if array is not None})


def with_value(x: float, kind: type = np.float32) -> Any:
    found = np.ones((20, 4), kind)
    found[3, 1] = x
    return found


def npy_header(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def zipped(**members: bytes) -> bytes:
    """An archive of any members, whatever they hold."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return file.getvalue()


def pickled(payload: object) -> bytes:
    """An .npz whose array of images is a pickle."""
    array = np.empty(1, object)
    array[0] = payload
    return images(train_images=array)


def png(side: int = 12) -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise(1, side)[0]).save(file, "PNG")
    return file.getvalue()


def saved(content: object, legacy: bool = False) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


# ---- text


SIMSIAM = (METHODS / "simsiam.toml").read_text()
STUDY = (STUDIES / "stop_gradient.toml").read_text()


def recipe(more: str = "", old: str = "", new: str = "") -> str:
    """SimSiam's file with something behind it, or something replaced."""
    assert old in SIMSIAM
    return SIMSIAM.replace(old, new, 1) + "\n" + more + "\n"


def study(more: str = "", old: str = "", new: str = "") -> str:
    """A study's file with something before it, or something replaced."""
    assert old in STUDY
    return more + "\n" + STUDY.replace(old, new, 1)


# ---- runs


def damaged(name: str, content: bytes | str | None) -> Callable[[Run], Content]:
    """A true run with one file changed, or gone where it is None."""
    return lambda run: {key: value for key, value in {**run, name: content}.items() if value is not None}


def about(**other: Any) -> Callable[[Run], Content]:
    """A true run whose run.json says something else."""

    def made(run: Run) -> Content:
        told = json.loads(run["run.json"])
        options = {**told["options"], **other.get("options", {})}
        return {**run, "run.json": json.dumps({**told, **other, "options": options})}

    return made


def checkpoint(**other: Any) -> Callable[[Run], Content]:
    """A true run whose last.pt holds something else, or lacks what is None."""

    def made(run: Run) -> Content:
        state = torch.load(io.BytesIO(run["last.pt"]), weights_only=True)
        return {**run, "last.pt": saved({k: v for k, v in {**state, **other}.items() if v is not None})}

    return made


def cut(name: str) -> Callable[[Run], Content]:
    """A true run with one file cut in half."""
    return lambda run: {**run, name: run[name][: len(run[name]) // 2]}


FILES: dict[str, Content] = {
    # what is as it should be
    "tiny.npz": images(),
    "rows.npz": rows(),
    "true-run": lambda run: dict(run),
    "a.png": png(),
    "folder": {},
    "dir.png": {},
    "dir.svg": {},
    "text.txt": "a text",
    # methods
    "m-broken.toml": "title = ",
    "m-empty.toml": "",
    "m-bytes.toml": b"title = '\xff\xfe'",
    "m-utf16.toml": SIMSIAM.encode("utf-16"),
    "m-dir.toml": {},
    "m-binary.toml": bytes(range(256)),
    "m-huge.toml": "# nothing to see\n" * 100_000,
    "m-deep.toml": "a = " + "[" * 5000 + "]" * 5000,
    "m-deep-table.toml": recipe("[heads" + ".x" * 3000 + "]\ny = 1"),
    "m-number.toml": recipe(f"[heads]\ndim = {'9' * 5000}"),
    "m-integer.toml": recipe(f"[optimizer]\nlr = 1{'0' * 400}"),
    "m-twice.toml": recipe("[heads]\ndim = 8\ndim = 9"),
    "m-table-twice.toml": recipe("[heads]\ndim = 8\n[heads]\nhidden = 9"),
    "m-key.toml": "colour = 1\n" + SIMSIAM,
    "m-table.toml": recipe("[head]\ndim = 8"),
    "m-knob.toml": recipe("[heads]\nwidth = 8"),
    "m-view.toml": recipe("[views.third]\nflip = 0.5"),
    "m-view-key.toml": recipe("[views.first]\nspin = 0.5"),
    "m-preset.toml": recipe('[views]\npreset = "flowers"'),
    "m-preset-kind.toml": recipe("[small.views]\npreset = 3"),
    "m-view-value.toml": recipe("[views]\nfirst = 3"),
    "m-title.toml": recipe(old="title = ", new="title = 3 # "),
    "m-switches.toml": "switches = 'all'",
    "m-tables.toml": recipe("[[heads]]\ndim = 8"),
    "m-missing.toml": recipe(old='predictor = "mlp"'),
    "m-switch.toml": recipe(old='predictor = "mlp"', new='predictor = "mlp"\ncolour = "red"'),
    "m-switch-value.toml": recipe(old='predictor = "mlp"', new='predictor = "big"'),
    "m-switch-type.toml": recipe(old="stop_gradient = true", new="stop_gradient = 1"),
    "m-switch-list.toml": recipe(old='predictor = "mlp"', new='predictor = ["mlp", "linear"]'),
    "m-unread.toml": recipe("[target]\ntau = 0.9"),
    "m-scale.toml": recipe("[small.target]\ntau = 0.9"),
    "m-type.toml": recipe("[heads]\ndim = 8.5"),
    "m-bool.toml": recipe("[heads]\ndim = true"),
    "m-date.toml": recipe("[heads]\ndim = 2020-01-01"),
    "m-list.toml": recipe("[optimizer]\nlr = [0.1, 0.2]"),
    "m-nan.toml": recipe("[optimizer]\nlr = nan"),
    "m-crop.toml": recipe("[views]\nscale_min = 0.9\nscale_max = 0.3"),
    "m-refused.toml": recipe(old="stop_gradient = true", new="stop_gradient = false").replace(
        'target = "shared"', 'target = "momentum"'
    ),
    "m-nul.toml": recipe('[training]\nbackbone = "a\\u0000b"'),
    # studies
    "s-broken.toml": "title == 3",
    "s-empty.toml": "",
    "s-method.toml": SIMSIAM,
    "s-dir.toml": {},
    "s-key.toml": study("colour = 1"),
    "s-missing.toml": study(old="epochs = 8"),
    "s-type.toml": study(old="epochs = 8", new="epochs = 'many'"),
    "s-bool.toml": study(old="epochs = 8", new="epochs = true"),
    "s-zero.toml": study(old="epochs = 8", new="epochs = 0"),
    "s-seeds.toml": study(old="seeds = 3", new="seeds = -3"),
    "s-endless.toml": study(old="epochs = 8", new="epochs = 10000000"),
    "s-batch.toml": study("batch_size = 1"),
    "s-backbone.toml": study("backbone = 'resnet19'"),
    "s-words.toml": study("words = 'lr=\"0.1'"),
    "s-picture.toml": study(old='picture = "curves"', new='picture = "pie"'),
    "s-lattice.toml": study(old='picture = "curves"', new='picture = "lattice"'),
    "s-data.toml": study(old='data = "digits"', new='data = "digit"'),
    "s-nul.toml": study(old='data = "digits"', new='data = "a\\u0000b.npz"'),
    "s-both.toml": study('base = "simsiam"\nflip = "predictor"'),
    "s-neither.toml": STUDY.partition("[[variants]]")[0],
    "s-base.toml": STUDY.partition("[[variants]]")[0] + 'base = "simsiam"',
    "s-flip.toml": STUDY.partition("[[variants]]")[0] + 'base = "simsiam"\nflip = "colour"',
    "s-flip-type.toml": STUDY.partition("[[variants]]")[0] + 'base = "simsiam"\nflip = [1, 2]',
    "s-flip-empty.toml": STUDY.partition("[[variants]]")[0] + 'base = "simsiam"\nflip = []',
    "s-no-variants.toml": STUDY.partition("[[variants]]")[0] + "variants = []",
    "s-variants.toml": STUDY.partition("[[variants]]")[0] + "variants = ['simsiam']",
    "s-label.toml": study(old='label = "with"'),
    "s-published.toml": study(old='published = "0.1"', new="published = 0.1"),
    "s-variant-key.toml": study(old='published = "0.1"', new='publish = "0.1"'),
    "s-expression.toml": study(old='expression = "simsiam"', new='expression = "simsiam + momentun"'),
    "s-rule.toml": study(old='expression = "simsiam"', new='expression = "byol - stop_gradient"'),
    # arrays of images
    "d-text.npz": "no archive",
    "d-empty.npz": b"",
    "d-nothing.npz": npz(),
    "d-cut.npz": images()[:3000],
    "d-dir.npz": {},
    "d-one-array.npz": npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (64,)}"),
    "d-flipped.npz": images().replace(noise().tobytes()[:64], bytes(64)),
    "d-pickle.npz": pickle.dumps({"train_images": [1]}),
    "d-payload.npz": pickled(Payload()),
    "d-object.npz": images(train_labels=np.array([None] * 20)),
    "d-keys.npz": npz(x_train=noise(), y_train=np.arange(20)),
    "d-raw.npz": zipped(train_images=b"\x00" * 432),
    "d-negative.npz": zipped(
        train_images_npy=npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 4, 4)}")
    ),
    "d-vast.npz": zipped(
        train_images_npy=npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000)}")
    ),
    "d-code.npz": zipped(train_images_npy=npy_header("{'descr': '|u1', 'shape': open('marker', 'w')}")),
    "d-float.npz": images(train_images=noise() / 255),
    "d-test-float.npz": images(test_images=noise() / 255),
    "d-text-images.npz": images(train_images=np.array(["a", "b"])),
    "d-flat.npz": images(train_images=noise().reshape(20, -1)),
    "d-channels.npz": images(train_images=np.zeros((20, 12, 12, 7), np.uint8)),
    "d-video.npz": images(train_images=np.zeros((4, 2, 12, 12, 3), np.uint8)),
    "d-scalar.npz": images(train_images=np.uint8(3)),
    "d-none.npz": images(train_images=noise(0)),
    "d-flat-line.npz": images(train_images=np.zeros((20, 0, 12, 3), np.uint8)),
    "d-dots.npz": images(train_images=noise(20, 1), test_images=noise(20, 1)),
    "d-few-labels.npz": images(train_labels=np.arange(19)),
    "d-many-labels.npz": images(test_labels=np.arange(21)),
    "d-scalar-label.npz": images(train_labels=np.int64(3)),
    "d-names.npz": images(train_labels=np.array(["cat", "dog"] * 10)),
    "d-fractions.npz": images(train_labels=np.arange(20) / 2),
    "d-inf-label.npz": images(train_labels=np.full(20, np.inf)),
    "d-big-label.npz": images(train_labels=np.full(20, 2**60)),
    "d-same.npz": images(train_images=np.zeros((20, 12, 12, 3), np.uint8), test_images=None, test_labels=None),
    "d-two.npz": images(train_images=noise(2), train_labels=np.arange(2)),
    "d-no-labels.npz": images(train_labels=None, test_labels=None),
    "d-extra.npz": images(extra_images=noise().astype(np.int32)),
    # features
    "f-keys.npz": npz(a=np.ones((20, 4)), b=np.ones((20, 4))),
    "f-own.npz": npz(features=np.ones((20, 4)), labels=np.arange(20) % 2),
    "f-payload.npz": rows(train_features=np.array([[Payload()]], object)),
    "f-raw.npz": zipped(train_features=b"1234"),
    "f-flat.npz": rows(train_features=np.ones(20, np.float32)),
    "f-no-rows.npz": rows(train_features=np.ones((0, 4), np.float32), train_labels=np.arange(0)),
    "f-no-columns.npz": rows(train_features=np.ones((20, 0), np.float32)),
    "f-complex.npz": rows(train_features=np.ones((20, 4), np.complex64)),
    "f-dates.npz": rows(train_features=np.zeros((20, 4), "datetime64[s]")),
    "f-struct.npz": rows(train_features=np.zeros((20, 4), [("a", "f4")])),
    "f-nan.npz": rows(train_features=with_value(np.nan)),
    "f-inf.npz": rows(test_features=with_value(np.inf)),
    "f-columns.npz": rows(test_features=np.ones((20, 5), np.float32)),
    "f-few-labels.npz": rows(train_labels=np.arange(3)),
    "f-no-labels.npz": rows(train_labels=None),
    "f-no-test-labels.npz": rows(test_labels=None),
    "f-cube-labels.npz": rows(train_labels=np.ones((20, 1, 1))),
    "f-names.npz": rows(test_labels=np.array(["cat", "dog"] * 10)),
    "f-marks.npz": rows(train_labels=np.full((20, 3), 2)),
    "f-marks-once.npz": rows(train_labels=np.ones((20, 3), int)),
    "f-alone.npz": npz(features=np.ones((1, 4)), labels=np.arange(1)),
    "f-narrow.npz": npz(features=np.ones((20, 2)), labels=np.arange(20) % 2),
    "npy-broken": {"train_features.npy": b"\x93NUMPY nothing", "train_labels.npy": b""},
    "npy-payload": {"features.npy": b"\x93NUMPY\x01\x00" + pickle.dumps(Payload())},
    "npy-flat": {"features.npy": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (16,)}")},
    "npy-short": {"features.npy": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (999, 9)}")},
    "npy-good": {"features.npy": npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4)}")},
    # folders
    "i-text": {"readme.txt": "none", "more": {"notes.md": "none"}},
    "i-hidden": {".hidden": {"a.png": png()}, ".b.png": png()},
    "i-train": {"train": {}, "test": {"cat": {"a.png": png()}}},
    "i-test": {"train": {"cat": {"a.png": png()}, "dog": {"b.png": png()}}, "test": {"cat": {}}},
    "i-unsorted": {"train": {"cat": {"a.png": png()}}, "test": {"a.png": png()}},
    "i-empty": {"text.txt": "none"},
    "l-none.csv": "file,label\nx.png,y\n",
    "l-twice.csv": "file,label\ncat/a.png,x\ndog/b.png,x\ncat/a.png,y\n",
    "l-which.csv": "file,fine,coarse\ncat/a.png,p,q\ndog/b.png,r,s\n",
    "i-few": {"cat": {"a.png": png()}, "dog": {"b.png": png()}},
    "i-corrupt": {"a.png": b"\x89PNG\r\n\x1a\nbroken"},
    "i-zero": {"a.jpg": b"", "b.jpg": b""},
    "i-cut": {"a.png": png(), "b.png": png(64)[:4000]},
    "i-named": {"a.png": "a text", "b.webp": bytes(range(256))},
    "i-svg": {"a.png": "<svg xmlns='http://www.w3.org/2000/svg'/>"},
    # weights
    "w-text.safetensors": "no weights",
    "w-empty.safetensors": b"",
    "w-header.safetensors": struct.pack("<Q", 2**60) + b"{}",
    "w-json.safetensors": struct.pack("<Q", 2) + b"[]",
    "w-cut.safetensors": lambda run: run["encoder.safetensors"][:5000],
    "w-text.pt": "no weights",
    "w-empty.pt": b"",
    "w-payload.pt": saved({"layers.0.weight": Payload()}),
    "w-payload-legacy.pt": saved(Payload(), legacy=True),
    "w-bare-payload.pt": pickle.dumps(Payload()),
    "w-list.pt": saved([torch.zeros(3)]),
    "w-number.pt": saved(3),
    "w-other.pt": saved({"fc.weight": torch.zeros(3, 3)}),
    "w-keys.pt": saved({1: torch.zeros(3)}),
    "w-values.pt": saved({"layers.0.weight": "many"}),
    "w-none.bin": b"x",
    # runs
    "r-no-json": damaged("run.json", None),
    "r-no-recipe": damaged("recipe.toml", None),
    "r-no-last": damaged("last.pt", None),
    "r-no-encoder": damaged("encoder.safetensors", None),
    "r-json-cut": cut("run.json"),
    "r-json-list": damaged("run.json", "[1, 2]"),
    "r-json-bytes": damaged("run.json", b"\xff\xfe"),
    "r-json-deep": damaged("run.json", "[" * 100_000),
    "r-json-empty": damaged("run.json", ""),
    "r-json-kind": about(epochs="two"),
    "r-options": about(options={"colour": "red"}),
    "r-options-kind": about(options={"seed": "one"}),
    "r-options-limit": about(options={"limit": [20]}),
    "r-options-device": about(options={"device": 3}),
    "r-options-data": about(options={"data": "gone.npz"}),
    "r-options-nul": about(options={"data": "a\0b.npz"}),
    "r-options-seed": about(options={"seed": -4}),
    "r-backbone": about(backbone="resnet19"),
    "r-other-backbone": about(backbone="resnet10t"),
    "r-size": about(image_size=-8),
    "r-vast": about(image_size=10**9),
    "r-mean": about(mean=["a", "b", "c"]),
    "r-mean-two": about(mean=[0.5, 0.5]),
    "r-std": about(std=[0.0, 0.2, 0.2]),
    "r-images": about(images=7),
    "r-recipe-empty": damaged("recipe.toml", ""),
    "r-recipe-other": damaged("recipe.toml", (METHODS / "byol.toml").read_text()),
    "r-recipe-broken": lambda run: {**run, "recipe.toml": run["recipe.toml"][:-9] + b"\n[no end"},
    "r-recipe-knob": lambda run: {**run, "recipe.toml": run["recipe.toml"].replace(b"\nlr = 0", b"\nlr = 1")},
    "r-last-cut": cut("last.pt"),
    "r-last-text": damaged("last.pt", "no checkpoint"),
    "r-last-empty": damaged("last.pt", b""),
    "r-last-payload": damaged("last.pt", saved({"format": FORMAT, "model": Payload()})),
    "r-last-bare-payload": damaged("last.pt", pickle.dumps(Payload())),
    "r-last-format": checkpoint(format=FORMAT - 1),
    "r-last-tensor": damaged("last.pt", saved(torch.zeros(3))),
    "r-last-formats": checkpoint(format=torch.zeros(3)),
    "r-last-no-model": checkpoint(model=None),
    "r-last-model": checkpoint(model={"a": torch.zeros(1)}),
    "r-last-model-kind": checkpoint(model=5),
    "r-last-no-random": checkpoint(random=None),
    "r-last-random": checkpoint(random={"torch": torch.zeros(3), "views": torch.zeros(3)}),
    "r-last-optimizer": checkpoint(optimizer={"state": {}, "param_groups": []}),
    "r-last-epoch": checkpoint(epoch="one"),
    "r-last-loss": checkpoint(loss=None),
    "r-last-log": checkpoint(log=7),
    "r-encoder-cut": cut("encoder.safetensors"),
    "r-encoder-text": damaged("encoder.safetensors", "no weights"),
    # folders of runs
    "l-json": {"one": {"run.json": "{}"}},
    "l-log": lambda run: {"one": {**run, "log.csv": b"\xff\xfe"}},
    "l-log-rows": lambda run: {"one": {**run, "log.csv": "1,2\n3,4,5\n"}},
    "l-log-words": lambda run: {"one": {**run, "log.csv": "epoch,loss\nfirst,low\n"}},
    "l-log-field": lambda run: {"one": {**run, "log.csv": "epoch,loss\n1," + "9" * 200_000}},
    "l-log-dir": lambda run: {"one": {**run, "run.json": run["run.json"].replace(b'"expression"', b'"expressions"')}},
    "l-knn": lambda run: {"one": {**run, "knn.json": "{"}},
    "l-knn-list": lambda run: {"one": {**run, "knn.json": "[]"}},
    "l-knn-word": lambda run: {"one": {**run, "knn.json": '{"knn": {"k20": "high"}}'}},
    "l-knn-bytes": lambda run: {"one": {**run, "knn.json": b"\xff"}},
    "l-knn-number": lambda run: {"one": {**run, "knn.json": f'{{"knn": {{"k20": 1{"0" * 400}}}}}'}},
    "l-knn-nan": lambda run: {"one": {**run, "knn.json": '{"knn": {"k20": NaN}}'}},
    "l-knn-deep": lambda run: {"one": {**run, "knn.json": "[" * 100_000}},
}  # fmt: skip


def lay(place: Path, content: Content, run: Run) -> None:
    """Write a content as a file, or as a folder of these."""
    content = content(run) if callable(content) else content
    if isinstance(content, Mapping):
        place.mkdir()
        for name, part in content.items():
            lay(place / name, part, run)
    else:
        place.write_bytes(content.encode() if isinstance(content, str) else content)
