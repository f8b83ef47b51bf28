"""The optimiser with its schedule: timm's, with the predictor's own learning rate and decay kept off norms."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, pi
from numbers import Integral
from typing import Any, cast

import timm.optim
import timm.scheduler
import torch
from torch import nn

from ..core.siamese import Siamese
from ..processes import collectives
from ..recipes.recipe import Recipe
from ..tools.bounds import check_numbers
from ..tools.errors import UserError

logging.getLogger("timm.scheduler.cosine_lr").setLevel(logging.ERROR)  # it warns of a run of one step
TIMM = {"sgd": "momentum", "lars": "lars", "adamw": "adamw"}  # timm's "sgd" is Nesterov's, which no paper here uses

FUSED = ("cpu", "cuda")  # where torch's own optimisers move all parameters in one pass


def optimizer(model: Siamese, recipe: Recipe, steps: int, batch_size: int | None = None) -> torch.optim.Optimizer:
    """Return an optimiser of ``model`` whose learning rate follows the schedule of ``recipe``.

    ``steps`` is the number of its own ``step()`` calls: linear warm-up, then a cosine; the learning rate is base x
    batch / 256, of ``batch_size`` images of all processes, by default the recipe's. A first batch of another size is
    warned of. The model gets to know the length of training too, for tau's schedule. The optimiser's state holds how
    far the schedule is, so saving and loading it is enough to go on. The model has to be on its device already.
    Raises `UserError` for a ``batch_size`` below 2, and for ``steps`` below 1.
    """
    if not hasattr(model, "clock") or not isinstance(recipe, Recipe):
        raise UserError(
            f"sslzoo.optimizer takes a sslzoo.Siamese and its recipe, not a {type(model).__name__} and a "
            f"{type(recipe).__name__}; give optimizer(model, recipe, steps)."
        )
    if not isinstance(steps, Integral) or steps < 1:
        raise UserError(f"steps cannot be {steps!r}; it is the number of steps of the whole run, at least 1.")
    if batch_size is not None:
        check_numbers(batch_size=batch_size)
        recipe = replace(recipe, training=replace(recipe.training, batch_size=batch_size))
    watch_batch(model, recipe)
    return scheduled(model, recipe, steps)


def watch_batch(model: Siamese, recipe: Recipe) -> None:
    """Let the first batch that trains warn where it has another size than the learning rate is for."""
    wanted = recipe.training.batch_size

    def look(_: nn.Module, given: tuple[Any, ...]) -> None:
        if model.training and torch.is_grad_enabled() and given:
            handle.remove()
            rows = len(given[0][0]) * collectives.world()
            if rows != wanted:
                warnings.warn(
                    f"The batch has {rows} images, and the learning rate {recipe.learning_rate:.4g} is for {wanted}; "
                    f"sslzoo.optimizer(model, recipe, steps, batch_size={rows}) scales it.",
                    stacklevel=4,
                )

    handle = model.register_forward_pre_hook(look)


@dataclass(frozen=True)
class Piece:
    """Describes what comes after a schedule's end: ``steps`` from step ``start`` on, "cosine" or "constant".

    It begins at ``rate`` of the schedule's learning rate.
    """

    start: int
    steps: int
    kind: str
    rate: float

    def share(self, step: int, end: float) -> float:
        """Return what of the schedule's learning rate a step has; a cosine ends at ``end`` of it."""
        if self.kind == "constant":
            return self.rate
        return end + (self.rate - end) * (1 + cos(pi * min((step - self.start) / self.steps, 1.0))) / 2


