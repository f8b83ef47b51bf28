"""Training that begins from weights: of a run, of its target, of a file, of a published model; and what ViTs have."""

import json
from math import cos, pi
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from layouts import LAYOUTS
from safetensors.torch import load_file
from torch import nn

import sslzoo
from sslzoo.core.backbones import Backbone, build
from sslzoo.core.target import frozen_copy
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.training import checkpoints, runs
from sslzoo.training.run import resume, train

QUICK = {"epochs": 1, "batch_size": 8, "device": "cpu", "knn_every": 100}
HEADS = "heads.hidden=16 heads.dim=8"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixteen images of 32 px for training and eight for the test, of two kinds."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "d.npz"
    make = lambda n: rng.integers(0, 255, (n, 32, 32, 3), dtype=np.uint8)  # noqa: E731
    np.savez(path, train_images=make(16), test_images=make(8), train_labels=[0, 1] * 8, test_labels=[0, 1] * 4)
    return str(path)


@pytest.fixture(scope="module")
def byol(data, tmp_path_factory):
    """A run with a target network that differs from the online one."""
    words = f"byol optimizer.lr=1 tau=0.9 tau_end=0.9 {HEADS}"
    return train(words, data=data, out=str(tmp_path_factory.mktemp("runs")), **{**QUICK, "epochs": 2}).run


def state_of(run, prefix="online.encoder."):
    """The encoder's weights in a run's checkpoint."""
    model = checkpoints.read(Path(run)).model
    return {key.removeprefix(prefix): value for key, value in model.items() if key.startswith(prefix)}


def initial(run):
    return load_file(Path(run) / runs.INITIAL)


def test_a_run_its_checkpoint_and_its_target_are_taken(byol, data, tmp_path):
    """A run's online encoder is what it wrote, its target's is in its checkpoint (issue: --init RUN takes both)."""
    online, target = state_of(byol), state_of(byol, "copy.encoder.")
    assert not torch.equal(online["layers.0.weight"], target["layers.0.weight"])
    for init, network, wanted in (
        (byol, None, online), (f"{byol}/last.pt", None, online), (byol, "target", target),
        (f"{byol}/last.pt", "target", target), (f"{byol}/encoder.safetensors", None, online),
    ):  # fmt: skip
        made = train(f"simsiam {HEADS}", data=data, init=init, init_network=network, out=str(tmp_path), **QUICK)
        found = initial(made.run)
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), (init, network)
        assert runs.read_run(Path(made.run)).mean == runs.read_run(Path(byol)).mean


