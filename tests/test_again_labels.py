"""Layouts, labels and encoders that new users bring: what is found of each, or the sentence for what cannot be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sslzoo

TINY = "simsiam batchnorm=hidden hidden=16 dim=8 predictor_hidden=8"


def convolution(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Gives(nn.Module):
    """An encoder whose output is made of features [N, 8]."""

    def __init__(self, make: Callable[[Tensor], Any]):
        super().__init__()
        self.net, self.make = convolution(), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.net(x))


class Unmade(nn.Module):
    """A module whose base was not made."""

    def __init__(self) -> None:
        pass


# ---- encoders and views that do not belong together ------------------------------------------------------------------

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WRONG: dict[str, tuple[Callable[[], Any], Any, tuple[str, ...]]] = {  # encoder, a view, and parts of the sentence
    "three channels for one": (lambda: convolution(1), IMAGES, ("[4, 3, 16, 16]", "channels")),
    "one channel for three": (convolution, IMAGES[:, :1], ("[4, 1, 16, 16]", "channels")),
    "channels last": (convolution, IMAGES.permute(0, 2, 3, 1), ("[4, 16, 16, 3]", "channels")),
    "lazy layers, made for three channels": (
        lambda: nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES[:, :1], ("channels",),
    ),
    "whole numbers": (convolution, (IMAGES * 255).byte(), ("torch.uint8", "dtype")),
    "double images": (convolution, IMAGES.double(), ("torch.float64", "dtype")),
    "half encoder": (lambda: convolution().half(), IMAGES, ("torch.float32", "dtype")),
    "smaller than a filter": (convolution, IMAGES[..., :2, :2], ("[4, 3, 2, 2]", "size")),
    "an image without a batch": (convolution, IMAGES[0], ("8 rows for 3 images", "[N, C, H, W]")),
    "numpy's arrays": (convolution, IMAGES.numpy(), ("ndarray", "tensors")),
    "views without pixels": (convolution, IMAGES.to("meta"), ("meta",)),
    "an encoder without weights": (lambda: convolution().to("meta"), IMAGES, ("meta", "to_empty")),
    "fewer rows": (lambda: Gives(lambda x: x[:1]), IMAGES, ("1 rows for 4 images",)),
    "no columns": (lambda: Gives(lambda x: x[:, :0]), IMAGES, ("[1, 0]", "[N, D]")),
    "whole features": (lambda: Gives(lambda x: x.long()), IMAGES, ("torch.int64",)),
    "complex features": (lambda: Gives(lambda x: x + 1j), IMAGES, ("torch.complex64",)),
    "no gradient": (lambda: Gives(lambda x: x.detach()), IMAGES, ("no gradient",)),
    "a name": (lambda: "resnet18", IMAGES, ("a str", "torch.nn.Module")),
    "nothing": (lambda: None, IMAGES, ("NoneType", "torch.nn.Module")),
    "a class": (lambda: nn.Flatten, IMAGES, ("the class Flatten",)),
    "weights": (lambda: convolution().state_dict(), IMAGES, ("OrderedDict",)),
    "a function": (lambda: lambda x: x.flatten(1), IMAGES, ("a function",)),
    "a module that is not made": (Unmade, IMAGES, ("Unmade",)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_together_is_one_sentence(name: str, refused: Any) -> None:
    make, view, parts = WRONG[name]
    with refused(*parts):
        sslzoo.Siamese(make(), sslzoo.load(TINY))([view, view])


def test_a_model_that_is_half_as_a_whole_is_one_sentence(refused: Any) -> None:
    model = sslzoo.Siamese(convolution(), sslzoo.load(TINY)).half()
    with refused("torch.float16", "encoder alone"):
        model([IMAGES.half(), IMAGES.half()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_encoder_alone_can_have_another_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    single = sslzoo.Siamese(convolution(), sslzoo.load(TINY))
    torch.manual_seed(0)
    other = sslzoo.Siamese(convolution().to(dtype), sslzoo.load(TINY))
    wanted, _ = single([IMAGES, IMAGES.flip(3)])
    loss, keys = other([IMAGES.to(dtype), IMAGES.flip(3).to(dtype)])
    loss.backward()
    assert keys.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), abs=0.05)
    first = other.online.encoder[0].weight  # type: ignore[union-attr,index]
    assert (first.dtype, bool(first.grad.isfinite().all())) == (dtype, True)


def test_an_encoder_that_is_frozen_can_be_given() -> None:
    model = sslzoo.Siamese(convolution().requires_grad_(False), sslzoo.load(TINY))
    model([IMAGES, IMAGES])[0].backward()
    assert model.online.encoder[0].weight.grad is None  # type: ignore[union-attr,index]


# ---- arrays in Python ------------------------------------------------------------------------------------------------


def test_rows_without_numbers_are_one_sentence(refused: Any) -> None:
    with refused("bank", "meta"):
        sslzoo.knn(torch.rand(4, 2, device="meta"), [0, 1, 0, 1], np.eye(2), [0, 1])
