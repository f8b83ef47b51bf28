"""Data sets of every kind, the batches drawn from them, and what is refused."""

import gc
import gzip
import hashlib
import http.server
import struct
import threading
from collections import Counter
from dataclasses import replace
from inspect import unwrap
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from torchvision.transforms import functional as F

from sslzoo import knn, load
from sslzoo.data import folders, sets
from sslzoo.data.images import FileImages
from sslzoo.data.picture import Picture, square
from sslzoo.recipes.schema import View
from sslzoo.tools import places
from sslzoo.views import features, readers
from sslzoo.views.augment import draw_boxes
from sslzoo.views.batches import Batches, order
from sslzoo.views.readers import Crops

CPU = torch.device("cpu")


def noise(*shape, seed=0):
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rows(images):
    """Each image as bytes, to compare sets of them."""
    return [image.numpy().tobytes() for image in images]


@pytest.fixture
def npz(tmp_path):
    """Load arrays by way of an .npz file."""

    def make(image_size=None, limit=None, **arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return sets.load(str(tmp_path / "mine.npz"), image_size, limit)

    return make


@pytest.fixture
def album(tmp_path):
    """Write pictures of noise by path, with width and height; returns their folder."""

    def make(*paths, size=(32, 32), **options):
        for path in paths:
            at = tmp_path / "album" / path
            at.parent.mkdir(parents=True, exist_ok=True)
            seed = int(hashlib.sha1(path.encode()).hexdigest()[:8], 16)
            Image.fromarray(noise(size[1], size[0], 3, seed=seed)).save(at, **options)
        return tmp_path / "album"

    return make


def many(*folders, n=20, suffix=".png"):
    """Paths of n pictures in each folder."""
    return [f"{folder}/{i:02}{suffix}" for folder in folders for i in range(n)]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An empty cache of downloads."""
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- digits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return sets.load("digits")


def test_digits_have_two_splits_of_different_glyphs(digits):
    assert digits.train is digits.bank
    assert digits.labelled
    assert not digits.own
    assert (digits.size, digits.classes, sets.KNOWN["digits"]) == (32, 10, (32, 5748))
    for split, n in ((digits.train, 5748), (digits.test, 1440)):
        assert split.images.pixels.shape == (n, 3, 32, 32)
        assert split.images.pixels.dtype == torch.uint8
        assert set(Counter(split.groups.tolist()).values()) == {4}
        assert sorted(split.labels.unique().tolist()) == list(range(10))
    assert not set(digits.train.groups.tolist()) & set(digits.test.groups.tolist())
    assert len(set(rows(digits.train.images.pixels)) | set(rows(digits.test.images.pixels))) == 5748 + 1440


def test_digits_are_the_same_whatever_the_seed(digits):
    torch.manual_seed(99)
    again = unwrap(sets.digits.load)()  # drawn anew, not from memory
    for split in ("train", "test"):
        for kind in ("images", "labels", "groups"):
            found = getattr(getattr(digits, split), kind)
            assert torch.equal(found.pixels if kind == "images" else found, again[f"{split}_{kind}"])


def test_digits_are_hard_for_raw_pixels(digits):
    """Place and colour hide the shape: a nearest neighbour in pixels is far better than chance and far from good."""
    splits = [
        features.features(None, split, features.Preprocessing(32, digits.mean, digits.std), CPU)
        for split in (digits.bank, digits.test)
    ]
    scores = knn(splits[0], digits.bank.labels, splits[1], digits.test.labels)
    assert 0.35 < scores["knn"]["k20"] < 0.45


def test_validation_is_a_seeded_tenth_by_glyph(digits):
    bank, held = digits.validation(0)
    assert len(held) == 143 * 4
    assert len(bank) + len(held) == 5748
    assert not set(bank.groups.tolist()) & set(held.groups.tolist())
    assert not set(held.groups.tolist()) & set(digits.test.groups.tolist())
    assert torch.equal(held.groups, digits.validation(0)[1].groups)
    assert not torch.equal(held.groups, digits.validation(1)[1].groups)
    place = {image: i for i, image in enumerate(rows(digits.bank.images.pixels))}
    assert [digits.bank.labels[place[image]] for image in rows(held.images.pixels)] == held.labels.tolist()


def test_limit_keeps_the_first_of_a_seeded_shuffle(digits):
    some, fewer = sets.load("digits", limit=300), sets.load("digits", limit=100)
    assert len(some.train) == 300
    assert some.bank is some.train
    assert torch.equal(some.train.images.pixels[:100], fewer.train.images.pixels)
    assert torch.equal(some.train.groups[:100], fewer.train.groups)
    assert set(rows(some.train.images.pixels)) < set(rows(digits.train.images.pixels))
    assert len(some.test) == 1440
    assert some.notes == ("300 training images (--limit)",)
    assert len(sets.load("digits", limit=10**6).train) == 5748


def test_image_size_is_free():
    small = sets.load("digits", image_size=16, limit=10)
    assert (small.size, small.train.images.pixels.shape[-2:], small.test.images.pixels.shape[-2:]) == (
        16,
        (16, 16),
        (16, 16),
    )


@pytest.mark.parametrize(("name", "words"), [("digit", "'digits'"), ("CIFAR-10", "'cifar10'"), ("x/y", "an .npz file")])
def test_unknown_data_is_refused(refused, name, words):
    with refused("There is no data", words):
        sets.load(name)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_medmnist_gray_is_padded_and_repeated(npz):
    images = noise(40, 28, 28)
    labels = (np.arange(40) % 3)[:, None].astype(np.uint8)
    found = npz(train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    assert (found.name, found.size, found.classes, found.own, found.notes) == ("mine", 32, 3, True, ())
    assert found.train.images.pixels.shape == (40, 3, 32, 32)
    assert torch.equal(found.train.images.pixels[:, :, 2:-2, 2:-2], torch.tensor(images)[:, None].expand(-1, 3, -1, -1))
    assert int(found.train.images.pixels.sum()) == 3 * int(images.sum(dtype=np.int64))
    assert found.train.labels.tolist() == labels[:, 0].tolist()
    assert found.test.labels.dtype == torch.int64
    pixels = found.train.images.pixels.double() / 255
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert found.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((9, 40, 40, 3), 40), ((9, 28, 28, 3), 32), ((9, 36, 50, 1), 36), ((9, 50, 36), 36), ((9, 300, 260, 3), 224)],
)
def test_layouts(npz, shape, expected):
    """Colour and gray, squared to the shorter side, at most 224 px."""
    images = noise(*shape)
    found = npz(train_images=images, test_images=images[:2])
    assert found.train.images.pixels.shape == (9, 3, expected, expected)
    assert found.test.images.pixels.shape == (2, 3, expected, expected)
    if shape == (9, 40, 40, 3):
        assert torch.equal(found.train.images.pixels, torch.tensor(images).permute(0, 3, 1, 2))
    if shape == (9, 50, 36):
        assert torch.equal(found.train.images.pixels[:, 1], torch.tensor(images[:, 7:43]))


def test_several_labels_that_are_not_0_or_1_are_none_and_noted_once(npz):
    images, labels = noise(20, 8, 8), noise(20, 14) % 3
    found = npz(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    assert found.train.labels is None
    assert not found.labelled
    assert found.classes == 0
    assert found.notes == ("14 labels per image that are not all 0 or 1: kNN is left out; give one label, or 0 and 1",)


def test_val_stands_in_for_test(npz):
    images, labels = noise(20, 8, 8), np.arange(20) % 2
    train = {"train_images": images, "train_labels": labels, "val_images": images[:5], "val_labels": labels[:5]}
    assert len(npz(**train).test) == 5
    assert len(npz(**train, test_images=images[:7], test_labels=labels[:7]).test) == 7


def test_without_a_test_split_equal_images_stay_together(npz):
    """A tenth is held out by hash, in whatever order the images come."""
    images = noise(300, 8, 8)[np.arange(900) % 300]
    shuffled = np.random.default_rng(1).permutation(900)
    found = npz(train_images=images, train_labels=np.arange(900) % 300)
    again = npz(train_images=images[shuffled], train_labels=(np.arange(900) % 300)[shuffled])
    train, test = set(rows(found.train.images.pixels)), set(rows(found.test.images.pixels))
    assert not train & test
    assert len(train | test) == 300
    assert set(rows(again.test.images.pixels)) == test
    assert 15 <= len(test) <= 45
    assert len(found.train) + len(found.test) == 900
    label = {image.tobytes(): i for i, image in enumerate(images[:300])}
    assert [label[image[0].numpy().tobytes()] for image in found.test.images.pixels] == found.test.labels.tolist()
    assert found.notes[0] == f"no test split: {len(found.test)} of 900 images are held out by their hash"


def test_without_labels_nothing_is_held_out(npz):
    found = npz(train_images=noise(30, 8, 8))
    assert (len(found.train), found.test, found.labelled, found.classes) == (30, None, False, 0)


def test_validation_without_groups_is_a_tenth_of_the_images(npz):
    images, labels = noise(50, 8, 8), np.arange(50) % 5
    found = npz(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    bank, held = found.validation(3)
    assert (len(bank), len(held)) == (45, 5)
    assert sorted(rows(bank.images.pixels) + rows(held.images.pixels)) == sorted(rows(found.bank.images.pixels))


def test_groups_of_an_npz_are_taken_or_left(npz):
    """A person's array of that name must not break validation."""
    images = noise(60, 8, 8)
    found = npz(
        train_images=images, train_labels=np.arange(60) % 2, train_groups=np.arange(60) // 3, test_images=images
    )
    bank, held = found.validation(0)
    assert len(bank) + len(held) == 60


def test_whole_numbers_of_any_kind_are_labels(npz):
    images = noise(6, 8, 8)
    for kind in (np.uint8, np.int16, np.uint16, np.float64, bool, ">i4"):
        labels = np.array([0, 1, 1, 0, 1, 0]).astype(kind)
        found = npz(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
        assert found.test.labels.tolist() == [0, 1, 1, 0, 1, 0], kind


IMAGES = noise(6, 8, 8)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ("train_images", "nothing")),
        ({"images": IMAGES, "y": IMAGES}, ("train_images", "images or y")),
        ({"train_images": IMAGES / 255}, ("train_images", "float64", "uint8")),
        ({"train_images": IMAGES.astype(np.int64)}, ("train_images", "int64", "uint8")),
        ({"train_images": IMAGES[0]}, ("train_images", "[8, 8]")),
        ({"train_images": IMAGES[:0]}, ("train_images", "[0, 8, 8, 1]")),
        ({"train_images": noise(6, 8, 8, 4)}, ("train_images", "[6, 8, 8, 4]")),
        ({"train_images": np.array(["a", "b"])}, ("train_images",)),
        ({"train_images": IMAGES, "train_labels": [0, 1]}, ("train_labels", "2 rows for 6 images")),
        ({"train_images": IMAGES, "train_labels": np.arange(6) / 2}, ("train_labels", "whole numbers")),
        ({"train_images": IMAGES, "train_labels": list("aabbcc")}, ("train_labels",)),
        ({"train_images": IMAGES, "test_images": IMAGES / 255}, ("test_images", "uint8")),
        ({"train_images": IMAGES[[0] * 6], "train_labels": range(6)}, ("6 images are too few",)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(npz, refused, arrays, words):
    with refused(*words):
        npz(**{key: np.asarray(array) for key, array in arrays.items()})


@pytest.mark.parametrize("kind", ["pickled", "no zip", "truncated", "empty", "one array", "missing"])
def test_files_that_are_no_archives_are_refused(tmp_path, refused, kind):
    path = tmp_path / "bad.npz"
    if kind == "pickled":
        np.savez(path, train_images=np.array([{}, None], dtype=object))
    elif kind == "one array":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    elif kind == "truncated":
        np.savez(path, train_images=noise(50, 8, 8))
        path.write_bytes(path.read_bytes()[:2000])
    elif kind != "missing":
        path.write_bytes(b"no archive" if kind == "no zip" else b"")
    with refused(str(path), "There is no file" if kind == "missing" else "not an .npz of plain arrays"):
        sets.load(str(path))
    gc.collect()  # a file left open is told of here, and not in the next test


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["test", "val"])
def test_folders_with_two_splits(album, held):
    """Classes are those of both splits, in order of their names, also where one lacks some."""
    root = album(
        *many("train/ant", "train/cow", n=5), *many(f"{held}/ant", f"{held}/bee", n=3), "train/cow/deep/er/x.png"
    )
    (root / "train" / "cow" / "notes.txt").write_text("no image")
    (root / "train" / "cow" / ".hidden.png").write_bytes(b"no image")
    found = sets.load(str(root))
    assert (found.name, found.size, found.classes, found.own, found.labelled) == ("album", 32, 3, True, True)
    assert found.train.labels.tolist() == [0] * 5 + [2] * 6
    assert found.test.labels.tolist() == [0] * 3 + [1] * 3
    assert found.notes[:-1] == (
        f"train/ is trained on, {held}/ is the test split",
        "3 classes, by folder: ant, bee, cow",
        "classes are the 2 folders of the first level; 1 folder lies below them",
        f"classes in one split alone: bee ({held}), cow (train)",
        "3 of 6 queries are of classes that the bank has no row of, and none of these can be right; give both splits "
        "the same classes.",
        "pictures are squares of 32 x 32 px",
    )
    for split, path in ((found.train, "train/cow/00.png"), (found.test, f"{held}/bee/02.png")):
        assert torch.equal(split.images.pixels[5].permute(1, 2, 0), torch.tensor(np.array(Image.open(root / path))))


def test_test_goes_before_val(album):
    found = sets.load(str(album(*many("train/a", "train/b", "val/a", n=4), *many("test/b", n=2))))
    assert found.test.labels.tolist() == [1, 1]


def test_class_folders_hold_a_tenth_out_by_hash(album):
    root = album(*many("a", "b", n=60))
    for i in range(60):
        (root / "b" / f"{i:02}.png").write_bytes((root / "a" / f"{i:02}.png").read_bytes())
    found = sets.load(str(root))
    train, test = set(rows(found.train.images.pixels)), set(rows(found.test.images.pixels))
    assert not train & test
    assert len(train | test) == 60
    assert len(found.train) + len(found.test) == 120
    assert found.classes == 2
    assert torch.equal(found.test.labels.bincount(), torch.tensor([len(test)] * 2))
    assert found.notes[:-1] == (
        "2 classes, by folder: a, b",
        f"no test split: {len(found.test)} of 120 images are held out by their hash",
        "pictures are squares of 32 x 32 px",
    )


def test_too_few_pictures_to_hold_any_out_are_refused(album, refused):
    with refused("too few to hold out"):
        sets.load(str(album("a/x.png", "b/x.png")))


def test_images_without_labels_at_any_depth(album):
    found = sets.load(str(album("x.png", "sub/y.png", "sub/deeper/z.png")))
    assert (len(found.train), found.bank.labels, found.test, found.classes, found.labelled) == (3, None, None, 0, False)
    assert found.notes[:-1] == (
        "1 image lies beside 1 folder, which are no classes then", "no labels: health is shown, kNN is left out",
        "pictures are squares of 32 x 32 px",
    )  # fmt: skip


def test_what_is_hidden_is_left_out(album):
    found = sets.load(str(album("x.png", ".y.png", ".thumbnails/z.png")))
    assert len(found.train) == 1


def test_a_folder_without_images_is_no_class(album):
    root = album(*many("a", "b", n=30))
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    assert sets.load(str(root)).classes == 2


@pytest.mark.parametrize("empty", ["", "train", "test"])
def test_empty_folders_are_refused(album, refused, empty):
    root = album(*({"": [], "train": ["test/a/x.png"], "test": ["train/a/x.png"]}[empty]))
    (root / empty).mkdir(parents=True)
    with refused("holds no images", str(root / empty)):
        sets.load(str(root))


def test_pictures_are_turned_as_their_exif_says(album):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    root = album("x.png", size=(40, 20), exif=exif)
    with Image.open(root / "x.png") as image:
        expected = image.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    picture = Picture(root / "x.png")
    assert (picture.width, picture.height) == (20, 40)
    assert torch.equal(picture.pixels(), F.pil_to_tensor(expected))


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("rubbish", [b"", b"more bytes"])
def test_a_jpegs_pixels_are_pillows(tmp_path, subsampling, rubbish):
    path = tmp_path / "x.jpg"
    Image.fromarray(noise(37, 50, 3)).save(path, subsampling=subsampling)
    path.write_bytes(path.read_bytes() + rubbish)
    with Image.open(path) as image:
        assert torch.equal(Picture(path).pixels(), F.pil_to_tensor(image.convert("RGB")))


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        ("gray.png", Image.fromarray(RAMP), {}),
        ("gray.jpg", Image.fromarray(RAMP), {"quality": 100}),
        ("palette.png", Image.fromarray(RAMP).convert("P"), {}),
        ("palette.gif", Image.fromarray(RAMP).convert("P"), {}),
        ("transparent.png", Image.fromarray(RAMP).convert("P"), {"transparency": bytes([255] * 200 + [254] * 56)}),
        ("rgba.png", Image.fromarray(np.dstack([RAMP] * 3 + [RAMP * 0 + 255])), {}),
        ("la.png", Image.fromarray(RAMP).convert("LA"), {}),
        ("cmyk.tif", Image.fromarray(RAMP).convert("RGB").convert("CMYK"), {}),
        ("deep.png", Image.fromarray(RAMP.astype(np.uint16) * 257), {}),
        ("deep.tif", Image.fromarray(RAMP.astype(np.uint16) * 257), {}),
        ("UPPER.BMP", Image.fromarray(RAMP), {}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_pictures_of_any_mode_are_read_as_what_they_show(tmp_path, name, image, options):
    """A gray ramp from black to white, by whatever mode; 16 bits are scaled to 8."""
    image.save(tmp_path / name, **options)
    found = sets.load(str(tmp_path))
    shown = found.train.images.pixels[0].int()
    assert int((shown - torch.tensor(RAMP).int()).abs().max()) <= 2


def test_pictures_of_mixed_sizes_are_squared(tmp_path):
    """The usual shorter side is the size; the shorter side of each is resized to it, and the centre kept."""
    shades = np.repeat(np.array([0, 200, 200, 0], np.uint8), 16)  # of 64 columns
    Image.fromarray(np.tile(shades, (32, 1))).save(tmp_path / "wide.png")
    Image.fromarray(np.tile(shades.repeat(2), (64, 1)).T).save(tmp_path / "tall.png")
    for i in range(3):
        Image.fromarray(noise(32, 40, seed=i)).save(tmp_path / f"{i}.png")
    found = sets.load(str(tmp_path))
    assert found.train.images.pixels.shape == (5, 3, 32, 32)
    tall, wide = found.train.images.pixels[3:]
    assert wide.unique().tolist() == [200]
    assert tall[:, 2:-2].unique().tolist() == [200]


def test_square_equals_torchvisions_resize_and_center_crop():
    images = torch.tensor(noise(3, 3, 96, 64))
    expected = F.center_crop(F.resize(images, [32], antialias=True), [32, 32])
    assert int((square(images, 32).int() - expected.int()).abs().max()) <= 1
    many_images = torch.tensor(noise(2100, 3, 4, 6))
    parts = torch.cat([square(part, 2) for part in many_images.split(50)])
    assert torch.equal(square(many_images, 2), parts)


def test_views_are_cut_out_of_whole_pictures_larger_than_the_view(album, monkeypatch):
    root = str(album(*many("train/a", "train/b", n=3), *many("test/a", "test/b", n=1), size=(48, 48)))
    near, far = sets.load(root, image_size=32), sets.load(root, image_size=31)
    assert (near.whole, far.whole) == (None, (48, 48))
    for found in (near, far):
        assert [path.name for path in found.train.images.paths] == ["00.png", "01.png", "02.png"] * 2
        assert [path.parent.name for path in found.test.images.paths] == ["a", "b"]
        assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(sets.load(root, image_size=31, limit=4).train.images) == 4
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    assert sets.load(root).train.images.pixels is None


def test_streamed_and_resident_splits_embed_alike(album, monkeypatch):
    root = str(album("x.png", "y.png", "z.png", size=(40, 30)))
    near = sets.load(root)
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    far = sets.load(root)
    a, b = (
        features.features(None, found.train, features.Preprocessing(30, found.mean, found.std), CPU)
        for found in (near, far)
    )
    assert a.shape == (3, 3 * 30 * 30)
    assert np.array_equal(a, b)


# ---- torchvision's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [URLError("no network"), RuntimeError("bad file.\nmore"), PermissionError("denied"), OSError()]
)
def test_failed_downloads_are_refused(cached, refused, monkeypatch, error):
    def fails(root, download, train):
        raise error if download else RuntimeError("Dataset not found.")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fails)
    with refused("CIFAR10 could not be downloaded", "SSLZOO_CACHE", str(cached)):
        sets.load("cifar10")


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_downloaded_where_it_is_not_there(cached, monkeypatch, name, there):
    asked = []

    class Stub:
        def __init__(self, root, download, train):
            asked.append((train, download))
            if not (there or download):
                raise RuntimeError("Dataset not found.")
            self.data, self.targets = noise(8 if train else 4, 32, 32, 3), list(range(8 if train else 4))

    monkeypatch.setattr(torchvision.datasets, name.upper(), Stub)
    found = sets.load(name)
    assert asked == (
        [(True, False), (False, False)] if there else [(True, False), (True, True), (False, False), (False, True)]
    )
    assert (found.name, found.size, found.classes, found.own) == (name, 32, 8, False)
    assert torch.equal(found.train.images.pixels, torch.tensor(noise(8, 32, 32, 3)).permute(0, 3, 1, 2))
    assert found.test.labels.tolist() == [0, 1, 2, 3]


