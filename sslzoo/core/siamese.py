"""The core: attract a query to a target, repel it from others; ten switches say how."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..processes import collectives
from ..recipes.recipe import Recipe
from ..recipes.rules import misfit
from ..tools.errors import UserError
from .clock import Clock
from .clustering import Codebook, Codes, swapped
from .heads import predictor
from .losses import NORMALIZE, SIMILARITY, regularized
from .memory import Bank, Queue, target
from .negatives import repel
from .network import Network
from .pairs import full_views, own_views, pairs
from .target import frozen_copy, move, refresh, tau_at

Views = dict[int, Tensor]  # something of each view, by its place


class Siamese(nn.Module):
    """Any method: ``loss, keys = model(views, index)``, and after the optimiser's step ``update(keys, index, step)``.

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
        self.predictor = predictor(self.switches.predictor, recipe.heads)
        self.copy = frozen_copy(self.online) if self.switches.target != "shared" else None
        dim, knobs, unit = recipe.heads.dim, recipe.memory, self.switches.normalize == "l2"
        self.queue = Queue(knobs.queue_length, dim) if recipe.reads("memory.queue_length") else None
        banked = recipe.reads("memory.bank_momentum")
        self.bank = Bank(samples or 0, dim, knobs.bank_momentum, unit) if banked else None
        kind = self.switches.clustering
        self.codes = Codes(kind, recipe.clustering, samples) if kind != "none" else None
        self.normalize = partial(NORMALIZE[self.switches.normalize], knobs=recipe.normalize)
        self.clock = Clock(recipe.training.epochs)
        self.z: list[Tensor] = []  # the last projections, and the codes, detached, for the health numbers
        self.code: Tensor | None = None

    def forward(self, views: Sequence[Tensor], index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) of a batch, and the keys [T, N, dim] of its T target views, detached.

        views: V >= 2 tensors [N, 3, H, W], of one size each; index [N]: the samples' places in the data, for a bank.
        """
        if self.bank is not None and index is None:
            raise UserError("This recipe keeps a bank of the data; give the samples' places: model(views, index).")
        if self.recipe.clustering.freeze_epochs and self.online.codebook is not None:
            self.online.codebook.frozen = not self.clock.reached(self.recipe.clustering.freeze_epochs)
        paired = pairs(self.recipe, len(views))
        own = own_views(self.recipe, paired)
        queried, targets = sorted({i for i, _ in paired}), sorted({j for _, j in paired})
        looked = sorted({*targets, *own.values()})
        apart = self.copy is not None or (self.switches.stop_gradient and self.switches.regularizer == "none")
        z = {i: self.online(views[i]) for i in (queried if apart else sorted({*queried, *looked}))}
        raw = self.see(views, z, looked)
        with torch.autocast(views[0].device.type, enabled=False):
            queries = {i: self.normalize(self.predictor(z[i])) for i in queried}
            keys, aims, codes = self.look(raw, targets, index)
            terms = [
                self.compare(queries[i], aims[j], keys.get(own.get((i, j), -1)), codes.get(j), index) for i, j in paired
            ]
            both, kind = [(queries[i], aims[j]) for i, j in paired], self.switches.regularizer
            loss = regularized(torch.stack(terms).mean(), kind, [*z.values()], both, self.recipe.loss)
        self.z = [x.detach() for x in {**raw, **z}.values()]
        self.code = codes[targets[0]].detach() if codes else None
        return loss * self.recipe.loss.loss_scale, torch.stack([keys[j] for j in targets]).detach()

    @property
    def target(self) -> Network:
        """The network that gives the keys."""
        return cast(Network, self.online if self.copy is None else self.copy)

    def book(self, network: Network) -> nn.Module:
        """What codes are about: a network's codebook, the queue (ReSSL), or centroids (never averaged)."""
        found = {"relation": self.queue, "kmeans": self.online.codebook}
        return cast(nn.Module, found.get(self.switches.clustering, network.codebook))

    def see(self, views: Sequence[Tensor], z: Views, looked: list[int]) -> Views:
        """The target side's projections, without a graph where the gradient stops."""
        stops = self.switches.stop_gradient
        with torch.set_grad_enabled(torch.is_grad_enabled() and not stops):
            raw = {j: z[j] if self.copy is None and j in z else self.target(views[j]) for j in looked}
        return {j: x.detach() for j, x in raw.items()} if stops else raw  # the stop-gradient

    def look(self, raw: Views, targets: list[int], index: Tensor | None) -> tuple[Views, Views, Views]:
        """Of the target side's projections: keys, targets and their codes, without a graph where the gradient stops."""
        kind, read = self.switches.positive, self.recipe.memory.read
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.switches.stop_gradient):
            keys = {j: self.normalize(x) for j, x in raw.items()}
            aims = {j: target(kind, keys[j], index, self.queue, self.bank, read) for j in targets}
            return keys, aims, self.encode(aims, index)

    def encode(self, aims: Views, index: Tensor | None) -> Views:
        """The codes [H, N, K] of targets [N, dim]."""
        rows = None if self.queue is None else self.queue.rows
        fixed = index if self.switches.positive == "view" else None
        return {} if self.codes is None else self.codes(aims, self.book(self.target), rows, fixed, self.clock)

    def compare(self, q: Tensor, k: Tensor, own: Tensor | None, code: Tensor | None, index: Tensor | None) -> Tensor:
        """Tell the target apart from other samples, predict its code, or only move closer."""
        temperature, kind, terms = self.recipe.loss.temperature, self.switches.negatives, []
        if kind != "none":
            memory = self.bank if kind == "bank" else self.queue
            terms.append(repel(kind, q, k, own, index, memory, temperature, self.recipe.negatives))
        if code is not None:
            terms.append(swapped(self.book(self.online)(q), code, temperature))
        return torch.stack(terms).sum() if terms else SIMILARITY[self.switches.similarity](q, k)

    @torch.no_grad()
    def update(self, keys: Tensor, index: Tensor | None, step: int) -> None:
        """Move all that is not learnt by gradient, once, after the optimiser's step number ``step`` (from 0)."""
        if self.queue is not None:
            self.queue.push(torch.cat([collectives.gather(k) for k in keys]))
        if self.bank is not None and index is not None:
            self.bank.push(keys.mean(dim=0), index)
        if self.codes is not None:
            self.codes.update()
        knobs = self.recipe.target
        if self.copy is not None and self.switches.target == "momentum":
            move(self.copy, self.online, tau_at(step, self.clock.steps, knobs.tau, knobs.tau_end))
        elif self.copy is not None and isinstance(knobs.every, int) and (step + 1) % knobs.every == 0:
            refresh(self.copy, self.online)
        self.clock.done = step + 1

    @torch.no_grad()
    def remember(self, views: Sequence[Tensor], index: Tensor) -> None:
        """Put a batch's keys into the bank without learning: what k-means needs before the first epoch."""
        cast(Bank, self.bank).push(self(views[: full_views(self.recipe)], index)[1].mean(dim=0), index)

    def begin_epoch(self) -> None:
        """Refresh what holds for an epoch."""
        if self.switches.target == "snapshot" and self.recipe.target.every == "epoch" and self.copy is not None:
            refresh(self.copy, self.online)
        if self.codes is not None and self.bank is not None and self.switches.clustering == "kmeans":
            self.codes.assign(self.bank, cast(Codebook, self.online.codebook))
