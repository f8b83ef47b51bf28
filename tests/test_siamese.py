"""The core's contract on the whole grid of switches, identities between methods, and what moves without gradient."""

from collections import Counter, deque
from copy import deepcopy
from itertools import product
from math import cos, pi
from random import Random

import pytest
import torch
from torch import nn

import sslzoo
from sslzoo.core.backbones import build as backbone
from sslzoo.core.losses import whiten
from sslzoo.core.memory import Queue
from sslzoo.core.pairs import own_views, pairs
from sslzoo.core.target import move, tau_at
from sslzoo.recipes.rules import refusal
from sslzoo.recipes.schema import SWITCHES, Switches

GRID = [Switches(*values) for values in product(*(f.values for f in SWITCHES.values()))]
ACCEPTED = [switches for switches in GRID if refusal(switches) is None]
NO_KEYS = torch.empty(0)
INDEX = torch.arange(12)


def words(switches):
    """All ten switches in words."""
    return " ".join(f"{name}={str(getattr(switches, name)).lower()}" for name in SWITCHES)


def state(module):
    """A copy of all parameters and buffers."""
    return deepcopy(dict(module.state_dict())) if module is not None else {}


def same(a, b):
    """Whether two states are equal, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def learnt(model):
    """A copy of all parameters that are not the target's."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if not name.startswith("copy.")}


def steps(model, batches):
    """Train; after each step yield the loss."""
    optimizer = sslzoo.optimizer(model, model.recipe, len(batches))
    for step, x in enumerate(batches):
        loss, keys = model(x, INDEX)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update(keys, INDEX, step)
        yield loss.detach()


def shift(network):
    """Change all parameters and buffers, as a training step does."""
    for tensor in network.state_dict().values():
        tensor += 1


# ---- the grid --------------------------------------------------------------------------------------------------------


def test_the_grid_is_counted():
    """4 x 3 x 2 x 4 x 6 x 3 x 4 x 4 x 4 x 2 combinations of the ten switches, in their order.

    Predictor, normalisation, regularizer and symmetry are free: 128. With the gradient stopped 7 pairs of target and
    positive train, of which an average has no copy, with 23 pairs of negatives and clustering and cosine, or with
    neither and 4 similarities. With a gradient only the shared view does, and no k-means. Cosine needs normalisation.
    """
    assert (len(GRID), len(set(GRID))) == (221_184, 221_184)
    assert len(ACCEPTED) == 128 * (7 * (23 + 4) + (19 + 4)) - 32 * (7 + 1) == 26_880
    accepted = set(ACCEPTED)
    reasons = Counter(refusal(switches).split()[0] for switches in GRID if switches not in accepted)
    others = 128 * (7 * 23 + 19)  # combinations with others to tell apart, for each similarity that they ignore
    assert reasons == {
        "No": 128 * 4 * (9 * 24 - 20),  # gradient can reach a copy, a row of memory or a hard code
        "positive=average": 128 * 2 * 24 * 4,  # beside two kinds of copy
        "similarity=mse": others,
        "similarity=cross_entropy": others,
        "similarity=correlation": others,
        "Cosine": 32 * 8,  # without normalisation
    }


@pytest.mark.parametrize(
    ("expression", "mend"),
    [
        ("byol - stop_gradient", "add '+ stop_gradient'"),
        ("nnclr - stop_gradient", "No gradient can reach a neighbour target"),
        ("instdisc - stop_gradient", "No gradient can reach an average target"),
        ("deepcluster_v2 - stop_gradient", "No gradient can reach a kmeans target"),
        ("byol + average", "add '- momentum' or '- average'"),
        ("simclr similarity=mse", "remove one of the two"),
        ("simsiam - l2", "add 'similarity=mse' or '+ l2'"),
    ],
)
def test_a_refusal_names_the_mend(refused, expression, mend):
    with refused(mend):
        sslzoo.load(expression)


def test_shapes_that_do_not_fit_are_refused(refused):
    encoder = nn.Flatten()
    with refused("row for every sample", "samples"):
        sslzoo.Siamese(encoder, sslzoo.load("instdisc"))
    with refused("3000 clusters of 100 images", "prototypes"):
        sslzoo.Siamese(encoder, sslzoo.load("deepcluster_v2"), 100)
    with refused("Whitening 64 rows of dimension 64", "lower dim or raise the batch"):
        sslzoo.Siamese(encoder, sslzoo.load("w_mse batch_size=64"))
    model = sslzoo.Siamese(backbone("small", 8), sslzoo.load("w_mse dim=16"))
    with refused("Whitening 12 rows of dimension 16"):  # a loader whose batch is not the recipe's
        model(torch.randn(2, 12, 3, 8, 8))
    model = sslzoo.Siamese(backbone("small", 8), sslzoo.load("instdisc"), 100)
    with refused("model(views, index)"):
        model(torch.randn(2, 12, 3, 8, 8))


