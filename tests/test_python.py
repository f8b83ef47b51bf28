"""From Python: own modules, own views, callbacks, a run to look into, and keywords that there are not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import sslzoo
from sslzoo.training.listeners.callbacks import HEARD, Evaluation, Step


class Net(nn.Module):
    """A net of a person's own, of 12 features."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 12, 5, 4), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.layers(x).flatten(1)


QUICK = {"epochs": 2, "batch_size": 32, "limit": 128, "device": "cpu"}


@pytest.fixture
def quick(tmp_path):
    return {**QUICK, "out": str(tmp_path / "runs")}


# ---- a module of one's own


def test_a_module_is_trained_as_it_is_and_stays_as_it_was(quick):
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    result = sslzoo.train("simsiam", backbone=net, **quick)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    run = sslzoo.Run(result.run, backbone=net)
    trained = run.encoder
    assert isinstance(trained, Net)
    assert not torch.equal(trained.layers[0].weight, net.layers[0].weight)
    assert trained(torch.zeros(2, 3, 32, 32)).shape == (2, 12)
    assert run.embed(limit=50).features.shape == (50, 12)


def test_a_module_starts_from_its_own_weights(quick):
    """At a rate of 0 nothing moves: what is written is what was given."""
    net = Net()
    result = sslzoo.train("simsiam lr=0 weight_decay=0", backbone=net, **{**quick, "epochs": 1})
    trained = sslzoo.Run(result.run, backbone=net).encoder
    assert torch.equal(trained.layers[0].weight, net.layers[0].weight)


def test_a_run_of_a_module_asks_for_it_in_another_process(quick, run_cli, monkeypatch):
    result = sslzoo.train("simsiam", backbone=Net(), **quick)
    monkeypatch.setattr("sslzoo.recipes.plugins._backbones", {})
    done = run_cli("knn", str(result.run))
    assert done.exit_code == 2
    assert "a Net that was given in Python" in done.stderr
    assert "sslzoo.Run(..., backbone=...)" in done.stderr


def test_another_module_is_refused(quick):
    result = sslzoo.train("simsiam", backbone=Net(), **quick)
    with pytest.raises(sslzoo.UserError, match="was trained with the backbone given:Net, and not a Sequential"):
        sslzoo.Run(result.run, backbone=nn.Sequential(nn.Flatten()))


# ---- own views


def flipped(images: torch.Tensor) -> torch.Tensor:
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)


def test_own_views_are_the_views(quick):
    """Views that are all the same give SimSiam's loss its least value but for the predictor: that the function decides
    what is seen shows in what the encoder is given."""
    seen: list[torch.Tensor] = []

    def constant(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return torch.full_like(images, 0.25)

    result = sslzoo.train("simsiam", augment=constant, **{**quick, "epochs": 1})
    assert len(seen) == 2 * (128 // 32)  # two views a batch
    assert all(one.shape == (32, 3, 32, 32) for one in seen)
    assert torch.equal(seen[0], seen[1])  # both of the same images
    assert result.std < 1e-3  # nothing differs between images
    about = json.loads((Path(result.run) / "run.json").read_text())
    assert about["augment"].endswith("constant")
    assert any("given in Python" in one for one in about["decisions"])


@pytest.mark.parametrize("memory", ["always", "never"])
def test_own_views_see_files_as_they_see_arrays(quick, tmp_path, memory):
    rng, sums = np.random.default_rng(0), []
    for i in range(40):
        folder = tmp_path / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 20 + i % 7, 3), dtype=np.uint8)).save(folder / f"{i}.png")

    def look(images):
        sums.append(float(images.sum()))
        return images

    options = {**quick, "limit": None, "batch_size": 16, "epochs": 1, "image_size": 16}
    sslzoo.train("simsiam", augment=look, data=str(tmp_path / "photos"), memory=memory, workers=0, **options)
    assert len(sums) >= 4
    if memory == "never":
        again = [*sums]
        sums.clear()
        sslzoo.train("simsiam", augment=look, data=str(tmp_path / "photos"), memory="always", **options)
        assert sums == again


