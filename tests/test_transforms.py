"""What is done to images before published encoders: timm's and torchvision's own transforms, pixel for pixel."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from sslzoo.data.decoded.crops import Crop
from sslzoo.data.images import FileImages, MemoryImages
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.sources import EmbedOptions
from sslzoo.exchange import pretrained
from sslzoo.exchange.transform import Asked, Transform
from sslzoo.tools.errors import UserError

MODELS = [  # of other sizes, cuts, interpolations and means
    "resnet18.a1_in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "efficientnet_b0.ra_in1k", "convnext_atto.d2_in1k",
    "deit_tiny_patch16_224.fb_in1k", "mobilenetv3_small_050.lamb_in1k", "regnetx_002.pycls_in1k",
    "levit_128s.fb_dist_in1k", "tf_efficientnet_b0.ns_jft_in1k", "xcit_nano_12_p16_224.fb_in1k",
    "repvgg_a0.rvgg_in1k", "ghostnet_100.in1k",
]  # fmt: skip


def photo(rng, height, width):
    """A picture with coarse and fine detail, as photos have."""
    coarse = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((width, height), 3), np.int16)
    return np.clip(coarse + rng.integers(-40, 41, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 20 photos, JPEG and PNG, upright and across, larger and smaller than any view."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    sizes = [(480, 640), (640, 480), (300, 300), (120, 200), (260, 233)]
    for i in range(20):
        name = f"{i:02}.{'jpg' if i % 2 else 'png'}"
        Image.fromarray(photo(rng, *sizes[i % 5])).save(folder / name, quality=92)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_published_models_images_are_those_of_timms_own_transform(name, photos):
    config = timm.get_pretrained_cfg(name)
    data = timm.data.resolve_data_config({}, pretrained_cfg=config.to_dict())
    wanted, ours = timm.data.create_transform(**data, is_training=False), Transform.of_timm(data)
    files = sorted(photos.iterdir())
    found = FileImages(tuple(files)).cut(range(20), ours.crop).pixels
    for file, pixels in zip(files, found, strict=True):
        mean, std = (torch.tensor(values)[:, None, None] for values in (ours.mean, ours.std))
        right = wanted(Image.open(file).convert("RGB"))
        assert torch.equal(pixels, (right * std + mean).mul(255).round().to(torch.uint8)), file.name
        assert torch.allclose((pixels.float() / 255 - mean) / std, right, atol=1e-6)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"])
def test_a_cut_is_timms(mode, interpolation):
    data = {"input_size": (3, 96, 96), "crop_pct": 0.9, "interpolation": interpolation, "crop_mode": mode,
            "mean": (0.2, 0.4, 0.6), "std": (0.5, 0.5, 0.5)}  # fmt: skip
    image = photo(np.random.default_rng(1), 150, 233)
    wanted = timm.data.create_transform(**data, is_training=False, normalize=False)(Image.fromarray(image))
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(MemoryImages(pixels[None]).cut([0], Transform.of_timm(data).crop).pixels[0], wanted)


def test_a_cut_of_other_channels_is_that_of_each():
    crop, rng = Crop(20, 24, "bicubic"), np.random.default_rng(2)
    bands = torch.from_numpy(rng.integers(0, 256, (5, 40, 30), np.uint8))
    found = crop.apply(bands)
    assert found.shape == (5, 20, 20)
    for one, band in zip(found, bands, strict=True):
        assert torch.equal(one, crop.apply(band.expand(3, -1, -1))[0])


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "efficientnet_b1", "swin_t"])
def test_torchvisions_transform(name, photos, monkeypatch):
    real = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: real(name, weights=None))
    ours, how = pretrained.of_torchvision(name).transform, models.get_model_weights(name)["DEFAULT"].transforms()
    file = min(photos.iterdir())
    pixels = FileImages((file,)).cut([0], ours.crop).pixels[0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (ours.mean, ours.std))
    assert torch.allclose((pixels.float() / 255 - mean) / std, how(Image.open(file).convert("RGB")), atol=1e-6)


@pytest.fixture
def random_weights(monkeypatch):
    """Build models of timm's without their published weights, which nothing here can download."""
    real = timm.create_model

    def create(name, pretrained=False, **rest):
        torch.manual_seed(0)
        return real(name, pretrained=False, **rest)

    monkeypatch.setattr(timm, "create_model", create)
    return create


@pytest.mark.parametrize("name", MODELS)
def test_features_of_a_published_model_are_those_of_timm_alone(name, photos, random_weights):
    """Faults, B: mean cosine .983 for vit_tiny, where images were cut and resized in one way for all models."""
    net = random_weights(name, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)
    with torch.no_grad():
        wanted = torch.stack(
            [net(transform(Image.open(file).convert("RGB"))[None])[0] for file in sorted(photos.iterdir())]
        )
    found = torch.from_numpy(
        embed(f"timm:{name}", EmbedOptions(str(photos), cached=False), every=True).arrays["train_features"].copy()
    )
    assert float(torch.cosine_similarity(found, wanted, dim=1).min()) > 0.9999
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_a_persons_numbers_win(photos, run_cli, random_weights):
    words = ["--interpolation", "lanczos", "--crop-pct", "1", "--mean", "0,0,0", "--std", "1,1,1", "--image-size", "64"]
    done = run_cli("knn", "timm:resnet18.a1_in1k", "--data", str(photos), "--json", *words)
    about = json.loads(done.stdout)["rows"][0]["about"]
    assert about == "shorter side to 64 px (lanczos), centre of 64; mean 0, 0, 0; std 1, 1, 1"


