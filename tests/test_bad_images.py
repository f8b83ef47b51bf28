"""Data as people have it: what cannot be read is replaced or left out, counted and listed; odd images are read."""

import json
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslzoo import load, train
from sslzoo.data import folders, sets
from sslzoo.data.images import FileImages
from sslzoo.data.picture import LARGE, MAX_PIXELS, Picture, UnreadableImage, square
from sslzoo.data.sample import sample
from sslzoo.data.survey import Report
from sslzoo.data.unreadable import LIST_NAME, UnreadableImages
from sslzoo.evaluation import encode, sources
from sslzoo.evaluation.search import search
from sslzoo.recipes.schema import View
from sslzoo.tools.errors import UserError
from sslzoo.tools.records import Misfit
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.run import resume
from sslzoo.views import features
from sslzoo.views.batches import Batches
from sslzoo.views.readers import Crops

CPU = torch.device("cpu")


def picture(path, size=(40, 40), seed=None, **options):
    """Write noise; by default another for every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(os.fsencode("/".join(path.parts[-3:]))) if seed is None else seed
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def forged(path, width, height):
    """A small image whose header claims other sides."""
    picture(path, (8, 8))
    file = path.read_bytes()
    if path.suffix == ".png":
        head = b"IHDR" + struct.pack(">II", width, height) + file[24:29]
        file = file[:12] + head + struct.pack(">I", zlib.crc32(head)) + file[33:]
    else:
        at = file.index(b"\xff\xc0") + 5
        file = file[:at] + struct.pack(">HH", height, width) + file[at + 4 :]
    path.write_bytes(file)
    return path


def cut(path, share=0.5):
    """Break a file off."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def spoiled(path, kind):
    """Spoil a file."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("no image")
    elif kind == "gone":
        path.unlink()
    elif kind == "bomb":
        forged(path, 60_000, 60_000)
    else:
        cut(path)
    return path


KINDS = ("empty", "text", "gone", "bomb", "cut")


@pytest.fixture
def flat(tmp_path):
    """A folder of pictures without labels, some spoiled, streamed as of 24 px; and their places."""

    def make(n=24, bad=(), suffix=".jpg"):
        for i in range(n):
            picture(tmp_path / "flat" / f"{i:03}{suffix}")
        found = sets.load(str(tmp_path / "flat"), image_size=24, memory="never")
        for k, place in enumerate(bad):
            spoiled(found.train.images.paths[place], KINDS[k % len(KINDS)])
        return found

    return make


@pytest.fixture
def classes(tmp_path):
    """A folder of two classes and two splits."""

    def make(n=20, held=10, size=(40, 40)):
        for split, count in (("train", n), ("test", held)):
            for i in range(count):
                picture(tmp_path / "set" / split / "ab"[i % 2] / f"{i:03}.png", size)
        return tmp_path / "set"

    return make


class Told(Reporter):
    """Keeps what it was warned of."""

    def __init__(self):
        self.warned = []

    def warn(self, sentence):
        self.warned.append(sentence)


# ---- one file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "it is empty"),
        ("text", "it holds no image"),
        ("gone", "no such file or directory"),
        ("bomb", "has 3,600 megapixels, more than 179; shrink it"),
        ("cut", "it breaks off"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, refused, suffix, kind, reason):
    path = spoiled(picture(tmp_path / f"x{suffix}"), kind)
    with pytest.raises(UnreadableImage) as caught:
        Picture(path).pixels()
    assert caught.value.reason == reason
    with refused(str(path), reason):
        Picture(path).pixels()


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = picture(tmp_path / "x.png")

    def denied(path, most):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("sslzoo.data.picture.read_with_state", denied)
    with pytest.raises(UnreadableImage, match="permission denied"):
        Picture(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch, suffix):
    """Before any pixel is decoded, by whoever decodes them."""
    side = int(MAX_PIXELS**0.5)
    large, fits = (forged(tmp_path / f"{n}{suffix}", n, n) for n in (side + 1, side))
    monkeypatch.setattr("sslzoo.data.picture.decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="shrink it"):
        Picture(large)
    assert Picture(fits).width == side


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif"])
def test_a_hundred_megapixels_are_read_without_a_warning(tmp_path, suffix):
    path, before = tmp_path / f"x{suffix}", Image.MAX_IMAGE_PIXELS
    Image.new("L", (10_000, 10_000), 7).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Picture(path)
        assert found.width * found.height > LARGE
        assert found.pixels()[:, 5000, 5000].tolist() == [7] * 3
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("room", [1, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_breaks_off_is_unreadable_however_it_is_decoded(tmp_path, part, room, mode):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "x.jpg")
    with pytest.raises(UnreadableImage):
        Picture(cut(tmp_path / "x.jpg", part)).pixels(room)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 12), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:])
    shown = Picture(tmp_path / f"x{suffix}").pixels()
    assert shown.shape == (3, 12, 16)
    assert (shown[:, 6, 6] - torch.tensor([255, 0, 0])).abs().max() <= 2


def test_a_cmyk_jpeg_shows_its_colours(tmp_path):
    Image.new("RGB", (16, 16), (250, 10, 20)).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    assert (Picture(tmp_path / "x.jpg").pixels()[:, 8, 8].int() - torch.tensor([250, 10, 20])).abs().max() <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 1)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_of_one_pixel_are_squared_and_cropped(tmp_path, size, suffix):
    """Without enlarging the whole of a strip, which would fill the memory."""
    path = picture(tmp_path / f"x{suffix}", size)
    assert square(Picture(path).pixels()[None], 224).shape == (1, 3, 224, 224)
    made = Crops(FileImages((path,)), 32, [(View(), 32)], 0).__getitems__([(0, 0)])
    assert made.images[0].shape == (1, 3, 32, 32)
    assert made.unreadable == []


def test_only_the_middle_of_a_strip_is_seen():
    strip = torch.zeros(1, 3, 10, 1000, dtype=torch.uint8)
    strip[..., 495:505] = torch.arange(10, dtype=torch.uint8) * 20
    assert torch.equal(square(strip, 10), strip[..., 495:505])


def test_names_of_any_letters_and_things_that_are_no_files(tmp_path):
    """A folder named as an image is looked into; a broken link and what is hidden are none."""
    for name in ("ünïcode 図.png", "tab\there.png", "line\nbreak.png", "x.jpg/in.png"):
        picture(tmp_path / "set" / name)
    (tmp_path / "set" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "self.png").symlink_to(tmp_path / "set" / "self.png")
    (tmp_path / "set" / ".hidden.png").write_bytes(b"")
    (tmp_path / "set" / "linked.png").symlink_to(tmp_path / "set" / "ünïcode 図.png")
    assert len(sets.load(str(tmp_path / "set")).train) == 5


# ---- streams ---------------------------------------------------------------------------------------------------------


def drawn(batches, epoch=0, skip=0):
    """The epoch's places and views, as one tensor each."""
    found = list(batches.epoch(epoch, skip))
    return torch.cat([index for index, _ in found]), torch.cat([torch.stack(views, 1) for _, views in found])


