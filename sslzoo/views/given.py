"""Views that a person's own Python makes of a batch of images."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..recipes.recipe import Recipe
from ..tools.errors import UserError
from .augment import Finish, as_float

Augment = Callable[[Tensor], Tensor]  # from images [N, 3, size, size] in [0, 1] to a view of the same shape


def name_of(augment: Augment) -> str:
    """Return what a function is called, or the class of an object that is called."""
    own = augment if hasattr(augment, "__qualname__") else type(augment)
    return f"{own.__module__}.{own.__qualname__}"


def own_views(augment: Augment, recipe: Recipe) -> str:
    """Return a note that a function makes the views of a recipe. Raises `UserError` for knobs that it would ignore."""
    if not callable(augment):
        raise UserError(f"augment cannot be {augment!r:.80}; give a function from a batch of images to a view.")
    ignored = [knob for knob in recipe.written if knob.startswith("views.") and knob != "views.size"]
    if ignored:
        raise UserError(
            f"{', '.join(ignored)} would be ignored, since augment= makes the views; leave one of the two out."
        )
    if recipe.views.local_crops:
        raise UserError(
            f"This recipe has {recipe.views.local_crops} local crops, and augment= makes full views alone; write "
            "local_crops=0."
        )
    return f"views are made by {name_of(augment)}, given in Python, and not by the recipe's augmentations"


def view_by(augment: Augment, images: Tensor, size: int, finish: Finish) -> Tensor:
    """Return the view [N, 3, size, size] that a function makes of images [N, 3, size, size], uint8, and finish it.

    Raises `UserError` for what is no view.
    """
    view, right = augment(as_float(images)), (len(images), images.shape[1], size, size)
    if not isinstance(view, Tensor) or view.shape != right or not view.is_floating_point():
        what = f"{list(view.shape)}, {view.dtype}" if isinstance(view, Tensor) else f"a {type(view).__name__}"
        raise UserError(
            f"{name_of(augment)} gives {what}; it has to give a view {list(right)} of real numbers in [0, 1]."
        )
    if view.requires_grad:
        view = view.detach()
    return (
        view.to(images.device, torch.float32).sub(finish.mean).div_(finish.std).contiguous(memory_format=finish.layout)
    )
