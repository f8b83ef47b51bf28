"""Online clustering: codebooks, and the codes that a query has to predict."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..processes import collectives
from ..recipes.schema import Clustering
from .clock import Clock
from .losses import l2
from .memory import Bank, Queue

Scores = Callable[[Tensor], Tensor]  # of x [N, D] against H codebooks: [H, N, K]


class Codebook(nn.Module):
    """Prototypes [H, K, D]; the scores of x [N, D] are its dot products with them, normalised inside the graph."""

    frozen = False  # no gradient for the prototypes, as in the first epochs of SwAV

    def __init__(self, codebooks: int, prototypes: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(l2(torch.randn(codebooks, prototypes, dim)))

    def forward(self, x: Tensor) -> Tensor:
        rows = l2(self.weight.detach() if self.frozen else self.weight).flatten(0, 1)
        scores = x @ rows.T  # NxHK: one plain product, with the same bits whether or not a gradient is asked for
        return scores.reshape(len(x), *self.weight.shape[:2]).transpose(0, 1)  # HxNxK


class Codes(nn.Module):
    """The codes of targets, and what they need to remember; a subclass is a value of the switch."""

    learns_prototypes = True  # by gradient
    needs_bank = False  # that is filled before the first epoch

    def __init__(self, knobs: Clustering, samples: int | None):
        super().__init__()
        self.knobs = knobs
        self.scores: list[Tensor] = []  # of the last batch's targets [H, N, K], for what moves by them

    def book(self, network: nn.Module, online: nn.Module, queue: Queue | None) -> nn.Module:
        """Return what scores a network's projections: its own codebook."""
        return cast(nn.Module, network.codebook)

    def forward(
        self, targets: dict[int, Tensor], book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock
    ) -> dict[int, Tensor]:
        """Return the codes of several views' targets."""
        self.scores = []
        return {view: self.code(rows, book, queue, index, clock) for view, rows in targets.items()}

    def code(self, targets: Tensor, book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock) -> Tensor:
        """Return codes [H, N, K] of targets [N, D] in a book; they have a gradient where the targets' scores do.

        ``queue`` [M, D] has the rows of the queue, if there is one; ``index`` [N] the samples' places where a code may
        belong to the sample itself.
        """
        raise NotImplementedError

    def temperature(self, clock: Clock) -> Tensor | float:
        """Return the codes' temperature: linear from its start for some epochs, then constant (DINO section 3.2)."""
        end, epochs = self.knobs.code_temperature, self.knobs.code_warmup_epochs
        return clock.ramp(self.knobs.code_temperature_start, end, epochs) if epochs else end

    def update(self) -> None:
        """Move what is not learnt by gradient, after a step."""

    def begin_epoch(self, bank: Bank | None, codebook: nn.Module | None) -> None:
        """Refresh what holds for an epoch."""


class Sinkhorn(Codes):
    """Gives codes that use all prototypes alike: SwAV section 3.1; the rows of a full queue may join (section 3.2)."""

    full = False  # all rows of the queue are keys, and none is as it was drawn

    def forward(
        self, targets: dict[int, Tensor], book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock
    ) -> dict[int, Tensor]:
        """Return the codes of several views' targets."""
        if queue is not None:
            a_step = sum(map(len, targets.values())) * collectives.world()
            self.full = clock.pushed(a_step, len(queue))
        return super().forward(targets, book, queue, index, clock)

    def code(self, targets: Tensor, book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock) -> Tensor:
        """Return codes as in `Codes.code`."""
        scores, knobs = book(targets), self.knobs
        if knobs.sinkhorn_queue and queue is not None and self.full and clock.reached(knobs.queue_epoch):
            scores = torch.cat([book(collectives.shard(queue).to(targets.dtype)), scores], dim=1)
        return sinkhorn(scores, knobs.epsilon, knobs.iterations)[:, -len(targets) :]


class Softmax(Codes):
    """Codes that are the softmax of the targets' scores."""

    def code(self, targets: Tensor, book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock) -> Tensor:
        """Return codes as in `Codes.code`."""
        return F.softmax(book(targets) / self.temperature(clock), dim=2)


class Relation(Softmax):
    """Gives softmax codes over the queue's rows instead of prototypes: ReSSL eq. 3."""

    def book(self, network: nn.Module, online: nn.Module, queue: Queue | None) -> nn.Module:
        """Return the queue, which scores the projections of both networks."""
        return cast(nn.Module, queue)


