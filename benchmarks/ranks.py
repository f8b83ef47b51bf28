"""What many processes cost: collectives counted, steps measured here, and more processes than here are, modelled.

    python benchmarks/ranks.py                   # some ten minutes on two cores
    python benchmarks/ranks.py --quick --out DIR # a tiny version

The model is cost.py. What is said of GPUs is arithmetic on assumptions, which are options; nothing of it is measured.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cost
import torch
import torch.distributed as dist
from commit import commit
from compact import compact, digits
from cost import Cluster, Link
from ranks_page import page
from torch.profiler import ProfilerActivity, profile

from sslzoo.core.backbones import build
from sslzoo.core.siamese import Siamese
from sslzoo.processes import agree, batchnorm, collectives
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.recipes.recipe import Recipe, method_names
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.loop import Training
from sslzoo.training.machine import versions
from sslzoo.training.options import Options
from sslzoo.training.plan import prepare

RESULTS = Path(__file__).parent / "results"
MEASURED = ("simsiam", "byol", "simclr", "swav", "vicreg", "dino")
MANY = (8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = {"float": 4, "long int": 8, "long": 8, "int": 4, "bool": 1, "unsigned char": 1}
IMAGENET = 1_281_167


# ---- in each of the processes ----------------------------------------------------------------------------------------


class Stop(Exception):
    """Enough steps."""


class Watch(Reporter):
    """Profiles a step that looks at nothing, then one that looks at health; each to the loop's word after the next."""

    def __init__(self) -> None:
        self.found: list[Counter[tuple[str, int]]] = []
        self.open: profile | None = None

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None:
        """Called after each step; of an epoch of twenty every second one looks, from the first on."""
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.found.append(gloo_calls(self.open))
            if len(self.found) == 2:
                raise Stop
        if done >= 3:
            self.open = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
            self.open.__enter__()


def gloo_calls(seen: profile) -> Counter[tuple[str, int]]:
    """How often gloo was called, from Python and from torch's own code, by the bytes that all then have."""
    counts: Counter[tuple[str, int]] = Counter()
    for event in seen.profiler.kineto_results.events():
        if event.name().startswith("gloo:"):
            op = event.name().removeprefix("gloo:")
            shape, kind = event.shapes()[0], event.dtypes()[0]
            size = SIZES[kind] * int(torch.tensor(shape).prod())
            counts[op, size * (collectives.world() if op == "all_gather" else 1)] += 1
    return counts


def count(expressions: list[str], batch: int) -> dict:
    """Counted and modelled collectives of a step of the training loop, and of its looks at health."""
    found = {}
    for expression in expressions:
        run = Training(prepare(expression, Options(limit=20 * batch, batch_size=batch, device="cpu")))
        run.learner.join()
        watch, recipe, rows, of = Watch(), run.recipe, batch // collectives.world(), collectives.world()
        with suppress(Stop):
            run.train_epoch(watch, [])
        calls = cost.calls(recipe, cost.net(run.learner.model), rows, of, 20 * batch)
        plain, looking = watch.found
        found[expression] = {
            "counted": listed(plain), "model": listed(cost.tally(calls)), "look": listed(looking - plain),
            "look_model": listed(cost.tally(cost.look(recipe, rows, of))), "dim": recipe.heads.dim,
        }  # fmt: skip
    return found


def listed(counts: Counter[tuple[str, int]]) -> list[list]:
    """For JSON: operation, bytes, times."""
    return [[op, size, times] for (op, size), times in sorted(counts.items())]


def steps(expressions: list[str], batches: list[int], turns: int, own_norm: bool = False) -> dict:
    """Median seconds of a step on ready views, with the loop's word after it, for each batch of the whole run."""
    found: dict[str, dict[str, float]] = {}
    for expression in expressions:
        for batch in batches:
            run = Training(prepare(expression, Options(batch_size=batch, device="cpu")))
            if own_norm:
                batchnorm.convert_sync_batchnorm(run.learner.model)
            run.learner.join()
            run.learner.model.train()
            index, views = next(iter(run.batches.epoch(0)))
            spent = []
            for turn in range(turns + 2):
                started = time.perf_counter()
                run.learner.step(views, index, turn)
                agree.all_reduce_max(0)
                spent.append(time.perf_counter() - started)
            found.setdefault(expression, {})[str(batch)] = statistics.median(spent[2:])
    return found


