"""SimSiam in a loop of one's own: plain PyTorch, sslzoo's core, and kNN at the end."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import sslzoo
from sslzoo.data import sets


def main(expression: str = "simsiam", epochs: int = 5, limit: int = 2000, batch_size: int = 64) -> float:
    """Train an expression on the embedded digits, and return kNN (k = 5) on their test split."""
    digits = sets.load("digits", limit=limit)
    pixels, labels = digits.bank.images.pixels, digits.bank.labels
    assert pixels is not None
    assert labels is not None
    assert digits.test is not None
    augment = v2.Compose([
        v2.RandomResizedCrop(32, (0.6, 1)), v2.ColorJitter(0.4, 0.4, 0.4, 0.5), v2.RandomGrayscale(0.5),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    loader = DataLoader(TensorDataset(pixels, torch.arange(len(pixels))), batch_size, shuffle=True, drop_last=True)

    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64),
        nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
    )  # fmt: skip
    recipe = sslzoo.load(expression, dim=128, hidden=256, lr=0.24)
    model = sslzoo.Siamese(encoder, recipe, samples=len(pixels))
    optimizer = sslzoo.optimizer(model, recipe, steps=epochs * len(loader), batch_size=batch_size)
    step = 0
    for _ in range(epochs):
        for images, index in loader:
            views = [torch.stack([augment(image) for image in images]) for _ in range(2)]
            loss, keys = model(views, index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.update(keys, index, step)
            step += 1

    encoder.eval()
    with torch.no_grad():
        queries = digits.test.images.pixels
        assert queries is not None
        bank, asking = (torch.cat([encoder(part / 255) for part in x.split(500)]) for x in (pixels, queries))
    assert digits.test.labels is not None
    return sslzoo.knn(bank, labels, asking, digits.test.labels)["knn"]["k5"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expression", default="simsiam")
    parser.add_argument("--epochs", type=int, default=5)
    print(f"kNN: {main(**vars(parser.parse_args())):.3f}")