class Centering(Softmax):
    """Gives softmax codes less a centre, the running mean of the scores: DINO section 3.1."""

    centre: Tensor

    def __init__(self, knobs: Clustering, samples: int | None):
        super().__init__(knobs, samples)
        self.register_buffer("centre", torch.zeros(knobs.codebooks, 1, knobs.prototypes))

    def code(self, targets: Tensor, book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock) -> Tensor:
        """Return codes as in `Codes.code`, and remember the scores for the centre."""
        scores = book(targets)
        self.scores.append(scores.detach())
        return F.softmax((scores - self.centre.to(scores.dtype)) / self.temperature(clock), dim=2)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre by the scores of the last batch's targets: DINO eq. 4."""
        if self.scores:
            mean = collectives.average(torch.cat(self.scores, dim=1).mean(dim=1, keepdim=True))  # Hx1xK
            self.centre.lerp_(mean.to(self.centre.dtype), 1 - self.knobs.centre_momentum)


class KMeans(Codes):
    """Hard codes of k-means over the bank, found anew at each epoch's start: DeepCluster v2."""

    learns_prototypes = False
    needs_bank = True
    assigned: Tensor

    def __init__(self, knobs: Clustering, samples: int | None):
        super().__init__(knobs, samples)
        self.register_buffer("assigned", torch.full((knobs.codebooks, samples or 0), -1))

    def book(self, network: nn.Module, online: nn.Module, queue: Queue | None) -> nn.Module:
        """Return the online network's centroids, which are never averaged."""
        return cast(nn.Module, online.codebook)

    def code(self, targets: Tensor, book: Scores, queue: Tensor | None, index: Tensor | None, clock: Clock) -> Tensor:
        """Return one-hot codes: those of the epoch's start for samples ``index``, else the nearest centroid's."""
        scores = book(targets)
        near = scores.argmax(dim=2)
        if index is not None:  # images that were not seen before the epoch have no cluster yet
            near = torch.where(self.assigned[:, index] < 0, near, self.assigned[:, index])
        return F.one_hot(near, scores.shape[2]).to(scores.dtype)

    @torch.no_grad()
    def begin_epoch(self, bank: Bank | None, codebook: nn.Module | None) -> None:
        """Cluster the bank anew, each codebook from its own random start."""
        bank, codebook = cast(Bank, bank), cast(Codebook, codebook)
        seen = bank.rows[bank.seen]
        for h, weight in enumerate(codebook.weight):
            start = seen[collectives.from_first(torch.randperm(len(seen))[: len(weight)].to(seen.device))]
            start = torch.cat([start, weight[len(start) :].to(seen.dtype)])
            centroids, near = spherical_kmeans(seen, start, self.knobs.kmeans_iterations)
            weight.copy_(collectives.from_first(centroids))
            self.assigned[h, bank.seen] = collectives.from_first(near)


def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return codes [H, N, K] of scores [H, N, K], all prototypes used alike: SwAV section 3.1, Cuturi 2013.

    In float32 at least and in the log domain: exp(scores / epsilon) overflows without l2.
    """
    log_codes = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log_codes = log_codes - collectives.logsumexp(log_codes, dim=-2)  # each prototype the same mass
        log_codes = log_codes - torch.logsumexp(log_codes, dim=-1, keepdim=True)  # each sample one code
    return log_codes.exp()


def swapped(scores: Tensor, code: Tensor, temperature: float) -> Tensor:
    """Predict the key's code from the query's scores, both [H, N, K]: SwAV eq. 2, mean over rows and codebooks."""
    return -(code * F.log_softmax(scores / temperature, dim=-1)).sum(dim=-1).mean()


def spherical_kmeans(rows: Tensor, centroids: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return centroids [K, D] of length 1 from a start, and the rows' assignments [N] to them; rows [N, D].

    A centroid is the normalised mean of its rows; one that loses all of them stays where it was.
    """
    rows, centroids = l2(rows), l2(centroids)
    for _ in range(iterations):
        near = nearest_centroid(rows, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, near, rows)
        count = torch.bincount(near, minlength=len(centroids))
        centroids = torch.where(count[:, None] > 0, l2(sums), centroids)
    return centroids, nearest_centroid(rows, centroids)


def nearest_centroid(rows: Tensor, centroids: Tensor) -> Tensor:
    """The centroid of largest dot product for each row, in parts: the product of all does not fit for large banks."""
    return torch.cat([(part @ centroids.T).argmax(dim=1) for part in torch.split(rows, 65_536)])
