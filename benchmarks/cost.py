"""What the processes of a training step exchange, and how long that takes: a model in pure functions.

    python benchmarks/cost.py                     # every method, the small net at 32 px, 8 processes of 32 images
    python benchmarks/cost.py swav --processes 64
    python benchmarks/cost.py --quick             # SimSiam on two processes

ranks.py counts and measures the same, and writes the page.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

import torch
from torch.nn.modules.batchnorm import _BatchNorm

import sslzoo
from sslzoo.core.backbones import build
from sslzoo.core.pairs import full_views, own_views, pairs
from sslzoo.core.siamese import Siamese
from sslzoo.recipes.recipe import Recipe, method_names

BUCKETS = (2**20, 25 * 2**20)  # bytes of DDP's first bucket of gradients and of the others
KNOTS = 17  # of the regularizer "gaussian"
HEALTH = 64  # rows of each of two views that a look has
FLOAT, LONG, INT = 4, 8, 4  # bytes
SAMPLES = 50_000  # images of the data set that the command line assumes


@dataclass(frozen=True)
class Call:
    """A collective: the bytes of the tensor that all have after it, and how often a step makes it."""

    op: str  # all_reduce, all_gather, broadcast
    what: str
    bytes: int
    times: int = 1
    host: bool = False  # of numbers in the host's memory on every device, by gloo


@dataclass(frozen=True)
class Net:
    """What the model needs to know of the networks: sizes of learnt parameters in order, channels of batch norms."""

    parameters: tuple[int, ...]
    encoder: tuple[int, ...]
    projector: tuple[int, ...]
    predictor: tuple[int, ...]


def net(model: Siamese) -> Net:
    """Of a model, which may lie on the device "meta"."""
    norms = [
        tuple(m.num_features for m in part.modules() if isinstance(m, _BatchNorm))
        for part in (model.online.encoder, model.online.projector, model.predictor)
    ]
    return Net(tuple(p.numel() for p in model.parameters() if p.requires_grad), *norms)


def passes(recipe: Recipe) -> tuple[list[int], list[int]]:
    """The views that pass a network with a graph, and those that pass one without."""
    switches = recipe.switches
    paired = pairs(recipe, full_views(recipe) + recipe.views.local_crops)
    looked = sorted({*(j for _, j in paired), *own_views(recipe, paired).values()})
    copied = switches.target != "shared"
    online = {i for i, _ in paired}
    if not copied and not (switches.stop_gradient and switches.regularizer == "none"):
        online |= {*looked}
    return sorted(online), [j for j in looked if copied or j not in online]


def batches(recipe: Recipe, views: list[int]) -> tuple[int, int]:
    """How often these views pass the encoder, and how often the projector."""
    if not recipe.views.together:
        return len(views), len(views)
    return len({i < full_views(recipe) for i in views}), min(1, len(views))


def calls(
    recipe: Recipe, net: Net, rows: int, processes: int, samples: int = 0, cuda: bool = False, on_nan: str = "stop"
) -> list[Call]:
    """The collectives of one step with so many rows of each view in each process, looks at health left out.

    Batch norm gathers mean and variance, and sums two rows in backward; torch's, which is that of ``cuda``, gathers the
    number of rows too.
    """
    if processes == 1:
        return []
    switches, dim, all_rows = recipe.switches, recipe.heads.dim, rows * processes
    paired = pairs(recipe, full_views(recipe) + recipe.views.local_crops)
    own = own_views(recipe, paired)
    targets = {j for _, j in paired}
    queried, looked = len({i for i, _ in paired}), len({*targets, *own.values()})
    learnt, blind = passes(recipe)
    keys_learn = switches.target == "shared" and not switches.stop_gradient
    aims_learn = keys_learn and switches.positive == "view"
    found: list[Call] = []

    def summed(what: str, size: int, times: int, learns: bool) -> None:
        found.append(Call("all_reduce", what, size, times * (1 + learns)))

    def gathered(what: str, size: int, times: int, learns: bool) -> None:
        found.append(Call("all_gather", what, size, times))
        found.append(Call("all_reduce", what, size, times * learns))

    def norm(channels: int, times: int, learns: bool) -> None:
        found.append(Call("all_gather", "batch norm", FLOAT * (2 * channels + cuda) * processes, times))
        found.append(Call("all_reduce", "batch norm", FLOAT * 2 * channels, times * learns))

    for learns, views in ((True, learnt), (False, blind)):
        for layers, times in zip((net.encoder, net.projector), batches(recipe, views), strict=True):
            for channels in layers:
                norm(channels, times, learns)
    for channels in net.predictor:
        norm(channels, queried, True)
    codes = FLOAT * recipe.clustering.codebooks * recipe.clustering.prototypes
    if switches.clustering == "centering":
        found.append(Call("all_reduce", "codes", codes))
    exchanged = len(found)  # what follows is of each partition of the batch into groups that are whitened
    for learns, times in ((True, queried), (keys_learn, looked)):
        if switches.normalize == "standardize":
            gathered("normalize", FLOAT * 2 * dim * processes, times, learns)
        if switches.normalize == "whiten":
            gathered("normalize", FLOAT * dim * all_rows, times, learns)
    if switches.negatives == "batch":
        for pair in paired:
            gathered("negatives", FLOAT * dim * all_rows, 1, aims_learn or recipe.negatives.anchor == "key")
            gathered("negatives", FLOAT * dim * all_rows, int(pair in own), keys_learn)
    if switches.negatives == "bank" and 0 < recipe.negatives.bank_sample < samples:
        found.append(Call("broadcast", "negatives", LONG * recipe.negatives.bank_sample, len(paired)))
    if switches.clustering == "sinkhorn":
        times = len(targets) * recipe.clustering.iterations
        found.append(Call("all_reduce", "codes", codes, times * (2 + keys_learn)))
    if switches.negatives == switches.clustering == "none" and switches.similarity == "correlation":
        summed("correlation", FLOAT * dim * dim, len(paired), True)
    if switches.regularizer == "decorrelation":
        summed("correlation", FLOAT * dim * dim, len(paired), True)
    if switches.regularizer == "variance":
        gathered("regularizer", FLOAT * 2 * dim * processes, len(learnt), True)
        summed("regularizer", FLOAT * dim * dim, len(learnt), True)
    if switches.regularizer == "gaussian":
        found.append(Call("broadcast", "regularizer", FLOAT * dim * recipe.loss.slices))
        summed("regularizer", FLOAT * 2 * recipe.loss.slices * KNOTS, len(learnt), True)
    if recipe.reads("normalize.w_iter"):
        partitions = recipe.normalize.w_iter
        found[exchanged:] = [replace(call, times=partitions * call.times) for call in found[exchanged:]]
        found.append(Call("broadcast", "normalize", LONG * all_rows, partitions - 1))
    if recipe.reads("memory.queue_length"):
        gathered("memory", FLOAT * dim * all_rows, len(targets), False)
    if recipe.reads("memory.bank_momentum"):
        gathered("memory", FLOAT * dim * all_rows, 1, False)
        gathered("memory", LONG * all_rows, 1, False)
    unused = recipe.clustering.freeze_epochs > 0
    arrival = net.parameters if unused else net.parameters[::-1]  # buckets are remade as gradients come, the last first
    found += [Call("all_reduce", "gradients", size) for size in buckets(arrival)]
    if unused:
        found.append(Call("all_reduce", "gradients", INT * len(net.parameters)))  # which of them are in use
    found.append(Call("all_reduce", "flag", LONG, 1 if on_nan == "stop" else 2, host=True))
    return [call for call in found if call.times]


def look(recipe: Recipe, rows: int, processes: int) -> list[Call]:
    """What a look at health gathers, ten an epoch; the objects of some dozen bytes beside it are left out."""
    found = [Call("all_gather", "health", FLOAT * min(HEALTH, rows) * recipe.heads.dim * processes, 2)]
    kind, knobs = recipe.switches.clustering, recipe.clustering
    columns = recipe.memory.queue_length if kind == "relation" else knobs.codebooks * knobs.prototypes
    if kind != "none":
        found.append(Call("all_gather", "health", FLOAT * rows * columns * processes))
    return found


def buckets(parameters: Sequence[int]) -> list[int]:
    """Bytes of the buckets that DDP makes of parameters in order: one is full once it has reached its size."""
    found, size, limits = [], 0, list(BUCKETS)
    for numbers in parameters:
        size += FLOAT * numbers
        if size >= limits[0]:
            found.append(size)
            size, limits = 0, limits[1:] or limits
    return [*found, size] if size else found


def tally(found: Iterable[Call]) -> Counter[tuple[str, int]]:
    """How often each operation is called with each number of bytes."""
    counts: Counter[tuple[str, int]] = Counter()
    for call in found:
        counts[call.op, call.bytes] += call.times
    return counts


# ---- time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """Seconds until a message of no bytes has come, and bytes a second."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs; what is passed on the host goes over another link. The defaults are assumptions."""

    gpus: int = 8  # of a node
    inside: Link = Link(3e-6, 200e9)
    between: Link = Link(8e-6, 100e9)
    host: Link = Link(50e-6, 1e9)

    def link(self, processes: int) -> Link:
        """One hop of a ring over so many GPUs: the mean latency, and the bandwidth of the slowest."""
        if processes <= self.gpus:
            return self.inside
        across = 1 / self.gpus
        latency = across * self.between.latency + (1 - across) * self.inside.latency
        return Link(latency, min(self.inside.bandwidth, self.between.bandwidth))


