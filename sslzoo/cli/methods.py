"""``sslzoo methods``: list, show, compare and copy."""

import os.path
import re
from pathlib import Path
from typing import Any

import click

from .. import show
from ..recipes import algebra, presets, recipe, rules
from ..tools import files
from ..tools.errors import UserError
from .expression import AS_JSON, EXPRESSION, PLUGIN, ExpressionCommand, data_options
from .output import emit


def summary(found: recipe.Recipe) -> dict[str, Any]:
    """Return what ``methods show --json`` prints."""
    knobs = found.knobs()
    plain = ("target", "negatives", "clustering", "loss")
    return {
        "expression": found.expression,
        "method": found.method,
        "switches": recipe.switch_values(found.switches),
        "knobs": {key.partition(".")[2]: value for key, value in knobs.items() if key.partition(".")[0] in plain},
        "guards": rules.collapse_guards(found.switches),
        "tables": recipe.nested(knobs),
        "origins": dict(found.origins),
        "dropped": list(found.dropped),
        "learning_rate": found.learning_rate,
        "scale": found.scale,
    }


@click.group(cls=click.Group, invoke_without_command=True)
@click.pass_context
def methods(ctx: click.Context) -> None:
    """List, show, compare, map and copy methods."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@methods.command("list")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@AS_JSON
def list_(as_json: bool = False, markdown: bool = False) -> None:
    """Show all methods and their ten switches."""
    found = [recipe.find_method(name) for name in recipe.method_names()]
    if as_json:
        keys = ("name", "title", "paper", "idea")
        rows = [{**{k: getattr(m, k) for k in keys}, "switches": recipe.switch_values(m.switches)} for m in found]
        emit({"methods": rows})
    elif markdown:
        click.echo(show.methods_markdown(found))
    else:
        show.methods_table(found)


@methods.command("show", cls=ExpressionCommand)
@EXPRESSION
@data_options
@click.option("--scale", type=click.Choice(["small", "large"]), help="small: images up to 64 px; large: above.")
@PLUGIN
@AS_JSON
def show_(expression: tuple[str, ...], scale: str | None, as_json: bool, **given: Any) -> None:
    """Show the switches and the resolved knobs of an expression, each with its origin.

    Data, where they are named, add what they and this device change.
    """
    parsed = algebra.parse(list(expression))
    about: dict[str, str] = {}
    if given["data"] is None and given["train"] is None:
        found = algebra.resolve(parsed, scale or "small")
    else:
        if scale is not None:
            raise UserError("--scale follows from --data; give one of the two.")
        from ..training.options import Options
        from ..training.run import recipe_for_data

        options = Options(**{name: value for name, value in given.items() if value is not None})
        found, device = recipe_for_data(list(expression), options)
        about = {"data": options.place, "device": str(device)}
    if as_json:
        emit(summary(found))
    else:
        show.recipe_page(found, parsed.base, about)


@methods.command("presets")
@AS_JSON
def presets_(as_json: bool) -> None:
    """Show the presets of views (views.preset=NAME): for which images, why, and their ranges."""
    if as_json:
        emit({"presets": [preset.to_json(name) for name, preset in presets.PRESETS.items()]})
    else:
        show.presets_page(presets.PRESETS)


@methods.command()
@click.argument("a", metavar="EXPRESSION")
@click.argument("b", metavar="EXPRESSION")
@click.option("--scale", type=click.Choice(["small", "large"]), default="small", show_default=True)
@PLUGIN
@AS_JSON
def diff(a: str, b: str, scale: str, as_json: bool) -> None:
    """Show the switches and knobs in which two expressions differ."""
    left, right = (algebra.resolve(algebra.parse(text), scale) for text in (a, b))
    switches = algebra.diff(left.switches, right.switches)
    one, two = recipe.described(left), recipe.described(right)
    knobs = {key: (one.get(key), two.get(key)) for key in sorted({*one, *two}) if one.get(key) != two.get(key)}
    if as_json:
        emit({"a": left.expression, "b": right.expression, "switches": switches, "knobs": knobs})
    else:
        show.diff_table(left.expression, right.expression, switches, knobs)


@methods.command("map")
@click.option("--out", type=click.Path(path_type=Path), help="Write the map as an .svg file, too.")
@click.option("--force", is_flag=True, help="Replace a file that is there and that sslzoo did not write.")
@AS_JSON
def map_(out: Path | None, force: bool, as_json: bool) -> None:
    """Show the methods as a tree: joined by the fewest changes of switches."""
    from ..recipes import drawing
    from ..recipes import map as maps

    root = maps.spanning_tree([recipe.find_method(name) for name in recipe.method_names()])
    if out is not None:
        files.check_replaced(out, "--out", [], force)
        drawing.write(out, drawing.svg(root))
    if as_json:
        emit(maps.described(root))
        return
    show.map_tree(root)
    if out is not None:
        show.line(f"{out} is the same as a drawing.")


@methods.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy a method's file, to change it; it works wherever a name does."""
    found = recipe.find_method(name).name
    if os.path.exists(file):
        raise UserError(f"{file} is there already; give another name.")
    if file.suffix != ".toml" or not os.path.isdir(file.parent):
        raise UserError(f"{file} has to be a .toml file in a folder that exists.")
    source = recipe.METHODS / f"{found}.toml" if found in recipe.method_names() else Path(found)
    files.check_out(file, ".toml", "FILE")
    text = re.sub(rb"^hub = true\n", b"", source.read_bytes(), flags=re.M)  # the map has one hub
    files.write(file, text, "give another place")
    show.line(f"{file} is yours: change it, then 'sslzoo train {file}'.")
