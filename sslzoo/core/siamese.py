"""The core: attract a query to a target, repel it from others; ten switches say how."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..processes import collectives
from ..recipes.recipe import Recipe
from ..recipes.rules import misfit
from ..tools.errors import UserError
from .checks import check_batch
from .clock import Clock
from .clustering import Codes, swapped
from .functions import chosen, made
from .losses import normalizers
from .memory import Bank, Memories, Queue
from .negatives import Others
from .network import Network
from .pairs import TargetSide, Views, full_views, own_views, pairs
from .target import frozen_copy


class Siamese(nn.Module):
    """Is any method: ``loss, keys = model(views, index)``, after the optimiser's step ``update(keys, index, step)``.

    ``encoder`` maps images [N, 3, H, W] to features; its width is found. ``samples`` is the length of the data, for
    recipes that keep a bank of it. The encoder to keep is ``model.online.encoder``. Raises `UserError`, a `ValueError`,
    where ``recipe`` does not fit.
    """

    def __init__(self, encoder: nn.Module, recipe: Recipe, samples: int | None = None):
        super().__init__()
        if (why := misfit(recipe, samples)) is not None:
            raise UserError(why)
        self.recipe, self.switches = recipe, recipe.switches
        self.online = Network(encoder, recipe)
        self.predictor: nn.Module = made(self.switches, "predictor", recipe.heads)
        self.follow = made(self.switches, "target", recipe.target)
        self.copy = None if self.follow is None else frozen_copy(self.online)
        dim, knobs, unit = recipe.heads.dim, recipe.memory, self.switches.normalize == "l2"
        self.queue = Queue(knobs.queue_length, dim) if recipe.reads("memory.queue_length") else None
        self.bank = Bank(samples or 0, dim, knobs.bank_momentum, unit) if recipe.reads("memory.bank_momentum") else None
        self.codes: Codes | None = made(self.switches, "clustering", recipe.clustering, samples)
        if self.codes is not None and not self.codes.learns_prototypes and self.online.codebook is not None:
            self.online.codebook.requires_grad_(False)
        self.normalize = partial(chosen(self.switches, "normalize"), knobs=recipe.normalize)
        self.positive, self.similarity = chosen(self.switches, "positive"), chosen(self.switches, "similarity")
        self.repel, self.regularizer = chosen(self.switches, "negatives"), chosen(self.switches, "regularizer")
        self.clock = Clock(recipe.training.epochs)
        self.z: list[Tensor] = []  # the last projections, and the codes, detached, for the health numbers
        self.code: Tensor | None = None

    def forward(self, views: Sequence[Tensor], index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss (a scalar) of a batch, and the keys [T, N, dim] of its T target views, detached.

        views: V >= 2 tensors [N, 3, H, W], of one size each; index [N]: the samples' places in the data, for a bank.
        """
        check_batch(self, views, index)
        if self.recipe.clustering.freeze_epochs and self.online.codebook is not None:
            self.online.codebook.frozen = not self.clock.reached(self.recipe.clustering.freeze_epochs)
        paired = pairs(self.recipe, len(views))
        own = own_views(self.recipe, paired)
        queried, targeted = sorted({i for i, _ in paired}), sorted({j for _, j in paired})
        needed = sorted({*targeted, *own.values()})  # of the target side
        apart = self.copy is not None or (self.switches.stop_gradient and self.regularizer is None)
        z = self.online.project({i: views[i] for i in (queried if apart else sorted({*queried, *needed}))})
        raw = self.project_targets(views, z, needed)
        with torch.autocast(views[0].device.type, enabled=False):
            predicted, losses = {i: self.predictor(z[i]) for i in queried}, []
            for normalize in normalizers(self.normalize, self.recipe, views[0]):  # one but for W-MSE's partitions
                queries = {i: normalize(p) for i, p in predicted.items()}
                side = self.target_side(raw, targeted, index, normalize)
                terms = [self.compare(queries[i], side, j, own.get((i, j)), index) for i, j in paired]
                losses.append(torch.stack(terms).mean())
                if self.regularizer is not None:
                    knobs, both = self.recipe.loss, [(queries[i], side.targets[j]) for i, j in paired]
                    term = self.regularizer([*z.values()], both, knobs)
                    losses[-1] = knobs.similarity_weight * losses[-1] + knobs.regularizer_weight * term
            loss = torch.stack(losses).mean()
        self.z = [x.detach() for x in {**raw, **z}.values()]
        self.code = side.codes[targeted[0]].detach() if side.codes else None
        return loss * self.recipe.loss.loss_scale, torch.stack([side.keys[j] for j in targeted]).detach()

    @property
    def target(self) -> Network:
        """The network that gives the keys."""
        return cast(Network, self.online if self.copy is None else self.copy)

    def project_targets(self, views: Sequence[Tensor], z: Views, needed: list[int]) -> Views:
        """Return the target side's projections, without a graph where the gradient stops."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.switches.stop_gradient):
            known = z if self.copy is None else {}
            raw = known | self.target.project({j: views[j] for j in needed if j not in known})
        return {j: raw[j].detach() if self.switches.stop_gradient else raw[j] for j in needed}  # the stop-gradient

    def target_side(
        self, raw: Views, targeted: list[int], index: Tensor | None, normalize: Callable[..., Tensor]
    ) -> TargetSide:
        """Return what is compared with, of the target side's projections; no graph where the gradient stops."""
        memories, read = Memories(self.queue, self.bank), self.recipe.memory.read
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.switches.stop_gradient):
            keys = {j: normalize(x) for j, x in raw.items()}
            targets = {j: self.positive(keys[j], index, memories, read) for j in targeted}
            if self.codes is None:
                return TargetSide(keys, targets, {})
            book, rows = self.codes.book(self.target, self.online, self.queue), self.queue and self.queue.rows
            fixed = index if self.switches.positive == "view" else None
            return TargetSide(keys, targets, self.codes(targets, book, rows, fixed, self.clock))

    def compare(self, q: Tensor, side: TargetSide, j: int, own: int | None, index: Tensor | None) -> Tensor:
        """Tell view j's target apart from other samples, predict its code, or only move closer to it."""
        temperature, terms = self.recipe.loss.temperature, []
        if self.repel is not None:
            others = Others(None if own is None else side.keys[own], index, self.queue, self.bank)
            terms.append(self.repel(q, side.targets[j], others, temperature, self.recipe.negatives))
        if self.codes is not None:
            book = self.codes.book(self.online, self.online, self.queue)
            terms.append(swapped(book(q), side.codes[j], temperature))
        return torch.stack(terms).sum() if terms else cast(Tensor, self.similarity(q, side.targets[j]))

    @torch.no_grad()
    def update(self, keys: Tensor, index: Tensor | None, step: int) -> None:
        """Move all that is not learnt by gradient, once, after the optimiser's step number ``step`` (from 0)."""
        if self.queue is not None:
            self.queue.push(torch.cat([collectives.gather(k) for k in keys]))
        if self.bank is not None and index is not None:
            self.bank.push(keys.mean(dim=0), index)
        if self.codes is not None:
            self.codes.update()
        if self.follow is not None:
            self.follow.after_step(self.copy, self.online, step, self.clock.steps)
        self.clock.done = step + 1

    @torch.no_grad()
    def remember(self, views: Sequence[Tensor], index: Tensor) -> None:
        """Put a batch's keys into the bank without learning: what k-means needs before the first epoch."""
        cast(Bank, self.bank).push(self(views[: full_views(self.recipe)], index)[1].mean(dim=0), index)

    def begin_epoch(self) -> None:
        """Refresh what holds for an epoch."""
        if self.follow is not None:
            self.follow.begin_epoch(self.copy, self.online)
        if self.codes is not None:
            self.codes.begin_epoch(self.bank, self.online.codebook)