def test_a_run_with_own_views_goes_on_bit_for_bit_where_they_are_given_again(quick):
    whole = sslzoo.train("simsiam", augment=flipped, **quick)
    part = sslzoo.train("simsiam", augment=flipped, stop_after=1, **quick)
    with pytest.raises(sslzoo.UserError, match=r"made by .*flipped, which was given in Python; go on there"):
        sslzoo.resume(part.run)
    rest = sslzoo.resume(part.run, augment=flipped)
    assert rest.loss == whole.loss
    own = sslzoo.train("simsiam", stop_after=1, **quick)
    with pytest.raises(sslzoo.UserError, match="leave augment= out"):
        sslzoo.resume(own.run, augment=flipped)


@pytest.mark.parametrize(
    ("expression", "augment", "sentence"),
    [
        ("simsiam", 7, "augment cannot be 7; give a function"),
        ("simsiam jitter=0", flipped, "views.jitter would be ignored"),
        ("simsiam local_crops=2", flipped, "would be ignored"),
        ("simsiam", lambda x: x[:, :1], r"gives \[32, 1, 32, 32\], torch.float32; it has to give a view \[32, 3, 32"),
        ("simsiam", lambda x: x.numpy(), "gives a ndarray"),
        ("simsiam", lambda x: (x * 255).byte(), "torch.uint8"),
    ],
)
def test_what_makes_no_views_is_refused_and_leaves_nothing(quick, expression, augment, sentence):
    with pytest.raises(sslzoo.UserError, match=sentence):
        sslzoo.train(expression, augment=augment, **quick)
    assert not [*Path(quick["out"]).glob("*")]


# ---- callbacks


class Heard(sslzoo.Callback):
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.rows, self.evaluations = [], list[Evaluation]()

    def on_step(self, step):
        self.steps.append(step)

    def on_epoch(self, row):
        self.rows.append(row)

    def on_evaluation(self, evaluation):
        self.evaluations.append(evaluation)


def test_callbacks_hear_of_steps_epochs_and_evaluations(quick):
    heard = Heard()
    result = sslzoo.train("simsiam", callbacks=[heard], knn_every=2, **quick)
    assert [(one.epoch, one.step, one.steps) for one in heard.steps] == [
        (e, s, 4) for e in (1, 2) for s in (1, 2, 3, 4)
    ]
    table = pd.read_csv(Path(result.run) / "log.csv")
    assert [row.loss for row in heard.rows] == pytest.approx(table.loss.tolist())
    assert [(one.epoch, one.split) for one in heard.evaluations] == [(2, "val"), (2, "test")]
    assert heard.evaluations[0].knn["k20"] == pytest.approx(table.knn.dropna().iloc[-1])
    assert heard.evaluations[1].knn == result.knn


def test_a_callback_needs_one_method_alone_and_its_error_is_its_own(quick):
    class Stop:
        def on_epoch(self, row):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sslzoo.train("simsiam", callbacks=[Stop()], **quick)


def test_what_hears_nothing_is_refused(quick):
    class Typed:
        def on_batch(self, _):
            pass

    for callbacks, sentence in (
        ([Typed()], "Nothing calls Typed.on_batch"),
        ([print], "is no callback; give objects with a method on_step, on_epoch or on_evaluation"),
        ("on_step", "give a list of them"),
        (Heard(), "give a list of them"),
    ):
        with pytest.raises(sslzoo.UserError, match=sentence):
            sslzoo.train("simsiam", callbacks=callbacks, **quick)
    assert set(HEARD) == {name for name in vars(sslzoo.Callback) if name.startswith("on_")}


# ---- a run to look into


def test_a_run_has_what_its_files_have(quick):
    result = sslzoo.train("byol tau=0.9", **quick)
    run = sslzoo.Run(result.run)
    assert run.recipe.target.tau == 0.9
    assert run.recipe.method == "byol"
    assert isinstance(run.log, pd.DataFrame)
    assert run.log.epoch.tolist() == [1, 2]
    assert run.result is not None
    assert run.result.knn == result.knn
    assert run.knn(limit=128).knn["k20"] == pytest.approx(result.knn["k20"])
    assert "byol tau=0.9 on digits, 2 of 2 epochs" in repr(run)
    assert "<td>byol tau=0.9</td>" in run._repr_html_()
    titles = [axes.get_title() for axes in run.plot().axes]
    assert titles == ["loss", "kNN, k = 20", "rank of z", "std of z x sqrt(d)"]
    with pytest.raises(
        sslzoo.UserError, match=r"Run.knn\(\) has no option 'image_sizes' \(did you mean 'image_size'\?\)"
    ):
        run.knn(image_sizes=3)


