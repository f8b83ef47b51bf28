"""Vision transformers by timm's names, as DINO's family of codes has them too: their sizes are told from shapes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...core.backbones import Backbone
from ...recipes.schema import Value
from .layout import USUAL_HEADS, Fit, Layout, State, Unknown, numbered

OF_NET = re.compile(r"(cls_token|pos_embed|reg_token|patch_embed\.|blocks\.|norm\.|fc_norm\.)")
CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")  # of blocks that lie in chunks, by their own numbers
HEAD = 64  # channels of a head: what nearly every net has, and shapes do not tell
HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # of So400m, H, g and G, by their channels
NAMES = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224",
         1024: "vit_large_patch16_224"}  # fmt: skip
USUAL: dict[str, Value] = {  # of these
    "patch_size": 16, "depth": 12, "mlp_ratio": 4.0, "qkv_bias": True, "class_token": True, "reg_tokens": 0,
    "no_embed_class": False, "qk_norm": False,
}  # fmt: skip
APART = {  # keys of nets whose features are made otherwise than shapes tell
    "dist_token": "a distilled net, which has two class tokens",
    "attn_pool.latent": "a net that pools its patches by attention",
    "norm_pre.weight": "a net of CLIP's kind, whose activation and norms may be others",
    "pre_norm.weight": "a net of CLIP's kind, whose activation and norms may be others",
}
GATED = "vit_giant_patch14_dinov2"  # whose blocks have gates, which no argument of a base can say


class Transformer(Layout):
    """Has timm's names of a vision transformer."""

    words = "a ViT's"
    anchors = ("patch_embed.proj.weight", "norm1.weight")

    def is_below(self, prefix: str, keys: "set[str] | Mapping[str, Any]") -> bool:
        first = f"{prefix}blocks.0."
        inside = (f"{first}norm1.weight", f"{first}0.norm1.weight")
        return f"{prefix}patch_embed.proj.weight" in keys and any(key in keys for key in inside)

    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        state = {"reg_token" if key == "register_tokens" else key: value for key, value in state.items()}
        if "blocks.0.norm1.weight" not in state:
            state = {CHUNKED.sub(r"blocks.\1.", key): value for key, value in state.items()}
        own = {key: value for key, value in state.items() if OF_NET.match(key)}
        left = tuple(key for key in state if not OF_NET.match(key))
        for key, why in APART.items():
            if key in state:
                raise Unknown(f"{key} is of {why}: say --backbone")
        own = gated(own)
        sizes, size, own = measured(own)
        args: dict[str, Value] = {key: value for key, value in sizes.items() if value != USUAL.get(key)}
        notes: tuple[str, ...] = ()
        width = int(own["patch_embed.proj.weight"].shape[0])
        heads, told = heads_of(own, width, left, config)
        name = NAMES.get(width, NAMES[768])
        if width not in NAMES:
            args["embed_dim"] = width
        if sizes["depth"] == 24 and width == 1024:
            del args["depth"]
        if heads != width // HEAD or width not in NAMES:
            args["num_heads"] = heads
        if not told:
            kind = f"{heads} heads of {width // heads} channels, as is usual"
            notes = (f"{kind}: shapes do not tell (--backbone {name}:num_heads=N)",)
        if "blocks.0.ls1.gamma" in own:
            args["init_values"] = 1e-5
        if not sizes["class_token"] or "fc_norm.weight" in own:
            args |= {"global_pool": "avg", "fc_norm": "fc_norm.weight" in own}
        eps = config.get("layer_norm_eps")
        eps = float(eps) if isinstance(eps, float) and eps != 1e-6 else None
        if "blocks.0.mlp.fc1.weight" in own and is_gated(own):
            name, args = GATED, {key: args[key] for key in ("reg_tokens", "no_embed_class") if key in args}
        return Fit(own, str(Backbone(name, args, norm_eps=eps)), size, left, notes)


def is_gated(state: State) -> bool:
    """Return whether blocks have gates: what the second layer takes is half of what the first gives."""
    return state["blocks.0.mlp.fc1.weight"].shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1]


def gated(state: State) -> State:
    """Return weights of gated blocks (SwiGLU) by timm's names."""
    return {key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): value
            for key, value in state.items()}  # fmt: skip


