"""The page of what many processes cost, from the figures in results/ranks.json."""

from page import table

SCALES = {"overhead": 1e3, "nvlink_latency": 1e6, "infiniband_latency": 1e6, "host_latency": 1e6}  # of what is shown


def mb(counted: dict[str, list[int]], op: str) -> str:
    """Calls and megabytes of an operation."""
    calls, size = counted.get(op, (0, 0))
    return f"{calls} / {size / 1e6:.2f}" if calls else "-"


TOP = """# What many processes cost

`python benchmarks/ranks.py{quick}`: {cores} cores, {date}, commit {commit}, seed 0; {packages}; load of the machine
at the start {load:.1f}. The counts and the steps of one, two and four processes are measured; what is said of more
processes and of GPUs is a model.

## Counted: what a step exchanges

Small net, digits, a whole batch of {batch}, float32, an ordinary step of the training loop: calls / MB that each
process has after them, gradients and the loop's word included. The profiler counted gloo's calls, those of torch's
own code too. {verdict} Ten times an epoch a step also gathers 64 rows of two views and the codes, for health.
"""
HERE = """## Measured here

gloo over loopback, medians, fitted to a + b bytes by relative least squares: {links}.{quiet}

A step of the small net on ready views of 32 px, whole batch {batch}, median of {turns} after two, one thread a
process. One process has torch's batch norm, many have our own. More processes than {cores} cores wait for each other:
the model multiplies their compute by processes / cores, and their link was fitted in the same plight. The model:
compute a + b rows, fitted to one process with our own batch norm; and the collectives as rings, none behind the
backward pass. The error is the modelled time over the measured one.
"""
MORE = """## Modelled: this machine, a core for each process

The link of two processes and the compute above, rings. Not measured. A cell: ms a step, efficiency (images a second
over those of as many single processes), what takes most beside compute.
"""
GPUS = """## Modelled: GPUs

**Nothing here was measured; no GPU was at hand.** ResNet-50, 224 px, each method's ImageNet recipe, float32
gradients, torch's batch norm. Assumed, and an option each: {views:,.0f} views of full size forward and backward a
second and GPU, {overhead:g} ms more a step; a pass without gradient a third of one; {gpus} GPUs a node; NVLink
{nvlink:g} GB/s, {nvlink_latency:g} µs; InfiniBand {infiniband:g} GB/s, {infiniband_latency:g} µs; host (gloo, the
loop's word) {host:g} GB/s, {host_latency:g} µs.

Nothing is hidden behind the backward pass (DDP would hide a part of the gradients): in that, times are upper bounds.
Left out: the loss's own work, which grows with all rows (logits of batch negatives; whitening, which every process
does whole), data, and memory. A ring costs W - 1 latencies. NCCL and gloo may need fewer for small messages: the
efficiency in brackets has log2 W.
"""


def page(found: dict) -> str:
    """The page."""
    about, counts, seen, far = (found[key] for key in ("device", "counted", "measured", "simulated"))
    numbers, ops = [*counts["processes"]], ("all_gather", "all_reduce", "broadcast")
    verdict = "The model of [cost.py](../cost.py) has the same operations, sizes and numbers for every one of them."
    if counts["wrong"]:
        verdict = f"The model of [cost.py](../cost.py) differs for {', '.join(counts['wrong'])}."
    packages = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    quick = " --quick" if found["quick"] else ""
    parts = [TOP.format(**about, quick=quick, packages=packages, batch=counts["batch"], verdict=verdict)]
    heads = ["method", *(f"{op.replace('_', '-')}, {n}" for n in numbers for op in ops)]
    of = counts["processes"]
    parts.append(table(heads, [[e, *(mb(of[n][e], op) for n in numbers for op in ops)] for e in of[numbers[0]]]))
    links = "; ".join(
        f"{n} processes {1e6 * x['latency']:.0f} µs and {x['bandwidth'] / 1e9:.2f} GB/s"
        for n, x in seen["links"].items()
    )
    busy = " **The machine had other work, so that all times of this section are rough.**"
    quiet = busy if about["load"] > about["cores"] / 2 else ""
    parts.append(HERE.format(**{k: seen[k] for k in ("batch", "turns", "cores")}, links=links, quiet=quiet))
    rows, several = [], [*seen["links"]]
    for e, by in seen["steps"].items():
        fit, row = seen["compute"][e], [e, f"{seen['batch'] / by['1']['seconds']:,.0f}"]
        row.append(f"{1e3 * fit['a']:.1f} + {1e3 * fit['b']:.2f} n")
        for n in several:
            speed, model = (seen["batch"] / by[n][key] for key in ("seconds", "model"))
            row += [f"{speed:,.0f}", f"{model:,.0f} ({by[n]['error']:+.0%})"]
        rows.append([*row, by[several[0]]["most"]])
    heads = ["method", "images/s, 1", "fit, ms", *(h for n in several for h in (f"{n}", f"{n}, model (error)"))]
    parts += [table([*heads, "most exchanged"], rows), MORE]
    for what in ("4096", "32 each"):
        parts.append(title(what) + cells({e: x[what] for e, x in far["here"].items()}))
    assumed = {k: v if k in ("views", "gpus") else v * SCALES.get(k, 1e-9) for k, v in found["assumptions"].items()}
    parts.append(GPUS.format(**assumed))
    for what in ("4096", "32 each"):
        parts.append(title(what) + cells({e: x[what] for e, x in far["gpus"].items()}))
    parts.append(
        "Beside batch norm's moments, what a step gathers, and how many rows of it come together from 8 processes of "
        "32 each: 256 grow with the batch, 16 are a mean and a variance of each process.\n"
    )
    parts.append(table(["method", "rows"], [*map(list, far["rows"].items())]))
    return "\n".join(parts)


def title(what: str) -> str:
    """Of a table."""
    return "A whole batch of 4096:\n\n" if what == "4096" else "32 images a process:\n\n"


def cells(found: dict) -> str:
    """A row a method, a column a number of processes: by rings, and in brackets by trees where they were modelled."""
    rows = []
    for e, by in found.items():
        row = [e]
        for seconds, efficiency, most, *tree in by.values():
            other = f" ({tree[0]:.0%})" if tree else ""
            row.append(f"{1e3 * seconds:,.0f}, {efficiency:.0%}{other} {most}")
        rows.append(row)
    return table(["method", *next(iter(found.values()))], rows)