def moves_as_it_should(build, views, switches):
    """Two steps: a finite loss, keys of a fixed shape, a pure forward, and an update that moves what it should."""
    model, index = build(f"simsiam {words(switches)}"), torch.arange(3, 15)
    optimizer = sslzoo.optimizer(model, model.recipe, 2)
    for step in range(2):
        model.begin_epoch()
        before, target = learnt(model), state(model.copy)
        memory = [state(part) for part in (model.queue, model.bank, model.codes)]
        loss, keys = model(views(seed=step), index)
        assert loss.shape == ()
        assert loss.isfinite()
        assert (keys.shape, keys.requires_grad) == ((1 + switches.symmetric, 12, 8), False)
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            frozen = (
                name.startswith("copy.")
                or (name.startswith("predictor.") and switches.predictor == "fixed")
                or (name.endswith("codebook.weight") and switches.clustering == "kmeans")
            )
            assert parameter.requires_grad is not frozen
            assert (parameter.grad is None) if frozen else parameter.grad.isfinite().all(), name
        optimizer.step()

        after, fixed = learnt(model), {n: p for n, p in model.predictor.named_parameters() if not p.requires_grad}
        assert not same(before, after)
        assert all(torch.equal(p, before[f"predictor.{name}"]) for name, p in fixed.items())
        assert all(map(same, memory, (state(part) for part in (model.queue, model.bank, model.codes))))
        if model.copy is not None:
            assert all(torch.equal(p, target[name]) for name, p in model.copy.named_parameters())

        model.update(keys, index, step)
        assert same(after, learnt(model))
        if switches.target == "snapshot":
            assert same(state(model.copy), state(model.online))
        if switches.target == "momentum":
            tau = 1 - (1 - 0.99) * (cos(pi * step / 2) + 1) / 2
            for name, p in model.copy.named_parameters():
                torch.testing.assert_close(p, tau * target[name] + (1 - tau) * after[f"online.{name}"])
        needs_queue = (
            "queue" in words(switches) or switches.positive == "neighbour" or switches.clustering == "relation"
        )
        assert (model.queue is not None) is needs_queue
        if model.queue is not None:
            pushed = torch.cat([*keys])[-20:]  # the queue's length
            assert torch.equal(model.queue.rows.roll(-int(model.queue.pointer), 0)[-len(pushed) :], pushed)
        banked = switches.negatives == "bank" or switches.positive == "average" or switches.clustering == "kmeans"
        assert (model.bank is not None) is banked
        if model.bank is not None:
            changed = (model.bank.rows != memory[1]["rows"]).any(dim=1)
            assert torch.equal(changed.nonzero().squeeze(1), index)
        if switches.clustering == "centering":
            assert not same(memory[2], state(model.codes))


@pytest.mark.parametrize("switches", Random(0).sample(ACCEPTED, 300), ids=words)
def test_any_accepted_combination_trains(build, views, switches):
    """A sample of the grid."""
    moves_as_it_should(build, views, switches)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(32))
def test_every_accepted_combination_trains(build, views, part):
    """The whole grid, in 32 parts."""
    assert len(ACCEPTED[part::32]) == 840
    for switches in ACCEPTED[part::32]:
        try:
            moves_as_it_should(build, views, switches)
        except Exception as error:
            raise AssertionError(words(switches)) from error


# ---- identities, bit for bit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("byol - momentum like=simsiam", True),
        ("byol tau=0 tau_end=0 like=simsiam", True),
        ("simsiam + snapshot every=1", True),
        ("byol like=simsiam", False),
        ("simsiam + snapshot every=2", False),
        ("simsiam - stop_gradient", False),
    ],
)
def test_trains_as_simsiam_bit_for_bit(build, views, expression, holds):
    """Losses and parameters of three steps; the last expressions show that the test can tell."""
    batches = [views(seed=seed) for seed in range(3)]
    model, simsiam = build(expression), build("simsiam")
    start = learnt(simsiam)
    losses, expected = torch.stack([*steps(model, batches)]), torch.stack([*steps(simsiam, batches)])
    assert not same(start, learnt(simsiam))
    assert torch.equal(losses, expected) is holds
    assert same(learnt(model), learnt(simsiam)) is holds


