"""The files of layouts.py, loaded by hand: the keys that its comments cite, features of [N, D], twice the same."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import layouts
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

RESNET = (
    "conv1.weight",
    "bn1.running_mean",
    "layer1.0.conv1.weight",
    "layer4.1.bn2.weight",
    "layer2.0.downsample.1.bias",
)
NUMBERED = ("0.weight", "1.running_var", "4.0.conv1.weight", "7.1.bn2.bias", "5.0.downsample.0.weight")
VIT = (
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "blocks.11.attn.qkv.bias",
    "blocks.0.mlp.fc2.weight",
    "norm.bias",
)
V2 = (*VIT, "mask_token", "blocks.0.ls1.gamma", "blocks.11.ls2.gamma")
CHUNKED = ("cls_token", "mask_token", "blocks.0.0.norm1.weight", "blocks.1.3.ls1.gamma", "blocks.3.11.attn.qkv.weight")
TORCHVISION = (
    *("class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.ln.weight", "heads.head.weight"),
    *("encoder.layers.encoder_layer_0.self_attention.in_proj_weight", "encoder.layers.encoder_layer_11.mlp.3.bias"),
)
HF = (
    *("embeddings.cls_token", "embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"),
    *("encoder.layer.0.attention.attention.query.weight", "encoder.layer.11.attention.output.dense.bias"),
    "layernorm.weight",
)
HF_VIT = (*HF, "encoder.layer.3.layernorm_before.bias", "encoder.layer.3.intermediate.dense.weight")
HF_V2 = (*HF, "embeddings.mask_token", "encoder.layer.0.layer_scale1.lambda1", "encoder.layer.11.mlp.fc1.weight")


def under(prefix: str, names: tuple[str, ...], *more: str) -> list[str]:
    return [*(prefix + name for name in names), *more]


S, M = "state_dict", "model"
CITED: dict[str, tuple[str | None, list[str]]] = {  # the entry of a wrapper that holds weights, and keys in it
    "simsiam": (S, under("module.encoder.", RESNET, "module.encoder.fc.6.bias", "module.predictor.3.weight")),
    "moco_v1": (
        S,
        under("module.encoder_q.", RESNET, "module.queue", "module.queue_ptr", "module.encoder_k.fc.weight"),
    ),
    "moco_v2": (S, under("module.encoder_q.", RESNET, "module.encoder_q.fc.0.weight", "module.encoder_k.fc.2.bias")),
    "moco_v3_resnet50": (
        *(S, under("module.base_encoder.", RESNET, "module.momentum_encoder.fc.3.weight", "module.predictor.0.weight")),
    ),
    "moco_v3_vit_small": (S, under("module.base_encoder.", VIT, "module.momentum_encoder.head.6.weight")),
    "swav_published": (None, under("module.", RESNET, "module.projection_head.3.bias", "module.prototypes.weight")),
    "swav_checkpoint": (
        S,
        under("module.", RESNET, "module.projection_head.1.running_var", "module.prototypes.weight"),
    ),
    "byol_lucidrains": (None, under("online_encoder.net.", RESNET, "net.fc.bias", "target_encoder.projector.0.weight")),
    "byol_sthalles": ("online_network_state_dict", under("encoder.", NUMBERED, "projetion.net.0.weight")),
    "byol_mmselfsup": (
        *(
            S,
            under(
                "backbone.", RESNET, "neck.fc0.weight", "head.predictor.bn0.weight", "target_net.module.0.conv1.weight"
            ),
        ),
    ),
    "byol_mmselfsup_training": (S, under("backbone.", RESNET, "neck.fc1.weight", "target_net.steps")),
    "dino_vit_checkpoint": ("teacher", under("backbone.", VIT, "head.mlp.4.weight", "head.last_layer.weight_g")),
    "dino_resnet_checkpoint": ("teacher", under("module.backbone.", RESNET, "module.head.last_layer.weight_v")),
    "dino_vit_published": (None, under("", VIT)),
    "dino_resnet_published": (None, under("", RESNET)),
    "dinov2": (None, under("", V2)),
    "dinov2_registers": (None, under("", V2, "register_tokens")),
    "dinov2_teacher_checkpoint": ("teacher", under("backbone.", V2, "dino_head.mlp.0.weight")),
    "dinov2_teacher_chunked": ("teacher", under("backbone.", CHUNKED, "dino_head.last_layer.weight_g")),
    "barlow_twins_checkpoint": (
        M,
        under("module.backbone.", RESNET, "module.projector.6.weight", "module.bn.running_mean"),
    ),
    "barlow_twins_published": (None, under("", RESNET)),
    "vicreg_checkpoint": (M, under("module.backbone.", RESNET, "module.projector.0.bias")),
    "vicreg_published": (None, under("", RESNET)),
    "simclr_sthalles": (S, under("backbone.", RESNET, "backbone.fc.0.weight", "backbone.fc.2.bias")),
    "simclr_converted": (S, under("", RESNET, "fc.weight")),
    "lightly_example": (
        *(S, under("backbone.", NUMBERED, "backbone_momentum.0.weight", "projection_head.layers.0.weight")),
    ),
    "lightly_benchmark": (S, under("backbone.", RESNET, "online_classifier.classification_head.weight")),
    "solo_learn_imagenet": (S, under("backbone.", RESNET, "classifier.bias", "momentum_backbone.conv1.weight")),
    "solo_learn_early": (S, under("encoder.", RESNET, "classifier.bias", "momentum_encoder.conv1.weight")),
    "solo_learn_cifar": (S, under("backbone.", RESNET, "projector.0.weight", "momentum_projector.3.bias")),
    "stable_pretraining_simclr": (S, under("backbone.", RESNET, "callbacks_modules.linear_probe.weight")),
    "stable_pretraining_byol": (
        S,
        under("backbone.teacher.", VIT, "backbone.student.norm.bias", "backbone.ema_coefficient"),
    ),
    "lightly_train_checkpoint": (
        *(S, under("embedding_model.wrapped_model._features.", RESNET, "projection_head.layers.0.weight")),
    ),
    "lightly_train_dino_weights": (
        *(
            S,
            under("teacher_embedding_model.wrapped_model._model.", VIT, "student_projection_head.layers.4.bias"),
        ),
    ),
    "lightly_train_exported": (None, under("", RESNET, "fc.weight")),
    "timm_resnet": (None, under("", RESNET, "fc.bias")),
    "timm_resnet_safetensors": (None, under("", RESNET, "fc.bias")),
    "timm_vit": (None, under("", VIT, "head.weight")),
    "timm_train": ("state_dict_ema", under("", RESNET, "fc.bias")),
    "torchvision_resnet": (None, under("", RESNET, "fc.bias")),
    "torchvision_vit": (None, under("", TORCHVISION)),
    "huggingface_vit": (None, under("", HF_VIT, "pooler.dense.weight")),
    "huggingface_vit_sharded": (None, under("vit.", HF_VIT, "classifier.weight")),
    "huggingface_vit_sharded_bin": (None, under("", HF_VIT)),
    "huggingface_dinov2": (None, under("", HF_V2)),
    "huggingface_dinov2_registers": (None, under("", HF_V2, "embeddings.register_tokens")),
    "compiled_within_ddp": (M, under("module._orig_mod.backbone.", RESNET)),
    "compiled_around_ddp": (M, under("_orig_mod.module.", VIT)),
    "bfloat16_weights": (None, under("", VIT)),
    "mae_checkpoint": (M, under("", VIT, "mask_token", "decoder_pos_embed", "decoder_blocks.1.norm1.bias")),
    "mae_published": (M, under("", VIT)),
}
BESIDE = {  # other entries of wrappers
    "simsiam": {"epoch", "arch", "optimizer"},
    "moco_v3_vit_small": {"epoch", "arch", "optimizer", "scaler"},
    "swav_checkpoint": {"epoch", "optimizer", "amp"},
    "byol_sthalles": {"encoder_state_dict", "target_network_state_dict", "optimizer_state_dict"},
    "byol_mmselfsup_training": {"meta", "message_hub", "optimizer"},
    "dino_vit_checkpoint": {"student", "optimizer", "epoch", "args", "dino_loss", "fp16_scaler"},
    "lightly_benchmark": {"pytorch-lightning_version", "loops", "optimizer_states", "hyper_parameters"},
    "lightly_train_checkpoint": {"lightly_train", "pytorch-lightning_version"},
    "timm_train": {"state_dict", "arch", "args", "optimizer", "epoch", "version"},
    "mae_checkpoint": {"optimizer", "epoch", "scaler", "args"},
}


def parts(path: Path) -> list[Path]:
    """The file, or a folder's files of weights."""
    return sorted(p for p in path.iterdir() if "json" not in p.name) if path.is_dir() else [path]


