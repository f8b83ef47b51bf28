"""How fast sslzoo is beside its limits and its peers: one command, one table of ratios, JSON beside it.

    pip install -e '.[bench]'
    python benchmarks/speed.py                                           # everything, some 20 minutes on two cores
    python benchmarks/speed.py --only augmentation,step --quick --json F # a part, in less time
    python benchmarks/speed.py --only stream --folder PICTURES           # files against torchvision and a DataLoader
    python benchmarks/speed.py --tiny --folder PICTURES                  # does it run? The figures mean nothing

What is compared runs in turns, in one process and after a warm-up; a ratio is the median over the turns.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from commit import commit
from compact import compact

import sslzoo
from sslzoo.data import sets
from sslzoo.data.images import FileImages, MemoryImages
from sslzoo.data.listed.tree import Folder
from sslzoo.data.sample import sample
from sslzoo.data.splits import MAX_VIEW_SIZE, Dataset, Shapes, Split
from sslzoo.metrics.knn import knn
from sslzoo.metrics.rows import unit_rows
from sslzoo.tools.progress import Work
from sslzoo.training.budget.kept import processor
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.loop import Training
from sslzoo.training.machine import find_device, keep_memory, versions
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare
from sslzoo.views.batches import Batches

try:
    import peers
except ModuleNotFoundError as error:  # what is ours can be measured all the same
    peers, MISSING = None, error.name
else:
    MISSING = None

METHODS = ("simsiam", "byol", "simclr", "swav")
WORKERS = min(8, os.cpu_count() or 1)
NEVER = "1000000"  # epochs between checkpoints: a run that is only timed writes none


@dataclass(frozen=True)
class Sizes:
    """How much work each part does."""

    views: Sequence[tuple[int, float, int]] = ((32, 0.0, 24), (96, 0.5, 10))  # px, share that is blurred, batches
    backbones: Sequence[str] = ("small", "resnet18")
    batch: int = 256  # of a step; an epoch's is half of it
    limit: int | None = None  # images of an epoch
    knn: tuple[int, int, int] = (50_000, 10_000, 512)  # rows of the bank, queries, columns
    sklearn: int = 2_000  # queries of the slowest peer
    startups: int = 9  # turns
    memory: Sequence[tuple[int, int, int]] = ((50_000, 10_000, 512), (200_000, 10_000, 256))
    batches: Sequence[int] = (64, 128, 256, 512)
    queues: Sequence[int] = (1_024, 4_096, 16_384, 65_536)
    pixels: Sequence[int] = (32, 64, 96, 128, 224)
    banks: Sequence[int] = (10_000, 100_000, 1_000_000)


TINY = Sizes(
    views=((32, 0.0, 2), (96, 0.5, 1)), batch=8, limit=8, knn=(1_000, 50, 32),
    sklearn=20, startups=1, memory=((1_000, 50, 32),), batches=(16, 32), queues=(64, 128), pixels=(32, 64),
    banks=(500, 1_000),
)  # fmt: skip


class Bench:
    """The device, and how long to look."""

    def __init__(self, device: torch.device, quick: bool, folders: Sequence[Path], tiny: bool = False):
        self.device, self.quick, self.folders, self.tiny = device, quick or tiny, folders, tiny
        self.turns = 1 if tiny else 3 if quick else 7
        self.sizes = TINY if tiny else Sizes()

    def time(self, work: Callable[[], object]) -> float:
        """Seconds of one call, the device's work included."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def race(
        self, works: dict[str, Callable[[], object]], turns: int | None = None, warm: int = 1
    ) -> dict[str, list[float]]:
        """Seconds of each work, in turns, after a warm-up."""
        for work in works.values():
            for _ in range(warm):
                work()
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(1 if self.tiny else turns or self.turns):
            for name, work in works.items():
                seconds[name].append(self.time(work))
        return seconds


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median over the turns."""
    return statistics.median(n / d for n, d in zip(numerator, denominator, strict=True))


def many(work: Callable[[], object], times: int) -> Callable[[], None]:
    """Several calls as one, so that a turn is long beside the clock."""

    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def through(batches: Callable[[], Iterable]) -> Callable[[], None]:
    """A whole epoch, so that no loader has done a part of it beforehand."""

    def all_of_it() -> None:
        for _ in batches():
            pass

    return all_of_it


def endless(batches: Callable[[], object]) -> Callable[[], object]:
    """The next batch of a source that starts again when it is through."""
    state = {"left": iter(batches())}

    def following() -> object:
        found = next(state["left"], None)
        if found is None:
            state["left"] = iter(batches())
            found = next(state["left"])
        return found

    return following


# ---- the parts -------------------------------------------------------------------------------------------------------


def augmentation(bench: Bench) -> dict:
    """Pairs of views a second: ours as training has them, lightly's in a DataLoader, kornia's in batches."""
    found = {}
    for size, blur, batches in bench.sizes.views:
        batch = 128
        images = sets.load("digits", size).train.images.pixels[: batches * batch]
        recipe = sslzoo.load("simsiam", batch_size=batch, blur=blur)
        ours = Batches(as_dataset(images, size), recipe, bench.device, seed=0)
        workers = 1 if bench.device.type == "cuda" else WORKERS  # on a GPU the question is how many it replaces
        pictures = peers.Pictures(images, peers.simsiam_transform(size, blur))
        theirs = peers.loader(pictures, batch, workers, bench.device)
        view = peers.kornia_views(images[:batch].to(bench.device), size, blur)
        works = {
            "ours": through(lambda ours=ours: ours.epoch(0)),
            "lightly": through(lambda theirs=theirs: theirs),
            "kornia": many(lambda view=view: (view(), view()), 2),
        }
        seconds = bench.race(works)
        pairs = {"ours": len(images), "lightly": len(images), "kornia": 2 * batch}
        speeds = {name: [pairs[name] / s for s in each] for name, each in seconds.items()}
        found[str(size)] = {
            **{name: statistics.median(each) for name, each in speeds.items()},
            "workers": workers,
            "ratio": ratio(speeds["ours"], speeds["lightly"]),
            "ratio_kornia": ratio(speeds["ours"], speeds["kornia"]),
        }
    return found


def as_dataset(images: torch.Tensor, size: int) -> Dataset:
    """Images in memory."""
    split = Split(MemoryImages(images))
    return Dataset("pictures", split, split, None, size)


def training(bench: Bench, expression: str, backbone: str, batch: int, images: int | None = None) -> Training:
    """A run that has not begun; nothing is written."""
    options = Options(
        backbone=backbone, batch_size=batch, device=str(bench.device), limit=images, checkpoint_every=NEVER
    )
    return Training(prepare(expression, options))


def an_epoch(run: Training) -> Callable[[], None]:
    """The run's first epoch, again each time that it is called."""

    def work() -> None:
        run.epoch = run.position = 0
        run.train_epoch(Reporter(), [])

    return work


