"""Pairs of views: which one predicts which, and whose rows on the target side are its own."""

from .recipe import Recipe

Pair = tuple[int, int]  # (query view, target view)


def pairs(recipe: Recipe, views: int) -> list[Pair]:
    """Ordered pairs. Views beyond those that serve as targets are queries only (multi-crop)."""
    if recipe.switches.symmetric:
        return [(i, j) for j in range(min(recipe.views.targets, views)) for i in range(views) if i != j]
    paired = 2 * recipe.views.pairs
    return [(i, j) for j in range(1, paired, 2) for i in (j - 1, *range(paired, views))]


def own_views(recipe: Recipe, paired: list[Pair]) -> dict[Pair, int]:
    """For each pair the view whose rows on the target side are the anchor's own, where those are repelled too."""
    knobs, targets = recipe.negatives, {j for _, j in paired}
    if recipe.switches.negatives != "batch" or not knobs.own_view:
        return {}
    if knobs.anchor == "key":
        return {(i, j): j for i, j in paired}
    return {(i, j): i if i in targets or i < j else j ^ 1 for i, j in paired}