def test_stl10_trains_on_its_unlabelled_images_too(cached, monkeypatch):
    class Stub:
        def __init__(self, root, download, split):
            n = {"train": 5, "test": 4, "unlabeled": 7}[split]
            self.data, self.labels = noise(n, 3, 96, 96), np.full(n, -1) if split == "unlabeled" else np.arange(n)

    monkeypatch.setattr(torchvision.datasets, "STL10", Stub)
    found = sets.load("stl10")
    assert (len(found.train), len(found.bank), len(found.test), found.size, found.classes) == (12, 5, 4, 96, 5)
    assert found.train.labels is None
    assert torch.equal(found.train.images.pixels[:5], found.bank.images.pixels)
    assert found.labelled
    few = sets.load("stl10", limit=3)
    assert (len(few.train), len(few.bank), len(few.bank.labels)) == (3, 3, 3)


@pytest.fixture
def fashion(tmp_path, monkeypatch, cached):
    """A mirror of Fashion-MNIST on this machine, with two tiny splits; gives its folder and what stops it."""
    files = tmp_path / "mirror"
    files.mkdir()
    resources = []
    for prefix, n in (("train", 30), ("t10k", 10)):
        images, labels = noise(n, 28, 28), (np.arange(n) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = gzip.compress(head + array.tobytes())
            (files / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
            resources.append((f"{prefix}-{name}-ubyte.gz", hashlib.md5(content).hexdigest()))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=files)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def stop():
        if thread.is_alive():
            server.shutdown()
            thread.join()
            server.server_close()

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
    yield files, stop
    stop()
    gc.collect()  # what torchvision left open is told of here, and not in another test


def test_fashion_mnist_is_downloaded_once(fashion, cached):
    """Really downloaded, unpacked and padded; and read from the cache when the mirror is gone."""
    first = sets.load("fashion-mnist")
    assert (first.name, first.size, first.classes, len(first.train), len(first.test)) == (
        "fashion-mnist",
        32,
        10,
        30,
        10,
    )
    assert torch.equal(first.train.images.pixels[:, 2, 2:-2, 2:-2], torch.tensor(noise(30, 28, 28)))
    assert first.test.labels.tolist() == list(range(10))
    assert {path.name for path in cached.iterdir()} == {"FashionMNIST", ".lock"}
    fashion[1]()
    again = sets.load("fashion-mnist")
    assert torch.equal(again.train.images.pixels, first.train.images.pixels)
    assert torch.equal(again.test.labels, first.test.labels)


@pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")  # torchvision's, after a 404
@pytest.mark.parametrize("trouble", ["down", "missing", "altered"])
def test_a_mirror_in_trouble_is_refused(fashion, cached, refused, trouble):
    files, stop = fashion
    bad = files / "t10k-labels-idx1-ubyte.gz"
    if trouble == "down":
        stop()
    elif trouble == "missing":
        bad.unlink()
    else:
        bad.write_bytes(gzip.compress(b"something else"))
    with refused("FashionMNIST could not be downloaded", "SSLZOO_CACHE", str(cached)):
        sets.load("fashion-mnist")


def test_a_broken_cache_is_refused(fashion, cached, refused):
    """A file whose unpacking was interrupted."""
    sets.load("fashion-mnist")
    path = cached / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:5000])
    with refused("FashionMNIST", str(cached)):
        sets.load("fashion-mnist")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value, expected in (
        ("SSLZOO_CACHE", "", tmp_path / ".cache" / "sslzoo"),
        ("XDG_CACHE_HOME", "", tmp_path / ".cache" / "sslzoo"),
        ("XDG_CACHE_HOME", str(tmp_path / "xdg"), tmp_path / "xdg" / "sslzoo"),
        ("SSLZOO_CACHE", "~/mine", tmp_path / "mine"),
    ):
        monkeypatch.setenv(name, value)
        assert places.cache() == expected


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(23, 4), (24, 4), (4, 4), (3, 4)])
def test_an_epoch_has_each_image_at_most_once(n, size):
    made = order(n, size, 0, 0)
    places = torch.cat(made).tolist() if made else []
    assert [len(batch) for batch in made] == [size] * (n // size)
    assert len(set(places)) == len(places)
    assert set(places) <= set(range(n))


def test_order_depends_on_seed_and_epoch_alone():
    def flat(seed, epoch):
        return tuple(torch.cat(order(40, 4, seed, epoch)).tolist())

    torch.manual_seed(1)
    first = flat(0, 0)
    torch.manual_seed(2)
    assert flat(0, 0) == first
    assert len({flat(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


@pytest.fixture(params=["resident", "streamed"])
def pictures(request, album):
    """A small data set of either kind, and a recipe with a batch of 4 and every operation."""
    found = sets.load(str(album(*many("train/a", n=23), "test/a/x.png", size=(48, 40))))
    if request.param == "streamed":
        found = sets.load(str(album()), image_size=24, memory="never")
    assert (found.train.images.pixels is None) == (request.param == "streamed")
    return found, load("byol", "large", batch_size=4)


def drawn(batches, epoch=0, skip=0):
    """The epoch's places and views, as one tensor each."""
    found = list(batches.epoch(epoch, skip))
    views = [torch.cat([views[i] for _, views in found]) for i in range(len(batches.pipelines))]
    return torch.cat([index for index, _ in found]), torch.stack(views)


def test_batches_are_views_on_the_device(pictures):
    found, recipe = pictures
    batches = Batches(found, recipe, CPU, seed=0)
    index, views = drawn(batches)
    assert len(batches) == 5
    assert index.tolist() == torch.cat(order(23, 4, 0, 0)).tolist()
    assert views.shape == (2, 20, 3, found.size, found.size)
    assert views.dtype == torch.float32
    pixels = views * torch.tensor(found.std)[:, None, None] + torch.tensor(found.mean)[:, None, None]
    assert -1e-5 < float(pixels.min()) < float(pixels.max()) < 1 + 1e-5
    assert not torch.equal(views[0], views[1])


def test_batches_depend_on_the_seed_alone(pictures):
    index, views = drawn(Batches(*pictures, CPU, seed=3))
    torch.manual_seed(99)
    batches = Batches(*pictures, CPU, seed=3)
    again = drawn(batches)
    assert torch.equal(again[0], index)
    assert torch.equal(again[1], views)
    for other in (drawn(batches, epoch=1), drawn(Batches(*pictures, CPU, seed=4))):
        assert not torch.equal(other[0], index)


def test_skip_goes_on_within_an_epoch(pictures):
    batches = Batches(*pictures, CPU, seed=0)
    drawn(batches)
    state, whole = None, []
    for i, (index, views) in enumerate(batches.epoch(1)):
        state = batches.generator.get_state() if i == 1 else state
        whole.append((index, views))
    resumed = Batches(*pictures, CPU, seed=0)
    resumed.generator.set_state(state)
    rest = list(resumed.epoch(1, skip=2))
    assert len(rest) == 3
    for (a, one), (b, other) in zip(whole[2:], rest, strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("pictures", ["streamed"], indirect=True)
def test_workers_make_the_same_crops(pictures):
    alone, two = (drawn(Batches(*pictures, CPU, seed=1, workers=workers), 2) for workers in (0, 2))
    assert torch.equal(alone[0], two[0])
    assert torch.equal(alone[1], two[1])


def crops(paths, pipelines, asked, seed=0):
    """What a worker gives for a batch of (epoch, place)."""
    return (
        Crops(FileImages(tuple(paths)), max(size for _, size in pipelines), pipelines, seed).__getitems__(asked).images
    )


@pytest.fixture
def boxes(monkeypatch):
    """The boxes that streams draw, in order."""
    drawn = []
    monkeypatch.setattr(readers, "draw_boxes", lambda *args: drawn.append(draw_boxes(*args)) or drawn[-1])
    return drawn


@pytest.mark.parametrize("size", [45, 64])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_streamed_crops_equal_torchvisions(album, boxes, size, name):
    """Crop, then resize with antialiasing: a crop shows nothing of what lies around it.

    Of a picture whose shorter side is twice the view's: a copy of it is itself.
    """
    path = album(name, size=(120, 90)) / name
    view = (
        View(flip=0, scale_min=0.1, scale_max=0.15) if name == "x.jpg" else View(flip=0)
    )  # a larger crop may be decoded coarsely
    for epoch in range(20):
        (made,) = crops([path], [(view, size)], [(epoch, 0)])
        with Image.open(path) as image:
            expected = F.resized_crop(image.convert("RGB"), *boxes[-1][0].int().tolist(), [size, size])
        assert int((made[0].int() - F.pil_to_tensor(expected).int()).abs().max()) <= 1


def test_a_large_jpeg_is_decoded_as_coarsely_whatever_its_crop(tmp_path, boxes, monkeypatch):
    """The same crop of a smooth picture, within what the rounding of the box to fewer pixels does."""
    asked = []
    pixels = Picture.pixels
    monkeypatch.setattr(Picture, "pixels", lambda self, shrink=1: asked.append(shrink) or pixels(self, shrink))
    x, y = np.meshgrid(np.linspace(0, 255, 400), np.linspace(0, 255, 320))
    Image.fromarray(np.dstack([x, y, (x + y) / 2]).astype(np.uint8)).save(tmp_path / "x.jpg", quality=95)
    views = [(View(flip=0, scale_min=0.5), 32), (View(flip=0, scale_min=0.9), 32)]
    for epoch in range(10):
        made = crops([tmp_path / "x.jpg"], views, [(epoch, 0)])
        pair = [box[0] for box in boxes[-2:]]
        assert asked[-1] == 320 / (2 * 32)
        assert Picture(tmp_path / "x.jpg").pixels(asked[-1]).shape == (3, 80, 100)
        for view, box in zip(made, pair, strict=True):
            with Image.open(tmp_path / "x.jpg") as image:
                expected = F.pil_to_tensor(F.resized_crop(image, *box.int().tolist(), [32, 32]))
            assert int((view[0].int() - expected.int()).abs().max()) <= 6


def test_streamed_crops_differ_by_view_epoch_place_and_seed(album):
    paths = [album("x.png", size=(60, 60)) / "x.png"] * 2
    pipelines = [(View(), 24), (View(), 24), (replace(View(), scale_max=0.3), 12)]
    made = [crops(paths, pipelines, [(epoch, 0), (epoch, 1)], seed) for seed in (0, 1) for epoch in (0, 1)]
    assert len({view.numpy().tobytes() for views in made for pair in views for view in pair}) == 24
    assert [tuple(view.shape) for view in made[0]] == [(2, 3, 24, 24), (2, 3, 24, 24), (2, 3, 12, 12)]
    (flipped,) = crops(paths, [(View(scale_min=1, flip=1), 60)], [(0, 0)])
    assert torch.equal(flipped[0].flip(-1), Picture(paths[0]).pixels())


def test_pictures_of_several_sizes_draw_their_own_boxes(album, boxes):
    """Each within its picture, and over many draws as large as a part of it."""
    paths = [album("x.png", size=(90, 30)) / "x.png", album("y.png", size=(20, 100)) / "y.png"]
    for epoch in range(200):
        crops(paths, [(View(), 8)], [(epoch, 0), (epoch, 1)])
    drawn = torch.stack(boxes)
    for i, (width, height) in enumerate([(90, 30), (20, 100)]):
        top, left, h, w = drawn[:, i].unbind(1)
        assert bool((top + h <= height).all() & (left + w <= width).all() & (h >= 1).all() & (w >= 1).all())
        assert float((h * w / (height * width)).mean()) > 0.2
        assert len(h.unique()) > 3


@pytest.mark.parametrize("pictures", ["streamed"], indirect=True)
def test_workers_stay_for_all_epochs_and_an_epoch_left_halfway_does_no_harm(pictures):
    batches = Batches(*pictures, CPU, seed=1, workers=1)
    expected = [drawn(Batches(*pictures, CPU, seed=1), epoch)[0].tolist() for epoch in range(3)]
    assert drawn(batches, 0)[0].tolist() == expected[0]
    loader = batches.stream.loader
    assert drawn(batches, 1)[0].tolist() == expected[1]
    assert batches.stream.loader is loader
    next(batches.epoch(2))
    state = batches.generator.get_state()
    index, views = drawn(batches, 2)
    alone = Batches(*pictures, CPU, seed=1)
    alone.generator.set_state(state)
    assert index.tolist() == expected[2]
    assert torch.equal(views, drawn(alone, 2)[1])