def backbones(bench: Bench) -> list[str]:
    """The default small encoder and ResNet-18 on a CPU; on a GPU the latter alone."""
    return ["resnet18"] if bench.device.type == "cuda" else [*bench.sizes.backbones]


def step(bench: Bench) -> dict:
    """The training step, its batch included, over forward and backward of the same nets on ready tensors."""
    found = {}
    for backbone in backbones(bench):
        heavy = backbone != "small" and bench.device.type == "cpu"
        run = training(bench, "simsiam", backbone, bench.sizes.batch).learner
        run.model.train()
        following = endless(lambda run=run: run.batches.epoch(0))
        index, views = following()
        views = [view.clone() for view in views]

        def limit(run=run, views=views) -> None:
            for parameter in run.model.parameters():
                parameter.grad = None
            with run.autocast():
                outputs = [run.model.predictor(run.model.online(view)) for view in views]
            torch.autograd.backward(torch.stack([x.mean() for x in outputs]).sum())

        def ready(run=run, views=views, index=index) -> None:
            run.step(views, index, 0)

        def whole(run=run, following=following) -> None:
            where, made = following()
            run.step(made, where, 0)

        times = 1 if heavy or bench.tiny else 5
        works = {"limit": limit, "ready": ready, "whole": whole}
        seconds = bench.race(
            {k: many(w, times) for k, w in works.items()}, turns=(3 if bench.quick else 5) if heavy else 9
        )
        found[backbone] = {
            **{f"{name}_ms": 1e3 * statistics.median(each) / times for name, each in seconds.items()},
            "ratio": ratio(seconds["whole"], seconds["limit"]),
            "ratio_ready": ratio(seconds["ready"], seconds["limit"]),
        }
    first, *rest = found
    return {**found[first], "backbone": first, "batch": bench.sizes.batch, **{name: found[name] for name in rest}}


