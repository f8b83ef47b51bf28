"""One set in many forms: a folder, a CSV of paths, parquet, WebDataset, a Hugging Face folder and arrays."""

import csv
import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_distributed import run_in, torchrun

import sslzoo
from sslzoo.data import sets
from sslzoo.data.given.options import DataOptions
from sslzoo.data.packed import index
from sslzoo.data.survey import survey
from sslzoo.tools.errors import UserError
from sslzoo.training import checkpoints
from sslzoo.views.loading import loader
from sslzoo.views.readers import Squares

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

NAMES = ["ape", "bee", "cat"]
RUN = {"epochs": 2, "batch_size": 16, "precision": "float32", "device": "cpu", "image_size": 32}
FORMS = ["csv", "parquet", "webdataset", "shards", "hf", "hf, compressed", "npz"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 16 + 4 square pictures as PNG, in folders of splits."""
    root = tmp_path_factory.mktemp("forms") / "folder"
    rng = np.random.default_rng(0)
    for split, n in (("train", 16), ("test", 4)):
        for label in NAMES:
            (root / split / label).mkdir(parents=True)
            for i in range(n):
                small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
                small.resize((32, 32), Image.BICUBIC).save(root / split / label / f"{label} {i:02}.png")
    return root


def files(root, split):
    """The files of a split in the order of a folder, with the number of their class."""
    return [(path, NAMES.index(path.parent.name)) for path in sorted((root / split).rglob("*.png"))]


def as_csv(root, out):
    with (out / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["file", "label", "split"])
        for split in ("train", "test"):
            for i, (path, label) in enumerate(files(root, split)):
                writer.writerow(
                    [path if i % 2 else Path("..") / "folder" / path.relative_to(root), NAMES[label], split]
                )
    return out / "list.csv"


def as_parquet(root, out, compression="snappy"):
    (out / "data").mkdir()
    label = {"_type": "ClassLabel", "names": NAMES}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    for split in ("train", "test"):
        found = files(root, split)
        images = [{"bytes": path.read_bytes(), "path": path.name} for path, _ in found]
        table = pyarrow.table({"image": images, "label": [label for _, label in found]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        half = len(found) // 2
        for i, part in enumerate((table[:half], table[half:])):
            file = out / "data" / f"{split}-0000{i}-of-00002.parquet"
            parquet.write_table(part, file, row_group_size=7, compression=compression)
    return out


def as_webdataset(root, out, shards=1):
    (out / "classes.txt").write_text("\n".join(NAMES) + "\n")
    for split in ("train", "test"):
        found = files(root, split)
        for k in range(shards):
            size = -(-len(found) // shards)
            with tarfile.open(out / f"{split}-{k:03}.tar", "w") as tar:
                for i, (path, label) in enumerate(found[k * size : (k + 1) * size]):
                    for part, content in (("png", path.read_bytes()), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{k:03}/{i:05}.{part}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    return out


def as_hf(root, out, compression=None):
    """What `save_to_disk` writes, by pyarrow; `test_a_true_hf_folder` compares it."""
    label = {"_type": "ClassLabel", "names": NAMES}
    about = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    (out / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for split in ("train", "test"):
        (out / split).mkdir()
        found = files(root, split)
        images = [{"bytes": path.read_bytes(), "path": path.name} for path, _ in found]
        table = pyarrow.table({"image": images, "label": [label for _, label in found]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        options = pyarrow.ipc.IpcWriteOptions(compression=compression)
        name = "data-00000-of-00001.arrow"
        with pyarrow.ipc.new_stream(out / split / name, table.schema, options=options) as stream:
            stream.write_table(table, max_chunksize=9)
        (out / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return out


def as_npz(root, out):
    arrays = {"classes": np.array(NAMES)}
    for split in ("train", "test"):
        found = files(root, split)
        arrays[f"{split}_images"] = np.stack([np.asarray(Image.open(path)) for path, _ in found])
        arrays[f"{split}_labels"] = np.array([label for _, label in found])
    np.savez(out / "set.npz", **arrays)
    return out / "set.npz"


def made(form, root, out):
    """The set of a folder in another form."""
    out.mkdir(exist_ok=True)
    if form == "shards":
        return f"{as_webdataset(root, out, 4)}/{{train,test}}-{{000..003}}.tar"
    if form == "hf, compressed":
        return str(as_hf(root, out, "zstd"))
    makers = {"csv": as_csv, "parquet": as_parquet, "webdataset": as_webdataset, "hf": as_hf, "npz": as_npz}
    return str(makers[form](root, out))


def run(data, out, **options):
    """The losses, kNN and the weights of a run."""
    result = sslzoo.train("simsiam", **{**RUN, "data": None if data is None else str(data), "out": str(out), **options})
    lines = (Path(result["run"]) / "log.csv").read_text().splitlines()
    losses = [line.split(",")[lines[0].split(",").index("loss")] for line in lines[1:]]
    weights = sslzoo.encoder(str(result["run"])).state_dict()
    bits = {name: x.numpy().tobytes() for name, x in weights.items()}
    return losses, result["knn"], result["raw_knn"], result["random_knn"], bits


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    return run(folder, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("form", FORMS)
def test_one_set_in_many_forms_is_one_run(folder, expected, form, tmp_path):
    data = made(form, folder, folder.parent / form.replace(", ", "-"))
    assert run(data, tmp_path) == expected
    if form != "npz":
        assert run(data, tmp_path / "streamed", memory="never", workers=2) == expected


@pytest.mark.parametrize("form", FORMS[:-1])
def test_the_images_are_those_of_the_files(folder, form, tmp_path):
    """Pixels by Pillow, labels by the names of folders, in the order of the files."""
    home = tmp_path / "set"
    data = made(form, folder, folder.parent / "csv2" if form == "csv" else home)
    found = sets.find(data)
    assert found.names == tuple(NAMES)
    for split in (found.train, found.test):
        true = files(folder, "train" if split is found.train else "test")
        assert [int(label) for label in split.labels] == [label for _, label in true]
        pixels = split.images.read([*range(len(split))], 32).pixels
        assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), [np.asarray(Image.open(path)) for path, _ in true])
        assert len({*split.images.names}) == len(split)
        assert all(index.is_file(name) for name in split.images.names)


@pytest.mark.parametrize("form", ["shards", "parquet", "csv"])
def test_splits_that_are_given_apart_are_the_same_run(folder, expected, form, tmp_path):
    """`--train` and `--test` as patterns of shards and files of other folders; classes by number and by name."""
    (home := tmp_path / "set").mkdir()
    options = {}
    for split in ("train", "test"):
        (out := home / split).mkdir()
        if form == "shards":
            as_webdataset(folder, out, 4)
            options[split] = f"{out}/{split}-{{000..003}}.tar"
        elif form == "parquet":
            as_parquet(folder, out)
            options[split] = f"{out}/data/{split}-*.parquet"
        else:
            rows = [f"{path},{NAMES[label]}" for path, label in files(folder, split)]
            (out / "list.csv").write_text("\n".join(["file,label", *rows]) + "\n")
            options[split] = str(out / "list.csv")
    assert run(None, tmp_path / "runs", **options) == expected


def test_labels_of_a_table_and_images_without(folder, expected, tmp_path):
    """Shards without labels, beside a table that names their samples; half of a further shard has no row."""
    (home := tmp_path / "set").mkdir()
    as_webdataset(folder, home, 1)
    for path in home.glob("*.tar"):  # without their classes
        with tarfile.open(path) as tar:
            parts = [(m.name, tar.extractfile(m).read()) for m in tar if m.name.endswith(".png")]
        with tarfile.open(path, "w") as tar:
            for name, content in parts:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    rows = ["file,kind"]
    for split in ("train", "test"):
        rows += [f"{split}-000.tar/000/{i:05}.png,{NAMES[k]}" for i, (_, k) in enumerate(files(folder, split))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    assert run(home, tmp_path / "runs", labels=str(tmp_path / "labels.csv")) == expected
    given = DataOptions(str(home / "train-000.tar"), labels=str(tmp_path / "half.csv"), test=str(home / "test-000.tar"))
    (tmp_path / "half.csv").write_text("\n".join(row for i, row in enumerate(rows) if i == 0 or i % 2) + "\n")
    found = sets.find(given)
    assert (len(found.train), len(found.bank), len(found.test)) == (48, 24, 6)
    more = sets.find(DataOptions(str(home / "train-000.tar"), unlabelled=str(home / "test-000.tar")))
    assert (len(more.train), more.names) == (60, ())


def test_a_true_hf_folder_is_read_as_datasets_reads_it(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    parts = {}
    for split in ("train", "test"):
        found = files(folder, split)
        rows = {"image": [str(path) for path, _ in found], "label": [label for _, label in found]}
        parts[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "hf"), num_shards={"train": 3, "test": 1})
    found, true = sets.find(str(tmp_path / "hf")), datasets.load_from_disk(str(tmp_path / "hf"))
    for name, split in (("train", found.train), ("test", found.test)):
        assert split.labels.tolist() == true[name]["label"]
        pixels = split.images.read([*range(len(split))], 32).pixels
        assert np.array_equal(pixels.permute(0, 2, 3, 1).numpy(), [np.asarray(one["image"]) for one in true[name]])


def test_rows_that_say_only_where_their_file_is(folder, tmp_path):
    """As in what `load_dataset("imagefolder")` keeps in its cache."""
    found = files(folder, "train")
    images = [{"bytes": None, "path": str(path)} for path, _ in found]
    table = pyarrow.table({"image": images, "label": [NAMES[label] for _, label in found]})
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = table.set_column(0, "image", table.column(0).cast(kind))
    parquet.write_table(table, tmp_path / "x.parquet")
    read = sets.find(str(tmp_path / "x.parquet"))
    assert read.names == tuple(NAMES)
    both = {*read.train.images.names, *read.test.images.names}
    assert both == {str(path) for path, _ in found}
    assert not read.unreadable.reasons


def test_a_name_of_datasets_is_looked_up_by_it(folder, tmp_path, monkeypatch):
    """The network's edge is a stub: what `load_dataset` returns has the Arrow files of its cache."""
    home, asked = as_hf(folder, tmp_path), []

    class Part:
        def __init__(self, split):
            self.cache_files = [{"filename": str(home / split / "data-00000-of-00001.arrow")}]

    class Stub:
        @staticmethod
        def load_dataset(*words):
            asked.append(words)
            if words[0] == "gone":
                raise FileNotFoundError("Dataset 'gone' doesn't exist on the Hub\nand a second line")
            return {"train": Part("train"), "validation": Part("test"), "unsupervised": Part("test")}

    monkeypatch.setitem(sys.modules, "datasets", Stub)
    found = sets.find("hf:user/animals:small")
    assert asked == [("user/animals", "small")]
    assert (len(found.train), len(found.test), found.names) == (48, 12, tuple(NAMES))
    assert any("unsupervised is not used: 12 images" in note for note in found.notes)
    assert sets.find("hf:user/animals:label=label").names == tuple(NAMES)
    with pytest.raises(UserError, match=r"hf:gone could not be loaded \(Dataset 'gone' doesn't exist on the Hub\)"):
        sets.find("hf:gone")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("hf:x", "datasets", "hf"), ("medmnist:x", "medmnist", "medmnist"), ("x.parquet", "pyarrow", "parquet")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(name, module, extra, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"needs {module}; pip install 'sslzoo\[{extra}\]'"):
        sets.find(name)


def test_medmnist_by_name(monkeypatch):
    arrays = {split: np.random.default_rng(i).integers(0, 255, (12, 28, 28), np.uint8) for i, split in enumerate("abc")}
    asked = []

    class Blood:
        def __init__(self, split, root, size, download):
            asked.append((split, size, download))
            self.imgs = arrays["abc"[("train", "val", "test").index(split)]]
            self.labels = np.arange(12)[:, None] % 2

    class Stub:
        INFO = {  # noqa: RUF012
            "bloodmnist": {"python_class": "Blood", "label": {"0": "round", "1": "long"}},
            "nodulemnist3d": {"python_class": "Nodule3D", "label": {}},
        }

    Stub.Blood = Blood
    monkeypatch.setitem(sys.modules, "medmnist", Stub)
    found = sets.find("medmnist:bloodmnist:64")
    assert asked == [("train", 64, True), ("val", 64, True), ("test", 64, True)]
    assert found.names == ("round", "long")
    assert np.array_equal(found.train.images.pixels[:, 0, 2:30, 2:30], arrays["a"])
    Blood.__init__ = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("\n  No network.\nmore"))
    with pytest.raises(UserError, match=r"could not be downloaded into .* \(No network\); check the network"):
        sets.find("medmnist:bloodmnist")
    for name, words in (("bloodmnst", "did you mean 'bloodmnist'"), ("nodulemnist3d", "no set of pictures")):
        with pytest.raises(UserError, match=words):
            sets.find(f"medmnist:{name}")
    with pytest.raises(UserError, match="28, 64, 128 or 224"):
        sets.find("medmnist:bloodmnist:32")


