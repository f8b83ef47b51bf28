"""Checkpoint files as public projects write them, each with the plain PyTorch model whose features a loader must give.

Encoders have the official key names, key order and shapes; heads, queues and prototypes are narrower than the official
defaults, by the projects' own flags where they have one. Weights are random, by a seed of each layout's own. Optimizer
states hold the moments of vectors alone, to keep files small. Above each maker stand the repository and the file that
its key names come from. Nothing here knows how the package reads any of it.

``FOREIGN`` names, for each layout, the globals that its pickle refers to beyond what torch itself deems safe: the real
files refer to them too. ``UNTOLD`` says what a layout's file does not tell by any shape, and its source model has.
"""

import json
import math
import os
import shlex
import struct
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

State = OrderedDict[str, Tensor]
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Made:
    """A checkpoint on disk and the model that it is of."""

    path: Path  # file or folder to hand to the loader
    features: Features  # images [N, 3, size, size], already normalised -> features [N, D] before any head
    size: int  # pixels: patch times grid of a ViT, else 224 for a 7x7 stem and 32 for a 3x3 stem
    backbone: str | None = None  # timm's name, where shapes do not suffice
    stem: str | None = None  # "7x7" or "3x3" of residual nets


LAYOUTS: dict[str, Callable[[Path], Made]] = {}
HOSTILE: dict[str, Callable[[Path], Path]] = {}
FOREIGN: dict[str, set[str]] = {}
UNTOLD: dict[str, str] = {}


def layout(function: Callable[[Path], Made]) -> Callable[[Path], Made]:
    LAYOUTS[function.__name__] = function
    return function


def hostile(function: Callable[[Path], Path]) -> Callable[[Path], Path]:
    HOSTILE[function.__name__] = function
    return function


# ---- random weights


def seeded(name: str) -> torch.Generator:
    """A generator of a layout's own, the same in every process."""
    return torch.Generator().manual_seed(sum(i * ord(letter) for i, letter in enumerate(name, 1)))


@torch.no_grad()
def drawn(module: nn.Module, g: torch.Generator) -> nn.Module:
    """The module in eval mode with every number of it drawn: statistics, affine parameters, tokens and scales too."""
    for key, x in module.state_dict().items():
        last = key.rsplit(".", 1)[-1]
        if last == "num_batches_tracked":
            x.fill_(1000)
        elif last == "running_var":
            x.uniform_(0.5, 1.5, generator=g)
        elif last in ("gamma", "weight_g") or (last == "weight" and x.ndim == 1):
            x.uniform_(0.4, 1.2, generator=g)
        elif x.ndim == 1:  # biases and running means
            x.normal_(0, 0.1, generator=g)
        elif "token" in last or "pos_embed" in last or last == "pos_embedding":
            x.normal_(0, 0.3, generator=g)
        else:  # convolutions keep the size of what passes a ReLU
            x.normal_(0, ((2 if x.ndim == 4 else 1) / x[0].numel()) ** 0.5, generator=g)
    return module.eval()


@torch.no_grad()
def moved(module: nn.Module, g: torch.Generator) -> nn.Module:
    """A momentum encoder: a copy whose every number is some way off, as nothing else tells it from the other one."""
    other = deepcopy(module)
    fixed = {name for name, x in module.named_parameters() if not x.requires_grad}
    for key, x in other.state_dict().items():
        if x.is_floating_point() and key not in fixed:
            x.mul_(torch.empty_like(x).uniform_(0.8, 1.2, generator=g))
    return other.eval()


