"""``sslzoo train``."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from .. import show
from ..processes.launched import rank, world_size
from ..tools.errors import UserError
from ..tools.progress import listening
from .expression import AS_JSON, EXPRESSION, MINUTES, ExpressionCommand, data_options, training_options
from .interrupt import at_work
from .methods import summary
from .output import emit

PLACES = ("data", "train", "val", "test", "labels", "unlabelled")  # which may have been moved beside --resume
FREE = (*PLACES, "max_bad")  # data are compared when they are read
STOPPED = 75  # by a signal, and saved: try again later (EX_TEMPFAIL of sysexits.h)


@click.command(cls=ExpressionCommand)
@EXPRESSION
@data_options
@MINUTES
@training_options
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", default="runs", show_default=True, help="The folder of run directories.")
@click.option(
    "--init",
    help="Start from weights: of a run, a file, timm:NAME, torchvision:NAME, hf-hub:OWNER/NAME or "
    "torchhub:OWNER/NAME:MODEL, which name the backbone too.",
)
@click.option(
    "--init-network",
    help="Of a run or file with both: online or target.  [default: online; of a file with a teacher that]",
)
@click.option("--knn-every", type=int, help="Epochs between two looks at kNN; by default about eight looks a run.")
@click.option(
    "--eval",
    "eval_",
    default="val",
    show_default=True,
    help="Split of the looks: val (of the data, or cut from training) or test.",
)
@click.option("--compile/--no-compile", "compile_", default=False, help="Compile the model with torch.compile.")
@click.option(
    "--checkpoint-every", default="1", show_default=True, metavar="N|Nm", help="Epochs between checkpoints, or minutes."
)
@click.option("--keep", type=int, default=2, show_default=True, help="Checkpoints that are kept, the newest ones.")
@click.option(
    "--on-nan", default="stop", show_default=True, help="A step that is not finite: stop, or skip (leave it out)."
)
@click.option(
    "--accumulate",
    type=int,
    default=1,
    show_default=True,
    help="Parts of a batch whose gradients are added up; batch norm sees each alone.",
)
@click.option("--resume", metavar="RUN", help="Go on with a run, or from one of its checkpoints; takes no expression.")
@click.option(
    "--schedule",
    type=click.Choice(("cosine", "constant")),
    default="cosine",
    show_default=True,
    help="Of a run that has ended, beside --resume RUN --epochs N: a new cosine, or a constant rate.",
)
@click.option(
    "--rate",
    type=float,
    metavar="SHARE",
    help="Of its learning rate, from which it goes on then.  [default: that of its last step]",
)
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
    sslzoo train simclr views.preset=fine --data flowers    'sslzoo methods presets' lists presets of views
    """
    names = {"eval_": "eval", "compile_": "compile"}
    control = {key: flags.pop(key) for key in ("resume", "stop_after", "dry_run", "quiet", "as_json")}
    beyond = {key: flags.pop(key) for key in ("schedule", "rate")}
    options = {names.get(key, key): value for key, value in flags.items()}
    options["baselines"] = flags["baselines"] is not False
    if options["max_bad"] is None:
        del options["max_bad"]
    given = control["resume"] is not None and flags["epochs"] is not None
    if not given and (beyond["rate"] is not None or beyond["schedule"] != "cosine"):
        raise UserError(
            "--schedule and --rate are of a run that goes on beyond its end; give --resume RUN --epochs N too."
        )
    if control["resume"] is None and not expression:
        raise UserError("Name a method, as in 'sslzoo train simsiam'; 'sslzoo methods' lists them.")
    if world_size() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch tells each process of parameters in use
    from ..tools.bounds import check_numbers
    from ..training import run as training
    from ..training.guards import Interrupted
    from ..training.machine import keep_memory
    from ..training.options import Options

    at_work()
    keep_memory()
    screen = show.Screen(as_json=control["as_json"], quiet=control["quiet"])
    if rank() == 0:
        ctx.with_resource(listening(screen.work))
    try:
        if control["stop_after"] is not None:
            check_numbers(stop_after=control["stop_after"])
        if control["resume"] is not None:
            if expression:
                raise UserError(f"--resume takes no expression; leave {' '.join(expression)!r} out.")
            if control["dry_run"]:
                raise UserError("--dry-run says what a new run would do; leave it or --resume out.")
            if rank() == 0:
                _same_flags(ctx, Path(control["resume"]), {names.get(k, k): v for k, v in flags.items()}, names)
            more = {name: flags[name] for name in FREE} | {"epochs": flags["epochs"], **beyond}
            result = training.resume(control["resume"], screen, control["stop_after"], **more)
        elif control["dry_run"]:
            plan = training.planned(list(expression), Options(**options))
            about = {"data": plan.data.name, "device": str(plan.device), "precision": plan.precision}
            if control["as_json"]:
                emit({**summary(plan.recipe), **about, "seconds": plan.seconds})
            else:
                about |= {} if plan.seconds is None else {"time": f"about {show.duration(plan.seconds)}"}
                show.recipe_page(plan.recipe, plan.expression.base, about, [*plan.data.notes, *plan.notes])
            return
        else:
            result = training.train(list(expression), reporter=screen, stop_after=control["stop_after"], **options)
    except Interrupted as stop:
        screen.close()
        if rank() == 0:
            show.line(f"Stopped and saved; 'sslzoo train --resume {stop}' goes on.", stderr=True)
        sys.exit(STOPPED)
    finally:
        screen.close()
    if control["as_json"] and rank() == 0:
        emit(result.to_json())


def _same_flags(ctx: click.Context, run: Path, flags: dict[str, Any], names: dict[str, str]) -> None:
    """Raise `UserError` for flags beside --resume that differ from the run's own."""
    from ..data.decoded.ranges import Range
    from ..training.checkpoints import locate
    from ..training.runs import read_run

    about = read_run(locate(run)[0])
    own = about.options.to_json()
    own |= {"epochs": about.epochs, "batch_size": about.batch_size, "backbone": about.backbone}
    for param in ctx.command.params:
        name = names.get(param.name or "", param.name or "")
        if name in flags and ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE:
            value = flags[name]
            if name == "range":
                value, own[name] = (str(Range.parse(text)) for text in (value, own.get(name)))
            if name not in (*FREE, "epochs") and value != own.get(name):
                said = "none was given" if own.get(name) is None else own[name]
                raise UserError(f"{param.opts[0]} belongs to the run ({said}); leave it out, or start a new run.")