BAD = [1, 5, 6, 7, 13, 20]  # some of them neighbours


def test_another_image_stands_in_and_the_index_says_which(flat):
    """Its view is that image's, drawn for the row; all other rows are as they were."""
    found, recipe = flat(bad=[]), load("byol", "large", batch_size=4)
    whole = drawn(Batches(found, recipe, CPU, 0))
    for k, place in enumerate(BAD):
        spoiled(found.train.images.paths[place], KINDS[k % len(KINDS)])
    index, views = drawn(Batches(found, recipe, CPU, 0))
    moved = index != whole[0]
    assert set(whole[0][moved].tolist()) == set(BAD)
    assert not set(index.tolist()) & set(BAD)
    assert torch.equal(views[~moved], whole[1][~moved])
    assert set(found.unreadable.reasons) == {found.train.images.paths[place] for place in BAD}
    assert len(set(index[moved].tolist())) > 1


def test_the_crop_is_that_of_the_image_that_stands_in(flat):
    found = flat(bad=[2, 4])
    paths = found.train.images.paths
    crops = Crops(FileImages(paths), 40, [(View(flip=0, scale_min=1, scale_max=1), 40)], 0)
    made = crops.__getitems__([(0, 2), (0, 4), (0, 9)])
    assert made.places[2] == 9
    for row, place in enumerate(made.places.tolist()):
        pixels = Picture(paths[place]).pixels()
        assert torch.equal(made.images[0][row], pixels) or made.images[0][row].shape == pixels.shape
        near = [(made.images[0][row].int() - Picture(p).pixels().int()).abs().float().mean() for p in paths
                if p.exists() and p not in (paths[2], paths[4])]  # fmt: skip
        good = [i for i in range(24) if i not in (2, 4)]
        assert good[int(torch.stack(near).argmin())] == place


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_same_crops_whatever_the_workers_and_where_an_epoch_is_taken_up(flat, suffix):
    found, recipe = flat(bad=BAD, suffix=suffix), load("byol", "large", batch_size=4)
    alone = Batches(found, recipe, CPU, 0)
    first, second = drawn(alone), drawn(alone, 1)
    for workers in (1, 2):
        some = Batches(found, recipe, CPU, 0, workers)
        for epoch, expected in enumerate((first, second)):
            index, views = drawn(some, epoch)
            assert torch.equal(index, expected[0])
            assert torch.equal(views, expected[1])
    resumed = Batches(found, recipe, CPU, 0)
    assert torch.equal(drawn(resumed, 1, skip=3)[0], second[0][12:])