def epoch(bench: Bench) -> dict:
    """Images a second of whole epochs: ours against lightly's loop with as many workers as cores.

    Ours in the precision that ``auto`` takes here; lightly's in float32, as its examples have it, and in ours.
    """
    found: dict[str, dict] = {}
    for backbone in backbones(bench):
        heavy = backbone != "small" and bench.device.type == "cpu"
        for method in METHODS[:1] if bench.quick and (heavy or not bench.tiny) else METHODS:
            batch = bench.sizes.batch // (4 if heavy else 2)
            some = bench.sizes.limit or (4 * batch if heavy else None)
            run = training(bench, method, backbone, batch, some)
            images = run.plan.data.train.images.pixels
            same = run.plan.precision
            works = {"ours": an_epoch(run)}
            for precision in dict.fromkeys(("float32", same)):
                loop = peers.Loop(method, run.plan.recipe, images, WORKERS, bench.device, precision == "bf16")
                works[f"lightly_{precision}"] = loop.epoch
            seconds = bench.race(works, turns=3)
            number = len(run.batches) * batch
            entry: dict = {name: number / statistics.median(each) for name, each in seconds.items()}
            entry |= {
                "precision": same,
                "ratio": ratio(seconds["lightly_float32"], seconds["ours"]),
                "ratio_same": ratio(seconds[f"lightly_{same}"], seconds["ours"]),
            }
            where = found.setdefault(method, {})
            where.update({backbone: entry} if where else {**entry, "backbone": backbone, "batch": batch})
    return found


def embeddings(rows: int, asked: int, dim: int, classes: int = 100) -> tuple[np.ndarray, ...]:
    """Clusters: a bank and queries, with their labels."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, dim), dtype=np.float32)
    labels, truth = rng.integers(classes, size=rows), rng.integers(classes, size=asked)
    made = [centres[x] + 3 * rng.standard_normal((len(x), dim), dtype=np.float32) for x in (labels, truth)]
    return made[0], labels, made[1], truth


def knn_speed(bench: Bench) -> dict:
    """Queries a second, 10,000 in 50,000 x 512, k = 200: ours with normalisation and votes, faiss' search alone."""
    (rows, asked, columns), few = bench.sizes.knn, bench.sizes.sklearn
    bank, labels, queries, truth = embeddings(rows, asked, columns)
    b, q = unit_rows("bank", bank), unit_rows("queries", queries)
    works = {
        "ours": lambda: knn(bank, labels, queries, truth, ks=(200,)),
        "faiss": lambda: peers.bare_faiss(b, q, 200),
        "lightly": lambda: list(peers.lightly_knn(b, labels, q, 200, 100)),
        "sklearn": lambda: peers.sklearn_knn(b, labels, q[:few], 200),
    }
    seconds = bench.race(works, turns=3 if bench.quick else 5)
    return {
        **{name: (few if name == "sklearn" else asked) / statistics.median(each) for name, each in seconds.items()},
        "ratio_faiss": ratio(seconds["faiss"], seconds["ours"]),
        "ratio_lightly": ratio(seconds["lightly"], seconds["ours"]),
        "ratio_sklearn": asked / few * ratio(seconds["sklearn"], seconds["ours"]),
    }


def startup(bench: Bench) -> dict:
    """Seconds until a command has said its piece; a bare python beside."""
    script = str(Path(sys.executable).parent / "sslzoo")
    commands = {
        "help": [script, "--help"],
        "methods": [script, "methods"],
        "import": [sys.executable, "-c", "import sslzoo"],
        "python": [sys.executable, "-c", "pass"],
    }
    works = {
        name: lambda words=words: subprocess.run(words, capture_output=True, check=True)
        for name, words in commands.items()
    }
    return {name: statistics.median(each) for name, each in bench.race(works, bench.sizes.startups).items()}


