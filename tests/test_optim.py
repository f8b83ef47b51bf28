"""The schedule's values, the parameter groups, and each optimiser's step against its formula."""

import copy
from io import BytesIO
from math import cos, pi

import pytest
import torch

import sslzoo


def group_of(optimizer, parameter):
    """The group that holds a parameter."""
    (found,) = (group for group in optimizer.param_groups if any(p is parameter for p in group["params"]))
    return found


def rates(model, steps):
    """The learning rates of the encoder and of the predictor before each of the steps, and after the last."""
    optimizer = sslzoo.optimizer(model, model.recipe, steps)
    parts = [next(part.parameters()) for part in (model.online.encoder, model.predictor)]
    found = []
    for _ in range(steps + 1):
        found.append([group_of(optimizer, part)["lr"] for part in parts])
        optimizer.step()
    return zip(*found, strict=True)


def train(model, optimizer, steps, seed):
    """Steps along random gradients; the learning rates and parameters after each."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        optimizer.step()
        found.append([group["lr"] for group in optimizer.param_groups])
    return found, [p.detach().clone() for p in model.parameters()]


# ---- the schedule ----------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_base_times_batch_over_256(build):
    """Linear scaling, for all groups."""
    model = build("simsiam lr=0.05 batch_size=512")
    assert model.recipe.learning_rate == pytest.approx(0.1)
    assert next(iter(rates(model, 4)))[0] == pytest.approx(0.1)


def test_warm_up_is_linear_then_the_rate_follows_a_cosine(build):
    """2 of 10 epochs warm up: 10 of 50 steps; the cosine ends at a tenth."""
    model = build("simsiam lr=3.0 batch_size=128 epochs=10 warmup_epochs=2 lr_end=0.1")
    encoder, predictor = rates(model, 50)
    parts = {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 1, 20: 0.1 + 0.45 * (1 + 0.5**0.5), 30: 0.55, 50: 0.1}
    assert {step: encoder[step] for step in parts} == pytest.approx({k: 1.5 * part for k, part in parts.items()})
    assert encoder[10:] == pytest.approx([1.5 * (0.1 + 0.45 * (1 + cos(pi * k / 40))) for k in range(41)])
    assert predictor == encoder


def test_without_warm_up_the_first_step_is_the_largest(build):
    """The cosine alone, to zero."""
    encoder, _ = rates(build("simsiam lr=2.56 batch_size=100"), 20)
    assert encoder == pytest.approx([0.5 * (1 + cos(pi * k / 20)) for k in range(21)])


@pytest.mark.parametrize("scale", [0, 1, 10])
def test_the_predictors_rate_is_scaled(build, scale):
    """Over the others', at every step."""
    encoder, predictor = rates(build(f"simsiam predictor_lr_scale={scale} warmup_epochs=40"), 20)
    assert predictor == pytest.approx([scale * rate for rate in encoder])


def test_the_predictors_rate_may_stay(build):
    """``predictor_schedule=constant`` keeps its scaled rate while the others' falls."""
    encoder, predictor = rates(build("simsiam lr=1 batch_size=64 predictor_schedule=constant predictor_lr_scale=2"), 20)
    assert predictor == (0.5,) * 21
    assert encoder == pytest.approx([0.125 * (1 + cos(pi * k / 20)) for k in range(21)])


def test_the_model_is_told_the_length(build):
    """For tau's schedule."""
    model = build("byol")
    sslzoo.optimizer(model, model.recipe, 77)
    assert model.clock.steps == 77


