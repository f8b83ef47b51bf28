"""Write benchmarks/README.md from the figures in results/speed.json; a test holds that it is current.

python benchmarks/page.py                            # from the committed figures
python benchmarks/page.py --figures F.json --out PAGE.md
"""

import argparse
import json
from pathlib import Path

HERE = Path(__file__).parent
FIGURES = HERE / "results" / "speed.json"

TOP = """# Speed

How fast sslzoo is beside its limits and its peers. What is compared ran in turns, in one process and after a warm-up,
on the machine below; a ratio is the median over the turns. Peers come from the extra `bench` and are never imported by
the package. Other results are in [results](results).

```sh
pip install -e '.[bench]'
python benchmarks/speed.py --json benchmarks/results/speed.json --folder PICTURES   # everything, some 20 minutes
python benchmarks/speed.py --only augmentation,step,epoch,knn,startup --quick --json F
python benchmarks/page.py                                                          # this page
```
"""
GPU = """## On a GPU: not measured

No GPU was to be had. [gpu.py](gpu.py) is the script: `python benchmarks/gpu.py measure --out DIR` runs the parts above,
with and without `torch.compile`, and lists where a step waits for the device; `python benchmarks/gpu.py train --data
cifar10.npz --out DIR` trains ResNet-18 on CIFAR-10, 200 epochs, batch 512, method after method, and goes on in the
next call. It was run on a CPU at a tiny size. lightly publishes, for an A6000 and its best epoch, SimSiam .764,
BYOL .868, SimCLR .848 and SwAV .842 (kNN, k = 200, T = .1).
"""
CPU = """## Choices on a CPU, measured

- Augmentation works in blocks of a megabyte, which stay in a core's cache, on the images that drew an operation alone.
- Blur is a matrix product an axis, of bands of 16 pixels (twice as fast as of the whole axis, the same values); a
  depthwise convolution with a kernel per image took as long as the whole one.
- `torch.compile` took 26 s to save 13% of a step of the small net (65 to 56 ms, batch 128): off unless asked for.
- bf16 on a CPU with AMX makes a ResNet-18 step 2.7 times as fast (6.8 to 2.5 s, batch 256); `--precision auto` takes it
  where there are instructions for it.
- JPEGs are decoded by simplejpeg, with Pillow's pixels; where all crops of a picture are at least twice the view, at a
  part of its size. No decoder in reach reads a part of a JPEG.
"""


def table(heads: list[str], rows: list[list[object]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(shown, row)) + " |" for row in rows]) + "\n"


def shown(value: object) -> str:
    """A number with three digits, or more before the point."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def page(found: dict) -> str:
    """The page."""
    device, parts = found["device"], [TOP]
    packages = ", ".join(f"{name} {number}" for name, number in device["versions"].items())
    parts.append(
        f"{device['name']}, {device['cores']} cores, {device['date']}, commit {device['commit']}; {packages}.\n"
    )
    aug, step, knn = found["augmentation"], found["step"], found["knn"]
    parts.append("## Augmentation, pairs of views a second\n\nlightly: its SimSiam transforms in a DataLoader.\n")
    parts.append(
        table(
            ["px", "ours", "lightly", "workers", "ratio", "kornia", "ratio"],
            [
                [size, x["ours"], x["lightly"], x["workers"], x["ratio"], x["kornia"], x["ratio_kornia"]]
                for size, x in aug.items()
            ],
        )
    )
    parts.append(
        "## A training step of SimSiam, batch 256, 32 px, in ms\n\n"
        "The limit is forward and backward of the same encoder and heads on ready tensors.\n"
    )
    nets = {step["backbone"]: step, **{k: v for k, v in step.items() if isinstance(v, dict)}}
    heads = ["encoder", "limit", "the step", "ratio", "with its augmentation", "ratio"]
    keys = ("limit_ms", "ready_ms", "ratio_ready", "whole_ms", "ratio")
    parts.append(table(heads, [[name, *(x[key] for key in keys)] for name, x in nets.items()]))
    parts.append("## Whole epochs, images a second, against lightly's loop with the same nets and batch\n")
    rows = []
    for method, x in found["epoch"].items():
        for net, y in {x["backbone"]: x, **{k: v for k, v in x.items() if isinstance(v, dict)}}.items():
            theirs = [y["lightly"], y["ratio"]] if "lightly" in y else [y["lightly_float32"], y["ratio"]]
            if "precision" in y:  # which figures of older commits lack
                theirs += [y["precision"], y[f"lightly_{y['precision']}"], y["ratio_same"]]
            rows.append([method, net, y["ours"], *theirs])
    heads = ["method", "encoder", "ours", "lightly", "ratio", "ours is in", "lightly in that", "ratio"]
    parts.append(table(heads[: max(map(len, rows))], rows))
    parts.append("## kNN, 10,000 queries in 50,000 x 512, k = 200, queries a second\n")
    others = [[name, knn[name], knn[f"ratio_{name}"]] for name in ("faiss", "lightly", "sklearn")]
    parts.append(
        table(["who", "queries/s", "ours / theirs"], [["ours, normalised and voted", knn["ours"], "-"], *others])
    )
    parts.append(
        "## Files, pairs of crops a second, two workers each\n\nAgainst torchvision's transforms in a DataLoader.\n"
    )
    stream = found["stream"].items()
    parts.append(
        table(
            ["folder", "files", "view", "ours", "torchvision", "ratio"],
            [[name, x["files"], x["view"], x["ours"], x["torchvision"], x["ratio"]] for name, x in stream],
        )
    )
    parts.append("## Start-up, seconds\n")
    parts.append(table(["what", "s"], [[name, x] for name, x in found["startup"].items()]))
    memory = found["memory"]
    parts.append("## Memory, GiB\n")
    rows = [
        [f"kNN, bank {name}: added", x["added"], f"bank and queries {x['bank_and_queries']:.2f}"]
        for name, x in memory["knn"].items()
    ]
    rows += [
        [f"training, {who}", x["process"], f"largest worker {x['largest_worker']:.2f}"]
        for who, x in memory["train"].items()
    ]
    parts.append(table(["what", "peak", ""], rows))
    grown = found["growth"]
    parts.append("## How cost grows\n")
    names = {
        "batch": "SimSiam, ms a step by batch", "queue_length": "MoCo v2, ms a step by queue length, batch 128",
        "image_size": "µs a view by px, blur included", "bank_rows": "kNN queries a second by rows of 256 columns",
    }  # fmt: skip
    for key, name in names.items():
        parts.append(f"{name}:\n\n{table(list(grown[key]), [list(grown[key].values())])}")
    return "\n".join([*parts, CPU, GPU])


def main() -> None:
    """Read the figures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=FIGURES, help="what speed.py --json wrote")
    parser.add_argument("--out", type=Path, default=HERE / "README.md", help="the page")
    options = parser.parse_args()
    options.out.write_text(page(json.loads(options.figures.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
