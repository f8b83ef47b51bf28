"""torchvision's data sets by name, downloaded into the cache where they are not there yet."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tools import files
from ..tools.errors import UserError
from ..tools.places import cache


def _torchvision(
    name: str, splits: dict[str, dict[str, Any]], images: str = "data", labels: str = "targets"
) -> dict[str, Any]:
    """Return the arrays of a torchvision data set, downloaded into the cache where they are not there yet."""
    import torchvision.datasets

    found: dict[str, Any] = {}
    kind = getattr(torchvision.datasets, name)
    for split, options in splits.items():
        try:
            try:
                made = kind(cache(), download=False, **options)
            except RuntimeError:
                (lock := cache() / ".lock").parent.mkdir(parents=True, exist_ok=True)
                lock.touch()
                with files.locked(lock, wait=True):  # the next one finds what this one has downloaded
                    made = kind(cache(), download=True, **options)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a broken file is torchvision's RuntimeError
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UserError(
                f"{name} could not be downloaded into {cache()} ({reason.rstrip('.')}); "
                "check the network, or set SSLZOO_CACHE to a folder that has it."
            ) from None
        array = np.asarray(getattr(made, images))
        found[f"{split}_images"] = array
        found[f"{split}_labels"] = np.asarray(getattr(made, labels))
        found["classes"] = [*getattr(made, "classes", ())]
    return found


def _stl10() -> dict[str, Any]:
    """Return STL-10, which trains on its labelled and unlabelled images; the bank is the labelled part."""
    splits = {"train": {"split": "train"}, "test": {"split": "test"}, "extra": {"split": "unlabeled"}}
    return _torchvision("STL10", splits, labels="labels")


_TWO: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
TORCHVISION: dict[str, Callable[[], dict[str, Any]]] = {
    "cifar10": lambda: _torchvision("CIFAR10", _TWO),
    "cifar100": lambda: _torchvision("CIFAR100", _TWO),
    "stl10": _stl10,
    "fashion-mnist": lambda: _torchvision("FashionMNIST", _TWO),
}
