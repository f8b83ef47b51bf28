"""The command line: click only; every command imports what it needs when it runs."""

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from . import __version__, algebra, recipe, show
from .errors import UserError
from .schema import SWITCHES, WORDS

INTERRUPTED = 130


class Zoo(click.Group):
    """A group whose every error is one sentence on standard error and exit code 2."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command and exit."""
        standalone = extra.pop("standalone_mode", True)
        if not standalone:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name or "sslzoo", standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            code = 0
        except click.ClickException as error:
            show.error(error.format_message())
            code = 2
        except UserError as error:
            show.error(str(error))
            code = 2
        except (KeyboardInterrupt, click.Abort):
            show.error("Interrupted.")
            code = INTERRUPTED
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        sys.exit(code if isinstance(code, int) else 0)


class ExpressionCommand(click.Command):
    """A command whose expression may have glued signs: ``-negatives`` is no option, but ``- negatives``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Part glued signs before click takes them for options."""
        return super().parse_args(ctx, part_signs(args, self.params))


def part_signs(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """``-word`` as ``-``, ``word``, but for declared options and their values, and for all after ``--``."""
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
    """Names first, then words and files."""
    words = [*SWITCHES, *WORDS] if ctx.params.get(param.name or "") else list(recipe.method_names())
    found = [CompletionItem(word) for word in words if word.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


EXPRESSION = click.argument(
    "expression", nargs=-1, metavar="EXPRESSION...", type=click.UNPROCESSED, shell_complete=complete_expression
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
DATA_HELP = "digits, cifar10, cifar100, stl10, fashion-mnist, a folder of images or an .npz file."


@click.group(cls=Zoo, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sslzoo")
def main() -> None:
    """Self-supervised image learning on one Siamese core: every method is a choice of switches.

    \b
    sslzoo train simsiam                        train on the embedded digits
    sslzoo train byol - momentum --data DIR     remove a component, on your own images
    sslzoo knn runs/RUN raw random              benchmark embeddings
    """


@main.command(cls=ExpressionCommand)
@EXPRESSION
@click.option("--data", default="digits", show_default=True, help=DATA_HELP)
@click.option("--epochs", type=int, help="Epochs; by default the recipe's, or what the data and the device ask for.")
@click.option("--batch-size", type=int, help="Images in a batch.")
@click.option("--backbone", help="A name of timm's, or 'small'.")
@click.option("--image-size", type=int, help="Size of a view in px; by default the images' own, at most 224.")
@click.option("--limit", type=int, help="Train on N images only, for a quick try.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32 or bf16.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", default="runs", show_default=True, help="The folder of run directories.")
@click.option("--init", help="Start from the weights of a run or a file.")
@click.option("--knn-every", type=int, help="Epochs between two looks at kNN; by default about eight looks a run.")
@click.option(
    "--eval", "eval_", default="val", show_default=True, help="Split of the looks: val (cut from training) or test."
)
@click.option("--workers", type=int, help="Processes that read image files; 2 by default.")
@click.option("--compile/--no-compile", "compile_", default=False, help="Compile the model with torch.compile.")
@click.option("--resume", metavar="RUN", help="Go on with a run; takes no expression.")
@click.option("--stop-after", type=int, metavar="N", help="Stop after epoch N, on the same schedule.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, each value with its origin, and stop.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors (and the JSON object).")
@AS_JSON
@click.pass_context
def train(ctx: click.Context, /, expression: tuple[str, ...], **flags: Any) -> None:
    """Train an expression: a method, and the components to add or remove.

    \b
    sslzoo train simsiam
    sslzoo train byol - momentum
    sslzoo train simclr -negatives +predictor +stop_gradient
    sslzoo train "swav - sinkhorn + predictor" --data cifar10
    sslzoo train simsiam batchnorm=hidden optimizer.lr=0.1
    """
    names = {"eval_": "eval", "compile_": "compile"}
    control = {key: flags.pop(key) for key in ("resume", "stop_after", "dry_run", "quiet", "as_json")}
    options = {names.get(key, key): value for key, value in flags.items()}
    if control["resume"] is None and not expression:
        raise UserError("Name a method, as in 'sslzoo train simsiam'; 'sslzoo methods' lists them.")
    from . import plan as plans

    training = import_module("sslzoo.train")  # the module: the package's attribute of that name is the function
    screen = show.Screen(as_json=control["as_json"], quiet=control["quiet"])
    try:
        if control["resume"] is not None:
            if expression:
                raise UserError(f"--resume takes no expression; leave {' '.join(expression)!r} out.")
            _same_flags(ctx, Path(control["resume"]), {names.get(k, k): v for k, v in flags.items()}, names)
            result = training.resume(control["resume"], screen, control["stop_after"])
        elif control["dry_run"]:
            plan = plans.prepare(list(expression), plans.Options(**options))
            about = {"data": plan.data.name, "device": str(plan.device), "precision": plan.precision}
            if control["as_json"]:
                click.echo(json.dumps({**summary(plan.recipe), **about}))
            else:
                show.recipe_page(plan.recipe, plan.expression.base, about, plan.data.notes)
            return
        else:
            result = training.train(list(expression), screen, control["stop_after"], **options)
    except training.Interrupted as stop:
        screen.close()
        show.error(f"Stopped and saved; 'sslzoo train --resume {stop}' goes on.")
        sys.exit(INTERRUPTED)
    finally:
        screen.close()
    if control["as_json"]:
        click.echo(json.dumps(result))


def _same_flags(ctx: click.Context, run: Path, flags: dict[str, Any], names: dict[str, str]) -> None:
    """Refuse flags beside --resume that differ from the run's own."""
    from .runs import read_run

    about = read_run(run)
    own = {
        **about["options"],
        "epochs": about["epochs"],
        "batch_size": about["batch_size"],
        "backbone": about["backbone"],
    }
    for param in ctx.command.params:
        name = names.get(param.name or "", param.name or "")
        if name in flags and ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE:
            value = flags[name]
            if name == "data" and Path(value).exists():
                value = str(Path(value).resolve())
            if value != own.get(name):
                raise UserError(
                    f"{param.opts[0]} belongs to the run ({own.get(name)}); leave it out, or start a new run."
                )


def summary(found: recipe.Recipe) -> dict[str, Any]:
    """What ``methods show --json`` prints."""
    knobs = found.knobs()
    plain = ("target", "negatives", "clustering", "loss")
    return {
        "expression": found.expression,
        "method": found.method,
        "switches": recipe.switch_values(found.switches),
        "knobs": {key.partition(".")[2]: value for key, value in knobs.items() if key.partition(".")[0] in plain},
        "guards": algebra.collapse_guards(found.switches),
        "tables": recipe.nested(knobs),
        "origins": dict(found.origins),
        "dropped": list(found.dropped),
        "learning_rate": found.learning_rate,
        "scale": found.scale,
    }


@main.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--data", help=DATA_HELP + " By default the runs' own, else digits.")
@click.option(
    "-k", "ks", multiple=True, type=int, help="Neighbours; may be given several times.  [default: 1 5 20 200]"
)
@click.option("--temperature", type=float, default=0.07, show_default=True, help="Of the votes.")
@click.option("--image-size", type=int, help="Size of an image in px.")
@click.option("--limit", type=int, help="Use N training images only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of untrained backbones.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that read image files.")
@AS_JSON
def knn(sources: tuple[str, ...], ks: tuple[int, ...], data: str | None, as_json: bool, **options: Any) -> None:
    """Benchmark embeddings by kNN and recall, with faiss: the whole un-augmented training split is the bank.

    \b
    A SOURCE is a run directory, an expression in quotes (its untrained backbone), random (the default backbone,
    untrained), raw (the pixels), timm:NAME (pretrained), or a file features.npz that 'sslzoo embed' wrote.
    """
    from .knn import KS
    from .sources import benchmark

    result = benchmark(sources, data, ks or KS, **options)
    if as_json:
        click.echo(json.dumps(result))
    else:
        show.knn_table(result)


@main.command()
@click.argument("source", metavar="SOURCE")
@click.option("--data", help=DATA_HELP + " By default the run's own, else digits.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@click.option("--image-size", type=int)
@click.option("--limit", type=int, help="Use N training images only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of an untrained backbone.")
@click.option("--workers", type=int, default=2, show_default=True)
@AS_JSON
def embed(source: str, data: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Write a source's features and labels as an .npz that 'sslzoo knn' reads."""
    from . import sources

    sources.check_out(out)
    _, found = sources.embed(source, sources.shared_data([source], data), labelled=False, **options)
    sources.write_features(out, found)
    shapes = {key: list(array.shape) for key, array in found.arrays.items()}
    if as_json:
        click.echo(json.dumps({"source": found.source, "data": found.data, "out": str(out), "arrays": shapes}))
    else:
        show.line(f"{out}: " + ", ".join(f"{key} {shape}" for key, shape in shapes.items()))


@main.command()
@click.option(
    "--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="The folder of run directories."
)
@AS_JSON
def runs(out: Path, as_json: bool) -> None:
    """List the runs."""
    from .runs import listed

    rows = listed(out)
    if as_json:
        click.echo(json.dumps({"runs": rows}))
    elif rows:
        show.runs_table(rows)
    else:
        show.line(f"There are no runs in {out}; 'sslzoo train simsiam' makes one.")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script; for bash: source <(sslzoo completion bash)."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "sslzoo", "_SSLZOO_COMPLETE").source())


@main.group(cls=click.Group, invoke_without_command=True)
@click.pass_context
def methods(ctx: click.Context) -> None:
    """List, show, compare and copy methods."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@methods.command("list")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@AS_JSON
def list_(as_json: bool = False, markdown: bool = False) -> None:
    """All methods and their ten switches."""
    found = [recipe.find_method(name) for name in recipe.method_names()]
    if as_json:
        keys = ("name", "title", "paper", "idea")
        rows = [{**{k: getattr(m, k) for k in keys}, "switches": recipe.switch_values(m.switches)} for m in found]
        click.echo(json.dumps({"methods": rows}))
    elif markdown:
        click.echo(show.methods_markdown(found))
    else:
        show.methods_table(found)


@methods.command("show", cls=ExpressionCommand)
@EXPRESSION
@click.option("--data", help=DATA_HELP + " Adds what the data and this device change.")
@click.option("--scale", type=click.Choice(["small", "large"]), help="small: images up to 64 px; large: above.")
@AS_JSON
def show_(expression: tuple[str, ...], data: str | None, scale: str | None, as_json: bool) -> None:
    """The switches and the resolved knobs of an expression, each with its origin."""
    parsed = algebra.parse(list(expression))
    about: dict[str, str] = {}
    if data is None:
        found = algebra.resolve(parsed, scale or "small")
    else:
        if scale is not None:
            raise UserError("--scale follows from --data; give one of the two.")
        from . import plan as plans

        device = plans.find_device("auto")
        found = plans.recipe_for_data(parsed, plans.Options(data=data), device)
        about = {"data": data, "device": str(device)}
    if as_json:
        click.echo(json.dumps(summary(found)))
    else:
        show.recipe_page(found, parsed.base, about)


@methods.command()
@click.argument("a", metavar="EXPRESSION")
@click.argument("b", metavar="EXPRESSION")
@click.option("--scale", type=click.Choice(["small", "large"]), default="small", show_default=True)
@AS_JSON
def diff(a: str, b: str, scale: str, as_json: bool) -> None:
    """The switches and knobs in which two expressions differ."""
    left, right = (algebra.resolve(algebra.parse(text), scale) for text in (a, b))
    switches = algebra.diff(left.switches, right.switches)
    one, two = recipe.described(left), recipe.described(right)
    knobs = {key: (one.get(key), two.get(key)) for key in sorted({*one, *two}) if one.get(key) != two.get(key)}
    if as_json:
        click.echo(json.dumps({"a": left.expression, "b": right.expression, "switches": switches, "knobs": knobs}))
    else:
        show.diff_table(left.expression, right.expression, switches, knobs)


@methods.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def copy(name: str, file: Path) -> None:
    """Copy a method's file, to change it; it works wherever a name does."""
    if name.replace("-", "_") not in recipe.method_names():
        recipe.find_method(name)  # says what is wrong with it
    if file.exists():
        raise UserError(f"{file} is there already; give another name.")
    if file.suffix != ".toml" or not file.parent.is_dir():
        raise UserError(f"{file} has to be a .toml file in a folder that exists.")
    source = recipe.METHODS / f"{name.replace('-', '_')}.toml"
    try:
        file.write_text((source if source.is_file() else Path(name)).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}); give another place.") from None
    show.line(f"{file} is yours: change it, then 'sslzoo train {file}'.")
