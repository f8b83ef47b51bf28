"""The core: attract a query to a target, repel it from others; ten switches say how."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from . import distributed
from .clustering import Codebook, codes, swapped
from .encoders import feature_width
from .heads import predictor, projector
from .losses import NORMALIZE, SIMILARITY
from .memory import Queue
from .negatives import against_batch, against_queue
from .recipe import Recipe
from .target import frozen_copy, move, refresh, tau_at


class Network(nn.Module):
    """f: encoder, projector, and the codebook where there is one; z = f(x) is [N, dim]."""

    def __init__(self, encoder: nn.Module, recipe: Recipe):
        super().__init__()
        self.encoder = encoder
        self.projector = projector(feature_width(encoder), recipe.heads)
        clusters = recipe.switches.clustering != "none"
        self.codebook = Codebook(recipe.clustering.prototypes, recipe.heads.dim) if clusters else None

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.projector(self.encoder(x).flatten(1))
        return z.to(torch.promote_types(z.dtype, torch.float32))


class Siamese(nn.Module):
    """Any method: ``loss, keys = model(views, index)``, and after the optimiser's step ``update(keys, index, step)``.

    ``encoder`` maps images [N, 3, H, W] to features; its width is found. ``samples`` is the length of the data, for
    recipes that keep a bank of it. The encoder to keep is ``model.online.encoder``.
    """

    steps: int | None = None  # length of the training, for tau's schedule; `sslzoo.optimizer` sets it

    def __init__(self, encoder: nn.Module, recipe: Recipe, samples: int | None = None):
        super().__init__()
        self.recipe, self.switches = recipe, recipe.switches
        self.online = Network(encoder, recipe)
        self.predictor = predictor(self.switches.predictor, recipe.heads)
        self.copy = frozen_copy(self.online) if self.switches.target != "shared" else None
        queued = self.switches.negatives == "queue"
        self.queue = Queue(recipe.negatives.queue_length, recipe.heads.dim) if queued else None
        self.normalize = NORMALIZE[self.switches.normalize]
        self.z: list[Tensor] = []  # the last projections, detached, for the health numbers

    def pairs(self, views: int) -> list[tuple[int, int]]:
        """Ordered pairs (query view, target view). Views beyond those that serve as targets are queries only."""
        if self.switches.symmetric:
            return [(i, j) for j in (0, 1) for i in range(views) if i != j]
        paired = 2 * self.recipe.views.pairs
        return [(i, j) for j in range(1, paired, 2) for i in (j - 1, *range(paired, views))]

    def forward(self, views: Sequence[Tensor], index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The loss (a scalar) of a batch, and the keys [T, N, dim] of its T target views, detached.

        views: V >= 2 tensors [N, 3, H, W], of one size each; index: [N], the samples' places in the data.
        """
        pairs = self.pairs(len(views))
        queried, targets = sorted({i for i, _ in pairs}), sorted({j for _, j in pairs})
        own = {(i, j): i if i in (0, 1) or i < j else j ^ 1 for i, j in pairs} if self.repels_own_view else {}
        looked = sorted({*targets, *own.values()})
        seen = sorted({*queried, *looked}) if self.copy is None else queried
        z = {i: self.online(views[i]) for i in seen}
        with torch.autocast(views[0].device.type, enabled=False):
            queries = {i: self.normalize(self.predictor(z[i])) for i in queried}
            keys, code = self.look(views, z, looked, targets)
            terms = [self.compare(queries[i], keys[j], keys.get(own.get((i, j), -1)), code.get(j)) for i, j in pairs]
        self.z = [x.detach() for x in z.values()]
        loss = torch.stack(terms).mean() * self.recipe.loss.loss_scale
        return loss, torch.stack([keys[j] for j in targets]).detach()

    @property
    def repels_own_view(self) -> bool:
        return self.switches.negatives == "batch" and self.recipe.negatives.own_view

    def look(
        self, views: Sequence[Tensor], z: dict[int, Tensor], looked: list[int], targets: list[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """What the target side sees: keys by view, and their codes; without a graph where the gradient stops."""
        network = cast(Network, self.online if self.copy is None else self.copy)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.switches.stop_gradient):
            raw = {j: z[j] if self.copy is None else network(views[j]) for j in looked}
            if self.switches.stop_gradient:
                raw = {j: x.detach() for j, x in raw.items()}  # the stop-gradient
            keys = {j: self.normalize(x) for j, x in raw.items()}
            if network.codebook is None:
                return keys, {}
            kind, knobs = self.switches.clustering, self.recipe.clustering
            return keys, {j: codes(kind, network.codebook(keys[j]), knobs) for j in targets}

    def compare(self, q: Tensor, k: Tensor, own: Tensor | None, code: Tensor | None) -> Tensor:
        """Tell the key apart from other samples, predict its code, or only move closer."""
        temperature = self.recipe.loss.temperature
        terms = []
        if self.queue is not None:
            terms.append(against_queue(q, k, self.queue.rows, temperature))
        elif self.switches.negatives == "batch":
            terms.append(against_batch(q, k, own, temperature))
        if code is not None and self.online.codebook is not None:
            terms.append(swapped(self.online.codebook(q), code, temperature))
        return torch.stack(terms).sum() if terms else SIMILARITY[self.switches.similarity](q, k)

    @torch.no_grad()
    def update(self, keys: Tensor, index: Tensor | None, step: int) -> None:
        """Move all that is not learnt by gradient, once, after the optimiser's step number ``step`` (from 0)."""
        knobs = self.recipe.target
        if self.queue is not None:
            self.queue.push(torch.cat([distributed.gather(k) for k in keys]))
        if self.copy is not None and self.switches.target == "momentum":
            move(self.copy, self.online, tau_at(step, self.steps, knobs.tau, knobs.tau_end))
        elif self.copy is not None and isinstance(knobs.every, int) and (step + 1) % knobs.every == 0:
            refresh(self.copy, self.online)

    def begin_epoch(self) -> None:
        """Refresh what holds for an epoch."""
        if self.switches.target == "snapshot" and self.recipe.target.every == "epoch" and self.copy is not None:
            refresh(self.copy, self.online)
