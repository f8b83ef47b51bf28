"""The argument EXPRESSION of a command: its signs, its completion; and the options that commands share."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..recipes import plugins, recipe
from ..recipes.schema import SWITCHES
from ..recipes.values import WORDS

Command = Callable[..., Any]


class ExpressionCommand(click.Command):
    """Is a command whose expression may have glued signs: ``-negatives`` is no option, but ``- negatives``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Part glued signs before click takes them for options."""
        return super().parse_args(ctx, part_signs(args, self.params))


def part_signs(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Part ``-word`` as ``-``, ``word``, but for declared options and their values, and for all after ``--``."""
    declared = {name: option for option in params if isinstance(option, click.Option) for name in option.opts}
    parted: list[str] = []
    rest = iter(args)
    for arg in rest:
        option = declared.get(arg)
        if arg == "--":
            return [*parted, arg, *rest]
        if option is not None and not option.is_flag:
            parted += [arg, *(value for value in [next(rest, None)] if value is not None)]
        elif len(arg) > 2 and arg[0] == "-" and arg[1] != "-" and arg[:2] not in declared:
            parted += ["-", arg[1:]]
        else:
            parted.append(arg)
    return parted


def complete_expression(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what may complete a word: methods' names first, then switches, their values and files."""
    words = [*SWITCHES, *WORDS] if ctx.params.get(param.name or "") else list(recipe.method_names())
    found = [CompletionItem(word) for word in words if word.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


EXPRESSION = click.argument(
    "expression", nargs=-1, metavar="EXPRESSION...", type=click.UNPROCESSED, shell_complete=complete_expression
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
PLUGIN = click.option(
    "--plugin", multiple=True, metavar="FILE.py", expose_value=False, is_eager=True,
    callback=lambda ctx, param, paths: [plugins.load_plugin(path) for path in paths],
    help="A Python file with values, backbones or data sets of your own; it is run.",
)  # fmt: skip
DATA_HELP = "digits, cifar10, cifar100, stl10, fashion-mnist, a folder of images or an .npz file."


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return several options as one decorator, in the order in which the help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


training_options = stacked(
    click.option(
        "--epochs", type=int, help="Epochs; by default the recipe's, or what the data and the device ask for."
    ),
    click.option("--batch-size", type=int, help="Images in a batch."),
    click.option("--backbone", help="A name of timm's, or 'small'."),
    click.option("--image-size", type=int, help="Size of a view in px; by default the images' own, at most 224."),
    click.option("--limit", type=int, help="Train on N images only, for a quick try."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option("--precision", default="auto", show_default=True, help="auto, float32, bf16 or fp16."),
    click.option("--no-baselines", "baselines", flag_value=False, default=None, type=bool, help="Leave out kNN of raw "
                 "pixels and of the untrained backbone."),
    PLUGIN,
)  # fmt: skip
