"""The same minutes, the same net, the same cores: ours against lightly's own loop, kNN against the clock.

    pip install -e '.[bench]'
    python benchmarks/race.py cifar10.npz                  # SimSiam, BYOL, SimCLR and SwAV, three seeds: some 5 hours
    python benchmarks/race.py PHOTOS --seeds 1             # a folder of photos, into the same files
    python benchmarks/race.py DATA --minutes 1 --reads 0.5 1 --methods simclr --name try --out DIR
    python benchmarks/race.py DATA --quick --out DIR       # does it run? The figures mean nothing

Each side plans its schedule for the minutes from its own speed, which is timed just before, and is then read at the
given minutes of one run: the last kNN (k = 20, test split) that was measured at or before each. The clock stops while
kNN is measured. Runs come one after the other, each in a process of its own; finished ones are kept in the JSON file
beside the table and the picture, and not run again. To be run on a machine that does nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from commit import commit
from compact import compact, digits, read_rows
from matplotlib.figure import Figure
from precision import processor
from results import RESULTS, mean
from torch import Tensor, nn

from sslzoo.data import sets
from sslzoo.data.splits import IMAGENET, Dataset
from sslzoo.metrics.knn import knn
from sslzoo.tools.errors import Diverged
from sslzoo.tools.figure import saved
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.loop import Training
from sslzoo.training.machine import keep_memory, versions
from sslzoo.training.options import Options
from sslzoo.training.plan import Plan, prepare
from sslzoo.views.features import CPU, Preprocessing, features

METHODS = ("simsiam", "byol", "simclr", "swav")
SIDES = ("ours", "lightly")
COLOURS = {"ours": "#1f6fb4", "lightly": "#d9480f"}
MARKS = {"ours": "o", "lightly": "s"}
SHARE = 0.97  # of the minutes that a side plans for: what its speed varies by is the rest
TIMED = 0.03  # of the minutes for which a side's steps are timed beforehand
WARM = 3  # steps before those that are timed
LOOKS = 10  # of kNN in a run, beside the one before the first step
NEVER = 10**9
QUICK = {"minutes": 0.03, "reads": [0.015, 0.03], "methods": ["simsiam", "swav"], "seeds": 1}

NUMBERS = (  # of a side beside its kNN: head, key and format
    ("learning rate", "lr", ".3g"),
    ("epochs", "epochs", ".1f"),
    ("of them done", "of_schedule", ".0%"),
    ("images/s", "images_per_second", ",.0f"),
    ("trained, min", "trained_minutes", ".2f"),
    ("kNN, min", "knn_minutes", ".1f"),
)

Point = tuple[float, float | None]  # minutes, and kNN; None where the weights are no longer finite


class Over(Exception):
    """The minutes are over, or the schedule is."""


class Clock:
    """Counts the seconds of training, and not those for which it is stopped."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.began, self.still = now, now(), 0.0

    @property
    def seconds(self) -> float:
        return self.now() - self.began - self.still

    @contextmanager
    def stopped(self) -> Iterator[None]:
        since = self.now()
        try:
            yield
        finally:
            self.still += self.now() - since


class Curve:
    """kNN against the clock: measured before the step that would pass a mark, so that it counts for that minute."""

    def __init__(self, clock: Clock, marks: Sequence[float], measure: Callable[[], float | None]):
        self.clock, self.measure, self.marks = clock, measure, sorted(60 * mark for mark in marks)
        self.points: list[Point] = []
        self.longest, self.before = 0.0, 0.0

    def begin(self) -> None:
        """Measure before the first step, whose seconds, as the start of the loader's processes, foretell no others."""
        self.look()
        self.before = float("inf")

    def step(self, last: bool = False) -> None:
        """Note that a step is done. Raises `Over` after the last one, and once no other fits into the minutes."""
        now = self.clock.seconds
        self.longest = max(self.longest, now - self.before)
        self.before, ahead = now, now + self.longest
        if last or ahead >= self.marks[0]:
            self.look()
            self.marks = [mark for mark in self.marks if mark > ahead]
        if last or not self.marks:
            raise Over

    def look(self) -> None:
        """Measure, while the clock stands still."""
        minutes = self.clock.seconds / 60
        with self.clock.stopped():
            self.points.append((minutes, self.measure()))

    def diverge(self) -> None:
        """Note that there are no features from now on."""
        self.points.append((self.clock.seconds / 60, None))


