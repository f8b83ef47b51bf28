"""Folders as people have them: which are splits, which are classes, what is left out, and that it is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from sslzoo.data import sets
from sslzoo.data.decoded import heif
from sslzoo.data.given.places import list_folder
from sslzoo.tools.errors import UserError


@pytest.fixture(autouse=True)
def no_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said does not depend on what is installed here."""
    monkeypatch.setattr(heif, "is_there", lambda: False)


class Found(NamedTuple):
    """What is right: the classes in their order, images to train on and held out, and words of the notes."""

    names: list[str]
    train: int
    test: int | None
    said: list[str]


def folder(root: Path, *places: str) -> Path:
    """A folder with so many small pictures at each place: ``cat*3`` are three in cat/, ``x.png`` is one."""
    rng = np.random.default_rng(0)
    for place in places:
        name, _, n = place.partition("*")
        files = [root / name / f"{i}.png" for i in range(int(n))] if n else [root / name]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".png", ".jpg"):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
            else:
                path.write_bytes(b"not for us")
    return root


SPLIT = "train/ is trained on, test/ is the test split"
LAYOUTS: dict[str, tuple[list[str], Found]] = {
    "classes and splits": (["train/a*6", "train/b*6", "test/a*2", "test/b*2"], Found(["a", "b"], 12, 4, [SPLIT])),
    "capitals": (
        ["Train/a*6", "Train/b*6", "Test/a*2", "Test/b*2"],
        Found(["a", "b"], 12, 4, ["Train/ is trained on, Test/ is the test split"]),
    ),
    "shouted": (["TRAIN/a*6", "TRAIN/b*6", "TEST/a*2"], Found(["a", "b"], 12, 2, ["TRAIN/ is trained on"])),
    "training and testing": (
        ["training/a*6", "training/b*6", "testing/b*2"],
        Found(["a", "b"], 12, 2, ["training/ is trained on, testing/ is the test split"]),
    ),
    "valid": (["train/a*6", "train/b*6", "valid/a*2"], Found(["a", "b"], 12, 2, ["valid/ is the test split"])),
    "validation": (["train/a*6", "train/b*6", "Validation/a*2"], Found(["a", "b"], 12, 2, ["Validation/ is the"])),
    "dev": (["train/a*6", "train/b*6", "dev/a*2"], Found(["a", "b"], 12, 2, ["dev/ is the test split"])),
    "eval": (["train/a*6", "train/b*6", "eval/a*2"], Found(["a", "b"], 12, 2, ["eval/ is the test split"])),
    "three splits": (
        ["train/a*6", "train/b*6", "val/a*3", "test/b*2"],
        Found(["a", "b"], 12, 2, [SPLIT, "val/ is the validation split"]),
    ),
    "a class of trains": (
        ["airplane*6", "automobile*6", "ship*6", "train*6"],
        Found(["airplane", "automobile", "ship", "train"], 24, None, ["taken for classes and no splits: train/"]),
    ),
    "a class called test": (
        ["cat*6", "dog*6", "test*6"],
        Found(["cat", "dog", "test"], 18, None, ["taken for classes and no splits: test/"]),
    ),
    "a stray": (
        ["a*9", "b*9", "cover.png"],
        Found(["a", "b"], 19, None, ["beside the folders of classes, without a label: 1 image (cover.png)"]),
    ),
    "more loose than sorted": (
        ["a*2", "b*2", "x.png", "y.png", "z.png"],
        Found([], 7, None, ["3 images lie beside 2 folders, which are no classes then"]),
    ),
    "hidden and of systems": (
        ["train/a*6", "train/b*6", "train/.ipynb_checkpoints*3", "train/__MACOSX*2", "train/@eaDir*2", "test/a*2",
         "train/lost+found*1", "train/$RECYCLE.BIN*1"],
        Found(["a", "b"], 12, 2, [SPLIT]),
    ),
    "nested": (
        ["identified/fox/one*4", "identified/owl/two*4", "unsorted*5"],
        Found(["identified", "unsorted"], 13, None, ["classes are the 2 folders of the first level; 2 folders lie"]),
    ),
    "numbers": (["1*4", "2*4", "10*4", "9*4"], Found(["1", "2", "9", "10"], 16, None, [])),
    "beside the splits": (
        ["train/a*6", "train/b*6", "test/a*2", "extras*3", "logo.png"],
        Found(["a", "b"], 12, 2, ["folders beside the splits are left out: extras", "images beside the splits are"]),
    ),
    "telephone photos": (
        ["a*6", "b*6", "a/1.heic", "b/2.HEIC", "b/3.dng"],
        Found(["a", "b"], 12, None, ["2 .heic and 1 .dng files in", "'sslzoo[heic]'", "or convert them to JPEG"]),
    ),
    "no classes": (["x.png", "y.png", "deep/z.png"], Found([], 3, None, ["2 images lie beside 1 folder"])),
    "one level": (["x.png", "y.png"], Found([], 2, None, [])),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_understood_and_said(name: str, tmp_path: Path) -> None:
    places, right = LAYOUTS[name]
    found = list_folder(folder(tmp_path / "set", *places))
    assert found.names == right.names
    assert (len(found.train), len(found.test) if found.test else None) == (right.train, right.test)
    notes = "\n".join(found.notes)
    assert [words for words in right.said if words not in notes] == []
    if found.names:  # a label is the place of the first folder in the names; of what lies beside them -1
        assert found.train.labels is not None
        for path, label in zip(found.train.images.paths, found.train.labels.tolist(), strict=True):
            assert (found.names[label] in path.parts) if label >= 0 else (path.parent == tmp_path / "set")


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["train/a*3", "Training/a*3"], "has both"),
        (["val/a*3", "test/a*3"], "and no train/; name one so"),
        (["1.heic", "2.heic"], "2 .heic files in set/ cannot be read here; pip install 'sslzoo[heic]' reads HEIC"),
        ([".hidden/a.png"], "holds no images"),
    ],
)
def test_what_cannot_be_decided_is_refused(places: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        list_folder(folder(tmp_path / "set", *places))
    assert words in str(refusal.value)


def test_what_was_decided_stands_on_the_screen_in_check_and_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "set", "train/a*12", "train/b*12", "val/a*4", "test/a*4", "test/b*4")
    words = "train simsiam dim=8 hidden=8 predictor_hidden=8 --data set --epochs 1 --batch-size 8 --device cpu"
    result = run_cli(*words.split())
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    about = json.loads(next(Path("runs").glob("*/run.json")).read_text())
    for said in (SPLIT, "val/ is the validation split, for kNN while a run goes on"):
        assert said in shown
        assert said in about["decisions"]
        assert said in " ".join(run_cli("data", "check", "set").output.split())
        assert said in json.loads(run_cli("data", "check", "set", "--json").stdout)["notes"]


def test_a_stray_trains_and_is_neither_bank_nor_query(tmp_path: Path) -> None:
    found = sets.load(str(folder(tmp_path / "set", "train/a*20", "train/b*20", "train/x.png", "test/a*3", "test/b*3")))
    assert (len(found.train), len(found.bank), len(found.test or ()), found.classes) == (41, 40, 6, 2)
    assert "without a label, neither in kNN's bank nor among its queries: 1 image" in found.notes
