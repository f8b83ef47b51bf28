"""sslzoo: self-supervised image learning on one Siamese core; every method is a choice of switches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .tools.version import __version__ as __version__

if TYPE_CHECKING:
    from .core.siamese import Siamese
    from .evaluation.exporting import export
    from .evaluation.python_api.functions import embed, retrieval, search
    from .evaluation.python_api.run import Run
    from .metrics.knn import knn
    from .recipes.algebra import diff, load
    from .recipes.plugins import load_plugin
    from .recipes.recipe import Recipe
    from .recipes.rules import collapse_guards
    from .recipes.values import SwitchValue
    from .tools.errors import UserError
    from .training.listeners.callbacks import Callback, Evaluation, Step
    from .training.listeners.reporter import LogRow, Result
    from .training.optim import optimizer
    from .training.run import resume, train
    from .training.runs import encoder

__all__ = [
    "Callback", "Evaluation", "LogRow", "Recipe", "Result", "Run", "Siamese", "Step", "SwitchValue", "UserError",
    "collapse_guards", "diff", "embed", "encoder", "export", "knn", "load", "load_plugin", "optimizer", "resume",
    "retrieval", "search", "train",
]  # fmt: skip

_HOMES = {  # the module of each, and its name there
    "embed": "evaluation.python_api.functions:embed", "retrieval": "evaluation.python_api.functions:retrieval",
    "search": "evaluation.python_api.functions:search",
    "export": "evaluation.exporting:export",
    "Callback": "training.listeners.callbacks:Callback", "Step": "training.listeners.callbacks:Step",
    "Evaluation": "training.listeners.callbacks:Evaluation", "LogRow": "training.listeners.reporter:LogRow",
    "Result": "training.listeners.reporter:Result", "Run": "evaluation.python_api.run:Run",
    "resume": "training.run:resume",
    "Recipe": "recipes.recipe:Recipe", "Siamese": "core.siamese:Siamese", "SwitchValue": "recipes.values:SwitchValue",
    "UserError": "tools.errors:UserError", "collapse_guards": "recipes.rules:collapse_guards",
    "diff": "recipes.algebra:diff", "encoder": "training.runs:encoder", "knn": "metrics.knn:knn",
    "load": "recipes.algebra:load", "load_plugin": "recipes.plugins:load_plugin",
    "optimizer": "training.optim:optimizer", "train": "training.run:train",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``import sslzoo`` loads neither torch, faiss nor timm."""
    if name in _HOMES:
        module, _, its_name = _HOMES[name].partition(":")
        return getattr(import_module(f".{module}", __name__), its_name)
    raise AttributeError(f"module 'sslzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that have not been used yet."""
    return sorted({*globals(), *__all__})
