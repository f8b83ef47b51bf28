"""Layouts, labels and encoders that new users bring: what is found of each, or the sentence for what cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import sslzoo
from sslzoo.data import sets
from sslzoo.data.given.places import list_folder
from sslzoo.tools.errors import UserError

TINY = "simsiam batchnorm=hidden hidden=16 dim=8 predictor_hidden=8"


def convolution(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Gives(nn.Module):
    """An encoder whose output is made of features [N, 8]."""

    def __init__(self, make: Callable[[Tensor], Any]):
        super().__init__()
        self.net, self.make = convolution(), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.net(x))


class Unmade(nn.Module):
    """A module whose base was not made."""

    def __init__(self) -> None:
        pass


# ---- encoders and views that do not belong together ------------------------------------------------------------------

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WRONG: dict[str, tuple[Callable[[], Any], Any, tuple[str, ...]]] = {  # encoder, a view, and parts of the sentence
    "three channels for one": (lambda: convolution(1), IMAGES, ("[4, 3, 16, 16]", "channels")),
    "one channel for three": (convolution, IMAGES[:, :1], ("[4, 1, 16, 16]", "channels")),
    "channels last": (convolution, IMAGES.permute(0, 2, 3, 1), ("[4, 16, 16, 3]", "channels")),
    "lazy layers, made for three channels": (
        lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES[:, :1], ("channels",),
    ),
    "whole numbers": (convolution, (IMAGES * 255).byte(), ("torch.uint8", "dtype")),
    "double images": (convolution, IMAGES.double(), ("torch.float64", "dtype")),
    "half encoder": (lambda: convolution().half(), IMAGES, ("torch.float32", "dtype")),
    "smaller than a filter": (convolution, IMAGES[..., :2, :2], ("[4, 3, 2, 2]", "size")),
    "an image without a batch": (convolution, IMAGES[0], ("8 rows for 3 images", "[N, C, H, W]")),
    "numpy's arrays": (convolution, IMAGES.numpy(), ("ndarray", "tensors")),
    "views without pixels": (convolution, IMAGES.to("meta"), ("meta",)),
    "an encoder without weights": (lambda: convolution().to("meta"), IMAGES, ("meta", "to_empty")),
    "fewer rows": (lambda: Gives(lambda x: x[:1]), IMAGES, ("1 rows for 4 images",)),
    "no columns": (lambda: Gives(lambda x: x[:, :0]), IMAGES, ("[1, 0]", "[N, D]")),
    "whole features": (lambda: Gives(lambda x: x.long()), IMAGES, ("torch.int64",)),
    "complex features": (lambda: Gives(lambda x: x + 1j), IMAGES, ("torch.complex64",)),
    "no gradient": (lambda: Gives(lambda x: x.detach()), IMAGES, ("no gradient",)),
    "a name": (lambda: "resnet18", IMAGES, ("a str", "torch.nn.Module")),
    "nothing": (lambda: None, IMAGES, ("NoneType", "torch.nn.Module")),
    "a class": (lambda: nn.Flatten, IMAGES, ("the class Flatten",)),
    "weights": (lambda: convolution().state_dict(), IMAGES, ("OrderedDict",)),
    "a function": (lambda: lambda x: x.flatten(1), IMAGES, ("a function",)),
    "a module that is not made": (Unmade, IMAGES, ("Unmade",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_together_is_one_sentence(name: str, refused: Any) -> None:
    make, view, parts = WRONG[name]
    with refused(*parts):
        sslzoo.Siamese(make(), sslzoo.load(TINY))([view, view])


def test_a_model_that_is_half_as_a_whole_is_one_sentence(refused: Any) -> None:
    model = sslzoo.Siamese(convolution(), sslzoo.load(TINY)).half()
    with refused("torch.float16", "encoder alone"):
        model([IMAGES.half(), IMAGES.half()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_encoder_alone_can_have_another_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    single = sslzoo.Siamese(convolution(), sslzoo.load(TINY))
    torch.manual_seed(0)
    other = sslzoo.Siamese(convolution().to(dtype), sslzoo.load(TINY))
    wanted, _ = single([IMAGES, IMAGES.flip(3)])
    loss, keys = other([IMAGES.to(dtype), IMAGES.flip(3).to(dtype)])
    loss.backward()
    assert keys.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), abs=0.05)
    first = other.online.encoder[0].weight  # type: ignore[union-attr,index]
    assert (first.dtype, bool(first.grad.isfinite().all())) == (dtype, True)


def test_an_encoder_that_is_frozen_can_be_given() -> None:
    model = sslzoo.Siamese(convolution().requires_grad_(False), sslzoo.load(TINY))
    model([IMAGES, IMAGES])[0].backward()
    assert model.online.encoder[0].weight.grad is None  # type: ignore[union-attr,index]


PLACES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a list": ([0, 1, 2, 3], ("a list",)),
    "numpy's": (np.arange(4), ("a ndarray",)),
    "floats": (torch.rand(4), ("torch.float32",)),
    "marks": (torch.ones(4, dtype=torch.bool), ("torch.bool",)),
    "a column": (torch.arange(4)[:, None], ("[4, 1]",)),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_that_are_none_are_one_sentence(name: str, refused: Any) -> None:
    index, parts = PLACES[name]
    with refused("places", "[N]", *parts):
        sslzoo.Siamese(convolution(), sslzoo.load("instdisc"), 40)([IMAGES, IMAGES], index)


@pytest.mark.parametrize("views", [None, 3, iter([IMAGES, IMAGES])])
def test_views_that_are_no_list_are_one_sentence(views: Any, refused: Any) -> None:
    with refused("The views are a", "list of tensors"):
        sslzoo.Siamese(convolution(), sslzoo.load(TINY))(views)


@pytest.mark.parametrize("recipe", [None, "simsiam", {"method": "simsiam"}])
def test_a_recipe_that_is_none_is_one_sentence(recipe: Any, refused: Any) -> None:
    with refused(f"a {type(recipe).__name__}", "sslzoo.load"):
        sslzoo.Siamese(convolution(), recipe)
    with refused(f"a {type(recipe).__name__}", "optimizer(model"):
        sslzoo.optimizer(sslzoo.Siamese(convolution(), sslzoo.load(TINY)), recipe, 10)


@pytest.mark.parametrize("samples", [-1, 0, 1.5, "40"])
def test_numbers_of_samples_that_cannot_be(samples: Any, refused: Any) -> None:
    with refused(f"samples cannot be {samples!r}"):
        sslzoo.Siamese(convolution(), sslzoo.load("instdisc"), samples)


@pytest.mark.parametrize("steps", [0, -1, 1.5, "10"])
def test_numbers_of_steps_that_cannot_be(steps: Any, refused: Any) -> None:
    recipe = sslzoo.load(TINY)
    with refused(f"steps cannot be {steps!r}"):
        sslzoo.optimizer(sslzoo.Siamese(convolution(), recipe), recipe, steps, batch_size=4)


def test_an_encoder_alone_has_no_optimiser_of_a_recipe(refused: Any) -> None:
    with refused("a Sequential", "sslzoo.Siamese"):
        sslzoo.optimizer(convolution(), sslzoo.load(TINY), 10)  # type: ignore[arg-type]


# ---- arrays in Python ------------------------------------------------------------------------------------------------


def test_rows_without_numbers_are_one_sentence(refused: Any) -> None:
    with refused("bank", "meta"):
        sslzoo.knn(torch.rand(4, 2, device="meta"), [0, 1, 0, 1], np.eye(2), [0, 1])


# ---- folders ---------------------------------------------------------------------------------------------------------


def folder(root: Path, places: str) -> Path:
    """A folder with so many small pictures at each place: ``train/a*6 test/a*2``; a place ends before its ``*``."""
    rng = np.random.default_rng(0)
    for place in places.split(", "):
        name, _, n = place.partition("*")
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(int(n)):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


SPLITS = [("train_set", "test_set"), ("trainset", "testset"), ("train2017", "val2017"), ("Train Images", "Test Images"),
          ("cars_train", "cars_test"), ("imgs-TRAIN-v2", "imgs-VALID-v2"), ("1_training", "2_testing"),
          ("train.data", "dev.data"), ("traindata", "evaldata"), ("TrainingSet", "ValidationSet")]  # fmt: skip


@pytest.mark.parametrize(("train", "held"), SPLITS)
def test_splits_of_other_spellings(train: str, held: str, tmp_path: Path) -> None:
    found = list_folder(folder(tmp_path / "set", f"{train}/a*4, {train}/b*3, {held}/a*2"))
    assert (found.names, len(found.train), len(found.test or ())) == (["a", "b"], 7, 2)
    assert f"{train}/ is trained on, {held}/ is the test split" in found.decisions


CLASSES = [("train_station", "test_tube"), ("trains", "tests"), ("freight train", "bullet train"),
           ("contest", "restrain"), ("training", "shoes"), ("train_set", "cat"),
           ("train_left", "test_right")]  # fmt: skip


@pytest.mark.parametrize("names", CLASSES)
def test_classes_that_sound_like_splits(names: tuple[str, str], tmp_path: Path) -> None:
    found = list_folder(folder(tmp_path / "set", f"{names[0]}*4, {names[1]}*4"))
    if names[0] == "training":  # a folder of loose images beside another
        assert "taken for classes and no splits: training/" in found.decisions
    assert (found.names, found.test) == (sorted(names), None)


@pytest.mark.parametrize("inside", [("train", "val"), ("Train", "Test"), ("train_set", "test_set")])
def test_splits_one_folder_down_are_pointed_at(inside: tuple[str, str], tmp_path: Path, refused: Any) -> None:
    root = folder(tmp_path / "set", f"images/{inside[0]}/a*4, images/{inside[1]}/a*4, labels*0")
    with refused("images/ alone", f"{inside[0]}/", f"{inside[1]}/", f"give {root / 'images'}."):
        list_folder(root)


def test_splits_inside_of_classes_are_said(tmp_path: Path) -> None:
    found = list_folder(folder(tmp_path / "set", "cup/train*4, cup/test*2, nut/train*4, nut/test*2"))
    assert (found.names, len(found.train), found.test) == (["cup", "nut"], 12, None)
    assert "in the folders of classes these are no splits, and all of them count: test, train" in found.decisions


@pytest.mark.parametrize("test", ["test*3", "test/a*2, test/b*1"])
def test_a_test_split_that_nothing_reads_is_said(test: str, tmp_path: Path) -> None:
    found = list_folder(folder(tmp_path / "set", f"train*8, {test}"))
    assert (len(found.train), found.test) == (8, None)
    assert found.decisions[:2] == ["train/ is trained on", "test/ is not used: 3 images"]


def test_one_name_in_two_ways_of_unicode_is_one_class(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    found = list_folder(folder(tmp_path / "set", f"train/{composed}*4, train/dog*4, test/{apart}*2"))
    assert (found.names, found.lone) == ([composed, "dog"], {"dog": "train"})
    assert found.test is not None
    assert found.test.labels is not None
    assert found.test.labels.tolist() == [0, 0]


@pytest.mark.parametrize(("gone", "there"), [(5, 0), (1, 6)])
def test_links_to_what_is_gone_are_said(gone: int, there: int, tmp_path: Path, refused: Any) -> None:
    root = folder(tmp_path / "set", f"a*{there}, b*{there}")
    for i in range(gone):  # as git-annex has them before it fetched
        (root / "a" / f"{9 + i}.jpg").symlink_to(tmp_path / "store" / str(i))
    said = f"{gone} broken {'link' if gone == 1 else 'links'} in set/: fetch what"
    if there:
        assert [line for line in list_folder(root).decisions if said in line]
    else:
        with refused("holds no images", said):
            list_folder(root)


def test_images_that_are_all_equal_hold_none_out_and_it_is_said(tmp_path: Path, refused: Any) -> None:
    pixels = np.zeros((500, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", train_images=pixels, train_labels=np.arange(500) % 2)
    with refused("500 images are too few", "only 1 of them different"):
        sets.load(str(tmp_path / "d.npz"))


# ---- labels of arrays ------------------------------------------------------------------------------------------------

ROWS = np.arange(24) % 3
UNLABELLED: dict[str, tuple[Any, Any, str]] = {  # labels of 24 training and of 6 test images, and what is said
    "test split without": (ROWS, None, "no image of the test split has a label"),
    "training split without": (None, ROWS[:6], "no image of the training split has a label"),
    "both without": (None, None, "no image of the training or the test split has a label"),
    "marks for none in the test split": (ROWS, np.full(6, -1), "no image of the test split has a label"),
    "marks for none in training": (np.full(24, -1), ROWS[:6], "no image of the training split has a label"),
    "gaps alone": (np.full(24, np.nan), ROWS[:6], "no image of the training split has a label"),
    "columns of nothing": (np.eye(3, dtype=int)[ROWS], np.zeros((6, 3), int), "no image of the test split has a label"),
    "shares of classes": (
        np.full((24, 3), 1 / 3),
        np.full((6, 3), 1 / 3),
        "3 labels per image that are not all 0 or 1",
    ),
}


def arrays(path: Path, train: Any, test: Any, **others: Any) -> Path:
    """An .npz of 24 training and 6 test images, and labels where there are some."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    labels = {key: x for key, x in (("train_labels", train), ("test_labels", test)) if x is not None}
    np.savez(path, train_images=pixels[:24], test_images=pixels[24:], **labels, **others)
    return path


