"""A long run with an evaluation every epoch: does its memory grow, or the number of its open files?

    python benchmarks/soak.py --minutes 30
    python benchmarks/soak.py --quick --out DIR   # ten seconds

Two runs beside each other: images in memory, and image files that worker processes read. Once both have saved, the
time begins. Memory is a process's resident set; its slope is a least-squares line from a quarter of the time on.
SIGTERM ends the runs, which have to save and say so by their exit code. Results go to benchmarks/results/soak.json and
soak.md.
"""

import argparse
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
from compact import compact
from photos import photos

from sslzoo.training import checkpoints
from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
STOPPED = 75  # what a run ends with that was stopped and has saved
COMMON = ("--knn-every", "1", "--epochs", "100000", "--device", "cpu", "--quiet")
RUNS = {
    "in memory": ("moco_v2", "--data", "digits", "--limit", "1280", "--batch-size", "64"),
    "files": ("simclr", "--data", "photos", "--image-size", "32", "--batch-size", "64", "--workers", "2"),
}


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


def begun(folder: Path) -> bool:
    """Whether every run has saved."""
    return len(list(folder.glob("runs/*/*/last.pt"))) == len(RUNS)


def main() -> None:
    """Run, look, stop, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="ten seconds, a look in each")
    given = parser.parse_args()
    if given.quick and given.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    out, minutes, every = given.out or RESULTS, 1 / 6 if given.quick else given.minutes, 1.0 if given.quick else 5.0
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        photos(folder / "photos")
        running = {}
        for name, words in RUNS.items():
            command = [sys.executable, "-m", "sslzoo", "train", *words, *COMMON, "--out", f"runs/{name.split()[-1]}"]
            running[name] = subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            looks = watch(running, folder, 60 * minutes, every)
        except BaseException:
            for process in running.values():
                process.kill()
            raise
        found: dict[str, Any] = {}
        for name, process in running.items():
            process.terminate()
            code = process.wait(timeout=120)
            run = next((folder / "runs" / name.split()[-1]).iterdir())
            found[name] = {"epochs": checkpoints.read(run).epoch, "code": code, **summary(looks[name])}
    result = {"minutes": minutes, "commit": commit(), "versions": versions(), "runs": found}
    (out / "soak.json").write_text(compact(result) + "\n")
    (out / "soak.md").write_text(page(result))
    print(page(result))
    if bad := {name: run["code"] for name, run in found.items() if run["code"] != STOPPED}:
        sys.exit(f"Not every run ended with {STOPPED}, stopped and saved: {bad}.")


def watch(
    running: dict[str, subprocess.Popen[bytes]], folder: Path, seconds: float, every: float
) -> dict[str, list[dict[str, float]]]:
    """What the runs were seen to hold, from when all have saved on."""
    leaders = {name: psutil.Process(process.pid) for name, process in running.items()}
    looks: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    start = None
    while start is None or time.monotonic() - start < seconds:
        time.sleep(every)
        for name, process in running.items():
            if process.poll() is not None:
                sys.exit(f"The run with images {name} has ended with {process.returncode}.")
        if start is None:
            start = time.monotonic() if begun(folder) else None
            continue
        for name, leader in leaders.items():
            looks[name].append({"seconds": time.monotonic() - start, **look(leader)})
    return looks


if __name__ == "__main__":
    main()
