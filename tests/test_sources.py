"""Where features come from: layers of runs, weights in files, published models, files of features, and the store."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sslzoo.core import backbones
from sslzoo.data.images import FileImages, MemoryImages
from sslzoo.data.splits import Split
from sslzoo.evaluation import encode, sources
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.kept import features as store
from sslzoo.evaluation.search import search
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.exchange import pretrained
from sslzoo.training import checkpoints, runs
from sslzoo.training.run import train

SMALL = EmbedOptions("digits", limit=64)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a method with a target network."""
    options = {"epochs": 1, "batch_size": 32, "limit": 64, "out": str(tmp_path_factory.mktemp("runs"))}
    return train("byol heads.dim=8 heads.hidden=16", **options)["run"]


def rows(name, **changes):
    return embed(name, EmbedOptions(**{**vars(SMALL), **changes})).arrays["train_features"]


def test_layers_and_networks_of_a_run(run):
    made = {
        (layer, network): rows(run, layer=layer, network=network)
        for layer in sources.LAYERS for network in sources.NETWORKS
    }  # fmt: skip
    assert [x.shape[1] for x in made.values()] == [2048, 2048, 8, 8]
    assert not np.allclose(made["encoder", "online"], made["encoder", "target"], atol=1e-4)
    assert np.array_equal(made["encoder", "online"], rows(run))
    assert (
        embed(run, EmbedOptions("digits", limit=64, layer="projector", network="target")).source
        == f"{run} (target projector)"
    )
    state = checkpoints.read(Path(run)).model
    net = backbones.build("small", 32)
    net.load_state_dict({k.removeprefix("copy.encoder."): v for k, v in state.items() if k.startswith("copy.encoder.")})
    assert not torch.equal(net.layers[0].weight, runs.encoder(run).layers[0].weight)


def test_layers_that_are_not_there_are_refused(run, refused, tmp_path):
    with refused("layer", "encoder or projector"):
        rows(run, layer="head")
    with refused("random is no run", "--layer"):
        rows("random", layer="projector")
    simsiam = train("simsiam", epochs=1, batch_size=32, limit=64, out=str(tmp_path))["run"]
    with refused("no target network"):
        rows(simsiam, network="target")


def test_weights_in_a_file_tell_their_backbone(run, refused, tmp_path):
    weights = runs.encoder(run).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "w.pt")
    expected = rows(run)
    for name in ("w.safetensors", "w.pt"):
        for backbone in ("small", None):
            found = rows(str(tmp_path / name), backbone=backbone)
            assert found == pytest.approx(expected, abs=0.2)  # other mean and deviation
    with refused("does not fit"):
        rows(str(tmp_path / "w.pt"), backbone="resnet18")


def test_our_own_weights_file_has_its_size_mean_and_deviation(run):
    """Faults, B: .583 for .683, where those of other data were taken in their place."""
    assert np.array_equal(rows(f"{run}/encoder.safetensors"), rows(run))
    assert np.array_equal(rows(f"{run}/encoder.safetensors", backbone="small"), rows(run))


def test_torchvisions_models_lose_their_last_layer(monkeypatch, refused):
    from torchvision import models

    real = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: real(name, weights=None))
    for name, width in (("resnet18", 512), ("squeezenet1_1", None), ("mobilenet_v3_small", 1024)):
        if width is None:
            continue
        found = pretrained.of_torchvision(name)
        assert (found.transform.size, found.transform.mean) == (224, (0.485, 0.456, 0.406))
        assert found.net.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, width)

    def offline(name, weights):
        raise OSError("no network")

    monkeypatch.setattr(models, "get_model", offline)
    with refused("weights of torchvision:resnet18", "network"):
        pretrained.of_torchvision("resnet18")
    with refused("no classifier 'resnet19'", "did you mean"):
        pretrained.of_torchvision("resnet19")


def test_features_are_made_once(monkeypatch, run):
    calls = []
    real = encode.features
    monkeypatch.setattr(encode, "features", lambda *args: calls.append(1) or real(*args))
    first = rows(run)
    made = len(calls)
    assert made == 2
    second = rows(run)
    assert len(calls) == made
    assert isinstance(second, np.memmap)
    assert np.array_equal(first, second)
    rows(run, cached=False)
    rows("raw")
    assert len(calls) == made + 4
    rows("random", seed=1)
    rows("random", seed=2)
    assert len(calls) == made + 8


