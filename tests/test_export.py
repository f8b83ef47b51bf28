"""Encoders that go out: other libraries, in processes that cannot import sslzoo, give the features of the run."""

import copy
import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import sslzoo
from sslzoo.core.backbones import build
from sslzoo.core.encoders import flat
from sslzoo.evaluation.exporting import wilson
from sslzoo.exchange.export import onnx_file, stem, timm_folder, torchvision_file, traced
from sslzoo.exchange.export.formats import FORMATS
from sslzoo.exchange.export.subject import Subject

EXACT, CLOSE, ONNX = 1e-6, 1e-5, 1e-4  # of the largest feature
NETS = {  # a run of each: backbone, and the size of a view
    "small": ("small", 32), "stem3": ("resnet18", 32), "stem7": ("resnet18", 96),
    "vit": ("vit_tiny_patch16_224:depth=4", 64),
}  # fmt: skip
ALONE = "import sys\nsys.modules['sslzoo'] = None\n"  # importing it fails
DONE = "\nassert not [name for name in sys.modules if name.startswith('sslzoo.')]\n"


def trained(folder: Path, backbone: str, size: int, expression: str = "byol") -> Path:
    """The run of a backbone, on images of a size in px, in a folder of its own; two epochs of two steps."""
    rng = np.random.default_rng(size)
    arrays = {
        f"{split}_images": rng.integers(0, 255, (8, size, size, 3), dtype=np.uint8) for split in ("train", "test")
    }
    arrays |= {f"{split}_labels": np.arange(8) % 2 for split in ("train", "test")}
    np.savez(folder / "data.npz", **arrays)
    words = f"{expression} tau=0.99 heads.hidden=16 dim=8 predictor_hidden=8"
    made = sslzoo.train(
        words, data=str(folder / "data.npz"), image_size=size, epochs=2, batch_size=4, backbone=backbone, device="cpu",
        precision="float32", out=str(folder / "runs"), baselines=False, workers=0,
    )  # fmt: skip
    return Path(made.run)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: trained(tmp_path_factory.mktemp(name), *net) for name, net in NETS.items()}


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    """Draw a picture of a size in px, which is there as picture.jpg, without a loss."""

    def draw(size: int) -> Image.Image:
        made = Image.fromarray(np.random.default_rng(7).integers(0, 255, (size, size, 3), dtype=np.uint8))
        made.save(tmp_path / "picture.jpg", "PNG")
        return made

    return draw


def alone(code: str, folder: Path) -> dict[str, np.ndarray]:
    """What Python without sslzoo has in ``features``, ``more`` and ``parts`` when it has run a code in a folder."""
    last = "\nimport numpy\nnumpy.savez('found.npz', **{k: numpy.asarray(v) for k, v in globals().items()"
    last += " if k.endswith(('features', 'more', 'parts'))})"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE + code + DONE + last], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    with np.load(folder / "found.npz") as found:
        return dict(found)


def in_card(folder: Path) -> str:
    """The Python of a model card."""
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1]


def own(run: Path, *pictures: Image.Image) -> np.ndarray:
    """The features that sslzoo gives."""
    opened = sslzoo.Run(run)
    with torch.no_grad():
        return opened.encoder(torch.stack([opened.transform(one) for one in pictures])).flatten(1).numpy()


