"""What a person sees: rich only. Coloured tables and a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from .algebra import collapse_guards, diff, has_others
from .recipe import Method, Recipe, described
from .schema import SWITCHES, Switches

if TYPE_CHECKING:
    from .plan import Plan

REFRESH = 0.5  # seconds between two looks at the loss
COLLAPSED = {"std": 0.2, "rank": 12.0}  # below: of 128 rows


def console(stderr: bool = False) -> Console:
    """A console on the stream as it is now; wide enough for tables where it is no terminal."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def line(text: str, stderr: bool = False) -> None:
    """A line of plain text."""
    console(stderr).print(escape(text), soft_wrap=True)


def error(sentence: str) -> None:
    """An error: one sentence on standard error."""
    console(stderr=True).print(f"[red]Error:[/red] {escape(' '.join(sentence.split()))}", soft_wrap=True)


def text(value: object) -> str:
    """A value for a cell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def score(value: float | None) -> str:
    """An accuracy or another number of three digits."""
    return "-" if value is None else f"{value:.3f}"


def spoken(switches: Switches, name: str) -> str:
    """A switch's value; "-" for a similarity that the switches leave no place for."""
    if name == "similarity" and has_others(switches):
        return "-"
    value = getattr(switches, name)
    return "-" if value in (False, "none") else "yes" if value is True else str(value)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house's style."""
    made = Table(*columns, box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    made.show_edge = False
    return made


def methods_table(methods: Sequence[Method]) -> None:
    """Methods and their switches."""
    out = console()
    made = table("method", *(name.replace("_", " ") for name in SWITCHES))
    for method in methods:
        made.add_row(f"[bold]{method.name}[/bold]", *(spoken(method.switches, name) for name in SWITCHES))
    out.print(made)
    out.print()
    for method in methods:
        out.print(f"[bold]{method.name}[/bold]  {escape(method.idea)} [dim]{method.paper}[/dim]", soft_wrap=True)


def methods_markdown(methods: Sequence[Method]) -> str:
    """The same table in Markdown, for the README."""
    rows = [["method", *(name.replace("_", " ") for name in SWITCHES)], ["---"] * (len(SWITCHES) + 1)]
    rows += [[f"[{m.name}]({m.paper})", *(spoken(m.switches, name) for name in SWITCHES)] for m in methods]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def equation(recipe: Recipe) -> str:
    """The expression, and the method whose switches it has."""
    if recipe.method is None:
        return f"{recipe.expression}: no shipped method has these switches"
    if recipe.method == recipe.expression.split()[0]:
        return recipe.expression
    return f"{recipe.expression}: these are {recipe.method}'s switches"


def switches_table(switches: Switches, base: Switches) -> Table:
    """The ten switches, changed ones coloured."""
    changed = diff(base, switches)
    made = table("switch", "value", "what it is")
    for name, field in SWITCHES.items():
        value = spoken(switches, name)
        if name in changed:
            value = f"[yellow]{value}[/yellow] [dim](was {spoken(base, name)})[/dim]"
        made.add_row(name, value, f"[dim]{field.metadata['doc']}[/dim]")
    return made


def guards(out: Console, recipe: Recipe) -> None:
    """What keeps the switches from collapse, or a warning."""
    found = collapse_guards(recipe.switches)
    if found:
        out.print(f"kept from collapse by: {', '.join(found)}", soft_wrap=True)
    else:
        out.print(
            "[yellow]Warning: nothing here is known to prevent collapse; watch std and rank.[/yellow]", soft_wrap=True
        )


def knob_notes(out: Console, recipe: Recipe) -> None:
    """Knobs that came or went with the switches."""
    if recipe.dropped:
        out.print(f"no longer used: {', '.join(recipe.dropped)}", soft_wrap=True)


def recipe_page(recipe: Recipe, base: Method, about: Mapping[str, str], notes: Sequence[str] = ()) -> None:
    """A resolved recipe: switches, and every knob with its origin."""
    out = console()
    out.print(f"[bold]{escape(equation(recipe))}[/bold]", soft_wrap=True)
    if base.idea and recipe.switches == base.switches:
        out.print(f"{escape(base.title)}: {escape(base.idea)} [dim]{base.paper}[/dim]", soft_wrap=True)
    for key, value in about.items():
        out.print(f"{key}: {escape(value)}", soft_wrap=True)
    for note in notes:
        out.print(f"note: {escape(note)}", soft_wrap=True)
    out.print()
    out.print(switches_table(recipe.switches, base.switches))
    guards(out, recipe)
    out.print()
    made = table("knob", "value", "origin")
    for key, knob in sorted(described(recipe).items()):
        first = key if key in recipe.origins else key.replace("views.", "views.first.", 1)
        made.add_row(key, text(knob), f"[dim]{escape(recipe.origins[first])}[/dim]")
    out.print(made)
    knob_notes(out, recipe)
    knobs = recipe.optimizer
    out.print(
        f"effective learning rate: {recipe.learning_rate:.4g} = {knobs.lr:.4g} x {recipe.training.batch_size} / 256",
        soft_wrap=True,
    )


def diff_table(a: str, b: str, switches: Mapping[str, Sequence[Any]], knobs: Mapping[str, Sequence[Any]]) -> None:
    """Two expressions side by side, where they differ."""
    out = console()
    if not switches and not knobs:
        out.print(f"{escape(a)} and {escape(b)} are the same.", soft_wrap=True)
        return
    made = table("", a, b)
    for kind, rows in (("switch", switches), ("knob", knobs)):
        for name, (left, right) in rows.items():
            made.add_row(f"{kind} [bold]{name}[/bold]", text(left), text(right))
    out.print(made)
    if not switches:
        out.print("The ten switches are the same.")


def knn_table(result: Mapping[str, Any]) -> None:
    """kNN and recall of sources, the best at k = 20 first."""
    out = console()
    protocol, rows = result["protocol"], result["rows"]
    names, recalls = list(rows[0]["knn"]), list(rows[0]["recall"])
    made = table(
        "source",
        "dim",
        *(f"kNN {n}" for n in names),
        *(f"recall@{n[1:]}" for n in recalls),
        "seconds",
        title=f"kNN on {result['data']}",
    )
    for column in made.columns[1:]:
        column.justify = "right"
    for row in sorted(rows, key=lambda r: -r["knn"].get("k20", next(iter(r["knn"].values())))):
        cells = [*(row["knn"][n] for n in names), *(row["recall"][n] for n in recalls)]
        made.add_row(escape(row["source"]), str(row["dimension"]), *map(score, cells), f"{row['seconds']:.1f}")
    out.print(made)
    about = (f"T = {protocol['temperature']}", protocol["index"], protocol["features"], f"bank: {protocol['bank']}")
    out.print(f"[dim]{', '.join(about)}[/dim]", soft_wrap=True)


def runs_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs and what came of them."""
    made = table("run", "method", "data", "epochs", "loss", "std", "rank", "kNN k20", "started")
    for row in rows:
        numbers = (score(row["loss"]), score(row["std"]), text(row["rank"]), score(row["knn"]))
        done = f"{row['done']}/{row['epochs']}"
        made.add_row(escape(row["run"]), text(row["method"]), text(row["data"]), done, *numbers, text(row["started"]))
    console().print(made)


def duration(seconds: float) -> str:
    """Seconds as 1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Screen:
    """Shows a training run as it goes: what a `train.Reporter` is told."""

    def __init__(self, as_json: bool = False, quiet: bool = False):
        self.quiet = quiet
        self.out = console(stderr=as_json)
        self.progress: Progress | None = None
        self.total = self.from_epoch = 0
        self.started = self.drawn = time.monotonic()
        self.last: dict[str, Any] = {}
        self.knn: float | None = None

    def begin(self, plan: "Plan", run: Path, epoch: int) -> None:
        """The expression, its switches, and what will be done."""
        self.total, self.from_epoch, self.started = plan.recipe.training.epochs, epoch, time.monotonic()
        if self.quiet:
            return
        recipe, out, data = plan.recipe, self.out, plan.data
        out.print(f"[bold]{escape(equation(recipe))}[/bold]", soft_wrap=True)
        out.print(switches_table(recipe.switches, plan.expression.base.switches))
        guards(out, recipe)
        knob_notes(out, recipe)
        training = recipe.training
        out.print(
            f"{escape(data.name)}: {len(data.train):,} images of {data.size} px; {training.backbone} on {plan.device} "
            f"({plan.precision}); {training.epochs} epochs ({recipe.origins['training.epochs']}), "
            f"batch {training.batch_size}, learning rate {recipe.learning_rate:.4g} ({recipe.optimizer.name})",
            soft_wrap=True,
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
            self.progress = Progress(*columns, console=out)
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
        if self.last:
            shown += [f"std {self.last['std']:.2f}", f"rank {self.last['rank']:.1f}"]
        if self.knn is not None:
            shown.append(f"kNN {self.knn:.3f}")
        shown += [f"{speed:,.0f} images/s", f"{duration(left)} left"]
        self.progress.update(
            self.task, total=steps, completed=done, epoch=f"{epoch + 1}/{self.total}", state="  ".join(shown)
        )

    def epoch(self, row: Mapping[str, Any], epochs: int) -> None:
        """A line for an epoch that has ended; on a terminal only for those with a kNN."""
        self.last, self.knn = dict(row), row["knn"] if row["knn"] is not None else self.knn
        if self.quiet or (self.progress is not None and row["knn"] is None and row["epoch"] < epochs):
            return
        knn = f"  kNN (validation) {row['knn']:.3f}" if row["knn"] is not None else ""
        self.out.print(
            f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  std {row['std']:.2f}  "
            f"rank {row['rank']:.1f}{knn}  {row['images_per_second']:,.0f} images/s",
            soft_wrap=True,
        )

    def end(self, result: Mapping[str, Any]) -> None:
        """The kNN table beside raw pixels and the untrained backbone, and what to type next."""
        self.close()
        if self.quiet:
            return
        out = self.out
        out.print()
        if result["knn"] is not None:
            made = table("kNN on the test split", *(f"k = {key[1:]}" for key in result["knn"]))
            made.add_row(f"[bold]{escape(result['expression'])}[/bold]", *map(score, result["knn"].values()))
            for name, key in (("untrained backbone", "random_knn"), ("raw pixels", "raw_knn")):
                made.add_row(name, *(score(result[key]) if k == "k20" else "" for k in result["knn"]))
            out.print(made)
        numbers = (f"std x sqrt(d) {result['std']:.2f} (1 healthy, 0 collapsed)", f"rank {result['rank']:.1f} of 128")
        out.print(", effective ".join(numbers), soft_wrap=True)
        low = [name for name, bound in COLLAPSED.items() if result[name] < bound]
        if low:
            out.print(
                f"[yellow]Warning: {' and '.join(low)} this low say that the projections have collapsed.[/yellow]",
                soft_wrap=True,
            )
        out.print(f"{duration(result['seconds'])} in all, {result['images_per_second']:,.0f} images/s in training")
        out.print(f"run: {escape(result['run'])}", soft_wrap=True)
        out.print(f"next: sslzoo knn {escape(result['run'])} random raw", soft_wrap=True)

    def close(self) -> None:
        """Stop the live line."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
