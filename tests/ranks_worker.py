"""Run by each process of a group: three steps of many recipes on its rows of a batch; what came of it, in a file.

usage: ranks_worker.py OUT EXPRESSION...; with LOSE_GRADIENT set, gathered rows have none.
"""

import os
import sys
from pathlib import Path

import torch
from conftest import tiny
from torch import nn

from sslzoo.core.pairs import full_views
from sslzoo.processes import batchnorm, collectives
from sslzoo.processes.agree import parallel, process_group
from sslzoo.training.optim import scheduled

ROWS, STEPS, SAMPLES = 12, 3, 40


def run(expression: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Losses and gradients of each step, and the state after them."""
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16))
    model = tiny(expression, encoder=encoder, samples=SAMPLES).to(dtype)
    model.clock.steps = 4  # of an epoch each
    recipe = model.recipe
    if collectives.world() > 1:
        batchnorm.convert_sync_batchnorm(model)
    called = parallel(model, torch.device("cpu"))
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = scheduled(model, recipe, 4) if recipe.optimizer.clip_grad else torch.optim.SGD(learnt, lr=0.01)
    generator = torch.Generator().manual_seed(0)
    found = {}
    for step in range(STEPS):
        index = torch.randperm(SAMPLES, generator=generator)[:ROWS]
        n = full_views(recipe) + recipe.views.local_crops
        views = [torch.randn(ROWS, 3, 8, 8, generator=generator, dtype=dtype) for _ in range(n)]
        index, views = collectives.own_rows(index), [collectives.own_rows(view) for view in views]
        if step == 0 and recipe.switches.clustering == "kmeans":
            model.remember(views, index)
        model.begin_epoch()
        loss, keys = called(views, index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        found[f"loss {step}"] = collectives.average(loss.detach())
        with_gradient = [p for p in model.parameters() if p.grad is not None]
        found[f"gradients {step}"] = torch.cat([p.grad.flatten() for p in with_gradient])
        optimizer.step()
        model.update(keys, index, step)
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return found | {f"state {name}": value.clone() for name, value in state.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, *expressions = sys.argv[1:]
    if os.environ.get("LOSE_GRADIENT"):
        gathered = collectives.gather
        collectives.gather = lambda x: gathered(x).detach()
    with process_group():
        results = {(e, dtype): run(e, dtype) for e in expressions for dtype in (torch.float64, torch.float32)}
        torch.save(results, Path(out) / f"{collectives.world()}-{collectives.rank()}.pt")
