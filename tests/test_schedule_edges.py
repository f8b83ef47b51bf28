"""LARS without decay, queues, batches, warm-ups and ends of runs at the edges, and which correlations are findings."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sslzoo
from sslzoo.core.clustering import sinkhorn
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, notes, resolve_here
from sslzoo.studies.tables import telling
from sslzoo.training.run import resume, train

# ---- LARS ------------------------------------------------------------------------------------------------------------


def lars_step(w, g, lr, trust, decay, adapts):
    """You et al. 2017, eq. 6, written out: the first step, without momentum yet."""
    ratio = trust * (w**2).sum() ** 0.5 / ((g**2).sum() ** 0.5 + decay * (w**2).sum() ** 0.5) if adapts else 1.0
    return w - lr * ratio * (g + decay * w)


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("decay", [0, 1e-6, 0.01])
def test_lars_adapts_with_and_without_decay(build, decay, decay_all):
    """Also at weight_decay 0, where only what the decay would spare keeps plain steps."""
    words = f"optimizer.name=lars lr=3 trust=0.002 trust_clip=false weight_decay={decay} decay_all={decay_all}"
    model = build(f"simsiam {words}",
                  dtype=torch.float64)  # fmt: skip
    optimizer = sslzoo.optimizer(model, model.recipe, 8)
    learnt = [p for p in model.parameters() if p.requires_grad and p.any()]
    before, lr = [p.detach().numpy().copy() for p in learnt], optimizer.param_groups[0]["lr"]
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
    optimizer.step()
    assert {p.ndim for p in learnt} >= {1, 2}
    for p, w in zip(learnt, before, strict=True):
        spared = p.ndim <= 1 and not decay_all
        expected = lars_step(w, p.grad.numpy(), lr, 0.002, 0 if spared else decay, not spared)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


# ---- queues ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20, 24, 25, 48, 49, 100])
def test_the_queue_joins_sinkhorn_once_all_its_rows_are_keys(build, views, length):
    """Two target views of 12 images give 24 keys a step."""
    model = build(f"swav sinkhorn_queue=true queue_epoch=0 queue_length={length}")
    drawn, seen = model.queue.rows.clone(), []
    for step in range(8):
        loss, keys = model(views(seed=step), torch.arange(12))
        codes = model.codes
        alone = sinkhorn(model.online.codebook(keys[0]), codes.knobs.epsilon, codes.knobs.iterations)
        seen.append(not torch.allclose(model.code, alone.detach(), atol=1e-5))
        assert loss.isfinite()
        left = any(bool((row == model.queue.rows).all(dim=1).any()) for row in drawn)
        assert seen[-1] is not left
        model.update(keys, torch.arange(12), step)
    assert seen == [step * 24 >= length for step in range(8)]


def resolved(expression, samples, data="mine", device="cpu", size=32):
    return resolve_here(parse(expression), Circumstances(data, size, samples, device))


@pytest.mark.parametrize("method", ["moco_v2", "nnclr", "nnbyol", "ressl", "moco_v1", "nnsiam"])
@pytest.mark.parametrize("samples", [64, 200, 1000])
def test_a_queue_is_shorter_than_the_images_less_a_batch(method, samples):
    """So that what a query is told apart from is not itself; the plan says the length, and where it comes from."""
    recipe = resolved(method, samples)
    batch = recipe.training.batch_size
    assert recipe.memory.queue_length == min(samples - batch, 1024)
    assert recipe.origins["memory.queue_length"] == "device cpu"
    assert notes(recipe, samples) == []


@pytest.mark.parametrize("method", ["moco_v2", "nnclr"])
def test_a_queue_of_many_images_is_as_long_as_it_was(method):
    assert resolved(method, 1437, "digits").memory.queue_length == 1024
    assert resolved(method, 5000).memory.queue_length == 1024
    assert resolved("moco_v2", 50_000, "cifar10", "cuda").memory.queue_length == 8192


def test_a_queue_that_is_asked_for_is_kept_and_warned_of():
    recipe = resolved("moco_v2 queue_length=1024", 64)
    assert recipe.memory.queue_length == 1024
    (sentence,) = notes(recipe, 64)
    assert "queue of 1,024" in sentence
    assert "48 or less" in sentence
    assert notes(resolved("simclr", 64), 64) == []


# ---- the batch and the warm-up ---------------------------------------------------------------------------------------


def test_a_batch_of_another_size_than_the_rates_is_warned_of_once(build, views):
    model = build("simsiam batch_size=512")
    sslzoo.optimizer(model, model.recipe, 10)
    with pytest.warns(UserWarning, match="12 images.*for 512.*batch_size=12"):
        model(views())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(views())


def test_the_batch_that_the_optimiser_is_told_scales_the_rate(build, views):
    model = build("simsiam lr=0.5 batch_size=512")
    told = sslzoo.optimizer(model, model.recipe, 10, batch_size=12)
    assert told.param_groups[0]["lr"] == pytest.approx(0.5 * 12 / 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(views())
    assert sslzoo.optimizer(model, model.recipe, 10).param_groups[0]["lr"] == pytest.approx(1.0)


@pytest.mark.parametrize("batch_size", [0, 1, -5, 2.5, "32"])
def test_a_batch_that_is_none_is_refused(build, refused, batch_size):
    model = build("simsiam")
    with refused("--batch-size cannot be"):
        sslzoo.optimizer(model, model.recipe, 10, batch_size=batch_size)


def test_nothing_is_said_of_batches_that_do_not_train(build, views):
    model = build("simsiam batch_size=512").eval()
    sslzoo.optimizer(model, model.recipe, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(views())
        with torch.no_grad():
            model.train()(views())


@pytest.mark.parametrize(("warmup", "epochs", "said"), [(10, 5, True), (5, 5, True), (4, 5, False), (0, 1, False)])
def test_a_warm_up_that_takes_the_whole_run_is_said(warmup, epochs, said):
    recipe = resolved(f"simsiam warmup_epochs={warmup} epochs={epochs}", 1000)
    assert [f"warm-up of {warmup} epochs" in sentence for sentence in notes(recipe, 1000)] == [True] * said


def test_it_is_said_where_runs_begin_and_where_they_are_planned(run_cli, tiny_data):
    words = ("train", "simsiam", "warmup_epochs=9", "--data", tiny_data, "--epochs", "1", "--device", "cpu")
    assert "The warm-up of 9 epochs" in run_cli(*words, "--dry-run").output.replace("\n", " ")
    shown = run_cli(*words, "dim=8", "hidden=8", "predictor_hidden=8").output
    assert "The warm-up of 9 epochs" in shown
    assert "kNN (validation, n = 6)" in shown


@pytest.fixture
def tiny_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    arrays = {f"{split}_images": rng.integers(0, 255, (n, 12, 12, 3), dtype=np.uint8) for split, n in SPLITS}
    np.savez("noise.npz", **arrays, **{f"{split}_labels": np.arange(n) % 4 for split, n in SPLITS})
    return "noise.npz"


SPLITS = (("train", 64), ("test", 20))


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_run_beyond_its_stop_is_refused_and_left_alone(tiny_data, refused, stop_after):
    run = train("simsiam dim=8 hidden=8 predictor_hidden=8", data=tiny_data, epochs=3, batch_size=16, device="cpu",
                stop_after=2)["run"]  # fmt: skip
    with refused("has trained 2 epochs", f"--stop-after {stop_after}"):
        resume(run, stop_after=stop_after)
    assert resume(run, stop_after=3)["epochs"] == 3


# ---- correlations ----------------------------------------------------------------------------------------------------


def cells(means, sd=None, n=1):
    return [SimpleNamespace(knn=SimpleNamespace(mean=mean, sd=sd, n=n)) for mean in means]


@pytest.mark.parametrize(("found", "says"), [
    (cells([0.1, 0.9, 0.5, 0.3]), False),
    (cells([0.1, 0.9, 0.5, 0.3, 0.2, 0.4]), False),
    (cells([0.1, 0.9, 0.5, 0.3, 0.2, 0.4, 0.6, 0.7]), True),
    (cells([0.500, 0.505, 0.501, 0.502, 0.503, 0.504, 0.5, 0.505]), False),
    (cells([0.1, 0.9, 0.5, 0.3, 0.2, 0.4, 0.6, 0.7], sd=0.9, n=3), False),
    (cells([0.500, 0.505, 0.501, 0.502, 0.503, 0.504, 0.5, 0.505], sd=0.001, n=3), True),
    (cells([]), False),
])  # fmt: skip
def test_a_correlation_over_few_cells_or_within_noise_is_no_finding(found, says):
    assert telling(found, len(found)) is says
