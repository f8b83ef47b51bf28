"""What a run is compared with: kNN of raw pixels, of colours and of the untrained backbone, once for all runs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

import torch
from torch import Tensor

from ..core.backbones import backbone_of
from ..processes import agree
from ..tools import files
from ..tools.errors import UserError
from ..tools.places import cache
from ..tools.version import __version__
from .plan import Plan

_known: dict[str, float] = {}  # of this process, where nothing can be kept on disk


def once(plan: Plan, what: str | Mapping[str, Tensor], make: Callable[[], float]) -> float:
    """Return the kNN accuracy of weights on a plan's data, or of what a word names; made where it is not known.

    The words are "raw" and "colours", whose accuracy is nan where images are gray. It is kept in the cache, by a hash
    of all that it depends on. All processes have to call this together.
    """
    key = agree.on_first(lambda: key_of(plan, what))
    found = agree.on_first(lambda: _known.get(key) if key in _known else read(key))
    if found is None:
        found = make()
        agree.on_first(lambda: write(key, found))
    _known[key] = found
    return found


def key_of(plan: Plan, what: str | Mapping[str, Tensor]) -> str:
    """Return a hash of images, labels and how they are read, of weights or a word, and of the code that embeds them."""
    data, test, digest = plan.data, plan.data.test, hashlib.sha256()
    about = [__version__, torch.__version__, data.size, data.mean, data.std, plan.device.type, plan.precision]
    about += [what] if isinstance(what, str) else [backbone_of(plan.recipe)]
    digest.update(json.dumps(about).encode())
    for split in (data.bank, test):
        assert split is not None
        assert split.labels is not None
        for part in split.images.fingerprint():
            digest.update(part)
        digest.update(split.labels.numpy().tobytes())
    for name, value in sorted({}.items() if isinstance(what, str) else what.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read(key: str) -> float | None:
    """Return the number of a key; None where it is not kept, or its file is not as it was written."""
    with suppress(OSError, ValueError, TypeError):
        content = json.loads((cache() / "baselines" / f"{key}.json").read_bytes())
        if json.dumps(content) == json.dumps(stamped(key, content["k20"])):  # nan is not equal to itself
            return float(content["k20"])
    return None


def write(key: str, value: float) -> None:
    """Keep a number by its key, if that can be."""
    path = cache() / "baselines" / f"{key}.json"
    with suppress(OSError, UserError):  # no room, or not ours to write: it goes without
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps(stamped(key, value)))


def stamped(key: str, value: float) -> dict[str, object]:
    """Return what is kept: the number, and a hash of it and its key."""
    return {"k20": value, "sha256": hashlib.sha256(f"{key} {value!r}".encode()).hexdigest()}