def near(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a part of the largest feature."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", NETS)
def test_a_card_s_python_gives_the_run_s_features_by_timm_and_by_transformers(
    name: str, runs: dict[str, Path], tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder for the Hub is one for timm, and its card has lines for both."""
    monkeypatch.chdir(tmp_path)
    expected = own(runs[name], picture(NETS[name][1]))
    made = sslzoo.export(runs[name], to="timm" if name == "small" else "hf", out="given")
    assert sorted(made.files) == sorted(os.listdir("given"))
    by_timm, mark, by_transformers = in_card(tmp_path / "given").partition("# or by transformers")
    assert bool(mark) == (name != "small")
    if mark and find_spec("transformers") is not None:
        by_timm += f"more = features\n{by_transformers.partition(chr(10))[2]}"
    found = alone(by_timm, tmp_path)
    for features in {"features", "more"} & {*found}:
        assert near(found[features], expected) <= (CLOSE if name == "stem3" else EXACT)


@pytest.mark.parametrize("name", ["stem3", "stem7"])
def test_torchvision_loads_a_plain_state_dict(
    name: str, runs: dict[str, Path], tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = own(runs[name], picture(NETS[name][1]))
    sslzoo.export(runs[name], to="torchvision", out="given")
    assert {"conv1.weight", "layer4.1.bn2.running_var"} <= {*torch.load("given/model.pth", weights_only=True)}
    assert near(alone(in_card(tmp_path / "given"), tmp_path)["features"], expected) <= EXACT


@pytest.mark.parametrize("name", NETS)
def test_a_program_and_an_onnx_file_take_any_batch(
    name: str, runs: dict[str, Path], tmp_path: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pixels in [0, 1]: by the card's own lines, 7 images beside, and images of another shape where it is free."""
    monkeypatch.chdir(tmp_path)
    size, opened = NETS[name][1], sslzoo.Run(runs[name])
    mean, std = (torch.tensor(x)[:, None, None] for x in (opened.about.mean, opened.about.std))
    seven = torch.rand(7, 3, size, size, generator=torch.Generator().manual_seed(1))
    wide = nn.functional.pad(seven, (0, 9, 0, 4))
    with torch.no_grad():
        expected = {"features": own(runs[name], picture(size)), "more": opened.encoder((seven - mean) / std).numpy()}
        if name.startswith("stem"):
            expected["parts"] = opened.encoder((wide - mean) / std).numpy()
    np.savez("asked.npz", more=seven.numpy(), parts=wide.numpy())
    code, most = "import numpy, torch\ntorch.set_grad_enabled(False)\nasked = numpy.load('asked.npz')\n", {}
    both = find_spec("onnxruntime") and find_spec("onnxscript") and name in ("stem3", "vit")  # one of each kind
    kinds = ("torch", "onnx") if both else ("torch",)
    for to in kinds:
        made = sslzoo.export(runs[name], to=to, out=to)
        assert made.normalised_inside
        assert made.free == (("batch", "height", "width") if "parts" in expected else ("batch",))
        call = "net(torch.from_numpy({}))" if to == "torch" else "net.run(None, {{'images': {}}})[0]"
        code += f"{in_card(tmp_path / to)}\n{to}_features = features\n"
        code += "".join(f"{to}_{key} = {call.format(f'asked[{key!r}]')}\n" for key in expected if key != "features")
        most[to] = EXACT if to == "torch" else ONNX
    found = alone(code, tmp_path)
    for to in kinds:
        for key, features in expected.items():
            assert near(found[f"{to}_{key}"], features) <= most[to]


@pytest.mark.parametrize(
    ("name", "to"), [("small", "torch"), ("stem3", "hf"), ("stem7", "torchvision"), ("vit", "timm")]
)
def test_a_card_s_python_shows_any_picture_as_the_run_saw_it(
    name: str, to: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a grey level: by Pillow, of other sides, also one that lies on its side."""
    monkeypatch.chdir(tmp_path)
    kind = np.random.default_rng(7).integers(0, 255, (30, 20, 3), dtype=np.uint8)
    straight = Image.fromarray(kind).resize((301, 443), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    straight.transpose(Image.Transpose.ROTATE_90).save("picture.jpg", "PNG", exif=exif)
    sslzoo.export(runs[name], to=to, out="given")
    names: dict[str, Any] = {}
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(in_card(tmp_path / "given").partition("# or by")[0], names)
    found, expected = names["features"].detach().numpy(), own(runs[name], straight)
    assert near(found, expected) <= 0.01
    assert nn.functional.cosine_similarity(torch.tensor(found), torch.tensor(expected)).item() >= 0.9999


def test_the_target_network_and_the_projector_go_out(runs: dict[str, Path], tmp_path: Path) -> None:
    """As `embed` has them of the run, from the same checkpoint."""
    run = runs["stem3"]
    data = sslzoo.embed(run, layer="projector", network="target", cached=False, device="cpu").arrays["test_features"]
    made = sslzoo.export(run, to="torch", out=tmp_path / "given", network="target", projector=True, normalise=False)
    assert (made.layer, made.network, made.features, made.normalised_inside) == ("projector", "target", 8, False)
    about = sslzoo.Run(run).about
    with np.load(about.options.place) as arrays:
        pixels = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (about.mean, about.std))
    found = torch.export.load(tmp_path / "given/model.pt2").module()((pixels - mean) / std)
    assert near(found.detach().numpy(), data) <= EXACT
    assert (
        near(found.detach().numpy(), sslzoo.embed(run, layer="projector", cached=False).arrays["test_features"]) > EXACT
    )
    net = sslzoo.export(run, to="torchvision", out=tmp_path / "net", network="target")
    weights = torch.load(tmp_path / "net/model.pth", weights_only=True)
    assert net.network == "target"
    assert not torch.equal(weights["conv1.weight"], sslzoo.encoder(run).state_dict()["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "to", "source"),
    [("small", "timm", "given"), ("stem3", "hf", "timm:local-dir:given"), ("stem3", "torchvision", "given/model.pth"),
     ("stem7", "timm", "given"), ("vit", "hf", "given")],
)  # fmt: skip
def test_what_went_out_comes_in_again(
    name: str, to: str, source: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a source of features."""
    monkeypatch.chdir(tmp_path)
    sslzoo.export(runs[name], to=to, out="given")
    data = sslzoo.Run(runs[name]).about.options.place
    expected = sslzoo.embed(runs[name], device="cpu", cached=False).arrays["test_features"]
    found = sslzoo.embed(source, data=data, device="cpu", cached=False).arrays["test_features"]
    assert near(found, expected) <= (CLOSE if name == "stem3" else EXACT)


def test_the_small_net_comes_in_again_in_a_process_that_exported_none(runs: dict[str, Path], tmp_path: Path) -> None:
    """By our own file: the one in the folder, which anybody may have changed, is not run."""
    sslzoo.export(runs["small"], to="timm", out=tmp_path / "given")
    (tmp_path / "given/sslzoo_small.py").write_text("raise SystemExit('it ran')")
    words = ["embed", "given", "--data", sslzoo.Run(runs["small"]).about.options.place, "--out", "f.npz", "--no-cache"]
    ran = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with np.load(tmp_path / "f.npz") as found:
        expected = sslzoo.embed(runs["small"], device="cpu", cached=False).arrays["test_features"]
        assert near(found["test_features"], expected) <= EXACT


@pytest.mark.parametrize(
    ("text", "size", "scale"),
    [("resnet18:stem=3x3", 96, 4), ("resnet18:stem=7x7", 64, 1), ("resnet18:stem=3x3p2", 32, None),
     ("vit_tiny_patch16_224:global_pool=avg,init_values=0.1,num_heads=4", 64, 1)],
)  # fmt: skip
def test_a_backbone_s_arguments_go_with_it(
    text: str, size: int, scale: int | None, tmp_path: Path, refused: Any
) -> None:
    """And a stem that is padded by two, which timm has not, goes to torchvision alone."""
    subject = Subject(text, learnt(text, size), size, (0.3, 0.4, 0.5), (0.2,) * 3)
    if scale is None:
        with refused("padded by 2", "use --to torch"):
            timm_folder.write(subject, tmp_path, "given")
    else:
        written = timm_folder.write(subject, tmp_path, "given")
        assert (written.size, written.difference <= CLOSE) == (scale * size, True)
    if text.startswith("resnet"):
        assert torchvision_file.write(subject, tmp_path, "given").difference <= EXACT
    else:
        with refused("torchvision has no net"):
            torchvision_file.write(subject, tmp_path, "given")


# ---- the stem


def learnt(name: str, size: int, channels: int = 3) -> nn.Module:
    """A backbone whose batch norm has seen images, with scales and shifts of its own."""
    torch.manual_seed(0)
    net = build(name, size, channels=channels).train()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, channels, size, size) * 2 + 1)
    return net.eval()


