"""A training run on the screen, as it goes."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..processes.launched import world_size
from ..studies.tables import counted
from ..training.listeners.reporter import LogRow, Reporter, Result
from .pages import equation, guards, knob_notes, switches_table
from .plain import console, duration, escape, score, table
from .waiting import Waiting

if TYPE_CHECKING:
    from ..training.plan import Plan

REFRESH = 0.5  # seconds between two readings of the loss


class Screen(Reporter):
    """Shows a training run as it goes."""

    def __init__(self, as_json: bool = False, quiet: bool = False):
        self.quiet = quiet
        self.out = console(stderr=as_json, lasting=True)
        self.progress: Progress | None = None
        self.waiting = Waiting()
        self.total = self.from_epoch = 0
        self.started = self.drawn = time.monotonic()
        self.last: LogRow | None = None
        self.knn: float | None = None
        self.largest_rank, self.scored_on = 0, "validation"
        self.untrained, self.initial = "untrained backbone", ""
        self.warned: set[str] = set()

    def work(self, name: str, done: int, total: int | None) -> None:
        """Show how much is done of what has to be done before the run."""
        if self.progress is None and not self.quiet:
            self.waiting.at(name, done, total)

    def begin(self, plan: "Plan", run: Path, epoch: int) -> None:
        """Show the expression, its switches, and what will be done."""
        self.waiting.close()
        self.total, self.from_epoch, self.started = plan.epochs, epoch, time.monotonic()
        from ..metrics.health import largest_rank  # which needs torch

        self.largest_rank = largest_rank(plan.recipe.heads.dim, plan.rows)
        if plan.data.labelled:
            of_test = plan.options.eval == "test" and plan.data.test is not None
            held, val = plan.data.held_out(plan.options.seed), plan.data.test if of_test else plan.data.val
            n = int((plan.data.bank.asking & held if val is None else val.asking).sum())
            self.scored_on = f"{'test' if of_test else 'validation'}, n = {n:,}"
        if plan.options.init is not None:
            self.untrained, self.initial = "initial weights", plan.options.init
        if self.quiet:
            return
        recipe, out, data = plan.recipe, self.out, plan.data
        out.print(f"[bold]{escape(equation(recipe))}[/bold]", soft_wrap=True)
        out.print(switches_table(recipe.switches, plan.expression.base.switches))
        guards(out, recipe)
        knob_notes(out, recipe)
        training = recipe.training
        said = f"beyond its {training.epochs}" if plan.extended else recipe.origins["training.epochs"]
        out.print(
            f"{escape(data.name)}: {len(data.train):,} images of {data.size} px; {training.backbone} on {plan.device} "
            f"({plan.precision}); {counted(plan.epochs, 'epoch')} ({said}), "
            f"batch {training.batch_size}, learning rate {recipe.learning_rate:.4g} ({recipe.optimizer.name})",
            soft_wrap=True,
        )
        if plan.seconds is not None and not epoch:
            own = ["--image-size", data.size, "--epochs", training.epochs, "--batch-size", training.batch_size]
            asked = f"{shlex.join(map(str, own))} --precision {plan.precision}"
            sent = "" if world_size() == 1 else " and what the processes send each other"  # which nobody measured
            out.print(
                f"It takes about {duration(plan.seconds)}{sent}; the same plan elsewhere: {asked}", soft_wrap=True
            )
        for note in data.notes:
            out.print(f"note: {escape(note)}", soft_wrap=True)
        out.print(f"run: {escape(str(run))}" + (f", going on after epoch {epoch}" if epoch else ""), soft_wrap=True)
        out.print()
        if out.is_terminal:
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self.progress = Progress(*columns, console=out, transient=True)
            self.task = self.progress.add_task("", total=None, epoch=f"{epoch + 1}/{self.total}", state="")
            self.progress.start()

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None:
        """Move the live line, seldom enough not to wait for the device at every step."""
        now = time.monotonic()
        if self.progress is None or (now - self.drawn < REFRESH and done < steps):
            return
        self.drawn = now
        passed = epoch - self.from_epoch + done / steps
        left = (now - self.started) / passed * (self.total - epoch - done / steps)
        shown = [f"loss {loss():.3f}"]
        if self.last is not None:
            shown += [f"std {self.last.std:.2f}", f"rank {self.last.rank:.1f}"]
        if self.knn is not None:
            shown.append(f"kNN {self.knn:.3f}")
        shown += [f"{speed:,.0f} images/s", f"{duration(left)} left"]
        self.progress.update(
            self.task, total=steps, completed=done, epoch=f"{epoch + 1}/{self.total}", state="  ".join(shown)
        )

    def epoch(self, row: LogRow, epochs: int) -> None:
        """Print a line for an epoch that has ended; on a terminal only for those with a kNN."""
        from ..metrics.health import advice  # which needs torch

        self.last, self.knn = row, self.knn if row.knn is None else row.knn
        for key, sentence in advice(row.to_json(), self.largest_rank).items():
            if key not in self.warned and 1 < row.epoch < epochs:  # the end says it again
                self.warned.add(key)
                self.warn(f"after epoch {row.epoch}: {sentence[0].lower()}{sentence[1:]}")
        if self.quiet or (self.progress is not None and row.knn is None and row.epoch < epochs):
            return
        knn = f"  kNN ({self.scored_on}) {row.knn:.3f}" if row.knn is not None else ""
        self.out.print(
            f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}  loss {row.loss:.4f}  std {row.std:.2f}  "
            f"rank {row.rank:.1f}{knn}  {row.images_per_second:,.0f} images/s",
            soft_wrap=True,
        )

    def warn(self, sentence: str) -> None:
        """Print a sentence of advice."""
        if not self.quiet:
            self.out.print(f"[yellow]Warning: {escape(sentence)}[/yellow]", soft_wrap=True)

    def end(self, result: Result) -> None:
        """Print the kNN table beside the untrained backbone, raw pixels and colours, and what to type next."""
        self.close()
        if self.quiet:
            return
        out = self.out
        out.print()
        if result.knn is not None:
            made = table("kNN on the test split", *(f"k = {key[1:]}" for key in result.knn))
            made.add_row(f"[bold]{escape(result.expression)}[/bold]", *map(score, result.knn.values()))
            others = {
                self.untrained: result.random_knn,
                "raw pixels": result.raw_knn,
                "colour histogram": result.colour_knn,
            }
            for name, found in others.items():
                if found is not None:  # wanted, and there are colours
                    made.add_row(name, *(score(found) if k == "k20" else "" for k in result.knn))
            out.print(made)
        for sentence in result.notes:
            self.warn(sentence)
        spread = f"std x sqrt(d) {result.std:.2f} (1 healthy, 0 collapsed)"
        out.print(f"{spread}, effective rank {result.rank:.1f} of {self.largest_rank}", soft_wrap=True)
        others = {key: getattr(result, key) for key in ("alignment", "uniformity", "code_entropy", "code_usage")}
        shown = [f"{key.replace('_', ' ')} {value:.2f}" for key, value in others.items() if value is not None]
        out.print(f"[dim]{', '.join(shown)}[/dim]", soft_wrap=True)
        for sentence in result.advice:
            self.warn(sentence)
        out.print(f"{duration(result.seconds)} in all, {result.images_per_second:,.0f} images/s in training")
        out.print(f"run: {escape(result.run)}", soft_wrap=True)
        words = [
            "knn",
            result.run,
            self.initial or "random",
            "raw",
            *(["colours"] if result.colour_knn is not None else []),
        ]
        if result.knn is None:  # no labels
            words = ["embed", result.run, "--out", "features.npz"]
        out.print(f"next: sslzoo {escape(shlex.join(words))}", soft_wrap=True)

    def close(self) -> None:
        """Stop the live line."""
        self.waiting.close()
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
