"""What a batch has to be, before a model takes it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..processes import collectives
from ..tools.errors import UserError, listing

if TYPE_CHECKING:
    from .siamese import Siamese


def check_batch(model: "Siamese", views: Sequence[Tensor], index: Tensor | None) -> None:
    """Raise `UserError` for views [N, C, H, W] that a model cannot learn from, and for places [N] not in its bank.

    Places on a GPU are not looked at, since that would wait for it.
    """
    if not isinstance(views, Sequence | Tensor):
        raise UserError(f"The views are a {type(views).__name__}; give a list of tensors [N, C, H, W].")
    if any(not isinstance(view, Tensor) or view.ndim < 1 for view in views):
        kinds = listing(sorted({type(view).__name__ for view in views}))
        raise UserError(f"The views are {kinds}; give a list of tensors [N, C, H, W].")
    if any(view.is_meta for view in views):
        raise UserError("The views are on the meta device, without pixels; give images.")
    head = next(model.online.projector.parameters(), None)
    if head is not None and head.dtype in (torch.float16, torch.bfloat16):
        raise UserError(f"The projector is in {head.dtype}, where losses take float32; make the encoder alone so.")
    rows = [len(view) for view in views]
    if len({*rows}) > 1:
        raise UserError(f"The views have {', '.join(map(str, rows))} rows; give as many of each.")
    if 0 in rows:
        raise UserError("The batch is empty; give two images or more.")
    if 1 in rows and collectives.world() == 1:
        if model.regularizer is not None:
            raise UserError("One image is too few for this loss, whose terms are over a batch; give two or more.")
        if any(map(_normalizes, (*model.online.projector.modules(), *model.predictor.modules()))):
            raise UserError("One image is too few for batch norm to train on; give two or more, or call model.eval().")
    if model.bank is not None and rows:
        check_places(index, rows[0], len(model.bank.rows))


def check_places(index: Tensor | None, rows: int, samples: int) -> None:
    """Raise `UserError` for places of so many rows that a bank of so many samples does not have."""
    if index is None:
        raise UserError("This recipe keeps a bank of the data; give the samples' places: model(views, index).")
    if not isinstance(index, Tensor) or index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        of = f"{list(index.shape)} of {index.dtype}" if isinstance(index, Tensor) else f"a {type(index).__name__}"
        raise UserError(f"The samples' places are {of}; give a tensor of whole numbers [N].")
    if len(index) != rows:
        raise UserError(f"There are {len(index)} places for {rows} images; give one of each.")
    if index.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = index[(index < 0) | (index >= samples)].tolist()
        if wrong:
            raise UserError(f"There is no place {wrong[0]} in a bank of {samples} samples; count from 0.")


def _normalizes(module: nn.Module) -> bool:
    """Return whether a module takes mean and variance of the batch."""
    return isinstance(module, _BatchNorm) and module.training
