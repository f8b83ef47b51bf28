"""Train every method on a data set and benchmark all encoders in one table, raw pixels and the untrained one beside.

    python benchmarks/embeddings.py digits
    python benchmarks/embeddings.py cifar10_part.npz --passes 30000
    python benchmarks/embeddings.py fashion-mnist --limit 10000
    python benchmarks/embeddings.py digits --quick --out DIR   # two methods, an epoch of 256 images each

Every method gets the same number of image passes; its row is the last epoch's, and nothing is chosen on the test split.
Runs that have ended are kept in --runs and not trained again.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from commit import commit
from compact import compact, digits

import sslzoo
from sslzoo.data import sets
from sslzoo.recipes.recipe import method_names
from sslzoo.training.machine import versions

RESULTS = Path(__file__).parent / "results"
NUMBERS = ("recall@1", "precision@10", "map@r", "map", "mrr", "ndcg")


def ended(folder: Path) -> str | None:
    """The run in a method's folder that has ended."""
    return next((str(path.parent) for path in sorted(folder.glob("*/knn.json"))), None)


def trained(method: str, options: argparse.Namespace, images: int) -> str:
    """A run of a method, by the command line."""
    folder = options.runs / method
    if (run := ended(folder)) is not None:
        return run
    views = sslzoo.load(method).views
    epochs = max(1, round(2 * options.passes / images / (views.targets + views.local_crops)))
    words = [method, "--data", options.data, "--epochs", str(epochs), "--seed", str(options.seed), "--out", str(folder)]
    words += ["--limit", str(options.limit)] if options.limit else []
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    command = [sys.executable, "-m", "sslzoo", "train", *words, "--quiet", "--knn-every", "1000"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    print(method, flush=True)
    return str(ended(folder))


def shrunk(result: dict, names: dict[str, str]) -> dict:
    """Of what ``sslzoo knn --json`` prints the part that the table shows, sources by these names."""
    rows = [
        {
            "source": names[row["source"]],
            "queries": row["queries"],
            "knn": row["knn"],
            "interval": {"sslzoo k20": row["interval"]["sslzoo k20"]},
            "retrieval": {name: row["retrieval"][name] for name in ("queries", *NUMBERS)},
            "probe": {"accuracy": row["probe"]["accuracy"]} if row["probe"] else None,
            "health": {"rank": row["health"]["rank"]},
        }
        for row in result["rows"]
    ]
    return {"data": result["data"], "protocol": {"names": result["protocol"]["names"]}, "rows": digits(rows, 7)}


def markdown(result: dict, about: dict) -> str:
    """The table, the best at k = 20 first."""
    ks = list(result["rows"][0]["knn"])
    probed = " probe |" if any(row["probe"] for row in result["rows"]) else ""
    lines = [
        f"# Embeddings of {about['data']}",
        "",
        f"`{about['command']}`, commit {about['commit']}; {about['device']}; {about['images']:,} training images, "
        f"about {about['passes']:,} image passes of two views a method, seed {about['seed']}.",
        ", ".join(f"{name} {number}" for name, number in about["versions"].items()) + ".",
        "",
        "The last epoch's online backbone. "
        + "; ".join(result["protocol"]["names"])
        + "; the whole un-augmented training",
        f"split is the bank, exact search; ± is half of a 95% interval over {result['rows'][0]['queries']:,} queries.",
        f"Retrieval over {result['rows'][0]['retrieval']['queries']:,} queries, expected values over ties.",
        "",
        f"| encoder | {' | '.join(f'kNN {k}' for k in ks)} | {' | '.join(NUMBERS)} |{probed} rank |",
        "|---|" + "---:|" * (len(ks) + len(NUMBERS) + 1 + bool(probed)),
    ]
    for row in sorted(result["rows"], key=lambda row: -row["knn"]["k20"]):
        low, high = row["interval"]["sslzoo k20"]
        cells = [f"{row['knn'][k]:.3f}" + (f" ± {(high - low) / 2:.3f}" if k == "k20" else "") for k in ks]
        cells += [f"{row['retrieval'][name]:.3f}" for name in NUMBERS]
        cells += [f"{row['probe']['accuracy']:.3f}"] if probed else []
        lines.append(f"| {row['source']} | {' | '.join(cells)} | {row['health']['rank']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, benchmark, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--passes", type=int, default=30_000, help="images that pass the net, as two views each")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--methods", default=",".join(method_names()))
    parser.add_argument("--runs", type=Path, help="the folder of the runs; with --quick one in --out")
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--quick", action="store_true", help="two methods, an epoch of 256 images each")
    options = parser.parse_args()
    if options.quick and options.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    if options.quick:
        options.methods, options.passes, options.limit = "simsiam,swav", 256, 256
        options.runs = options.runs or options.out / "runs"
    if options.runs is None:
        parser.error("--runs DIR is missing: where the runs are to be kept")
    dataset = sets.load(options.data, limit=options.limit)
    methods = options.methods.split(",")
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(lambda method: trained(method, options, len(dataset.train)), methods))
    words = ["knn", *runs, "random", "raw", "--data", options.data, "--json", *(["--probe"] if options.probe else [])]
    words += ["--limit", str(options.limit)] if options.limit else []
    done = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result = json.loads(done.stdout)
    names = {**dict(zip(runs, methods, strict=True)), "random": "untrained", "raw": "raw pixels"}
    shown = ["python", "benchmarks/embeddings.py", Path(options.data).name, "--passes", str(options.passes)]
    shown += ["--limit", str(options.limit)] if options.limit else []
    about = {
        "data": dataset.name, "images": len(dataset.train), "passes": options.passes, "seed": options.seed,
        "commit": commit(), "versions": versions(), "device": f"{os.cpu_count()} cores, {options.jobs} runs at a time",
        "command": " ".join(shown),
    }  # fmt: skip
    out, kept = options.out or RESULTS, shrunk(result, names)
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(kept, about)
    (out / f"embeddings-{dataset.name}.json").write_text(compact({"about": about, **kept}) + "\n")
    (out / f"embeddings-{dataset.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
