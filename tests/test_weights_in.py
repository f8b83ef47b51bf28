"""Weights as public projects write them come in: features are the source model's, and hostile files do nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from layouts import HOSTILE, LAYOUTS, UNTOLD
from PIL import Image
from torchvision import transforms

import sslzoo
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.exchange.opening import open_weights
from sslzoo.tools.errors import UserError

TOLD = {  # by hand, what no shape tells: the padding of solo-learn's first convolution, MoCo v3's twelve heads
    "solo_learn_cifar": "resnet18:stem=3x3p2",
    "moco_v3_vit_small": "vit_small_patch16_224:num_heads=12",
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An .npz of four drawn pictures, larger than wide, and the pictures."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (9, 7, 3)), np.ones((32, 32, 1))).astype(np.uint8) for _ in range(4)]
    np.savez(folder / "p.npz", train_images=np.stack(pictures[:2]), test_images=np.stack(pictures[2:]),
             train_labels=[0, 1], test_labels=[0, 1])  # fmt: skip
    return folder / "p.npz", [Image.fromarray(one) for one in pictures]


def usual(pictures, size):
    """Return pictures as ImageNet's evaluation has them: 7/8 of the shorter side, bilinear, by torchvision."""
    made = transforms.Compose([
        transforms.Resize(int(size / 0.875)), transforms.CenterCrop(size), transforms.ToTensor(),
        transforms.Normalize(*IMAGENET),
    ])  # fmt: skip
    return torch.stack([made(one) for one in pictures])


def far(found, wanted):
    """Return the largest difference, over the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_alone_gives_the_source_models_features(name, photos, tmp_path):
    made, (data, pictures) = LAYOUTS[name](tmp_path), photos
    if 64 < made.size < 300:
        options = EmbedOptions(str(data), backbone=TOLD.get(name), cached=False)
        arrays = embed(str(made.path), options).arrays
        found = torch.from_numpy(np.concatenate([arrays["train_features"], arrays["test_features"]]))
        images = usual(pictures, made.size)
    else:  # small ones are normalised by the data's own mean, and large ones take their time
        weights = open_weights(made.path, TOLD.get(name))
        images = torch.randn(1, 3, made.size, made.size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = weights.network()(images)
        assert weights.size == made.size
    with torch.no_grad():
        assert far(found, made.features(images).flatten(1)) < 2e-6


def test_what_shapes_do_not_tell_is_refused_or_said(tmp_path):
    assert {*TOLD} == {*UNTOLD}
    with pytest.raises(UserError, match=r"6 heads of 64 or 12 of 32.*--backbone vit_small_patch16_224:num_heads=12"):
        open_weights(LAYOUTS["moco_v3_vit_small"](tmp_path).path)
    said = open_weights(LAYOUTS["solo_learn_cifar"](tmp_path).path).said
    assert "padded by 1: shapes do not tell" in said
    assert "resnet18:stem=3x3p2" in said


def test_the_line_says_what_was_taken_and_what_was_left(run_cli, photos, tmp_path):
    data, _ = photos
    path = LAYOUTS["moco_v2"](tmp_path).path
    done = run_cli("knn", str(path), "--data", str(data), "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert "module.encoder_q -> resnet18:stem=7x7 at 224 px; without fc" in row["about"]
    assert "module.encoder_k beside it is not used" in row["about"]
    assert "shorter side to 256 px (bilinear), centre of 224; mean 0.485, 0.456, 0.406" in row["about"]
    assert "the file does not say" in row["about"]


@pytest.mark.parametrize(("name", "prefix"), [("moco_v2", "module.encoder_k"), ("solo_learn_imagenet", "momentum_")])
def test_the_copy_that_follows_is_taken_where_it_is_asked_for(name, prefix, tmp_path):
    path = LAYOUTS[name](tmp_path).path
    usual, target = open_weights(path), open_weights(path, network="target")
    assert prefix in target.said.partition(" ->")[0]
    assert not torch.equal(usual.state["conv1.weight"], target.state["conv1.weight"])


def test_a_network_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no target network"):
        open_weights(LAYOUTS["torchvision_resnet"](tmp_path).path, network="target")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence_and_nothing_runs(name, run_cli, photos, tmp_path):
    path = HOSTILE[name](tmp_path)
    done = run_cli("knn", str(path), "--data", str(photos[0]))
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") <= 4
    assert "Traceback" not in done.output
    assert not [*tmp_path.rglob("ran.txt")]
    assert not Path("ran.txt").exists()


def test_weights_of_a_wrong_width_are_told_by_their_first_key(tmp_path):
    with pytest.raises(UserError, match=r"layer3\.0\.conv1\.weight is \[200, .*perhaps resnet18:stem=7x7"):
        open_weights(HOSTILE["wrong_width"](tmp_path)).network()
    with pytest.raises(UserError, match=r"blocks\.5 is missing"):
        open_weights(HOSTILE["missing_block"](tmp_path))


def test_a_convolution_in_the_place_of_the_pool_is_kept(tmp_path):
    """timm's replace_stem_pool, as exports of 3x3 stems have it: without it features were off by a third."""
    net = timm.create_model("resnet18", replace_stem_pool=True, num_classes=0).eval()
    torch.save(net.state_dict(), tmp_path / "m.pth")
    found = open_weights(tmp_path / "m.pth")
    assert found.backbone == "resnet18:stem=7x7,replace_stem_pool=true"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert far(found.network()(images), net(images)) < 2e-6


