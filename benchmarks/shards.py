"""A million images' embeddings as parquet shards: by two processes, one of which is killed, and searched as one source.

    python benchmarks/shards.py                    # a million files, made in a temporary folder and removed
    python benchmarks/shards.py --quick --out DIR  # a few thousand

The files are hard links of 20,000 small pictures, in train/CLASS and test/CLASS. ``torchrun -m sslzoo embed`` writes
their features with an untrained net; one process is killed once there are some shards (in a quick run, before the
first), and torchrun starts both again. Then each row is looked at: every file has to be there once, in the order of the
names, and the links of one picture have to have one picture's features, or the script ends with an error. ``sslzoo
knn`` searches the folder with an index whose lists lie on disk. Results go to benchmarks/results/shards.json and
shards.md, with what a billion rows would take.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from commit import commit
from compact import compact
from PIL import Image

from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
TESTED = 500  # one in so many files lies in test/
SIZE, NET = 16, "resnet18"  # px of a view; of 512 columns
BILLION = 1_000_000_000


def make(folder: Path, files: int, pictures: int, classes: int) -> None:
    """Write train/ and test/ with a folder a class, and so many files in all, which show so many pictures."""
    rng, source = np.random.default_rng(0), folder / "pictures"
    source.mkdir(parents=True)
    for i in range(pictures):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(source / f"{i}.bmp")
    for split in ("train", "test"):
        for number in range(classes):
            (folder / "set" / split / f"class{number:04}").mkdir(parents=True)
    for i in range(files):
        split = "train" if i % TESTED else "test"
        os.link(source / f"{i % pictures}.bmp", folder / "set" / split / f"class{i % classes:04}" / f"{i:07}.bmp")


def embed(folder: Path, processes: int, killed_at: int) -> dict[str, Any]:
    """Let processes write shards, kill one of them once there are so many, and return what it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "torch.distributed.run", f"--master-port={port}", f"--nproc-per-node={processes}"]
    words += [
        "--max-restarts=1",
        "-m",
        "sslzoo",
        "embed",
        "random",
        "--backbone",
        NET,
        "--data",
        str(folder / "set"),
        "--image-size",
    ]
    words += [str(SIZE), "--device", "cpu", "--workers", "1", "--out", str(folder / "shards"), "--json"]
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as agent:
        plan = folder / "shards" / ".shards.json"
        while not plan.exists() or len([*plan.parent.glob("part-*.parquet")]) < killed_at:
            if agent.poll() is not None:
                raise SystemExit("the processes ended before one was killed")
            time.sleep(0.05)
        found = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True).stdout
        os.kill(int(found.split()[-1]), signal.SIGKILL)
        at = time.perf_counter() - began
        out, _ = agent.communicate()
    if agent.returncode:
        raise SystemExit(f"torchrun ended with exit code {agent.returncode}")
    said, seconds = json.loads(out), time.perf_counter() - began
    size = sum(path.stat().st_size for path in (folder / "shards").glob("part-*.parquet"))
    return {
        "seconds": round(seconds, 1), "killed_after": round(at, 1), "shards": said["shards"],
        "columns": said["columns"], "bytes": size, "images": sum(said["images"].values()),
    }  # fmt: skip


def check(folder: Path, pictures: int) -> None:
    """End with an error unless each file has one row, in the order of the names, with its picture's features."""
    from pyarrow import parquet

    listed = [
        path.relative_to(folder / "set").as_posix()
        for split in ("train", "test") for path in sorted((folder / "set" / split).rglob("*.bmp"))
    ]  # fmt: skip
    first, start = np.zeros((pictures, 0)), 0
    for shard in sorted((folder / "shards").glob("part-*.parquet")):
        table = parquet.read_table(shard)
        files = table.column("file").to_pylist()
        if files != listed[start : start + len(files)]:
            raise SystemExit(f"{shard.name} has not the files {start} to {start + len(files)}")
        if {*table.column("split").to_pylist()} - {name.split("/")[0] for name in files}:
            raise SystemExit(f"{shard.name} has another split than its files")
        start += len(files)
        columns = [name for name in table.column_names if re.fullmatch(r"f\d+", name)]
        rows = np.stack([table.column(name).to_numpy() for name in columns], axis=1)
        shown = np.array([int(name.rpartition("/")[2].split(".")[0]) % pictures for name in files])
        if not first.shape[1]:
            first = np.full((pictures, rows.shape[1]), np.nan, np.float32)
        new = np.isnan(first[shown, 0])
        first[shown[new]] = rows[new]
        if not np.allclose(first[shown], rows, atol=1e-4):
            raise SystemExit(f"{shard.name} has rows that are not their picture's")
    if start != len(listed):
        raise SystemExit(f"{len(listed)} files have {start} rows")
    apart = np.abs(first[1:] - first[:-1]).max(axis=1)
    if not np.median(apart[~np.isnan(apart)]) > 1e-2:
        raise SystemExit("the pictures' features are all alike, so that nothing was compared")