def test_torchvisions_sets_by_name(folder, tmp_path, monkeypatch):
    """Of files by their paths, of pictures as PNG files in the cache, of arrays in memory: pixels by Pillow."""
    import torchvision.datasets as there

    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path))

    def opened(path):
        with Image.open(path) as image:
            return image.convert("RGB")

    class Paths:
        classes = NAMES

        def __init__(self, root, split="train", loader=opened, download=False):
            self.files, self.loader = files(folder, split), loader

        def __len__(self):
            return len(self.files)

        def __getitem__(self, place):
            path, label = self.files[place]
            return self.loader(path), label

    class Pictures(Paths):
        def __init__(self, root, split="train", download=False):
            super().__init__(root, split)

    class Arrays(Pictures):
        def __init__(self, root, train=True, download=False):
            super().__init__(root, "train" if train else "test")

    for name, kind in (("Food101", Paths), ("GTSRB", Pictures), ("KMNIST", Arrays)):
        monkeypatch.setattr(there, name, kind)
        found = sets.find(f"torchvision:{name}")
        assert found.names == tuple(NAMES)
        for split, word in ((found.train, "train"), (found.test, "test")):
            true = files(folder, word)
            pixels = split.images.read([*range(len(split))], 32).pixels
            assert np.array_equal(
                pixels.permute(0, 2, 3, 1).numpy(), [np.asarray(Image.open(path)) for path, _ in true]
            )
            assert split.labels.tolist() == [label for _, label in true]
    for name, words in (
        ("food11", "did you mean 'Food101'"),
        ("EMNIST", "say which, as in torchvision:EMNIST:letters"),
        ("Food101:x", "has no variants"),
    ):
        with pytest.raises(UserError, match=words):
            sets.find(f"torchvision:{name}")