def test_a_file_known_as_bad_is_not_read_again(flat, monkeypatch):
    found = flat(bad=BAD)
    crops = Crops(found.train.images, 24, [(View(), 24)], 0)
    asked = [(0, place) for place in range(24)]
    made = crops.__getitems__(asked)
    assert sorted(place for place, _ in made.unreadable) == BAD
    read = []
    usual = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self) or usual(self))
    again = crops.__getitems__(asked)
    assert again.unreadable == []
    assert torch.equal(again.places, made.places)
    assert torch.equal(again.images[0], made.images[0])
    assert not {found.train.images.paths[place] for place in BAD} & set(read)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_nothing_readable_is_refused(flat, refused, workers):
    found = flat(n=4, bad=range(4))
    with refused("None of 4 images can be read"):
        drawn(Batches(found, load("byol", "large", batch_size=2), CPU, 0, workers))
    with refused("None of 4 images can be read", str(found.train.images.paths[0])):
        features.features(None, found.train, features.Preprocessing(24, found.mean, found.std), CPU, workers)


# ---- resident and evaluated ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_of_images_in_memory_those_that_cannot_be_read_are_known(classes, monkeypatch, kind):
    root = classes()
    whole = sets.load(str(root))
    path = root / "train" / "b" / "003.png"
    listed = folders.list_data
    monkeypatch.setattr(folders, "list_data", lambda *given: (listed(*given), spoiled(path, kind))[0])
    found = sets.load(str(root))
    place = sorted(root.glob("train/*/*.png") if kind != "gone" else [*root.glob("train/*/*.png"), path]).index(path)
    kept = [i for i in range(20) if i != place]
    assert torch.equal(found.train.images.pixels[kept], whole.train.images.pixels[kept])
    assert torch.equal(found.train.labels, whole.train.labels)
    assert found.train.readable_places().tolist() == kept
    assert found.train is found.bank
    assert (list(found.unreadable.reasons), found.unreadable.total, found.unreadable) == (
        [path],
        30,
        found.test.unreadable,
    )
    assert "1 of 30 images cannot be read" in found.notes[-1]


def test_evaluation_leaves_images_out_with_their_labels(classes, monkeypatch):
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    root = classes()
    found = sets.load(str(root))
    everything = features.features(None, found.train, features.Preprocessing(24, found.mean, found.std), CPU)
    for k, place in enumerate((0, 7, 19)):
        spoiled(found.train.images.paths[place], KINDS[k])
    kept = [i for i in range(20) if i not in (0, 7, 19)]
    for workers in (0, 2):
        found = sets.load(str(root)) if workers == 0 else found  # once nothing is known, once all is
        there = [i for i, path in enumerate(found.train.images.paths) if path.exists()]
        rows = features.features(None, found.train, features.Preprocessing(24, found.mean, found.std), CPU, workers)
        assert np.array_equal(rows, everything[kept])
        assert len(found.train.readable().labels) == len(rows)
        assert len(there) == len(found.train)


