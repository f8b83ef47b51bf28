"""Minutes to a kNN on CIFAR-10: from a fixed command to the end of a run whose final kNN is at least as high.

    python benchmarks/record.py cifar10.npz                         # .50, .60, .70 and .80 on two cores: hours
    python benchmarks/record.py cifar10.npz --thresholds 0.5 --seeds 1
    python benchmarks/record.py cifar10.npz --device cuda           # .85 and .90
    python benchmarks/record.py cifar10.npz --who NAME --thresholds 0.6 --words "simclr --epochs 6"   # another's row
    python benchmarks/record.py --page                              # write RECORDS.md from the figures that there are
    python benchmarks/record.py DATA --quick --out DIR              # does it run? One threshold met and one missed

Each threshold has one command, which stands below and is not changed while its seeds run: nothing is chosen on what
a run has reached. The clock is a wall clock around the whole command: the start of Python, reading the images and the
last evaluation are in it. A run that ends below its threshold, fails or is stopped at its limit is a miss, and counts.
Finished runs are kept in results/records.json and not run again. To be run on a machine that does nothing else.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from commit import commit
from compact import digits, read_rows, write_rows
from precision import processor
from results import RESULTS, mean

HERE = Path(__file__).parent
OURS = "sslzoo"
IMAGES = 50_000  # of CIFAR-10's training split
CORES = 2
FAILED = 2  # how sslzoo ends where the loss is not finite
ENDING = "--no-baselines --knn-every 1000"  # of each command: nothing is measured that the record does not ask for


@dataclass(frozen=True)
class Entry:
    """A threshold with its command, the number of seeds, and the most minutes of a run."""

    threshold: float
    words: str
    seeds: int
    limit: float = 120.0
    tuned: bool = False


ENTRIES = {
    "cpu": (
        Entry(0.50, "simclr --epochs 10", 5),
        Entry(0.60, "simclr --backbone resnet18 --precision bf16 --epochs 4", 3),
        Entry(0.70, "simclr --backbone resnet18 --precision bf16 --epochs 10", 3),
        Entry(0.80, "simclr --backbone resnet18 --precision bf16 --epochs 14", 1),
    ),
    "cuda": (
        Entry(0.85, "byol --backbone resnet18 --epochs 200", 3, 240.0),
        Entry(0.90, "byol --backbone resnet18 --epochs 800", 3, 600.0),
    ),
}
QUICK = (
    Entry(0.01, "simclr --epochs 1 --limit 128 --batch-size 32", 1),
    Entry(0.999, "simclr --epochs 1 --limit 128 --batch-size 32", 1),
)
TITLES = {"cpu": f"On {CORES} cores", "cuda": "On one GPU"}

TOP = """# Records: minutes to a kNN on CIFAR-10

How long it takes from nothing to features of a given worth, labels unseen. Made by [record.py](record.py) from
[results/records.json](results/records.json); a test holds that the two agree.

- **Data**: CIFAR-10, all 50,000 images to train on and 10,000 to test, from a copy whose **pixels were stored as JPEG**
  (quality 75), read by path from one .npz file. They are not quite the original pixels.
- **Worth**: kNN on the test split after the last epoch, k = 20, T = 0.07, cosine, the whole training split as the bank,
  features of the backbone.
- **Minutes**: a wall clock from the command to its end: the start of Python, reading, training and that evaluation.
- **Reached** is a run whose *final* kNN is at least the threshold. Each threshold has one fixed command; no epoch is
  picked and no run left out: one that ends below, fails or passes its limit is a miss, and the row says so. Minutes are
  mean ± sample deviation over the runs that reached it.
"""
ADD = """## How to add a row

With sslzoo, another expression or other options: `python benchmarks/record.py cifar10.npz --who NAME --thresholds 0.6
--words "EXPRESSION OPTIONS"`, from a commit that anyone can fetch. It runs as many seeds as the first row of that
threshold has, 0, 1, ..., and adds them to `results/records.json` and to this page.

With other code: add an object a run to `results/records.json`, with `who`, `device` ("cpu" or "cuda"), `threshold`,
`seed`, `command` (exact; SEED and DATA for what they are), `commit` (with the address of its repository), `net`,
`precision`, `epochs`, `seconds` (of the whole command), `knn` (null where the run failed), `limit` (minutes),
`processor`, `cores` and `versions`; then `python benchmarks/record.py --page` writes this page.

