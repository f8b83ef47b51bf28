"""Each method's loss and gradient against the paper's, in float64."""

import pytest
import reference as paper
import torch

from sslzoo.recipe import find_method, method_names


@pytest.fixture
def model_of(build):
    """A model in float64 whose every part is moved from where it started: the copy differs, prototypes are not unit."""

    def make(expression, scale="small"):
        model = build(expression, scale, torch.float64)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model

    return make


@pytest.fixture
def doubles(views):
    """Views in float64."""
    return lambda *sizes: views(*sizes, dtype=torch.float64)


def gradients(model, loss):
    """The gradients of a loss by the name of the parameter, zero where it does not reach."""
    learnt = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(learnt, torch.autograd.grad(loss, [*learnt.values()], materialize_grads=True), strict=True))


def assert_same(model, ours, theirs):
    """The same value and the same gradients, which are not all zero."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    found, expected = gradients(model, ours), gradients(model, theirs)
    assert max(g.abs().max() for g in expected.values()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


# ---- what the papers' losses are given: the model's own projections, predictions, keys, queue, prototypes ----


def simsiam(model, x, **distance):
    z = [model.online(v) for v in x]
    return paper.simsiam(*map(model.predictor, z), *z, **distance)


def byol(model, x):
    return paper.byol(*(model.predictor(model.online(v)) for v in x), *map(model.copy or model.online, x))


def simclr(model, x):
    return paper.simclr(*map(model.online, x), model.recipe.loss.temperature)


def moco_v2(model, x):
    keys = (model.copy or model.online)(x[1])
    return paper.moco_v2(model.online(x[0]), keys, model.queue.rows, model.recipe.loss.temperature)


def moco_v3(model, x):
    queries, keys = (model.predictor(model.online(v)) for v in x), map(model.copy or model.online, x)
    return paper.moco_v3(*queries, *keys, model.recipe.loss.temperature)


def swav(model, x, **stop):
    knobs, prototypes = model.recipe.clustering, model.online.codebook.weight
    crops = [model.online(v) for v in x]
    return paper.swav(crops, prototypes, model.recipe.loss.temperature, knobs.epsilon, knobs.iterations, **stop)


# The paper's loss as the recipes state it: BYOL's is 4 + 4 L; MoCo v3's sums over both views, so it is 2 L.
AFFINE = {byol: (4, 4), moco_v3: (0, 2)}
METHODS = [simsiam, byol, simclr, moco_v2, moco_v3, swav]


@pytest.mark.parametrize("scale", ["small", "large"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_has_its_papers_loss(model_of, doubles, method, scale):
    """Every shipped method that is no variant, with the heads and temperatures of both its recipes."""
    model, x = model_of(method.__name__, scale), doubles()
    offset, factor = AFFINE.get(method, (0, 1))
    assert_same(model, offset + factor * model(x)[0], method(model, x))


@pytest.mark.parametrize("method", [byol, moco_v2, moco_v3], ids=lambda method: method.__name__)
def test_the_stop_gradient_alone_detaches_shared_keys(model_of, doubles, method):
    """With the online network as target, only the paper's stop-gradient keeps the gradient from the keys."""
    model, x = model_of(f"{method.__name__} - momentum"), doubles()
    offset, factor = AFFINE.get(method, (0, 1))
    assert_same(model, offset + factor * model(x)[0], method(model, x))


def test_simsiam_with_cross_entropy(model_of, doubles):
    """Section 4.5 takes the softmax over channels that are not normalised."""
    model, x = model_of("simsiam - l2 similarity=cross_entropy"), doubles()
    assert_same(model, model(x)[0], simsiam(model, x, distance=paper.cross_entropy))


def test_mse_of_unit_vectors_is_byol_by_channel(model_of, doubles):
    """|q - z'|^2 is the mean over channels times their number: 2 dim L is BYOL's sum over both views."""
    model, x = model_of("byol similarity=mse"), doubles()
    assert_same(model, 2 * model.recipe.heads.dim * model(x)[0], byol(model, x))


def test_negatives_and_clustering_add(model_of, doubles):
    """SimCLR with codes is the sum of both papers' losses; nothing is detached, as in SimCLR."""
    model, x = model_of("simclr + sinkhorn"), doubles()
    assert_same(model, model(x)[0], simclr(model, x) + swav(model, x, stop_gradient=False))


def test_multi_crop_swav(model_of, doubles):
    """Small crops predict the codes of both global crops and give none."""
    model, x = model_of("swav"), doubles(8, 8, 6, 6)
    loss, keys = model(x)
    assert len(keys) == 2
    assert_same(model, loss, swav(model, x))


def test_without_stop_gradient_codes_have_a_gradient(model_of, doubles):
    """``swav - stop_gradient`` has swav's loss, and the gradient also goes through keys and prototypes of the codes."""
    stopped, free, x = model_of("swav"), model_of("swav - stop_gradient"), doubles()
    assert_same(free, free(x)[0], swav(free, x, stop_gradient=False))
    assert torch.equal(stopped(x)[0], free(x)[0])
    ours, theirs = gradients(free, free(x)[0]), gradients(stopped, stopped(x)[0])
    for name in ("online.codebook.weight", "online.encoder.2.weight"):
        assert (ours[name] - theirs[name]).abs().max() > 1e-3


def test_stop_gradient_halves_a_symmetric_gradient(model_of, doubles):
    """With h the identity and both views as targets, the stop-gradient leaves exactly half of the gradient."""
    stopped, free = model_of("simsiam - predictor"), model_of("simsiam - predictor - stop_gradient")
    half, whole = (gradients(model, model(doubles())[0]) for model in (stopped, free))
    assert max(g.abs().max() for g in whole.values()) > 1e-3
    for name, gradient in half.items():
        torch.testing.assert_close(2 * gradient, whole[name], rtol=0, atol=1e-12)


def test_every_method_is_compared():
    """A method of its own needs its paper's loss here."""
    own = {name for name in method_names() if not find_method(name).variant_of}
    assert own == {method.__name__ for method in METHODS}