def stream(bench: Bench) -> dict:
    """Pairs of crops a second from image files, with two workers each: ours against torchvision's transforms."""
    if not bench.folders:
        return {"skipped": "no --folder of images was given"}
    found = {}
    for folder in bench.folders:
        batch, workers = 32 if bench.tiny else 128, 2
        paths = [Path(text) for _, run in Folder(folder, Work("files listed")).runs() for text in run]
        sizes = sample(paths, None, {}).shapes
        width, height = map(int, np.median(sizes, axis=0))
        shapes = Shapes(width, height, int(np.median(sizes.min(axis=1))), equal=False)
        size = min(shapes.shorter, MAX_VIEW_SIZE)
        split = Split(FileImages(tuple(paths[: len(paths) if not bench.quick else 20 * batch])))
        recipe = sslzoo.load("simsiam", batch_size=batch, jitter=0, grayscale=0, blur=0)
        ours = Batches(Dataset("files", split, split, None, size, shapes=shapes), recipe, bench.device, 0, workers)
        theirs = peers.loader(peers.Files(list(split.images.paths), size), batch, workers, bench.device)
        works = {"ours": through(lambda ours=ours: ours.epoch(0)), "torchvision": through(lambda theirs=theirs: theirs)}
        seconds = bench.race(works, turns=3)
        speeds = {name: len(split) / statistics.median(each) for name, each in seconds.items()}
        speeds["ratio"] = ratio(seconds["torchvision"], seconds["ours"])
        found[folder.name] = {"files": len(split), "view": size, **speeds}
    return found


# ---- memory and growth -----------------------------------------------------------------------------------------------


def fresh(work: Callable, *args: object) -> dict:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def peak() -> float:
    """GiB that this process had at most, since it began or `forget_peak`; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def forget_peak() -> float:
    """Begin the peak anew; GiB of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def knn_memory(rows: int, asked: int, dim: int) -> dict:
    """GiB that kNN adds to its arguments at most, and bank + queries."""
    bank, labels, queries, truth = embeddings(rows, asked, dim)
    before = forget_peak()
    knn(bank, labels, queries, truth, ks=(200,))
    return {"added": peak() - before, "bank_and_queries": (bank.nbytes + queries.nbytes) / 2**30}


def train_memory(who: str, backbone: str, batch: int) -> dict:
    """GiB of a training process at most, and of its workers."""
    bench = Bench(torch.device("cpu"), True, [])
    run = training(bench, "simsiam", backbone, batch, 4 * batch)
    images = run.plan.data.train.images.pixels
    if who == "ours":
        an_epoch(run)()
    else:
        peers.Loop("simsiam", run.plan.recipe, images, WORKERS, bench.device, False).epoch()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # the largest of them
    return {"process": peak(), "largest_worker": workers if who != "ours" else 0.0}


def memory(bench: Bench) -> dict:
    """Peak memory, each in a fresh process (on a GPU: of the device)."""
    found = {"knn": {f"{rows}x{dim}": fresh(knn_memory, rows, n, dim) for rows, n, dim in bench.sizes.memory}}
    found["train"] = {who: fresh(train_memory, who, "small", bench.sizes.batch) for who in ("ours", "lightly")}
    if bench.device.type == "cuda":
        for who in ("ours", "lightly"):
            run = training(bench, "simsiam", "resnet18", 512, 2048)
            torch.cuda.reset_peak_memory_stats()
            if who == "ours":
                an_epoch(run)()
            else:
                bf16 = run.plan.precision == "bf16"
                peers.Loop(
                    "simsiam", run.plan.recipe, run.plan.data.train.images.pixels.cpu(), WORKERS, bench.device, bf16
                ).epoch()
            found[f"gpu_{who}"] = {"GiB": torch.cuda.max_memory_allocated() / 2**30}
    return found