def test_a_run_without_a_target_is_refused(byol, data, tmp_path, refused):
    simsiam = train(f"simsiam {HEADS}", data=data, out=str(tmp_path), **QUICK).run
    with refused("no target network"):
        train(f"simsiam {HEADS}", data=data, init=simsiam, init_network="target", out=str(tmp_path / "x"), **QUICK)
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """ResNet-18's weights by torchvision, whose stem has 7 px."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def test_a_file_names_the_backbone_and_its_stem(resnet, data, tmp_path):
    for backbone in (None, "resnet18"):
        made = train(f"simsiam {HEADS}", data=data, init=str(resnet), backbone=backbone, out=str(tmp_path), **QUICK)
        about = runs.read_run(Path(made.run))
        assert about.backbone == "resnet18:stem=7x7"
        assert list(about.mean) == [0.485, 0.456, 0.406]
        assert runs.encoder(made.run).conv1.kernel_size == (7, 7)
    with pytest.raises(ValueError, match=r"does not fit the backbone .*perhaps resnet18:stem=7x7"):
        train("simsiam", data=data, init=str(resnet), backbone="resnet18:stem=3x3", out=str(tmp_path / "x"), **QUICK)
    assert not (tmp_path / "x").exists()


def test_a_resumed_run_is_compared_with_the_same_initial_weights(resnet, data, tmp_path, monkeypatch):
    options = {"data": data, "init": str(resnet), **QUICK, "epochs": 2}
    whole = train(f"simsiam {HEADS}", out=str(tmp_path / "a"), **options)
    half = train(f"simsiam {HEADS}", out=str(tmp_path / "b"), stop_after=1, **options)
    moved = resnet.rename(resnet.with_suffix(".gone"))
    try:
        again = resume(half.run)
    finally:
        moved.rename(resnet)
    assert (again.random_knn, again.knn, again.loss) == (whole.random_knn, whole.knn, whole.loss)
    assert all(
        torch.equal(a, b) for a, b in zip(state_of(whole.run).values(), state_of(half.run).values(), strict=True)
    )


def test_the_row_of_a_run_from_weights_says_so(resnet, data, tmp_path, run_cli):
    words = [
        "train",
        "simsiam",
        *HEADS.split(),
        "--data",
        data,
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--device",
        "cpu",
    ]
    done = run_cli(*words, "--init", str(resnet), "--out", str(tmp_path))
    assert "initial weights" in done.output
    assert "untrained backbone" not in done.output
    assert "resnet18:stem=7x7 at 224 px; without fc" in done.output.replace("\n", " ")
    assert f"next: sslzoo knn {tmp_path}" in done.output
    assert f" {resnet} raw" in done.output


def test_a_backbone_learns_slower_or_later(resnet, data, tmp_path):
    def trained(words, **more):
        made = train(f"simsiam {HEADS} weight_decay=0 {words}", data=data, init=str(resnet), out=str(tmp_path),
                     **{**QUICK, "epochs": 2, **more})  # fmt: skip
        weights = state_of(made.run)
        learnt = [key for key, _ in build("resnet18:stem=7x7", 32).named_parameters()]
        return max(float((weights[key] - initial(made.run)[key]).abs().max()) for key in learnt)

    usual = trained("")
    assert trained("backbone_lr_scale=0") == 0
    assert trained("backbone_freeze_epochs=2") == 0
    assert 0 < trained("backbone_freeze_epochs=1") < usual
    assert 0 < trained("backbone_lr_scale=0.01") < usual / 10


def test_a_backbone_that_never_learns_is_said(resnet, data, tmp_path, run_cli):
    words = [
        *HEADS.split(),
        "--data",
        data,
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--init",
        str(resnet),
    ]
    for knob in ("backbone_lr_scale=0", "backbone_freeze_epochs=5"):
        done = run_cli("train", "simsiam", knob, *words, "--out", str(tmp_path))
        assert "The backbone never learns" in done.output.replace("\n", " ")


def test_published_weights_of_other_families_are_refused_or_taken(data, tmp_path, monkeypatch, refused):
    real = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: real(name, weights=None))
    made = train(f"simsiam {HEADS}", data=data, init="torchvision:resnet18", out=str(tmp_path), **QUICK)
    assert runs.read_run(Path(made.run)).backbone == "resnet18:stem=7x7"
    with refused("torchvision:mobilenet_v3_small is neither a residual net nor a ViT"):
        train("simsiam", data=data, init="torchvision:mobilenet_v3_small", out=str(tmp_path / "x"), **QUICK)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained=False, **rest: create(name, pretrained=False, **rest)
    )
    made = train(f"simsiam {HEADS}", data=data, init="timm:regnetx_002", out=str(tmp_path), **QUICK)
    assert runs.read_run(Path(made.run)).backbone == "regnetx_002"


def test_images_of_other_channels_begin_from_weights_for_three(resnet, tmp_path):
    """As timm does: of one channel the first convolution's weights are summed."""
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 1), dtype=np.uint8)
    np.savez(tmp_path / "gray.npz", train_images=images)
    words = f"simsiam {HEADS} optimizer.lr=0"
    made = train(words, data=str(tmp_path / "gray.npz"), channels=1, init=str(resnet), out=str(tmp_path), **QUICK)
    first = torch.load(resnet)["conv1.weight"].sum(dim=1, keepdim=True)
    assert torch.allclose(state_of(made.run)["conv1.weight"], first, atol=1e-6)


# ---- vision transformers ---------------------------------------------------------------------------------------------

TINY = "vit_tiny_patch16_224:depth=2,embed_dim=48,num_heads=3"


