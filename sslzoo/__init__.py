"""sslzoo: self-supervised image learning on one Siamese core; every method is a choice of switches."""

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .algebra import collapse_guards, diff, load
    from .errors import UserError
    from .knn import knn
    from .optim import optimizer
    from .recipe import Recipe
    from .runs import encoder
    from .siamese import Siamese
    from .train import train

_HOMES = {
    "Recipe": "recipe", "Siamese": "siamese", "UserError": "errors", "collapse_guards": "algebra", "diff": "algebra",
    "encoder": "runs", "knn": "knn", "load": "algebra", "optimizer": "optim", "train": "train",
}  # fmt: skip

__all__ = [
    "Recipe", "Siamese", "UserError", "collapse_guards", "diff", "encoder", "knn", "load", "optimizer", "train",
]  # fmt: skip

try:
    __version__ = version("sslzoo")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import sslzoo`` loads neither torch, faiss nor timm."""
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'sslzoo' has no attribute {name!r}")


class _Package(ModuleType):
    """``sslzoo.train`` and ``sslzoo.knn`` stay the functions, also once the modules of those names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
