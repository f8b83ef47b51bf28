"""kNN of a run, while it goes on and at its end; its processes share the features, and the first one counts votes."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..core.backbones import backbone_of, build
from ..data.splits import Dataset, Split, lacking, leak, leaked
from ..metrics.knn import KS, knn
from ..processes import agree, collectives
from ..recipes.algebra import colour_preset, with_preset
from ..tools.errors import Diverged
from ..views.colours import Colours, gray
from ..views.features import Preprocessing, features, raw_size
from . import baselines
from .machine import evaluation_autocast
from .plan import Plan

LEAST = 0.02  # by which colours have to beat what was learned, to be said


def live(plan: Plan, encoder: nn.Module) -> float:
    """Return kNN, k = 20, on a tenth of the training images by group (or on the test split with ``--eval test``)."""
    if plan.options.eval == "test":
        assert plan.data.test is not None
        return score(plan, encoder, plan.data.bank, plan.data.test)["k20"]
    return score(plan, encoder, *plan.data.validation(plan.options.seed))["k20"]


@dataclass(frozen=True)
class Scores:
    """Describes a run's kNN: accuracies in [0, 1] by k, and k = 20 of raw pixels, the untrained backbone and colours.

    All of them are None without labels, the latter three where they were not wanted, and that of colours where images
    are gray. ``leaked`` counts the test images that are in the training split too, and ``notes`` are sentences on what
    makes kNN mean less than it seems to.
    """

    knn: Mapping[str, float] | None = None
    raw_knn: float | None = None
    random_knn: float | None = None
    colour_knn: float | None = None
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
        fresh = build(backbone_of(plan.recipe), data.size, channels=data.channels).to(plan.device)
        fresh.load_state_dict(untrained)
        return score(plan, fresh, bank, test)["k20"]

    raw = baselines.once(plan, "raw", lambda: score(plan, None, bank, test)["k20"])
    colours = nan  # which other channels than three have not
    if data.channels == 3:
        colours = baselines.once(plan, "colours", lambda: score(plan, Colours(), bank, test)["k20"])
    of_net = baselines.once(plan, untrained, of_untrained)
    return Scores(found, raw, of_net, None if isnan(colours) else colours, leaks, notes)


def colour_advice(plan: Plan, scores: Scores) -> list[str]:
    """Return a sentence that names a preset where colours alone beat the trained features; nothing elsewhere.

    They do by more than .02, and by more than chance: 1.96 standard errors of the difference of two accuracies, which
    are taken to be independent, though both are of the same queries, so that it is rather too few sentences.
    """
    preset = colour_preset(plan.recipe)
    if scores.knn is None or scores.colour_knn is None or preset is None:
        return []
    assert plan.data.test is not None
    learned, colours, queries = scores.knn["k20"], scores.colour_knn, int(plan.data.test.readable().asking.sum())
    error = sqrt((learned * (1 - learned) + colours * (1 - colours)) / max(queries, 1))
    if colours - learned <= max(LEAST, 1.96 * error):
        return []
    return [
        f"Colours alone tell these kinds apart better than what was learned (kNN {colours:.3f} of colour histograms, "
        f"{learned:.3f} of the features), and the views take colours away; try "
        f"'sslzoo train {with_preset(plan.recipe, preset)}' with the flags of this run."
    ]


def doubts(data: Dataset) -> tuple[int, list[str]]:
    """Return how many test images are in the training split too, and why kNN may mean less than it seems to."""
    leaks = leaked(data)
    return leaks, [sentence for sentence in (leak(leaks, data), lacking(data.bank, data.test)) if sentence]


def score(plan: Plan, encoder: nn.Module | None, bank: Split, queries: Split) -> dict[str, float]:
    """Return kNN accuracies by k ("k1", ...), which are nan for `Colours` of gray images.

    Raises `Diverged` for features that are not finite.
    """
    rows = [_shared(plan, encoder, split) for split in (bank, queries)]

    def count() -> dict[str, float]:
        labels = [cast(Tensor, split.readable().labels).numpy() for split in (bank, queries)]  # of those with a row
        if not all(np.isfinite(some).all() for some in rows):
            raise Diverged("The features of this run are not finite; lower optimizer.lr.")
        if isinstance(encoder, Colours) and all(map(gray, rows)):
            return {f"k{k}": nan for k in KS}
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
