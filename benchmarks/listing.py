"""A folder of very many image files: seconds and memory until a run knows what it holds, at its first start and later.

    python benchmarks/listing.py                    # a million files, made in a temporary folder and removed
    python benchmarks/listing.py --quick --out DIR  # a few thousand

The files are hard links of a few small JPEGs, in train/CLASS and test/CLASS. What is measured is `sets.load` in a new
process, less the loading of libraries: all that ``sslzoo train --dry-run`` has to do with data. It is given the whole,
where nothing of most files is read, and train/ alone, where a test split is held out by the hash of each file's
content: these are read at the first start, and later their sizes and times are looked at. The system's file cache is
warm, as the files have just been made. Results go to benchmarks/results/listing.json and listing.md.
"""

import argparse
import json
import os
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
PICTURES = 50  # of which the files are links
MOST_LINKS = 50_000  # of one file; a file system has a bound
TESTED = 20  # one in so many files lies in test/
LATER = 3  # later starts, of which the median counts
SETTLED = 3  # seconds after which a file's times are believed


def make(folder: Path, files: int, classes: int) -> None:
    """Write train/ and test/ with a folder a class, and so many files in all."""
    rng, source = np.random.default_rng(0), folder / "pictures"
    source.mkdir(parents=True)
    for split in ("train", "test"):
        for number in range(classes):
            (folder / "set" / split / f"class{number:04}").mkdir(parents=True)
    for i in range(files):
        picture = source / f"{i // (PICTURES * MOST_LINKS)}-{i % PICTURES}.jpg"
        if not picture.exists():
            noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(picture)
        split = "train" if i // classes % TESTED else "test"
        os.link(picture, folder / "set" / split / f"class{i % classes:04}" / f"image_{i:07}.jpg")
    time.sleep(SETTLED)


CHILD = """
import json, re, sys, time
from pathlib import Path
from sslzoo.data import sets

def memory():  # the most so far; what `resource` says counts the parent's
    return round(int(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]) / 2**10)

libraries, began, cpu = memory(), time.perf_counter(), time.process_time()
data = sets.load(sys.argv[1], memory="never")
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
found = {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "memory": memory() - libraries, "libraries": libraries}
print(json.dumps({**found, "images": sum(map(len, data.splits.values()))}))
"""


def start(data: Path, cache: Path) -> dict[str, Any]:
    """Wall and CPU seconds and MiB that a new process takes to know a data set, and its number of images."""
    environment = {**os.environ, "SSLZOO_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", CHILD, str(data)]
    said = subprocess.run(words, stdout=subprocess.PIPE, env=environment, check=True).stdout
    found: dict[str, Any] = json.loads(said)
    return found


def walked(folder: Path) -> dict[str, Any]:
    """Wall and CPU seconds of `os.walk`, which only lists."""
    began, cpu = time.perf_counter(), time.process_time()
    found = sum(len(names) for _, _, names in os.walk(folder))
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu": round(time.process_time() - cpu, 2),
        "files": found,
    }


def median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the median seconds."""
    return sorted(rows, key=lambda row: row["seconds"])[len(rows) // 2]


def page(result: dict[str, Any]) -> str:
    """The results as a page."""
    walk = result["walk"]
    lines = [
        f"# A folder of {result['files']:,} image files", "",
        f"`{result['command']}`, commit {result['commit']}, torch {result['versions']['torch']}, "
        f"{result['cores']} CPU cores, load {result['load']:.1f} at the end. What a run does until it "
        f"knows its data, of {result['classes']:,} classes, with `--memory never`; libraries are loaded before. Of "
        f"{LATER} later starts the median one. Files of train/ alone have to be read at the first start, since a test "
        f"split is held out by their hash. `os.walk` takes {walk['seconds']:.2f} s ({walk['cpu']:.2f} s of CPU).", "",
        "| folder | images | start | seconds | CPU seconds | MiB, beside libraries |", "|---|---:|---|---:|---:|---:|",
    ]  # fmt: skip
    for name, starts in result["starts"].items():
        for word, row in starts.items():
            numbers = f"{row['seconds']:.1f} | {row['cpu']:.1f} | {row['memory']:,}"
            lines.append(f"| {name} | {row['images']:,} | {word} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the files, start, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="5,000 files of 10 classes")
    given = parser.parse_args()
    if given.quick and given.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    files, classes = (5000, 10) if given.quick else (given.files, given.classes)
    out = given.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, files, classes)
        walk = walked(folder / "set")
        starts: dict[str, dict[str, Any]] = {}
        for name, data in (("train/ and test/", folder / "set"), ("train/ alone", folder / "set" / "train")):
            rows = [start(data, folder / "cache") for _ in range(1 + LATER)]
            starts[name] = {"first": rows[0], "later": median(rows[1:])}
    result = {
        "files": files, "classes": classes, "commit": commit(), "versions": versions(), "cores": os.cpu_count(),
        "command": " ".join(["python benchmarks/listing.py", *([] if given.quick else sys.argv[1:])]),
        "load": round(os.getloadavg()[0], 1), "walk": walk, "starts": starts,
    }  # fmt: skip
    (out / "listing.json").write_text(compact(result) + "\n")
    (out / "listing.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
