"""Train named runs over seeds and write a table of what they reached, with protocol, device and versions.

    python benchmarks/results.py digits                # the default data set: methods, and SimSiam's stop-gradient
    python benchmarks/results.py zoo                   # every method on digits, with few epochs
    python benchmarks/results.py cifar DATA [DATA...]  # SimCLR on real images: an .npz or folders
    python benchmarks/results.py digits --jobs 2 --threads 1 --seeds 3
    python benchmarks/results.py zoo --quick --out DIR # two expressions, one seed, an epoch of 128 images

Each row is the last epoch's kNN (k = 20) on the test split; nothing is chosen on it. Finished runs are kept in the JSON
file beside the table and not run again.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from commit import commit
from compact import read_rows, write_rows

import sslzoo
from sslzoo.recipes.recipe import method_names

RESULTS = Path(__file__).parent / "results"
DIGITS = [
    "simsiam",
    "byol",
    "simclr",
    "swav",
    "simsiam - stop_gradient",
    "simsiam batchnorm=hidden",
    "simsiam - stop_gradient batchnorm=hidden",
]
ZOO_VIEWS = 24  # each image's views that a run of the zoo sees: 12 epochs of two, 6 of four
QUICK = ["--epochs", "1", "--limit", "128", "--batch-size", "32"]
COLUMNS = ("knn", "random_knn", "raw_knn", "std", "rank", "loss", "seconds")


def epochs_of(what: str, expression: str) -> list[str]:
    """The option that cuts a run short, so that every method of the zoo sees the same number of views."""
    views = sslzoo.load(expression).views
    return ["--epochs", str(ZOO_VIEWS // views.targets)] if what == "zoo" else []


def run(expression: str, data: str, seed: int, threads: int, more: list[str]) -> dict:
    """One run by the command line, as a person would type it."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sslzoo", "train", expression, "--data", data, "--seed", str(seed), *more]
        done = subprocess.run([*command, "--out", out, "--json"], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        result = json.loads(done.stdout)
        about = json.loads((Path(result["run"]) / "run.json").read_text())
    result |= {"knn": result["knn"]["k20"], "seed": seed, "expression": expression}
    row = {key: result[key] for key in ("seed", "expression", "data", "epochs", "images_per_second", *COLUMNS)}
    row |= {key: about[key] for key in ("batch_size", "device", "versions")}
    return {**row, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def mean(values: list[float]) -> str:
    """Mean and sample deviation."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def titled(what: str) -> str:
    """The title of a table."""
    return "Every method on digits" if what == "zoo" else f"kNN on {what}"


def markdown(title: str, what: str, rows: list[dict]) -> str:
    """The table, its protocol above it."""
    one = rows[0]
    runs = dict.fromkeys(
        f"{', '.join(f'{name} {number}' for name, number in row['versions'].items())}; commit {row['commit']}"
        for row in rows
    )
    option = " --epochs EPOCHS" if what == "zoo" else ""
    lines = [
        f"# {title}",
        "",
        f"Device: {one['device']}, {one['machine']}, {one['jobs']} runs at a time.",
        *(f"Versions: {versions}." for versions in runs),
        f"Protocol: `sslzoo train EXPRESSION --data DATA --seed SEED{option}` and no other option; the last epoch;",
        "kNN on the test split, k = 20, T = 0.07, the whole un-augmented training split as the bank, exact search.",
        "Mean ± sample deviation over the seeds; std is times sqrt(d). Seconds are of a run with others beside it.",
        "",
        "| data | expression | seeds | epochs | batch | kNN | untrained | raw | std | rank | loss | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for data, expression in dict.fromkeys((row["data"], row["expression"]) for row in rows):
        same = sorted((r for r in rows if (r["data"], r["expression"]) == (data, expression)), key=lambda r: r["seed"])
        cells = [mean([row[key] for row in same]) for key in COLUMNS[:-1]]
        seconds = f"{statistics.mean(row['seconds'] for row in same):.0f}"
        seeds = ", ".join(str(row["seed"]) for row in same)
        numbers = [seeds, str(same[0]["epochs"]), str(same[0]["batch_size"]), *cells, seconds]
        lines.append(f"| {data} | `{expression}` | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["digits", "cifar", "zoo"])
    parser.add_argument("data", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--expressions", nargs="+", help="instead of the usual ones")
    parser.add_argument("--name", help="of the files to write")
    parser.add_argument("--out", type=Path, help="the folder of the files, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="two expressions, one seed, an epoch of 128 images")
    args = parser.parse_args()
    if args.quick and args.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    expressions = args.expressions or {"digits": DIGITS, "cifar": ["simclr"], "zoo": [*method_names()]}[args.what]
    expressions = [expressions[0], expressions[-1]] if args.quick and len(expressions) > 1 else expressions
    sets, seeds = args.data or ["digits"], 1 if args.quick else args.seeds
    jobs = [(e, data, seed) for seed in range(seeds) for data in sets for e in expressions]
    at, out = commit(), args.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{args.name or args.what}.json"
    rows = read_rows(path)
    done = {(row["expression"], row["asked"], row["seed"]) for row in rows}

    def write() -> None:
        ordered = sorted(rows, key=lambda row: jobs_order(row, jobs))  # of a copy: other threads add to the rows
        write_rows(path, ordered, lambda rows: markdown(titled(args.what), args.what, rows))

    def one(job: tuple[str, str, int]) -> None:
        if (job[0], Path(job[1]).name, job[2]) in done:
            return
        result = run(*job, args.threads, QUICK if args.quick else epochs_of(args.what, job[0]))
        rows.append({**result, "asked": Path(job[1]).name, "commit": at, "jobs": args.jobs})
        write()
        print(*job, result["knn"], flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, jobs))
    write()


def jobs_order(row: dict, jobs: list[tuple[str, str, int]]) -> int:
    """Rows in the order in which they were asked for, whichever ended first."""
    asked = [(expression, Path(data).name) for expression, data, _ in jobs]
    key = (row["expression"], row["asked"])
    return asked.index(key) if key in asked else len(asked)


if __name__ == "__main__":
    main()
