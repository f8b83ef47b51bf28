"""Runs killed (SIGKILL) at random moments, checkpoint writing included: each resumes and ends as if never killed.

    python benchmarks/kills.py --runs 20
    python benchmarks/kills.py --quick --out DIR   # one run on one process and one on two, of few epochs

Each run is killed once or twice, on one process and on two, and must end bit for bit like the uninterrupted run: its
weights and all other state, its log and its kNN. Half of the kills wait for a file that is being written. Results go to
benchmarks/results/kills.json and kills.md.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from commit import commit
from compact import compact

from sslzoo.training import checkpoints
from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
METHODS = ("moco_v2", "swav", "deepcluster_v2", "dino")  # queue and average; prototypes; bank and centroids; centre
DATA = ("--limit", "320", "--batch-size", "32", "--epochs", "12", "--device", "cpu", "--checkpoint-every", "0.01m")
QUICK = ("--limit", "128", "--batch-size", "32", "--epochs", "4", "--device", "cpu", "--checkpoint-every", "0.01m")
TIMED = ("images_per_second", "seconds", "run")  # what no two runs share


def words(processes: int, *rest: str) -> list[str]:
    """A command line of sslzoo with so many processes."""
    if processes == 1:
        return [sys.executable, "-m", "sslzoo", *rest]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ("-m", "torch.distributed.run", f"--master-port={port}", f"--nproc-per-node={processes}")
    return [sys.executable, *launch, "-m", "sslzoo", *rest]


def start(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """Start a command in a session of its own, so that all of it can be killed at once."""
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that a command prints at its end."""
    out, err = process.communicate(timeout=600)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(process.args)} ended with {process.returncode}: {err}")  # type: ignore[arg-type]
    return dict(json.loads(out))


def family(leader: int) -> list[int]:
    """A process and all below it: torchrun's workers have sessions of their own, and wait for it if it dies first."""
    try:
        below = psutil.Process(leader).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [leader, *(process.pid for process in below)]


def kill(process: subprocess.Popen[str], folder: Path, draw: random.Random, whole: float) -> dict[str, Any]:
    """Kill a run with all its processes: at a random moment of its usual length, or while a file is being written."""
    writing, began = draw.random() < 0.5, time.monotonic()
    moment = draw.uniform(0.4 if draw.random() < 0.9 else 0.0, 0.9) * whole  # the first third is Python's imports
    while process.poll() is None and time.monotonic() - began < moment:
        time.sleep(0.002)
    while writing and process.poll() is None and not unfinished(folder):
        pass
    for pid in family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    return {"after": round(time.monotonic() - began, 2), "unfinished": unfinished(folder)}


def unfinished(folder: Path) -> int:
    """How many files are being written, or were when their process was killed."""
    runs = folder / "runs"
    return sum(
        name.endswith(".tmp") for run in (os.listdir(runs) if runs.is_dir() else []) for name in listed(runs / run)
    )


def listed(folder: Path) -> list[str]:
    """The names in a folder that may just vanish."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def same(run: Path, other: Path) -> bool:
    """Whether two runs ended with the same bits of state, and the same log."""
    a, b = checkpoints.read(run), checkpoints.read(other)
    names = [name for name, value in a.model.items() if isinstance(value, torch.Tensor)]
    equal = a.model.keys() == b.model.keys() and all(torch.equal(a.model[n], b.model[n]) for n in names)
    momenta = zip(a.optimizer["state"].values(), b.optimizer["state"].values(), strict=True)
    equal &= all(torch.equal(x["momentum_buffer"], y["momentum_buffer"]) for x, y in momenta)
    equal &= all(torch.equal(a.random[name], b.random[name]) for name in a.random)
    logs = [[{k: v for k, v in row.to_json().items() if k not in TIMED} for row in one.log] for one in (a, b)]
    return equal and logs[0] == logs[1]


def one(method: str, processes: int, seed: int, whole: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run that is killed once or twice and then left to end; what came of it."""
    draw, kills, fresh = random.Random(seed), list[dict[str, Any]](), ("train", method, *whole["setting"])
    for _ in range(draw.choice((1, 2))):
        begun = next(folder.glob("runs/*/run.json"), None)
        rest = fresh if begun is None else ("train", "--resume", str(begun.parent))
        kills.append(kill(start(folder, words(processes, *rest, "--quiet")), folder, draw, whole["took"]))
        listed = subprocess.run(words(1, "runs"), cwd=folder, capture_output=True, text=True, check=False)
        kills[-1]["listed"] = listed.returncode == 0  # no run directory is unreadable
        begun = next(folder.glob("runs/*/run.json"), None)
        kills[-1]["found"] = None
        if begun is not None:
            state = checkpoints.read(begun.parent)
            kills[-1]["found"] = f"epoch {state.epoch}, step {state.position}"
    begun = next(folder.glob("runs/*/run.json"), None)
    rest = fresh if begun is None else ("train", "--resume", str(begun.parent))
    end = finish(start(folder, words(processes, *rest, "--json", "--quiet")))
    equal = same(folder / end["run"], Path(whole["run"])) and all(end[k] == whole[k] for k in whole["keys"])
    left = len(list((folder / end["run"]).glob(".*.tmp")))
    return {"method": method, "processes": processes, "seed": seed, "kills": kills, "equal": equal, "left": left}