def seconds(call: Call, processes: int, link: Link, tree: bool = False) -> float:
    """Of a collective on W processes, all its times together.

    A ring: all-gather (W - 1) latency + (W - 1) / W bytes / bandwidth, all-reduce twice that. A broadcast passes a
    tree in pieces: log2 W latency + bytes / bandwidth. ``tree``: log2 W in place of W - 1, as libraries do it for small
    messages.
    """
    depth = ceil(log2(processes)) if processes > 1 else 0
    hops = depth if tree else processes - 1
    part = (processes - 1) / processes * call.bytes / link.bandwidth
    each = {
        "all_gather": hops * link.latency + part,
        "all_reduce": 2 * (hops * link.latency + part),
        "broadcast": depth * link.latency + call.bytes / link.bandwidth,
    }[call.op]
    return call.times * each


def exchange(found: Iterable[Call], processes: int, link: Link, host: Link, tree: bool = False) -> dict[str, float]:
    """Seconds by what is exchanged; none of it behind the backward pass, so that the sum is an upper bound."""
    spent: dict[str, float] = {}
    for call in found:
        spent[call.what] = spent.get(call.what, 0.0) + seconds(call, processes, host if call.host else link, tree)
    return spent


def line(x: Sequence[float], y: Sequence[float], relative: bool = True) -> tuple[float, float]:
    """a and b, neither below 0, of y = a + b x by least squares; ``relative``: of y's relative errors."""
    xs, ys = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    columns = torch.stack([torch.ones_like(xs), xs], dim=1)
    weights = 1 / ys if relative else torch.ones_like(ys)
    a, b = torch.linalg.lstsq(columns * weights[:, None], (ys * weights)[:, None]).solution[:, 0].tolist()
    if a < 0:
        a, b = 0.0, float(((weights * xs) * (weights * ys)).sum() / (weights * xs).square().sum())
    return max(a, 0.0), max(b, 0.0)


