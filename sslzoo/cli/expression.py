"""The argument EXPRESSION of a command: its signs, its completion; and the options that commands share."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..recipes import plugins, recipe
from ..recipes.knobs import dotted
from ..recipes.schema import SWITCHES
from ..recipes.values import WORDS
from ..tools.errors import UserError
from .output import reserve

Command = Callable[..., Any]


class ExpressionCommand(click.Command):
    """Is a command whose expression may have glued signs: ``-negatives`` is no option, but ``- negatives``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Part glued signs before click takes them for options."""
        parted = part_signs(args, self.params)
        try:
            return super().parse_args(ctx, [*parted])
        except click.NoSuchOption as error:
            keys = dotted(error.option_name.lstrip("-").replace("-", "_"))
            if len(keys) != 1 or "." not in keys[0] or "." in error.option_name:
                raise
            after = parted[parted.index(error.option_name) + 1 :] if error.option_name in parted else []
            value = after[0] if after and after[0] not in ("+", "-") else "VALUE"
            hint = f"write {keys[0]}={value} in the expression"
            raise UserError(f"No such option {error.option_name!r}; {hint}.") from None


class Share(click.ParamType[float]):
    """Is a share of all, as a number from 0 to 1 or in per cent: ``0.05`` or ``5%``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a number."""
        text = str(value).strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{value!r} is no share, as in 0.05 or 5%.", param, ctx)


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
AS_JSON = click.option("--json", "as_json", is_flag=True, callback=reserve, is_eager=True,
                       help="Print one JSON object on standard output.")  # fmt: skip
PLUGIN = click.option(
    "--plugin", multiple=True, metavar="FILE.py", expose_value=False, is_eager=True,
    callback=lambda ctx, param, paths: [plugins.load_plugin(path) for path in paths],
    help="A Python file with values, backbones or data sets of your own; it is run.",
)  # fmt: skip


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return several options as one decorator, in the order in which the help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


DATA_HELP = (
    "digits, cifar10, cifar100, stl10, fashion-mnist, a folder of images, an .npz file, a .csv of paths, .parquet, "
    "WebDataset's .tar, a folder of save_to_disk, hf:NAME, torchvision:NAME or medmnist:NAME.  [default: digits, or a "
    "run's own]"
)
data_options = stacked(
    click.option("--data", help=DATA_HELP),
    click.option("--train", metavar="DIR", help="The training split alone, in place of --data."),
    click.option("--val", metavar="DIR", help="A validation split beside it, for kNN while a run goes on."),
    click.option("--test", metavar="DIR", help="A test split beside it."),
    click.option("--unlabelled", metavar="DIR", help="Images that are trained on without labels, in the data or not."),
    click.option(
        "--labels",
        metavar="FILE.csv[:COLUMN]",
        help="A table of files and their labels: one column, or several of 0 and 1.",
    ),
    click.option("--class-depth", type=int, metavar="N", help="The level of folders that are classes, 1 the first."),
    click.option("--image-size", type=int, help="Size of a view in px.  [default: the images' own, at most 224]"),
    click.option(
        "--range",
        metavar="LOW,HIGH",
        help="Values that are black and white in images of more than 8 bits; others stay as they are.",
    ),
    click.option(
        "--channels", type=int, metavar="C", help="Channels that images are read to, from 1 to 13.  [default: 3, RGB]"
    ),
    click.option("--limit", type=int, help="Use N training images only, for a quick try."),
    click.option(
        "--memory", default="auto", show_default=True, help="Keep images of files in memory: always, never, or auto "
        "(where they fit). Results do not depend on it."
    ),
    click.option(
        "--max-bad",
        type=Share(),
        metavar="SHARE",
        help="Of the images, that may be unreadable, as in 0.05 or 5%; more stop the command.  [default: 0.01 where "
        "something is trained]",
    ),
)  # fmt: skip

MINUTES = click.option(
    "--minutes", type=float, metavar="M", help="Without --epochs, on your own data: as many epochs as fit M minutes, "
    "from the command to its end; 5 on a CPU, 30 on a GPU."
)  # fmt: skip
training_options = stacked(
    click.option(
        "--epochs", type=int, help="Epochs; by default those of a named data set, or as many as there is time for."
    ),
    click.option("--batch-size", type=int, help="Images in a batch."),
    click.option("--backbone", help="A name of timm's, or 'small'."),
    click.option(
        "--workers",
        type=int,
        help="Processes that read images; by default cores less one, at most 16, and on two cores none of those in "
        "memory.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option("--precision", default="auto", show_default=True, help="auto, float32, bf16 or fp16."),
    click.option("--no-baselines", "baselines", flag_value=False, default=None, type=bool, help="Leave out kNN of raw "
                 "pixels, of colour histograms and of the untrained backbone."),
    PLUGIN,
)  # fmt: skip
