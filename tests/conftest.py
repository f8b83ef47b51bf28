"""Shared by the tests: tiny models, views, and what a refusal looks like."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sslzoo import Siamese, UserError
from sslzoo.algebra import parse, resolve

TINY = {
    "heads.hidden": 16, "heads.dim": 8, "heads.predictor_hidden": 8, "memory.queue_length": 20,
    "clustering.prototypes": 6, "loss.slices": 16, "training.batch_size": 12, "optimizer.lr": 1.0,
}  # fmt: skip


def pytest_addoption(parser):
    """``pytest --slow`` runs also what takes minutes."""
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config, items):
    """Leave those out otherwise."""
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))


@pytest.fixture
def build():
    """Make a tiny seeded model of an expression, for images of any size; words of the expression win over `TINY`."""

    def make(expression, scale="small", dtype=torch.float32):
        recipe = resolve(parse(expression), scale, data="tiny", data_knobs=TINY)
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16))
        return Siamese(encoder, recipe, samples=40).to(dtype)

    return make


@pytest.fixture
def views():
    """Draw seeded views [12, 3, size, size], one of each size."""

    def draw(*sizes, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(12, 3, size, size, generator=generator, dtype=dtype) for size in sizes or (8, 8)]

    return draw


@pytest.fixture
def refused():
    """Expect a `UserError` whose one sentence holds all of the words."""

    @contextmanager
    def expect(*words):
        with pytest.raises(UserError) as caught:
            yield
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert message.endswith("."), message
        assert "\n" not in message, message

    return expect