What holds for all: one command a threshold, written down before its seeds run; as many seeds as the first row has, all
of them in the file, misses too; no labels before kNN, no weights from elsewhere, no images but the 50,000; nothing
chosen on the test split; the clock and the kNN as above; two cores, or one GPU that is named. Rows are sorted by their
minutes below ours, which stands first. Send both files in one pull request.
"""


# ---- what the figures say --------------------------------------------------------------------------------------------


def reached(run: dict) -> bool:
    """Whether a run ended with a kNN as high as its threshold, within its limit."""
    return run["knn"] is not None and run["knn"] >= run["threshold"] and run["seconds"] <= 60 * run["limit"]


def miss(run: dict) -> str:
    """What became of a run that missed."""
    if run["seconds"] > 60 * run["limit"]:
        return f"seed {run['seed']} stopped at {run['limit']:g} min"
    return f"seed {run['seed']} failed" if run["knn"] is None else f"seed {run['seed']} ended at {run['knn']:.3f}"


def named(threshold: float) -> str:
    """A threshold as the page has it: .50, or .999."""
    return (f"{threshold:.2f}" if round(threshold, 2) == threshold else f"{threshold:g}").lstrip("0")


def minutes(runs: Sequence[dict]) -> str:
    """Mean and sample deviation of the minutes of the runs that reached their threshold."""
    times = [run["seconds"] / 60 for run in runs if reached(run)]
    if not times:
        return "not reached"
    return f"{statistics.mean(times):.1f}" + (f" ± {statistics.stdev(times):.1f}" if len(times) > 1 else "")


def row(runs: Sequence[dict], asked: int) -> str:
    """A row of the table: the runs of one command for one threshold, of so many that are asked for."""
    runs = sorted(runs, key=lambda run: run["seed"])
    one, good, known = runs[0], sum(map(reached, runs)), [run["knn"] for run in runs if run["knn"] is not None]
    told = f"{good} of {len(runs)}" + (f" ({asked} asked for)" if len(runs) < asked else "")
    if good < len(runs):
        told += f": {', '.join(miss(run) for run in runs if not reached(run))}"
    cells = [named(one["threshold"]), one["who"], minutes(runs), told, mean(known) if known else "-"]
    plan = f"{one['net']}, {one['precision']}, {one['epochs']} epochs"
    return f"| {' | '.join([*cells, plan, ', '.join(dict.fromkeys(run['commit'] for run in runs))])} |"


def grouped(runs: Sequence[dict]) -> list[list[dict]]:
    """Runs by who and command: ours first, then by mean minutes, and last what has not reached the threshold."""
    groups = [
        [run for run in runs if (run["who"], run["command"]) == key]
        for key in dict.fromkeys((run["who"], run["command"]) for run in runs)
    ]

    def order(group: list[dict]) -> tuple[bool, float]:
        times = [run["seconds"] for run in group if reached(run)]
        return group[0]["who"] != OURS, statistics.mean(times) if times else float("inf")

    return sorted(groups, key=order)


def table(runs: list[dict], device: str) -> list[str]:
    """The table of a kind of device, its machines above it and its commands below."""
    runs = [run for run in runs if run["device"] == device]
    lines = ["", f"## {TITLES[device]}", ""]
    lines += dict.fromkeys(
        f"{run['processor']}, {run['cores']} cores used; {', '.join(f'{k} {v}' for k, v in run['versions'].items())}."
        for run in runs
    )
    lines += [] if runs else ["Not measured."]
    lines += ["", "| kNN | who | minutes | reached | final kNN | net | commit |", "|---|---|---|---|---|---|---|"]
    entries = {entry.threshold: entry for entry in ENTRIES[device]}
    for threshold in sorted({*entries, *(run["threshold"] for run in runs)}):
        entry, here = entries.get(threshold), [run for run in runs if run["threshold"] == threshold]
        if not any(run["who"] == OURS for run in here):
            lines.append(f"| {named(threshold)} | {OURS} | not measured | - | - | - | - |")
        lines += [row(group, entry.seeds if entry else len(group)) for group in grouped(here)]
    lines += ["", "The commands:", ""]
    commands = dict.fromkeys((run["threshold"], run["command"]) for run in runs)
    measured = {threshold for threshold, _ in commands}
    own = [(one, command_line(one.words, device)) for one in ENTRIES[device]]
    waiting = [(one, text) for one, text in own if (one.threshold, text) not in commands]
    lines += [f"- {named(threshold)}: `{text}`" for threshold, text in sorted(commands)]
    for one, text in waiting:
        state = "to be run in place of it" if one.threshold in measured else "not measured"
        said = (
            f"{state}, {'tuned' if one.tuned else 'not yet tuned'}, seeds: {one.seeds}, at most {one.limit:g} min each"
        )
        lines.append(f"- {named(one.threshold)}: `{text}` ({said})")
    return lines


def page(runs: list[dict]) -> str:
    """The page, whatever has been measured."""
    return "\n".join([TOP.rstrip("\n"), *(line for device in ENTRIES for line in table(runs, device)), "", ADD])


# ---- what is run -----------------------------------------------------------------------------------------------------


def command_line(words: str, device: str) -> str:
    """The exact command of an entry, with words in capitals for the data and the seed."""
    return f"sslzoo train {words} {ENDING} --data DATA --seed SEED --device {device}"


def run(command: str, data: str, seed: int, limit: float) -> dict:
    """One run: its seconds, its final kNN (None where it failed or was stopped), and what it says of itself.

    A command that does not begin to train ends everything, and so does a run that somebody stops: they are no misses.
    """
    words = [{"DATA": data, "SEED": str(seed)}.get(word, word) for word in shlex.split(command)[1:]]
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-m", "sslzoo", *words, "--out", out, "--quiet", "--json"]
        began, late = time.perf_counter(), False
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            said, error = process.communicate(timeout=60 * limit)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            said, error = process.communicate()
        seconds = time.perf_counter() - began
        kept = next(Path(out).glob("*/run.json"), None)
        if kept is None or not (late or process.returncode in (0, FAILED)):
            raise SystemExit(f"{' '.join(words)}\n{error}")
        about = json.loads(kept.read_text())
    found = json.loads(said)["knn"]["k20"] if process.returncode == 0 and not late else None
    keys = {"net": "backbone", **{key: key for key in ("precision", "epochs", "images", "versions")}}
    return {"seconds": seconds, "knn": found, **{key: about[name] for key, name in keys.items()}, "on": about["device"]}


def jobs(entries: Sequence[Entry], runs: Sequence[dict], who: str, device: str) -> Iterator[tuple[Entry, str, int]]:
    """Entry, command and seed of what is still to be run; ``runs`` may grow meanwhile."""
    for entry in entries:
        command = command_line(entry.words, device)
        for seed in range(entry.seeds):
            key = (who, device, entry.threshold, command, seed)
            if key not in {tuple(one[k] for k in ("who", "device", "threshold", "command", "seed")) for one in runs}:
                yield entry, command, seed


def keep_cores(number: int) -> int:
    """Leave this process and its children so many cores; how many they are."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])
    return len(os.sched_getaffinity(0))


