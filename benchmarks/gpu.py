"""What to run where there is a GPU: the speed tables in ten minutes, then CIFAR-10 at the published setting.

    python benchmarks/gpu.py measure --out DIR                              # speed.py, compile, waits
    python benchmarks/gpu.py train --data cifar10.npz --out DIR --minutes 9 # ResNet-18, 200 epochs, batch 512
    python benchmarks/gpu.py measure --quick --device cpu --out DIR         # does it run? The small net, few images
    python benchmarks/gpu.py train --quick --device cpu --data DATA --out DIR

``train`` takes the methods in turn, stops before its minutes are over with everything saved, and goes on when it is
called again. A method's row is its last epoch's kNN on the test split, with the device that it ran on.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from compact import compact

from sslzoo.training.learner import Learner
from sslzoo.training.loop import Training
from sslzoo.training.machine import device_name, find_device, versions
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare

METHODS = ("simsiam", "byol", "simclr", "swav")
LIGHTLY = {"simsiam": 0.764, "byol": 0.868, "simclr": 0.848, "swav": 0.842}  # best epoch, k = 200, T = .1, batch 512
PROTOCOLS = ((200, 0.1), (20, 0.07))
SPARE = 45  # seconds to save and to look at kNN before the minutes are over


def seconds_per_step(run: Learner, steps: int) -> float:
    """The training step, its batch included; the first ones are a warm-up."""
    run.model.train()
    started, done = 0.0, 0
    while True:
        for index, views in run.batches.epoch(0):
            if done == steps // 4:
                _wait(run.device)
                started = time.perf_counter()
            run.step(views, index, done)
            done += 1
            if done == steps:
                _wait(run.device)
                return (time.perf_counter() - started) / (steps - steps // 4)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compile_pays(options: Options, steps: int) -> dict:
    """Milliseconds a step with and without torch.compile, and the seconds that compiling takes."""
    plain, other = (Training(prepare("simsiam", options)).learner for _ in range(2))
    found = {"plain_ms": 1e3 * seconds_per_step(plain, steps)}
    started = time.perf_counter()
    why = other.compile()
    found |= {"compile_seconds": time.perf_counter() - started, "failed": why}
    found["compiled_ms"] = None if why else 1e3 * seconds_per_step(other, steps)
    return found


def waits(options: Options) -> list[str]:
    """Where a step waits for the device, as torch warns of it: it should nowhere."""
    run = Training(prepare("byol", options)).learner
    run.model.train()
    batches = iter(run.batches.epoch(0))
    index, views = next(batches)
    run.step(views, index, 0)
    if run.device.type != "cuda":
        return ["not measured: no GPU"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        index, views = next(batches)
        run.step(views, index, 1)
        torch.cuda.set_sync_debug_mode("default")
    return sorted({f"{Path(w.filename).name}:{w.lineno}" for w in caught})


def measure(options: argparse.Namespace) -> None:
    """Every part of speed.py that has its peers here, then compile and the host's waits."""
    out, here = options.out, Path(__file__).parent
    setting = Options(
        backbone=options.backbone, batch_size=options.batch_size, device=options.device, limit=options.limit
    )
    device = find_device(options.device)
    found = {"device": device_name(device), "versions": versions(), "waits": waits(setting)}
    found["compile"] = compile_pays(setting, options.steps)
    (out / "gpu.json").write_text(compact(found) + "\n")
    print(compact(found), flush=True)
    parts, failed = ["step", "augmentation", "knn", "epoch", "startup"], []
    for part in parts:  # one process each: a peer that is missing costs its part alone
        command = [sys.executable, str(here / "speed.py"), "--only", part, "--device", options.device]
        command += ["--tiny" if options.quick else "--quick", "--json", str(out / f"speed-{part}.json")]
        failed += [part] if subprocess.run(command, check=False).returncode else []
    if failed:
        sys.exit(f"These parts of speed.py failed: {', '.join(failed)}.")


def train(options: argparse.Namespace) -> None:
    """The methods in turn until the minutes are over."""
    end = time.monotonic() + 60 * options.minutes - SPARE
    path = options.out / "cifar.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for method in options.methods.split(","):
        while method not in results and time.monotonic() < end:
            runs = options.out / method
            begun = sorted(runs.glob("*/last.pt"), key=lambda one: one.stat().st_mtime)
            words = ["--resume", str(begun[-1].parent)] if begun else [method, "--data", str(options.data)]
            if not begun:
                words += ["--epochs", str(options.epochs), "--batch-size", str(options.batch_size), "--seed", "0"]
                words += ["--backbone", options.backbone, "--out", str(runs), "--device", options.device]
                words += ["--knn-every", "50"]
                words += ["--compile"] if options.compile else []
                words += ["--limit", "128"] if options.quick else []
            done = _until(end, ["train", *words, "--json"])
            if done is None:
                print(f"{method}: saved, call again to go on", flush=True)
                return
            results[method] = row(method, json.loads(done), options.device)
            path.write_text(compact(results) + "\n")
            print(method, json.dumps(results[method]), flush=True)


def _until(end: float, words: list[str]) -> str | None:
    """What a command prints, or None where it was stopped, its state saved, because the time was over."""
    command = [sys.executable, "-m", "sslzoo", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        printed, _ = process.communicate(timeout=max(end - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.communicate()
        return None
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return printed


def row(method: str, result: dict, device: str) -> dict:
    """The last epoch's kNN at both protocols, the time, and lightly's figure beside."""
    about = json.loads((Path(result["run"]) / "run.json").read_text())
    scores = {}
    for k, temperature in PROTOCOLS:
        words = ["knn", result["run"], "-k", str(k), "--temperature", str(temperature), "--device", device, "--json"]
        printed = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True, check=True)
        scores[f"k{k}_T{temperature:g}"] = json.loads(printed.stdout)["rows"][0]["knn"][f"k{k}"]
    log = (Path(result["run"]) / "log.csv").read_text().splitlines()
    speed = [float(line.split(",")[log[0].split(",").index("images_per_second")]) for line in log[1:]]
    return {
        **scores, "lightly_best_epoch": LIGHTLY.get(method), "epochs": result["epochs"], "std": result["std"],
        "rank": result["rank"], "images_per_second": statistics.median(speed),
        "training_minutes": result["epochs"] * about["images"] / statistics.median(speed) / 60,
        "device": about["device"], "precision": about["precision"], "versions": about["versions"],
    }  # fmt: skip


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (("measure", measure.__doc__), ("train", train.__doc__)):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--device", default="auto")
        verb.add_argument("--backbone", default="resnet18")
        verb.add_argument("--batch-size", type=int, default=512)
        verb.add_argument("--quick", action="store_true", help="the small net and few images: does it run?")
        if name == "measure":
            verb.add_argument("--steps", type=int, default=200)
            verb.add_argument("--limit", type=int)
        else:
            verb.add_argument("--data", required=True)
            verb.add_argument("--epochs", type=int, default=200)
            verb.add_argument("--minutes", type=float, default=9.0)
            verb.add_argument("--methods", default=",".join(METHODS))
            verb.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.backbone, options.batch_size = "small", 32
        if options.verb == "measure":
            options.steps, options.limit = 8, 128
        else:
            options.epochs, options.methods = 1, ",".join(METHODS[:2])
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    {"measure": measure, "train": train}[options.verb](options)


if __name__ == "__main__":
    main()
