"""Encoders and batches of others in the Python API: what is found of them, and the sentence for what cannot be."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

import sslzoo
from sslzoo import UserError
from sslzoo.core.backbones import build
from sslzoo.exchange.opening import load_weights
from sslzoo.exchange.weights import save_encoder

TINY = " batchnorm=hidden hidden=16 dim=8 predictor_hidden=8"


def convolution(channels: int = 3, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Gives(nn.Module):
    """An encoder whose output is made of features [N, 5]."""

    def __init__(self, make: Callable[[Tensor], Any]):
        super().__init__()
        self.net, self.make = convolution(width=5), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.net(x))


def vit() -> nn.Module:
    made = torchvision.models.VisionTransformer(64, 16, 1, 2, 48, 64)
    made.heads = nn.Identity()
    return made


def grey() -> nn.Module:
    """Takes one channel, though its first convolution takes three."""

    class Repeated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, 3, 1, 1)

    return nn.Sequential(Repeated(), convolution())


def labelled(width: int) -> nn.Module:
    made = convolution()
    made.num_features = width  # type: ignore[assignment]
    return made


FOUND: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {  # encoder, its width, channels and size of an image
    **{f"{n} channels": (lambda n=n: convolution(n), 8, n, 16) for n in range(1, 14)},  # type: ignore[misc]
    "transformer of torchvision": (vit, 48, 3, 64),
    "pooled net of timm": (lambda: timm.create_model("resnet10t", num_classes=0), 512, 3, 32),
    "lazy layers": (
        lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5)),
        5,
        3,
        16,
    ),
    "grey images, coloured inside": (grey, 8, 1, 16),
    "flat pixels of no convolution": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), 12, 3, 16),
    "map of 4 by 4, flattened": (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(4)), 32, 3, 16),
    "tokens, flattened": (lambda: Gives(lambda x: x[:, None].repeat(1, 3, 1)), 15, 3, 16),
    "dict with features": (lambda: Gives(lambda x: {"features": x, "logits": x[:, :2]}), 5, 3, 16),
    "dict as DINOv2 gives": (lambda: Gives(lambda x: {"x_norm_clstoken": x, "masks": None}), 5, 3, 16),
    "dict as transformers give": (lambda: Gives(lambda x: {"last_hidden_state": x, "pooler_output": x}), 5, 3, 16),
    "num_features that is right": (lambda: labelled(8), 8, 3, 16),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_width_of_an_encoder_is_found(name: str) -> None:
    make, width, channels, size = FOUND[name]
    model = sslzoo.Siamese(make(), sslzoo.load("simsiam" + TINY))
    assert model.online.projector[0].in_features == width
    loss, keys = model([torch.rand(4, channels, size, size) for _ in range(2)])
    loss.backward()
    assert bool(loss.isfinite())
    assert keys.shape == (2, 4, 8)


WRONG: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {  # encoder, and parts of the sentence
    "wrong num_features": (lambda: labelled(99), ("width 8", "99")),
    "classifier still on": (lambda: timm.create_model("resnet10t"), ("width 1000", "512", "classifier")),
    "list of maps": (lambda: timm.create_model("resnet10t", features_only=True), ("a list", "[N, D]")),
    "tuple": (lambda: Gives(lambda x: (x, x)), ("a tuple", "[N, D]")),
    "Inception's": (lambda: Gives(lambda x: torchvision.models.InceptionOutputs(x, None)), ("InceptionOutputs",)),
    "dict of other keys": (lambda: Gives(lambda x: {"foo": x, "bar": x}), ("foo, bar", "pooler_output")),
    "nothing": (lambda: Gives(lambda x: None), ("NoneType",)),
    "one number an image": (lambda: Gives(lambda x: x.mean(1)), ("[1]", "[N, D]")),
    "an error": (lambda: Gives(lambda x: x @ x), ("none of", "num_features")),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_encoder_is_one_sentence(name: str, refused: Any) -> None:
    make, parts = WRONG[name]
    with refused(*parts):
        sslzoo.Siamese(make(), sslzoo.load("simsiam" + TINY))([torch.rand(4, 3, 32, 32) for _ in range(2)])


def test_maps_of_another_size_are_one_sentence(refused: Any) -> None:
    model = sslzoo.Siamese(nn.Conv2d(3, 1, 3), sslzoo.load("simsiam" + TINY))  # tried at 32 px
    model([torch.rand(4, 3, 32, 32) for _ in range(2)])
    with refused("width 196", "900"):
        model([torch.rand(4, 3, 16, 16) for _ in range(2)])


BATCHES: list[tuple[str, list[int], list[int] | None, tuple[str, ...]]] = [  # expression, rows of views, places
    ("simsiam" + TINY, [1, 1], None, ("batch norm",)),
    ("byol" + TINY, [1, 1], None, ("batch norm",)),
    ("vicreg batchnorm=none", [1, 1], None, ("too few for this loss",)),
    ("barlow_twins batchnorm=none", [1, 1], None, ("too few for this loss",)),
    ("simsiam" + TINY, [2, 3], None, ("2, 3 rows",)),
    ("simclr", [3, 2], None, ("3, 2 rows",)),
    ("simsiam" + TINY, [0, 0], None, ("empty",)),
    ("simsiam" + TINY, [4], None, ("needs 2 views",)),
    ("instdisc", [2, 2], [0, 99], ("place 99", "40 samples")),
    ("instdisc", [2, 2], [-1, 0], ("place -1", "40 samples")),
    ("instdisc", [2, 2], [0], ("1 places for 2 images",)),
    ("instdisc", [2, 2], None, ("model(views, index)",)),
]


@pytest.mark.parametrize(("expression", "rows", "places", "parts"), BATCHES)
def test_a_batch_that_cannot_be_is_one_sentence(
    expression: str, rows: list[int], places: list[int] | None, parts: tuple[str, ...], refused: Any
) -> None:
    model = sslzoo.Siamese(convolution(), sslzoo.load(expression), samples=40)
    with refused(*parts):
        model([torch.rand(n, 3, 8, 8) for n in rows], None if places is None else torch.tensor(places))


def test_one_image_is_enough_to_evaluate() -> None:
    model = sslzoo.Siamese(convolution(), sslzoo.load("simsiam" + TINY)).eval()
    assert bool(model([torch.rand(1, 3, 8, 8) for _ in range(2)])[0].isfinite())


def test_safetensors_saves_and_loads_a_model(tmp_path: Any) -> None:
    made = [sslzoo.Siamese(convolution(), sslzoo.load("byol" + TINY)) for _ in range(2)]
    made[0].clock.done = 7
    safetensors.torch.save_model(made[0], str(tmp_path / "model.safetensors"))
    safetensors.torch.load_model(made[1], str(tmp_path / "model.safetensors"))
    assert made[1].clock.done == 7
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
@pytest.mark.parametrize("words", ["", " optimizer.name=lars", " optimizer.name=adamw", " predictor_schedule=constant"])
def test_a_copied_optimiser_goes_on_with_its_schedule(words: str, again: Callable[[Any], Any]) -> None:
    recipe = sslzoo.load("simsiam" + TINY + words)
    model = sslzoo.Siamese(convolution(), recipe)
    pair = (model, sslzoo.optimizer(model, recipe, 10, batch_size=4))
    views = [torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[float]]:
        rates = []
        for _ in range(3):
            optimizer.zero_grad()
            model(views)[0].backward()
            optimizer.step()
            rates.append([group["lr"] for group in optimizer.param_groups])
        return rates

    steps(*pair)
    other = again(pair)
    rates = steps(*pair)
    assert rates == steps(*other)
    assert rates[0][0] > rates[2][0]  # the cosine falls
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other[0].parameters(), strict=True))


def test_training_leaves_the_generators_of_others_as_they_were(tmp_path: Any) -> None:
    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images, test_images=images[:4])
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    options = {"data": str(tmp_path / "d.npz"), "epochs": 1, "batch_size": 8, "device": "cpu"}
    run = sslzoo.train("simsiam" + TINY, out=str(tmp_path / "runs"), **options)["run"]  # type: ignore[arg-type]
    sslzoo.encoder(run)
    assert torch.equal(torch.rand(3), wanted)
    assert bool((np.random.get_state()[1] == state).all())


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v3_small"])
def test_a_classifier_of_torchvision_gives_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sslzoo.exchange import pretrained

    real = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: real(name, weights=None))
    found = pretrained.of_torchvision(name)
    widths = {"squeezenet1_1": 512, "resnet18": 512, "mobilenet_v3_small": 1024}
    shape = found.net.eval()(torch.zeros(1, 3, 64, 64)).shape
    assert (found.transform.size, shape) == (224, (1, widths[name]))


@pytest.mark.parametrize(
    ("words", "size"),
    [("dino --backbone levit_128s", 96), ("swav --backbone levit_128s", 96)],
)
def test_every_size_of_a_view_is_tried_before_anything_is_written(
    words: str, size: int, tmp_path: Any, refused: Any
) -> None:
    method, _, backbone = words.split()
    images = np.random.default_rng(0).integers(0, 255, (16, 160, 160, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images)
    with refused(f"no images of {size} px", "local_crops=0", "--backbone"):
        sslzoo.train(
            method, data=str(tmp_path / "d.npz"), image_size=160, backbone=backbone, epochs=1, batch_size=8,
            out=str(tmp_path / "runs"),
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_a_sentence_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="One image"):
        sslzoo.Siamese(convolution(), sslzoo.load("simsiam" + TINY))([torch.rand(1, 3, 8, 8)] * 2)
    assert issubclass(UserError, ValueError)


@pytest.mark.parametrize(
    ("size", "side"), [(8, 8), (32, 32), (45, 45), (46, 23), (64, 32), (96, 24), (128, 32), (224, 28)]
)
def test_the_small_net_sees_about_32_px_after_its_first_convolution(size: int, side: int) -> None:
    net = build("small", size)
    images = torch.rand(2, 3, size, size)
    assert net.layers[0](images).shape == (2, 16, side, side)
    assert net(images).shape == (2, 2048)


def test_weights_of_the_small_net_fit_no_other_stride(tmp_path: Path) -> None:
    """They have the same shapes, and would give other features; so had those of versions without a stride."""
    about = {"backbone": "small", "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "expression": "simsiam"}
    for first, second in ((32, 64), (64, 32)):
        save_encoder(tmp_path / "encoder.safetensors", build("small", first), about)
        with pytest.raises(UserError, match=r"encoder\.safetensors"):
            load_weights(build("small", second), tmp_path / "encoder.safetensors")
        load_weights(build("small", first), tmp_path / "encoder.safetensors")
