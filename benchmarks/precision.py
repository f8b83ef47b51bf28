"""What bf16 costs in kNN and saves in time on this processor: the same runs in float32 and in bf16, in turns.

    python benchmarks/precision.py                      # SimCLR, SimSiam, BYOL and SwAV on digits, three seeds each
    python benchmarks/precision.py FOLDER --image-size 64 --epochs 20 --name precision-photos
    python benchmarks/precision.py --quick --out DIR    # one seed, an epoch of 128 images

A row is a method: kNN (k = 20, test split, last epoch) in both precisions over the seeds, the mean of their differences
with its standard error, and the ratio of images a second of the pairs, which ran one after the other. Finished runs are
kept in the JSON file beside the table and not run again.
"""

import argparse
import os
import statistics
from math import sqrt
from pathlib import Path

import torch
from commit import commit
from compact import read_rows, write_rows
from results import QUICK, RESULTS, mean, run

from sslzoo.training.budget import kept
from sslzoo.training.machine import BF16_INSTRUCTIONS

METHODS = ["simclr", "simsiam", "byol", "swav"]
PRECISIONS = ("float32", "bf16")
NAMES = {"_is_avx512_bf16_supported": "AVX512-BF16", "_is_amx_tile_supported": "AMX"}


def processor() -> str:
    """The processor's model, and which instructions for bf16 it has."""
    has = [NAMES[name] for name in BF16_INSTRUCTIONS if getattr(torch.cpu, name, bool)()]
    return f"{kept.processor()}, {os.cpu_count()} cores, {' and '.join(has) or 'no instructions for bf16'}"


def pairs(rows: list[dict], expression: str) -> list[tuple[dict, dict]]:
    """The runs of an expression in float32 and in bf16, seed by seed."""
    found = {(row["precision"], row["seed"]): row for row in rows if row["expression"] == expression}
    seeds = sorted({seed for _, seed in found})
    return [(found["float32", s], found["bf16", s]) for s in seeds if all((p, s) in found for p in PRECISIONS)]


def difference(values: list[float]) -> str:
    """A mean of differences with its standard error."""
    error = f" ± {statistics.stdev(values) / sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.3f}{error}"


def page(rows: list[dict]) -> str:
    """The table, its protocol above it."""
    first = rows[0]
    lines = [
        "# float32 and bf16 on a CPU",
        "",
        f"{first['processor']}; {first['threads']} threads a run; commit {first['commit']}; "
        f"{', '.join(f'{name} {number}' for name, number in first['versions'].items())}.",
        f"Protocol: `{first['command']}`, with `--precision float32` and `--precision bf16` in turns; kNN on the",
        "test split, k = 20, last epoch, evaluated in float32. Mean ± sample deviation over the seeds; the",
        "difference is the mean over the seeds ± its standard error.",
        *dict.fromkeys(row["note"] for row in rows if row.get("note")),
        "",
        "| expression | seeds | float32 | bf16 | difference | images/s, bf16 / float32 |",
        "|---|---|---|---|---|---|",
    ]
    differences = []
    for expression in dict.fromkeys(row["expression"] for row in rows):
        both = pairs(rows, expression)
        if not both:
            continue
        gaps = [bf16["knn"] - full["knn"] for full, bf16 in both]
        faster = [bf16["images_per_second"] / full["images_per_second"] for full, bf16 in both]
        differences += gaps
        kinds = [mean([pair[i]["knn"] for pair in both]) for i in range(2)]
        cells = [str(len(both)), *kinds, difference(gaps), f"{statistics.median(faster):.2f}"]
        lines.append(f"| `{expression}` | {' | '.join(cells)} |")
    if differences:
        lines += ["", f"All {len(differences)} pairs: {difference(differences)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--image-size", help="as of sslzoo train")
    parser.add_argument("--epochs", help="as of sslzoo train")
    parser.add_argument("--note", help="a sentence on these runs, for the page")
    parser.add_argument("--name", default="precision", help="of the files to write")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument("--quick", action="store_true", help="one seed, an epoch of 128 images")
    args = parser.parse_args()
    if args.quick and args.out == RESULTS:
        parser.error("--quick needs --out DIR: its results are none to keep")
    given = {"--image-size": args.image_size, "--epochs": args.epochs}
    asked = [word for flag, value in given.items() if value for word in (flag, value)]
    more = QUICK if args.quick else asked
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name}.json"
    rows = read_rows(path)
    done = {(row["expression"], row["precision"], row["seed"]) for row in rows}
    command = " ".join(["sslzoo train EXPRESSION --data", Path(args.data).name, *more])
    for seed in range(1 if args.quick else args.seeds):
        for expression in METHODS:
            for precision in PRECISIONS:
                if (expression, precision, seed) in done:
                    continue
                flags = [*more, "--precision", precision, "--device", "cpu", "--no-baselines"]
                found = run(expression, args.data, seed, args.threads, flags)
                about = {"precision": precision, "threads": args.threads, "processor": processor(), "commit": commit()}
                about |= {"note": args.note} if args.note else {}
                rows.append({**found, **about, "command": command})
                write_rows(path, rows, page)
                print(expression, precision, seed, found["knn"], f"{found['images_per_second']:.0f}/s", flush=True)


if __name__ == "__main__":
    main()