def uncommitted() -> bool:
    """Whether the package or the methods differ from the commit."""
    words = ["git", "status", "--porcelain", "--", "sslzoo", "methods"]
    found = subprocess.run(words, cwd=HERE.parent, capture_output=True, text=True, check=False)
    return bool(found.stdout.strip())


def chosen(args: argparse.Namespace) -> list[Entry]:
    """The entries to run, with another's words and fewer seeds where they were given."""
    entries = QUICK if args.quick else ENTRIES[args.device]
    if args.thresholds:
        known = {entry.threshold: entry for entry in entries}
        if not {*args.thresholds} <= {*known}:
            raise SystemExit(
                f"--thresholds can be {', '.join(f'{one:g}' for one in known)} with --device {args.device}."
            )
        entries = [known[one] for one in args.thresholds]
    return [
        Entry(one.threshold, args.words or one.words, args.seeds or one.seeds, one.limit, one.tuned) for one in entries
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="CIFAR-10 as an .npz file or a folder")
    parser.add_argument("--device", default="cpu", choices=[*ENTRIES])
    parser.add_argument("--thresholds", type=float, nargs="+", help="some of them; by default all of the device's")
    parser.add_argument("--seeds", type=int, help="fewer of them, for now")
    parser.add_argument("--who", default=OURS, help="whose row it is")
    parser.add_argument("--words", help="expression and options instead of the threshold's own; with --who")
    parser.add_argument("--cores", type=int, default=CORES, help="of a run on a CPU")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--out", type=Path, help="a folder for records.json and RECORDS.md, instead of their places")
    parser.add_argument("--quick", action="store_true", help="one threshold met and one missed, 128 images")
    args = parser.parse_args()
    if args.quick and args.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    if args.words and (args.who == OURS or not args.thresholds or len(args.thresholds) > 1):
        parser.error("--words needs --who NAME and one of --thresholds: a command belongs to one row")
    if args.data is None and not args.page:
        parser.error("give DATA, or --page")
    path, shown = (args.out or RESULTS) / "records.json", (args.out or HERE) / "RECORDS.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = read_rows(path)
    if args.page:
        shown.write_text(page(runs))
        return
    if not args.quick and uncommitted():
        parser.error("a record is of code as committed; commit what is under sslzoo/ and methods/ first")
    cores = keep_cores(args.cores) if args.device == "cpu" else len(os.sched_getaffinity(0))
    data = os.path.abspath(args.data)
    for entry, command, seed in jobs(chosen(args), runs, args.who, args.device):
        found = run(command, data, seed, entry.limit)
        if not args.quick and found["images"] != IMAGES:
            raise SystemExit(f"{data} has {found['images']:,} training images, and a record is of all {IMAGES:,}.")
        where = f"{processor()}, {found['on']}" if args.device == "cpu" else found["on"]
        on = {"processor": where, "cores": cores, "commit": commit()}
        key = {"who": args.who, "device": args.device, "threshold": entry.threshold, "seed": seed, "command": command}
        kept = {name: value for name, value in found.items() if name not in ("on", "images")}
        runs.append(digits({**key, "limit": entry.limit, **kept, **on}))
        write_rows(path, runs, page, shown)
        print(entry.threshold, seed, found["knn"], f"{found['seconds'] / 60:.1f} min", reached(runs[-1]), flush=True)


if __name__ == "__main__":
    main()