# ---- parameter groups ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", ["simsiam", "byol", "swav", "simsiam + fixed"])
@pytest.mark.parametrize("decay_all", [True, False])
def test_the_decay_spares_biases_and_norms_if_told(build, expression, decay_all):
    """Every parameter that learns is in one group; a step without gradient shrinks those that decay and no others."""
    model = build(expression.replace("+ fixed", "predictor=fixed") + f" weight_decay=0.1 decay_all={decay_all}")
    optimizer = sslzoo.optimizer(model, model.recipe, 10)
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert {p.ndim for p in learnt} >= {1, 2}
    assert sorted(map(id, learnt)) == sorted(id(p) for group in optimizer.param_groups for p in group["params"])
    for parameter in learnt:
        spared = parameter.ndim == 1 and not decay_all
        assert group_of(optimizer, parameter)["weight_decay"] == (0 if spared else 0.1)
        parameter.data.fill_(1)
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter in learnt:
        assert bool((parameter < 1).all()) is (decay_all or parameter.ndim > 1)


# ---- each optimiser's step -------------------------------------------------------------------------------------------


def sgd(w, g, memory, lr, knobs):
    """Classical momentum, as in the papers and their code: v = m v + g + decay w; w - lr v."""
    memory["v"] = knobs.momentum * memory.get("v", 0) + g + knobs.weight_decay * w
    return w - lr * memory["v"]


def lars(w, g, memory, lr, knobs):
    """You et al. 2017: the decayed gradient times trust |w| / (|g| + decay |w|); clipped, never beyond lr itself."""
    ratio = knobs.trust * w.norm() / (g.norm() + knobs.weight_decay * w.norm())
    ratio = min(float(ratio) / lr, 1) if knobs.trust_clip else float(ratio)
    memory["v"] = knobs.momentum * memory.get("v", 0) + ratio * (g + knobs.weight_decay * w)
    return w - lr * memory["v"]


def adamw(w, g, memory, lr, knobs):
    """Loshchilov & Hutter 2019, algorithm 2, decay times the learning rate."""
    memory["t"] = t = memory.get("t", 0) + 1
    memory["m"] = knobs.momentum * memory.get("m", 0) + (1 - knobs.momentum) * g
    memory["s"] = 0.999 * memory.get("s", 0) + 0.001 * g**2
    m, s = memory["m"] / (1 - knobs.momentum**t), memory["s"] / (1 - 0.999**t)
    return w - lr * (m / (s.sqrt() + 1e-8) + knobs.weight_decay * w)


STEPS = {"sgd": sgd, "lars": lars, "lars trust_clip=false": lars, "adamw": adamw}


@pytest.mark.parametrize("name", STEPS)
def test_three_steps_are_the_formulas(build, name):
    """Every parameter that does not start at zero, after each of three steps along new gradients at falling rates."""
    model = build(f"simsiam optimizer.name={name} lr=10 weight_decay=0.01", dtype=torch.float64)
    optimizer = sslzoo.optimizer(model, model.recipe, 8)
    learnt = [p for p in model.parameters() if p.requires_grad and p.any()]  # LARS leaves zero weights unscaled
    memories = [{} for _ in learnt]
    for seed in range(3):
        lr, before = optimizer.param_groups[0]["lr"], [p.detach().clone() for p in learnt]
        train(model, optimizer, 1, seed)
        for p, w, memory in zip(learnt, before, memories, strict=True):
            torch.testing.assert_close(p.detach(), STEPS[name](w, p.grad, memory, lr, model.recipe.optimizer))


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_long_gradients_are_brought_to_the_largest_norm(build, name, clip):
    """Two steps are torch's along gradients that are scaled by clip / norm beforehand, where that is below 1."""
    words = f"simsiam optimizer.name={name} lr=0.1"
    clipped, plain = (build(f"{words} clip_grad={c}", dtype=torch.float64) for c in (clip, 0))
    plain.load_state_dict(clipped.state_dict())
    ours, theirs = (sslzoo.optimizer(model, model.recipe, 4) for model in (clipped, plain))
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        gradients = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in clipped.parameters()]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for p, q, g in zip(clipped.parameters(), plain.parameters(), gradients, strict=True):
            p.grad, q.grad = g.clone(), g * min(1, clip / norm)
        ours.step()
        theirs.step()
    torch.testing.assert_close([*clipped.parameters()], [*plain.parameters()], rtol=1e-6, atol=1e-8)  # + 1e-6 there


