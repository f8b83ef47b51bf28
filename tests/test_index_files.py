"""Indexes in a folder: found again wherever it lies, checked before faiss reads them, built anew where damaged."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from sslzoo.cli import main
from sslzoo.evaluation.kept.indexes import index_of
from sslzoo.metrics import index
from sslzoo.metrics.rows import unit_rows
from sslzoo.tools import output
from sslzoo.tools.errors import UserError

RNG = np.random.default_rng(0)
BANK, QUERIES = (unit_rows("rows", RNG.standard_normal((n, 12))) for n in (600, 9))
KINDS = ["IVF4,Flat:nprobe=4", "HNSW8", "OPQ4,IVF4,PQ4x4", "IVF4,PQ4x4fs"]


def found(kept):
    return kept.index.search(QUERIES, 5)[1]


@pytest.fixture(params=KINDS)
def kept(request, tmp_path):
    """A folder with an index of a kind, and what it finds."""
    folder = tmp_path / "indexes"
    folder.mkdir()
    first = index_of(BANK, request.param, folder)
    assert first.build_seconds > 0
    assert first.anew is None
    return folder, request.param, found(first)


def test_found_again_from_another_working_directory(kept, monkeypatch):
    folder, spec, expected = kept
    monkeypatch.chdir(folder.parent)
    again = index_of(BANK, spec, Path("indexes"))
    assert (again.build_seconds, again.anew) == (0, None)
    assert np.array_equal(found(again), expected)


def test_found_again_after_the_folder_moved(kept):
    folder, spec, expected = kept
    there = folder.rename(folder.parent / "elsewhere")
    again = index_of(BANK, spec, there)
    assert (again.build_seconds, again.anew) == (0, None)
    assert np.array_equal(found(again), expected)
    assert not folder.exists()


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def turn(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "cut": cut, "a bit turned": turn, "empty": lambda path: path.write_bytes(b""), "removed": Path.unlink,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["faiss", "lists", "json"])
@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_built_anew_and_that_is_said(tmp_path, suffix, how):
    first = found(index_of(BANK, KINDS[0], tmp_path))
    (path,) = tmp_path.glob(f"*.{suffix}")
    whole = path.read_bytes()
    DAMAGE[how](path)
    if how == "a folder":
        with pytest.raises(UserError, match="cannot be written"):
            index_of(BANK, KINDS[0], tmp_path)
        return
    again = index_of(BANK, KINDS[0], tmp_path)
    assert again.build_seconds > 0
    assert "it was built anew" in again.anew
    assert np.array_equal(found(again), first)
    assert suffix == "json" or path.read_bytes() == whole
    assert index_of(BANK, KINDS[0], tmp_path).build_seconds == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"files": 3}', '{"format": 2}', "[" * 100_000])
def test_a_list_of_files_that_is_none_lets_nothing_be_read(tmp_path, content):
    index_of(BANK, "HNSW8", tmp_path)
    (path,) = tmp_path.glob("*.json")
    path.write_text(content)
    assert "it was built anew" in index_of(BANK, "HNSW8", tmp_path).anew


def test_a_list_that_names_other_files_is_none(tmp_path):
    index_of(BANK, "HNSW8", tmp_path)
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    (tmp_path / "secret").write_text("x")
    content["files"]["../secret"] = {"bytes": 1, "sha256": "0"}
    path.write_text(json.dumps(content))
    assert "is not listed" in index_of(BANK, "HNSW8", tmp_path).anew


def test_an_index_of_other_rows_is_another_one(tmp_path):
    index_of(BANK, "HNSW8", tmp_path)
    other = index_of(BANK[::-1].copy(), "HNSW8", tmp_path)
    assert other.build_seconds > 0
    assert other.anew is None
    assert len(list(tmp_path.glob("*.faiss"))) == 2


MUTATIONS = """
import random, resource, signal, sys
from pathlib import Path
import numpy as np
from sslzoo.evaluation.kept.indexes import index_of
from sslzoo.metrics.rows import unit_rows
from sslzoo.tools.errors import UserError
rng, dice = np.random.default_rng(0), random.Random(0)
bank = unit_rows("rows", rng.standard_normal((60, 6)))
folder, anew = Path(sys.argv[1]), 0
for kind in ("IVF2,Flat:nprobe=2", "HNSW4"):
    expected = index_of(bank, kind, folder).index.search(bank, 3)
    paths = sorted(folder.iterdir())
    whole = {path: path.read_bytes() for path in paths}
    for turn in range(200):
        path = paths[turn % len(paths)]
        content = bytearray(whole[path])
        for _ in range(dice.choice([1, 1, 1, 8])):
            at = dice.randrange(len(content))
            content[at] = dice.choice([content[at] ^ (1 << dice.randrange(8)), 0, 255])
        how = dice.randrange(4)
        content = content[: dice.randrange(len(content))] if how == 0 else content
        path.unlink()  # another index may have the old one mapped
        path.write_bytes(bytes(content))
        again = index_of(bank, kind, folder)
        assert (again.index.search(bank, 3)[1] == expected[1]).all(), (kind, path, turn)
        anew += again.anew is not None
    for path in paths:
        path.unlink(missing_ok=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for kind in ("IVF2,Flat:nprobe=2", "HNSW4", "Flat"):
    try:
        index_of(np.tile(bank, (9, 1)), kind, folder)
    except UserError as error:
        assert "ulimit -f" in str(error), error
    assert not [path for path in folder.iterdir()]
print("anew", anew)
"""


def test_no_mutated_file_ends_the_process_or_changes_a_number(tmp_path):
    """400 of them, and a limit on files, in a process of their own, since faiss cannot be trusted."""
    done = subprocess.run(
        [sys.executable, "-c", MUTATIONS, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 380  # some bytes were what they are written to be


@pytest.mark.parametrize("kind", ["IVF4,Flat", "HNSW8"])
def test_a_full_disk_is_said_before_faiss_meets_it(tmp_path, monkeypatch, refused, kind):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with refused("MiB free", "make room or choose another --index-dir"):
        index_of(BANK, kind, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["IVF4,Flat", "HNSW8"])
def test_a_limit_on_files_is_said_before_faiss_meets_it(tmp_path, monkeypatch, refused, kind):
    monkeypatch.setattr(index, "file_limit", lambda: 1000)
    with refused("ulimit -f"):
        index_of(BANK, kind, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_limit_on_files_is_the_processes(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12345, resource.RLIM_INFINITY))
    assert output.file_limit() == 12345
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert output.file_limit() is None


def test_lists_that_memory_does_not_hold_are_made_in_their_file(tmp_path, monkeypatch):
    """They find the same."""
    expected = found(index_of(BANK, KINDS[0], None))
    monkeypatch.setattr(index.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert np.array_equal(found(index_of(BANK, KINDS[0], tmp_path)), expected)
    assert np.array_equal(found(index_of(BANK, KINDS[0], tmp_path)), expected)


@pytest.mark.parametrize("spec", [
    "HNSW1000000000", "HNSW1", "HNSW0", "IVF1000000000,Flat", "IVF0,Flat", "IVF4_HNSW1000000000,Flat", "NSG2", "NSG32",
    "IVF4_NSG8,Flat", "RR1000000000,Flat", "OPQ4_1000000000,PQ4", "Pad1000000000,Flat", "PCA1000000000,Flat",
    "PQ4x40", "LSH1000000000", "IVF" + "9" * 500 + ",Flat",
    "HNSW8:efSearch=0", "HNSW8:efSearch=-1", "HNSW8:efSearch=999999999", "HNSW8:efSearch=1e9", "HNSW8:efSearch=nan",
    "HNSW8:efSearch=", "IVF4,Flat:nprobe=0", "IVF4,Flat:nprobe=-1", "IVF4,Flat:nprobe=1.5",
    "IVF4_HNSW8,Flat:quantizer_efSearch=0", "IVF4,Flat:nprobe=2,nprobe=0",
])  # fmt: skip
def test_indexes_out_of_bounds_are_refused(spec):
    """In one sentence that names it, or the number, before faiss allocates anything."""
    with pytest.raises(UserError) as caught:
        index_of(BANK, spec, None)
    message = str(caught.value)
    assert len(message) < 700
    assert any(word in message for word in ("try flat", "out of bounds", "cannot be", "take HNSW32")), message


@pytest.mark.parametrize("spec", ["HNSW8:efSearch=512", "IVF4,Flat:nprobe=4", "HNSW512", "PCA4,Flat", "PQ4x4", "SQ8"])
def test_indexes_within_bounds_are_taken(spec):
    assert found(index_of(BANK, spec, None)).shape == (9, 5)


def test_standard_output_is_one_object_whatever_faiss_prints(tmp_path, capfd):
    arrays = {"train_features": BANK, "train_labels": np.arange(600) % 3, "test_features": QUERIES,
              "test_labels": np.arange(9) % 3}  # fmt: skip
    np.savez(tmp_path / "f.npz", **arrays)
    folder = tmp_path / "indexes"
    folder.mkdir()
    words = ["knn", str(tmp_path / "f.npz"), "--index", KINDS[0], "--index", "PQ4x4", "--index-dir", str(folder)]
    for _ in range(2):
        done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["rows"][0]["indexes"][0]["recall@10"] == 1
        assert capfd.readouterr().out == ""
    cut(next(folder.glob("*.lists")))
    done = CliRunner().invoke(main, words)
    assert "is not as it was written; it was built anew" in done.stderr


def test_what_a_library_prints_from_below_goes_to_standard_error(capfd):
    import ctypes
    import os

    libc = ctypes.CDLL(None)
    print("before")
    with output.printing_to_stderr():
        os.write(1, b"from a descriptor\n")
        libc.puts(b"from C")
    print("after")
    out, err = capfd.readouterr()
    assert out.split() == ["before", "after"]
    assert "from a descriptor" in err
    assert "from C" in err