@pytest.mark.parametrize("again", [False, True])
def test_sources_and_search_skip_them_also_from_the_cache(classes, monkeypatch, again):
    monkeypatch.setattr("sslzoo.data.contents.hashes.SETTLED", 0)
    monkeypatch.setattr(folders, "MEMORY_SHARE", 0)
    root = classes()
    paths = sorted(root.glob("train/*/*.png"))
    for place in (2, 11):
        cut(paths[place])
    cut(root / "test" / "a" / "004.png")
    options = sources.EmbedOptions(str(root), backbone="small", workers=0)
    if again:
        encode.embed("random", options)
        monkeypatch.setattr(encode, "features", lambda *_: pytest.fail("made again"))
    found = encode.embed("random", options)
    assert found.arrays["train_features"].shape[0] == len(found.arrays["train_labels"]) == 18
    assert found.arrays["test_features"].shape[0] == len(found.arrays["test_labels"]) == 9
    assert len(found.images.bank) == 18
    if again:
        return
    result = search("random", ["train:12", str(paths[19])], options, number=20)
    places = [[one.number for one in query.neighbours] for query in result.queries]
    assert sorted(places[0]) == [i for i in range(20) if i not in (2, 11, 12)]
    assert sorted(places[1]) == [i for i in range(20) if i not in (2, 11, 19)]  # a file of the set is not its own
    assert all(one.file == str(paths[one.number]) for query in result.queries for one in query.neighbours)


def test_knn_and_embed_say_what_is_left_out(classes, run_cli, tmp_path):
    root = classes()
    bad = cut(root / "train" / "a" / "004.png")
    for words in (("knn", "raw"), ("embed", "raw", "--out", str(tmp_path / "x.npz")), ("search", "raw", "test:0")):
        plain, report = (run_cli(*words, "--data", str(root), *more) for more in ((), ("--json",)))
        assert f"1 image cannot be read and is left out, first {bad} (it breaks off)" in plain.stderr
        assert json.loads(report.stdout)["bad"] == [{"path": str(bad), "reason": "it breaks off"}]
        assert report.stderr == ""


def test_a_query_that_cannot_be_read_is_refused(classes, refused):
    root = classes()
    bad = cut(picture(root.parent / "x.png"))
    with refused(str(bad), "it breaks off"):
        search("random", [str(bad)], sources.EmbedOptions(str(root), workers=0, backbone="small"))


def test_sizes_are_those_of_what_can_be_read(tmp_path):
    paths = [spoiled(picture(tmp_path / f"{i:04}.png"), "empty") for i in range(1200)]
    picture(paths[1199], (50, 30))
    bad: dict[Path, str] = {}
    assert sample(paths, None, bad).shapes.tolist() == [[50, 30]]
    assert len(bad) == 1199


@pytest.mark.parametrize("size", [None, 24])
def test_a_folder_of_nothing_readable_is_refused(tmp_path, refused, size):
    for i in range(5):
        spoiled(picture(tmp_path / "set" / f"{i}.png"), "text")
    with refused("None of 5 images can be read", "0.png (it holds no image)"):
        sets.load(str(tmp_path / "set"), size)


# ---- classes and folders ---------------------------------------------------------------------------------------------


def test_an_empty_class_takes_no_label_and_is_noted(classes):
    root = classes()
    (root / "train" / "aa").mkdir()
    (root / "test" / "z" / "deeper").mkdir(parents=True)
    found = sets.load(str(root))
    assert found.classes == 2
    assert found.train.labels.unique().tolist() == [0, 1]
    assert found.notes[2:-2] == ("classes without images are left out: aa, z",)


def test_classes_of_one_split_are_noted(classes):
    root = classes()
    for i in range(8):
        picture(root / "train" / f"only{i}" / "x.png")
    found = sets.load(str(root))
    assert found.classes == 10
    assert found.notes[2:-2] == (
        "classes in one split alone: only0 (train), only1 (train), only2 (train), only3 (train), only4 (train) "
        "and 3 more",
    )


