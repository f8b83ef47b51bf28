"""One set in many forms: a folder, a CSV of paths, parquet, WebDataset, a Hugging Face folder and arrays."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sslzoo
from sslzoo.data import sets
from sslzoo.data.packed import index

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
    result = sslzoo.train("simsiam", **{**RUN, "data": str(data), "out": str(out), **options})
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