def test_an_average_that_forgets_is_the_view(build, views):
    """``average`` with bank momentum 0, read after the key is mixed in; normalising twice is not exact."""
    batches = [views(seed=seed) for seed in range(3)]
    forgets, view = build("simsiam + average bank_momentum=0 read=after"), build("simsiam")
    keeps = build("simsiam + average bank_momentum=0.5 read=after")
    losses, expected, others = (torch.stack([*steps(model, batches)]) for model in (forgets, view, keeps))
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(others[0], expected[0], rtol=0, atol=1e-6)  # nothing is remembered yet
    assert (others[1:] - expected[1:]).abs().min() > 1e-4


@pytest.mark.parametrize(
    "expression",
    ["simsiam", "byol", "swav freeze_epochs=1", "dino code_temperature_start=0.02 code_warmup_epochs=200"],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # where dynamo looks at tensors between graphs
def test_no_step_is_compiled_anew(build, views, expression):
    """What a schedule reads stays outside of the graphs; only a switch of phase, like the end of freezing, is new."""
    torch.compiler.reset()
    model, graphs = build(expression), []
    model.compile(backend="eager")
    for _ in steps(model, [views(seed=seed) for seed in range(6)]):
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[2] == graphs[3] == graphs[4] == graphs[5]


# ---- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "count", "online", "copy"),
    [
        ("simsiam", 2, [0, 1], []),
        ("simsiam - symmetric", 2, [0, 1], []),
        ("simsiam", 4, [0, 1, 2, 3], []),
        ("byol", 2, [0, 1], [0, 1]),
        ("byol - symmetric", 2, [0], [1]),
        ("byol", 4, [0, 1, 2, 3], [0, 1]),
        ("moco_v2", 2, [0], [1]),
        ("moco_v2", 4, [0, 2, 3], [1]),
        ("moco_v2 views.pairs=2", 4, [0, 2], [1, 3]),
        ("moco_v2 negatives=batch", 2, [0], [0, 1]),
        ("moco_v2 negatives=batch own_view=false", 2, [0], [1]),
        ("moco_v2 negatives=batch views.pairs=2", 4, [0, 2], [0, 1, 2, 3]),
    ],
)
def test_only_needed_views_pass_a_network(build, views, expression, count, online, copy):
    """Each network sees each view that a pair needs once, and no other."""
    model, x, seen = build(expression), views(*[8] * count), {"online": [], "copy": []}
    place = {id(view): i for i, view in enumerate(x)}
    for name, passed in seen.items():
        if getattr(model, name) is not None:
            getattr(model, name).register_forward_pre_hook(lambda _, args, to=passed: to.append(place[id(args[0])]))
    model(x)
    assert seen == {"online": online, "copy": copy}


@pytest.mark.parametrize(
    ("expression", "sizes", "online", "copy"),
    [
        ("simclr together=true", [8, 8], [24], None),
        ("simclr together=false", [8, 8], [12, 12], None),
        ("swav together=true", [8, 8, 6, 6, 6], [24, 36], None),
        ("dino together=true", [8, 8, 6, 6], [24, 24], [24]),
        ("byol together=true - symmetric", [8, 8], [12], [12]),
    ],
)
def test_views_of_one_size_pass_together(build, views, expression, sizes, online, copy):
    """One batch a size passes the encoder, and one the projector: batch norm centres them as one, and not each view."""
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 16))
    model, x, seen = build(f"{expression} batchnorm=hidden", encoder=encoder), views(*sizes), {}
    x = [view + place for place, view in enumerate(x)]  # each with a mean of its own
    for name, network in (("online", model.online), ("copy", model.copy)):
        for part in ("encoder", "projector") if network is not None else ():
            passed = seen.setdefault((name, part), [])
            getattr(network, part).register_forward_hook(lambda _, args, out, to=passed: to.append(len(out)))
    centred = []
    model.online.encoder[2].register_forward_hook(lambda _, args, out: centred.append(out.mean(dim=0)))
    model(x)
    assert seen["online", "encoder"] == online
    assert seen.get(("copy", "encoder")) == copy
    if "together=true" in expression:
        assert seen["online", "projector"] == [sum(online)]
    torch.testing.assert_close(torch.stack(centred), torch.zeros(len(online), 48), atol=1e-5, rtol=0)
    z = model.online.project(dict(enumerate(x)))
    assert [*z] == [*range(len(x))]
    if online == [24]:
        means = torch.stack([model.online.encoder[:3](torch.cat(x))[:12], model.online.encoder[:3](x[0])]).mean(
            dim=(1, 2)
        )
        assert means[0] < -0.1 < means[1]  # the first view is the darker one, which only a common mean shows
        torch.testing.assert_close(torch.cat([*z.values()]), model.online(torch.cat(x)))