@pytest.mark.parametrize(
    "name",
    ["res2net50_14w_8s", "pit_ti_224", "seresnet18", "resnet26d", "regnetx_002", "vit_little_patch16_reg1_gap_256"],
)
def test_timms_own_names_are_what_a_backbone_that_is_named_has(name, tmp_path):
    """Also where they look like those of a net that shapes tell: a tester's res2net was "not whole"."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=7).eval()
    torch.save({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, tmp_path / "m.pth")
    found = open_weights(tmp_path / "m.pth", name)
    assert f"-> {name} at" in found.said
    net.reset_classifier(0)
    images = torch.randn(1, 3, found.size, found.size)
    with torch.no_grad():
        assert far(found.network()(images), net(images)) < 2e-6


def test_registers_without_a_class_token_are_told_from_shapes(tmp_path):
    """timm's vit_little_patch16_reg1_gap_256: a traceback of the position embeddings."""
    torch.manual_seed(0)
    net = timm.create_model("vit_little_patch16_reg1_gap_256", num_classes=0).eval()
    torch.save(net.state_dict(), tmp_path / "m.pth")
    found = open_weights(tmp_path / "m.pth")
    images = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        assert far(found.network()(images), net(images)) < 2e-6


def test_whole_numbers_are_no_weights(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    torch.save({key: value.int() for key, value in state.items()}, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"weights of torch\.int32, first conv1\.weight"):
        open_weights(tmp_path / "m.pth")


def test_python_takes_the_network_that_the_command_line_takes(photos, run_cli, tmp_path):
    path = LAYOUTS["dino_vit_checkpoint"](tmp_path).path
    made = sslzoo.embed(str(path), data=str(photos[0]))
    done = run_cli("embed", str(path), "--data", str(photos[0]), "--out", str(tmp_path / "f.npz"), "--json")
    assert np.array_equal(np.load(tmp_path / "f.npz")["train_features"], made.arrays["train_features"])
    assert json.loads(done.stdout)["about"] == made.about
    assert "teacher.backbone ->" in made.about
    assert "student.module.backbone beside it is not used" in made.about


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("deit_tiny_distilled_patch16_224", "two class tokens"),
        ("vit_xsmall_patch16_clip_224", "CLIP's kind"),
    ],
)
def test_nets_whose_features_shapes_do_not_tell_want_their_name(name, why, tmp_path):
    """A tester's CLIP was off by 1.4% and said nothing; by its name it is timm's own."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0).eval()
    torch.save(net.state_dict(), tmp_path / "m.pth")
    with pytest.raises(UserError, match=rf"{why}.*: say --backbone"):
        open_weights(tmp_path / "m.pth")
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert far(open_weights(tmp_path / "m.pth", name).network()(images), net(images)) < 2e-6


def test_a_backbone_that_cannot_be_meant_is_refused_by_its_name(tmp_path):
    path = LAYOUTS["torchvision_resnet"](tmp_path).path
    with pytest.raises(UserError, match=r"does not fit the backbone .*perhaps resnet18:stem=7x7"):
        open_weights(path, "small").network()


def test_hugging_faces_residual_nets(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
    net = transformers.ResNetModel(config).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    net.save_pretrained(tmp_path / "hf")
    images = torch.randn(2, 3, 64, 64)
    found = open_weights(tmp_path / "hf")
    assert found.backbone == "resnet18:stem=7x7"
    with torch.no_grad():
        assert far(found.network()(images), net(images).pooler_output.flatten(1)) < 2e-6


def test_two_networks_of_other_shapes_are_no_teacher_and_student(tmp_path):
    """A file of distillation, whose frozen teacher is another net: a tester got the teacher without a word."""
    nets = {
        name: timm.create_model(arch).state_dict() for name, arch in (("backbone", "resnet18"), ("teacher", "resnet34"))
    }
    torch.save(nets, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"2 networks \(teacher, backbone\).*name one, as in --network teacher"):
        open_weights(tmp_path / "m.pth")
    assert open_weights(tmp_path / "m.pth", network="backbone").backbone == "resnet18:stem=7x7"
    assert open_weights(tmp_path / "m.pth", network="target").backbone == "resnet34:stem=7x7"
    with pytest.raises(UserError, match=r"has no network 'head', only teacher, backbone"):
        open_weights(tmp_path / "m.pth", network="head")


def test_two_branches_that_no_name_tells_apart_are_refused(tmp_path):
    nets = {name: timm.create_model("resnet18").state_dict() for name in ("rgb", "depth")}
    torch.save(nets, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"2 networks \(rgb, depth\)"):
        open_weights(tmp_path / "m.pth")
    assert open_weights(tmp_path / "m.pth", network="depth").said.startswith("depth ->")


@pytest.mark.parametrize("name", ["truncated_zip", "runs_pt", "truncated_safetensors"])
def test_a_file_that_cannot_be_read_is_no_file_of_features(name, run_cli, photos, tmp_path):
    done = run_cli("knn", str(HOSTILE[name](tmp_path)), "--data", str(photos[0]))
    assert "holds features" not in done.stderr
    assert "cannot be read as weights" in done.stderr or "would run code" in done.stderr


def test_weights_for_one_channel_have_the_datas_own_mean(tmp_path, run_cli):
    net = timm.create_model("resnet18", in_chans=1)
    torch.save(net.state_dict(), tmp_path / "m.pth")
    images = np.random.default_rng(0).integers(0, 255, (4, 40, 40, 1), np.uint8)
    labels = [0, 1] * 2
    np.savez(tmp_path / "d.npz", train_images=images, test_images=images[::-1], train_labels=labels, test_labels=labels)
    done = run_cli("knn", str(tmp_path / "m.pth"), "--data", str(tmp_path / "d.npz"), "--channels", "1", "--json")
    assert done.exit_code == 0, done.output
    assert "mean and std of the data" in json.loads(done.stdout)["rows"][0]["about"]