def read(points: Sequence[Point], minute: float) -> float | None:
    """The last kNN that was measured at or before a minute; None where there is none, or the run had diverged."""
    there = [value for at, value in points if at <= minute]
    return there[-1] if there else None


def score(encoder: nn.Module, data: Dataset, colours: tuple[Sequence[float], Sequence[float]], workers: int) -> float:
    """kNN at k = 20 on the test split, by the same code for both sides; nan where features are not finite."""
    how = (Preprocessing(data.size, tuple(colours[0]), tuple(colours[1])), CPU, workers)
    rows = [features(encoder, split, *how) for split in (data.bank, data.test)]
    if not all(np.isfinite(some).all() for some in rows):
        return float("nan")
    labels = [split.readable().labels.numpy() for split in (data.bank, data.test)]
    return knn(rows[0], labels[0], rows[1], labels[1], ks=20, recall_at=1)["knn"]["k20"]


def step_seconds(steps: Iterator[object], seconds: float) -> float:
    """Seconds a step, over as many as there is time for and at least three, after a few that are not timed."""
    for _ in range(WARM):
        next(steps)
    began, done = time.perf_counter(), 0
    while done < 3 or time.perf_counter() - began < seconds:
        next(steps)
        done += 1
    return (time.perf_counter() - began) / done


def marks(minutes: float, reads: Sequence[float]) -> list[float]:
    """When kNN is measured."""
    return sorted({*(minutes * look / LOOKS for look in range(1, LOOKS + 1)), *reads})


# ---- the two sides ---------------------------------------------------------------------------------------------------


def options(data: str, seed: int, epochs: int, precision: str, out: str) -> Options:
    """What `sslzoo train METHOD --data DATA --seed SEED --epochs N` takes, on a CPU and with kNN left to the race."""
    return Options(
        data=data, epochs=epochs, seed=seed, device="cpu", precision=precision, backbone="small", baselines=False,
        knn_every=NEVER, out=out,
    )  # fmt: skip


def our_steps(plan: Plan) -> Iterator[None]:
    """Steps of a run of which nothing stays, as the loop makes them."""
    run = Training(plan)
    run.learner.model.train()
    epoch = number = 0
    while True:
        for index, views in run.batches.epoch(epoch):
            run.learner.step(views, index, number)
            run.learner.diverged(wait=True)
            number += 1
            yield
        epoch += 1


class Watch(Reporter):
    """Hears of each step of a run, and measures where that is due."""

    def __init__(self, curve: Curve, epochs: int):
        self.curve, self.epochs = curve, epochs

    def begin(self, plan: Plan, run: Path, epoch: int) -> None:
        self.curve.begin()

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None:
        self.curve.step(last=epoch + 1 == self.epochs and done == steps)


def ours(method: str, data: str, seed: int, setting: dict) -> dict:
    """A run of ours, in whole epochs; the clock goes from before its images are read."""
    with tempfile.TemporaryDirectory() as out:
        os.environ["SSLZOO_CACHE"] = f"{out}/planned"  # images are read anew on the clock, whatever was kept of them
        began = time.perf_counter()
        plan = prepare(method, options(data, seed, 1, setting["asked"], out))
        reading = time.perf_counter() - began
        each = step_seconds(our_steps(plan), 60 * setting["minutes"] * TIMED)
        an_epoch = len(plan.data.train) // plan.recipe.training.batch_size
        epochs = max(1, int((60 * setting["minutes"] * SHARE - reading) / each / an_epoch))
        os.environ["SSLZOO_CACHE"] = f"{out}/run"
        clock = Clock()
        plan = prepare(method, options(data, seed, epochs, setting["asked"], out))
        run = Training(plan)
        colours = (plan.data.mean, plan.data.std)
        curve = Curve(
            clock,
            marks(setting["minutes"], setting["reads"]),
            lambda: score(run.learner.encoder, plan.data, colours, plan.workers),
        )
        try:
            run.run(Watch(curve, epochs), None)
        except Over:
            pass
        except Diverged:
            curve.diverge()
    found = about(curve, run.images, epochs * an_epoch * plan.recipe.training.batch_size, clock)
    rate = plan.recipe.optimizer.lr * plan.recipe.training.batch_size / 256
    return {**found, "epochs": epochs, "lr": rate, "precision": plan.precision, **same(plan), "versions": versions()}