@pytest.mark.parametrize(
    ("asked", "size", "words"),
    [
        (Asked(), None, "shorter side to 235 px (bicubic), centre of 224"),
        (Asked(), 112, "shorter side to 117 px (bicubic), centre of 112"),
        (Asked(crop_pct=0.5), None, "shorter side to 448 px (bicubic), centre of 224"),
        (Asked(interpolation="box"), 224, "shorter side to 235 px (box), centre of 224"),
    ],
)  # fmt: skip
def test_a_size_or_a_share_changes_what_is_resized(asked, size, words):
    own = Transform.of_timm({"input_size": (3, 224, 224), "crop_pct": 0.95, "interpolation": "bicubic",
                             "mean": (0.5,) * 3, "std": (0.5,) * 3})  # fmt: skip
    assert own.changed(asked, size).words.startswith(words)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2}, "both sides to 224 px (bilinear);"),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
          "resample": 3}, "shorter side to 256 px (bicubic), centre of 224;"),
        ({"size": 224, "resample": 3}, "shorter side to 224 px (bicubic), centre of 224;"),
    ],
)  # fmt: skip
def test_hugging_faces_processors_are_read(config, words):
    found = Transform.of_processor({**config, "image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    assert found.words.startswith(words)
    assert found.words.endswith("mean 0.5, 0.5, 0.5; std 0.25, 0.25, 0.25")


def test_a_folder_as_timm_writes_it_is_a_source(tmp_path, photos):
    args = {"img_size": 96, "global_pool": "avg", "init_values": 1e-5}
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, **args).eval()
    config = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.4] * 3, "interpolation": "bilinear",
              "crop_pct": 1.0, "crop_mode": "squash", "num_classes": 0}  # fmt: skip
    folder = tmp_path / "m"
    folder.mkdir()
    whole = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_args": args, "pretrained_cfg": config}
    (folder / "config.json").write_text(json.dumps(whole))
    save_file(net.state_dict(), folder / "model.safetensors")
    for name in (f"timm:local-dir:{folder}", str(folder), str(folder / "model.safetensors")):
        found = embed(name, EmbedOptions(str(photos), cached=False), every=True)
        assert "both sides to 96 px (bilinear); mean 0.1, 0.2, 0.3" in found.about
        images = [
            Image.open(file).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)
            for file in sorted(photos.iterdir())
        ]
        pixels = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in images]).float() / 255
        mean, std = torch.tensor(config["mean"])[:, None, None], 0.4
        with torch.no_grad():
            wanted = net((pixels - mean) / std).numpy()
        assert found.arrays["train_features"] == pytest.approx(wanted, abs=2e-5)


HUBCONF = """
dependencies = ["torch"]
def tiny(pretrained=True):
    import torch
    torch.manual_seed(0)
    print("hubs say things on standard output")
    return torch.nn.Sequential(torch.nn.Conv2d(3, 6, 8, 8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
def text():
    return "no network"
def broken():
    raise RuntimeError("no")
"""


def test_a_model_of_a_repositorys_hubconf(tmp_path, photos, run_cli, bad_input):
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    done = run_cli("knn", f"torchhub:{tmp_path}:tiny", "--data", str(photos), "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["dimension"] == 6
    assert "256 px (bilinear), centre of 224" in row["about"]
    bad_input("gives a str and no network", "knn", f"torchhub:{tmp_path}:text", "--data", str(photos))
    bad_input(
        "neither cached nor to be had (RuntimeError)", "knn", f"torchhub:{tmp_path}:broken", "--data", str(photos)
    )
    bad_input("it is torchhub:OWNER/NAME:MODEL", "knn", "torchhub:nothing", "--data", str(photos))


def test_models_that_cannot_be_had_are_one_sentence(bad_input, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(torch.hub, "load", offline)
    bad_input("weights of hf-hub:timm/resnet18.a1_in1k are neither cached", "knn", "hf-hub:timm/resnet18.a1_in1k")
    bad_input("weights of timm:resnet18 are neither cached", "knn", "timm:resnet18")
    bad_input(
        "torchhub:facebookresearch/dino:main:dino_vits16 are neither",
        "knn",
        "torchhub:facebookresearch/dino:main:dino_vits16",
    )
    bad_input("is no name of a repository", "knn", "hf-hub:resnet18")
    bad_input("has no config.json", "knn", f"timm:local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--interpolation", "cubic"), "--interpolation cannot be 'cubic'; it is nearest, bilinear"),
        (("--crop-pct", "1.2"), "--crop-pct cannot be 1.2"),
        (("--mean", "a,b"), "--mean cannot be 'a,b'; it is a number for each channel"),
        (("--std", "0,1,1"), "--std cannot have numbers that are not above 0"),
        (("--mean", "1,1", "--std", "1,1,1"), "--mean has 2 numbers and --std 3"),
        (("--mean", "123,116,103"), "--mean is of pixels in [0, 1]"),
        (
            ("--mean", "1,1,1"),
            "--mean is of networks that come with a transform of their own, and random has none",
        ),
    ],
)
def test_a_transform_that_cannot_be_is_one_sentence(words, part, bad_input, photos):
    bad_input(part, "knn", "random", "--data", str(photos), *words)


def test_a_mean_has_a_number_for_each_channel(bad_input, photos, random_weights):
    bad_input(
        "--mean has 2 numbers, for 3 channels",
        "knn",
        "timm:resnet18.a1_in1k",
        "--data",
        str(photos),
        "--mean",
        "1,1",
        "--std",
        "1,1",
    )


def test_modules_of_a_run_are_not_cut_otherwise_unless_asked(tmp_path):
    assert Transform(32, 32).crop is None
    assert Transform(32, 36).crop == Crop(32, 36, "bilinear")
    assert Transform(32, 32, "bicubic").crop == Crop(32, 32, "bicubic")
    with pytest.raises(UserError):
        Asked(interpolation="ours").check()
