"""What others do for the same work, each by its own code: lightly, kornia, torchvision, scikit-learn, plain faiss.

Only the speed benchmark imports these (`pip install -e '.[bench]'`); the package never does.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import faiss
import kornia.augmentation as kornia
import numpy as np
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import SimSiamTransform
from lightly.utils.benchmarking import knn_predict
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sslzoo.core.backbones import build
from sslzoo.core.encoders import feature_width
from sslzoo.core.functions import made
from sslzoo.core.heads import projector
from sslzoo.data.splits import IMAGENET
from sslzoo.recipes.recipe import Recipe


class Pictures(Dataset):
    """Images in memory, as a data set of torchvision's has them, through a transform."""

    def __init__(self, images: Tensor, transform: Callable):
        self.images, self.transform = images.permute(0, 2, 3, 1).numpy(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int):
        return self.transform(Image.fromarray(self.images[i]))


class Files(Dataset):
    """Image files through torchvision's transforms, twice: the usual two-crops data set."""

    def __init__(self, paths: list[Path], size: int):
        self.paths = paths
        crop = [v2.RandomResizedCrop(size, (0.2, 1.0)), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        self.transform = v2.Compose([*crop, v2.ToDtype(torch.float32, scale=True), v2.Normalize(*IMAGENET)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> list[Tensor]:
        with Image.open(self.paths[i]) as image:
            rgb = image.convert("RGB")
        return [self.transform(rgb), self.transform(rgb)]


def loader(data: Dataset, batch: int, workers: int, device: torch.device) -> DataLoader:
    """Shuffled whole batches; the workers stay."""
    return DataLoader(
        data,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def simsiam_transform(size: int, blur: float) -> SimSiamTransform:
    """lightly's transforms of SimSiam; its probabilities and strengths are those of our recipe."""
    return SimSiamTransform(input_size=size, gaussian_blur=blur)


def kornia_views(images: Tensor, size: int, blur: float) -> Callable[[], Tensor]:
    """kornia's batched augmentation of one view, with the same parameters."""
    steps = [
        kornia.RandomResizedCrop((size, size), (0.2, 1.0)),
        kornia.RandomHorizontalFlip(),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    ]
    if blur:
        taps = max(3, 2 * (size // 20) + 1)
        steps.append(kornia.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=blur))
    pipeline = nn.Sequential(*steps)
    return lambda: pipeline(images.float() / 255)


class Loop:
    """An epoch of lightly's own training loop: its transforms, its DataLoader, its losses, the same nets as ours."""

    def __init__(self, method: str, recipe: Recipe, images: Tensor, workers: int, device: torch.device, bf16: bool):
        self.method, self.device, self.bf16 = method, device, bf16
        size, heads, knobs = images.shape[-1], recipe.heads, recipe.optimizer
        encoder = build(recipe.training.backbone, size)
        self.net = nn.Sequential(encoder, nn.Flatten(), projector(feature_width(encoder), heads)).to(device)
        self.head = made(recipe.switches, "predictor", heads).to(device)
        self.copy = deepcopy(self.net) if method == "byol" else None
        if self.copy is not None:
            deactivate_requires_grad(self.copy)
        codes = SwaVPrototypes(heads.dim, recipe.clustering.prototypes).to(device) if method == "swav" else None
        self.codes = codes
        self.loss = {"simclr": NTXentLoss, "swav": SwaVLoss}.get(method, NegativeCosineSimilarity)()
        parts = nn.ModuleList([self.net, self.head, *([codes] if codes is not None else [])])
        self.optimizer = torch.optim.SGD(
            parts.parameters(), lr=1e-3, momentum=knobs.momentum, weight_decay=knobs.weight_decay
        )
        self.parts = parts
        data = Pictures(images, simsiam_transform(size, recipe.views.first.blur))
        self.batches = loader(data, recipe.training.batch_size, workers, device)

    def epoch(self) -> int:
        """Train an epoch; the number of images."""
        self.parts.train()
        total, seen = 0.0, 0
        for a, b in self.batches:
            a, b = a.to(self.device, non_blocking=True), b.to(self.device, non_blocking=True)
            if self.copy is not None:
                update_momentum(self.net, self.copy, 0.99)
            if self.codes is not None:
                self.codes.normalize()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self.losses(a, b)
            total += loss.detach()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            seen += len(a)
        float(total)  # waits for the device
        return seen

    def losses(self, a: Tensor, b: Tensor) -> Tensor:
        """lightly's loss of a batch, as its examples have it."""
        za, zb = self.net(a), self.net(b)
        if self.method == "simclr":
            return self.loss(za, zb)
        if self.codes is not None:
            scores = [self.codes(nn.functional.normalize(z, dim=1, p=2)) for z in (za, zb)]
            return self.loss(scores, []).squeeze()
        with torch.no_grad():
            ka, kb = (za.detach(), zb.detach()) if self.copy is None else (self.copy(a), self.copy(b))
        return 0.5 * (self.loss(self.head(za), kb) + self.loss(self.head(zb), ka))


def bare_faiss(bank: np.ndarray, queries: np.ndarray, k: int) -> None:
    """The search alone, on matrices whose rows have length 1."""
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    index.search(queries, k)


def lightly_knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, classes: int) -> Iterator[Tensor]:
    """lightly's kNN on rows of length 1, in batches of 512 queries."""
    columns, told = torch.from_numpy(bank).T.contiguous(), torch.from_numpy(labels)
    for part in torch.from_numpy(queries).split(512):
        yield knn_predict(part, columns, told, classes, k, 0.07)[:, 0]


def sklearn_knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """scikit-learn's kNN by brute force, with the same weights."""
    weights = {"weights": lambda distance: np.exp((1 - distance) / 0.07)}
    found = KNeighborsClassifier(k, metric="cosine", algorithm="brute", n_jobs=-1, **weights).fit(bank, labels)
    return found.predict(queries)
