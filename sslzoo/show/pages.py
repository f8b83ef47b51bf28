"""Methods and recipes: their tables and pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from ..recipes.algebra import diff
from ..recipes.map import Node, reading
from ..recipes.presets import Preset
from ..recipes.recipe import Method, Recipe, described
from ..recipes.rules import collapse_guards, has_others
from ..recipes.schema import SWITCHES, Switches
from .plain import console, escape, table, text


def spoken(switches: Switches, name: str) -> str:
    """Return a switch's value; "-" for a similarity that the switches leave no place for."""
    if name == "similarity" and has_others(switches):
        return "-"
    value = getattr(switches, name)
    return "-" if value in (False, "none") else "yes" if value is True else str(value)


def methods_table(methods: Sequence[Method]) -> None:
    """Methods and their switches: a column for each where there is room, else the words of those that are on."""
    out = console()
    wide = table("method", *(name.replace("_", " ") for name in SWITCHES))
    close = table("method", "switches")
    close.columns[0].no_wrap = True
    for method in methods:
        values = {name: spoken(method.switches, name) for name in SWITCHES}
        wide.add_row(f"[bold]{method.name}[/bold]", *values.values())
        on = [name if value == "yes" else value for name, value in values.items() if value != "-"]
        close.add_row(f"[bold]{method.name}[/bold]", ", ".join(on))
    out.print(wide if out.measure(wide, options=out.options.update(max_width=1000)).maximum <= out.width else close)
    out.print()
    for method in methods:
        out.print(
            f"[bold]{method.name}[/bold]  {escape(method.idea)} [dim]{escape(method.paper)}[/dim]", soft_wrap=True
        )


def methods_markdown(methods: Sequence[Method]) -> str:
    """Return the same table in Markdown, for the README."""
    rows = [["method", *(name.replace("_", " ") for name in SWITCHES)], ["---"] * (len(SWITCHES) + 1)]
    rows += [[f"[{m.name}]({m.paper})", *(spoken(m.switches, name) for name in SWITCHES)] for m in methods]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def presets_page(presets: Mapping[str, Preset]) -> None:
    """Print presets: for which images, why, and the ranges that a method's own views are held within."""
    out = console()
    for name, preset in presets.items():
        out.print(f"[bold]{name}[/bold]  {escape(preset.title)}", soft_wrap=True)
        out.print(f"  {escape(preset.why)} [dim]{escape(preset.paper)}[/dim]", soft_wrap=True)
        shown = [
            f"{key} {text(low)}" + (f" to {text(high)}" if low != high else "") for key, low, high in preset.ranges
        ]
        out.print(f"  {', '.join(shown) or 'no range'}", soft_wrap=True)
    out.print()
    out.print(
        "[dim]'sslzoo train EXPRESSION views.preset=NAME' holds the method's own views within these ranges.[/dim]",
        soft_wrap=True,
    )


def map_tree(root: Node) -> None:
    """Return the map as a tree: every method with the words that make it of the one above."""
    grown: list[Tree] = []
    for depth, node in root.walk():
        words, also = escape(" ".join(node.words)), escape(", ".join(node.also))
        label = f"[bold]{escape(node.name)}[/bold]" + (f"  [cyan]{words}[/cyan]" if words else "")
        label += f"  [dim]also: {also}[/dim]" if also else ""
        grown[depth:] = [grown[depth - 1].add(label) if depth else Tree(label, guide_style="dim")]
    console().print(grown[0])
    console().print(f"[dim]{escape(reading(root))}[/dim]", soft_wrap=True)


def equation(recipe: Recipe) -> str:
    """The expression, and the method whose switches it has."""
    if recipe.method is None:
        return f"{recipe.expression}: no shipped method has these switches"
    if recipe.method == recipe.expression.split()[0]:
        return recipe.expression
    return f"{recipe.expression}: these are {recipe.method}'s switches"


def switches_table(switches: Switches, base: Switches) -> Table:
    """Return the ten switches, changed ones coloured."""
    changed = diff(base, switches)
    made = table("switch", "value", "what it is")
    for name, switch in SWITCHES.items():
        value = spoken(switches, name)
        if name in changed:
            value = f"[yellow]{value}[/yellow] [dim](was {spoken(base, name)})[/dim]"
        made.add_row(name, value, f"[dim]{switch.doc}[/dim]")
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
    """Return knobs that came or went with the switches."""
    if recipe.dropped:
        out.print(f"no longer used: {', '.join(recipe.dropped)}", soft_wrap=True)


def recipe_page(recipe: Recipe, base: Method, about: Mapping[str, str], notes: Sequence[str] = ()) -> None:
    """Return a resolved recipe: switches, and every knob with its origin."""
    out = console()
    out.print(f"[bold]{escape(equation(recipe))}[/bold]", soft_wrap=True)
    if base.idea and recipe.switches == base.switches:
        out.print(f"{escape(base.title)}: {escape(base.idea)} [dim]{escape(base.paper)}[/dim]", soft_wrap=True)
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
    """Return two expressions side by side, where they differ."""
    out = console()
    if not switches and not knobs:
        out.print(f"{escape(a)} and {escape(b)} are the same.", soft_wrap=True)
        return
    made = table("", escape(a), escape(b))
    for kind, rows in (("switch", switches), ("knob", knobs)):
        for name, (left, right) in rows.items():
            made.add_row(f"{kind} [bold]{name}[/bold]", text(left), text(right))
    out.print(made)
    if not switches:
        out.print("The ten switches are the same.")