@pytest.mark.parametrize(("name", "size", "channels"), [("resnet18", 32, 3), ("resnet18", 40, 1), ("resnet50", 33, 4)])
def test_the_small_stem_is_timm_s_on_repeated_pixels(name: str, size: int, channels: int) -> None:
    """Of timm's own net with max pooling replaced, at four times the size, zeros around both."""
    encoder = learnt(name, size, channels)
    net = timm.create_model(name, num_classes=0, in_chans=channels, replace_stem_pool=True)
    stem.convert(encoder, net)
    images = torch.randn(3, channels, size, size)
    with torch.no_grad():
        large = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
        assert near(net.eval()(large).numpy(), encoder(images).numpy()) <= CLOSE
        assert near(net.eval()(large.roll(1, 3)).numpy(), encoder(images).numpy()) > CLOSE


def test_box_repeats_pixels(picture: Any) -> None:
    """What Pillow does when timm's transform asks it to enlarge by four."""
    small = picture(32)
    large = np.asarray(small.resize((128, 128), Image.Resampling.BOX))
    assert np.array_equal(large, np.asarray(small).repeat(4, 0).repeat(4, 1))


def test_timm_s_config_is_how_the_run_saw_pictures(runs: dict[str, Path], tmp_path: Path) -> None:
    about = sslzoo.Run(runs["stem7"]).about
    sslzoo.export(runs["stem7"], to="timm", out=tmp_path / "given")
    net = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True)  # no classes by itself
    config = timm.data.resolve_model_data_config(net)
    assert config["input_size"] == (3, 96, 96)
    assert (config["interpolation"], config["crop_pct"], config["crop_mode"]) == ("bilinear", 1.0, "center")
    assert config["mean"] == pytest.approx(about.mean)
    assert config["std"] == pytest.approx(about.std)
    content = json.loads((tmp_path / "given/config.json").read_text())
    assert (content["architecture"], content["num_classes"]) == ("resnet18", 0)
    assert not {"url", "hf_hub_id", "license", "tag"} & {*content["pretrained_cfg"]}  # of weights of others
    fresh = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True, num_classes=5)
    assert fresh(torch.zeros(1, 3, 96, 96)).shape == (1, 5)
    assert torch.equal(fresh.conv1.weight, net.conv1.weight)


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("small", 96, 1), ("resnet18", 40, 4), ("resnet18d", 32, 3), ("resnet18", 96, 2), ("vit_tiny_patch16_224", 64, 1),
     ("convnext_atto", 64, 3), ("swin_tiny_patch4_window7_224", 96, 3)],
)  # fmt: skip
def test_timm_takes_other_nets_and_channels(name: str, size: int, channels: int, tmp_path: Path) -> None:
    subject = Subject(name, learnt(name, size, channels), size, (0.3, 0.4, 0.5, 0.6)[:channels], (0.2,) * channels)
    written = timm_folder.write(subject, tmp_path, "given")
    scale = written.size // size
    pixels = torch.rand(2, channels, size, size)
    net = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    assert next(net.parameters()).shape[1] == channels or name.startswith("vit")
    mean, std = (torch.tensor(x)[:, None, None] for x in (subject.mean, subject.std))
    images = (pixels - mean) / std
    with torch.no_grad():
        large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        assert near(net(large).numpy(), flat(subject.encoder(images)).numpy()) <= CLOSE
    assert (scale == 4) == (name == "resnet18" and size <= 64)


