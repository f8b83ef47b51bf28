"""lightly's own training loop, as its CIFAR-10 benchmark has it: its transforms, loader, heads, losses and optimisers.

Only the race imports this (`pip install -e '.[bench]'`); the package never does. The values are those of lightly's
docs/source/getting_started/benchmarks/cifar10_benchmark.py: SGD at 0.06 x batch / 128 (SimSiam at 0.06, whatever the
batch) with momentum 0.9 and decay 5e-4, SwAV's Adam at 0.001 x batch / 128 with decay 1e-6, a cosine to zero without a
warm-up, its heads' widths, colours at half strength, no blur at 32 px. Above 32 px blur is what the transforms' own
defaults are. Two things are not lightly's: the net, which is the same as ours, and that the cosine goes on with each
step, not with each epoch, so that it ends when the minutes do.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes, heads
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, SimCLRTransform, SimSiamTransform, SwaVTransform
from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
from peers import Pictures, loader
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from sslzoo.core.backbones import build
from sslzoo.core.encoders import feature_width
from sslzoo.data.images import ImageSource

SGD, SGD_DECAY = 0.06, 5e-4
ADAM, ADAM_DECAY = 1e-3, 1e-6
RATED_BATCH = 128  # of which the learning rates are
MOMENTUM = 0.99  # of BYOL's copy
CODES = 512  # of SwAV
NO_BLUR_UP_TO = 32  # px


class Files(Dataset):
    """Image files through a transform, opened anew each time, as lightly's own data set does."""

    def __init__(self, paths: tuple[Path, ...], transform: Callable):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int):
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB"))


def transform(method: str, size: int) -> Callable:
    """The two views that lightly's benchmark makes for a method."""
    off = {"gaussian_blur": 0.0} if size <= NO_BLUR_UP_TO else {}
    if method == "byol":
        return BYOLTransform(BYOLView1Transform(input_size=size, **off), BYOLView2Transform(input_size=size, **off))
    if method == "swav":
        crops = {"crop_sizes": (size,), "crop_counts": (2,), "crop_min_scales": (0.14,), "crop_max_scales": (1.0,)}
        return SwaVTransform(**crops, cj_strength=0.5, **off)
    if method == "simsiam":
        return SimSiamTransform(input_size=size, **off)
    return SimCLRTransform(input_size=size, cj_strength=0.5, **off)


def projector(method: str, width: int) -> nn.Module:
    """The projection head; SimSiam's has two layers on small images."""
    if method == "simsiam":
        last = (2048, 2048, nn.BatchNorm1d(2048), None)
        return heads.ProjectionHead([(width, 2048, nn.BatchNorm1d(2048), nn.ReLU()), last])
    if method == "byol":
        return heads.BYOLProjectionHead(width, 1024, 256)
    return {"simclr": heads.SimCLRProjectionHead, "swav": heads.SwaVProjectionHead}[method](width, 512, 128)


def predictor(method: str) -> nn.Module:
    """The prediction head, where a method has one."""
    if method == "simsiam":
        return heads.SimSiamPredictionHead(2048, 512, 2048)
    return heads.BYOLPredictionHead(256, 1024, 256) if method == "byol" else nn.Identity()


def learning_rate(method: str, batch: int) -> float:
    """The learning rate at the start."""
    if method == "simsiam":
        return SGD  # lightly leaves it unscaled, "results in better training stability"
    return (ADAM if method == "swav" else SGD) * batch / RATED_BATCH


class Model(nn.Module):
    """Backbone, heads and loss of a method."""

    def __init__(self, method: str, size: int):
        super().__init__()
        self.method, self.backbone = method, build("small", size)
        self.project = projector(method, feature_width(self.backbone))
        self.predict, self.codes, self.average = predictor(method), None, None
        if method == "swav":
            self.codes = SwaVPrototypes(128, CODES)
        if method == "byol":
            self.average = deepcopy(nn.Sequential(self.backbone, self.project))
            deactivate_requires_grad(self.average)
        self.criterion = {"simclr": NTXentLoss, "swav": SwaVLoss}.get(method, NegativeCosineSimilarity)()

    def prepare(self) -> None:
        """Do what precedes each step."""
        if self.average is not None:
            update_momentum(self.backbone, self.average[0], MOMENTUM)
            update_momentum(self.project, self.average[1], MOMENTUM)
        if self.codes is not None:
            self.codes.normalize()

    def forward(self, views: list[Tensor]) -> Tensor:
        """The loss of two views of a batch."""
        a, b = (self.project(self.backbone(view)) for view in views)
        if self.method == "simclr":
            return self.criterion(a, b)
        if self.codes is not None:
            return self.criterion([self.codes(nn.functional.normalize(z, dim=1)) for z in (a, b)], [])
        if self.average is None:
            targets = [a.detach(), b.detach()]
        else:
            with torch.no_grad():
                targets = [self.average(view) for view in views]
        return 0.5 * (self.criterion(self.predict(a), targets[1]) + self.criterion(self.predict(b), targets[0]))


class Rival:
    """A run of lightly's loop in float32 on the CPU, whose cosine ends after so many steps."""

    def __init__(self, method: str, images: ImageSource, size: int, batch: int, seed: int, workers: int):
        torch.manual_seed(seed)
        self.model, self.rate, self.seen = Model(method, size), learning_rate(method, batch), 0
        views = transform(method, size)
        data = Files(images.paths, views) if images.paths else Pictures(images.pixels, views)
        self.batches, self.swav = loader(data, batch, workers, torch.device("cpu")), method == "swav"

    def steps(self, total: int) -> Iterator[Tensor]:
        """Train so many steps, each of which gives its loss."""
        trained = [one for one in self.model.parameters() if one.requires_grad]
        if self.swav:
            optimizer: torch.optim.Optimizer = torch.optim.Adam(trained, lr=self.rate, weight_decay=ADAM_DECAY)
        else:
            optimizer = torch.optim.SGD(trained, lr=self.rate, momentum=0.9, weight_decay=SGD_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        self.model.train()
        done = 0
        while True:
            for views in self.batches:
                self.model.prepare()
                loss = self.model(views)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                done, self.seen = done + 1, self.seen + len(views[0])
                yield loss.detach()
                if done == total:
                    return