@pytest.mark.parametrize("name", UNLABELLED)
def test_labels_that_are_not_there_are_said_of_their_split(
    name: str, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    train, test, said = UNLABELLED[name]
    path = arrays(tmp_path / "d.npz", train, test)
    notes = sets.load(str(path)).notes
    assert sum("kNN is left out" in note for note in notes) == 1
    assert any(note.startswith(said) for note in notes)
    result = run_cli("knn", "raw", "--data", str(path), "--device", "cpu", "-k", "1")
    assert result.exit_code == 2
    assert f"raw: {said}, so there is no kNN" in result.stderr


def test_one_class_of_arrays_is_said(tmp_path: Path) -> None:
    found = sets.load(str(arrays(tmp_path / "d.npz", ROWS * 0 + 7, ROWS[:6] * 0 + 7)))
    assert "one class: kNN cannot go wrong" in found.notes


def test_labels_without_a_column_are_one_sentence(tmp_path: Path, refused: Any) -> None:
    with refused("train_labels", "[24, 0]"):
        sets.load(str(arrays(tmp_path / "d.npz", np.zeros((24, 0)), np.zeros((6, 0)))))


def test_a_class_without_a_name_has_its_number(tmp_path: Path) -> None:
    found = sets.load(str(arrays(tmp_path / "d.npz", ROWS, ROWS[:6], classes=np.array(["cat", "", " "]))))
    assert found.class_names == {0: "cat", 1: "1", 2: "2"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_whose_labels_are_marks_for_none(split: str, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    labels = {"train_labels": ROWS, "test_labels": ROWS[:6]}
    labels[f"{split}_labels"] = labels[f"{split}_labels"] * 0 - 1
    np.savez(tmp_path / "f.npz", train_features=np.eye(24), test_features=np.eye(24)[:6], **labels)
    result = run_cli("knn", str(tmp_path / "f.npz"), "-k", "1")
    assert result.exit_code == 2
    assert f"no label from 0 on in {split}_labels" in result.stderr


@pytest.mark.parametrize(("name", "place"), [("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3")])
def test_a_net_of_torchvisions_with_its_classifier_on_is_refused(name, place):
    net = getattr(torchvision.models, name)()
    with pytest.raises(UserError, match=rf"ends in a classifier \({place}, of 1000 classes\).*put a torch.nn.Identity"):
        sslzoo.Siamese(net, sslzoo.load("simsiam"))
    parent, _, last = place.rpartition(".")
    setattr(net.get_submodule(parent), last, torch.nn.Identity())
    assert sslzoo.Siamese(net, sslzoo.load("simsiam")).online.width in (512, 1024)