@pytest.mark.parametrize("unscaled", [True, False])
def test_clipping_sees_gradients_as_they_are_without_the_scaler(build, unscaled):
    """A scaler multiplies gradients by 1024; whoever unscales them, the step is that of gradients of norm 1."""
    moved = []
    for scaled in (True, False):
        torch.manual_seed(0)
        model = build("simsiam lr=2.56 batch_size=100 momentum=0 weight_decay=0 clip_grad=1")
        optimizer, scaler = sslzoo.optimizer(model, model.recipe, 2), torch.amp.GradScaler("cpu", init_scale=1024.0)
        before = [p.detach().clone() for p in model.parameters()]
        loss = 10 * sum(p.square().sum() for p in model.parameters())
        (scaler.scale(loss) if scaled else loss).backward()
        if scaled and unscaled:
            scaler.unscale_(optimizer)
        scaler.step(optimizer) if scaled else optimizer.step()
        moved.append(torch.cat([(p - b).detach().flatten() for p, b in zip(model.parameters(), before, strict=True)]))
    assert float(moved[0].norm()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(*moved, rtol=1e-4, atol=1e-6)


def test_a_copied_optimiser_clips_too(build):
    """What is pickled or copied is followed anew."""
    model = build("simsiam lr=2.56 batch_size=100 momentum=0 weight_decay=0 clip_grad=1")
    optimizer = copy.deepcopy(sslzoo.optimizer(model, model.recipe, 2))
    learnt = [p for group in optimizer.param_groups for p in group["params"]]
    for p in learnt:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert float(torch.cat([p.grad.flatten() for p in learnt]).norm()) == pytest.approx(1, rel=1e-4)


def test_lars_leaves_what_does_not_decay_to_sgd(build):
    """BYOL, SimCLR: biases and norms are neither decayed nor adapted."""
    model = build("simsiam optimizer.name=lars decay_all=false", dtype=torch.float64)
    optimizer = sslzoo.optimizer(model, model.recipe, 8)
    lr, norm = optimizer.param_groups[0]["lr"], model.online.projector[1].weight
    train(model, optimizer, 1, 0)
    torch.testing.assert_close(norm.detach(), 1 - lr * norm.grad)


@pytest.mark.parametrize(
    "words",
    [
        *(f"{name} optimizer.momentum=0" for name in STEPS),
        "lars trust=1e-6",
        "lars trust=1e-6 warmup_epochs=99",
        "lars lr=0",
    ],
)
def test_the_schemas_bounds_are_finite(build, words):
    """What the schema lets a person write makes steps, also at the learning rate 0 where a warm-up begins."""
    model = build(f"simsiam optimizer.name={words}")
    _, parameters = train(model, sslzoo.optimizer(model, model.recipe, 8), 2, 0)
    assert all(p.isfinite().all() for p in parameters)


# ---- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_a_loaded_state_goes_on_exactly(build, name):
    """In warm-up and beyond: rates and parameters of a run that was saved equal those of one that was not."""
    words = f"simsiam optimizer.name={name} epochs=10 warmup_epochs=4 predictor_schedule=constant decay_all=false"
    whole = build(words)
    optimizer = sslzoo.optimizer(whole, whole.recipe, 10)
    for seed, steps in enumerate((3, 4, 3)):
        file = BytesIO()
        torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
        saved = torch.load(BytesIO(file.getvalue()), weights_only=True)
        part = build(words)
        resumed = sslzoo.optimizer(part, part.recipe, 10)
        part.load_state_dict(saved["model"])
        resumed.load_state_dict(saved["optimizer"])
        rate, parameters = train(whole, optimizer, steps, seed)
        resumed_rate, others = train(part, resumed, steps, seed)
        assert resumed_rate == rate
        assert all(map(torch.equal, others, parameters))
