"""One set of embeddings in every format: seconds and memory of ``sslzoo knn``, from its start to its end.

    python benchmarks/formats.py --folder DIR        # a million rows of 256 columns, about 1 GB a format, kept in DIR
    python benchmarks/formats.py --tiny --out DIR    # two thousand rows of 16 columns

Rows lie around 100 centres; the last thousand ask. The numbers of all formats have to be those of the .npz, bit for
bit, or the script ends with an error. Each is measured several times, one after another in turn, and the median counts;
files are in the system's cache. Memory is the most that the process had, mapped files among it. Retrieval is left out,
so that reading is a large part. Results go to benchmarks/results/formats.json and formats.md.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commit import commit
from compact import compact

from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
USUAL = "e.npz"
NAMES = {
    USUAL: ".npz of `sslzoo embed`", "columns.parquet": ".parquet, a column for each feature",
    "lists.parquet": ".parquet, a column of lists", "shards": "folder of 10 .parquet", "npy": "folder of .npy",
    "e.safetensors": ".safetensors", "e.pt": ".pt",
}  # fmt: skip
WITHIN, ABOVE = 1.5, 1024  # the time of the .npz, and MiB above its memory, that a .parquet may take


def make(folder: Path, rows: int, columns: int, queries: int) -> None:
    """Write the set in every format that is not there yet."""
    import numpy as np
    import pyarrow as arrow
    import torch
    from pyarrow import parquet
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, rows)
    x = rng.standard_normal((rows, columns), np.float32)
    x += rng.standard_normal((100, columns), np.float32)[labels] / 2
    split = {"train": slice(0, rows - queries), "test": slice(rows - queries, rows)}
    arrays = {f"{name}_features": x[part] for name, part in split.items()}
    arrays |= {f"{name}_labels": labels[part] for name, part in split.items()}
    np.savez(folder / USUAL, **arrays)
    (folder / "npy").mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    tensors = {name: torch.from_numpy(array).clone() for name, array in arrays.items()}
    torch.save(tensors, folder / "e.pt")
    save_file(tensors, folder / "e.safetensors")
    said = {"split": np.where(np.arange(rows) < rows - queries, "train", "test"), "label": labels}
    wide = arrow.table({**said, **{f"f{i}": np.ascontiguousarray(x[:, i]) for i in range(columns)}})
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(x.ravel()), columns)
    parquet.write_table(wide, folder / "columns.parquet", row_group_size=50_000)
    parquet.write_table(arrow.table({**said, "embedding": lists}), folder / "lists.parquet", row_group_size=50_000)
    (folder / "shards").mkdir(exist_ok=True)
    for i, part in enumerate(np.array_split(np.arange(rows), 10)):
        parquet.write_table(wide.slice(part[0], len(part)), folder / "shards" / f"part-{i:03}.parquet")


def used() -> float:
    """CPU seconds of all processes that were started and have ended."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of_children.ru_utime + of_children.ru_stime


def measured(source: Path) -> dict[str, Any]:
    """Seconds, CPU seconds and MiB that ``sslzoo knn`` takes, and what it finds."""
    words = [sys.executable, "-m", "sslzoo", "knn", str(source), "-k", "1", "-k", "20", "--retrieval", "none"]
    began, cpu, most = time.perf_counter(), used(), 0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen([*words, "--device", "cpu", "--json"], stdout=said) as child,
    ):
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):  # the most so far; none of one that has ended
                most = int(found[1])
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with exit code {child.returncode}")
    row = json.loads(text)["rows"][0]
    kept = {key: row[key] for key in ("knn", "recall", "interval", "health", "bank", "queries")}
    return {"seconds": round(seconds, 2), "cpu": round(used() - cpu, 2), "memory": round(most / 2**10), "found": kept}


def page(result: dict[str, Any]) -> str:
    """The results as a page."""
    usual = result["formats"][USUAL]
    lines = [
        f"# {result['rows']:,} x {result['columns']} embeddings in every format", "",
        f"`{result['command']}`, commit {result['commit']}, torch {result['versions']['torch']}, numpy "
        f"{result['versions']['numpy']}; {result['cores']} CPU cores, {result['threads']} thread(s), load "
        f"{result['load']:.1f} at the end. `sslzoo knn` from its start to its end, libraries and an exact search for "
        f"{result['queries']:,} queries among it, without retrieval; the median of {result['times']}. All formats gave "
        "the same numbers, bit for bit.", "",
        "| format | seconds | of the .npz | CPU seconds | MiB | above the .npz |", "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, row in result["formats"].items():
        ratio, more = row["seconds"] / usual["seconds"], row["memory"] - usual["memory"]
        lines.append(
            f"| {NAMES[name]} | {row['seconds']:.1f} | {ratio:.2f} | {row['cpu']:.1f} | {row['memory']:,} | {more:+,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the files, measure, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--times", type=int, default=3, help="measurements of each format")
    parser.add_argument("--formats", default=",".join(NAMES), help="those to measure, beside the .npz")
    parser.add_argument("--folder", type=Path, help="where the files are kept; by default in one that is removed")
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--tiny", action="store_true", help="2,000 rows of 16 columns, measured once")
    given = parser.parse_args()
    if given.tiny and given.out is None:
        parser.error("--tiny needs --out DIR: its results are none to keep")
    rows, columns, queries = (2000, 16, 100) if given.tiny else (given.rows, given.columns, given.queries)
    names = [USUAL, *(name for name in given.formats.split(",") if name != USUAL)]
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"--formats has no {unknown[0]!r}; there are {', '.join(NAMES)}")
    times, out = 1 if given.tiny else given.times, given.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as removed:
        folder = (given.folder or Path(removed)) / f"{rows}x{columns}"
        if not (folder / "shards" / "part-009.parquet").is_file():  # what is written last
            make(folder, rows, columns, queries)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(times):
            for name, some in found.items():
                some.append(measured(folder / name))
                print(name, *(some[-1][key] for key in ("seconds", "cpu", "memory")), flush=True)
    usual = found[USUAL][0]["found"]
    if others := [name for name, some in found.items() if any(row["found"] != usual for row in some)]:
        raise SystemExit(f"{', '.join(others)} gave other numbers than {USUAL}")
    middle = {name: sorted(some, key=lambda row: row["seconds"])[len(some) // 2] for name, some in found.items()}
    asked = {key: getattr(given, key) for key in ("rows", "columns", "queries", "times")}
    words = [f"--{key} {value}" for key, value in asked.items() if value != parser.get_default(key)]
    result = {
        "rows": rows, "columns": columns, "queries": queries, "times": times, "commit": commit(),
        "versions": versions(), "cores": os.cpu_count(), "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or "all",
        "load": round(os.getloadavg()[0], 1),
        "command": " ".join(["python benchmarks/formats.py", *words]),
        "formats": {name: {key: row[key] for key in ("seconds", "cpu", "memory")} for name, row in middle.items()},
    }  # fmt: skip
    (out / "formats.json").write_text(compact(result) + "\n")
    (out / "formats.md").write_text(page(result))
    print(page(result))
    kept = middle[USUAL]
    late = [
        name for name, row in middle.items()
        if name.endswith(".parquet")
        and (row["seconds"] > WITHIN * kept["seconds"] or row["memory"] > kept["memory"] + ABOVE)
    ]  # fmt: skip
    if late and not given.tiny:
        raise SystemExit(f"{', '.join(late)} took more than {WITHIN} times the .npz, or {ABOVE} MiB above it")


if __name__ == "__main__":
    main()
