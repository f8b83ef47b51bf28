"""The loop of a run, what it keeps and what it reports; every image passes once an epoch."""

import shutil
import time
import tomllib
from pathlib import Path

import psutil
import torch

from ..metrics.health import advice, average, health, largest_rank
from ..processes import agree, collectives
from ..recipes.recipe import differ, dump, switch_values
from ..tools.bounds import check_numbers
from ..tools.errors import Diverged, SaidElsewhere, UserError
from ..tools.records import write_json
from ..views.batches import Batches
from . import checkpoints, runs, scoring
from .checkpoints import Checkpoint
from .contents import Keeper
from .guards import SMALLER_MODEL, Interrupted, enough_memory, guarded, signals
from .learner import Learner
from .listeners.reporter import LogRow, Reporter, Result
from .machine import fast_products
from .options import interval
from .plan import Plan

HEALTH_BATCHES = 10  # an epoch
NOTHING, SAVE, STOP, DIVERGED = range(4)  # what a process asks for after a step; the largest is what all do


class Training:
    """Holds one run: learner, batches, and how far in the schedule they are; the same in each of its processes."""

    def __init__(self, plan: Plan, path: Path | None = None, checkpoint: Checkpoint | None = None):
        self.plan, self.recipe, self.options = plan, plan.recipe, plan.options
        self.batches, self.learner = agree.on_all(self.make)
        self.epoch, self.position, self.images, self.trained_seconds = 0, 0, 0, 0.0
        self.contents = Keeper(plan.data)
        self.health: list[dict[str, float]] = []
        self.log: list[LogRow] = []
        self.path, self.saved = path, time.monotonic()
        if checkpoint is not None:
            agree.on_all(lambda: self.restore(checkpoint))
        self.saved_at = self.progress()

    def make(self) -> tuple[Batches, Learner]:
        """Return batches and a fresh learner. Raises `UserError` where memory does not hold them."""
        plan = self.plan
        with enough_memory(f"a {self.recipe.training.backbone} and its optimiser", SMALLER_MODEL):
            batches = Batches(
                plan.data, plan.recipe, plan.device, plan.options.seed, plan.workers, augment=plan.augment
            )
            return batches, Learner(plan, batches)

    # ---- state

    def progress(self) -> str:
        """Say how far in the schedule the run is."""
        epoch, position = divmod(self.epoch * len(self.batches) + self.position, len(self.batches))
        if not (epoch or position):
            return "before the first step"
        return f"after epoch {epoch}" + (f" and {position} steps" if position else "")

    def state(self) -> Checkpoint:
        """Return all that a resumed run needs to go on bit for bit; all processes have to ask."""
        random = {"torch": torch.get_rng_state(), "views": self.batches.generator.get_state()}
        if self.plan.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.plan.device)
        return Checkpoint(
            **vars(self.learner.state()), random=random, recipe=dump(self.recipe), epoch=self.epoch,
            position=self.position, images=self.images, trained_seconds=self.trained_seconds,
            health=[*self.health], log=[*self.log],
        )  # fmt: skip

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up a state. Raises `UserError` where it belongs to another model."""
        assert self.path is not None
        try:
            if differ(tomllib.loads(checkpoint.recipe), tomllib.loads(dump(self.recipe))):
                raise ValueError
            self.learner.restore(checkpoint)
            torch.set_rng_state(checkpoint.random["torch"])
            self.batches.generator.set_state(checkpoint.random["views"])
            if self.plan.device.type == "cuda" and "cuda" in checkpoint.random:
                torch.cuda.set_rng_state(checkpoint.random["cuda"], self.plan.device)
        except torch.OutOfMemoryError:
            raise UserError(f"Memory does not hold the state of {self.path}; {SMALLER_MODEL}.") from None
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError):
            hint = checkpoints.recovery_hint(self.path, self.path / checkpoints.name(0))
            raise UserError(f"The checkpoint of {self.path} belongs to another recipe or is damaged; {hint}.") from None
        self.epoch, self.position, self.images = checkpoint.epoch, checkpoint.position, checkpoint.images
        self.trained_seconds = checkpoint.trained_seconds
        self.health, self.log = [dict(numbers) for numbers in checkpoint.health], [*checkpoint.log]

    def save(self) -> None:
        """Write checkpoint and encoder. Raises `Diverged`, and writes nothing, where the weights are not finite."""
        path, state = self.path, self.state()
        assert path is not None
        values = [value for value in state.model.values() if isinstance(value, torch.Tensor)]
        if not all(bool(value.isfinite().all()) for value in values):
            raise self.diverged("The weights are")
        self.saved, self.saved_at = time.monotonic(), self.progress()
        self.check_unreadable()
        self.contents.keep(path)
        agree.on_first(lambda: runs.save(path, self.plan, state, self.learner.encoder))

    # ---- the loop

    def run(self, reporter: Reporter, stop_after: int | None) -> Result:
        """Train to the end, or to the end of epoch ``stop_after`` on the same schedule."""
        check_numbers(stop_after=stop_after)
        if self.path is not None:
            return self.train(self.path, reporter, stop_after)
        state, launch = self.state(), agree.launch_ids()
        self.path = agree.on_first(lambda: runs.begin(self.plan, state, launch))
        with agree.run_lock(self.path):
            try:
                return self.train(self.path, reporter, stop_after)
            except Exception as error:
                if not (self.images or str(self.path) in str(error)) and collectives.rank() == 0:
                    shutil.rmtree(self.path)  # nothing was learnt, and nothing is said of it
                raise

    def train(self, path: Path, reporter: Reporter, stop_after: int | None) -> Result:
        """Train in the run directory, from where the state is, and return what came of it."""
        epochs = self.plan.epochs
        reporter = reporter if collectives.rank() == 0 else Reporter()
        if self.options.compile and (why := self.learner.compile()) is not None:
            reporter.warn(why)
        reporter.begin(self.plan, path, self.epoch)
        for note in self.plan.notes:
            reporter.warn(note)
        unreadable = self.plan.data.unreadable
        agree.on_first(lambda: unreadable.reload(path))
        every = self.options.knn_every or max(1, -(-epochs // 8))
        last = min(epochs, stop_after or epochs)
        fast = fast_products(self.plan.device, self.plan.precision)
        with signals() as caught, guarded(path, self.batches.batch_size, self.learner.try_batch), fast:
            self.learner.join()
            while self.epoch < last:
                self.train_epoch(reporter, caught)
                row = self.row(scored=self.epoch % every == 0 or self.epoch == epochs)
                self.log.append(row)
                if self.epoch == last:
                    self.save()
                reporter.epoch(row, epochs)
                agree.on_first(lambda: runs.write_log(path / "log.csv", self.log))
                agree.on_first(lambda: unreadable.report(path, reporter.warn))
            result = self.result()
            self.contents.keep(path)
            agree.on_first(lambda: unreadable.report(path, reporter.warn))
            agree.on_first(lambda: write_json(path / "knn.json", result))
        reporter.end(result)
        return result

    def train_epoch(self, reporter: Reporter, caught: list[int]) -> None:
        """Train the rest of an epoch.

        Raises `Interrupted` after a signal, once the state is saved, and `Diverged` for a loss that is not finite.
        """
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
        for index, views in self.batches.epoch(
            self.epoch, self.position, lambda: bool(caught) and collectives.world() == 1
        ):
            measured = self.position % every == 0
            if measured or collectives.world() == 1:
                self.check_unreadable()
            stepped = self.learner.step(views, index, self.epoch * steps + self.position)
            if measured and stepped:
                self.health.append(health(model.z, model.code))
            self.position += 1
            self.images += self.batches.batch_size
            self.trained_seconds = before + time.perf_counter() - started
            speed = self.images / max(self.trained_seconds, 1e-9)
            reporter.step(self.epoch, self.position, steps, self.learner.mean_loss, speed)
            request = STOP if caught else SAVE if seconds and time.monotonic() - self.saved >= seconds else NOTHING
            diverged = self.learner.diverged(wait=measured or request != NOTHING)
            decided = agreed(DIVERGED if diverged else request)
            self.act(decided if decided == NOTHING else max(decided, agreed.last()))
        if self.position < steps:  # the readers give nothing, and were not waited for
            self.act(STOP)
        request = DIVERGED if self.learner.diverged(wait=True) else NOTHING
        self.act(max(agreed.last(), agree.all_reduce_max(request)))
        self.trained_seconds = before + time.perf_counter() - started
        if not self.health:
            self.health.append(health(model.z, model.code))
        if epochs and (self.epoch + 1) % epochs == 0:
            self.save()  # before kNN, which may take long, or fail
        self.epoch, self.position = self.epoch + 1, 0

    def check_unreadable(self) -> None:
        """Let all processes know which images cannot be read. Raises `UserError` where they are too many."""
        unreadable = self.plan.data.unreadable
        unreadable.reasons |= agree.union(unreadable.reasons)
        agree.on_first(lambda: unreadable.check_share(self.options.max_bad, self.path))

    def act(self, request: int) -> None:
        """Do what the processes agree on after a step."""
        if request == DIVERGED:
            raise self.diverged("The gradients in fp16 are" if self.learner.overflows() else "The loss is")
        if request != NOTHING:
            self.save()
        if request == STOP:
            raise Interrupted(self.path)

    def diverged(self, what: str) -> UserError:
        """Return what to raise for a run that is no longer finite; the first process says it."""
        step, kept = self.learner.first_diverged(), f"{self.path}/{checkpoints.name(0)} keeps the state {self.saved_at}"
        hint = f"Lower optimizer.lr (now {self.recipe.optimizer.lr:g}), bring back what the expression removed"
        skip = ", or leave such steps out with --on-nan skip" if self.options.on_nan == "stop" else ""
        message = f"{what} not finite at step {step} of epoch {self.epoch + 1}; {kept}. {hint}{skip}."
        return Diverged(message) if collectives.rank() == 0 else SaidElsewhere(message)

    # ---- what came of it

    def row(self, scored: bool) -> LogRow:
        """Return the epoch's row of the log, with kNN where that is due; clear what is of the epoch."""
        learner, numbers = self.learner, average(self.health)
        loss = float(collectives.average(learner.loss)) / max(learner.done - learner.skipped, 1)
        skipped = learner.skipped if self.options.on_nan == "skip" else None
        learner.begin_epoch()
        self.health = []
        return LogRow(
            epoch=self.epoch, loss=loss, **numbers, lr=learner.optimizer.param_groups[0]["lr"],
            images_per_second=self.images / self.trained_seconds, skipped=skipped,
            knn=scoring.live(self.plan, learner.encoder) if scored and self.plan.data.labelled else None,
        )  # fmt: skip

    def result(self) -> Result:
        """Return what came of the run so far."""
        last, scores = self.log[-1], scoring.final(self.plan, self.learner.encoder, self.learner.untrained)
        return Result(
            run=str(self.path), expression=self.recipe.expression, method=self.recipe.method,
            switches=switch_values(self.recipe.switches), data=self.plan.data.name, epochs=self.epoch,
            loss=last.loss, std=last.std, rank=last.rank, **vars(scores),
            seconds=time.time() - psutil.Process().create_time(), images_per_second=self.images / self.trained_seconds,
            alignment=last.alignment, uniformity=last.uniformity, code_entropy=last.code_entropy,
            code_usage=last.code_usage,
            advice=[
                *advice(last.to_json(), largest_rank(self.recipe.heads.dim, self.plan.rows)).values(),
                *scoring.colour_advice(self.plan, scores),
            ],
        )  # fmt: skip
