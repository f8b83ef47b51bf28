"""Embed a folder of images with a run's encoder over Ray Data: two workers of this machine, or those of a cluster.

    pip install 'sslzoo[ray]'
    python with_ray.py runs/simclr-photos-s0-1 path/to/images embeddings
    sslzoo knn embeddings --hold-out 0.1

Each worker has an encoder of its own; Ray reads the files, hands them out in batches, and starts again what dies.
"""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image

import sslzoo


class Encode:
    """Makes of the columns ``path`` and ``bytes``, a batch at a time, ``file``, ``label`` and ``features``."""

    def __init__(self, run: str):
        made = sslzoo.Run(run)
        self.encoder, self.transform = made.encoder.eval(), made.transform

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in batch["bytes"]]
        with torch.no_grad():
            features = self.encoder(torch.stack([self.transform(picture) for picture in pictures]))
        labels = np.array([Path(path).parent.name for path in batch["path"]])  # a folder a class
        return {"file": batch["path"], "label": labels, "features": features.numpy()}


def main(run: str, images: str, out: str, workers: int = 2) -> int:
    """Write parquet files to a folder, and return the number of rows."""
    # one core reads while the others encode
    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    try:
        files = ray.data.read_binary_files(images, include_paths=True, file_extensions=["png", "jpg", "jpeg", "webp"])
        made = files.map_batches(Encode, fn_constructor_args=(run,), batch_size=256, concurrency=workers)
        made.write_parquet(out)
        return int(ray.data.read_parquet(out).count())
    finally:
        ray.shutdown()


if __name__ == "__main__":
    print(f"{main(*sys.argv[1:4]):,} rows")
