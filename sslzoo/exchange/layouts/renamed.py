"""Torchvision's and Hugging Face's names of vision transformers, and of the latter's residual nets, become timm's."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from .layout import Fit, Layout, State, Unknown
from .residual import Residual
from .transformer import Transformer

Names = tuple[tuple[str, str], ...]  # patterns, and what they become

TORCHVISION: Names = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
)
HUGGING_FACE: Names = (
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
RESIDUAL: Names = (
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.0\.layers\.", "layer1."),
    (r"^encoder\.stages\.1\.layers\.", "layer2."),
    (r"^encoder\.stages\.2\.layers\.", "layer3."),
    (r"^encoder\.stages\.3\.layers\.", "layer4."),
    (r"\.layer\.0\.convolution\.", ".conv1."),
    (r"\.layer\.0\.normalization\.", ".bn1."),
    (r"\.layer\.1\.convolution\.", ".conv2."),
    (r"\.layer\.1\.normalization\.", ".bn2."),
    (r"\.layer\.2\.convolution\.", ".conv3."),
    (r"\.layer\.2\.normalization\.", ".bn3."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
PARTS = ("query", "key", "value")


class Renamed(Layout):
    """Is a layout under other names; ``anchors`` tell it, and ``act`` is the activation of its nets."""

    def __init__(self, own: Layout, names: Names, anchors: tuple[str, ...], act: str):
        self.words, self.own, self.names, self.anchors, self.act = f"{own.words} (renamed)", own, names, anchors, act

    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        if (act := config.get("hidden_act", self.act)) != self.act:
            raise Unknown(f"its activation is {act!r}, where these nets have {self.act}: say --backbone")
        if config.get("downsample_in_bottleneck") or config.get("downsample_in_first_stage"):
            raise Unknown("its config.json strides other layers than timm's nets do: say --backbone")
        named = {}
        for key, value in state.items():
            for pattern, new in self.names:
                key = re.sub(pattern, new, key)
            named[key] = value
        return self.own.fit(joined(named), config)


def joined(state: State) -> State:
    """Return weights whose queries, keys and values are one matrix, as timm's are."""
    found = {key: value for key, value in state.items() if not any(f".attn.{part}." in key for part in PARTS)}
    for key in state:
        if ".attn.query." in key:
            parts = [key.replace(".query.", f".{part}.") for part in PARTS]
            if missing := [part for part in parts if part not in state]:
                raise Unknown(f"{missing[0]} is missing: the file is not whole")
            found[key.replace(".query.", ".qkv.")] = torch.cat([state[part] for part in parts])
    return found


RENAMED = (
    Renamed(Transformer(), TORCHVISION,
            ("conv_proj.weight", "encoder.pos_embedding", "encoder.layers.encoder_layer_0.ln_1.weight"), "gelu"),
    Renamed(Transformer(), HUGGING_FACE,
            ("embeddings.patch_embeddings.projection.weight",
             "encoder.layer.0.attention.attention.query.weight"), "gelu"),
    Renamed(Residual(), RESIDUAL,
            ("embedder.embedder.convolution.weight", "encoder.stages.3.layers.0.layer.0.convolution.weight"), "relu"),
)  # fmt: skip
