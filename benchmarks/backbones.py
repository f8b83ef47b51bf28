"""Which backbones of timm train: two steps with and without local crops, or a sentence before anything is written.

    python benchmarks/backbones.py                            # 40 backbones of 20 families and more at 64 and 96 px
    python benchmarks/backbones.py --quick --out DIR          # three of them

Every backbone is drawn, and trained by a method whose views have one size and by one with smaller local crops, on 16
images of noise. A cell is "trains", or the sentence with which it was refused; a refusal that leaves anything behind,
or an error that is no sentence, ends the script. Finished cells are kept in the JSON file and not run again.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from commit import commit
from compact import read_rows, write_rows
from results import RESULTS

from sslzoo.training.machine import versions

BACKBONES = {  # by family
    "ResNet": ["resnet18", "resnet26t", "resnet50d"],
    "ResNeXt, SE": ["resnext26ts", "seresnext26t_32x4d"],
    "Res2Net": ["res2net50_14w_8s"],
    "ECA": ["ecaresnet26t"],
    "ResNetV2": ["resnetv2_18"],
    "ConvNeXt": ["convnext_atto", "convnextv2_atto"],
    "EfficientNet": ["efficientnet_b0", "tf_efficientnetv2_b0"],
    "MobileNet": ["mobilenetv3_small_050", "mobilenetv4_conv_small"],
    "RegNet": ["regnetx_002", "regnety_002"],
    "DenseNet": ["densenet121"],
    "VGG": ["vgg11_bn"],
    "DLA": ["dla34"],
    "HRNet": ["hrnet_w18_small"],
    "GhostNet": ["ghostnet_050"],
    "RepVGG": ["repvgg_a0"],
    "VoVNet": ["ese_vovnet19b_dw"],
    "NFNet": ["dm_nfnet_f0", "nf_regnet_b0"],
    "PoolFormer": ["poolformer_s12"],
    "ViT": ["vit_tiny_patch16_224", "vit_small_patch16_224", "vit_tiny_r_s16_p8_224"],
    "DeiT": ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"],
    "BEiT, EVA": ["beit_base_patch16_224", "eva02_tiny_patch14_224"],
    "Swin": ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"],
    "MaxViT, CoAtNet": ["coatnet_nano_rw_224"],
    "LeViT": ["levit_128s"],
    "CaiT, XCiT": ["xcit_nano_12_p16_224"],
    "Mixer": ["mixer_s16_224", "resmlp_12_224"],
    "EdgeNeXt, MobileViT": ["edgenext_xx_small", "mobilevit_xxs"],
    "Others": ["tiny_vit_5m_224", "pit_ti_224"],
}
METHODS = {"one size": "simclr", "local crops": "dino local_crops=2"}
SIZES = (64, 96)
SMALL = "heads.hidden=32 heads.dim=16 heads.layers=2"


def cell(backbone: str, words: str, size: int, data: str, folder: Path) -> str:
    """Train two steps; return "trains", or the sentence of a refusal, which leaves nothing in the folder."""
    if "local_crops" in words:
        words += f" local_size={size // 2} prototypes=32"
    out = folder / "runs"
    options = {"data": data, "image-size": size, "backbone": backbone, "epochs": 1, "batch-size": 8, "device": "cpu",
               "precision": "float32", "out": out, "knn-every": 10}  # fmt: skip
    flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    asked = [sys.executable, "-m", "sslzoo", "train", *f"{words} {SMALL}".split(), *flags, "--quiet"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return "trains"
    if done.returncode < 0:
        return f"{backbone} at {size} px ends the process by {signal.Signals(-done.returncode).name}, in torch itself."
    left = [*out.iterdir()] if out.exists() else []
    if done.returncode != 2 or left or done.stderr.count("\n") != 1:
        raise SystemExit(f"{backbone}, {words}, {size} px left {left}: {done.stderr}")
    return done.stderr.strip().removeprefix("Error: ")


def page(rows: list[dict]) -> str:
    """The table, a row a backbone; sentences of refusals below it."""
    columns = [(method, size) for method in METHODS for size in SIZES]
    found = {(row["backbone"], row["method"], row["size"]): row["outcome"] for row in rows}
    versions_ = dict.fromkeys(row["versions"] for row in rows)
    outcomes = [row["outcome"] for row in rows]
    heads = [f"{method}, {size} px" for method, size in columns]
    lines = [
        "# Backbones", "", *(f"Commit {one}." for one in dict.fromkeys(row["commit"] for row in rows)),
        *(f"Versions: {one}." for one in versions_),
        "Protocol: `python benchmarks/backbones.py`: a drawn backbone of timm's makes two steps on noise, with views",
        "of one size (`simclr`) and with local crops of half the size (`dino`), or is refused before anything is",
        f"written. {sum(one == 'trains' for one in outcomes)} of {len(outcomes)} train.", "",
        f"| family | backbone | {' | '.join(heads)} |", f"|---|---|{'---|' * len(columns)}",
    ]  # fmt: skip
    sentences = [one for one in dict.fromkeys(outcomes) if one != "trains"]
    for family, backbone in dict.fromkeys((row["family"], row["backbone"]) for row in rows):
        cells = []
        for column in columns:
            outcome = found.get((backbone, *column))
            cells.append(
                "" if outcome is None else outcome if outcome == "trains" else f"no ({sentences.index(outcome) + 1})"
            )
        lines.append(f"| {family} | `{backbone}` | {' | '.join(cells)} |")
    lines += ["", *(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the files")
    parser.add_argument("--quick", action="store_true", help="three backbones at one size")
    args = parser.parse_args()
    if args.quick and args.out == RESULTS:
        parser.error("--quick needs --out DIR: its results are none to keep")
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "backbones.json"
    rows = read_rows(path)
    done = {(row["backbone"], row["method"], row["size"]) for row in rows}
    names = (
        {"ResNet": ["resnet18"], "ViT": ["vit_tiny_patch16_224"], "LeViT": ["levit_128s"]} if args.quick else BACKBONES
    )
    with tempfile.TemporaryDirectory() as place:
        for size in SIZES[:1] if args.quick else SIZES:
            images = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
            np.savez(f"{place}/{size}.npz", train_images=images)
            for family, backbones in names.items():
                for backbone in backbones:
                    for method, words in METHODS.items():
                        if (backbone, method, size) in done:
                            continue
                        with tempfile.TemporaryDirectory(dir=place) as folder:
                            outcome = cell(backbone, words, size, f"{place}/{size}.npz", Path(folder))
                        about = {"versions": ", ".join(f"{k} {v}" for k, v in versions().items()), "commit": commit()}
                        rows.append({"family": family, "backbone": backbone, "method": method, "size": size,
                                     "outcome": outcome, **about})  # fmt: skip
                        write_rows(path, rows, page)
                        print(backbone, method, size, outcome, flush=True)


if __name__ == "__main__":
    main()