def test_every_set_that_is_named_is_one_of_torchvisions():
    import inspect

    import torchvision.datasets as there

    from sslzoo.data.formats.torchvision_sets import SETS

    for name, how in SETS.items():
        takes = inspect.signature(getattr(there, name)).parameters
        wanted = {key for options in how.splits.values() for key in (*options, *how.more)} | {how.variant} - {""}
        open_ended = any(one.kind is one.VAR_KEYWORD for one in takes.values())
        assert open_ended or wanted - {""} <= {*takes}, name


def test_shards_go_on_inside_an_epoch_in_two_processes_with_readers(folder, tmp_path):
    """Twenty shards, two processes with two readers each: one is killed, and they go on from the last checkpoint.

    The weights are those of a run that nobody killed, and all samples were read.
    """
    out = tmp_path / "shards"
    out.mkdir()
    as_webdataset(folder, out, 20)
    words = [
        "train",
        "simclr",
        "--data",
        f"{out}/{{train,test}}-{{000..019}}.tar",
        "--batch-size",
        "8",
        "--epochs",
        "2",
    ]
    words += ["--image-size", "32", "--device", "cpu", "--memory", "never", "--workers", "2", "--quiet", "--json"]
    words += ["--checkpoint-every", "1"]
    whole = run_in(tmp_path, torchrun(2, *words, "--out", "whole"))
    assert whole.returncode == 0, whole.stderr
    command = torchrun(2, *words, "--out", "runs", max_restarts="1")
    agent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not [*tmp_path.glob("runs/*/log.csv")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    said, why = agent.communicate(timeout=200)
    assert agent.returncode == 0, why
    one, two = (tmp_path / json.loads(text)["run"] for text in (whole.stdout, said))
    first, second = (checkpoints.read(path).model for path in (one, two))
    assert all(torch.equal(x, second[name]) for name, x in first.items() if isinstance(x, torch.Tensor))
    read = json.loads((one / "images.json").read_text())["images"]
    true = {hashlib.sha1(path.read_bytes()).hexdigest() for path, _ in files(folder, "train")}
    assert {sha1 for name, sha1 in read.items() if name.startswith("train")} == true


@pytest.mark.parametrize("workers", [0, 2])
def test_each_sample_of_the_shards_comes_once_an_epoch(folder, tmp_path, workers):
    """By the places that readers of two shares were asked for, of two epochs in another order each."""
    as_webdataset(folder, tmp_path, 20)
    found = sets.load(f"{tmp_path}/train-{{000..019}}.tar", 32, memory="never").train
    n = len(found)
    orders = []
    for epoch in range(2):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).tolist()
        batches = [[(epoch, place) for place in order[i : i + 8]] for i in range(0, n, 8)]
        read = []
        for rank in range(2):
            reader = Squares(found.images, 32, 0, (rank, 2))
            for batch in loader(reader, workers, torch.device("cpu"), batch_sampler=batches):
                read += [found.images.names[place] for place in batch.places.tolist()]
        assert sorted(read) == sorted(found.images.names)
        orders.append(read)
    assert orders[0] != orders[1]


