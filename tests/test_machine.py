"""A model that is compiled in place, and one that cannot be."""

import pytest
import torch
from torch import nn

import sslzoo
from sslzoo.training.machine import compiled, device_name, versions

FLOAT32 = torch.autocast("cpu", enabled=False)


def compile_with(monkeypatch, call):
    """``Module.compile`` as a stub: it puts ``call`` where torch puts the compiled forward."""
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", call(self)))


def fails(_):
    def call(*_):
        raise RuntimeError("no C++ compiler\nand a long story")

    return call


def test_a_compiler_that_fails_leaves_the_model_as_it_was(build, views, monkeypatch):
    model = build("byol")
    expected = model(views())[0]
    compile_with(monkeypatch, fails)
    why = compiled(model, views(), torch.arange(12), FLOAT32)
    assert why == "torch.compile failed (no C++ compiler); going on without it."
    assert torch.equal(model(views())[0], expected)


@pytest.mark.parametrize("expression", ["byol", "swav", "lejepa"])
def test_the_trial_leaves_no_trace(build, views, monkeypatch, expression):
    compile_with(monkeypatch, lambda self: self._call_impl)
    model = build(expression)
    state = {name: x.clone() for name, x in model.state_dict().items() if isinstance(x, torch.Tensor)}
    random = torch.get_rng_state()
    assert compiled(model, views(), torch.arange(12), FLOAT32) is None
    assert model._compiled_call_impl is not None
    assert torch.equal(torch.get_rng_state(), random)
    assert model.state_dict().keys() >= state.keys()
    assert all(torch.equal(model.state_dict()[name], x) for name, x in state.items())
    assert all(p.grad is None for p in model.parameters())


def test_a_run_that_cannot_be_compiled_says_so_and_trains(tmp_path, run_cli, monkeypatch):
    compile_with(monkeypatch, fails)
    words = ("train", "simsiam", "--epochs", 1, "--limit", 128, "--out", tmp_path)
    result = run_cli(*words, "--compile")
    assert result.exit_code == 0
    assert "torch.compile failed (no C++ compiler); going on without it." in " ".join(result.output.split())
    assert "torch.compile" not in run_cli(*words, "--compile", "--quiet").output


def test_versions_and_the_device():
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0]
    assert found["sslzoo"] == sslzoo.__version__
    assert device_name(torch.device("cpu")) == f"cpu ({torch.get_num_threads()} threads)"