def by_hand(path: Path) -> dict[str, Any]:
    """All that a file, or the shards of a folder, hold."""
    found = {}
    for part in parts(path):
        if part.suffix == ".safetensors":
            found |= load_file(part)
        else:
            with layouts.strangers():
                found |= torch.load(part, weights_only=False)
    return found


def pictures(size: int) -> Tensor:
    """Two images of patches of colour, unlike each other."""
    coarse = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def digest(path: Path) -> list[str]:
    """Digests of files; of a pickle of torch before 1.6, which has addresses in it, one of all its tensors."""
    if path.is_dir() or path.suffix == ".safetensors" or zipfile.is_zipfile(path):
        return [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts(path)]
    leaves = tree_flatten(by_hand(path))[0]
    return [hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in leaves if isinstance(x, Tensor)]


def emptied(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def test_every_layout_is_cited() -> None:
    assert set(CITED) == set(layouts.LAYOUTS)
    assert len(CITED) >= 28
    assert set(layouts.UNTOLD) | set(layouts.FOREIGN) <= set(CITED)


@pytest.mark.parametrize("name", list(layouts.LAYOUTS))
def test_a_layout_has_its_cited_keys_and_its_model_gives_features(name: str, tmp_path: Path) -> None:
    made = layouts.LAYOUTS[name](tmp_path / "one")
    whole, (entry, keys) = by_hand(made.path), CITED[name]
    weights = whole if entry is None else whole[entry]
    assert not set(keys) - set(weights)
    assert BESIDE.get(name, set()) <= set(whole)
    assert all(x.isfinite().all() for x in weights.values() if x.is_floating_point())
    varied = [x for key, x in weights.items() if key.endswith("running_var")]
    assert all(x.std() > 0.1 for x in varied)
    assert bool(varied) == (made.stem is not None) or entry == S
    found = made.features(pictures(made.size))
    assert found.shape == (2, found.shape[1])
    assert found.isfinite().all()
    assert 0.1 < found.std() < 10
    assert (found[0] - found[1]).abs().mean() > 0.02
    foreign = {g for p in parts(made.path) if p.suffix != ".safetensors" for g in foreigners(p)}
    assert foreign == layouts.FOREIGN.get(name, set())
    emptied(tmp_path)


def foreigners(path: Path) -> list[str]:
    """The globals of a file's pickle that torch does not deem safe."""
    if zipfile.is_zipfile(path):
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    torch.load(path, weights_only=True)  # of torch before 1.6: a refusal would name what it refers to
    return []


@pytest.mark.parametrize("name", list(layouts.LAYOUTS)[::6])
def test_two_calls_of_a_maker_are_equal(name: str, tmp_path: Path) -> None:
    one = digest(layouts.LAYOUTS[name](tmp_path / "one").path)
    assert digest(layouts.LAYOUTS[name](tmp_path / "two").path) == one
    emptied(tmp_path)


# ---- the source models against timm's


@pytest.mark.parametrize(("backbone", "sizes"), [
    ("vit_tiny_patch16_224", {}),
    ("vit_small_patch14_dinov2", {"width": 384, "grid": 37, "patch": 14, "dinov2": True}),
    ("vit_small_patch14_reg4_dinov2", {"width": 384, "grid": 37, "patch": 14, "dinov2": True, "registers": 4}),
])  # fmt: skip
def test_the_vit_is_timms(backbone: str, sizes: dict[str, Any]) -> None:
    vit = layouts.drawn(layouts.Vit(**sizes), layouts.seeded(backbone))
    model = timm.create_model(backbone, num_classes=0).eval()
    model.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(dict(vit.state_dict()), model))
    x = pictures(sizes.get("grid", 14) * sizes.get("patch", 16))[:1]
    with torch.no_grad():
        torch.testing.assert_close(vit(x), model(x), atol=2e-5, rtol=1e-5)


