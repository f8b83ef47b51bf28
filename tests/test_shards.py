"""Shards of embeddings: every row once and in the data's order, by any number of processes, killed or not."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_distributed import run_in, torchrun, with_one_killed

pytest.importorskip("pyarrow")
from pyarrow import parquet

WORDS = ("embed", "random", "--device", "cpu", "--image-size", "32", "--workers", "0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes in two splits, whose names have spaces and letters of many kinds; one file is broken."""
    root = tmp_path_factory.mktemp("shards") / "photos"
    rng = np.random.default_rng(0)
    for split, n in (("train", 300), ("test", 60)):
        for i in range(n):
            path = root / split / ("rose", "tulipe été")[i % 2] / f"no {i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    (root / "train" / "rose" / "no 0007 broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def table(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """What one process writes as one table."""
    place = tmp_path_factory.mktemp("table")
    done = run_in(place, [sys.executable, "-m", "sslzoo", *WORDS, "--data", str(photos), "--out", "one.csv"])
    assert done.returncode == 0, done.stderr
    with open(place / "one.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return {name: [*column] for name, column in zip(head, zip(*rows, strict=True), strict=True)}


def check(folder: Path, table: dict[str, list], photos: Path) -> list[Path]:
    """Compare the shards of a folder with the table, and return them."""
    shards = sorted(folder.glob("*.parquet"))
    rows = [parquet.read_table(one).to_pydict() for one in shards]
    for name, column in table.items():
        there = [value for part in rows for value in part[name]]
        if name in ("file", "split", "label"):
            assert there == column
        else:
            wanted = [None if value == "" else float(value) for value in column]
            assert [x is None for x in there] == [x is None for x in wanted]
            np.testing.assert_allclose([x for x in there if x is not None],
                                       [x for x in wanted if x is not None], atol=1e-5)  # fmt: skip
    files = [value for part in rows for value in part["file"]]
    listed = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert sorted(files) == listed  # every file once
    return shards


def test_each_process_writes_a_shard(photos: Path, table: dict[str, list], tmp_path: Path) -> None:
    done = run_in(tmp_path, torchrun(2, *WORDS, "--data", str(photos), "--out", "shards", "--json"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)  # one object: one process speaks
    assert said["images"] == {"train": 301, "test": 60}
    assert (said["shards"], said["written"], said["kept"]) == (2, 1, 0)
    assert len(check(tmp_path / "shards", table, photos)) == 2
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
    words = [sys.executable, "-m", "sslzoo", *WORDS, "--data", str(photos), "--out", "shards", "--json"]
    again = json.loads(run_in(tmp_path, words).stdout)  # by one process
    assert (again["shards"], again["written"], again["kept"]) == (2, 0, 2)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()} == before
    one = tmp_path / "shards" / "part-000001.parquet"
    one.unlink()
    again = json.loads(run_in(tmp_path, words).stdout)
    assert (again["written"], again["kept"]) == (1, 1)
    check(tmp_path / "shards", table, photos)


def test_a_process_that_is_killed_is_started_again(photos: Path, table: dict[str, list], tmp_path: Path) -> None:
    """Its unfinished shard is gone, and each row is there once."""
    words = (*WORDS, "--data", str(photos), "--out", "shards")
    script = (
        "import sys; from sslzoo.evaluation.written import shards; shards.ROWS = 20; "
        "from sslzoo.cli import main; main(sys.argv[1:])"
    )
    (tmp_path / "small_shards.py").write_text(script)
    command = torchrun(2, *words, max_restarts="3")
    at = command.index("-m", 3)
    command[at : at + 2] = ["small_shards.py"]
    with_one_killed(command, tmp_path, "shards/part-000003.parquet")
    assert len(check(tmp_path / "shards", table, photos)) == 19
    assert not [*(tmp_path / "shards").glob(".*.tmp")]


def test_shards_are_one_source(photos: Path, tmp_path: Path) -> None:
    """kNN over the shards has the numbers of the one file, with any index, kept on disk or not."""
    for out in ("one.npz", "one.parquet"):
        run_in(tmp_path, [sys.executable, "-m", "sslzoo", *WORDS, "--data", str(photos), "--out", out])
    assert run_in(tmp_path, torchrun(3, *WORDS, "--data", str(photos), "--out", "shards")).returncode == 0
    (tmp_path / "indexes").mkdir()
    rows = []
    for source in ("one.npz", "one.parquet", "shards"):
        words = ("knn", source, "--index", "IVF4,Flat:nprobe=4", "--index-dir", "indexes", "--json")
        done = run_in(tmp_path, [sys.executable, "-m", "sslzoo", *words])
        assert done.returncode == 0, done.stderr
        row = json.loads(done.stdout)["rows"][0]
        assert row["indexes"][0]["recall@10"] == 1  # all lists are looked at
        rows.append({"knn": row["knn"], "retrieval": row["retrieval"], "dimension": row["dimension"]})
    assert rows[1] == rows[2]
    assert rows[0]["knn"] == pytest.approx(rows[1]["knn"], abs=1e-9)
    assert [*(tmp_path / "indexes").glob("*.lists")]


def test_shards_of_other_rows_stay(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from sslzoo.cli import main

    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")

    def said(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, "--device", "cpu", "--workers", "0"])
        assert done.exit_code == (2 if done.stderr.startswith("Error") else 0)
        assert done.stderr.count("\n") <= 1
        return done.stderr + done.stdout

    assert "361 rows [" in said("embed", "random", "--data", "photos", "--out", "s")
    kept = Path("s/part-000000.parquet").read_bytes()
    assert "not the same source" in said("embed", "colours", "--data", "photos", "--out", "s")
    assert "not the same network" in said("embed", "random", "--seed", "1", "--data", "photos", "--out", "s")
    Path("photos/test/rose/one more.png").write_bytes(Path("photos/test/rose/no 0000.png").read_bytes())
    assert "not the same names" in said("embed", "random", "--data", "photos", "--out", "s")
    assert Path("s/part-000000.parquet").read_bytes() == kept
    assert "362 rows [" in said("embed", "random", "--data", "photos", "--out", "s", "--force")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert "holds files that are no shards" in said("embed", "random", "--data", "photos", "--out", "full", "--force")
    assert "There is no folder gone" in said("embed", "random", "--data", "photos", "--out", "gone/s")
    assert "holds features and no network" in said("embed", "s", "--out", "t")


def test_several_labels_and_unlabelled_splits_have_one_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are the same in all shards, whatever a shard has of labels."""
    import sslzoo.evaluation.written.shards as written
    from sslzoo.evaluation.sources import EmbedOptions

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    marks = rng.integers(0, 2, (20, 3))
    np.savez("many.npz", train_images=images, train_labels=marks, test_images=images[:7])
    monkeypatch.setattr(written, "ROWS", 4)
    done = written.embed_in_shards("raw", EmbedOptions(data="many.npz", device="cpu", workers=0), Path("s"))
    assert (done.shards, done.columns) == (7, 768)
    tables = [parquet.read_table(one) for one in sorted(Path("s").iterdir()) if one.suffix == ".parquet"]
    assert len({tuple(one.column_names) for one in tables}) == 1
    rows = [row for one in tables for row in one.to_pylist()]
    assert [row["split"] for row in rows] == ["train"] * 20 + ["test"] * 7
    assert [[int(row[f"label:{i}"]) for i in range(3)] for row in rows[:20]] == marks.tolist()
    assert all(row["label:0"] is None for row in rows[20:])
    np.testing.assert_allclose([[row[f"f{i}"] for i in range(768)] for row in rows[:20]],
                               images.transpose(0, 3, 1, 2).reshape(20, -1) / 255, atol=1e-6)  # fmt: skip


def test_one_file_is_written_by_one_process(photos: Path, tmp_path: Path) -> None:
    done = run_in(tmp_path, torchrun(2, *WORDS, "--data", str(photos), "--out", "one.npz"))
    assert done.returncode != 0
    assert done.stderr.count("--out one.npz is written by one process; give a folder") == 1
    assert not (tmp_path / "one.npz").exists()
