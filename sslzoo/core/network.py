"""The network f: encoder, projector, and the codebook where there is one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..recipes.recipe import Recipe
from ..tools.errors import UserError
from .clustering import Codebook
from .encoders import feature_width, features_of
from .heads import projector


class Network(nn.Module):
    """Maps images [N, 3, H, W] to projections z = f(x) [N, dim], float32 at least.

    ``project`` does it for several views. With ``views.together`` those of one size pass the encoder as one batch, and
    all of them the projector: batch norm has one mean over them, as in the code of SwAV (`resnet50.py`), DINO
    (`utils.MultiCropWrapper`) and SimCLR (`model.py`). Else each view passes alone, as in SimSiam's, BYOL's and MoCo's.
    """

    def __init__(self, encoder: nn.Module, recipe: Recipe):
        super().__init__()
        self.encoder = encoder
        if recipe.encoder.freeze_patches:
            freeze_patches(encoder)
        self.width = feature_width(encoder)
        self.projector = projector(self.width, recipe.heads)
        self.together = recipe.views.together
        self.codebook: Codebook | None = None
        if recipe.reads("clustering.prototypes"):
            knobs = recipe.clustering
            self.codebook = Codebook(knobs.codebooks, knobs.prototypes, recipe.heads.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(features_of(self.encoder, x))

    def head(self, features: Tensor) -> Tensor:
        """Return the projections [N, dim] of features [N, width]. Raises `UserError` for another width."""
        if features.shape[1] != self.width:
            raise UserError(
                f"The encoder gives features of width {features.shape[1]}, where {self.width} are expected of it; give "
                "it an attribute num_features that is right, no classifier, and maps of one size (or pool them)."
            )
        first = next(self.projector.parameters(), features)
        if not torch.is_autocast_enabled(features.device.type):  # which chooses a precision itself
            features = features.to(first.dtype)  # an encoder may be half or double
        z: Tensor = self.projector(features)
        return z.to(torch.promote_types(z.dtype, torch.float32))

    def project(self, views: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return the projections of views, by their places, in the order in which they are given."""
        if not self.together or len(views) < 2:
            return {i: self(x) for i, x in views.items()}
        sizes: dict[torch.Size, list[int]] = {}
        for i, x in views.items():
            sizes.setdefault(x.shape[1:], []).append(i)
        features = [features_of(self.encoder, torch.cat([views[i] for i in same])) for same in sizes.values()]
        places = [i for same in sizes.values() for i in same]
        parts = torch.split(self.head(torch.cat(features)), [len(views[i]) for i in places])
        found = dict(zip(places, parts, strict=True))
        return {i: found[i] for i in views}


def freeze_patches(encoder: nn.Module) -> None:
    """Keep a transformer's projection of patches as it is (MoCo v3, section 5). Raises `UserError` for other nets."""
    patches = getattr(encoder, "patch_embed", None)
    if not isinstance(patches, nn.Module):
        raise UserError("encoder.freeze_patches is of vision transformers, and this backbone is none; leave it out.")
    for parameter in patches.parameters():
        parameter.requires_grad_(False)
