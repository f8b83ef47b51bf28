"""The network f: encoder, projector, and the codebook where there is one."""

import torch
from torch import Tensor, nn

from ..recipes.recipe import Recipe
from .clustering import Codebook
from .encoders import feature_width
from .heads import projector


class Network(nn.Module):
    """Images [N, 3, H, W] to projections z = f(x) [N, dim], float32 at least."""

    def __init__(self, encoder: nn.Module, recipe: Recipe):
        super().__init__()
        self.encoder = encoder
        self.projector = projector(feature_width(encoder), recipe.heads)
        self.codebook: Codebook | None = None
        if recipe.reads("clustering.prototypes"):
            knobs = recipe.clustering
            self.codebook = Codebook(knobs.codebooks, knobs.prototypes, recipe.heads.dim)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.projector(self.encoder(x).flatten(1))
        return z.to(torch.promote_types(z.dtype, torch.float32))
