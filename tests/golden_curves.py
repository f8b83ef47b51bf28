"""Golden curves: what every shipped method does in its first steps, at a size that takes a second.

``python tests/golden.py curves`` writes ``golden/curves.txt`` anew; its diff shows which methods a change touches.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner

import sslzoo
from sslzoo.cli import main
from sslzoo.recipes.recipe import method_names
from sslzoo.training.listeners.reporter import Reporter

FILE = Path(__file__).parent / "golden" / "curves.txt"
HEAD = """\
# What every shipped method does in its first {steps} steps: the loss of each, and the kNN accuracy (k = 20) after them.
# The digits, {images} images in batches of {batch}, small net and heads, rate / 100, float32, one thread, seed 0.
# 'python tests/golden.py curves' writes this file anew; tests/test_golden.py says how far a run may be from it.
"""
IMAGES, SIZE, BATCH, EPOCHS = 160, 16, 32, 4
STEPS = IMAGES // BATCH * EPOCHS
BANK = 2000
TINY: dict[str, int | float] = {  # the sizes, and schedules that end within so few steps; each where it is read
    "heads.hidden": 16, "heads.dim": 8, "heads.predictor_hidden": 8, "memory.queue_length": 72, "loss.slices": 16,
    "clustering.prototypes": 12, "clustering.kmeans_iterations": 2, "normalize.whiten_size": 16,
    "optimizer.warmup_epochs": 1, "target.tau": 0.5,
}  # fmt: skip
LARGE: dict[str, int | float] = {  # what only the recipe for large images has, which is seen where it is there
    "clustering.freeze_epochs": 1, "clustering.codebooks": 2, "views.local_crops": 2,
}  # fmt: skip
LOCAL_SIZE = 8
KNN = f"--data digits --limit {BANK} --image-size {SIZE} -k 20 --retrieval none --device cpu --no-cache --json".split()


@dataclass(frozen=True)
class Curve:
    """The losses of a method's first steps, and its kNN accuracy after them."""

    losses: tuple[float, ...]
    knn: float


class Steps(Reporter):
    """A reporter that takes the losses of the single steps from the means over an epoch's steps so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.sum = 0.0

    def step(self, epoch: int, done: int, steps: int, loss: Any, speed: float) -> None:
        before = self.sum if done > 1 else 0.0
        self.sum = loss() * done
        self.losses.append(self.sum - before)


def words(method: str) -> list[str]:
    """A method as its file has it for small images, whatever a data set asks for, but for the sizes."""
    small, large = (sslzoo.load(method, scale=scale).knobs() for scale in ("small", "large"))
    knobs = {key: value for key, value in small.items() if not key.startswith("training.")}
    knobs |= {key: value for key, value in LARGE.items() if large.get(key, 0) > small.get(key, 0)}
    knobs["optimizer.lr"] = 0.01 * float(knobs["optimizer.lr"])  # small steps: larger ones make roundings grow
    knobs |= {"views.local_size": LOCAL_SIZE} if knobs["views.local_crops"] else {}
    knobs |= {key: value for key, value in TINY.items() if key in knobs}
    return [method, *(f"{key}={value}" for key, value in knobs.items())]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever machine this is and whatever ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def curve(method: str) -> Curve:
    """Train a method for its first steps by the loop that all runs go through, and benchmark what it learnt."""
    steps = Steps()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        run = sslzoo.train(
            words(method), reporter=steps, data="digits", limit=IMAGES, batch_size=BATCH, epochs=EPOCHS,
            image_size=SIZE, backbone="small", device="cpu", precision="float32", seed=0, out=folder, knn_every=EPOCHS,
        )["run"]  # fmt: skip
        result = CliRunner().invoke(main, ["knn", run, *KNN])
        assert result.exit_code == 0, result.output
    return Curve(tuple(steps.losses), json.loads(result.stdout)["rows"][0]["knn"]["k20"])


def listing() -> str:
    """Train every shipped method and write down what it did, a line each."""
    lines = [HEAD.format(steps=STEPS, images=IMAGES, batch=BATCH)]
    for name in method_names():
        found = curve(name)
        losses = " ".join(f"{loss:.5g}" for loss in found.losses)
        lines.append(f"{name}: kNN {found.knn:.4f}; {losses}\n")
    return "".join(lines)


def read() -> dict[str, Curve]:
    """The curves that are written down, by method."""
    found = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, _, numbers = line.partition(": kNN ")
            knn, _, losses = numbers.partition("; ")
            found[name] = Curve(tuple(map(float, losses.split())), float(knn))
    return found