def work(recipe: Recipe, size: int) -> float:
    """Forward and backward of an image's views, in views of full size; a pass without a graph is a third of one."""
    learnt, blind = passes(recipe)
    small = (min(recipe.views.local_size, size) / size) ** 2
    area = [1.0] * full_views(recipe) + [small] * recipe.views.local_crops
    return sum(area[i] for i in learnt) + sum(area[j] for j in blind) / 3


def main() -> None:
    """Print what a step exchanges, by what it is for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="expressions; every method by default")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="images of each process")
    parser.add_argument("--quick", action="store_true", help="SimSiam on two processes")
    options = parser.parse_args()
    processes, methods = 2 if options.quick else options.processes, options.methods or method_names()
    cluster = Cluster()
    for method in ["simsiam"] if options.quick else methods:
        recipe = sslzoo.load(method, batch_size=options.rows * processes)
        with torch.device("meta"):
            model = Siamese(build("small", 32), recipe, SAMPLES)
        found = calls(recipe, net(model), options.rows, processes, SAMPLES)
        spent = exchange(found, processes, cluster.link(processes), cluster.host)
        for what, time in spent.items():
            parts = [call for call in found if call.what == what]
            times, size = sum(call.times for call in parts), sum(call.times * call.bytes for call in parts)
            print(f"{method}: {what}, {times} calls, {size / 1e6:.2f} MB, {1e3 * time:.2f} ms on the assumed links")


if __name__ == "__main__":
    main()