def messages(sizes: list[int], turns: int) -> dict:
    """Median seconds of gloo's all-reduce and all-gather, by the bytes that all then have."""
    found: dict[str, list[list[float]]] = {"all_reduce": [], "all_gather": []}
    for size in sizes:
        x = torch.zeros(size, dtype=torch.uint8)
        part = torch.zeros(max(1, size // collectives.world()), dtype=torch.uint8)
        parts = [torch.empty_like(part) for _ in range(collectives.world())]
        works = {
            "all_reduce": lambda x=x: dist.all_reduce(x),
            "all_gather": lambda parts=parts, part=part: dist.all_gather(parts, part),
        }
        for name, work in works.items():
            spent = []
            for _ in range(turns + 3):
                dist.barrier()
                started = time.perf_counter()
                work()
                spent.append(time.perf_counter() - started)
            found[name].append([size, statistics.median(spent[3:])])
    return found


WORKS = {"count": count, "steps": steps, "messages": messages}


def worker(job: str) -> None:
    """Do a job, and let the first process write what came of it."""
    torch.set_num_threads(1)
    asked = json.loads(job)
    with agree.process_group():
        found = WORKS[asked["do"]](*asked["with"])
        if collectives.rank() == 0:
            Path(asked["to"]).write_text(json.dumps(found))


def spread(n: int, do: str, *words: object) -> dict:
    """What n processes, of a thread each, found."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        s.close()
        out = Path(folder) / "found.json"
        job = json.dumps({"do": do, "with": words, "to": str(out)})
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n)}
        env |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        command = [sys.executable, __file__, "--worker", job]
        running = [
            subprocess.Popen(command, env={**env, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
            for rank in range(n)
        ]
        said = [process.communicate()[1] for process in running]
        if any(process.returncode for process in running):
            raise SystemExit("\n".join(said))
        return json.loads(out.read_text())


# ---- here ------------------------------------------------------------------------------------------------------------


NETS: dict[tuple, cost.Net] = {}


def recipe_and_net(expression: str, small: bool, batch: int) -> tuple[Recipe, cost.Net]:
    """As the digits on a CPU have them, or ImageNet on a GPU; the net has shapes alone."""
    kind, size, samples = ("cpu", 32, 3823) if small else ("cuda", 224, IMAGENET)
    flags = {"training.batch_size": batch, "training.backbone": "small" if small else "resnet50"}
    name = "digits" if small else "imagenet"
    recipe = resolve_here(parse(expression), Circumstances(name, size, samples, kind), flags)
    key = (expression, small, recipe.heads)
    if key not in NETS:
        with torch.device("meta"):
            NETS[key] = cost.net(Siamese(build(recipe.training.backbone, size), recipe, samples))
    return recipe, NETS[key]


def predicted(
    expression: str, batch: int, n: int, compute: tuple[float, float], link: Link, cores: int | None
) -> tuple[float, dict[str, float]]:
    """Seconds of a step of the small net by the model, and what they go to; processes share the cores, if said."""
    recipe, net = recipe_and_net(expression, True, batch)
    spent = cost.exchange(cost.calls(recipe, net, batch // n, n), n, link, link)
    a, b = compute
    parts = {"compute": (a + b * batch / n) * max(1.0, n / cores if cores else 1.0), **spent}
    return sum(parts.values()), parts


def on_gpus(expression: str, rows: int, n: int, options: argparse.Namespace, tree: bool) -> dict[str, float]:
    """Seconds that a step of ResNet-50 at 224 px goes to, all of it assumed."""
    recipe, net = recipe_and_net(expression, False, rows * n)
    cluster = Cluster(
        options.gpus,
        inside=Link(options.nvlink_latency, options.nvlink),
        between=Link(options.infiniband_latency, options.infiniband),
        host=Link(options.host_latency, options.host),
    )
    calls = cost.calls(recipe, net, rows, n, IMAGENET, cuda=True)
    compute = options.overhead + rows * cost.work(recipe, 224) / options.views
    return {"compute": compute, **cost.exchange(calls, n, cluster.link(n), cluster.host, tree)}


def gathered_rows(expression: str, n: int, rows: int) -> str:
    """What a recipe gathers of n processes with so many rows each, and how many rows of it come together, in words."""
    recipe, net = recipe_and_net(expression, False, rows * n)
    gathers = [c for c in cost.calls(recipe, net, rows, n, IMAGENET, cuda=True) if c.op == "all_gather"]
    rows_of = {c.what: c.bytes // (cost.FLOAT * recipe.heads.dim) for c in reversed(gathers) if c.what != "batch norm"}
    return ", ".join(f"{what} {found}" for what, found in sorted(rows_of.items())) or "-"


def counted(quick: bool) -> dict:
    """Every method on two and on four processes, or a few on two."""
    expressions = ["simsiam", "simclr", "swav"] if quick else method_names()
    found = {str(n): spread(n, "count", expressions, 32) for n in ((2,) if quick else (2, 4))}
    wrong = [f"{e} on {n}" for n, all_of in found.items() for e, x in all_of.items() if x["counted"] != x["model"]]
    return {"batch": 32, "wrong": wrong, "processes": found}


def measured(quick: bool) -> dict:
    """Steps of one, two and four processes; what one process needs for so many rows; gloo's messages; the model."""
    methods, batch, turns = (MEASURED[2:3], 32, 2) if quick else (MEASURED, 256, 11)
    several = (1, 2) if quick else (1, 2, 4)
    rows = [16, 32] if quick else [16, 32, 64, 128, 256]
    sizes = [8, 4096, 2**18] if quick else [8, 64, 512, 4096, 2**15, 2**18, 2**20, 2**22, 2**24]
    found: dict = {"batch": batch, "turns": turns, "cores": os.cpu_count()}
    found["messages"] = {str(n): spread(n, "messages", sizes, 5 if quick else 31) for n in several[1:]}
    found["links"] = {}
    for n, seen in found["messages"].items():
        # An all-reduce is 2 (W - 1) latency + 2 (W - 1) / W bytes / bandwidth; an all-gather half of it.
        points = [(size, t / times) for name, times in (("all_reduce", 2), ("all_gather", 1)) for size, t in seen[name]]
        a, b = cost.line([size for size, _ in points], [t for _, t in points])
        hops = int(n) - 1
        found["links"][n] = {"latency": a / hops, "bandwidth": hops / int(n) / max(b, 1e-15)}
    found["rows"] = spread(1, "steps", methods, rows, turns, True)
    fits = {e: cost.line([int(r) for r in seen], [*seen.values()]) for e, seen in found["rows"].items()}
    found["compute"] = {e: {"a": a, "b": b} for e, (a, b) in fits.items()}
    steps_of = {n: spread(n, "steps", methods, [batch], turns) for n in several}
    found["steps"] = {e: {} for e in methods}
    for e in methods:
        for n in several:
            link = Link(**found["links"][str(n)]) if n > 1 else Link(0.0, 1.0)
            total, parts = predicted(e, batch, n, fits[e], link, os.cpu_count())
            real = steps_of[n][e][str(batch)]
            found["steps"][e][str(n)] = {
                "seconds": real, "model": total, "error": total / real - 1, "parts": parts, "most": largest(parts),
            }  # fmt: skip
    return found


def simulated(seen: dict, options: argparse.Namespace) -> dict:
    """More processes: here, as if each had a core of its own, and on GPUs; whole batch 4096, and 32 a process."""
    found: dict = {"here": {}, "gpus": {}}
    link = Link(**seen["links"]["2"])
    many = MANY[:2] if options.quick else MANY
    for e, fit in seen["compute"].items():
        for what, rows_of in (("4096", lambda n: 4096 // n), ("32 each", lambda n: 32)):
            for n in many:
                rows = rows_of(n)
                total, parts = predicted(e, rows * n, n, (fit["a"], fit["b"]), link, None)
                alone = fit["a"] + fit["b"] * (4096 if what == "4096" else 32)
                ideal = alone / n if what == "4096" else alone
                found["here"].setdefault(e, {}).setdefault(what, {})[str(n)] = summary(parts, total, ideal)
    for e in seen["compute"] if options.quick else method_names():
        for what, rows_of in (("4096", lambda n: 4096 // n), ("32 each", lambda n: 32)):
            for n in many:
                rows = rows_of(n)
                for shape in ("ring", "tree"):
                    parts = on_gpus(e, rows, n, options, shape == "tree")
                    per_row = (parts["compute"] - options.overhead) / rows
                    ideal = (
                        options.overhead + per_row * 32
                        if what == "32 each"
                        else ((options.overhead + per_row * 4096) / n)
                    )
                    whole = found["gpus"].setdefault(e, {}).setdefault(what, {}).setdefault(shape, {})
                    whole[str(n)] = summary(parts, sum(parts.values()), ideal)
    found["rows"] = {e: gathered_rows(e, 8, 32) for e in found["gpus"]}
    return found


def largest(parts: dict[str, float]) -> str:
    """What takes most beside compute."""
    return max((part for part in parts if part != "compute"), key=parts.__getitem__, default="-")


def summary(parts: dict[str, float], total: float, ideal: float) -> dict:
    """A step's seconds, images a second over those of so many single processes, and what takes most beside compute."""
    most, compute = largest(parts), parts["compute"]
    efficiency = ideal / total
    return {"seconds": total, "efficiency": efficiency, "compute": compute, "most": most, "share": parts[most] / total}


def shrunk(found: dict) -> dict:
    """Of all that was found the part that the page shows."""
    counts, seen, far = (found[key] for key in ("counted", "measured", "simulated"))
    processes = {
        n: {e: by_operation(x["counted"]) for e, x in all_of.items()} for n, all_of in counts["processes"].items()
    }
    steps = {
        e: {n: {key: x[key] for key in ("seconds", "model", "error", "most")} for n, x in by.items()}
        for e, by in seen["steps"].items()
    }
    here = {
        e: {what: {n: [x["seconds"], x["efficiency"], x["most"]] for n, x in by.items()} for what, by in whole.items()}
        for e, whole in far["here"].items()
    }
    gpus = {
        e: {
            what: {
                n: [x["seconds"], x["efficiency"], x["most"], by["tree"][n]["efficiency"]]
                for n, x in by["ring"].items()
            }
            for what, by in whole.items()
        }
        for e, whole in far["gpus"].items()
    }
    return {
        **found,
        "counted": {**counts, "processes": processes},
        "measured": {**{key: seen[key] for key in ("batch", "turns", "cores", "links", "compute")}, "steps": steps},
        "simulated": {"here": here, "gpus": gpus, "rows": far["rows"]},
    }


def by_operation(rows: list[list]) -> dict[str, list[int]]:
    """Calls and bytes of each operation."""
    found: dict[str, list[int]] = {}
    for op, size, times in rows:
        calls, total = found.get(op, [0, 0])
        found[op] = [calls + times, total + size * times]
    return found


def main() -> None:
    """Count, measure, model, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few methods, small batches, two processes")
    parser.add_argument("--out", type=Path, help="the folder of the results, benchmarks/results by default")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    assumed = parser.add_argument_group("assumptions about GPUs, in seconds, bytes a second and views a second")
    base = Cluster()
    for name, value, kind in (
        ("views", 1000.0, float), ("overhead", 0.01, float), ("gpus", base.gpus, int),
        ("nvlink", base.inside.bandwidth, float), ("nvlink-latency", base.inside.latency, float),
        ("infiniband", base.between.bandwidth, float), ("infiniband-latency", base.between.latency, float),
        ("host", base.host.bandwidth, float), ("host-latency", base.host.latency, float),
    ):  # fmt: skip
        assumed.add_argument(f"--{name}", type=kind, default=value)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    if options.quick and options.out is None:
        parser.error("--quick needs --out DIR: its results are none to keep")
    out = options.out or RESULTS
    about = {
        "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"), "commit": commit(), "versions": versions(),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    assumptions = {k: v for k, v in vars(options).items() if k not in ("quick", "out", "worker")}
    found = {"device": about, "quick": options.quick, "seed": 0, "assumptions": assumptions}
    found["counted"] = counted(options.quick)
    found["measured"] = measured(options.quick)
    found["simulated"] = simulated(found["measured"], options)
    kept = digits(shrunk(found), 6)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ranks.json").write_text(compact(kept) + "\n")
    (out / "ranks.md").write_text(page(kept))
    if found["counted"]["wrong"]:
        sys.exit(f"The model's collectives are not the counted ones: {', '.join(found['counted']['wrong'])}.")


if __name__ == "__main__":
    main()
