"""The same core with Hugging Face Accelerate, which moves batches and gradients between devices and processes."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import sslzoo
from sslzoo.data import sets


def main(expression: str = "simclr", epochs: int = 5, limit: int = 2000, batch_size: int = 64) -> float:
    """Train an expression on the embedded digits, and return the last loss."""
    accelerator = Accelerator()
    pixels = sets.load("digits", limit=limit).train.images.pixels
    assert pixels is not None
    augment = v2.Compose([
        v2.RandomResizedCrop(32, (0.6, 1)), v2.ColorJitter(0.4, 0.4, 0.4, 0.5), v2.RandomGrayscale(0.5),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    loader = DataLoader(TensorDataset(pixels, torch.arange(len(pixels))), batch_size, shuffle=True, drop_last=True)
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
    )
    recipe = sslzoo.load(expression, dim=128, hidden=256, lr=0.24)
    model = sslzoo.Siamese(encoder, recipe, samples=len(pixels))
    optimizer = sslzoo.optimizer(model, recipe, steps=epochs * len(loader), batch_size=batch_size)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    step, loss = 0, torch.zeros(())
    for _ in range(epochs):
        for images, index in loader:
            views = [torch.stack([augment(image) for image in images]) for _ in range(2)]
            loss, keys = model(views, index)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            accelerator.unwrap_model(model).update(keys, index, step)
            step += 1
    return float(loss.detach())


if __name__ == "__main__":
    print(f"loss: {main():.3f}")
