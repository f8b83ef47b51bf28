"""The loop of a run, what it keeps and what it reports; every image passes once an epoch."""

import shutil
import sys
import time
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch

from ..exchange import weights
from ..metrics.health import advice, average, health, most
from ..processes import agree, collectives
from ..recipes import plugins
from ..recipes.recipe import dump, switch_values
from ..tools import files, records
from ..tools.errors import Diverged, SaidElsewhere, UserError
from ..views.batches import Batches
from . import checkpoints, runs, scoring
from .guards import Interrupted, enough_memory, guarded, signals
from .learner import Learner
from .machine import device_name, versions
from .plan import Plan, interval
from .reporter import Reporter

HEALTH_BATCHES = 10  # an epoch
NOTHING, SAVE, STOP, LOST = range(4)  # what a process wishes after a step; the largest wish is heeded by all
KINDS = {  # what a checkpoint has of the loop
    "epoch": int, "position": int, "images": int, "trained_seconds": records.NUMBER, "health": list, "log": list,
}  # fmt: skip
SMALLER_MODEL = "end what else uses it, or take a smaller --backbone or another --device"
MORE_HEALTH = ("alignment", "uniformity", "code_entropy", "code_usage")  # beside std and rank


class Training:
    """One run: learner and batches, and where in the schedule they are; the same in each of its processes."""

    def __init__(self, plan: Plan, path: Path | None = None, checkpoint: dict[str, Any] | None = None):
        self.plan, self.recipe, self.options = plan, plan.recipe, plan.options
        self.batches, self.learner = agree.on_all(self.make)
        self.epoch, self.position, self.images, self.trained_seconds = 0, 0, 0, 0.0
        self.health: list[dict[str, float]] = []
        self.log: list[dict[str, Any]] = []
        self.path, self.saved = path, time.monotonic()
        if checkpoint is not None:
            agree.on_all(lambda: self.restore(checkpoint))
        self.kept = self.place()

    def make(self) -> tuple[Batches, Learner]:
        """Return batches and a fresh learner. Raises `UserError` where memory does not hold them."""
        plan = self.plan
        with enough_memory(f"a {self.recipe.training.backbone} and its optimiser", SMALLER_MODEL):
            batches = Batches(plan.data, plan.recipe, plan.device, plan.options.seed, plan.workers)
            return batches, Learner(plan, batches)

    # ---- state

    def place(self) -> str:
        """Where in the schedule the run is, in words."""
        epoch, position = divmod(self.epoch * len(self.batches) + self.position, len(self.batches))
        if not (epoch or position):
            return "before the first step"
        return f"after epoch {epoch}" + (f" and {position} steps" if position else "")

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit; all processes have to ask."""
        random = {"torch": torch.get_rng_state(), "views": self.batches.generator.get_state()}
        if self.plan.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.plan.device)
        own = {name: getattr(self, name) for name in KINDS}
        return {**self.learner.state(), "random": random, "recipe": dump(self.recipe), **own}

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take up a state. Raises `UserError` where it belongs to another model."""
        assert self.path is not None
        try:
            switches = tomllib.loads(checkpoint["recipe"])["switches"]
            if not records.fits(checkpoint, KINDS) or switches != switch_values(self.recipe.switches):
                raise ValueError
            self.learner.restore(checkpoint)
            torch.set_rng_state(checkpoint["random"]["torch"])
            self.batches.generator.set_state(checkpoint["random"]["views"])
            if self.plan.device.type == "cuda" and "cuda" in checkpoint["random"]:
                torch.cuda.set_rng_state(checkpoint["random"]["cuda"], self.plan.device)
            for name in KINDS:
                setattr(self, name, checkpoint[name])
        except torch.OutOfMemoryError:
            raise UserError(f"Memory does not hold the state of {self.path}; {SMALLER_MODEL}.") from None
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError):
            mend = checkpoints.mend(self.path, self.path / checkpoints.name(0))
            raise UserError(f"The checkpoint of {self.path} belongs to another recipe or is damaged; {mend}.") from None

    def save(self) -> None:
        """Write checkpoint and encoder. Raises `Diverged`, and writes nothing, where the weights are not finite."""
        assert self.path is not None
        state = self.state()
        values = [value for value in state["model"].values() if isinstance(value, torch.Tensor)]
        if not all(bool(value.isfinite().all()) for value in values):
            raise self.diverged("The weights are")
        self.saved, self.kept = time.monotonic(), self.place()
        self.mind_bad_images()
        agree.on_first(lambda: self.write(state))

    def write(self, state: dict[str, Any]) -> None:
        """Write a state, what the encoder is, and which images could not be read."""
        assert self.path is not None
        self.plan.data.unreadable.save(self.path)
        checkpoints.write(self.path, state, self.options.keep)
        about = {"backbone": self.recipe.training.backbone, "image_size": self.plan.data.size}
        about |= {"mean": self.plan.data.mean, "std": self.plan.data.std, "expression": self.recipe.expression}
        weights.save_encoder(self.path / "encoder.safetensors", self.learner.encoder, about)

    def begin(self, state: dict[str, Any], launch: list[str]) -> Path:
        """Make the run directory with what is known before the first step; run.json, which makes it a run, last."""
        data, recipe = self.plan.data, self.recipe
        path = runs.create(Path(self.options.out), recipe.expression, data.name, self.options.seed)
        about = {
            "expression": recipe.expression, "method": recipe.method, "data": data.name, "images": len(data.train),
            "image_size": data.size, "mean": data.mean, "std": data.std, **asdict(recipe.training),
            "options": asdict(self.options), "command": sys.argv, "device": device_name(self.plan.device),
            "processes": collectives.world(), "launch": launch, "precision": self.plan.precision,
            "resident": self.plan.resident, "plugins": [plugin.to_json() for plugin in plugins.loaded()],
            "versions": versions(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }  # fmt: skip
        about["options"]["data"] = str(Path(self.options.data).resolve()) if data.own else self.options.data
        try:
            files.write(path / "recipe.toml", dump(recipe, title=recipe.expression))
            checkpoints.write(path, state)
            records.write_json(path / "run.json", about)
        except UserError:
            shutil.rmtree(path)
            raise
        return path

    # ---- the loop

    def run(self, reporter: Reporter, stop_after: int | None) -> dict[str, Any]:
        """Train to the end, or to the end of epoch ``stop_after`` on the same schedule."""
        if stop_after is not None and stop_after < 1:
            raise UserError(f"--stop-after cannot be {stop_after}; it is at least 1.")
        if self.path is not None:
            return self.go(self.path, reporter, stop_after)
        state, launch = self.state(), agree.launch_ids()
        self.path = agree.on_first(lambda: self.begin(state, launch))
        with agree.run_lock(self.path):
            try:
                return self.go(self.path, reporter, stop_after)
            except UserError as error:
                if not (self.images or str(self.path) in str(error)) and collectives.rank() == 0:
                    shutil.rmtree(self.path)  # nothing was learnt, and nothing is said of it
                raise

    def go(self, path: Path, reporter: Reporter, stop_after: int | None) -> dict[str, Any]:
        """Train in the run directory, from where the state is."""
        epochs = self.recipe.training.epochs
        reporter = reporter if collectives.rank() == 0 else Reporter()
        if self.options.compile and (why := self.learner.compile()) is not None:
            reporter.warn(why)
        reporter.begin(self.plan, path, self.epoch)
        unreadable = self.plan.data.unreadable
        agree.on_first(lambda: unreadable.reload(path))
        looks = self.options.knn_every or max(1, -(-epochs // 8))
        last = min(epochs, stop_after or epochs)
        with signals() as caught, guarded(path, self.batches.batch_size, self.learner.fits):
            self.learner.join()
            while self.epoch < last:
                self.train_epoch(reporter, caught)
                row = self.row()
                due = self.epoch % looks == 0 or self.epoch == epochs
                row["knn"] = scoring.live(self.plan, self.learner.encoder) if due and self.plan.data.labelled else None
                self.log.append(row)
                if self.epoch == last:
                    self.save()
                reporter.epoch(row, epochs)
                agree.on_first(lambda: runs.write_log(path / "log.csv", self.log))
                agree.on_first(lambda: unreadable.report(path, reporter.warn))
            result = self.result()
            agree.on_first(lambda: unreadable.report(path, reporter.warn))
            agree.on_first(lambda: records.write_json(path / "knn.json", result))
        reporter.end(result)
        return result

    def train_epoch(self, reporter: Reporter, caught: list[int]) -> None:
        """The rest of an epoch. Raises `Interrupted` once its state is saved, `Diverged` for a loss not finite."""
        steps, model = len(self.batches), self.learner.model
        every = max(1, steps // HEALTH_BATCHES)
        epochs, seconds = interval(self.options.checkpoint_every)
        model.train()
        if self.position == 0:
            if self.epoch == 0 and model.codes is not None and model.codes.needs_bank:
                for index, views in self.batches.epoch(0):
                    with self.learner.autocast():
                        model.remember(views, index)
                    if agree.all_reduce_max(bool(caught)):
                        raise Interrupted(self.path)  # which begins anew
            model.begin_epoch()
        started = time.perf_counter()
        before, agreed = self.trained_seconds, agree.LaterMax()
        for index, views in self.batches.epoch(self.epoch, self.position):
            look = self.position % every == 0
            if look or collectives.world() == 1:
                self.mind_bad_images()
            stepped = self.learner.step(views, index, self.epoch * steps + self.position)
            if look and stepped:
                self.health.append(health(model.z, model.code))
            self.position += 1
            self.images += self.batches.batch_size
            self.trained_seconds = before + time.perf_counter() - started
            speed = self.images / max(self.trained_seconds, 1e-9)
            reporter.step(self.epoch, self.position, steps, self.learner.mean_loss, speed)
            wish = STOP if caught else SAVE if seconds and time.monotonic() - self.saved >= seconds else NOTHING
            asked = agreed(LOST if self.learner.lost(look or wish != NOTHING) else wish)
            self.heed(asked if asked == NOTHING else max(asked, agreed.last()))
        lost = LOST if self.learner.lost(True) else NOTHING  # waits for the device
        self.heed(max(agreed.last(), agree.all_reduce_max(lost)))
        self.trained_seconds = before + time.perf_counter() - started
        if not self.health:
            self.health.append(health(model.z, model.code))
        if epochs and (self.epoch + 1) % epochs == 0:
            self.save()  # before the look at kNN, which may take long, or fail
        self.epoch, self.position = self.epoch + 1, 0

    def mind_bad_images(self) -> None:
        """Let all processes know which images cannot be read. Raises `UserError` where they are too many."""
        unreadable = self.plan.data.unreadable
        unreadable.reasons |= agree.union(unreadable.reasons)
        agree.on_first(lambda: unreadable.check_share(self.options.max_bad, self.path))

    def heed(self, wish: int) -> None:
        """Do what the processes agree on after a step."""
        if wish == LOST:
            raise self.diverged("The gradients in fp16 are" if self.learner.overflows() else "The loss is")
        if wish != NOTHING:
            self.save()
        if wish == STOP:
            raise Interrupted(self.path)

    def diverged(self, what: str) -> UserError:
        """What to raise for a run that is no longer finite; the first process says it."""
        step, kept = self.learner.first_lost(), f"{self.path}/{checkpoints.name(0)} keeps the state {self.kept}"
        mend = f"Lower optimizer.lr (now {self.recipe.optimizer.lr:g}), bring back what the expression removed"
        skip = ", or leave such steps out with --on-nan skip" if self.options.on_nan == "stop" else ""
        said = f"{what} not finite at step {step} of epoch {self.epoch + 1}; {kept}. {mend}{skip}."
        return Diverged(said) if collectives.rank() == 0 else SaidElsewhere(said)

    # ---- what came of it

    def row(self) -> dict[str, Any]:
        """The epoch's row of the log; clears what is of the epoch."""
        learner = self.learner
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "loss": float(collectives.average(learner.loss)) / max(learner.done - learner.skipped, 1),
            **average(self.health),
            "lr": learner.optimizer.param_groups[0]["lr"],
            "images_per_second": self.images / self.trained_seconds,
        }
        row |= {"skipped": learner.skipped} if self.options.on_nan == "skip" else {}
        learner.begin_epoch()
        self.health = []
        return row

    def result(self) -> dict[str, Any]:
        """What ``train --json`` prints."""
        last = self.log[-1]
        scores = scoring.final(self.plan, self.learner.encoder, self.learner.untrained)
        return {
            "run": str(self.path), "expression": self.recipe.expression, "method": self.recipe.method,
            "switches": switch_values(self.recipe.switches), "data": self.plan.data.name, "epochs": self.epoch,
            "loss": last["loss"], "std": last["std"], "rank": last["rank"], **scores,
            "seconds": time.time() - psutil.Process().create_time(),
            "images_per_second": self.images / self.trained_seconds, **{key: last.get(key) for key in MORE_HEALTH},
            "advice": [*advice(last, most(self.recipe.heads.dim, self.plan.rows)).values()],
        }  # fmt: skip