def lightly(method: str, data: str, seed: int, setting: dict) -> dict:
    """A run of lightly's loop, in steps; the clock goes from before its net and its loader are made."""
    from rival import Rival

    with tempfile.TemporaryDirectory() as out:
        plan = prepare(method, options(data, seed, 1, "float32", out))  # for the size, the batch, and the test split
    batch, workers = plan.recipe.training.batch_size, setting["workers"]
    images = sets.find(data).train.images
    images = images if images.paths else plan.data.train.images

    def fresh() -> Rival:
        return Rival(method, images, plan.data.size, batch, seed, workers)

    each = step_seconds(fresh().steps(NEVER), 60 * setting["minutes"] * TIMED)
    total = max(1, int(60 * setting["minutes"] * SHARE / each))
    clock = Clock()
    run = fresh()
    curve = Curve(
        clock,
        marks(setting["minutes"], setting["reads"]),
        lambda: score(run.model.backbone, plan.data, IMAGENET, plan.workers),
    )
    curve.begin()
    try:
        for number, loss in enumerate(run.steps(total), 1):
            if not finite(loss):
                curve.diverge()
                break
            curve.step(last=number == total)
    except Over:
        pass
    found = about(curve, run.seen, total * batch, clock)
    epochs = total * batch / len(plan.data.train)
    used = {**versions(), "lightly": version("lightly")}
    return {**found, "epochs": epochs, "lr": run.rate, "precision": "float32", **same(plan), "versions": used}


def finite(loss: Tensor) -> bool:
    """Whether a loss is a number."""
    return isfinite(float(loss))


def about(curve: Curve, images: int, planned: int, clock: Clock) -> dict:
    """What the clock and the curve say of a run that has seen so many of the images that it planned for."""
    points = [(at, value if value is None or isfinite(value) else None) for at, value in curve.points]
    trained = points[-1][0]
    return {
        "points": points, "trained_minutes": trained, "images_per_second": images / (60 * trained),
        "of_schedule": images / planned, "knn_minutes": clock.still / 60,
    }  # fmt: skip


def same(plan: Plan) -> dict:
    """What both sides have of a plan."""
    training = plan.recipe.training
    return {
        "size": plan.data.size, "batch": training.batch_size, "backbone": training.backbone,
        "train": len(plan.data.train), "test": len(plan.data.test or ()),
        "files": bool(plan.data.train.images.paths), "threads": torch.get_num_threads(),
    }  # fmt: skip


