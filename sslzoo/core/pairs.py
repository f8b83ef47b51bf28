"""Pairs of views: which one predicts which, and whose rows on the target side are its own."""

from typing import NamedTuple

from torch import Tensor

from ..recipes.recipe import Recipe
from ..tools.errors import UserError

Pair = tuple[int, int]  # (query view, target view)
Views = dict[int, Tensor]  # something of each view, by its place


class TargetSide(NamedTuple):
    """What queries are compared with, by view: keys and targets [N, dim], and codes [H, N, K] where there are any."""

    keys: Views
    targets: Views
    codes: Views


def full_views(recipe: Recipe) -> int:
    """How many views are of full size; those beyond are local crops."""
    return recipe.views.targets if recipe.switches.symmetric else 2 * recipe.views.pairs


def pairs(recipe: Recipe, views: int) -> list[Pair]:
    """Ordered pairs. Views beyond those that serve as targets are queries only (multi-crop). Raises `UserError`."""
    least = 2 if recipe.switches.symmetric else full_views(recipe)
    if views < least:
        raise UserError(f"This recipe needs {least} views of each image, not {views}; give as many.")
    if recipe.switches.symmetric:
        return [(i, j) for j in range(min(recipe.views.targets, views)) for i in range(views) if i != j]
    paired = full_views(recipe)
    return [(i, j) for j in range(1, paired, 2) for i in (j - 1, *range(paired, views))]


def own_views(recipe: Recipe, paired: list[Pair]) -> dict[Pair, int]:
    """For each pair the view whose rows on the target side are the anchor's own, where those are repelled too.

    A local crop has the rows of the other target, or of the target's query.
    """
    knobs, targets = recipe.negatives, sorted({j for _, j in paired})
    if not (recipe.reads("negatives.own_view") and knobs.own_view):
        return {}
    if knobs.anchor == "key":
        return {(i, j): j for i, j in paired}
    if recipe.switches.symmetric:
        return {(i, j): i if i in targets else (j + 1) % len(targets) for i, j in paired}
    return {(i, j): i if i < full_views(recipe) else j - 1 for i, j in paired}