def test_one_class_trains_and_is_noted(tmp_path):
    for i in range(40):
        picture(tmp_path / "set" / "train" / "a" / f"{i}.png", (16, 16))
        picture(tmp_path / "set" / "test" / "a" / f"{i}.png", (16, 16))
    result = train("simclr", data=str(tmp_path / "set"), out=str(tmp_path), epochs=1, batch_size=8, backbone="small")
    assert result["knn"]["k20"] == 1
    assert sets.load(str(tmp_path / "set")).notes[2:-2] == ("one class: kNN cannot go wrong",)


def test_two_images_train(tmp_path):
    for i in range(2):
        picture(tmp_path / "set" / f"{i}.png", (16, 16))
    result = train("simclr", data=str(tmp_path / "set"), out=str(tmp_path), epochs=1, backbone="small")
    assert np.isfinite(result["loss"])


def test_a_folder_that_may_not_be_listed_is_refused(classes, refused, monkeypatch, run_cli):
    root, usual = classes(), os.scandir

    def denied(folder):
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return usual(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with refused(str(root / "train" / "b"), "Permission denied"):
        sets.load(str(root))
    result = run_cli("data", "check", str(root), "--json")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (2, False)
    assert "Permission denied" in result.stderr


# ---- runs ------------------------------------------------------------------------------------------------------------

QUICK = {"epochs": 2, "image_size": 24, "batch_size": 50, "backbone": "small", "workers": 2, "memory": "never"}


@pytest.fixture(scope="module")
def four_hundred(tmp_path_factory):
    """400 small JPEGs, of which four are spoiled."""
    root = tmp_path_factory.mktemp("many") / "set"
    for i in range(400):
        picture(root / f"{i:03}.jpg", (48, 48))
    return root, sorted(
        spoiled(root / f"{i:03}.jpg", kind) for i, kind in zip((3, 99, 200, 399), KINDS[:2] + KINDS[3:], strict=True)
    )


def listed(run):
    """The lines of a run's list, as path and reason."""
    return [tuple(line.split("\t")) for line in (Path(run) / LIST_NAME).read_text().splitlines()]


def test_a_hundredth_unreadable_trains_to_its_end_and_is_listed(four_hundred, tmp_path):
    root, bad = four_hundred
    told = Told()
    result = train("simclr", reporter=told, data=str(root), out=str(tmp_path), **QUICK)
    assert result["epochs"] == 2
    assert [path for path, _ in listed(result["run"])] == [str(path) for path in bad]
    assert [why for _, why in listed(result["run"])] == [
        "it is empty", "it holds no image", "has 3,600 megapixels, more than 179; shrink it", "it breaks off",
    ]  # fmt: skip
    (warned,) = [sentence for sentence in told.warned if "cannot be read" in sentence]
    assert "4 of 400 images" in warned
    assert f"{result['run']}/{LIST_NAME}" in warned


def test_a_run_without_bad_images_has_no_list(flat, tmp_path):
    found = flat()
    options = {**QUICK, "batch_size": 4, "epochs": 1}
    result = train("simclr", data=str(found.unreadable.folder), out=str(tmp_path), **options)
    assert not (Path(result["run"]) / LIST_NAME).exists()


def test_more_than_the_share_stops_a_streamed_run(four_hundred, tmp_path, refused):
    root, _ = four_hundred
    with refused(
        "4 of 400 images cannot be read", "1% where --max-bad allows 0.75%", LIST_NAME, f"sslzoo data check {root}"
    ):
        train("simclr", data=str(root), out=str(tmp_path / "runs"), max_bad=0.0075, **QUICK)  # three have no header
    (run,) = (tmp_path / "runs").iterdir()
    assert len(listed(run)) == 4


def test_more_than_the_share_in_memory_writes_nothing(classes, tmp_path, refused):
    root = classes()
    cut(root / "train" / "a" / "000.png")
    options = {"data": str(root), "out": str(tmp_path / "runs"), "epochs": 1, "batch_size": 4, "backbone": "small"}
    with refused("1 of 30 images cannot be read", "3.33% where --max-bad allows 1%", "raise --max-bad"):
        train("simclr", **options)
    assert not (tmp_path / "runs").exists()
    result = train("simclr", **options, max_bad=0.04)
    assert listed(result["run"]) == [(str(root / "train" / "a" / "000.png"), "it breaks off")]


@pytest.mark.parametrize("share", ["-0.1", "1.5", "nan"])
def test_a_share_out_of_bounds_is_refused(bad_input, share):
    bad_input("--max-bad cannot be", "train", "simsiam", "--max-bad", share)


def test_a_resumed_run_makes_the_same_and_lists_the_same(flat, tmp_path):
    """What it listed before is looked at again; what was mended meanwhile is off the list."""
    found = flat(bad=[3, 9])
    options = {**QUICK, "data": str(found.unreadable.folder), "max_bad": 0.1, "batch_size": 6, "device": "cpu"}
    whole = train("simclr", out=str(tmp_path / "whole"), **options)
    half = train("simclr", out=str(tmp_path / "half"), stop_after=1, **options)
    rest = resume(half["run"])
    assert rest["loss"] == whole["loss"]
    assert listed(half["run"]) == listed(whole["run"])
    mended = UnreadableImages(found.unreadable.folder, 24)
    picture(found.train.images.paths[3])
    mended.read_list(Path(half["run"]) / LIST_NAME)
    assert list(mended.reasons) == [found.train.images.paths[9]]


def test_any_name_goes_through_a_list(tmp_path):
    names = ["plain.png", "tab\there.png", "line\nbreak.png", "back\\nslash.png", os.fsdecode(b"no utf \xff.png")]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    UnreadableImages(tmp_path, 5, {tmp_path / name: "it is empty" for name in names}).write_list(tmp_path / LIST_NAME)
    assert (tmp_path / LIST_NAME).read_bytes().count(b"\n") == 5
    again = UnreadableImages(tmp_path, 5)
    again.read_list(tmp_path / LIST_NAME)
    assert set(again.reasons) == {tmp_path / name for name in names}


# ---- sslzoo data check -----------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(classes):
    """A folder with one of everything, of which little enough cannot be read."""
    root = classes(n=260, held=40)
    exif = Image.Exif()
    exif[0x0112] = 6
    inside = root / "train" / "a"
    picture(inside / "turned.jpg", (40, 30), exif=exif)
    picture(inside / "thin.png", (1, 50))
    Image.new("CMYK", (40, 40)).save(inside / "cmyk.jpg")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(inside / "deep.png")
    Image.new("P", (40, 40)).save(inside / "palette.png")
    Image.new("RGBA", (40, 40), "red").save(inside / "clear.png")
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "lime")]
    frames[0].save(inside / "moves.gif", save_all=True, append_images=frames[1:])
    (inside / "again.png").write_bytes((inside / "000.png").read_bytes())
    (root / "test" / "a" / "leak.png").write_bytes((inside / "000.png").read_bytes())
    (inside / ".hidden.png").write_bytes(b"")
    (inside / "notes.txt").write_text("")
    (inside / "broken.png").symlink_to(root / "nowhere.png")
    (root / "train" / "empty").mkdir()
    picture(root / "train" / "lone" / "x.png")
    picture(root / "beside.png")
    cut(inside / "002.png")
    cut(root / "test" / "b" / "001.png")
    return root