def search(folder: Path, index: str) -> dict[str, Any]:
    """What ``sslzoo knn`` takes with an index over the shards, and what that finds."""
    (folder / "indexes").mkdir()
    words = [sys.executable, "-m", "sslzoo", "knn", str(folder / "shards"), "-k", "1", "--retrieval", "none", "--index"]
    words += [index, "--index-dir", str(folder / "indexes"), "--device", "cpu", "--json"]
    began, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(words, stdout=said) as child:
        while child.poll() is None:
            if found := re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text()):
                most = max(most, int(found[1]))
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {child.returncode}")
    row = json.loads(text)["rows"][0]
    lists = sum(path.stat().st_size for path in (folder / "indexes").glob("*.lists"))
    if not lists:
        raise SystemExit("no list of the index lies on disk")
    kept = ("index", "recall@10", "queries_per_second", "build_seconds")
    return {
        "seconds": round(seconds, 1), "memory": round(most / 2**10), "lists": lists, "queries": row["queries"],
        **{key: row["indexes"][0][key] for key in kept},
    }  # fmt: skip


def page(result: dict[str, Any]) -> str:
    """The results as a page."""
    made, found = result["embed"], result["search"]
    rate, times = made["images"] / made["seconds"], BILLION / made["images"]
    numbers = 4 * made["images"] * made["columns"]  # bytes, which do not shrink where no picture is there twice
    embedding, searching, building = (
        f"{seconds:,.0f} s | {hours(seconds * times)} |"
        for seconds in (made["seconds"], found["seconds"], found["build_seconds"])
    )
    lines = [
        f"# {made['images']:,} images as shards", "",
        f"`{result['command']}`, commit {result['commit']}, torch {result['versions']['torch']}, faiss "
        f"{result['versions']['faiss-cpu']}; {result['cores']} CPU cores, load {result['load']:.1f} at the end. "
        f"{result['pictures']:,} pictures of 32 px under many names, views of {SIZE} px, an untrained {NET}; one of "
        f"{result['processes']} processes was killed after {made['killed_after']:.0f} s. Every file has one row, in "
        "the order of the names, with its own picture's features.", "",
        "| | measured | a billion rows, in proportion |", "|---|---:|---:|",
        f"| embed, two processes ({rate:,.0f} images/s) | {embedding}",
        f"| shards ({made['columns']} columns of float32) | {made['shards']} | {made['shards'] * times:,.0f} |",
        f"| their size, pictures being repeated | {made['bytes'] / 2**30:.2f} GiB | |",
        f"| their numbers | {numbers / 2**30:.2f} GiB | {numbers * times / 2**40:.2f} TiB |",
        f"| `knn` with {found['index']}, {found['queries']:,} queries, exact search beside | {searching}",
        f"| of it the index is built | {building}",
        f"| its lists on disk | {found['lists'] / 2**30:.2f} GiB | {found['lists'] * times / 2**40:.2f} TiB |",
        f"| memory, beside mapped files | {found['memory'] / 2**10:.1f} GiB | temporary files where it is full |", "",
        f"The index finds {found['recall@10']:.3f} of the ten nearest and answers {found['queries_per_second']:,.0f} "
        "queries a second. More processes and machines divide the time of `embed`; a net of use takes longer than this "
        "one, by its own rate.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def hours(seconds: float) -> str:
    """Seconds as hours, or as days where there are many."""
    return f"{seconds / 3600:,.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"


def main() -> None:
    """Make the files, embed, look at each row, search, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--index", default="IVF1024,Flat:nprobe=16")
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="3,000 files of 300 pictures")
    given = parser.parse_args()
    if given.quick and given.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    files, pictures = (3000, 300) if given.quick else (given.files, given.pictures)
    out = given.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, files, pictures, classes=10 if given.quick else 1000)
        made = embed(folder, given.processes, killed_at=0 if given.quick else 5)
        print(made, flush=True)
        check(folder, pictures)
        found = search(folder, "IVF16,Flat:nprobe=16" if given.quick else given.index)
    result = {
        "files": files, "pictures": pictures, "processes": given.processes, "commit": commit(),
        "versions": versions(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
        "command": " ".join(["python benchmarks/shards.py", *([] if given.quick else sys.argv[1:])]),
        "embed": made, "search": found,
    }  # fmt: skip
    (out / "shards.json").write_text(compact(result) + "\n")
    (out / "shards.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