def uninterrupted(method: str, processes: int, folder: Path, setting: tuple[str, ...]) -> dict[str, Any]:
    """The run that nobody kills."""
    folder.mkdir()
    began = time.monotonic()
    found = finish(start(folder, words(processes, "train", method, *setting, "--json", "--quiet")))
    keys = [key for key in found if key not in TIMED]
    took = time.monotonic() - began
    return {**found, "run": str(folder / found["run"]), "took": took, "keys": keys, "setting": setting}


def page(result: dict[str, Any]) -> str:
    """The results as a page."""
    rows, kills = result["runs"], [kill for row in result["runs"] for kill in row["kills"]]
    torn = sum(bool(kill["unfinished"]) for kill in kills)
    ended, readable = (sum(one[key] for one in found) for key, found in (("equal", rows), ("listed", kills)))
    lines = [
        "# Killed runs", "",
        f"`python benchmarks/kills.py --runs {result['asked']}`, commit {result['commit']}, torch "
        f"{result['versions']['torch']}, CPU. {len(rows)} runs were killed {len(kills)} times with SIGKILL at random "
        f"moments, {torn} times while a file was being written (half of the kills wait for one); **{ended} of "
        f"{len(rows)} ended bit for bit like the uninterrupted run** (weights, momenta, queue, bank, prototypes, "
        f"centre, random states, log, kNN), and `sslzoo runs` could read all run directories after {readable} "
        f"of {len(kills)} kills.", "",
        "| method | processes | seed | killed after (s) | last.pt found | unfinished files | as uninterrupted |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        cells = [
            ", ".join(str(kill["after"]) for kill in row["kills"]),
            "; ".join(kill["found"] or "no run yet" for kill in row["kills"]),
            ", ".join(str(kill["unfinished"]) for kill in row["kills"]),
            "yes" if row["equal"] else "**no**",
        ]
        lines.append(f"| {row['method']} | {row['processes']} | {row['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Kill runs and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="on each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="one run on each number of processes, and few epochs")
    given = parser.parse_args()
    if given.quick and given.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    out, setting, runs = given.out or RESULTS, QUICK if given.quick else DATA, 1 if given.quick else given.runs
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for processes in given.processes:
            whole: dict[str, dict[str, Any]] = {}
            for number in range(runs):
                method = METHODS[number % len(METHODS)]
                if method not in whole:
                    whole[method] = uninterrupted(method, processes, Path(place) / f"{method}-{processes}", setting)
                seed = given.seed + number
                folder = Path(place) / f"{method}-{processes}-{seed}"
                folder.mkdir()
                rows.append(one(method, processes, seed, whole[method], folder))
                print(json.dumps(rows[-1]), flush=True)
    result = {"asked": runs, "commit": commit(), "versions": versions(), "runs": rows}
    (out / "kills.json").write_text(compact(result) + "\n")
    (out / "kills.md").write_text(page(result))
    if not all(row["equal"] and not row["left"] for row in rows):
        sys.exit("Not every run ended like the uninterrupted one.")


if __name__ == "__main__":
    main()