def test_the_transform_gives_what_the_evaluation_sees(quick, tmp_path):
    """Features of files by hand, through the transform, are those of ``embed``."""
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = tmp_path / "photos" / ("train", "test")[i % 2] / "ab"[i // 12]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 33 + i, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    options = {**quick, "limit": None, "batch_size": 6, "image_size": 32}
    result = sslzoo.train("simsiam", data=str(tmp_path / "photos"), **options)
    run = sslzoo.Run(result.run)
    found = run.embed(cached=False).arrays["test_features"]
    files = sorted((tmp_path / "photos" / "test").rglob("*.png"))
    views = torch.stack([run.transform(Image.open(file)) for file in files])
    with torch.no_grad():
        by_hand = run.encoder(views).numpy()
    assert np.allclose(found, by_hand, atol=1e-5)
    one = np.asarray(Image.open(files[0]))
    assert torch.equal(run.transform(one), views[0])
    assert torch.equal(run.transform(torch.from_numpy(one.copy()).permute(2, 0, 1)), views[0])
    with pytest.raises(sslzoo.UserError, match="is no picture"):
        run.transform(one.astype(np.float32))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sslzoo.train("simsiam", epoch=3), r"train\(\) has no option 'epoch' \(did you mean 'epochs'\?\)"),
        (lambda: sslzoo.resume("x", agument=3), r"resume\(\) has no option 'agument' \(did you mean 'augment'\?\)"),
        (lambda: sslzoo.Run(None), "A run cannot be None"),
        (lambda: sslzoo.Run("nowhere"), "There is no run nowhere"),
        (lambda: sslzoo.encoder(None), "A run cannot be None"),
        (lambda: sslzoo.load(None), "An expression is a text or a list of texts"),
        (lambda: sslzoo.train(None), "expression cannot be None; it is a text or a list of texts"),
        (lambda: sslzoo.train("simsiam", data=7), "data= cannot be 7; give a name, a path or a Dataset"),
        (lambda: sslzoo.train("simsiam", data={1, 2}), r"data= cannot be \{1, 2\}"),
        (lambda: sslzoo.train("simsiam", data=DataLoader([1])), "give its .dataset, as a loader gives batches"),
        (lambda: sslzoo.train("simsiam", data=Photographs), "data= is the class Photographs; give one of it"),
        (lambda: sslzoo.train("simsiam", seed=None), r"seed cannot be None; it is a whole number"),
        (lambda: sslzoo.train("simsiam", epochs="3"), "epochs cannot be '3'; it is a whole number or None"),
        (lambda: sslzoo.train("simsiam", "digits"), r"train\(\) has too many positional arguments; give data= and"),
        (lambda: sslzoo.train(), "has no value for a required argument: 'expression'"),
        (lambda: sslzoo.embed("random", cached="no"), "cached cannot be 'no'; it is True or False"),
        (lambda: sslzoo.resume(5), "run cannot be 5; it is a text or a path"),
        (lambda: sslzoo.search("random", 3), "images cannot be 3; give a file, or a list of them"),
        (lambda: sslzoo.search("random", ["a"], number="3"), "number cannot be '3'; it is a whole number"),
        (lambda: sslzoo.knn([[1]], [0], [[1]], [0], k=5), r"has no option 'k' \(did you mean 'ks'\?\)"),
        (
            lambda: sslzoo.knn([[1]], [0], [[1]], [0], ks="5"),
            "ks cannot be '5'; it is a whole number or a list of whole numbers",
        ),
        (lambda: sslzoo.retrieval([[1.0]], [0], device="tpu"), "--device cannot be 'tpu'"),
    ],
)
def test_wrong_words_from_python_are_sentences(call, sentence):
    with pytest.raises(sslzoo.UserError, match=sentence):
        call()


