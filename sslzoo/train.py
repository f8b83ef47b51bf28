"""Training: the loop, its checkpoints and what it reports; every image passes once an epoch."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from torch import Tensor

from . import files, runs
from .batches import Batches
from .embed import features
from .encoders import build
from .errors import Diverged, UserError
from .health import advice, average, health, most
from .knn import knn
from .machine import compiled, device_name, versions
from .optim import optimizer
from .plan import Options, Plan, prepare
from .recipe import dump, read_method, switch_values
from .siamese import Siamese
from .splits import Split

HEALTH_BATCHES = 10  # an epoch
MORE_HEALTH = ("alignment", "uniformity", "code_entropy", "code_usage")  # beside std and rank


class Interrupted(Exception):
    """Training was stopped by a signal; the run's path is its argument."""


class Reporter:
    """Told what happens; this one says nothing, and the screen is another."""

    def begin(self, plan: Plan, run: Path, epoch: int) -> None: ...

    def warn(self, sentence: str) -> None: ...

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None: ...

    def epoch(self, row: dict[str, Any], epochs: int) -> None: ...

    def end(self, result: dict[str, Any]) -> None: ...


def train(
    expression: str | Sequence[str], reporter: Reporter | None = None, stop_after: int | None = None, **options: Any
) -> dict[str, Any]:
    """Train an expression and return what ``sslzoo train --json`` prints; ``options`` are those of `plan.Options`.

    Writes a new run directory below ``out``. Raises `UserError` before anything is written where it cannot.
    """
    plan = prepare(expression, Options(**options))
    return Training(plan).run(reporter or Reporter(), stop_after)