def growth(bench: Bench) -> dict:
    """Milliseconds a step by batch and queue; microseconds a view by image size; queries a second by bank rows."""
    found: dict[str, dict[str, float]] = {"batch": {}, "image_size": {}, "queue_length": {}, "bank_rows": {}}

    def step_ms(expression: str, batch: int) -> float:
        run = training(bench, expression, backbones(bench)[0], batch).learner
        run.model.train()
        index, views = next(iter(run.batches.epoch(0)))
        seconds = bench.race({"step": many(lambda: run.step(views, index, 0), 3)}, warm=2)
        return 1e3 * statistics.median(seconds["step"]) / 3

    for batch in bench.sizes.batches:
        found["batch"][str(batch)] = step_ms("simsiam", batch)
    for length in bench.sizes.queues:
        found["queue_length"][str(length)] = step_ms(f"moco_v2 queue_length={length}", bench.sizes.batch // 2)
    for size in bench.sizes.pixels:
        images = sets.load("digits", size, limit=256).train.images.pixels
        batches = Batches(as_dataset(images, size), sslzoo.load("simsiam", batch_size=64, blur=0.5), bench.device, 0)
        seconds = bench.race({"augment": many(endless(lambda batches=batches: batches.epoch(0)), 4)}, warm=2)
        found["image_size"][str(size)] = 1e6 * statistics.median(seconds["augment"]) / (4 * 2 * 64)
    for rows in bench.sizes.banks[:-1] if bench.quick and not bench.tiny else bench.sizes.banks:
        bank, labels, queries, truth = embeddings(rows, 1_000, 256)
        seconds = bench.race({"knn": lambda: knn(bank, labels, queries, truth, ks=(200,))}, turns=3)  # noqa: B023
        found["bank_rows"][str(rows)] = 1_000 / statistics.median(seconds["knn"])
    return found


PARTS = {
    "startup": startup, "augmentation": augmentation, "step": step, "epoch": epoch, "knn": knn_speed, "stream": stream,
    "memory": memory, "growth": growth,
}  # fmt: skip


ALONE = ("startup", "step", "growth")  # parts without a peer


# ---- what is printed -------------------------------------------------------------------------------------------------


def about(bench: Bench) -> dict:
    """What the figures depend on."""
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else processor()
    packages = {**versions()}
    packages |= {} if MISSING else {peer: version(peer) for peer in ("lightly", "kornia", "scikit-learn")}
    return {
        "name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "versions": packages,
        "commit": commit(), "date": time.strftime("%Y-%m-%d"), "quick": bench.quick,
    }  # fmt: skip


def rows(table: dict, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Every figure of nested tables by its path."""
    found = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += rows(value, (*path, key))
        else:
            shown = f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 100 else value
            shown = f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else shown
            found.append((" ".join((*path, key)), str(shown)))
    return found


def markdown(result: dict) -> str:
    """The tables."""
    lines = [f"{key}: {value}" for key, value in result["device"].items()]
    text = ["\n".join(f"- {line}" for line in lines)]
    for part in PARTS:
        if part in result:
            body = "\n".join(f"| {name} | {value} |" for name, value in rows(result[part]))
            text.append(f"## {part}\n\n{PARTS[part].__doc__}\n\n| | |\n|---|---:|\n{body}")
    return "\n\n".join(text) + "\n"


def main() -> None:
    """Run the parts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between: %(default)s")
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--tiny", action="store_true", help="sizes at which the figures mean nothing: does it run?")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, action="append", help="image files for 'stream', several allowed")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--markdown", type=Path, help="write the tables here, too")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := [part for part in chosen if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    keep_memory()  # as `sslzoo train` does, here for whatever is compared
    bench = Bench(find_device(options.device), options.quick, options.folder or [], options.tiny)
    result: dict = {"device": about(bench)}
    for part in chosen:
        started = time.time()
        skipped = {"skipped": f"{MISSING} is not installed; pip install -e '.[bench]'"}
        result[part] = PARTS[part](bench) if MISSING is None or part in ALONE else skipped
        print(f"{part}: {time.time() - started:.0f} s", file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(compact(result) + "\n")
    print(markdown(result))
    if options.markdown:
        options.markdown.write_text(markdown(result))


if __name__ == "__main__":
    main()