# ---- features, neighbours and retrieval


class Photographs(torch.utils.data.Dataset):
    """A folder of pictures, a folder a class, as a Dataset."""

    classes = ("ape", "bee")

    def __init__(self, folder):
        self.files = sorted(folder.rglob("*.png"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return Image.open(self.files[i]), self.classes.index(self.files[i].parent.name)


def test_embed_search_and_retrieval_from_python(quick, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24):
        folder = tmp_path / "photos" / ("train", "test")[i % 4 == 0] / ("ape", "bee")[i // 12]
        folder.mkdir(parents=True, exist_ok=True)
        low = 0 if i < 12 else 128
        Image.fromarray(rng.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")
    found = sslzoo.embed("raw", data=str(tmp_path / "photos"))
    assert found.arrays["train_features"].shape == (18, 3 * 16 * 16)
    assert found.arrays["train_files"][0] == "train/ape/01.png"
    assert found.arrays["classes"].tolist() == ["ape", "bee"]
    near = sslzoo.search(
        "raw", tmp_path / "photos" / "test" / "bee" / "12.png", data=str(tmp_path / "photos"), number=3
    )
    assert [one.label_name for one in near.queries[0].neighbours] == ["bee"] * 3
    own = sslzoo.search(
        "raw", tmp_path / "photos" / "train" / "ape" / "01.png", data=str(tmp_path / "photos"), number=18
    )
    assert len(own.queries[0].neighbours) == 17  # all but itself
    rows = found.arrays
    scores = sslzoo.retrieval(rows["train_features"], rows["train_labels"], rows["test_features"], rows["test_labels"])
    similar = unit(rows["test_features"]) @ unit(rows["train_features"]).T
    first = rows["train_labels"][similar.argmax(axis=1)]
    assert scores["recall@1"] == pytest.approx((first == rows["test_labels"]).mean())
    alone = sslzoo.retrieval(rows["train_features"], rows["train_labels"], at=1)
    similar = unit(rows["train_features"]) @ unit(rows["train_features"]).T
    np.fill_diagonal(similar, -2)
    by_hand = rows["train_labels"][similar.argmax(axis=1)] == rows["train_labels"]
    assert alone["recall@1"] == pytest.approx(by_hand.mean())
    given = {split: Photographs(tmp_path / "photos" / split) for split in ("train", "test")}
    there = sslzoo.embed("raw", data=given).arrays
    for split in given:
        np.testing.assert_array_equal(there[f"{split}_features"], rows[f"{split}_features"])
        np.testing.assert_array_equal(there[f"{split}_labels"], rows[f"{split}_labels"])
    run = sslzoo.Run(sslzoo.train("simsiam", data=given, **{**quick, "limit": None, "batch_size": 6}).run)
    assert run.embed(given).arrays["test_features"].shape[0] == len(given["test"])
    assert run.knn(given, ks=(1,)).knn.keys() == {"k1"}
    with pytest.raises(sslzoo.UserError, match="Queries come with their labels"):
        sslzoo.retrieval(rows["train_features"], rows["train_labels"], rows["test_features"])
    with pytest.raises(sslzoo.UserError, match=r"embed\(\) has no option 'image_sizes'"):
        sslzoo.embed("raw", image_sizes=3)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# ---- data as a torch Dataset


class Photos(torch.utils.data.Dataset):
    """Pictures of one split in a folder of classes, in the order of their names, as torchvision's ImageFolder."""

    def __init__(self, folder, kind="pillow"):
        self.classes = sorted(path.name for path in folder.iterdir())
        self.files = [(file, i) for i, name in enumerate(self.classes) for file in sorted((folder / name).iterdir())]
        self.kind, self.read = kind, 0

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        self.read += 1
        file, label = self.files[i]
        with Image.open(file) as picture:
            array = np.array(picture.convert("RGB"))
        if self.kind == "array":
            return {"image": array, "label": self.classes[label]}
        if self.kind == "tensor":
            return torch.from_numpy(array).permute(2, 0, 1), label
        if self.kind == "floats":
            return torch.from_numpy(array).permute(2, 0, 1) / 255, torch.tensor(label)
        return Image.fromarray(array), label


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        place = tmp_path / "photos" / ("train", "test")[i % 4 == 0] / ("ape", "bee")[i % 2 if i % 4 else i // 4 % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20 + i % 5, 3), dtype=np.uint8)).save(place / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("kind", ["pillow", "array", "tensor", "floats"])
@pytest.mark.parametrize("memory", ["always", "never"])
def test_a_dataset_gives_the_loss_and_the_knn_of_its_folder(folders, quick, kind, memory):
    options = {**quick, "limit": None, "batch_size": 15, "image_size": 16, "workers": 1 if memory == "never" else 0}
    usual = sslzoo.train("simsiam", data=str(folders), memory=memory, **options)
    data = {split: Photos(folders / split, kind) for split in ("train", "test")}
    found = sslzoo.train("simsiam", data=data, memory=memory, **options)
    assert (found.loss, found.knn) == (usual.loss, usual.knn)
    assert [data[split].read for split in ("train", "test")] == [45, 15]  # once each


def test_a_run_on_a_dataset_goes_on_where_it_is_given_again(folders, quick):
    options = {**quick, "limit": None, "batch_size": 15, "image_size": 16}
    data = {split: Photos(folders / split) for split in ("train", "test")}
    whole = sslzoo.train("simsiam", data=data, **options)
    part = sslzoo.train("simsiam", data=data, stop_after=1, **options)
    assert sslzoo.resume(part.run, data=data).loss == whole.loss
    other = {**data, "train": data["test"]}
    part = sslzoo.train("simsiam", data=data, stop_after=1, **options)
    with pytest.raises(sslzoo.UserError, match="have changed"):
        sslzoo.resume(part.run, data=other)


def test_two_datasets_of_one_class_are_two_sets(quick):
    """A run's own data stay its own, whatever else was given since."""
    sets = [[(Image.new("RGB", (16, 16), (i * 7 % 256, shade, i)), i % 2) for i in range(40)] for shade in (0, 200)]
    runs = [sslzoo.train("simsiam", data=one, **{**quick, "limit": None}) for one in sets]
    for run, data in zip(runs, sets, strict=True):
        found = sslzoo.Run(run.run)
        assert found.knn().to_json() | {"seconds": 0} == found.knn(data).to_json() | {"seconds": 0}
    assert sslzoo.Run(runs[0].run).about.options.data != sslzoo.Run(runs[1].run).about.options.data


def test_a_dataset_without_labels_trains(quick):
    pixels = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    result = sslzoo.train("simsiam", data=torch.utils.data.TensorDataset(pixels), **{**quick, "limit": None})
    assert result.knn is None
    assert np.isfinite(result.loss)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            [torch.zeros(5, 16, 16)],
            r"The image of item 0 of train is a Tensor \[5, 16, 16\], torch.float32; it has to be",
        ),
        ([torch.full((3, 8, 8), 7.0)], "it has to be a picture of Pillow's"),
        ([(Image.new("RGB", (9, 9)), 0.5)], "The label of item 0 of train is 0.5"),
        ([{"pixels": 3}], "has pixels and no 'image'"),
        ([], "has no items"),
        ({"test": [Image.new("RGB", (9, 9))]}, "has to have 'train'"),
        ({"train": [], "dev": []}, "data has 'dev'"),
        ({"train": "photos"}, "is a str and no Dataset"),
    ],
)
def test_what_is_no_dataset_is_refused(quick, data, sentence):
    with pytest.raises(sslzoo.UserError, match=sentence):
        sslzoo.train("simsiam", data=data, **quick)


def test_an_item_that_fails_is_named(quick):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            if i == 2:
                raise OSError("the disk is gone")
            return Image.new("RGB", (9, 9))

    with pytest.raises(
        sslzoo.UserError, match=r"Item 2 of the train split cannot be read \(OSError: the disk is gone\)"
    ):
        sslzoo.train("simsiam", data=Broken(), **quick)