def scheduled(model: Siamese, recipe: Recipe, steps: int, pieces: Sequence[Piece] = ()) -> torch.optim.Optimizer:
    """Return what `optimizer` does, for whoever sees to the batch's size; ``pieces`` come after the schedule."""
    knobs = recipe.optimizer
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": knobs.weight_decay}
    if knobs.name == "lars":
        options |= {"trust_coeff": knobs.trust, "trust_clip": knobs.trust_clip, "always_adapt": True}
    options |= {"betas": (knobs.momentum, 0.999)} if knobs.name == "adamw" else {"momentum": knobs.momentum}
    options |= {} if knobs.name == "lars" else {"fused": next(model.parameters()).device.type in FUSED}
    made = cast(
        torch.optim.Optimizer, timm.optim.create_optimizer_v2(groups(model, recipe), TIMM[knobs.name], **options)
    )
    if knobs.name == "sgd":  # in one pass it takes no parameters of which some, frozen at first, have no momentum yet
        for parameter in (p for group in made.param_groups for p in group["params"]):
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    warmup = min(round(steps * knobs.warmup_epochs / recipe.training.epochs), steps - 1)
    frozen = round(steps * min(1.0, knobs.backbone_freeze_epochs / recipe.training.epochs))
    schedule = Schedule(steps, warmup, recipe.learning_rate, knobs.lr_end, knobs.predictor_lr_scale, knobs.clip_grad)
    follow(made, replace(schedule, decay_end=knobs.weight_decay_end, frozen=frozen, pieces=tuple(pieces)))
    model.clock.steps = steps
    return made


@dataclass(frozen=True)
class Schedule:
    """Describes a learning rate over ``steps``: linear warm-up to ``lr``, then a cosine to ``end`` times that.

    A predictor whose rate is constant has ``predictor`` times ``lr``. ``clip`` is the largest norm of the
    gradients that are followed at that rate; 0 is none. The weight decay goes by a cosine to ``decay_end`` times what
    it was, as in DINO's `utils.cosine_scheduler`, and the backbone does not move in the first ``frozen`` steps.
    ``pieces`` come after its end.
    """

    steps: int
    warmup: int
    lr: float
    end: float
    predictor: float
    clip: float = 0.0
    decay_end: float = 1.0
    frozen: int = 0
    pieces: tuple[Piece, ...] = ()

    def decay(self, step: int) -> float:
        """Return what the weight decay is multiplied by at a step."""
        return self.decay_end + (1 - self.decay_end) * (1 + cos(pi * min(step / self.steps, 1.0))) / 2


class Following:
    """Lets an optimiser keep its schedule when it is copied or pickled."""

    schedule: Schedule

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "schedule": self.schedule}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "schedule" in state:  # not where a checkpoint is taken up, which has a state alone
            follow(cast(torch.optim.Optimizer, self), self.schedule)


class SGD(Following, torch.optim.SGD):
    """Is torch's with a schedule."""


class AdamW(Following, torch.optim.AdamW):
    """Is torch's with a schedule."""


class Lars(Following, timm.optim.Lars):  # type: ignore[misc]
    """Is timm's with a schedule."""


KINDS = {torch.optim.SGD: SGD, torch.optim.AdamW: AdamW, timm.optim.Lars: Lars}


def follow(made: torch.optim.Optimizer, schedule: Schedule) -> None:
    """Let the learning rate of an optimiser follow a schedule, from where its state is."""
    made.__class__ = KINDS.get(type(made), type(made))
    made.schedule = schedule  # type: ignore[attr-defined]
    if isinstance(made, Lars):
        hold_where_gradients_overflow(made)
    if schedule.frozen:
        freeze_backbone(made, schedule.frozen)
    if schedule.clip:
        clip_gradients(made, schedule.clip)
    for group in made.param_groups:
        group.setdefault("decay", group["weight_decay"])
    rates = timm.scheduler.CosineLRScheduler(
        made,
        t_initial=schedule.steps - schedule.warmup,
        lr_min=schedule.lr * schedule.end,
        warmup_t=schedule.warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )

    def go_to(step: int) -> None:
        rates.step_update(step)
        for group in made.param_groups:
            group["done"] = step
            if schedule.decay_end != 1:
                group["weight_decay"] = group["decay"] * schedule.decay(step)
            if (piece := next((one for one in reversed(schedule.pieces) if step >= one.start), None)) is not None:
                group["lr"] = piece.share(step, schedule.end) * schedule.lr * group["lr_scale"]
            if group["constant"]:
                group["lr"] = schedule.predictor * schedule.lr

    made.go_to = go_to  # type: ignore[attr-defined]
    go_to(made.param_groups[0].get("done", 0))
    made.register_step_post_hook(lambda optimizer, *_: go_to(optimizer.param_groups[0]["done"] + 1))