def test_position_embeddings_are_resampled_for_smaller_views(data, tmp_path):
    path = LAYOUTS["timm_vit"](tmp_path).path
    made = train(f"simsiam {HEADS} optimizer.lr=0", data=data, init=str(path), out=str(tmp_path / "r"), **QUICK)
    own = torch.load(path, weights_only=True)["pos_embed"]
    wanted = timm.layers.resample_abs_pos_embed(own, [2, 2], num_prefix_tokens=1)
    assert torch.allclose(state_of(made.run)["pos_embed"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "size"),
    [("dino local_crops=2 local_size=48", 96), ("moco_v3", 64), ("swav local_crops=1 local_size=64", 96)],
)  # fmt: skip
def test_a_vit_trains_with_views_of_any_size(words, size, tmp_path):
    """Faults, C: a traceback for local crops, and half a run directory."""
    images = np.random.default_rng(0).integers(0, 255, (16, size, size, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images)
    made = train(
        f"{words} {HEADS}", data=str(tmp_path / "d.npz"), image_size=size, backbone=TINY, out=str(tmp_path), **QUICK
    )
    recipe = json.loads((Path(made.run) / "run.json").read_text())
    assert recipe["backbone"].startswith(TINY)
    assert sslzoo.encoder(made.run)(torch.zeros(1, 3, size, size)).shape == (1, 48)


def test_recipes_of_vits_have_what_their_sources_state():
    """DINO: main_dino.py's defaults; MoCo v3: CONFIG.md and builder.py of its repository."""
    on = {"training.backbone": "vit_small_patch16_224"}
    dino = resolve_here(parse("dino"), Circumstances("photos", 224, 5000, "cuda"), on)
    assert (dino.optimizer.name, dino.optimizer.lr, dino.optimizer.weight_decay) == ("adamw", 5e-4, 0.04)
    assert dino.optimizer.weight_decay * dino.optimizer.weight_decay_end == pytest.approx(0.4)
    assert (dino.encoder.drop_path, dino.optimizer.clip_grad, dino.views.first.scale_min) == (0.1, 3.0, 0.4)
    assert (dino.views.local.scale_min, dino.views.local.scale_max, dino.views.local_crops) == (0.05, 0.4, 8)
    moco = resolve_here(parse("moco_v3"), Circumstances("photos", 224, 5000, "cuda"), on)
    assert (moco.optimizer.name, moco.optimizer.lr, moco.optimizer.weight_decay) == ("adamw", 1.5e-4, 0.1)
    assert (moco.heads.layers, moco.heads.batchnorm, moco.loss.temperature) == (3, "all", 0.2)
    assert (moco.encoder.freeze_patches, moco.optimizer.warmup_epochs, moco.training.epochs) == (True, 40, 300)
    lejepa = resolve_here(parse("lejepa"), Circumstances("photos", 224, 5000, "cuda"), on)
    assert lejepa.optimizer.weight_decay == 0.05
    on_cpu = resolve_here(parse("dino"), Circumstances("photos", 64, 5000, "cpu"), on)
    assert (on_cpu.optimizer.name, on_cpu.heads.dim) == (
        "adamw",
        128,
    )  # the optimiser is the net's, heads are the CPU's
    assert resolve_here(parse("dino"), Circumstances("photos", 224, 5000, "cuda"), {}).optimizer.name == "sgd"


def test_the_weight_decay_follows_dinos_cosine():
    """utils.cosine_scheduler: final + (base - final) (1 + cos(pi i / N)) / 2."""
    recipe = sslzoo.load(
        "dino heads.hidden=8 heads.dim=4 prototypes=8 weight_decay=0.04 weight_decay_end=10 decay_all=false"
    )
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimizer = sslzoo.optimizer(sslzoo.Siamese(net, recipe), recipe, 10)
    for step in range(10):
        decays = {group["weight_decay"] for group in optimizer.param_groups}
        assert max(decays) == pytest.approx(0.4 + (0.04 - 0.4) * (1 + cos(pi * step / 10)) / 2)
        assert min(decays) == 0  # biases and norms
        optimizer.step()


def test_a_target_leaves_no_branch_out():
    """The teacher of DINO has no stochastic depth: main_dino.py gives drop_path_rate to the student alone."""
    net = build(f"{TINY},drop_path_rate=0.5", 32)
    copy = frozen_copy(net)
    rates = [max(m.drop_prob for m in one.modules() if hasattr(m, "drop_prob")) for one in (net, copy)]
    assert rates == [0.5, 0.0]


def test_moco_v3s_patches_stay_as_drawn(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images)
    made = train(
        f"moco_v3 {HEADS} optimizer.lr=1", data=str(tmp_path / "d.npz"), backbone=TINY, out=str(tmp_path), **QUICK
    )
    torch.manual_seed(0)
    drawn = build(TINY, 32).state_dict()
    now = state_of(made.run)
    assert torch.equal(now["patch_embed.proj.weight"], drawn["patch_embed.proj.weight"])
    assert not torch.equal(now["blocks.0.attn.qkv.weight"], drawn["blocks.0.attn.qkv.weight"])


def test_what_a_recipe_chooses_of_a_vit_is_timms(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images)
    words = f"simsiam {HEADS} encoder.pool=avg encoder.layer_scale=1e-4 encoder.drop_path=0.2 optimizer.lr=0"
    made = train(words, data=str(tmp_path / "d.npz"), backbone=TINY, out=str(tmp_path), **QUICK)
    name = runs.read_run(Path(made.run)).backbone
    assert name == f"{TINY},init_values=0.0001,drop_path_rate=0.2,global_pool=avg"
    net = sslzoo.encoder(made.run)
    theirs = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=48, num_heads=3, img_size=32, num_classes=0,
                               global_pool="avg", init_values=1e-4).eval()  # fmt: skip
    theirs.load_state_dict(net.state_dict())
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x), theirs(x))


def test_a_backbones_name_is_read_as_it_is_written():
    for text in (
        "resnet50",
        "resnet50:stem=3x3",
        "vit_small_patch16_224:num_heads=12,class_token=false,init_values=1e-05",
    ):
        assert str(Backbone.parse(text)) == text
    assert Backbone.parse("vit_small_patch16_224:norm_eps=1e-12,reg_tokens=4").args == {"reg_tokens": 4}
