"""The values of the ten switches: each is declared once, here or in a plugin, with all that depends on it; no torch.

A value says which knobs it reads, whether its loss is a whole batch's, what it guards against, and which function does
its work. The schema, refusals, guards and pages derive from that. A switch's first value is *off*, its second the usual
one of ``+ switch``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from ..tools.errors import UserError

Word = str | bool
SHARED = ("none", True, False)  # words that more than one switch may have


@dataclass(frozen=True)
class SwitchValue:
    """Describes a value of ``switch``: its ``word`` in expressions, and ``doc``, a few words on what it does.

    ``function`` does its work: a callable, or its place as in ``"core.negatives:against_queue"``, which is looked up at
    the first use; what it is given is the contract of its switch (`sslzoo/core/functions.py`). ``knobs`` are the dotted
    knobs that it reads, beside those that are read always. ``whole_batch`` says why its loss is no mean over rows that
    know nothing of each other, where that is so. ``guard`` is what it guards against collapse with, where the switches
    have the values that ``guard_needs`` names. With ``no_gradient`` no gradient can reach a target that it makes.
    """

    switch: str
    word: Word
    doc: str
    function: Callable[..., Any] | str = ""
    knobs: tuple[str, ...] = ()
    whole_batch: str = ""
    guard: str = ""
    guard_needs: Mapping[str, Word] = field(default_factory=dict)
    no_gradient: bool = False


VALUES: dict[str, dict[Word, SwitchValue]] = {}  # by switch and word, in the order of their declaration
WORDS: dict[str, str] = {}  # the switch that a word belongs to


def declare(values: Iterable[SwitchValue]) -> None:
    """Make values known. Raises `UserError` for a word that another switch, or another value, has already."""
    for value in values:
        there = VALUES.setdefault(value.switch, {})
        if there.get(value.word) == value:  # a plugin that is loaded twice
            continue
        taken = WORDS.get(str(value.word))
        if value.word in there or (taken is not None and value.word not in SHARED):
            raise UserError(f"{value.word!r} is a value of {taken or value.switch} already; give it another word.")
        there[value.word] = value
        if value.word not in SHARED:
            WORDS[str(value.word)] = value.switch


def discover() -> bool:
    """Declare the values of installed packages (entry points ``sslzoo.values``); whether there are new ones."""
    before = len(WORDS)
    for entry in entry_points(group="sslzoo.values"):
        found = entry.load()
        declare([found] if isinstance(found, SwitchValue) else found)
    return len(WORDS) > before


def switch_of(word: str) -> str | None:
    """Return the switch that a word belongs to, those of installed packages included; None for an unknown word."""
    if word not in WORDS:
        discover()
    return WORDS.get(word)


def value_of(switch: str, word: Word) -> SwitchValue:
    """Return a value's declaration."""
    return VALUES[switch][word]


def readers(knob: str) -> dict[str, tuple[Word, ...]]:
    """Return the values that read a dotted knob, by switch; empty where no value is asked for it."""
    found = {name: tuple(word for word, one in some.items() if knob in one.knobs) for name, some in VALUES.items()}
    return {name: words for name, words in found.items() if words}


# ---- negatives: other samples to repel -------------------------------------------------------------------------------

REPELS = ("loss.temperature", "negatives.positive_in_denominator")

declare([
    SwitchValue("negatives", "none", "no other samples"),
    SwitchValue(
        "negatives", "batch", "the batch's other samples (SimCLR)", "core.negatives:against_batch",
        (*REPELS, "negatives.own_view", "negatives.anchor"), "its negatives are the batch's other rows", "negatives",
    ),
    SwitchValue(
        "negatives", "queue", "the keys of earlier batches (MoCo)", "core.negatives:against_queue",
        (*REPELS, "memory.queue_length"), guard="negatives",
    ),
    SwitchValue(
        "negatives", "bank", "the rows of all other samples (InstDisc)", "core.negatives:against_bank",
        (*REPELS, "memory.bank_momentum", "negatives.bank_sample"), guard="negatives",
    ),
])  # fmt: skip

# ---- clustering: codes to predict ------------------------------------------------------------------------------------

BOOK = ("loss.temperature", "clustering.prototypes", "clustering.codebooks")
LEARNT_BOOK = (*BOOK, "clustering.freeze_epochs")
SOFT = ("clustering.code_temperature", "clustering.code_temperature_start", "clustering.code_warmup_epochs")
STOPPED: Mapping[str, Word] = {"stop_gradient": True}

declare([
    SwitchValue("clustering", "none", "no codes"),
    SwitchValue(
        "clustering", "sinkhorn", "codes that use all prototypes alike (SwAV)", "core.clustering:Sinkhorn",
        (*LEARNT_BOOK, "clustering.epsilon", "clustering.iterations", "clustering.sinkhorn_queue"),
        "Sinkhorn balances the codes of a whole batch", "balanced codes (sinkhorn) with stop-gradient", STOPPED,
    ),
    SwitchValue(
        "clustering", "centering", "softmax codes less their running mean (DINO)", "core.clustering:Centering",
        (*LEARNT_BOOK, *SOFT, "clustering.centre_momentum"), guard="centred codes with stop-gradient",
        guard_needs=STOPPED,
    ),
    SwitchValue(
        "clustering", "softmax", "softmax codes as they are", "core.clustering:Softmax", (*LEARNT_BOOK, *SOFT)
    ),
    SwitchValue(
        "clustering", "kmeans", "hard codes of k-means over a bank (DeepCluster v2)", "core.clustering:KMeans",
        (*BOOK, "clustering.kmeans_iterations", "memory.bank_momentum"),
        guard="codes of k-means with stop-gradient", guard_needs=STOPPED, no_gradient=True,
    ),
    SwitchValue(
        "clustering", "relation", "similarities to a queue as codes (ReSSL)", "core.clustering:Relation",
        ("loss.temperature", *SOFT, "memory.queue_length"), guard="relations to a queue with stop-gradient",
        guard_needs=STOPPED,
    ),
])  # fmt: skip