def alone(*job: object) -> dict:
    """A run in a process of its own, as a person starts one, where a loader's processes are forked as usual."""
    words = [sys.executable, __file__, "-", "--job", json.dumps(job)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def work(side: str, *job: object) -> None:
    """Make one run, and print what came of it."""
    keep_memory()
    print(json.dumps({"ours": ours, "lightly": lightly}[side](*job)), flush=True)


# ---- the page and the picture ----------------------------------------------------------------------------------------


def pick(rows: list[dict], **keys: object) -> list[dict]:
    """The rows of these values."""
    return [row for row in rows if all(row[key] == value for key, value in keys.items())]


def cell(rows: list[dict], minute: float) -> str:
    """kNN at a minute: mean and deviation over the seeds."""
    values = [read(row["points"], minute) for row in rows]
    lost = sum(value is None for value in values)
    if not rows or lost:
        return f"diverged ({lost} of {len(rows)})" if rows else "not measured"
    return mean([value for value in values if value is not None])


def average(rows: list[dict], minute: float) -> float | None:
    """The mean kNN of a side at a minute; None where a run has none."""
    values = [read(row["points"], minute) for row in rows]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None


def overtaken(mine: list[dict], theirs: list[dict], minutes: float) -> str:
    """The minute from which on ours, on average, is never below what lightly has at the end."""
    goal = average(theirs, minutes)
    if goal is None or not mine:
        return "-"
    since = None
    for at in sorted({at for row in mine for at, _ in row["points"]}, reverse=True):
        value = average(mine, at)
        if value is None or value < goal:
            break
        since = at
    return "not reached" if since is None else f"{since:.1f}"


def page(rows: list[dict]) -> str:
    """The tables, their protocol above them."""
    one = rows[0]
    reads, minutes = one["reads"], one["minutes"]
    option = "" if one["asked"] == "auto" else f" --precision {one['asked']}"
    lines = ["# The same minutes: ours and lightly's loop", ""]
    lines += dict.fromkeys(f"{row['processor']}, {row['threads']} threads; commit {row['commit']}." for row in rows)
    lines += [
        f"Versions: {said}."
        for said in dict.fromkeys(", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows)
    ]
    sets_ = dict.fromkeys((r["data"], r["size"], r["batch"], r["train"], r["test"], r["files"]) for r in rows)
    shown = (
        f"{name}: {train:,} images to train on and {test:,} to test, views of {size} px, batch {batch}"
        f"{', read from files' if files else ''}"
        for name, size, batch, train, test, files in sets_
    )
    lines += [
        "",
        f"Protocol: `python benchmarks/race.py DATA --minutes {minutes:g}`. One run of {minutes:g} minutes a side and "
        f"seed, one at a time on",
        "the same cores, read at the minutes of the table: the last kNN that was measured at or before each (k = 20,",
        f"T = 0.07, test split, by `sslzoo.knn` for both, features in float32). **The clock stands still while kNN is "
        f"measured**, {LOOKS}",
        "times a run and before its first step. It begins before the images are read (ours) or the loader is made",
        "(lightly), and not when Python does. Both sides have a cosine that ends with the minutes: each times its own",
        f"steps beforehand, off the clock, and plans {SHARE:.0%} of the minutes; ours in whole epochs, lightly's in",
        f"steps. Both train the net `{one['backbone']}`, with the same batch. Mean ± sample deviation over the seeds.",
        "",
        *(f"- {said}." for said in shown),
        f"- Ours: `sslzoo train METHOD --data DATA --seed SEED --epochs N{option}`, and no other option.",
        f"- lightly: its transforms in a DataLoader with {one['workers']} workers, its heads, losses, optimisers and "
        "learning rates as its",
        "  own CIFAR-10 benchmark has them (cifar10_benchmark.py; [rival.py](../rival.py) lists them), in float32. Its",
        "  heads are as wide as for its ResNet-18: SimSiam 2048-2048 and 512, BYOL 1024-256 twice, the others 512-128.",
        "",
        "![kNN against the clock](race.png)",
        "",
    ]
    heads = [f"{side}, {minute:g} min" for minute in reads for side in SIDES]
    lines += [f"| data | method | seeds | {' | '.join(heads)} | ours keeps above lightly's last from, min |"]
    lines += ["|---|---|---|" + "---|" * (len(heads) + 1)]
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        mine, theirs = (pick(rows, data=data, method=method, side=side) for side in SIDES)
        seeds = " / ".join(dict.fromkeys(str(len(some)) for some in (mine, theirs)))
        cells = [cell(some, minute) for minute in reads for some in (mine, theirs)]
        lines.append(f"| {data} | {method} | {seeds} | {' | '.join(cells)} | {overtaken(mine, theirs, minutes)} |")
    heads = ["precision", *(head for head, *_ in NUMBERS)]
    lines += ["", f"| data | method | side | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(heads)]
    for data, method, side in dict.fromkeys((row["data"], row["method"], row["side"]) for row in rows):
        some = pick(rows, data=data, method=method, side=side)
        numbers = [f"{statistics.mean(row[key] for row in some):{how}}" for _, key, how in NUMBERS]
        lines.append(f"| {data} | {method} | {side} | {some[0]['precision']} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict]) -> Figure:
    """kNN against the minutes: a row of panels for each data set, a panel for each method, a colour for each side."""
    data = list(dict.fromkeys(row["data"] for row in rows))
    methods = [one for one in METHODS if pick(rows, method=one)]
    wide = 2 if len(data) == 1 and len(methods) > 2 else len(methods)
    panels = [(name, method) for name in data for method in methods]
    deep = -(-len(panels) // wide)
    figure = Figure(figsize=(max(4.0, 2.3 * wide + 0.6), 2.4 * deep + 0.5), layout="constrained")
    axes = figure.subplots(deep, wide, squeeze=False, sharex=True, sharey="row" if len(data) > 1 else "all").flat
    for (name, method), one in zip(panels, axes, strict=False):
        for side in SIDES:
            some = pick(rows, data=name, method=method, side=side)
            if not some:
                continue
            times = [0.0, *marks(some[0]["minutes"], some[0]["reads"])]
            start = statistics.mean(row["points"][0][1] or 0 for row in some)
            values = [start, *(average(some, at) for at in times[1:])]
            ys = [float("nan") if value is None else value for value in values]
            one.plot(times, ys, color=COLOURS[side], marker=MARKS[side], markersize=3.5, linewidth=1.6, label=side)
            spread = [[v for row in some if (v := read(row["points"], at)) is not None] for at in times[1:]]
            if len(some) > 1 and all(spread):
                ends = [min(s) for s in spread], [max(s) for s in spread]
                one.fill_between(times[1:], *ends, color=COLOURS[side], alpha=0.18, linewidth=0)
        for minute in rows[0]["reads"]:
            one.axvline(minute, color="#c8c8c8", linewidth=0.8, zorder=0)
        one.set_xticks([0, *rows[0]["reads"]])
        one.set_title(f"{method}, {name}", fontsize=9)
        one.grid(axis="y", color="#ececec", linewidth=0.7)
        for edge in ("top", "right"):
            one.spines[edge].set_visible(False)
    figure.supxlabel("minutes of training (vertical lines: where the table reads)", fontsize=9)
    figure.supylabel("kNN accuracy (k = 20, test)", fontsize=9)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def write(path: Path, rows: list[dict]) -> None:
    """The figures, the page and the picture."""
    path.write_text(compact(digits(rows)) + "\n")
    kept = json.loads(path.read_text())
    path.with_suffix(".md").write_text(page(kept).replace("(race.png)", f"({path.stem}.png)"))
    path.with_suffix(".png").write_bytes(saved(picture(kept)))


# ---- the command -----------------------------------------------------------------------------------------------------


def jobs(seeds: int, data: Sequence[str], methods: Sequence[str]) -> Iterator[tuple[str, str, str, int]]:
    """Side, method, data and seed, the two sides next to each other and now the one first, now the other."""
    for seed in range(seeds):
        for where in data:
            for method in methods:
                for side in SIDES if seed % 2 == 0 else SIDES[::-1]:
                    yield side, method, where, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="folders or .npz files")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--reads", type=float, nargs="+", default=[2.0, 5.0, 10.0], help="minutes of the table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--precision", default="auto", help="of ours, as of sslzoo train; lightly's is float32")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of lightly's loader")
    parser.add_argument("--name", default="race", help="of the files to write")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument("--quick", action="store_true", help="two methods, one seed, two seconds")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # one run, in a process of its own
    args = parser.parse_args()
    if args.job is not None:
        work(*args.job)
        return
    if args.quick and args.out == RESULTS:
        parser.error("--quick needs --out DIR: its results are none to keep")
    if args.quick:
        vars(args).update(QUICK)
    if max(args.reads) > args.minutes or min(args.reads) <= 0:
        parser.error("--reads are minutes above 0, and at most --minutes")
    setting = {"asked": args.precision, **{key: getattr(args, key) for key in ("minutes", "reads", "workers")}}
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.name}.json"
    rows = read_rows(path)
    if any({key: row[key] for key in setting} != setting for row in rows):
        parser.error(f"{path} has runs of other --minutes, --reads, --workers or --precision; give another --name")
    done = {(row["side"], row["method"], row["data"], row["seed"]) for row in rows}
    for side, method, data, seed in jobs(args.seeds, args.data, args.methods):
        key = {"data": Path(data).stem, "method": method, "side": side, "seed": seed}
        if (side, method, key["data"], seed) in done:
            continue
        found = alone(side, method, os.path.abspath(data), seed, setting)
        rows.append({**key, **setting, **found, "processor": processor(), "commit": commit()})
        write(path, rows)
        print(*key.values(), {f"{at:g} min": read(found["points"], at) for at in args.reads}, flush=True)


if __name__ == "__main__":
    main()