def test_a_key_is_of_weights_images_and_transform(tmp_path):
    net, split = nn.Linear(2, 2), Split(MemoryImages(torch.zeros(4, 3, 2, 2, dtype=torch.uint8)))
    key = store.key(net, split, {"size": 2})
    assert store.key(net, Split(MemoryImages(split.images.pixels.clone())), {"size": 2}) == key
    assert store.key(net, split, {"size": 3}) != key
    assert store.key(net, Split(MemoryImages(split.images.pixels + 1)), {"size": 2}) != key
    with torch.no_grad():
        net.weight[0, 0] += 1
    assert store.key(net, split, {"size": 2}) != key
    file = tmp_path / "x.png"
    file.write_bytes(b"1")
    one = store.key(net, Split(FileImages((file,))), {})
    file.write_bytes(b"22")
    assert store.key(net, Split(FileImages((file,))), {}) != one


def test_an_embedding_has_the_same_numbers_from_a_file(run, loaded, tmp_path):
    direct = loaded_rows(loaded, "knn", run, "--limit", 64)
    assert loaded_rows(loaded, "embed", run, "--limit", 64, "--out", tmp_path / "f.npz")
    folder = tmp_path / "folder"
    folder.mkdir()
    with np.load(tmp_path / "f.npz") as file:
        for name in file.files:
            np.save(folder / f"{name}.npy", file[name])
    for name in (tmp_path / "f.npz", folder):
        again = loaded_rows(loaded, "knn", name)["rows"][0]
        for table in ("knn", "recall", "retrieval", "interval"):
            assert again[table] == direct["rows"][0][table]


def loaded_rows(loaded, command, *words):
    """A command's JSON; these have no --quiet."""
    import json

    from click.testing import CliRunner

    from sslzoo.cli import main

    result = CliRunner().invoke(main, [command, *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_batch_size_changes_nothing(monkeypatch, run):
    once = rows(run, cached=False)
    monkeypatch.setattr("sslzoo.views.features.BATCH", 7)
    assert rows(run, cached=False) == pytest.approx(once, abs=1e-5)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"test_features": np.ones((2, 2))}, ("lacks train_features",)),
        ({"train_features": np.ones((3, 2)), "train_labels": np.ones(2)}, ("3 train_features", "2 train_labels")),
    ],
)
def test_files_of_features_that_do_not_do_are_refused(refused, tmp_path, arrays, words):
    np.savez(tmp_path / "f.npz", **arrays)
    with refused(str(tmp_path / "f.npz"), *words):
        embed(str(tmp_path / "f.npz"), SMALL)


def test_features_without_labels_are_looked_over(run_cli, tmp_path):
    """Health numbers on standard output, and the mend on standard error."""
    np.savez(
        tmp_path / "f.npz", train_features=np.random.default_rng(0).normal(size=(50, 6)), test_features=np.ones((9, 6))
    )
    result = run_cli("knn", str(tmp_path / "f.npz"))
    assert result.exit_code == 2
    assert "std" in result.stdout
    assert "rank" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "lacks train_labels" in result.stderr


# ---- search ----------------------------------------------------------------------------------------------------------


