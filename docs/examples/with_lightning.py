"""The same core as a LightningModule: Lightning moves batches, steps and logs, sslzoo has loss, target and rate."""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import sslzoo
from sslzoo.data import sets


class SelfSupervised(lightning.LightningModule):
    """Trains an expression; the optimiser moves the learning rate itself, so there is no scheduler."""

    def __init__(self, encoder: nn.Module, expression: str, samples: int, steps: int, batch_size: int):
        super().__init__()
        recipe = sslzoo.load(expression, dim=128, hidden=256, lr=0.24)
        self.model, self.recipe = sslzoo.Siamese(encoder, recipe, samples=samples), recipe
        self.steps, self.batch_size = steps, batch_size
        self.augment = v2.Compose([
            v2.RandomResizedCrop(32, (0.6, 1)), v2.ColorJitter(0.4, 0.4, 0.4, 0.5), v2.RandomGrayscale(0.5),
            v2.ToDtype(torch.float32, scale=True),
        ])  # fmt: skip
        self.keys: tuple[torch.Tensor, torch.Tensor] | None = None

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, index = batch
        views = [torch.stack([self.augment(image) for image in images]) for _ in range(2)]
        loss, keys = self.model(views, index)
        self.keys = keys, index
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        """Move what is not learnt by gradient, once the optimiser has made its step."""
        assert self.keys is not None
        self.model.update(*self.keys, self.global_step - 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sslzoo.optimizer(self.model, self.recipe, steps=self.steps, batch_size=self.batch_size)


def main(expression: str = "byol", epochs: int = 5, limit: int = 2000, batch_size: int = 64) -> float:
    """Train an expression on the embedded digits, and return the last loss."""
    pixels = sets.load("digits", limit=limit).train.images.pixels
    assert pixels is not None
    loader = DataLoader(TensorDataset(pixels, torch.arange(len(pixels))), batch_size, shuffle=True, drop_last=True)
    encoder = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
    )
    module = SelfSupervised(encoder, expression, len(pixels), epochs * len(loader), batch_size)
    trainer = lightning.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="auto",
    )  # fmt: skip
    trainer.fit(module, loader)
    return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    print(f"loss: {main():.3f}")
