"""The precision of a run: which one a device gets, and fp16, whose gradients are scaled so that they do not vanish."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sslzoo.core.siamese import Siamese
from sslzoo.recipes.algebra import load
from sslzoo.tools.errors import Diverged
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.loop import Training
from sslzoo.training.machine import BF16_INSTRUCTIONS, autocast, find_precision
from sslzoo.training.optim import optimizer
from sslzoo.training.options import Options
from sslzoo.training.plan import Plan, prepare
from sslzoo.training.run import resume, train

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
NAMES = ("sgd", "lars", "adamw")
USUAL = 65536.0  # torch's scale at the start


@pytest.mark.parametrize(("native", "emulated", "expected"), [(True, True, "bf16"), (False, True, "fp16")])
def test_auto_is_what_the_gpu_computes_in(
    native: bool, emulated: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 emulates bf16, which is slower than float32."""

    def supported(including_emulation: bool = True) -> bool:
        return native or (emulated and including_emulation)

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert find_precision("auto", CUDA) == expected
    assert find_precision("auto", CPU) == find_precision("float32", CUDA) == "float32"
    assert find_precision("fp16", CUDA) == "fp16"


@pytest.mark.parametrize(
    ("bf16", "amx", "capability", "expected"),
    [
        (True, False, "AVX512", "bf16"), (False, True, "AVX512", "bf16"), (True, True, "AVX512", "bf16"),
        (False, False, "AVX512", "float32"), (True, True, "AVX2", "float32"),
    ],
)  # fmt: skip
def test_auto_on_a_cpu_is_bf16_where_it_has_instructions_for_it(
    bf16: bool, amx: bool, capability: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them oneDNN computes bf16 by way of float32, in more time; kept to AVX2, torch leaves them alone."""
    monkeypatch.undo()  # of what stands in for the processor in other tests
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert find_precision("auto", CPU) == expected
    assert find_precision("auto", torch.device("mps")) == "float32"
    assert find_precision("float32", CPU) == "float32"


def test_a_torch_that_does_not_say_what_the_processor_has_is_left_at_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are torch's own, which may go."""
    monkeypatch.undo()
    for name in BF16_INSTRUCTIONS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert find_precision("auto", CPU) == "float32"


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_a_run_goes_on_in_the_precision_that_it_began_with(
    first: bool, then: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor with other instructions: bit for bit as if it had never left the first one."""
    options = {"limit": 32, "batch_size": 8, "image_size": 8, "epochs": 2, "device": "cpu", "baselines": False}
    words = "simsiam dim=8 hidden=8 predictor_hidden=8"
    monkeypatch.setattr("sslzoo.training.machine.multiplies_bf16", lambda: first)
    whole = train(words, **options, out=str(tmp_path / "whole"))
    part = train(words, **options, out=str(tmp_path / "part"), stop_after=1)
    monkeypatch.setattr("sslzoo.training.machine.multiplies_bf16", lambda: then)
    assert resume(part.run).loss == whole.loss
    assert json.loads((Path(part.run) / "run.json").read_text())["precision"] == ("bf16" if first else "float32")
    assert train(words, **options, out=str(tmp_path / "other")).loss != whole.loss  # else this tells nothing


def test_autocast_is_in_the_precision() -> None:
    x = torch.ones(2, 2)
    for name, kind in {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        with autocast(CPU, name):
            assert (x @ x).dtype == kind


# ---- scaled gradients and the optimisers -----------------------------------------------------------------------------


def model_and_optimizer(name: str) -> tuple[Siamese, torch.optim.Optimizer]:
    torch.manual_seed(0)
    recipe = load("simsiam", hidden=16, dim=8, predictor_hidden=8, **{"optimizer.name": name, "optimizer.lr": 0.5})
    model = Siamese(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16)), recipe)
    return model, optimizer(model, recipe, 20, batch_size=6)


def stepped(model: Siamese, made: torch.optim.Optimizer, scaler: torch.amp.GradScaler, factor: float = 1.0) -> None:
    """A step on the same images each time, its loss times a factor."""
    made.zero_grad()
    views = torch.randn(2, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    loss, _ = model([*views])
    scaler.scale(loss * factor).backward()
    scaler.unscale_(made)
    scaler.step(made)
    scaler.update()


def values(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_step_is_the_plain_step(name: str) -> None:
    """By a power of two, so that nothing is rounded."""
    (scaled, one), (plain, other) = model_and_optimizer(name), model_and_optimizer(name)
    scaler, none = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(3):
        stepped(scaled, one, scaler)
        stepped(plain, other, none)
    assert all(torch.equal(x, y) for x, y in zip(values(scaled), values(plain), strict=True))
    assert scaler.get_scale() == 1024


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("done", [0, 2])
def test_a_step_whose_gradients_overflow_moves_nothing(name: str, done: int) -> None:
    """Neither parameters nor momentum, whether or not there were steps before; and half of the scale is left."""
    (left_out, one), (plain, other) = model_and_optimizer(name), model_and_optimizer(name)
    scaler, none = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(done):
        stepped(left_out, one, scaler)
        stepped(plain, other, none)
    before = values(left_out)
    stepped(left_out, one, scaler, factor=torch.inf)
    assert all(torch.equal(x, y) for x, y in zip(values(left_out), before, strict=True))
    assert scaler.get_scale() == 512
    for group, usual in zip(one.param_groups, other.param_groups, strict=True):  # the schedule went on
        group["lr"] = usual["lr"]
    if name != "adamw":  # whose correction counts its steps, and torch's fused one does not count this one
        stepped(left_out, one, scaler)
        stepped(plain, other, none)
        assert all(torch.equal(x, y) for x, y in zip(values(left_out), values(plain), strict=True))


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """A plan of a short run on noise in fp16, here on the CPU, where only tests may have it.

    With the scaler, but computed in float32, in which a CPU is faster.
    """
    monkeypatch.setattr("sslzoo.training.learner.autocast", lambda device, _: autocast(device, "float32"))
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 255, (n, 12, 12, 3), dtype=np.uint8) for split, n in SPLITS.items()}
    labels = {f"{split}_labels": np.arange(n) % 4 for split, n in SPLITS.items()}
    np.savez(tmp_path / "noise.npz", **arrays, **labels)

    def make(expression: str = f"simsiam {TINY}", **options: Any) -> Plan:
        given = {"data": str(tmp_path / "noise.npz"), "out": str(tmp_path / "runs"), "epochs": 2, "batch_size": 16}
        return replace(prepare(expression, Options(**{**given, **options})), precision="fp16")

    return make


SPLITS = {"train": 64, "test": 20}
TINY = "hidden=16 dim=8 predictor_hidden=8"


def overflowing(training: Training) -> None:
    """Let gradients overflow, as those of a loss that is scaled by too much."""
    next(training.learner.model.parameters()).register_hook(lambda grad: grad * torch.inf)


@pytest.mark.parametrize(
    "expression", [f"simsiam {TINY}", "barlow_twins hidden=16 dim=8", "swav prototypes=8 hidden=16"]
)
def test_a_run_with_a_scaler_trains(planned: Callable[..., Plan], expression: str) -> None:
    """With each of the optimisers."""
    training = Training(planned(expression))
    before = values(training.learner.model)
    result = training.run(Reporter(), None)
    assert np.isfinite(result["loss"])
    assert any(not torch.equal(x, y) for x, y in zip(before, values(training.learner.model), strict=True))


def test_a_step_in_fp16_learns(planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """With all in half precision, of nearly the same loss."""
    losses = []
    for precision in ("float32", "fp16"):
        monkeypatch.setattr("sslzoo.training.learner.autocast", lambda device, _, p=precision: autocast(device, p))
        learner = Training(planned(batch_size=4)).learner
        learner.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        index, views = next(iter(learner.batches.epoch(0)))
        before = values(learner.model.train())
        learner.step(views, index, 0)
        moved = [not torch.equal(x, y) for x, y in zip(before, values(learner.model), strict=True)]
        assert sum(moved) > len(moved) / 2
        losses.append(float(learner.loss))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_an_overflow_of_gradients_is_no_loss_that_is_not_finite(
    planned: Callable[..., Plan], on_nan: str, accumulate: int
) -> None:
    """Its step is left out by the scaler and is not counted; the run goes on at half of the scale."""
    training = Training(planned(on_nan=on_nan, accumulate=accumulate))
    overflowing(training)
    learner = training.learner
    learner.model.train()
    before, batches = values(learner.model), training.batches.epoch(0)
    for step, (index, views) in enumerate(batches):
        assert learner.step(views, index, step)
    assert all(torch.equal(x, y) for x, y in zip(before, values(learner.model), strict=True))
    assert not learner.diverged(wait=True)
    assert (learner.skipped, learner.scaler.get_scale()) == (0, USUAL / 16)


def test_a_loss_that_is_not_finite_is_left_out_all_the_same(planned: Callable[..., Plan]) -> None:
    learner = Training(planned(on_nan="skip")).learner
    learner.model.train()
    index, views = next(iter(learner.batches.epoch(0)))
    scale = learner.scaler.get_scale()
    before = values(learner.model)
    assert not learner.step([views[0] * torch.nan, views[1]], index, 0)
    assert (learner.skipped, learner.scaler.get_scale()) == (1, scale)
    assert all(torch.equal(x, y) for x, y in zip(before, values(learner.model), strict=True))
    assert learner.step(views, index, 1)


def test_gradients_that_overflow_at_any_scale_end_the_run(planned: Callable[..., Plan]) -> None:
    """Seventeen halvings of the scale are below 1."""
    training = Training(planned(epochs=9, batch_size=8))
    overflowing(training)
    with pytest.raises(Diverged, match=r"The gradients in fp16 are not finite .*; .*last\.pt keeps the state"):
        training.run(Reporter(), None)
    assert (training.epoch, training.position) == (2, 1)


def test_the_scale_is_in_the_checkpoint(planned: Callable[..., Plan]) -> None:
    """And a checkpoint without one, of before there was a scaler, is taken up."""
    training, again = Training(planned()), Training(planned())
    overflowing(training)
    index, views = next(iter(training.batches.epoch(0)))
    training.learner.step(views, index, 0)
    state = training.state()
    again.learner.restore(state)
    assert again.learner.scaler.get_scale() == USUAL / 2
    fresh = Training(planned())
    fresh.learner.restore(replace(state, scaler=None))
    assert fresh.learner.scaler.get_scale() == USUAL
    assert "scaler" not in Training(replace(planned(), precision="float32")).state().to_json()