@pytest.mark.parametrize(
    ("expression", "views", "own"),
    [
        ("simclr", 2, {(1, 0): 1, (0, 1): 0}),
        ("simclr", 3, {(1, 0): 1, (2, 0): 1, (0, 1): 0, (2, 1): 0}),
        ("simclr targets=3", 4, {(1, 0): 1, (2, 0): 2, (3, 0): 1, (0, 1): 0, (2, 1): 2, (3, 1): 2,
                                 (0, 2): 0, (1, 2): 1, (3, 2): 0}),
        ("simclr - symmetric views.pairs=2", 5, {(0, 1): 0, (4, 1): 0, (2, 3): 2, (4, 3): 2}),
        ("simclr anchor=key", 3, {(1, 0): 0, (2, 0): 0, (0, 1): 1, (2, 1): 1}),
        ("simclr own_view=false", 2, {}),
        ("simsiam", 2, {}),
    ],
)  # fmt: skip
def test_whose_rows_are_its_own(expression, views, own):
    """A local crop, which never passes the target side, has the rows of another target or of the target's query."""
    recipe = sslzoo.load(expression)
    assert own_views(recipe, pairs(recipe, views)) == own


def test_too_few_views_are_refused(build, views, refused):
    with refused("needs 4 views of each image, not 2"):
        build("simsiam - symmetric views.pairs=2")(views())
    with refused("needs 2 views of each image, not 1"):
        build("simsiam")(views()[:1])


def test_what_cannot_be_whitened_is_not_a_number():
    """So that training ends with its own sentence, and nothing waits for the device."""
    knobs = sslzoo.load("w_mse whiten_epsilon=0").normalize
    assert whiten(torch.randn(32, 4), knobs).isfinite().all()
    for rows in (torch.zeros(32, 4), torch.full((32, 4), torch.nan)):
        assert whiten(rows, knobs).isnan().any()


@pytest.mark.parametrize("base", ["simsiam - symmetric", "moco_v2", "simclr - symmetric", "swav - symmetric"])
def test_two_pairs_are_the_mean_of_two_losses(build, views, base):
    """``views.pairs=2`` takes the views (0, 1) and (2, 3); keys are those of views 1 and 3."""
    one, two, x = build(base), build(f"{base} views.pairs=2"), views(8, 8, 8, 8)
    losses, keys = zip(one(x[:2]), one(x[2:]), strict=True)
    loss, both = two(x)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert torch.equal(both, torch.cat(keys))


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: backbone("small", 8),
        lambda: backbone("mobilenetv3_small_050", 8),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16)),
    ],
    ids=["small", "mobilenet", "flat"],
)
def test_an_encoders_width_is_found(views, encoder):
    """Also where timm's ``num_features`` is not the width of what comes out, and where images have one size only."""
    model = sslzoo.Siamese(encoder(), sslzoo.load("simsiam hidden=16 dim=8 predictor_hidden=8"))
    assert model(views())[0].isfinite()


# ---- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["encoder", "projector", "codebook"])
def test_a_copy_gives_the_keys_and_their_codes(build, views, part):
    """All of the target side is the copy's, the codebook too: a change there changes the loss."""
    model, x = build("swav + momentum"), views()
    before = model(x)[0]
    for parameter in getattr(model.copy, part).parameters():
        parameter.add_(torch.randn_like(parameter))
    assert not torch.equal(model(x)[0], before)


@pytest.mark.parametrize("tau", [0, 0.3, 0.99, 1])
def test_move_averages_parameters_and_no_statistics(build, tau):
    """copy <- tau copy + (1 - tau) online, exactly so at both ends; batch norm's buffers stay."""
    model = build("byol like=simsiam", dtype=torch.float64)
    shift(model.online)
    before, online = state(model.copy), state(model.online)
    move(model.copy, model.online, tau)
    averaged = dict(model.copy.named_parameters())
    assert averaged.keys() < before.keys()
    for name, now in model.copy.state_dict().items():
        expected = tau * before[name] + (1 - tau) * online[name] if name in averaged else before[name]
        torch.testing.assert_close(now, expected, rtol=0, atol=0 if tau in (0, 1) else 1e-15)


