"""sslzoo: self-supervised image learning on one Siamese core; every method is a choice of switches."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .tools.version import __version__ as __version__

if TYPE_CHECKING:
    from .core.siamese import Siamese
    from .metrics.knn import knn
    from .recipes.algebra import diff, load
    from .recipes.recipe import Recipe
    from .recipes.rules import collapse_guards
    from .tools.errors import UserError
    from .training.optim import optimizer
    from .training.run import train
    from .training.runs import encoder

__all__ = [
    "Recipe", "Siamese", "UserError", "collapse_guards", "diff", "encoder", "knn", "load", "optimizer", "train",
]  # fmt: skip

_HOMES = {
    "Recipe": "recipes.recipe", "Siamese": "core.siamese", "UserError": "tools.errors",
    "collapse_guards": "recipes.rules", "diff": "recipes.algebra", "encoder": "training.runs", "knn": "metrics.knn",
    "load": "recipes.algebra", "optimizer": "training.optim", "train": "training.run",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``import sslzoo`` loads neither torch, faiss nor timm."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'sslzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, also those that have not been used yet."""
    return sorted({*globals(), *__all__})