def measured(state: State) -> tuple[dict[str, Value], int, State]:
    """Return the arguments of timm's model that shapes tell, the size of a view in px, and the weights.

    Register tokens have no position embeddings in timm's models, and then the class token has none either: its own is
    added to it.
    """
    blocks = numbered(state, "blocks.")
    if blocks != [*range(len(blocks))]:
        gap = next(i for i, block in enumerate(blocks) if i != block)
        raise Unknown(f"blocks.{gap} is missing, of {len(blocks)} and more: the file is not whole")
    patches = state["patch_embed.proj.weight"]
    if patches.ndim != 4 or patches.shape[-1] != patches.shape[-2]:
        raise Unknown("patch_embed.proj.weight is not of square patches: say --backbone")
    has_class, registers = "cls_token" in state, state.get("reg_token")
    embeddings = state.get("pos_embed")
    if embeddings is None or embeddings.ndim != 3:
        raise Unknown("pos_embed is missing, or of another kind than a row for each patch: say --backbone")
    rows, tokens = embeddings.shape[1], has_class + (0 if registers is None else registers.shape[1])
    prefix = next((n for n in (0, int(has_class), tokens) if math.isqrt(rows - n) ** 2 == rows - n), None)
    if prefix is None:
        raise Unknown(f"pos_embed has {rows} rows, which are no square of patches: say --backbone")
    grid = math.isqrt(rows - prefix)
    if registers is not None and prefix == 1:
        state = {**state, "cls_token": state["cls_token"] + embeddings[:, :1], "pos_embed": embeddings[:, 1:]}
        prefix = 0
    width, hidden = int(patches.shape[0]), int(state["blocks.0.mlp.fc1.weight"].shape[0])
    ratio = hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width  # timm cuts
    sizes: dict[str, Value] = {
        "patch_size": int(patches.shape[-1]), "depth": len(blocks), "mlp_ratio": ratio,
        "qkv_bias": "blocks.0.attn.qkv.bias" in state, "class_token": has_class,
        "reg_tokens": 0 if registers is None else int(registers.shape[1]),
        "no_embed_class": tokens > 0 and not prefix,
        "qk_norm": "blocks.0.attn.q_norm.weight" in state,
    }  # fmt: skip
    return sizes, grid * int(patches.shape[-1]), state


def heads_of(state: State, width: int, left: tuple[str, ...], config: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the number of heads, and whether something tells it. Raises `Unknown` where two are as likely."""
    told = config.get("num_attention_heads")
    if isinstance(told, int) and told > 0 and width % told == 0:
        return told, True
    if told == USUAL_HEADS:
        return HEADS.get(width, max(width // HEAD, 1)), True
    if width in HEADS:
        return HEADS[width], False
    if width % HEAD:
        raise Unknown(f"{width} channels are not of heads of {HEAD}: say --backbone NAME:num_heads=N")
    decodes = any(key.startswith("decoder") for key in left)
    if width == 384 and not decodes and is_of_sines(state["pos_embed"]):
        raise Unknown(
            "384 channels with fixed position embeddings have 6 heads of 64 or 12 of 32, and shapes do not tell: say "
            "--backbone vit_small_patch16_224:num_heads=12, or =6"
        )
    return width // HEAD, False


def is_of_sines(embeddings: Tensor) -> bool:
    """Return whether position embeddings [1, N, D] are sines and cosines of a place, which are not learnt."""
    rows = embeddings[0].float()
    grid = math.isqrt(len(rows) - 1) if math.isqrt(len(rows)) ** 2 != len(rows) else math.isqrt(len(rows))
    rows, quarter = rows[len(rows) - grid * grid :], rows.shape[1] // 4
    omega = 10_000.0 ** -(torch.arange(quarter) / quarter)
    across = torch.arange(grid).repeat(grid)[:, None] * omega
    down = torch.arange(grid).repeat_interleave(grid)[:, None] * omega
    orders = ((across, down), (down, across))
    made = [torch.cat([f(x) for x in order for f in (torch.sin, torch.cos)], dim=1) for order in orders]
    return any(torch.allclose(rows, one, atol=1e-3) for one in made)