@pytest.mark.parametrize(("step", "tau"), [(0, 0.9), (25, 0.95 - 0.05 * 0.5**0.5), (50, 0.95), (100, 1), (150, 1)])
def test_tau_follows_a_cosine(step, tau):
    """BYOL section 3.1 at the start, a quarter, the middle, the end and beyond."""
    assert tau_at(step, 100, 0.9, 1.0) == pytest.approx(tau, abs=1e-15)
    assert tau_at(step, None, 0.9, 1.0) == 0.9
    assert tau_at(step, 100, 0.9, 0.9) == pytest.approx(0.9, abs=1e-15)


def test_update_moves_by_the_tau_of_its_step(build):
    """The optimiser tells the length of the training; in its middle tau is half way."""
    model = build("byol tau=0.5 tau_end=1.0", dtype=torch.float64)
    sslzoo.optimizer(model, model.recipe, 10)
    before = learnt(model)
    shift(model.online)
    model.update(NO_KEYS, None, 5)
    for name, p in model.copy.named_parameters():
        torch.testing.assert_close(p, before[f"online.{name}"] + 0.25)


@pytest.mark.parametrize(
    ("every", "refreshed", "at_epoch"),
    [
        ("1", [True] * 7, False),
        ("3", [False, False, True, False, False, True, False], False),
        ("epoch", [False] * 7, True),
    ],
)
def test_a_snapshot_is_taken_every_k_steps_or_epoch(build, every, refreshed, at_epoch):
    """A snapshot is the online network, statistics too, and stays what it was in between."""
    model = build(f"simsiam + snapshot every={every}")
    assert same(state(model.copy), state(model.online))
    for step, expected in enumerate(refreshed):
        shift(model.online)
        before = state(model.copy)
        model.update(NO_KEYS, None, step)
        assert same(state(model.copy), state(model.online)) is expected
        assert same(state(model.copy), before) is not expected
    shift(model.online)
    model.begin_epoch()
    assert same(state(model.copy), state(model.online)) is at_epoch


# ---- the queue -------------------------------------------------------------------------------------------------------


def test_the_queue_is_a_deque_of_the_latest_keys():
    """Whatever the lengths of the pushes: shorter, wrapping around, equal, longer, several times longer."""
    queue, generator = Queue(5, 2), torch.Generator().manual_seed(0)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))
    expected = deque(queue.rows.clone(), maxlen=5)
    for rows in (3, 3, 1, 5, 4, 7, 2, 0, 23, 5, 6, 1):
        keys = torch.randn(rows, 2, generator=generator)
        queue.push(keys)
        expected.extend(keys)
        assert torch.equal(queue.rows.roll(-int(queue.pointer), 0), torch.stack([*expected]))
    assert set(queue.state_dict()) == {"rows", "pointer"}  # a checkpoint has all of it


# ---- the heads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "norms"),
    [
        ("batchnorm=none", ([], [])),
        ("batchnorm=hidden", ([1], [1])),
        ("batchnorm=default", ([1, 4], [1])),
        ("batchnorm=all", ([1, 4], [1, 4])),
        ("batchnorm=hidden layers=3", ([1, 4], [1])),
        ("batchnorm=none layers=1", ([], [])),
        ("batchnorm=hidden layers=1", ([1], [1])),  # a linear head has no other place for it
    ],
)
def test_where_the_heads_have_batch_norm(build, words, norms):
    """SimSiam, Table 3: the places of batch norm in projector and predictor."""
    model = build(f"simsiam {words}")
    heads = (model.online.projector, model.predictor)
    assert tuple([i for i, layer in enumerate(head) if isinstance(layer, nn.BatchNorm1d)] for head in heads) == norms


@pytest.mark.parametrize(("affine", "free"), [("false", False), ("true", True)])
def test_simsiams_output_norm_has_no_scale_to_learn(build, views, affine, free):
    """Whatever is learnt, each column of z has mean 0 and deviation 1 (the paper's code: ``affine=False``)."""
    model = build(f"simsiam output_affine={affine}")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    z = model.online(views()[0])
    assert sslzoo.load("simsiam", scale="large").heads.output_affine is False
    assert torch.allclose(z.mean(dim=0), torch.zeros(8), atol=1e-5) is not free
    assert torch.allclose(z.std(dim=0, correction=0), torch.ones(8), atol=1e-2) is not free
