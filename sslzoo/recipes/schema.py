"""The schema of a recipe: ten switches, and the knobs that they read, with types, defaults and docs.

Which values a switch has, and which knobs they read, is declared in `values`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from .presets import OFF, PRESETS
from .values import VALUES

SCALES = ("small", "large")  # images up to 64 px (CIFAR recipes), and above (ImageNet recipes)
SMALL_UP_TO = 64

WIDEST = 32_768  # of a layer: two of this width are a matrix of 4 GB
FASTEST = 1e30  # of factors on a step, which float32 has to hold
LONGEST = 1_000_000  # epochs, rows of a batch and of a queue

Value = str | bool | int | float
When = Mapping[str, tuple[Value, ...]]


def switch(off: str | bool, doc: str, usual: bool = True) -> Any:
    """A switch whose values are those of `values`; ``usual`` says whether ``+switch`` means its second value."""
    return field(default=off, metadata={"doc": doc, "usual": usual})


@dataclass(frozen=True)
class Switches:
    """Holds the ten choices that make a method. Every word but none, true and false belongs to one switch only."""

    predictor: str = switch("none", "h in q = h(z)")
    target: str = switch("shared", "the network that gives the keys")
    stop_gradient: bool = switch(False, "whether keys are detached")
    negatives: str = switch("none", "other samples to repel")
    clustering: str = switch("none", "codes to predict")
    positive: str = switch("view", "which vector is the target")
    normalize: str = switch("none", "last map of queries and keys")
    similarity: str = switch("cosine", "what moves closer", usual=False)
    regularizer: str = switch("none", "extra term on the projections")
    symmetric: bool = switch(False, "whether both views are targets")


@dataclass(frozen=True)
class Switch:
    """What is known of a switch: its name, what it is, and whether it has a usual value."""

    name: str
    doc: str
    has_usual: bool

    @property
    def values(self) -> tuple[str | bool, ...]:
        """Return its values: off first, then the usual one; those of plugins last."""
        return tuple(VALUES[self.name])

    @property
    def off(self) -> str | bool:
        """The value that takes the part away."""
        return self.values[0]

    @property
    def usual(self) -> str | bool | None:
        """The value that ``+ switch`` means; None where it has to be named."""
        return self.values[1] if self.has_usual else None


SWITCHES = {f.name: Switch(f.name, f.metadata["doc"], f.metadata["usual"]) for f in fields(Switches)}


def knob(
    default: Value,
    doc: str,
    *,
    large: Value | None = None,
    when: When | None = None,
    choices: tuple[str, ...] = (),
    bounds: tuple[float | None, float | None] = (None, None),
    above: tuple[str, float] | None = None,
) -> Any:
    """Return a knob: its default for small and for large images, its bounds, and the knobs that it depends on.

    It is read where a switch has a value that declares it, or a knob a value that ``when`` has; always where neither
    names it; and only where the knob that ``above`` names is above its number.
    """
    meta = {"doc": doc, "large": default if large is None else large, "when": when, "choices": choices, "above": above}
    return field(default=default, metadata={**meta, "low": bounds[0], "high": bounds[1]})


LARS: When = {"optimizer.name": ("lars",)}


@dataclass(frozen=True)
class Heads:
    """Describes the projector and the predictor."""

    layers: int = knob(2, "linear layers of the projector", large=3, bounds=(1, 8))
    hidden: int = knob(2048, "width of the projector's hidden layers", bounds=(1, WIDEST), above=("heads.layers", 1))
    dim: int = knob(2048, "dimension of the projection z", bounds=(2, WIDEST))
    batchnorm: str = knob(
        "default",
        "batch norm in the heads: in hidden layers, also at the projector's output (default), also at the predictor's",
        choices=("none", "hidden", "default", "all"),
    )
    output_affine: bool = knob(
        True, "scale and shift in the projector's output batch norm", when={"heads.batchnorm": ("default", "all")}
    )
    predictor_hidden: int = knob(512, "width of the predictor's hidden layer", bounds=(1, WIDEST))


@dataclass(frozen=True)
class Encoder:
    """Describes what of a vision transformer a recipe chooses; other backbones have no such parts, and refuse them."""

    pool: str = knob(
        "default",
        "what its features are: the class token, or the mean of the patches",
        choices=("default", "token", "avg"),
    )
    layer_scale: float = knob(
        0.0, "start of a factor on each branch (LayerScale); 0 is the backbone's own", bounds=(0, 1)
    )
    drop_path: float = knob(
        0.0, "chance that a branch is left out, in the last block (stochastic depth)", bounds=(0, 0.9)
    )
    freeze_patches: bool = knob(False, "the projection of patches stays as it is drawn")


@dataclass(frozen=True)
class Optimizer:
    """Describes the optimiser and its schedule: linear warm-up, then cosine, per step."""

    name: str = knob("sgd", "optimiser", choices=("sgd", "lars", "adamw"))
    lr: float = knob(
        0.06, "base learning rate, for 256 images; multiplied by batch / 256", large=0.05, bounds=(0, FASTEST)
    )
    momentum: float = knob(0.9, "momentum (beta 1 of AdamW)", bounds=(0, 0.9999))
    weight_decay: float = knob(5e-4, "weight decay", large=1e-4, bounds=(0, FASTEST))
    weight_decay_end: float = knob(
        1.0, "end of a cosine of the weight decay, as a multiple of it; 1 leaves it", bounds=(0, FASTEST)
    )
    decay_all: bool = knob(True, "decay biases and norms too")
    clip_grad: float = knob(0.0, "largest norm of all gradients together; 0 is no limit", bounds=(0, FASTEST))
    trust: float = knob(0.02, "trust coefficient of LARS", large=0.001, bounds=(1e-6, FASTEST), when=LARS)
    trust_clip: bool = knob(True, "never step further than the learning rate itself", large=False, when=LARS)
    warmup_epochs: int = knob(0, "epochs of linear warm-up", bounds=(0, LONGEST))
    lr_end: float = knob(0.0, "end of the cosine, as a part of the learning rate", bounds=(0, 1))
    predictor_lr_scale: float = knob(1.0, "the predictor's learning rate over the others'", bounds=(0, 10_000))
    predictor_schedule: str = knob("cosine", "the predictor's schedule", choices=("cosine", "constant"))
    backbone_lr_scale: float = knob(
        1.0, "the backbone's learning rate over the heads', as for weights that are trained on", bounds=(0, 10_000)
    )
    backbone_freeze_epochs: float = knob(
        0.0, "epochs in which the heads alone learn, and the backbone stays as it is", bounds=(0, LONGEST)
    )


@dataclass(frozen=True)
class Target:
    """How a target copy follows the online network."""

    tau: float = knob(0.99, "part of the copy that stays, first step", large=0.996, bounds=(0, 1))
    tau_end: float = knob(1.0, "the same at the last step; a cosine between", bounds=(0, 1))
    every: int | str = knob(1, "steps between two snapshots, or 'epoch'", choices=("epoch",), bounds=(1, None))


@dataclass(frozen=True)
class Memory:
    """What is remembered of earlier batches: one queue and one bank, shared by whoever reads them."""

    queue_length: int = knob(
        4096, "keys in the queue", large=65536, bounds=(2, LONGEST), when={"clustering.sinkhorn_queue": (True,)}
    )
    bank_momentum: float = knob(0.5, "part of a sample's row that stays when its key comes", bounds=(0, 1))
    read: str = knob(
        "before", "average: the row before this batch's key is mixed in, or after", choices=("before", "after")
    )  # fmt: skip


@dataclass(frozen=True)
class Negatives:
    """Describes how other samples are repelled."""

    own_view: bool = knob(True, "repel the anchor's own view's rows too")
    anchor: str = knob(
        "query", "what is told apart from the other side's rows", choices=("query", "key")
    )  # fmt: skip
    positive_in_denominator: bool = knob(True, "the positive is one of the rows that are told apart")
    bank_sample: int = knob(0, "rows of the bank drawn in a step; 0 takes all", large=4096, bounds=(0, None))


@dataclass(frozen=True)
class Clustering:
    """Describes the codebook and its codes."""

    prototypes: int = knob(512, "rows of a codebook", large=3000, bounds=(2, 131_072))
    codebooks: int = knob(1, "codebooks beside each other", bounds=(1, 16))
    freeze_epochs: float = knob(0.0, "epochs in which the prototypes stay as they were drawn", bounds=(0, None))
    epsilon: float = knob(0.05, "entropy of Sinkhorn's codes", bounds=(1e-4, None))
    iterations: int = knob(3, "Sinkhorn iterations", bounds=(1, LONGEST))
    sinkhorn_queue: bool = knob(False, "the queue's rows join Sinkhorn")
    queue_epoch: float = knob(
        0.0, "epoch from which they do", bounds=(0, None), when={"clustering.sinkhorn_queue": (True,)}
    )
    code_temperature: float = knob(0.04, "temperature of the codes", bounds=(1e-4, None))
    code_temperature_start: float = knob(
        0.04, "the same at the first step", bounds=(1e-4, None), above=("clustering.code_warmup_epochs", 0)
    )
    code_warmup_epochs: float = knob(0.0, "epochs of linear change from one to the other", bounds=(0, None))
    centre_momentum: float = knob(0.9, "part of the centre that stays in a step", bounds=(0, 1))
    kmeans_iterations: int = knob(10, "k-means iterations an epoch", bounds=(1, LONGEST))


@dataclass(frozen=True)
class Normalize:
    """Describes whitening."""

    whiten_size: int = knob(128, "rows whitened together", bounds=(2, None))
    w_iter: int = knob(1, "partitions of a batch into such groups, whose losses are averaged", bounds=(1, 1000))
    whiten_epsilon: float = knob(1e-4, "part of the unit matrix in the covariance", bounds=(0, 1))


@dataclass(frozen=True)
class Loss:
    """Describes the loss: loss_scale x (similarity_weight x mean over pairs + regularizer_weight x regularizer)."""

    temperature: float = knob(
        0.2, "temperature of a query against negatives or prototypes", bounds=(1e-4, None)
    )  # fmt: skip
    similarity_weight: float = knob(1.0, "factor on the pairs' term beside a regularizer", bounds=(0, None))
    regularizer_weight: float = knob(1.0, "factor on the regularizer", bounds=(0, None))
    covariance: float = knob(0.08, "weight of the covariances beside the variances", bounds=(0, None))
    slices: int = knob(1024, "random directions in a step", bounds=(1, WIDEST))
    loss_scale: float = knob(1.0, "factor on the whole loss", bounds=(0, None))


@dataclass(frozen=True)
class View:
    """Describes the augmentation of one view; probabilities unless said otherwise."""

    scale_min: float = knob(0.2, "smallest crop, as a part of the area", bounds=(0.001, 1))
    scale_max: float = knob(1.0, "largest crop", bounds=(0.001, 1))
    flip: float = knob(0.5, "horizontal flip", bounds=(0, 1))
    jitter: float = knob(0.8, "colour jitter", bounds=(0, 1))
    brightness: float = knob(0.4, "strength of brightness", bounds=(0, None))
    contrast: float = knob(0.4, "strength of contrast", bounds=(0, None))
    saturation: float = knob(0.4, "strength of saturation", bounds=(0, None))
    hue: float = knob(0.1, "strength of hue, in turns", bounds=(0, 0.5))
    grayscale: float = knob(0.2, "grayscale", bounds=(0, 1))
    blur: float = knob(0.0, "Gaussian blur, sigma from 0.1 to 2", large=0.5, bounds=(0, 1))
    solarize: float = knob(0.0, "solarize above one half", bounds=(0, 1))


@dataclass(frozen=True)
class Views:
    """How many views, and how each is augmented. A key of the views beside these sets it for all views."""

    size: int = knob(0, "their size in px; 0 is the images' own, or what the device has time for", bounds=(0, 4096))
    targets: int = knob(2, "views that serve as targets, each to all others", bounds=(2, 8))
    pairs: int = knob(1, "pairs of views of an asymmetric loss", bounds=(1, 8))
    local_crops: int = knob(0, "further small views that are queries only (multi-crop)", bounds=(0, 16))
    local_size: int = knob(96, "their size in px", bounds=(8, 4096))
    preset: str = knob(
        OFF, "named ranges over the views, which 'sslzoo methods presets' lists", choices=(OFF, *PRESETS)
    )
    together: bool = knob(False, "views of one size pass the encoder as one batch, and all of them the projector")
    first: View = field(default_factory=View)
    second: View = field(default_factory=View)
    local: View = field(default_factory=View)


@dataclass(frozen=True)
class Training:
    """The run: every one of these is also a flag of ``train``."""

    epochs: int = knob(200, "epochs", large=100, bounds=(1, LONGEST))
    batch_size: int = knob(256, "images in a batch", bounds=(2, LONGEST))
    backbone: str = knob("resnet18", "timm's name, or 'small' for the net of four layers", large="resnet50")


TABLES: dict[str, type] = {
    "encoder": Encoder, "heads": Heads, "optimizer": Optimizer, "target": Target, "memory": Memory,
    "negatives": Negatives, "clustering": Clustering, "normalize": Normalize, "loss": Loss, "views": Views,
    "training": Training,
}  # fmt: skip
PIPELINES = ("first", "second", "local")
VIEW_KEYS = tuple(f.name for f in fields(View))


def _knobs() -> Iterator[tuple[str, Field[Any]]]:
    for table, kind in TABLES.items():
        for f in fields(kind):
            if f.name in PIPELINES:
                yield from ((f"{table}.{f.name}.{op.name}", op) for op in fields(View))
            else:
                yield f"{table}.{f.name}", f


KNOBS: dict[str, Field[Any]] = dict(_knobs())  # dotted name -> field