def test_the_nearest_images(run, tmp_path):
    found = search(run, ["test:3", "train:5"], SMALL, number=4, out=tmp_path / "g.png")
    arrays = embed(run, SMALL).arrays
    unit = {k: x / np.linalg.norm(x, axis=1, keepdims=True) for k, x in arrays.items() if k.endswith("features")}
    similar = unit["train_features"] @ unit["test_features"][3]
    first, second = found.queries
    assert [one.number for one in first.neighbours] == np.argsort(-similar)[:4].tolist()
    assert first.neighbours[0].similarity == pytest.approx(similar.max(), abs=1e-5)
    assert first.label == arrays["test_labels"][3]
    assert [n.right for n in first.neighbours] == [n.label == first.label for n in first.neighbours]
    assert 5 not in [one.number for one in second.neighbours]
    assert len(second.neighbours) == 4
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_finds_itself(run, tmp_path):
    from PIL import Image

    from sslzoo.data import sets

    pixels = sets.load("digits", limit=64).bank.images.pixels[11]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "mine.png")
    (query,) = search(run, [str(tmp_path / "mine.png")], SMALL, number=2).queries
    assert query.neighbours[0].number == 11
    assert query.neighbours[0].distance == pytest.approx(0, abs=2e-3)
    assert query.label is None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("raw", "nowhere.png"), "no image nowhere.png"),
        (("raw", "test:99999"), "1440 images"),
        (("raw", "test:0", "-n", "0"), "-n cannot be 0"),
        (("raw", "test:0", "--split", "val"), "--split cannot be 'val'"),
        (("raw", "test:0", "--out", "g.jpg"), "has to end in .png"),
        (("raw", "test:0", "--out", "no/g.png"), "no folder no"),
    ],
)
def test_searches_that_cannot_be_are_refused(bad_input, words, part):
    bad_input(part, "search", *words)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("raw", "--protocol", "nope"), "no protocol 'nope'"),
        (("raw", "--protocol", "dino", "-k", "5"), "leave --protocol"),
        (("raw", "--retrieval", "some"), "--retrieval cannot be 'some'"),
        (("raw", "--map-by", "umap", "--map", "m.png"), "--map-by cannot be 'umap'"),
        (("raw", "--gallery", "g.gif"), "has to end in .png"),
        (("raw", "--limit", "64", "--index", "nonsense", "--retrieval", "none"), "faiss takes no index 'nonsense'"),
        (("raw", "--limit", "64", "--tradeoff", "t.png", "--retrieval", "none"), "--index"),
    ],
)
def test_benchmarks_that_cannot_be_are_refused(bad_input, words, part):
    bad_input(part, "knn", *words)


def test_pictures_of_a_benchmark(run, run_cli, tmp_path):
    """A gallery, a plane both ways, and indexes."""
    names = {flag: tmp_path / f"{flag}.png" for flag in ("gallery", "map", "tradeoff")}
    flags = [word for flag, path in names.items() for word in (f"--{flag}", str(path))]
    result = run_cli("knn", run, "--limit", "64", "--index", "flat", "--index", "HNSW8", "--map-by", "tsne", *flags)
    assert result.exit_code == 0, result.output
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in names.values())
    assert all(word in result.stdout for word in ("kNN on digits", "Retrieval", "HNSW8", "MAP@R"))


def test_a_cache_that_is_broken_or_cannot_be_written_costs_nothing_but_time(run, monkeypatch, tmp_path):
    expected = rows(run)
    for file in (tmp_path / "cache" / "features").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])
    assert np.array_equal(rows(run), expected)
    for file in (tmp_path / "cache" / "features").glob("*.npy"):
        file.write_bytes(b"")
    assert np.array_equal(rows(run), expected)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "file" / "below"))
    assert np.array_equal(rows(run), expected)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2), (0, 3), ()])
def test_features_of_another_shape_are_refused(bad_input, tmp_path, shape):
    np.savez(tmp_path / "f.npz", train_features=np.zeros(shape), train_labels=np.zeros(5))
    bad_input("have to be numbers [rows, columns]", "knn", str(tmp_path / "f.npz"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--seed", "-1"), "--seed cannot be -1"),
        (("--limit", "-5"), "--limit cannot be -5"),
        (("--layer", "projector"), "holds features and no network"),
        (("--gallery", "g.png"), "holds features alone"),
        (("--map", "m.png"), "too few rows or columns"),
        (("--index", "HNSW1"), "faiss takes no index 'HNSW1'"),
        (("--index", "IVF4,Flat:nprobe=0"), "IVF4,Flat:nprobe=0"),
        (("--temperature", "inf"), "finite"),
        (("--index-dir", "nowhere"), "no folder nowhere"),
    ],
)
def test_what_cannot_be_with_features_is_refused(bad_input, tmp_path, words, part):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 3
    np.savez(tmp_path / "f.npz", train_features=rng.normal(size=(40, 2)), train_labels=labels)
    bad_input(part, "knn", str(tmp_path / "f.npz"), *words)


def test_a_folder_of_one_set(loaded, tmp_path):
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(30, 4)))
    np.save(tmp_path / "labels.npy", np.arange(30) % 2)
    assert loaded_rows(loaded, "knn", tmp_path)["rows"][0]["leave_one_out"]