# ---- predictor: h in q = h(z) ----------------------------------------------------------------------------------------

LEARNS = ("optimizer.predictor_lr_scale", "optimizer.predictor_schedule")

declare([
    SwitchValue("predictor", "none", "the identity", "core.heads:no_predictor"),
    SwitchValue(
        "predictor", "mlp", "two layers (SimSiam, BYOL)", "core.heads:mlp_predictor",
        (*LEARNS, "heads.predictor_hidden"), guard="predictor with stop-gradient", guard_needs=STOPPED,
    ),
    SwitchValue(
        "predictor", "linear", "one layer", "core.heads:linear_predictor", LEARNS,
        guard="predictor with stop-gradient", guard_needs=STOPPED,
    ),
    SwitchValue(
        "predictor", "fixed", "the two layers as they were drawn, never trained (SimSiam, Table 1b)",
        "core.heads:fixed_predictor", ("heads.predictor_hidden",),
    ),
])  # fmt: skip

# ---- target: the network that gives the keys -------------------------------------------------------------------------

declare([
    SwitchValue("target", "shared", "the online network itself"),
    SwitchValue(
        "target", "momentum", "a moving average of it (MoCo, BYOL)", "core.target:Momentum",
        ("target.tau", "target.tau_end"), no_gradient=True,
    ),
    SwitchValue(
        "target", "snapshot", "a copy that is refreshed now and then (SimSiam, section 5.2)", "core.target:Snapshot",
        ("target.every",), no_gradient=True,
    ),
])  # fmt: skip

# ---- positive: which vector is the target ----------------------------------------------------------------------------

declare([
    SwitchValue("positive", "view", "the other view's key", "core.memory:view"),
    SwitchValue(
        "positive", "neighbour", "its nearest row of a queue (NNCLR)", "core.memory:neighbour",
        ("memory.queue_length",), no_gradient=True,
    ),
    SwitchValue(
        "positive", "average", "the sample's own running average in a bank (InstDisc)", "core.memory:average",
        ("memory.bank_momentum", "memory.read"), guard="a target averaged over epochs", no_gradient=True,
    ),
])  # fmt: skip

# ---- normalize: the last map of queries and keys ---------------------------------------------------------------------

declare([
    SwitchValue("normalize", "none", "as they are", "core.losses:identity"),
    SwitchValue("normalize", "l2", "rows of length 1", "core.losses:l2"),
    SwitchValue(
        "normalize", "whiten", "columns without correlation (W-MSE)", "core.losses:whiten",
        ("normalize.whiten_size", "normalize.w_iter", "normalize.whiten_epsilon"),
        "the covariance is a whole batch's", "whitening",
    ),
    SwitchValue(
        "normalize", "standardize", "columns of mean 0 and variance 1 (Barlow Twins)", "core.losses:standardize",
        whole_batch="the mean and deviation are a whole batch's",
    ),
])  # fmt: skip

# ---- similarity: what moves closer where nothing is repelled ---------------------------------------------------------

declare([
    SwitchValue("similarity", "cosine", "the angle (SimSiam, BYOL)", "core.losses:cosine"),
    SwitchValue("similarity", "mse", "the distance (VICReg)", "core.losses:mse"),
    SwitchValue("similarity", "cross_entropy", "softmax over channels (SimSiam, section 4.5)",
                "core.losses:cross_entropy"),
    SwitchValue(
        "similarity", "correlation", "each channel with itself over the batch (Barlow Twins)",
        "core.losses:correlation", whole_batch="the correlation is a whole batch's",
    ),
])  # fmt: skip

# ---- regularizer: a further term on the projections ------------------------------------------------------------------

WEIGHED = ("loss.similarity_weight", "loss.regularizer_weight")

declare([
    SwitchValue("regularizer", "none", "no further term"),
    SwitchValue(
        "regularizer", "variance", "deviations above 1 and covariances near 0 (VICReg)", "core.losses:variance",
        (*WEIGHED, "loss.covariance"), "the variance is a whole batch's", "variance regularizer",
    ),
    SwitchValue(
        "regularizer", "decorrelation", "cross-correlations of channels near 0 (Barlow Twins)",
        "core.losses:decorrelation", WEIGHED, "the correlation is a whole batch's",
        "decorrelation of standardized channels", {"normalize": "standardize"},
    ),
    SwitchValue(
        "regularizer", "gaussian", "random projections near a normal distribution (SIGReg, LeJEPA)",
        "core.losses:gaussian", (*WEIGHED, "loss.slices"), "the distribution is a whole batch's",
        "gaussian regularizer",
    ),
])  # fmt: skip

# ---- and the two that are on or off ----------------------------------------------------------------------------------

declare([
    SwitchValue("stop_gradient", False, "the gradient also goes through the target"),
    SwitchValue("stop_gradient", True, "the target is detached"),
    SwitchValue("symmetric", False, "one view predicts, the other is the target", knobs=("views.pairs",)),
    SwitchValue("symmetric", True, "each view predicts the others", knobs=("views.targets",)),
])  # fmt: skip
