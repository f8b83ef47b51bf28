"""A million generated rows: exact search, HNSW and inverted lists in one ``sslzoo knn``, with its peak memory.

    python benchmarks/million.py --out DIR      # writes DIR/features.npz (1 GB) and benchmarks/results/million.md
    python benchmarks/million.py --out DIR --quick   # writes two thousand rows, and the page into DIR

1,000 clusters of 256 columns; within one, 24 directions of falling spread that all clusters share, and a little noise.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from commit import commit

from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
NOTE = __doc__.strip().splitlines()[-1]
QUICK = ("flat", "HNSW8:efSearch=32", "IVF16,Flat:nprobe=4", "IVF16,PQ16x4:nprobe=4")
INDEXES = (
    "flat", "HNSW32:efSearch=64", "IVF1024,Flat:nprobe=4", "IVF1024,PQ64:nprobe=8",
    "IVF1024,PQ64x4fs,RFlat:nprobe=8,k_factor_rf=8",
)  # fmt: skip


def features(rows: int, queries: int, spread: float, dim: int = 256, clusters: int = 1000) -> dict[str, np.ndarray]:
    """Bank and queries with the cluster as label."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, dim), dtype=np.float32)
    shared = (
        rng.standard_normal((24, dim), dtype=np.float32) * (spread * 0.8 ** np.arange(24, dtype=np.float32))[:, None]
    )
    made = {}
    for split, n in (("train", rows), ("test", queries)):
        labels = rng.integers(clusters, size=n)
        x = np.empty((n, dim), np.float32)
        for start in range(0, n, 100_000):
            part = slice(start, min(start + 100_000, n))
            z = rng.standard_normal((part.stop - start, 24), dtype=np.float32)
            x[part] = centres[labels[part]] + z @ shared
            x[part] += 0.05 * rng.standard_normal((part.stop - start, dim), dtype=np.float32)
        made |= {f"{split}_features": x, f"{split}_labels": labels}
    return made


def measured(command: list[str]) -> tuple[dict, float, float]:
    """A command's JSON, its seconds, and GiB that it had at most, seen ten times a second."""
    import psutil

    started, most = time.time(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            most = max(most, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(printed), time.time() - started, most / 2**30


def main() -> None:
    """Generate, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="2,000 rows, 50 queries, the page beside them")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--name", default="million", help="of the page: %(default)s")
    parser.add_argument("--spread", type=float, default=0.3, help="of the directions in a cluster; 1: clusters overlap")
    parser.add_argument("--indexes", nargs="+", default=INDEXES)
    options = parser.parse_args()
    results = options.out if options.quick else RESULTS
    if options.quick:
        options.rows, options.queries, options.indexes = 2_000, 50, QUICK
    shown = [f" --spread {options.spread:g}"] if options.spread != parser.get_default("spread") else []
    shown += [f" --indexes {' '.join(options.indexes)}"] if options.indexes != INDEXES else []
    shown += [f" --name {options.name}"] if options.name != "million" else []
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("quick.npz" if options.quick else "features.npz")
    if not path.exists():
        np.savez(path, **features(options.rows, options.queries, options.spread))
    words = ["knn", str(path), *(word for spec in options.indexes for word in ("--index", spec)), "--json"]
    words += ["-k", "1", "-k", "20", "--retrieval", "none", "--tradeoff", str(options.out / "tradeoff.png")]
    result, seconds, most = measured([sys.executable, "-m", "sslzoo", *words])
    row = result["rows"][0]
    exact = next(one["queries_per_second"] for one in row["indexes"] if one["index"] == "flat")
    lines = [
        f"# {row['bank']:,} rows of {row['dimension']} columns, {row['queries']:,} queries",
        "",
        f"`python benchmarks/million.py --out DIR{''.join(shown)}`, commit {commit()}; {os.cpu_count()} CPU cores; "
        + ", ".join(f"{name} {number}" for name, number in versions().items()) + ".",
        f"One command with all indexes, exact kNN included: {seconds:.0f} s, at most {most:.1f} GiB.",
        NOTE,
        "",
        "| index | recall@10 | queries/s | times exact | kNN k20 | MiB | build s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for one in row["indexes"]:
        speed = one["queries_per_second"]
        lines.append(
            f"| {one['index']} | {one['recall@10']:.3f} | {speed:,.0f} | {speed / exact:.1f} | "
            f"{one['knn']['k20']:.3f} | {one['bytes'] / 2**20:,.0f} | {one['build_seconds']:.0f} |"
        )
    text = "\n".join(lines) + "\n"
    (results / f"{options.name}.md").write_text(text)
    (results / f"{options.name}.png").write_bytes((options.out / "tradeoff.png").read_bytes())
    print(text)


if __name__ == "__main__":
    main()