def test_check_reports_what_a_folder_holds(zoo, run_cli):
    result = run_cli("data", "check", str(zoo), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["images"] == 310
    assert report["splits"] == {
        "train": {"images": 269, "classes": {"a": 138, "b": 130, "lone": 1}},
        "test": {"images": 41, "classes": {"a": 21, "b": 20, "lone": 0}},
    }
    assert report["bad"] == [
        {"path": str(zoo / place), "reason": "it breaks off"} for place in ("test/b/001.png", "train/a/002.png")
    ]
    kinds = {kind.split(",")[0]: n for kind, n in report["kinds"].items()}
    assert kinds == {
        "turned by EXIF": 1, "one pixel thin": 1, "CMYK": 1, "16 bits": 1, "palette": 2, "transparent": 1,
        "animated": 1,
    }  # fmt: skip
    assert report["skipped"] == {
        "hidden files": 1, "other files": 1, "broken links": 1, "images outside the classes and splits": 1,
    }  # fmt: skip
    equal = report["duplicates"]
    assert (equal["within"], equal["across"]) == ({"train": 1, "test": 0}, 1)
    assert [sorted(group) for group in equal["groups"]] == [
        [str(zoo / place) for place in ("test/a/leak.png", "train/a/000.png", "train/a/again.png")]
    ]
    assert report["sizes"]["width"] == {"min": 1, "median": 40, "max": 40}
    assert (report["sizes"]["view"], report["sizes"]["smaller"]) == (40, 2)
    assert (report["empty_classes"], report["lone_classes"]) == (["empty"], {"lone": "train"})
    assert report["ok"] is True


def test_the_report_is_read_back_strictly(zoo, run_cli):
    report = json.loads(run_cli("data", "check", str(zoo), "--json").stdout)
    assert json.dumps(Report.from_json(report).to_json()) == json.dumps(report)
    with pytest.raises(Misfit, match="images"):
        Report.from_json({**report, "images": "many"})


def test_the_report_of_an_empty_folder(tmp_path, run_cli):
    result = run_cli("data", "check", str(tmp_path), "--json")
    assert result.exit_code == 2
    assert result.stdout == (
        '{"images": 0, "splits": {}, "bad": [], "kinds": {}, "skipped": {}, "duplicates": {"within": {}, "across": 0, '
        '"groups": []}, "sizes": {}, "empty_classes": [], "lone_classes": {}, "notes": [], "ok": false}\n'
    )


def test_check_prints_a_page(zoo, run_cli):
    result = run_cli("data", "check", str(zoo), "--image-size", "32")
    assert result.exit_code == 0, result.output
    for words in ("310 images: 269 in train, 41 in test", "3 classes", "lone", "leak: 1 of test", "breaks off",
                  "classes without images are left out: empty", "1 broken link,", "a run would train"):  # fmt: skip
        assert words in result.stdout


@pytest.mark.parametrize("trouble", ["share", "all", "none", "missing", "few", "one"])
def test_check_refuses_what_a_run_would(classes, tmp_path, run_cli, trouble):
    root = tmp_path / "set"
    if trouble in ("share", "all"):
        classes()
        for path in sorted(root.rglob("*.png"))[: None if trouble == "all" else 1]:
            cut(path)
    elif trouble == "none":
        root.mkdir()
    elif trouble == "few":
        picture(root / "a" / "x.png", seed=1)
    elif trouble == "one":
        picture(root / "x.png")
    result = run_cli("data", "check", str(root))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    words = {"share": "1 of 30 images", "all": "None of", "none": "holds no images", "missing": "There is no folder",
             "few": "too few to hold out", "one": "one image to train on"}  # fmt: skip
    assert words[trouble] in result.stderr
    assert "a run would train" not in result.stdout


def test_check_lists_twenty_on_the_screen_and_all_in_json(tmp_path, run_cli):
    for i in range(30):
        spoiled(picture(tmp_path / "set" / f"{i:02}.png"), "text")
    screen, report = (run_cli("data", "check", str(tmp_path / "set"), *more) for more in ((), ("--json",)))
    assert screen.stdout.count("holds no image") == 20
    assert "10 more" in screen.stdout
    assert len(json.loads(report.stdout)["bad"]) == 30


def test_check_reads_an_npz(tmp_path, loaded, run_cli):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    images[1] = images[0]
    arrays = {"train_images": images, "train_labels": np.arange(20) % 2, "test_images": images[:4]}
    np.savez(tmp_path / "x.npz", **arrays, test_labels=np.arange(4) % 2)
    report = json.loads(run_cli("data", "check", str(tmp_path / "x.npz"), "--json").stdout)
    assert report["splits"]["train"] == {"images": 20, "classes": {"0": 10, "1": 10}}
    assert (report["duplicates"]["within"], report["duplicates"]["across"]) == ({"train": 1, "test": 1}, 4)
    assert report["ok"]
    np.savez(tmp_path / "y.npz", train_images=images)
    assert run_cli("data", "check", str(tmp_path / "y.npz")).exit_code == 0


@pytest.mark.parametrize("number", [1, 4])
def test_a_set_of_which_nothing_can_be_read_says_so_and_not_that_it_is_too_small(tmp_path, number):
    for name in ("ape", "bee"):
        (tmp_path / name).mkdir()
        for i in range(number):
            (tmp_path / name / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=f"None of {2 * number} images can be read, first .*0.png"):
        sets.load(str(tmp_path))
