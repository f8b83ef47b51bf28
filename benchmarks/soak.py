"""A long run with an evaluation every epoch: does its memory grow, or the number of its open files?

    python benchmarks/soak.py --minutes 30

Two runs beside each other: images in memory, and image files that worker processes read. Memory is a process's
resident set; its slope is a least-squares line from a quarter of the time on. SIGTERM ends the runs, which
have to save and say so by their exit code. Results go to benchmarks/results/soak.json and soak.md.
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
import psutil
from commit import commit
from PIL import Image

from sslzoo.data import digits
from sslzoo.training import checkpoints
from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
EVERY = 5.0  # seconds between two looks
COMMON = ("--knn-every", "1", "--epochs", "100000", "--device", "cpu", "--quiet")
RUNS = {
    "in memory": ("moco_v2", "--data", "digits", "--limit", "1280", "--batch-size", "64"),
    "files": ("simclr", "--data", "photos", "--image-size", "32", "--batch-size", "64", "--workers", "2"),
}


def photos(folder: Path, n: int = 640) -> None:
    """Digits as JPEGs of more pixels than a view has, so that they are streamed."""
    arrays = digits.load()
    for split, count in (("train", n), ("test", n // 4)):
        for i in range(count):
            place = folder / split / str(int(arrays[f"{split}_labels"][i]))
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(arrays[f"{split}_images"][i])
            pixels = pixels if pixels.shape[-1] == 3 else pixels.transpose(1, 2, 0)
            Image.fromarray(pixels).resize((72, 72)).save(place / f"{i}.jpg")


def look(leader: psutil.Process) -> dict[str, float]:
    """Memory in MiB and open files of a run's process, and the memory of those that read images for it."""
    found = {"memory": leader.memory_info().rss / 2**20, "files": leader.num_fds(), "readers": 0.0}
    for process in leader.children(recursive=True):
        try:
            found["readers"] += process.memory_info().rss / 2**20
        except psutil.Error:  # it has just ended
            continue
    return found


def line(seconds: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The slope of a least-squares line an hour, and its standard error."""
    (slope, _), covariance = np.polyfit(seconds / 3600, values, 1, cov=True)
    return float(slope), float(covariance[0, 0] ** 0.5)


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """What a run's looks come to, from a quarter of the time on."""
    late = [row for row in rows if row["seconds"] > rows[-1]["seconds"] / 4]
    seconds, found = np.array([row["seconds"] for row in late]), {}
    for name in ("memory", "files", "readers"):
        values = np.array([row[name] for row in late])
        slope, error = line(seconds, values)
        thirds = [float(np.median(part)) for part in np.array_split(values, 3)]
        found[name] = {"slope": slope, "error": error, "thirds": thirds, "most": float(values.max())}
    return found


def page(result: dict[str, Any]) -> str:
    """The results as a page."""
    lines = [
        "# A long run", "",
        f"`python benchmarks/soak.py --minutes {result['minutes']:g}`, commit {result['commit']}, torch "
        f"{result['versions']['torch']}, CPU; an evaluation and a checkpoint every epoch. Slopes an hour with their "
        "standard error, and medians of three parts of the time, from a quarter of it on.", "",
        "| run | epochs | memory, MiB | slope, MiB an hour | open files | slope an hour | readers, MiB | exit |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, run in result["runs"].items():
        memory, opened = run["memory"], run["files"]
        cells = [
            ", ".join(f"{part:.0f}" for part in memory["thirds"]), f"{memory['slope']:+.1f} ± {memory['error']:.1f}",
            ", ".join(f"{part:.0f}" for part in opened["thirds"]), f"{opened['slope']:+.1f} ± {opened['error']:.1f}",
            ", ".join(f"{part:.0f}" for part in run["readers"]["thirds"]),
        ]  # fmt: skip
        lines.append(f"| {name} | {run['epochs']} | {' | '.join(cells)} | {run['code']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, look, stop, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos(folder / "photos")
        start = time.monotonic()
        running = {}
        for name, words in RUNS.items():
            command = [sys.executable, "-m", "sslzoo", "train", *words, *COMMON, "--out", f"runs/{name.split()[-1]}"]
            running[name] = subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
        leaders = {name: psutil.Process(process.pid) for name, process in running.items()}
        looks: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
        while (passed := time.monotonic() - start) < 60 * given.minutes:
            time.sleep(EVERY)
            for name, leader in leaders.items():
                if running[name].poll() is not None:
                    sys.exit(f"The run with images {name} has ended with {running[name].returncode}.")
                looks[name].append({"seconds": passed, **look(leader)})
        found: dict[str, Any] = {}
        for name, process in running.items():
            process.terminate()
            code = process.wait(timeout=120)
            run = next((folder / "runs" / name.split()[-1]).iterdir())
            found[name] = {"epochs": checkpoints.read(run)["epoch"], "code": code, **summary(looks[name])}
    result = {
        "minutes": given.minutes, "commit": commit(), "versions": versions(), "runs": found, "looks": looks,
    }  # fmt: skip
    (given.out / "soak.json").write_text(json.dumps(result) + "\n")
    (given.out / "soak.md").write_text(page(result))
    print(page(result))


if __name__ == "__main__":
    main()