def go_on(made: torch.optim.Optimizer) -> None:
    """Set the learning rate of an optimiser whose state was loaded, by its own schedule and not the state's."""
    made.go_to(made.param_groups[0]["done"])  # type: ignore[attr-defined]


def freeze_backbone(made: torch.optim.Optimizer, steps: int) -> None:
    """Let an optimiser leave the backbone as it is in its first steps, with its momentum too."""

    def forget(*_: Any) -> None:
        for group in made.param_groups:
            for parameter in group["params"] if group["backbone"] and group.get("done", 0) < steps else ():
                parameter.grad = None

    made.register_step_pre_hook(forget)


def clip_gradients(made: torch.optim.Optimizer, most: float) -> None:
    """Let an optimiser first bring all gradients, where their norm together is above ``most``, to that norm.

    At a step gradients are the mean of all processes' already; those that `torch.amp.GradScaler` scales and has not
    unscaled may be so many times as long.
    """

    def clip(*_: Any) -> None:
        scale = getattr(made, "grad_scale", None)  # the scaler's, which is there only while it steps
        learnt = [parameter for group in made.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(learnt, most if scale is None else cast(float, most * scale))

    made.register_step_pre_hook(clip)


def hold_where_gradients_overflow(made: torch.optim.Optimizer) -> None:
    """Let an optimiser take what `torch.amp.GradScaler` found of its gradients, as torch's fused ones do.

    Where they overflow, parameters and momentum are as before the step. Otherwise the scaler would ask the device
    before each step whether to make it, and wait.
    """
    made._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # the scaler's word for it
    before: list[tuple[torch.Tensor, torch.Tensor | None, torch.nn.Parameter]] = []

    def remember(*_: Any) -> None:
        before.clear()
        if hasattr(made, "found_inf"):
            for parameter in (p for group in made.param_groups for p in group["params"] if p.grad is not None):
                momentum = made.state[parameter].get("momentum_buffer")
                before.append((parameter.detach().clone(), None if momentum is None else momentum.clone(), parameter))

    @torch.no_grad()
    def go_back(*_: Any) -> None:
        for value, momentum, parameter in before:
            overflows, buffer = made.found_inf.bool(), made.state[parameter]["momentum_buffer"]  # type: ignore[attr-defined]
            parameter.copy_(torch.where(overflows, value, parameter))
            buffer.copy_(torch.where(overflows, torch.zeros_like(buffer) if momentum is None else momentum, buffer))
        before.clear()

    made.register_step_pre_hook(remember)
    made.register_step_post_hook(go_back)


def groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the parameter groups: predictor apart, and biases and norms apart where the decay spares them.

    The backbone is apart where it learns otherwise than the heads. What the decay spares has no trust ratio of LARS
    either; all else has one, also where the decay is 0.
    """
    knobs = recipe.optimizer
    unadapted = {"always_adapt": False} if knobs.name == "lars" else {}  # BYOL's LARS: spared of both
    apart = knobs.backbone_lr_scale != 1 or knobs.backbone_freeze_epochs > 0
    found: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = not knobs.decay_all and parameter.ndim <= 1
            part = "predictor" if name.startswith("predictor.") else ""
            part = "backbone" if apart and name.startswith("online.encoder.") else part
            found.setdefault((part, spared), []).append(parameter)
    scales = {"predictor": knobs.predictor_lr_scale, "backbone": knobs.backbone_lr_scale, "": 1.0}
    return [
        {
            "params": parameters,
            "lr_scale": scales[part],
            "constant": part == "predictor" and knobs.predictor_schedule == "constant",
            "backbone": part == "backbone",
            **({"weight_decay": 0.0, **unadapted} if spared else {}),
        }
        for (part, spared), parameters in found.items()
    ]
