"""kNN of a run, while it goes on and at its end; its processes share the features, and the first one counts votes."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..core.encoders import build
from ..data.splits import Dataset, Split, lacking, leak, leaked
from ..metrics.knn import knn
from ..processes import agree, collectives
from ..tools.errors import Diverged
from ..views.features import Preprocessing, features, raw_size
from . import baselines
from .machine import evaluation_autocast
from .plan import Plan


def live(plan: Plan, encoder: nn.Module) -> float:
    """Return kNN, k = 20, on a tenth of the training images by group (or on the test split with ``--eval test``)."""
    if plan.options.eval == "test":
        assert plan.data.test is not None
        return score(plan, encoder, plan.data.bank, plan.data.test)["k20"]
    return score(plan, encoder, *plan.data.validation(plan.options.seed))["k20"]


@dataclass(frozen=True)
class Scores:
    """Describes a run's kNN: accuracies in [0, 1] by k, and k = 20 of raw pixels and of the untrained backbone.

    All three are None without labels, and the latter two where they were not wanted. ``leaked`` counts the test images
    that are in the training split too, and ``notes`` are sentences on what makes kNN mean less than it seems to.
    """

    knn: Mapping[str, float] | None = None
    raw_knn: float | None = None
    random_knn: float | None = None
    leaked: int | None = None
    notes: Sequence[str] = ()


def final(plan: Plan, encoder: nn.Module, untrained: Mapping[str, Tensor]) -> Scores:
    """Return kNN on the test split, which is read here and nowhere before."""
    data = plan.data
    if not data.labelled:
        return Scores()
    assert data.test is not None
    bank, test = data.bank, data.test
    found = score(plan, encoder, bank, test)
    leaks, notes = agree.on_first(lambda: doubts(data))
    if not plan.options.baselines:
        return Scores(found, leaked=leaks, notes=notes)

    def of_untrained() -> float:
        fresh = build(plan.recipe.training.backbone, data.size).to(plan.device)
        fresh.load_state_dict(untrained)
        return score(plan, fresh, bank, test)["k20"]

    raw = baselines.once(plan, None, lambda: score(plan, None, bank, test)["k20"])
    return Scores(found, raw, baselines.once(plan, untrained, of_untrained), leaks, notes)


def doubts(data: Dataset) -> tuple[int, list[str]]:
    """Return how many test images are in the training split too, and why kNN may mean less than it seems to."""
    leaks = leaked(data)
    return leaks, [sentence for sentence in (leak(leaks, data), lacking(data.bank, data.test)) if sentence]


def score(plan: Plan, encoder: nn.Module | None, bank: Split, queries: Split) -> dict[str, float]:
    """Return kNN accuracies by k ("k1", ...). Raises `Diverged` for features that are not finite."""
    rows = [_shared(plan, encoder, split) for split in (bank, queries)]

    def count() -> dict[str, float]:
        labels = [cast(Tensor, split.readable().labels).numpy() for split in (bank, queries)]  # of those with a row
        if not all(np.isfinite(some).all() for some in rows):
            raise Diverged("The features of this run are not finite; lower optimizer.lr.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes that the bank lacks, which `notes_of` says
            return knn(rows[0], labels[0], rows[1], labels[1], device=str(plan.device))["knn"]

    return agree.on_first(count)


def _shared(plan: Plan, encoder: nn.Module | None, split: Split) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return features of what can be read of a split; each process makes a part, and the first one alone has all."""
    data, n = plan.data, len(split)
    precision = evaluation_autocast(plan.device, plan.precision)
    size = data.size if encoder is not None else raw_size(data.scored, data.size)
    how = (Preprocessing(size, data.mean, data.std), plan.device, plan.workers, None, precision)
    if collectives.world() == 1:
        return features(encoder, split, *how)
    mine = split.take(collectives.shard_indices(n))
    found = torch.from_numpy(agree.on_all(lambda: features(encoder, mine, *how)))
    rows = found.new_zeros(len(mine), found.shape[1])
    rows[mine.readable_places()] = found
    split.unreadable.reasons |= agree.union(split.unreadable.reasons)
    rows = collectives.gather_shards(rows, n)
    return (rows[split.readable_places()] if collectives.rank() == 0 else rows).numpy()