def test_a_process_that_is_sent_images_can_read_them(folder, tmp_path):
    """As readers are where processes start afresh."""
    found = sets.find(str(as_webdataset(folder, tmp_path, 2)))
    code = (
        "import pickle, sys; images = pickle.load(open(sys.argv[1], 'rb')); "
        "print(int(images.read([*range(len(images))], 32).pixels.sum(dtype=__import__('torch').int64)))"
    )
    (tmp_path / "images.pkl").write_bytes(pickle.dumps(found.train.images))
    words = [sys.executable, "-c", code, str(tmp_path / "images.pkl")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(int(np.asarray(Image.open(path)).sum()) for path, _ in files(folder, "train"))


@pytest.mark.parametrize("form", ["parquet", "webdataset", "hf"])
def test_data_check_names_what_is_in_them(folder, form, tmp_path):
    report, why = survey(made(form, folder, tmp_path / "set"))
    assert why is None
    assert report.images == 60
    assert {name: split.classes for name, split in report.splits.items()} == {
        "train": dict.fromkeys(NAMES, 16),
        "test": dict.fromkeys(NAMES, 4),
    }


def test_a_run_finds_its_data_again_from_another_folder(folder, tmp_path, monkeypatch, run_cli):
    (home := tmp_path / "here").mkdir()
    as_webdataset(folder, home, 2)
    monkeypatch.chdir(home)
    words = "train simsiam --epochs 1 --batch-size 16 --device cpu --image-size 32 --quiet --json --data"
    found = json.loads(run_cli(*words.split(), "{train,test}-{000..001}.tar").stdout)
    kept = json.loads((home / found["run"] / "run.json").read_text())["options"]["data"]
    assert kept == f"{home}/{{train,test}}-{{000..001}}.tar"
    monkeypatch.chdir(tmp_path)
    result = run_cli("knn", str(home / found["run"]), "--json")
    assert result.exit_code == 0, result.stderr
    names = run_cli("embed", str(home / found["run"]), "--out", str(tmp_path / "f.csv"))
    assert names.exit_code == 0, names.stderr
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert lines[1].startswith("train-000.tar/000/00000.png,train,ape,")
    assert len(lines) == 61
