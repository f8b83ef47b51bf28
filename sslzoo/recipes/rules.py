"""The rules of the algebra: what cannot train, and what keeps the rest from collapse."""

from numbers import Integral

from ..tools.errors import UserError
from .recipe import Recipe
from .schema import Switches
from .values import VALUES, value_of


def too_few_to_whiten(rows: int, dim: int) -> str:
    """The sentence for a covariance that has no inverse; said before training, and where a batch is whitened."""
    return f"Whitening {rows} rows of dimension {dim} needs more rows than dimensions; lower dim or raise the batch."


FEW_ROWS = 16  # drawn of a bank, with which it may happen that all of them are one

# ---- rules -----------------------------------------------------------------------------------------------------------


def has_others(switches: Switches) -> bool:
    """Return whether the set A of what a query is told apart from is not empty."""
    return switches.negatives != "none" or switches.clustering != "none"


def refusal(switches: Switches) -> str | None:
    """Why a finished combination cannot train, with the mend; or None."""
    targets = [(name, getattr(switches, name)) for name in ("target", "positive", "clustering")]
    blocking = [str(word) for name, word in targets if value_of(name, word).no_gradient]
    if blocking and not switches.stop_gradient:
        article = "an" if blocking[0][0] in "aeiou" else "a"
        return f"No gradient can reach {article} {blocking[0]} target; add '+ stop_gradient'."
    if switches.positive == "average" and switches.target != "shared":
        return f"positive=average takes the place of a target copy; add '- {switches.target}' or '- average'."
    if has_others(switches) and switches.similarity != "cosine":
        what = "negatives" if switches.negatives != "none" else "clustering"
        return f"similarity={switches.similarity} would be ignored beside {what}; remove one of the two."
    if not has_others(switches) and switches.normalize == "none" and switches.similarity == "cosine":
        return "Cosine divides by the norms, so normalize=none would be ignored; add 'similarity=mse' or '+ l2'."
    return None


def misfit(recipe: Recipe, samples: int | None) -> str | None:
    """Why a recipe cannot train on so many samples, with the mend; or None."""
    if not isinstance(recipe, Recipe):
        return f"The recipe is a {type(recipe).__name__}; sslzoo.load('byol - momentum') gives one."
    if samples is not None and (not isinstance(samples, Integral) or samples < 1):
        return f"samples cannot be {samples!r}; it is the number of images in the data."
    if samples is None and recipe.reads("memory.bank_momentum"):
        return "A bank has a row for every sample, so their number has to be known: Siamese(encoder, recipe, samples)."
    prototypes = recipe.clustering.prototypes
    if recipe.reads("clustering.kmeans_iterations") and samples is not None and samples < prototypes:
        return f"k-means cannot make {prototypes} clusters of {samples} images; lower prototypes."
    if not recipe.negatives.positive_in_denominator and 0 < recipe.negatives.bank_sample < FEW_ROWS:
        return (
            f"So few rows of the bank may all be the sample's own; set bank_sample to {FEW_ROWS} or more, or 0 for all."
        )
    if recipe.reads("normalize.whiten_size"):
        batch, dim = recipe.training.batch_size, recipe.heads.dim
        rows = batch // max(1, batch // recipe.normalize.whiten_size)  # of the smallest group
        return too_few_to_whiten(rows, dim) if rows <= dim else None
    return None


def refuse(switches: Switches) -> None:
    """Raise `UserError` for a combination that cannot train."""
    why = refusal(switches)
    if why is not None:
        raise UserError(why)


def collapse_guards(switches: Switches) -> list[str]:
    """Return what keeps these ``switches`` from collapsing, in words; nothing where nothing known does.

    Negatives and balanced codes repel by construction; a learned predictor needs the stopped gradient beside it
    (Chen & He 2021, Table 1 and Fig. 2), an averaged target does without one (section 5.2); a momentum encoder alone is
    no guard (Grill et al. 2020, Table 5b). Whitened and standardized channels cannot shrink, but the latter can all be
    equal; decorrelation of channels that may shrink is no guard.
    """
    guards = []
    for name, some in VALUES.items():
        value = some[getattr(switches, name)]
        if value.guard and all(getattr(switches, other) == word for other, word in value.guard_needs.items()):
            guards.append(value.guard)
    return guards
