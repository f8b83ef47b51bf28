"""What a newcomer gets: methods on people's own pictures without any option, beside the untrained net and raw pixels.

    python benchmarks/newcomer.py DATA [DATA...]              # folders or .npz files, three seeds
    python benchmarks/newcomer.py A B --leave-one-out B       # of B recall at 1 in its test split: unseen classes
    python benchmarks/newcomer.py DATA --words views.preset=fine --name newcomer-fine
    python benchmarks/newcomer.py DATA --same-plan            # later seeds with the first seed's plan, not timed
    python benchmarks/newcomer.py DATA --quick --out DIR      # two methods, one seed, a few seconds of budget

A row is a data set and a method: kNN (k = 20, test split, last epoch) over the seeds, how far it is above the better
one of the untrained net and raw pixels, and how long a run took beside what it said it would. One run at a time, on a
machine that does nothing else. Finished runs are kept in the JSON file beside the table and not run again.

A plan by numbers gives the same run on any machine, so that with ``--same-plan`` the later seeds can train on a busy
one: with the epochs, batch and size that the first seed's run chose when the machine was quiet. Their times are not
kept.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from commit import commit
from compact import read_rows, write_rows
from precision import processor
from results import RESULTS, mean

METHODS = ["simclr", "simsiam", "byol", "swav"]
QUICK = ["--minutes", "0.05", "--limit", "200"]
SAME_PLAN = [
    "Seeds after the first took the first one's epochs, batch and size as options, on a machine that did other things",
    "beside; `seconds` and `said` are of the runs that chose for themselves.",
]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """A command of sslzoo, as a person would type it."""
    done = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sslzoo {' '.join(words)}\n{done.stderr}")
    return done


def seconds(text: str) -> int:
    """Seconds of a duration as 4:40 or 1:04:40."""
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part)
    return total


def plan_of(row: dict) -> list[str]:
    """What a run chose by the machine's speed, as the options that choose it by hand."""
    sizes = ("epochs", "batch_size", "image_size")
    return [word for key in sizes for word in (f"--{key.replace('_', '-')}", str(row[key]))]


def first(rows: list[dict], data: str, method: str) -> dict:
    """The row of the first seed, whose plan the later ones take."""
    return next(row for row in rows if (row["data"], row["method"], row["seed"]) == (Path(data).stem, method, 0))


def run(data: str, method: str, seed: int, more: list[str], apart: bool) -> dict:
    """One run and what it is worth; ``apart`` asks for recall at 1 within the test split."""
    with tempfile.TemporaryDirectory() as out:
        done = command("train", *method.split(), "--data", data, "--seed", str(seed), "--out", out, "--json", *more)
        found = json.loads(done.stdout)
        about = json.loads((Path(found["run"]) / "run.json").read_text())
        said = re.search(r"It takes about ([0-9:]+)", done.stderr)
        assert said is not None or "--epochs" in more, done.stderr
        scores = {"trained": found["knn"]["k20"], "untrained": found["random_knn"], "raw": found["raw_knn"]}
        if apart:
            rows = json.loads(
                command("knn", found["run"], "random", "raw", "--data", data, "--leave-one-out", "--json").stdout
            )
            names = ("trained", "untrained", "raw")
            values = {row["source"].split(" at ")[0]: row["retrieval"]["recall@1"] for row in rows["rows"]}
            scores = dict(zip(names, (values[key] for key in (found["run"], "random", "raw")), strict=True))
    keys = ("epochs", "batch_size", "image_size", "backbone", "precision", "images", "device", "versions")
    return {
        **{key: about[key] for key in keys}, **scores, "method": method, "data": Path(data).stem, "seed": seed,
        "said": seconds(said[1]) if said else None, "seconds": found["seconds"],
        "images_per_second": found["images_per_second"],
        "metric": "recall@1" if apart else "knn", "processor": processor(), "commit": commit(),
    }  # fmt: skip


def page(rows: list[dict]) -> str:
    """The table, its protocol above it."""
    lines = ["# What a newcomer gets", ""]
    lines += [f"{one}." for one in dict.fromkeys(f"{row['processor']}; commit {row['commit']}" for row in rows)]
    versions = dict.fromkeys(", ".join(f"{name} {number}" for name, number in row["versions"].items()) for row in rows)
    lines += [
        *(f"Versions: {one}." for one in versions),
        f"Protocol: `sslzoo train METHOD --data DATA --seed SEED{rows[0]['more']}` and no other option; the last",
        "epoch, test split, kNN with k = 20, or recall at 1 within the test split where its classes are no others'",
        "(R@1). Mean ± sample deviation over the seeds; `above` is the mean distance from the better one of the",
        "untrained net and raw pixels.",
        *SAME_PLAN * any(row["same_plan"] for row in rows),
        "",
        "| data | method | seeds | epochs, px | trained | untrained | raw | above | seconds | said |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        same = [row for row in rows if (row["data"], row["method"]) == (data, method)]
        above = statistics.mean(row["trained"] - max(row["untrained"], row["raw"]) for row in same)
        plan = ", ".join(dict.fromkeys(f"{row['epochs']} of {row['image_size']}" for row in same))
        name = f"{data} (R@1)" if same[0]["metric"] == "recall@1" else data
        cells = [str(len(same)), plan, *(mean([row[key] for row in same]) for key in ("trained", "untrained", "raw"))]
        timed = [row for row in same if not row["same_plan"]]
        times = [f"{statistics.mean(row[key] for row in timed):.0f}" for key in ("seconds", "said")]
        lines.append(f"| {name} | {method} | {' | '.join([*cells, f'{above:+.3f}', *times])} |")
    lines += ["", "| method | above, mean over the data | least |", "|---|---|---|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        by_data = [
            statistics.mean(
                r["trained"] - max(r["untrained"], r["raw"]) for r in rows if (r["method"], r["data"]) == (method, data)
            )
            for data in dict.fromkeys(row["data"] for row in rows if row["method"] == method)
        ]
        lines.append(f"| {method} | {statistics.mean(by_data):+.3f} | {min(by_data):+.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument(
        "--leave-one-out", nargs="+", default=[], help="of the data, those whose test classes are apart"
    )
    parser.add_argument("--words", nargs="*", default=[], help="further words of the expressions")
    parser.add_argument("--name", default="newcomer", help="of the files to write")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument("--same-plan", action="store_true", help="later seeds take the first seed's plan")
    parser.add_argument("--quick", action="store_true", help="two methods, one seed, a few seconds of budget")
    args = parser.parse_args()
    if args.quick and args.out == RESULTS:
        parser.error("--quick needs --out DIR: its results are none to keep")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name}.json"
    rows = read_rows(path)
    done = {(row["data"], row["method"], row["seed"]) for row in rows}
    more = [*args.words, *(QUICK if args.quick else [])]
    for seed in range(1 if args.quick else args.seeds):
        for data in args.data:
            for method in args.methods[:2] if args.quick else args.methods:
                if (Path(data).stem, method, seed) in done:
                    continue
                same = plan_of(first(rows, data, method)) if args.same_plan and seed else []
                found = run(os.path.abspath(data), method, seed, [*more, *same], data in args.leave_one_out)
                rows.append({**found, "more": "".join(f" {word}" for word in more), "same_plan": bool(same)})
                write_rows(path, rows, page)
                shown = ("trained", "untrained", "raw", "seconds", "said")
                numbers = {key: round(found[key], 3) for key in shown if found[key] is not None}
                print(Path(data).stem, method, seed, numbers, flush=True)


if __name__ == "__main__":
    main()