def resume(run: str | Path, reporter: Reporter | None = None, stop_after: int | None = None) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, as if it had never stopped. Raises `UserError`."""
    path = Path(run)
    about, checkpoint = runs.read_run(path), runs.read_checkpoint(path)
    options = Options(**{**about["options"], "init": None})
    method = read_method(path / "recipe.toml")
    plan = prepare([str(path / "recipe.toml")], options)
    expression = replace(plan.expression, text=about["expression"])
    recipe = replace(plan.recipe, expression=about["expression"], method=about["method"])
    if recipe.switches != method.switches or len(plan.data.train) != about["images"]:
        raise UserError(
            f"The data of {path} has changed since; bring back {about['images']} images or start a new run."
        )
    return Training(replace(plan, recipe=recipe, expression=expression), path, checkpoint).run(
        reporter or Reporter(), stop_after
    )


class Training:
    """One run: model, optimiser, batches, and where in the schedule they are."""

    def __init__(self, plan: Plan, path: Path | None = None, checkpoint: dict[str, Any] | None = None):
        self.plan, self.recipe, self.options, self.device = plan, plan.recipe, plan.options, plan.device
        torch.manual_seed(self.options.seed)
        encoder = build(self.recipe.training.backbone, plan.data.size)
        if self.options.init is not None:
            runs.load_weights(encoder, Path(self.options.init))
        self.untrained = {name: value.clone() for name, value in encoder.state_dict().items()}
        self.model = Siamese(encoder, self.recipe, len(plan.data.train)).to(self.device)
        if self.device.type != "mps":
            self.model.to(memory_format=torch.channels_last)
        self.workers = workers = 2 if self.options.workers is None else self.options.workers
        self.batches = Batches(plan.data, self.recipe, self.device, self.options.seed, workers)
        self.steps = self.recipe.training.epochs * len(self.batches)
        self.optimizer = optimizer(self.model, self.recipe, self.steps)
        self.epoch, self.position, self.trained_seconds, self.images = 0, 0, 0.0, 0
        self.loss = torch.zeros((), device=self.device)  # summed over the epoch so far
        self.health: list[dict[str, float]] = []
        self.log: list[dict[str, Any]] = []
        self.path = path
        if checkpoint is not None:
            self.restore(checkpoint)

    # ---- state

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit."""
        random = {"torch": torch.get_rng_state(), "views": self.batches.generator.get_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "random": random,
            "recipe": dump(self.recipe), "epoch": self.epoch, "position": self.position, "loss": self.loss,
            "health": self.health, "log": self.log, "trained_seconds": self.trained_seconds, "images": self.images,
        }  # fmt: skip

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take up a state. Raises `UserError` where it belongs to another model."""
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
        except (RuntimeError, ValueError, KeyError):
            raise UserError(f"{self.path}/last.pt belongs to another recipe; start the run anew.") from None
        torch.set_rng_state(checkpoint["random"]["torch"])
        self.batches.generator.set_state(checkpoint["random"]["views"])
        if self.device.type == "cuda" and "cuda" in checkpoint["random"]:
            torch.cuda.set_rng_state(checkpoint["random"]["cuda"], self.device)
        for name in ("epoch", "position", "trained_seconds", "images"):
            setattr(self, name, checkpoint[name])
        self.loss = checkpoint["loss"].to(self.device)
        self.health, self.log = list(checkpoint["health"]), list(checkpoint["log"])

    def save(self) -> None:
        """Write the checkpoint, the log and the encoder."""
        assert self.path is not None
        runs.write_checkpoint(self.path / "last.pt", self.state())
        runs.write_log(self.path / "log.csv", self.log)
        self.plan.data.bad.keep(self.path)
        about = {"backbone": self.recipe.training.backbone, "image_size": self.plan.data.size}
        about |= {"mean": self.plan.data.mean, "std": self.plan.data.std, "expression": self.recipe.expression}
        runs.save_encoder(self.path / "encoder.safetensors", self.model.online.encoder, about)

    def begin(self) -> Path:
        """Make the run directory and write what is known before the first step."""
        data, recipe = self.plan.data, self.recipe
        path = runs.create(Path(self.options.out), recipe.expression, data.name, self.options.seed)
        files.write(path / "recipe.toml", dump(recipe, title=recipe.expression))
        about = {
            "expression": recipe.expression, "method": recipe.method, "data": data.name, "images": len(data.train),
            "image_size": data.size, "mean": data.mean, "std": data.std, **asdict(recipe.training),
            "options": asdict(self.options), "command": sys.argv, "device": device_name(self.device),
            "precision": self.plan.precision, "versions": versions(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        about["options"]["data"] = str(Path(self.options.data).resolve()) if data.own else self.options.data
        runs.write_json(path / "run.json", about)
        return path

    # ---- the loop

    def run(self, reporter: Reporter, stop_after: int | None) -> dict[str, Any]:
        """Train to the end, or to the end of epoch ``stop_after`` on the same schedule."""
        epochs = self.recipe.training.epochs
        if stop_after is not None and stop_after < 1:
            raise UserError(f"--stop-after cannot be {stop_after}; it is at least 1.")
        self.path = self.path or self.begin()
        if self.options.compile and (why := self.compile()) is not None:
            reporter.warn(why)
        reporter.begin(self.plan, self.path, self.epoch)
        self.plan.data.bad.recall(self.path)
        every = self.options.knn_every or max(1, -(-epochs // 8))
        with _signals() as stopped:
            while self.epoch < min(epochs, stop_after or epochs):
                self.train_epoch(reporter, stopped)
                row = self.row()
                due = self.epoch % every == 0 or self.epoch == epochs
                row["knn"] = self.live_knn() if due and self.plan.data.labelled else None
                self.log.append(row)
                self.save()
                reporter.epoch(row, epochs)
                self.plan.data.bad.tell(self.path, reporter.warn)
        result = self.result()
        self.plan.data.bad.tell(self.path, reporter.warn)
        runs.write_json(self.path / "knn.json", result)
        reporter.end(result)
        return result

    def train_epoch(self, reporter: Reporter, stopped: list[int]) -> None:
        """The rest of an epoch. Raises `Interrupted` once its state is saved, `Diverged` for a loss not finite."""
        steps, batch_size = len(self.batches), self.recipe.training.batch_size
        every = max(1, steps // HEALTH_BATCHES)
        self.model.train()
        if self.position == 0:
            if self.epoch == 0 and self.recipe.switches.clustering == "kmeans":
                for index, views in self.batches.epoch(0):
                    with self.autocast():
                        self.model.remember(views, index)
            self.model.begin_epoch()
        started = time.perf_counter()
        before = self.trained_seconds
        for index, views in self.batches.epoch(self.epoch, self.position):
            self.plan.data.bad.check(self.options.max_bad, self.path)
            self.loss += self.step(views, index, self.epoch * steps + self.position)
            if self.position % every == 0:
                self.health.append(health(self.model.z, self.model.code))
            self.position += 1
            self.images += batch_size
            self.trained_seconds = before + time.perf_counter() - started
            speed = self.images / max(self.trained_seconds, 1e-9)
            reporter.step(self.epoch, self.position, steps, lambda: float(self.loss) / self.position, speed)
            if stopped:
                self.save()
                raise Interrupted(self.path)
        loss = float(self.loss) / steps  # waits for the device
        self.trained_seconds = before + time.perf_counter() - started
        if not torch.isfinite(torch.tensor(loss)):
            kept = f"; {self.path} keeps the epoch before" if self.epoch else ""
            mend = f"Lower optimizer.lr (now {self.recipe.optimizer.lr:g}) or bring back what the expression removed."
            raise Diverged(f"The loss of epoch {self.epoch + 1} is {loss}{kept}. {mend}")
        self.epoch, self.position = self.epoch + 1, 0

    def compile(self) -> str | None:
        """Compile the model, tried on images of noise; the reason where that is not to be had."""
        sizes, n = [size for _, size in self.batches.pipelines], self.recipe.training.batch_size
        layout = self.batches.finish.layout
        own = torch.Generator(self.device).manual_seed(0)
        noise = [torch.rand(n, 3, s, s, generator=own, device=self.device) for s in sizes]
        noise = [images.contiguous(memory_format=layout) for images in noise]
        self.model.train()
        return compiled(self.model, noise, torch.arange(n, device=self.device), self.autocast())

    def autocast(self) -> torch.autocast:
        """bf16 where the plan says so."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16")

    def step(self, views: list[Tensor], index: Tensor, step: int) -> Tensor:
        """One step of the optimiser; the loss stays on the device."""
        with self.autocast():
            loss, keys = self.model(views, index)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.model.update(keys, index, step)
        return cast(Tensor, loss).detach()

    def row(self) -> dict[str, Any]:
        """The epoch's row of the log; clears the sums."""
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "loss": float(self.loss) / len(self.batches),
            **average(self.health),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": self.images / self.trained_seconds,
        }
        self.loss = torch.zeros((), device=self.device)
        self.health = []
        return row

    # ---- evaluation

    def live_knn(self) -> float:
        """kNN, k = 20, on a tenth of the training images by group (or on the test split with ``--eval test``)."""
        if self.options.eval == "test":
            assert self.plan.data.test is not None
            return self.score(self.model.online.encoder, self.plan.data.bank, self.plan.data.test)["k20"]
        return self.score(self.model.online.encoder, *self.plan.data.validation(self.options.seed))["k20"]

    def score(self, encoder: torch.nn.Module | None, bank: Split, queries: Split) -> dict[str, float]:
        data = self.plan.data
        found = [
            features(encoder, s, data.size, data.mean, data.std, self.device, self.workers) for s in (bank, queries)
        ]
        labels = [cast(Tensor, s.readable().labels).numpy() for s in (bank, queries)]  # of the images that have a row
        if not all(np.isfinite(rows).all() for rows in found):
            raise Diverged(f"The features of {self.path} are not finite; lower optimizer.lr.")
        return knn(found[0], labels[0], found[1], labels[1])["knn"]

    def result(self) -> dict[str, Any]:
        """What ``train --json`` prints; the test split is read here and nowhere before."""
        data, last = self.plan.data, self.log[-1]
        scores: dict[str, Any] = {"knn": None, "raw_knn": None, "random_knn": None}
        if data.labelled:
            assert data.test is not None
            untrained = build(self.recipe.training.backbone, data.size).to(self.device)
            untrained.load_state_dict(self.untrained)
            scores["knn"] = self.score(self.model.online.encoder, data.bank, data.test)
            scores["raw_knn"] = self.score(None, data.bank, data.test)["k20"]
            scores["random_knn"] = self.score(untrained, data.bank, data.test)["k20"]
        return {
            "run": str(self.path), "expression": self.recipe.expression, "method": self.recipe.method,
            "switches": switch_values(self.recipe.switches), "data": data.name, "epochs": self.epoch,
            "loss": last["loss"], "std": last["std"], "rank": last["rank"], **scores,
            "seconds": time.time() - psutil.Process().create_time(),
            "images_per_second": self.images / self.trained_seconds, **{key: last.get(key) for key in MORE_HEALTH},
            "advice": [*advice(last, most(self.recipe.heads.dim, self.recipe.training.batch_size)).values()],
        }  # fmt: skip


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that a first Ctrl-C or SIGTERM fills, for the loop to stop at the end of its step; a second one raises."""
    caught: list[int] = []
    previous: dict[int, Any] = {}

    def handle(number: int, _: object) -> None:
        caught.append(number)
        signal.signal(number, previous[number])

    try:
        previous |= {int(n): signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are not ours
        yield caught
        return
    try:
        yield caught
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