def test_a_padding_layer_is_the_convolutions_padding() -> None:
    net = layouts.padded(18, layouts.seeded("padding"))
    x = pictures(64)
    found = layouts.on_padding(net)(x)
    net.conv1.padding = (3, 3)
    torch.testing.assert_close(layouts.given(net)(x), found)


# ---- what has to be refused


@pytest.mark.parametrize("name", list(layouts.HOSTILE))
def test_a_hostile_file_is_made_and_runs_nothing_by_itself(name: str, tmp_path: Path) -> None:
    assert layouts.HOSTILE[name](tmp_path).exists()
    assert not list(tmp_path.rglob("ran.txt"))
    emptied(tmp_path)


@pytest.mark.parametrize("name", [name for name in layouts.HOSTILE if name.startswith("runs_")])
def test_a_pickle_that_runs_would_run(name: str, tmp_path: Path) -> None:
    [path] = parts(layouts.HOSTILE[name](tmp_path))
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran.txt").read_text() == "ran\n"
    emptied(tmp_path)


def test_the_outside_shard_is_a_true_one(tmp_path: Path) -> None:
    inner = layouts.HOSTILE["shard_outside"](tmp_path)
    places = set(json.loads((inner / "model.safetensors.index.json").read_text())["weight_map"].values())
    assert "../../outside.safetensors" in places
    assert all((inner / place).exists() for place in places)
    assert "layernorm.weight" in load_file(tmp_path / "outside.safetensors")
