"""kNN of a run, while it goes on and at its end; its processes share the features, and the first one counts votes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import distributed, processes
from .embed import features
from .encoders import build
from .errors import Diverged
from .knn import knn
from .plan import Plan
from .splits import Split


def live(plan: Plan, encoder: nn.Module) -> float:
    """kNN, k = 20, on a tenth of the training images by group (or on the test split with ``--eval test``)."""
    if plan.options.eval == "test":
        assert plan.data.test is not None
        return score(plan, encoder, plan.data.bank, plan.data.test)["k20"]
    return score(plan, encoder, *plan.data.validation(plan.options.seed))["k20"]


def final(plan: Plan, encoder: nn.Module, untrained: Mapping[str, Tensor]) -> dict[str, Any]:
    """kNN on the test split, which is read here and nowhere before; beside it raw pixels and the untrained backbone."""
    data = plan.data
    if not data.labelled:
        return {"knn": None, "raw_knn": None, "random_knn": None}
    assert data.test is not None
    fresh = build(plan.recipe.training.backbone, data.size).to(plan.device)
    fresh.load_state_dict(untrained)
    return {
        "knn": score(plan, encoder, data.bank, data.test),
        "raw_knn": score(plan, None, data.bank, data.test)["k20"],
        "random_knn": score(plan, fresh, data.bank, data.test)["k20"],
    }


def score(plan: Plan, encoder: nn.Module | None, bank: Split, queries: Split) -> dict[str, float]:
    """kNN accuracies by k. Raises `Diverged` for features that are not finite."""
    rows = [_shared(plan, encoder, split) for split in (bank, queries)]

    def count() -> dict[str, float]:
        assert bank.labels is not None
        assert queries.labels is not None
        if not all(np.isfinite(some).all() for some in rows):
            raise Diverged("The features of this run are not finite; lower optimizer.lr.")
        return knn(rows[0], bank.labels.numpy(), rows[1], queries.labels.numpy())["knn"]

    return processes.first(count)


def _shared(plan: Plan, encoder: nn.Module | None, split: Split) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """The features of a split, of which each process makes a part; whole on the first one alone."""
    data, n = plan.data, len(split)
    mine = split if distributed.world() == 1 else split.take(distributed.places(n))
    found = features(encoder, mine, data.size, data.mean, data.std, plan.device, plan.workers)
    return distributed.collected(torch.from_numpy(found), n).numpy()