def test_torchvision_s_vit_has_timm_s_weights_by_other_names() -> None:
    """A ViT of two blocks of each."""
    torch.manual_seed(0)
    sizes = {"num_classes": 0, "embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}
    ours = timm.create_model("vit_base_patch16_224", **sizes).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    theirs = VisionTransformer(64, 16, 2, 3, 48, 192)
    theirs.heads = nn.Identity()
    theirs.load_state_dict(torchvision_file.renamed(ours.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert near(theirs.eval()(images).numpy(), ours(images).numpy()) <= CLOSE


# ---- the folder and its card


def test_a_card_says_what_the_run_was(runs: dict[str, Path], tmp_path: Path) -> None:
    run = runs["small"]
    sslzoo.export(run, to="torch", out=tmp_path / "given", licence="cc-by-4.0")
    card = (tmp_path / "given/README.md").read_text(encoding="utf-8")
    head = card.split("---\n")[1]
    assert "license: cc-by-4.0\n" in head
    assert "- sslzoo\n" in head
    result = json.loads((run / "knn.json").read_text())
    low, high = wilson(result["knn"]["k20"], 8)
    assert f"| this encoder | {result['knn']['k20']:.3f} ({low:.3f} to {high:.3f}) |" in card
    assert "| raw pixels | not measured |" in card  # baselines=False
    assert "the 8 images of the test split" in card
    assert "2 of 2, batch 4" in card
    assert "predictor mlp, target momentum, stop_gradient true" in card
    assert (run / "recipe.toml").read_text().rstrip() in card
    command = re.search(r"```sh\n(.*?)\n```", card, re.S)
    assert command is not None
    assert command[1].startswith("sslzoo train 'byol tau=0.99 heads.hidden=16 dim=8 predictor_hidden=8' --data ")
    assert "--no-baselines" in command[1]
    sslzoo.export(run, to="torch", out=tmp_path / "given")
    card = (tmp_path / "given/README.md").read_text(encoding="utf-8")
    assert "license: other\nlicense_name: not-stated\n" in card
    assert "The licence is not stated" in card


def test_a_card_of_a_run_that_has_not_ended(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in runs["small"].iterdir():
        if file.is_file() and file.name != "knn.json":
            (run / file.name).write_bytes(file.read_bytes())
    sslzoo.export(run, to="timm", out=tmp_path / "given")
    card = (tmp_path / "given/README.md").read_text(encoding="utf-8")
    assert "The run has not ended." in card
    assert "| the untrained backbone | not measured |" in card
    assert "| this encoder | not measured |" in card


def test_a_card_says_what_training_began_with(runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in runs["small"].iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    about = json.loads((run / "run.json").read_text())
    about["options"]["init"] = "timm:resnet18"
    (run / "run.json").write_text(json.dumps(about))
    sslzoo.export(run, to="timm", out=tmp_path / "given")
    assert "| the initial weights, timm:resnet18 | not measured |" in (tmp_path / "given/README.md").read_text()


@pytest.mark.parametrize(
    ("share", "n", "expected"), [(0.5, 100, (0.404, 0.596)), (0, 10, (0, 0.278)), (1, 10, (0.722, 1))]
)
def test_wilson_s_interval(share: float, n: int, expected: tuple[float, float]) -> None:
    """Of Newcombe's tables, and by hand: 0 of 10 is at most 0.278."""
    assert wilson(share, n) == pytest.approx(expected, abs=1e-3)


def test_a_folder_of_ours_is_replaced_whole_and_others_files_never(
    runs: dict[str, Path], tmp_path: Path, refused: Any
) -> None:
    out = tmp_path / "given"
    sslzoo.export(runs["small"], to="timm", out=out)
    first = {path.name for path in out.iterdir()}
    assert first == {"README.md", "config.json", "model.safetensors", "sslzoo_small.py"}
    sslzoo.export(runs["small"], to="torch", out=out)
    assert {path.name for path in out.iterdir()} == {"README.md", "model.pt2"}
    (out / "mine.txt").write_text("mine")
    with refused("holds mine.txt", "--force"):
        sslzoo.export(runs["small"], to="torch", out=out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("mine")
    (other / "config.json").write_text("mine")
    with refused("holds README.md or config.json", "--force"):
        sslzoo.export(runs["small"], to="torch", out=other)
    assert {path.read_text() for path in other.iterdir()} == {"mine"}
    sslzoo.export(runs["small"], to="torch", out=other, force=True)
    assert (other / "config.json").read_text() == "mine"  # no file of this format
    assert {path.name for path in other.iterdir()} == {"README.md", "config.json", "model.pt2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "other"]


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_an_export_that_fails(
    there: bool, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    """Also where what is written turns out to give other features: it is none."""
    out = tmp_path / "given"
    if there:
        sslzoo.export(runs["small"], to="timm", out=out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    whole = traced.Whole.forward
    monkeypatch.setattr(traced.Whole, "forward", lambda self, images: whole(self, images) * 1.01)
    with refused("gives other features"):
        sslzoo.export(runs["small"], to="torch", out=out)
    monkeypatch.undo()
    if there:
        monkeypatch.setattr(os, "rename", _refusing(os.rename, "model.pt2"))
        with refused("cannot be written", "No space left"):
            sslzoo.export(runs["small"], to="torch", out=out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["given"] * there


def test_what_a_kill_has_left_is_passed_over_and_removed_when_it_is_old(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "given"
    for place, age in ((tmp_path / ".1.2.tmp", 7200), (out / ".3.4.tmp", 7200), (out / ".5.6.tmp", 60)):
        place.mkdir(parents=True)
        (place / "model.pt2").write_text("half")
        os.utime(place, (time.time() - age,) * 2)
    sslzoo.export(runs["small"], to="timm", out=out)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".*.tmp")}
    assert left == {".1.2.tmp", "given/.5.6.tmp"}
    assert (out / "model.safetensors").is_file()
    sslzoo.export(runs["small"], to="timm", out=tmp_path / "other")
    assert not (tmp_path / ".1.2.tmp").exists()


def _refusing(rename: Any, name: str) -> Any:
    def renamed(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise OSError(28, "No space left on device", str(target))
        rename(source, target)

    return renamed


def test_a_missing_library_is_named(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setattr("sslzoo.evaluation.exporting.find_spec", lambda name: None if name == "onnxscript" else name)
    with refused("--to onnx needs onnxscript", "pip install 'sslzoo[onnx]'"):
        sslzoo.export(runs["small"], to="onnx", out=tmp_path / "given")
    assert [*tmp_path.iterdir()] == []


def test_python_refuses_an_unknown_format(runs: dict[str, Path], tmp_path: Path, refused: Any) -> None:
    with refused("There is no format 'onxx' (did you mean 'onnx'?)", "timm, torchvision, torch, onnx or hf"):
        sslzoo.export(runs["small"], to="onxx", out=tmp_path / "given")


def test_a_person_s_own_backbone_goes_out_by_torch_alone(
    tmp_path: Path, refused: Any, forgotten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.num_features = nn.Conv2d(3, 6, 4, 4), 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).relu().mean((2, 3))

    run = trained(tmp_path, copy.deepcopy(Mine()), 16)  # type: ignore[arg-type]
    for to in ("timm", "hf", "torchvision"):
        with refused("use --to torch" if to != "torchvision" else "torchvision has no net"):
            sslzoo.export(run, to=to, out=tmp_path / "given")
    assert sslzoo.export(run, to="torch", out=tmp_path / "given").features == 6


def test_the_command_prints_one_object(runs: dict[str, Path], tmp_path: Path) -> None:
    """And no library another line, on a standard output of its own."""
    pytest.importorskip("onnxruntime")
    words = ["export", str(runs["small"]), "--to", "onnx", "--out", str(tmp_path / "given"), "--json"]
    ran = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert found["files"] == {path.name: path.stat().st_size for path in (tmp_path / "given").iterdir()}
    assert found["difference"] <= ONNX
    opened, size = sslzoo.Run(runs["small"]), NETS["small"][1]
    mean, std = (torch.tensor(x)[:, None, None] for x in (opened.about.mean, opened.about.std))
    for number in (1, 7):
        pixels = torch.rand(number, 3, size, size)
        with torch.no_grad():
            expected = opened.encoder((pixels - mean) / std).numpy()
        assert near(onnx_file.run(tmp_path / "given/model.onnx")(pixels).numpy(), expected) <= ONNX


def test_weights_too_large_for_one_file_lie_beside_it(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are found there once the folder has its name, and gone with the next export."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("sslzoo.exchange.export.onnx_file.LARGEST", 1000)
    made = sslzoo.export(runs["small"], to="onnx", out=tmp_path / "given")
    assert {*made.files} == {"README.md", "model.onnx", "model.onnx.data"}
    assert made.files["model.onnx"] < made.files["model.onnx.data"]
    run = onnx_file.run(tmp_path / "given/model.onnx")
    opened = sslzoo.Run(runs["small"])
    mean, std = (torch.tensor(x)[:, None, None] for x in (opened.about.mean, opened.about.std))
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert near(run(pixels).numpy(), opened.encoder((pixels - mean) / std).numpy()) <= ONNX
    sslzoo.export(runs["small"], to="timm", out=tmp_path / "given")
    assert not (tmp_path / "given/model.onnx.data").exists()


def test_the_help_names_every_format(run_cli: Any) -> None:
    text = run_cli("export", "--help").output
    assert all(re.search(rf"^  {name} ", text, re.M) for name in FORMATS)


# ---- the Hub


class Hub:
    """What a client of the Hub was asked for, and the files that it was given, in place of the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None):
        import huggingface_hub

        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}

        def create_repo(api: Any, repo_id: str, **options: Any) -> Any:
            self.asked.append(f"create {repo_id}")
            if error is not None:
                raise error
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(api: Any, *, folder_path: str, allow_patterns: Any = None, **options: Any) -> None:
            self.asked.append(f"upload {options['repo_id']}")
            kept = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            self.files |= {
                name: some for name, some in kept.items() if allow_patterns is None or name in allow_patterns
            }

        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
        monkeypatch.setattr(huggingface_hub.HfApi, "file_exists", lambda api, **_: False)
        monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)


@pytest.mark.parametrize("name", ["small", "stem3"])
def test_what_is_pushed_is_the_folder(
    name: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(monkeypatch)
    made = sslzoo.export(runs[name], to="timm", out=tmp_path / "given", push="me/net")
    assert made.pushed is not None
    assert made.pushed.endswith("/me/net")
    assert hub.asked == ["create me/net", "upload me/net", "upload me/net"]
    files = {path.name: path.read_bytes() for path in (tmp_path / "given").iterdir() if path.is_file()}
    assert hub.files == files


def test_no_network_is_a_sentence(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, at a port where nobody listens; the folder is there."""
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    words = ["export", str(runs["small"]), "--to", "timm", "--out", str(tmp_path / "given"), "--push", "me/net"]
    ran = subprocess.run([sys.executable, "-m", "sslzoo", *words], capture_output=True, text=True, env=env)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "is written, but not pushed to me/net (the Hub does not answer" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert (tmp_path / "given/model.safetensors").is_file()


def test_no_token_is_a_sentence(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    from huggingface_hub.errors import LocalTokenNotFoundError

    Hub(monkeypatch, LocalTokenNotFoundError("none"))
    with refused("is written, but not pushed to me/net", "set HF_TOKEN"):
        sslzoo.export(runs["small"], to="timm", out=tmp_path / "given", push="me/net")