def given(model: nn.Module) -> Features:
    """The model as a function without gradients."""

    def features(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model(x).flatten(1)

    return features


def with_prefix(prefix: str, state: Mapping[str, Tensor]) -> State:
    return OrderedDict((prefix + key, x) for key, x in state.items())


def joined(**parts: nn.Module | Mapping[str, Tensor]) -> State:
    """One state dict of modules or state dicts by their attribute names; a part named _ has no name of its own."""
    state: State = OrderedDict()
    for name, part in parts.items():
        tensors = part.state_dict() if isinstance(part, nn.Module) else part
        state |= with_prefix("" if name == "_" else f"{name}.", tensors)
    return state


# ---- what stands beside the weights


def mlp(
    *widths: int, bias: bool = True, last_norm: bool | None = None, relu: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear, batch norm, activation for each width, then a last linear with a batch norm, affine or not, or none."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        layers.append(nn.Linear(before, after, bias=bias))
        if not last:
            layers += [nn.BatchNorm1d(after), relu()]
        elif last_norm is not None:
            layers.append(nn.BatchNorm1d(after, affine=last_norm))
    return nn.Sequential(*layers)


def sgd(state: Mapping[str, Tensor], **extra: Any) -> dict[str, Any]:
    """The state of SGD over a model's parameters."""
    sizes = [x.shape for key, x in state.items() if "running_" not in key and x.is_floating_point()]
    moments = {i: {"momentum_buffer": torch.full(size, 0.01)} for i, size in enumerate(sizes) if len(size) == 1}
    group = {"lr": 0.03, "momentum": 0.9, "dampening": 0, "weight_decay": 1e-4, "nesterov": False, **extra}
    return {"state": moments, "param_groups": [{**group, "params": list(range(len(sizes)))}]}


def adamw(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state of AdamW, with weight decay of matrices alone."""
    sizes = [x.shape for key, x in state.items() if "running_" not in key and x.is_floating_point()]
    groups = [[i for i, size in enumerate(sizes) if (len(size) > 1) is many] for many in (True, False)]
    moments = {
        i: {"step": torch.tensor(5.0), "exp_avg": torch.full(sizes[i], 0.1), "exp_avg_sq": torch.full(sizes[i], 0.1)}
        for i in groups[1]
    }
    group = {"lr": 5e-4, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "maximize": False, "foreach": None}
    decays = zip((0.04, 0.0), groups, strict=True)
    return {"state": moments, "param_groups": [{**group, "weight_decay": wd, "params": ps} for wd, ps in decays]}


SCALER = {
    "scale": 65536.0,
    "growth_factor": 2.0,
    "backoff_factor": 0.5,
    "growth_interval": 2000,
    "_growth_tracker": 5,
}


def lightning(state: State, **extra: Any) -> dict[str, Any]:
    """A checkpoint of Lightning 2: key names as its Trainer.save_checkpoint wrote them when run."""
    progress = {"total": {"ready": 2, "completed": 2}, "current": {"ready": 1, "completed": 1}}
    callback = "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1}"
    best = {"monitor": None, "best_model_score": None, "best_k_models": {}, "kth_value": torch.tensor(math.inf)}
    return {
        "epoch": 0,
        "global_step": 2,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": progress}, "validate_loop": {"state_dict": {}}},
        "callbacks": {callback: best},
        "optimizer_states": [sgd(state)],
        "lr_schedulers": [{"T_max": 5, "eta_min": 0.0, "base_lrs": [0.06], "last_epoch": 1, "_last_lr": [0.05]}],
        **extra,
    }


def saved(value: Any, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path, **options)
    return path


LEGACY = {"_use_new_zipfile_serialization": False}  # torch before 1.6, of July 2020, wrote pickles and not archives


def stand_in(place: str, base: type = object) -> type:
    """A class that a pickle will refer to by another project's place."""
    module, name = place.rsplit(".", 1)
    return type(name, (base,), {"__module__": module, "__qualname__": name})


def exclude_bias_and_norm(p: Tensor) -> bool:
    return p.ndim == 1


exclude_bias_and_norm.__module__ = "__main__"  # the scripts of Barlow Twins and VICReg define it where they run
EmbeddingModel = stand_in("lightly_train._models.embedding_model.EmbeddingModel", nn.Module)
ResNetModelWrapper = stand_in("lightly_train._models.torchvision.resnet.ResNetModelWrapper", nn.Module)
HistoryBuffer = stand_in("mmengine.logging.history_buffer.HistoryBuffer")
STRANGERS = (exclude_bias_and_norm, EmbeddingModel, ResNetModelWrapper, HistoryBuffer)


@contextmanager
def strangers() -> Iterator[None]:
    """Other projects' classes and functions where pickle looks for them, while a file is written or loaded by hand."""
    before = dict(sys.modules)
    try:
        for thing in STRANGERS:
            parts = thing.__module__.split(".")
            for i in range(len(parts)):
                name = ".".join(parts[: i + 1])
                sys.modules.setdefault(name, types.ModuleType(name))
            setattr(sys.modules[thing.__module__], thing.__name__, thing)
        yield
    finally:
        del sys.modules["__main__"].exclude_bias_and_norm
        for name in set(sys.modules) - set(before):
            if name.startswith(("lightly_train", "mmengine")):
                del sys.modules[name]


# ---- encoders


@torch.no_grad()
def calm(net: nn.Module) -> nn.Module:
    """The ResNet with scales at the ends of its blocks such that features stay near 1 and unlike images unlike."""
    for name, module in net.named_modules():
        if hasattr(module, "downsample"):
            module.get_submodule("bn3" if hasattr(module, "bn3") else "bn2").weight.mul_(0.5)
        if name.endswith("downsample.1"):
            module.weight.mul_(1.3)
    return net


def residual(depth: int, g: torch.Generator, stem: str = "7x7", padding: int = 1) -> nn.Module:
    """torchvision's ResNet without its fc; a 3x3 stem is that of CIFAR, without max pooling."""
    net = getattr(torchvision.models, f"resnet{depth}")()
    net.fc = nn.Identity()
    if stem == "3x3":
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, padding, bias=False), nn.Identity()
    return calm(drawn(net, g))


def padded(depth: int, g: torch.Generator) -> nn.Module:
    """SwAV's and VICReg's ResNet: a layer pads one pixel, then the 7x7 convolution two; nothing else differs."""
    net = residual(depth, g)
    net.conv1.padding = (2, 2)
    return net


def on_padding(net: nn.Module) -> Features:
    return given(nn.Sequential(nn.ConstantPad2d(1, 0.0), net))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, tokens, width))


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, scale: bool) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps), Attention(width, heads)
        self.ls1 = Scale(width) if scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps)
        fc1, fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, act=nn.GELU(), fc2=fc2))
        self.ls2 = Scale(width) if scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Vit(nn.Module):
    """A ViT with DINO's key names, which are timm's; its output is the class token after the final norm [N, width].

    Registers stand between class and patches and have no position, as in DINOv2; ``masked`` has DINOv2's mask token.
    """

    def __init__(
        self,
        width: int = 192,
        *,
        heads: int | None = None,
        grid: int = 14,
        patch: int = 16,
        depth: int = 12,
        eps: float = 1e-6,
        registers: int = 0,
        dinov2: bool = False,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid + 1, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if dinov2 else None
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, width, patch, patch)))
        self.blocks = nn.Sequential(*(Block(width, heads or width // 64, eps, dinov2) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1) + self.pos_embed
        if self.register_tokens is not None:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        return self.norm(self.blocks(x))[:, 0]


def waves(width: int, grid: int) -> Tensor:
    """Fixed position embeddings [1, grid * grid + 1, width]: sine and cosine of columns, then of rows; 0 for class."""
    steps = torch.arange(grid, dtype=torch.float32)
    angles = torch.outer(steps, 10000.0 ** -(torch.arange(width // 4) / (width // 4)))  # [grid, width / 4]
    wave = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = wave.repeat(grid, 1), wave.repeat_interleave(grid, dim=0)
    return torch.cat([torch.zeros(1, width), torch.cat([columns, rows], dim=1)])[None]


def at_waves(vit: Vit, grid: int = 14) -> Vit:
    vit.pos_embed.data, vit.pos_embed.requires_grad = waves(vit.norm.weight.numel(), grid), False
    return vit


class DINOHead(nn.Module):
    """DINO's head, whose last layer has weight norm of the old kind: weight_g and weight_v."""

    def __init__(self, width: int, name: str = "mlp", out: int = 64, hidden: int = 128, bottleneck: int = 32) -> None:
        super().__init__()
        gelu, middle = nn.GELU(), nn.Linear(hidden, hidden)
        layers = nn.Sequential(nn.Linear(width, hidden), gelu, middle, gelu, nn.Linear(hidden, bottleneck))
        self.add_module(name, layers)
        self.last_layer = nn.ParameterDict(
            {"weight_g": torch.ones(out, 1), "weight_v": torch.zeros(out, bottleneck)}  # keys are what matters here
        )


# ---- SimSiam: facebookresearch/simsiam, simsiam/builder.py (encoder, its fc, predictor) and main_simsiam.py (wrapper)


@layout
def simsiam(folder: Path) -> Made:
    g = seeded("simsiam")
    net, fc = residual(18, g), drawn(mlp(512, 512, 512, 256, bias=False, last_norm=False), g)
    fc[6].bias = nn.Parameter(torch.zeros(256))  # the one of the net's own fc, which is kept as the last linear
    predictor = nn.Sequential(nn.Linear(256, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 256))
    encoder = joined(_=net, fc=fc)
    state = with_prefix("module.", joined(encoder=encoder, predictor=drawn(predictor, g)))
    value = {"epoch": 100, "arch": "resnet18", "state_dict": state, "optimizer": sgd(state, fix_lr=True)}
    return Made(saved(value, folder / "checkpoint_0099.pth.tar"), given(net), 224, stem="7x7")


# ---- MoCo v1 and v2: facebookresearch/moco, moco/builder.py and main_moco.py. Buffers of the whole come first.


def moco(folder: Path, g: torch.Generator, fc: nn.Module, **options: Any) -> Made:
    net = residual(18, g)
    queries = joined(_=net, fc=drawn(fc, g))
    keys = joined(_=moved(net, g), fc=moved(fc, g))
    queue = nn.functional.normalize(torch.randn(128, 256, generator=g), dim=0)
    state = OrderedDict(queue=queue, queue_ptr=torch.zeros(1, dtype=torch.long))
    state = with_prefix("module.", state | joined(encoder_q=queries, encoder_k=keys))
    value = {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": sgd(state)}
    return Made(saved(value, folder / "checkpoint_0199.pth.tar", **options), given(net), 224, stem="7x7")


@layout
def moco_v1(folder: Path) -> Made:
    return moco(folder, seeded("moco_v1"), nn.Linear(512, 128), **LEGACY)


@layout
def moco_v2(folder: Path) -> Made:
    return moco(folder, seeded("moco_v2"), nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)))


# ---- MoCo v3: facebookresearch/moco-v3, moco/builder.py, main_moco.py and vits.py. Its vit_small has 12 heads of
# width 32 and fixed sine-cosine positions; of the two encoders its own evaluation (main_lincls.py) takes
# base_encoder.


def moco_v3(folder: Path, g: torch.Generator, net: nn.Module, head: str, arch: str) -> Path:
    widths = (2048, 64, 32) if head == "fc" else (384, 64, 64, 32)
    top = drawn(mlp(*widths, bias=False, last_norm=False), g)
    predictor = drawn(mlp(32, 64, 32, bias=False, last_norm=False), g)
    base, momentum = joined(_=net, **{head: top}), joined(_=moved(net, g), **{head: moved(top, g)})
    parts = joined(base_encoder=base, momentum_encoder=momentum, predictor=predictor)
    state = with_prefix("module.", parts)
    optimizer = sgd(state) if head == "fc" else adamw(state)
    value = {"epoch": 300, "arch": arch, "state_dict": state, "optimizer": optimizer, "scaler": SCALER}
    return saved(value, folder / "checkpoint_0299.pth.tar")


@layout
def moco_v3_resnet50(folder: Path) -> Made:
    net = residual(50, g := seeded("moco_v3_resnet50"))
    return Made(moco_v3(folder, g, net, "fc", "resnet50"), given(net), 224, stem="7x7")


UNTOLD["moco_v3_vit_small"] = "12 heads of width 32, where timm's and DINO's ViT-S of the same shapes has 6 of width 64"


@layout
def moco_v3_vit_small(folder: Path) -> Made:
    net = at_waves(drawn(Vit(384, heads=12), g := seeded("moco_v3_vit_small")))
    return Made(moco_v3(folder, g, net, "head", "vit_small"), given(net), 224)


# ---- SwAV: facebookresearch/swav, src/resnet50.py, main_swav.py (wrapper), hubconf.py and eval_linear.py (the
# published file is a bare state dict with module.). Its padding layer has no parameters: keys are torchvision's.


def swav(g: torch.Generator) -> tuple[nn.Module, State]:
    net = padded(50, g)
    head, prototypes = drawn(mlp(2048, 128, 64), g), drawn(nn.Linear(64, 300, bias=False), g)
    return net, with_prefix("module.", joined(_=net, projection_head=head, prototypes=prototypes))


@layout
def swav_published(folder: Path) -> Made:
    net, state = swav(seeded("swav_published"))
    return Made(saved(state, folder / "swav_800ep_pretrain.pth.tar", **LEGACY), on_padding(net), 224, stem="7x7")


@layout
def swav_checkpoint(folder: Path) -> Made:
    net, state = swav(seeded("swav_checkpoint"))
    amp = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 5}}
    value = {"epoch": 400, "state_dict": state, "optimizer": sgd(state), "amp": amp}
    return Made(saved(value, folder / "ckp-399.pth"), on_padding(net), 224, stem="7x7")


# ---- BYOL. lucidrains/byol-pytorch, byol_pytorch/byol_pytorch.py: state dict of its BYOL, where net and
# online_encoder.net are the same tensors. sthalles/PyTorch-BYOL, trainer.py and models/resnet_base_network.py: the
# net's children by number, and a misspelt projetion. open-mmlab/mmselfsup, mmselfsup/models/algorithms/byol.py:
# target_net averages a Sequential of backbone and neck; of it extract_feat takes backbone.


@layout
def byol_lucidrains(folder: Path) -> Made:
    g = seeded("byol_lucidrains")
    net = residual(18, g)
    fc, projector = drawn(nn.Linear(512, 1000), g), drawn(mlp(512, 64, 32), g)
    whole = joined(_=net, fc=fc)
    online = joined(net=whole, projector=projector)
    target = joined(net=joined(_=moved(net, g), fc=moved(fc, g)), projector=moved(projector, g))
    predictor = drawn(mlp(32, 64, 32), g)
    state = joined(net=whole, online_encoder=online, target_encoder=target, online_predictor=predictor)
    return Made(saved(state, folder / "byol.pt"), given(net), 224, stem="7x7")


CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered(net: nn.Module) -> State:
    """A ResNet's state dict by the numbers of its children, as of a Sequential of them."""
    state: State = OrderedDict()
    for key, x in net.state_dict().items():
        child, rest = key.split(".", 1)
        state[f"{CHILDREN[child]}.{rest}"] = x
    return state


@layout
def byol_sthalles(folder: Path) -> Made:
    g = seeded("byol_sthalles")
    net, head = residual(18, g), drawn(nn.ModuleDict({"net": mlp(512, 64, 32)}), g)
    online = joined(encoder=numbered(net), projetion=head)
    value = {
        "online_network_state_dict": online,
        "encoder_state_dict": numbered(net),
        "target_network_state_dict": joined(encoder=numbered(moved(net, g)), projetion=moved(head, g)),
        "optimizer_state_dict": sgd(online),
    }
    return Made(saved(value, folder / "model.pth"), given(net), 224, stem="7x7")


def neck(g: torch.Generator, *widths: int) -> nn.Module:
    layers = [nn.Linear(widths[0], widths[1]), nn.BatchNorm1d(widths[1]), nn.Linear(widths[1], widths[2])]
    return drawn(nn.ModuleDict(dict(zip(("fc0", "bn0", "fc1"), layers, strict=True))), g)


def mmselfsup(g: torch.Generator) -> tuple[nn.Module, State]:
    net, top = residual(18, g), neck(g, 512, 64, 32)
    target = {"steps": torch.tensor(1000)} | joined(module=joined(**{"0": moved(net, g), "1": moved(top, g)}))
    state = joined(backbone=net, neck=top, head=joined(predictor=neck(g, 32, 64, 32)), target_net=target)
    return net, state


META = {"epoch": 200, "iter": 1000, "mmengine_version": "0.7.0", "time": "20230101_000000", "seed": 0}


@layout
def byol_mmselfsup(folder: Path) -> Made:
    net, state = mmselfsup(seeded("byol_mmselfsup"))
    value = {"meta": META, "state_dict": state, "optimizer": sgd(state)}
    return Made(saved(value, folder / "epoch_200.pth"), given(net), 224, stem="7x7")


NUMPY = "numpy._core" if hasattr(np, "_core") else "numpy.core"
FOREIGN["byol_mmselfsup_training"] = {
    *(
        "mmengine.logging.history_buffer.HistoryBuffer",
        f"{NUMPY}.multiarray._reconstruct",
        "numpy.ndarray",
        "numpy.dtype",
    ),
}


@layout
def byol_mmselfsup_training(folder: Path) -> Made:
    """As mmengine's runner writes it (mmengine/runner/runner.py): histories of losses are objects of mmengine's own."""
    net, state = mmselfsup(seeded("byol_mmselfsup_training"))
    history = HistoryBuffer()
    history._log_history, history._count_history = np.array([0.5, 0.4]), np.array([1, 1])
    hub = {"log_scalars": OrderedDict({"train/loss": history}), "runtime_info": {"epoch": 200}, "resumed_keys": {}}
    value = {"meta": META, "state_dict": state, "message_hub": hub, "optimizer": sgd(state)}
    with strangers():
        return Made(saved(value, folder / "epoch_200.pth"), given(net), 224, stem="7x7")


# ---- DINO: facebookresearch/dino, main_dino.py (wrapper; only the student of a ViT is under DDP, both of a ResNet
# are), utils.py (MultiCropWrapper: backbone and head), vision_transformer.py, hubconf.py (published files are bare
# backbones). Its eval_knn.py takes the teacher.


def dino_args(arch: str) -> Namespace:
    return Namespace(arch=arch, patch_size=16, out_dim=64, momentum_teacher=0.996, use_fp16=True, data_path="/data")


def dino(folder: Path, g: torch.Generator, net: nn.Module, arch: str) -> Path:
    width = 384 if arch == "vit_small" else 512
    head = drawn(DINOHead(width), g)
    teacher = joined(backbone=net, head=head)
    student = with_prefix("module.", joined(backbone=moved(net, g), head=moved(head, g)))
    value = {
        "student": student,
        "teacher": teacher if arch == "vit_small" else with_prefix("module.", teacher),
        "optimizer": adamw(student),
        "epoch": 100,
        "args": dino_args(arch),
        "dino_loss": {"center": torch.randn(1, 64, generator=g)},
        "fp16_scaler": SCALER,
    }
    return saved(value, folder / "checkpoint.pth")


FOREIGN["dino_vit_checkpoint"] = FOREIGN["dino_resnet_checkpoint"] = {"argparse.Namespace"}


@layout
def dino_vit_checkpoint(folder: Path) -> Made:
    net = drawn(Vit(384), g := seeded("dino_vit_checkpoint"))
    return Made(dino(folder, g, net, "vit_small"), given(net), 224)


@layout
def dino_resnet_checkpoint(folder: Path) -> Made:
    net = residual(18, g := seeded("dino_resnet_checkpoint"))
    return Made(dino(folder, g, net, "resnet18"), given(net), 224, stem="7x7")


@layout
def dino_vit_published(folder: Path) -> Made:
    net = drawn(Vit(384), seeded("dino_vit_published"))
    return Made(saved(net.state_dict(), folder / "dino_deitsmall16_pretrain.pth"), given(net), 224)


@layout
def dino_resnet_published(folder: Path) -> Made:
    net = residual(50, seeded("dino_resnet_published"))
    return Made(saved(net.state_dict(), folder / "dino_resnet50_pretrain.pth"), given(net), 224, stem="7x7")


# ---- DINOv2: facebookresearch/dinov2, dinov2/models/vision_transformer.py (names, registers, chunks of blocks which
# keep their indices), dinov2/train/train.py (do_test: {"teacher": ...}), dinov2/train/ssl_meta_arch.py (backbone,
# dino_head). Published files have 37 x 37 positions; those in training have the crops' 16 x 16.


@layout
def dinov2(folder: Path) -> Made:
    net = drawn(Vit(384, grid=37, patch=14, dinov2=True), seeded("dinov2"))
    return Made(saved(net.state_dict(), folder / "dinov2_vits14_pretrain.pth"), given(net), 518)


@layout
def dinov2_registers(folder: Path) -> Made:
    net = drawn(Vit(384, grid=37, patch=14, dinov2=True, registers=4), seeded("dinov2_registers"))
    return Made(saved(net.state_dict(), folder / "dinov2_vits14_reg4_pretrain.pth"), given(net), 518)


def chunked(state: State, size: int) -> State:
    """The state dict with block N under its chunk: blocks.C.N."""
    found: State = OrderedDict()
    for key, x in state.items():
        parts = key.split(".")
        if parts[0] == "blocks":
            parts.insert(1, str(int(parts[1]) // size))
        found[".".join(parts)] = x
    return found


def dinov2_teacher(g: torch.Generator, net: nn.Module, size: int | None) -> State:
    state = net.state_dict()
    head = drawn(DINOHead(384), g)
    return joined(backbone=chunked(state, size) if size else state, dino_head=head, ibot_head=moved(head, g))


@layout
def dinov2_teacher_checkpoint(folder: Path) -> Made:
    net = drawn(Vit(384, grid=16, patch=14, dinov2=True), g := seeded("dinov2_teacher_checkpoint"))
    value = {"teacher": dinov2_teacher(g, net, None)}
    return Made(saved(value, folder / "teacher_checkpoint.pth"), given(net), 224)


@layout
def dinov2_teacher_chunked(folder: Path) -> Made:
    net = drawn(Vit(384, grid=16, patch=14, dinov2=True), g := seeded("dinov2_teacher_chunked"))
    value = {"teacher": dinov2_teacher(g, net, 3)}  # block_chunks: 4
    return Made(saved(value, folder / "teacher_checkpoint.pth"), given(net), 224)


# ---- Barlow Twins: facebookresearch/barlowtwins, main.py. VICReg: facebookresearch/vicreg, main_vicreg.py and
# resnet.py. Both save DDP's state dict and, at the end, the bare backbone; their LARS keeps a function of the script
# in its groups.


def lars(state: State) -> dict[str, Any]:
    return sgd(state, weight_decay_filter=exclude_bias_and_norm, lars_adaptation_filter=exclude_bias_and_norm)


FOREIGN["barlow_twins_checkpoint"] = FOREIGN["vicreg_checkpoint"] = {"__main__.exclude_bias_and_norm"}


@layout
def barlow_twins_checkpoint(folder: Path) -> Made:
    net = residual(50, g := seeded("barlow_twins_checkpoint"))
    projector = drawn(mlp(2048, 64, 64, 64, bias=False), g)
    bn = drawn(nn.BatchNorm1d(64, affine=False), g)
    state = with_prefix("module.", joined(backbone=net, projector=projector, bn=bn))
    value = {"epoch": 1000, "model": state, "optimizer": lars(state)}
    with strangers():
        return Made(saved(value, folder / "checkpoint.pth"), given(net), 224, stem="7x7")


@layout
def barlow_twins_published(folder: Path) -> Made:
    net = residual(50, seeded("barlow_twins_published"))
    return Made(saved(net.state_dict(), folder / "resnet50.pth"), given(net), 224, stem="7x7")


@layout
def vicreg_checkpoint(folder: Path) -> Made:
    net = padded(18, g := seeded("vicreg_checkpoint"))
    projector = drawn(mlp(512, 64, 64, 64), g)
    projector[6].bias = None
    state = with_prefix("module.", joined(backbone=net, projector=projector))
    value = {"epoch": 100, "model": state, "optimizer": lars(state)}
    with strangers():
        return Made(saved(value, folder / "model.pth"), on_padding(net), 224, stem="7x7")


@layout
def vicreg_published(folder: Path) -> Made:
    net = padded(50, seeded("vicreg_published"))
    return Made(saved(net.state_dict(), folder / "resnet50.pth"), on_padding(net), 224, stem="7x7")


# ---- SimCLR: sthalles/SimCLR, models/resnet_simclr.py and simclr.py; tonylins/simclr-converter, convert.py.


@layout
def simclr_sthalles(folder: Path) -> Made:
    g = seeded("simclr_sthalles")
    net, fc = residual(18, g), drawn(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128)), g)
    state = joined(backbone=joined(_=net, fc=fc))
    value = {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": adamw(state)}
    return Made(saved(value, folder / "checkpoint_0200.pth.tar"), given(net), 224, stem="7x7")


@layout
def simclr_converted(folder: Path) -> Made:
    net = residual(50, g := seeded("simclr_converted"))
    value = {"state_dict": joined(_=net, fc=drawn(nn.Linear(2048, 1000), g))}
    return Made(saved(value, folder / "resnet50-1x.pth", **LEGACY), given(net), 224, stem="7x7")


# ---- lightly: lightly-ai/lightly, examples/pytorch_lightning/byol.py (the net's children by number, a momentum copy)
# and benchmarks/imagenet/resnet50/simclr.py (a net with its names); heads are lightly/models/modules/heads.py's
# layers.


def lightly_head(g: torch.Generator, *widths: int) -> nn.Module:
    return drawn(nn.ModuleDict({"layers": mlp(*widths)}), g)


@layout
def lightly_example(folder: Path) -> Made:
    net = residual(18, g := seeded("lightly_example"))
    head, predictor = lightly_head(g, 512, 64, 32), lightly_head(g, 32, 64, 32)
    state = joined(backbone=numbered(net), projection_head=head, prediction_head=predictor)
    state |= joined(backbone_momentum=numbered(moved(net, g)), projection_head_momentum=moved(head, g))
    return Made(saved(lightning(state), folder / "epoch=9-step=1950.ckpt"), given(net), 224, stem="7x7")


@layout
def lightly_benchmark(folder: Path) -> Made:
    net = residual(50, g := seeded("lightly_benchmark"))
    classifier = drawn(nn.ModuleDict({"classification_head": nn.Linear(2048, 1000)}), g)
    state = joined(backbone=net, projection_head=lightly_head(g, 2048, 64, 32), online_classifier=classifier)
    extra = {"hparams_name": "kwargs", "hyper_parameters": {"batch_size_per_device": 128, "num_classes": 1000}}
    return Made(saved(lightning(state, **extra), folder / "last.ckpt"), given(net), 224, stem="7x7")


# ---- solo-learn: vturrisi/solo-learn, solo/methods/base.py (backbone, classifier, momentum_backbone; for CIFAR a 3x3
# stem that pads two, without max pooling) and solo/methods/byol.py (projectors, predictor).


def solo_learn(folder: Path, g: torch.Generator, net: nn.Module) -> Path:
    projector = drawn(mlp(512, 64, 32), g)
    state = joined(backbone=net, classifier=drawn(nn.Linear(512, 10), g), momentum_backbone=moved(net, g))
    state |= joined(projector=projector, momentum_projector=moved(projector, g), predictor=drawn(mlp(32, 64, 32), g))
    return saved(lightning(state), folder / "byol-cifar10-32brzx9a-ep=999.ckpt")


@layout
def solo_learn_imagenet(folder: Path) -> Made:
    net = residual(18, g := seeded("solo_learn_imagenet"))
    return Made(solo_learn(folder, g, net), given(net), 224, stem="7x7")


@layout
def solo_learn_early(folder: Path) -> Made:
    """Of its release 1.0.2, whose backbone was named encoder."""
    net = residual(18, g := seeded("solo_learn_early"))
    state = joined(encoder=net, classifier=drawn(nn.Linear(512, 100), g), momentum_encoder=moved(net, g))
    projector = drawn(mlp(512, 64, 32), g)
    state |= joined(projector=projector, momentum_projector=moved(projector, g), predictor=drawn(mlp(32, 64, 32), g))
    return Made(saved(lightning(state), folder / "byol-imagenet100-3rvu1bpx-ep=399.ckpt"), given(net), 224, stem="7x7")


UNTOLD["solo_learn_cifar"] = "the 3x3 stem pads 2 pixels, not 1, so that 32 pixels become 34"


@layout
def solo_learn_cifar(folder: Path) -> Made:
    net = residual(18, g := seeded("solo_learn_cifar"), stem="3x3", padding=2)
    return Made(solo_learn(folder, g, net), given(net), 32, stem="3x3")


# ---- stable-pretraining: rbalestr-lab/stable-pretraining, stable_pretraining/methods/simclr.py and byol.py
# (backbone, projector), backbone/utils.py (TeacherStudentWrapper: buffers, student, teacher; from_timm: a 3x3 stem
# that pads one) and module.py (callbacks_modules first, hyper_parameters). With a teacher, the embedding that it
# evaluates is the teacher's.

WORKING_DIR = {"hparams_name": None, "hyper_parameters": {"system.working_dir": "/runs/0"}}


@layout
def stable_pretraining_simclr(folder: Path) -> Made:
    net = residual(18, g := seeded("stable_pretraining_simclr"), stem="3x3")
    probe = joined(linear_probe=drawn(nn.Linear(512, 10), g))
    state = joined(
        callbacks_modules=probe, backbone=net, projector=drawn(mlp(512, 64, 32, bias=False, last_norm=True), g)
    )
    return Made(saved(lightning(state, **WORKING_DIR), folder / "last.ckpt"), given(net), 32, stem="3x3")


def wrapped(teacher: nn.Module, g: torch.Generator) -> State:
    buffers = {key: torch.tensor(0.99) for key in ("base_ema_coefficient", "final_ema_coefficient", "ema_coefficient")}
    return OrderedDict(buffers) | joined(student=moved(teacher, g), teacher=teacher)


@layout
def stable_pretraining_byol(folder: Path) -> Made:
    net = drawn(Vit(192), g := seeded("stable_pretraining_byol"))
    projector, predictor = drawn(mlp(192, 64, 32), g), drawn(mlp(32, 64, 32), g)
    state = joined(backbone=wrapped(net, g), projector=wrapped(projector, g), predictor=predictor)
    return Made(saved(lightning(state, **WORKING_DIR), folder / "last.ckpt"), given(net), 224)


# ---- lightly-train: lightly-ai/lightly-train, src/lightly_train/_checkpoint.py (state_dict, and whole modules under
# lightly_train), _models/embedding_model.py, _models/torchvision/resnet.py (_features: layers up to layer4),
# _models/timm/timm.py (_model) and timm_package.py (exports a bare state dict), _methods/simclr/simclr.py and
# dino/dino.py.

FOREIGN["lightly_train_checkpoint"] = {
    f"{thing.__module__}.{thing.__qualname__}"
    for thing in (
        *(EmbeddingModel, ResNetModelWrapper, torchvision.models.ResNet, torchvision.models.resnet.BasicBlock),
        *(nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Linear),
        *(nn.Sequential, IntermediateLayerGetter),
    )
}


def lightly_train(state: State, **models: nn.Module) -> dict[str, Any]:
    normalize = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    mine = {"version": "0.6.0", "date": "2025-01-01T00:00:00+00:00", "models": models, "normalize_args": normalize}
    return lightning(state, lightly_train={**mine, "license_info": None})


@layout
def lightly_train_checkpoint(folder: Path) -> Made:
    net = residual(18, g := seeded("lightly_train_checkpoint"))
    state = joined(
        embedding_model=joined(wrapped_model=joined(_features=net)), projection_head=lightly_head(g, 512, 64, 32)
    )
    model = torchvision.models.resnet18()
    model.fc = drawn(nn.Linear(512, 1000), g)
    model.load_state_dict(joined(_=net, fc=model.fc))
    wrapper, embedding = ResNetModelWrapper(), EmbeddingModel()
    wrapper._model, wrapper._pool = [model], model.avgpool
    wrapper._features = IntermediateLayerGetter(model, {f"layer{i + 1}": str(i) for i in range(4)})
    embedding.wrapped_model, embedding.embed_head = wrapper, nn.Identity()
    with strangers():
        value = lightly_train(state, model=model, wrapped_model=wrapper, embedding_model=embedding)
        return Made(saved(value, folder / "last.ckpt"), given(net), 224, stem="7x7")


@layout
def lightly_train_dino_weights(folder: Path) -> Made:
    """The state dict of its DINO with a timm ViT, in Lightning's wrapper without the whole modules."""
    net = drawn(Vit(192), g := seeded("lightly_train_dino_weights"))
    head = drawn(DINOHead(192, "layers"), g)
    models = {"teacher": (net, head), "student": (moved(net, g), moved(head, g))}
    state: State = OrderedDict()
    for who, (encoder, top) in models.items():
        vit = joined(_=encoder, head=drawn(nn.Linear(192, 1000), g))
        names = {f"{who}_embedding_model.wrapped_model._model": vit, f"{who}_projection_head": top}
        state |= joined(**names)
    return Made(saved(lightning(state), folder / "last.ckpt"), given(net), 224)


@layout
def lightly_train_exported(folder: Path) -> Made:
    net = residual(18, g := seeded("lightly_train_exported"))
    state = joined(_=net, fc=drawn(nn.Linear(512, 1000), g))
    return Made(saved(state, folder / "exported_models" / "exported_last.pt"), given(net), 224, stem="7x7")


# ---- timm: huggingface/pytorch-image-models, by the installed timm itself (timm/utils/checkpoint_saver.py, train.py;
# load_state_dict of timm/models/_helpers.py prefers state_dict_ema).


def timm_model(name: str, g: torch.Generator) -> tuple[nn.Module, Features]:
    model = calm(drawn(timm.create_model(name), g))

    def features(x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.forward_head(model.forward_features(x), pre_logits=True)

    return model, features


@layout
def timm_resnet(folder: Path) -> Made:
    model, features = timm_model("resnet18", seeded("timm_resnet"))
    return Made(saved(model.state_dict(), folder / "resnet18.pth"), features, 224, stem="7x7")


@layout
def timm_resnet_safetensors(folder: Path) -> Made:
    model, features = timm_model("resnet18", seeded("timm_resnet_safetensors"))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return Made(folder / "model.safetensors", features, 224, stem="7x7")


@layout
def timm_vit(folder: Path) -> Made:
    model, features = timm_model("vit_tiny_patch16_224", seeded("timm_vit"))
    return Made(saved(model.state_dict(), folder / "vit_tiny.pth"), features, 224)


FOREIGN["timm_train"] = {"argparse.Namespace"}


@layout
def timm_train(folder: Path) -> Made:
    average, features = timm_model("resnet18", g := seeded("timm_train"))
    model, ema = moved(average, g), ModelEmaV3(average)
    args = Namespace(model="resnet18", opt="sgd", lr=0.05, epochs=300, data_dir="/data", model_ema=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    folder.mkdir(parents=True, exist_ok=True)
    saver = CheckpointSaver(
        model, optimizer, args=args, model_ema=ema, checkpoint_dir=str(folder), recovery_dir=str(folder), max_history=1
    )
    saver.save_checkpoint(0, metric=70.0)
    return Made(folder / "last.pth.tar", features, 224, stem="7x7")


# ---- torchvision: pytorch/vision, torchvision/models/resnet.py and vision_transformer.py, by the installed
# torchvision.


@layout
def torchvision_resnet(folder: Path) -> Made:
    net = residual(18, g := seeded("torchvision_resnet"))
    state = joined(_=net, fc=drawn(nn.Linear(512, 1000), g))
    return Made(saved(state, folder / "resnet18-f37072fd.pth"), given(net), 224, stem="7x7")


@layout
def torchvision_vit(folder: Path) -> Made:
    sizes = {"image_size": 96, "patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
    net = drawn(torchvision.models.VisionTransformer(**sizes), seeded("torchvision_vit"))
    path = saved(net.state_dict(), folder / "vit.pth")
    net.heads = nn.Identity()
    return Made(path, given(net), 96)


# ---- Hugging Face: huggingface/transformers, src/transformers/models/vit/modeling_vit.py, dinov2/modeling_dinov2.py,
# dinov2_with_registers/modeling_dinov2_with_registers.py, and modeling_utils.py (shards and their index). Heads and
# the norms' epsilon are in config.json; that of ViT is 1e-12.

HF = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
HF_VIT = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
HF_DINOV2 = {
    **{name: name for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")},
    "attn.proj": "attention.output.dense",
    "ls1": "layer_scale1",
    "ls2": "layer_scale2",
}


def hf(state: State, names: Mapping[str, str]) -> State:
    """A ViT's state dict by transformers' names, with one linear layer each for queries, keys and values."""
    found: State = OrderedDict()
    for key, x in state.items():
        name, leaf = key.rsplit(".", 1) if "." in key else (key, "")
        if name in HF:
            found[f"{HF[name]}.{leaf}".rstrip(".")] = x
            continue
        _, block, name = name.split(".", 2)
        leaf = "lambda1" if leaf == "gamma" else leaf
        if name == "attn.qkv":
            for part, y in zip(("query", "key", "value"), x.chunk(3), strict=True):
                found[f"encoder.layer.{block}.attention.attention.{part}.{leaf}"] = y.clone()
        else:
            found[f"encoder.layer.{block}.{names[name]}.{leaf}"] = x
    return found


def hf_config(folder: Path, kind: str, architecture: str, vit: Vit, **extra: Any) -> None:
    width, patch = vit.norm.weight.numel(), vit.patch_embed.proj.kernel_size[0]
    config = {
        "architectures": [architecture],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_size": width,
        "image_size": patch * math.isqrt(vit.pos_embed.shape[1] - 1),
        "layer_norm_eps": vit.norm.eps,
        "model_type": kind,
        "num_attention_heads": width // 64,
        "num_channels": 3,
        "num_hidden_layers": len(vit.blocks),
        "patch_size": patch,
        "qkv_bias": True,
        "torch_dtype": "float32",
        **extra,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def hf_whole(folder: Path, state: State) -> None:
    save_file(
        {key: x.contiguous() for key, x in state.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )


def hf_shards(folder: Path, state: State, stem: str, end: str) -> None:
    """Two shards of a state dict and the index of them."""
    keys = list(state)
    places = [f"{stem}-{i:05d}-of-00002.{end}" for i in (1, 2)]
    half = len(keys) // 2
    for place, some in zip(places, (keys[:half], keys[half:]), strict=True):
        shard = {key: state[key].clone() for key in some}
        if end == "bin":
            torch.save(shard, folder / place)
        else:
            save_file(shard, folder / place, metadata={"format": "pt"})
    size = sum(x.numel() * x.element_size() for x in state.values())
    where = {key: places[i >= half] for i, key in enumerate(keys)}
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index, indent=2))


def hf_vit(folder: Path, name: str, architecture: str) -> tuple[Vit, State]:
    vit = drawn(Vit(192, eps=1e-12), seeded(name))
    labels = {str(i): f"LABEL_{i}" for i in range(10)} if "Classification" in architecture else {}
    extra = {"id2label": labels, "label2id": {label: int(i) for i, label in labels.items()}} if labels else {}
    hf_config(folder, "vit", architecture, vit, intermediate_size=768, **extra)
    return vit, hf(vit.state_dict(), HF_VIT)


@layout
def huggingface_vit(folder: Path) -> Made:
    vit, state = hf_vit(folder, "huggingface_vit", "ViTModel")
    hf_whole(folder, state | joined(pooler=joined(dense=drawn(nn.Linear(192, 192), seeded("pooler")))))
    return Made(folder, given(vit), 224)


@layout
def huggingface_vit_sharded(folder: Path) -> Made:
    """A ViTForImageClassification, whose encoder has the prefix vit."""
    vit, state = hf_vit(folder, "huggingface_vit_sharded", "ViTForImageClassification")
    state = joined(vit=state, classifier=drawn(nn.Linear(192, 10), seeded("classifier")))
    hf_shards(folder, state, "model", "safetensors")
    return Made(folder, given(vit), 224)


@layout
def huggingface_vit_sharded_bin(folder: Path) -> Made:
    vit, state = hf_vit(folder, "huggingface_vit_sharded_bin", "ViTModel")
    hf_shards(folder, state, "pytorch_model", "bin")
    return Made(folder, given(vit), 224)


DINOV2 = {"mlp_ratio": 4, "layerscale_value": 1.0, "use_swiglu_ffn": False, "drop_path_rate": 0.0}


@layout
def huggingface_dinov2(folder: Path) -> Made:
    vit = drawn(Vit(384, grid=37, patch=14, dinov2=True), seeded("huggingface_dinov2"))
    hf_config(folder, "dinov2", "Dinov2Model", vit, **DINOV2)
    hf_whole(folder, hf(vit.state_dict(), HF_DINOV2))
    return Made(folder, given(vit), 518)


@layout
def huggingface_dinov2_registers(folder: Path) -> Made:
    vit = drawn(Vit(384, grid=37, patch=14, dinov2=True, registers=4), seeded("huggingface_dinov2_registers"))
    hf_config(folder, "dinov2_with_registers", "Dinov2WithRegistersModel", vit, num_register_tokens=4, **DINOV2)
    hf_whole(folder, hf(vit.state_dict(), HF_DINOV2))
    return Made(folder, given(vit), 518)


# ---- torch.compile: pytorch/pytorch, torch/_dynamo/eval_frame.py (OptimizedModule keeps the model as _orig_mod);
# within DDP or around it. Half precision: a state dict of bfloat16, whose source model has the rounded weights in
# float32.


@layout
def compiled_within_ddp(folder: Path) -> Made:
    net = residual(18, g := seeded("compiled_within_ddp"))
    state = joined(backbone=net, projector=drawn(mlp(512, 64, 32), g))
    value = {"model": with_prefix("module._orig_mod.", state), "epoch": 7}
    return Made(saved(value, folder / "checkpoint.pt"), given(net), 224, stem="7x7")


@layout
def compiled_around_ddp(folder: Path) -> Made:
    net = drawn(Vit(192), seeded("compiled_around_ddp"))
    value = {"model": with_prefix("_orig_mod.module.", net.state_dict()), "epoch": 7}
    return Made(saved(value, folder / "checkpoint.pt"), given(net), 224)


@layout
def bfloat16_weights(folder: Path) -> Made:
    net = drawn(Vit(192), seeded("bfloat16_weights"))
    state = OrderedDict((key, x.bfloat16()) for key, x in net.state_dict().items())
    net.load_state_dict(state)
    return Made(saved(state, folder / "model.pt"), given(net), 224)


# ---- MAE: facebookresearch/mae, models_mae.py, util/misc.py (save_model) and main_pretrain.py. The smallest official
# arch is a ViT-B; this has the width of a ViT-Ti, its heads' width is the official 64. Its own evaluation takes the
# class token (main_linprobe.py) or, for fine-tuning, the mean of patches; the class token is given here.

FOREIGN["mae_checkpoint"] = {"argparse.Namespace"}


@layout
def mae_checkpoint(folder: Path) -> Made:
    net = at_waves(drawn(Vit(192), g := seeded("mae_checkpoint")))
    decoder = drawn(Vit(64, heads=1, depth=2), g)
    state = net.state_dict()
    tokens = OrderedDict((key, state.pop(key)) for key in ("cls_token", "pos_embed"))
    tokens |= {"mask_token": torch.randn(1, 1, 64, generator=g), "decoder_pos_embed": waves(64, 14)}
    parts = {"embed": nn.Linear(192, 64), "blocks": decoder.blocks, "norm": decoder.norm, "pred": nn.Linear(64, 768)}
    state = tokens | state | joined(**{f"decoder_{name}": drawn(part, g) for name, part in parts.items()})
    args = Namespace(model="mae_vit_base_patch16", input_size=224, mask_ratio=0.75, norm_pix_loss=True, epochs=800)
    value = {"model": state, "optimizer": adamw(state), "epoch": 799, "scaler": SCALER, "args": args}
    return Made(saved(value, folder / "checkpoint-799.pth"), given(net), 224)


@layout
def mae_published(folder: Path) -> Made:
    net = at_waves(drawn(Vit(192), seeded("mae_published")))
    return Made(saved({"model": net.state_dict()}, folder / "mae_pretrain_vit.pth"), given(net), 224)


# ---- files that have to be refused


class Runs:
    """A pickle of this writes ran.txt beside its file, wherever it is executed."""

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "ran.txt"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo ran > {shlex.quote(str(self.marker))}",)


def plain(name: str) -> State:
    return residual(18, seeded(name)).state_dict()


def running(folder: Path, name: str, **options: Any) -> Path:
    """True weights with something to execute beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {"epoch": 1, "state_dict": plain(name), "args": Runs(folder.resolve())}
    return saved(value, folder / name, **options)


@hostile
def runs_pt(folder: Path) -> Path:
    return running(folder, "model.pt")


@hostile
def runs_legacy_tar(folder: Path) -> Path:
    return running(folder, "checkpoint.pth.tar", **LEGACY)


@hostile
def runs_ckpt(folder: Path) -> Path:
    return running(folder, "last.ckpt")


@hostile
def runs_bin(folder: Path) -> Path:
    """A folder of Hugging Face's whose one file of weights is a pickle of something to execute, and no more."""
    vit = Vit(192, eps=1e-12)
    hf_config(folder, "vit", "ViTModel", vit, intermediate_size=768)
    saved(Runs(folder.resolve()), folder / "pytorch_model.bin")
    return folder


@hostile
def truncated_zip(folder: Path) -> Path:
    path = saved(plain("truncated_zip"), folder / "model.pth")
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    return path


def safetensors_of(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), folder / "model.safetensors")
    return folder / "model.safetensors"


@hostile
def truncated_safetensors(folder: Path) -> Path:
    path = safetensors_of(folder, plain("truncated_safetensors"))
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    return path


@hostile
def endless_safetensors(folder: Path) -> Path:
    """A header that claims 2**60 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b'{"conv1.weight":{}}' + bytes(64))
    return path


@hostile
def not_a_number(folder: Path) -> Path:
    state = plain("not_a_number")
    state["layer2.1.conv2.weight"][3, 1, 1, 1] = math.nan
    return saved({"state_dict": state}, folder / "model.pth")


@hostile
def infinite_statistics(folder: Path) -> Path:
    state = plain("infinite_statistics")
    state["layer4.0.bn2.running_var"][7] = math.inf
    return saved({"state_dict": state}, folder / "model.pth")


@hostile
def wrong_width(folder: Path) -> Path:
    state = plain("wrong_width")
    state["layer3.0.conv1.weight"] = torch.randn(200, 128, 3, 3, generator=seeded("wrong"))
    return saved(state, folder / "resnet18.pth")


@hostile
def missing_block(folder: Path) -> Path:
    state = drawn(Vit(192), seeded("missing_block")).state_dict()
    state = OrderedDict((key, x) for key, x in state.items() if not key.startswith("blocks.5."))
    return saved(state, folder / "vit.pth")


@hostile
def missing_layer(folder: Path) -> Path:
    state = plain("missing_layer")
    del state["layer2.0.bn1.running_mean"]
    return saved(state, folder / "resnet18.pth")


@hostile
def empty_dict(folder: Path) -> Path:
    return saved({}, folder / "empty.pt")


@hostile
def optimizer_alone(folder: Path) -> Path:
    return saved(sgd(plain("optimizer_alone")), folder / "optimizer.pt")


@hostile
def missing_shard(folder: Path) -> Path:
    _, state = hf_vit(folder, "missing_shard", "ViTModel")
    hf_shards(folder, state, "model", "safetensors")
    (folder / "model-00002-of-00002.safetensors").unlink()
    return folder


@hostile
def shard_outside(folder: Path) -> Path:
    """An index that names a true file two folders above its own."""
    inner = folder / "deep" / "model"
    _, state = hf_vit(inner, "shard_outside", "ViTModel")
    hf_shards(inner, state, "model", "safetensors")
    (inner / "model-00002-of-00002.safetensors").rename(folder / "outside.safetensors")
    index = inner / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002-of-00002", "../../outside"))
    return inner


@hostile
def plain_text(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pth").write_text("version https://git-lfs.github.com/spec/v1\nsize 102530333\n")
    return folder / "model.pth"


@hostile
def text_transformer(folder: Path) -> Path:
    """BERT's names: blocks of attention and no convolution."""
    vit = drawn(Vit(192, depth=2), seeded("text_transformer"))
    state = {key: x for key, x in hf(vit.state_dict(), HF_VIT).items() if key.startswith("encoder.")}
    words = drawn(nn.Embedding(1000, 192), seeded("words"))
    return saved({"embeddings.word_embeddings.weight": words.weight.data, **state}, folder / "pytorch_model.bin")
