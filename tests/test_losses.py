"""Each method's loss and gradient against the paper's, in float64."""

import pytest
import reference as paper
import torch

from sslzoo.core.clustering import spherical_kmeans
from sslzoo.recipes.recipe import find_method, method_names

INDEX = torch.arange(5, 29, 2)  # the samples' places in the data


@pytest.fixture
def model_of(build):
    """A model in float64 whose every part is moved from where it started: the copy differs, prototypes are not unit."""

    def make(expression, scale="small"):
        model = build(expression, scale, torch.float64)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            for memory in (model.queue, model.bank):
                if memory is not None:
                    memory.rows.copy_(torch.nn.functional.normalize(memory.rows))  # drawn in float32
            model.clock.steps = model.clock.done = model.recipe.training.epochs  # prototypes learn by now
            if model.codes is not None:
                for name, buffer in model.codes.named_buffers():
                    buffer.copy_(torch.randn_like(buffer) if name == "centre" else torch.randint(6, buffer.shape))
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


def projected(model, x, network=None):
    """Each view's projections: of one batch where the recipe passes them together."""
    network = network or model.online
    if model.recipe.views.together:
        return network(torch.cat([*x])).chunk(len(x))
    return [network(v) for v in x]


def simsiam(model, x, **distance):
    z = [model.online(v) for v in x]
    return paper.simsiam(*map(model.predictor, z), *z, **distance)


def byol(model, x):
    return paper.byol(*(model.predictor(model.online(v)) for v in x), *map(model.copy or model.online, x))


def simclr(model, x):
    return paper.simclr(*projected(model, x), model.recipe.loss.temperature)


def moco_v2(model, x):
    keys = (model.copy or model.online)(x[1])
    return paper.moco_v2(model.online(x[0]), keys, model.queue.rows, model.recipe.loss.temperature)


def moco_v3(model, x):
    queries, keys = (model.predictor(model.online(v)) for v in x), map(model.copy or model.online, x)
    return paper.moco_v3(*queries, *keys, model.recipe.loss.temperature)


def swav(model, x, **stop):
    knobs, prototypes = model.recipe.clustering, model.online.codebook.weight[0]
    crops = projected(model, x)
    return paper.swav(crops, prototypes, model.recipe.loss.temperature, knobs.epsilon, knobs.iterations, **stop)


def target(model):
    return model.copy or model.online


def moco_v2_plus(model, x):
    return (moco_v2(model, x) + moco_v2(model, x[::-1])) / 2


def instdisc(model, x):
    return paper.instdisc(model.online(x[0]), model.bank.rows, INDEX, model.recipe.loss.temperature)


def dino(model, x):
    students, teachers = projected(model, x), projected(model, x[:2], target(model))
    prototypes = (model.online.codebook.weight[0], target(model).codebook.weight[0])
    temperatures = (model.recipe.loss.temperature, model.recipe.clustering.code_temperature)
    return paper.dino(students, teachers, *prototypes, model.codes.centre[0, 0], *temperatures)


def deepcluster_v2(model, x):
    centroids = [paper.stack([paper.unit(c) for c in book]) for book in model.online.codebook.weight]
    assigned = [[int(of[i]) for i in INDEX] for of in model.codes.assigned]
    return paper.deepcluster_v2(projected(model, x), assigned, centroids, model.recipe.loss.temperature)


def nnclr(model, x):
    z = [model.online(v) for v in x]
    return paper.nnclr(*map(model.predictor, z), *z, model.queue.rows, model.recipe.loss.temperature)


def nnbyol(model, x):
    queries = (model.predictor(model.online(v)) for v in x)
    return paper.nnbyol(*queries, *map(target(model), x), model.queue.rows)


def nnsiam(model, x):
    return nnbyol(model, x)


def ressl(model, x):
    temperatures = (model.recipe.loss.temperature, model.recipe.clustering.code_temperature)
    return paper.ressl(model.online(x[0]), target(model)(x[1]), model.queue.rows, *temperatures)


def barlow_twins(model, x):
    return paper.barlow_twins(*map(model.online, x), model.recipe.loss.regularizer_weight)


def vicreg(model, x):
    summed = model.recipe.scale == "small"  # solo-learn's, which does not halve the variance term
    return paper.vicreg(*map(model.online, x), variance=50 if summed else 25)


def w_mse(model, x):
    return paper.w_mse(*map(model.online, x), len(x[0]), model.recipe.normalize.whiten_epsilon)


def test_w_mse_averages_over_random_partitions(model_of, doubles):
    """Three times in groups of four: twice in an order that is drawn, and once in the batch's own."""
    model, x = model_of("w_mse dim=3 whiten_size=4 w_iter=3"), doubles(8, 8)
    torch.manual_seed(1)
    n = len(x[0])
    orders = [torch.randperm(n), torch.randperm(n), torch.arange(n)]
    assert len({frozenset(map(frozenset, order.view(-1, 4).tolist())) for order in orders}) == 3
    theirs = paper.w_mse_iterated(*map(model.online, x), orders, 4, model.recipe.normalize.whiten_epsilon)
    torch.manual_seed(1)
    loss, keys = model(x, INDEX)
    assert_same(model, 2 + 2 * loss, theirs)
    once = model_of("w_mse dim=3 whiten_size=4")
    once.load_state_dict(model.state_dict())
    torch.testing.assert_close(keys, once(x, INDEX)[1], rtol=0, atol=0)  # those of the batch's own order


def dcl(model, x):
    return paper.dcl(*map(model.online, x), model.recipe.loss.temperature)


def lejepa(model, x):
    torch.manual_seed(1)  # as before our loss, which draws the same directions
    directions = torch.randn(model.recipe.heads.dim, model.recipe.loss.slices, dtype=torch.float64)
    directions = paper.stack([paper.unit(column) for column in directions.T]).T
    return paper.lejepa(projected(model, x), directions, model.recipe.loss.regularizer_weight)


# The paper's loss as the recipes state it, offset + factor x L: BYOL's is 4 + 4 times the mean of - cos, the loss of
# lightly's recipe; Barlow Twins' recipes scale it; W-MSE's is 2 + 2 L.
AFFINE = {
    byol: lambda recipe: (4, 4 / recipe.loss.loss_scale),
    nnbyol: lambda recipe: (4, 4 / recipe.loss.loss_scale),
    nnsiam: lambda recipe: (4, 4),
    barlow_twins: lambda recipe: (0, 1 / recipe.loss.loss_scale),
    w_mse: lambda recipe: (2, 2),
}
METHODS = [
    simsiam, byol, simclr, moco_v2, moco_v2_plus, moco_v3, swav, instdisc, dino, deepcluster_v2, nnclr, nnbyol, nnsiam,
    ressl, barlow_twins, vicreg, w_mse, lejepa,
]  # fmt: skip
VARIANTS = [dcl]


def as_the_paper(model, method, x):
    """Our loss on the paper's scale."""
    offset, factor = AFFINE.get(method, lambda recipe: (0, 1))(model.recipe)
    torch.manual_seed(1)
    return offset + factor * model(x, INDEX)[0]


@pytest.mark.parametrize("scale", ["small", "large"])
@pytest.mark.parametrize("method", METHODS + VARIANTS, ids=lambda method: method.__name__)
def test_a_method_has_its_papers_loss(model_of, doubles, method, scale):
    """Every shipped method that is no variant, with the heads and temperatures of both its recipes."""
    model = model_of(method.__name__, scale)
    x = doubles(*[8] * (model.recipe.views.targets if model.switches.symmetric else 2))
    assert_same(model, as_the_paper(model, method, x), method(model, x))


@pytest.mark.parametrize("method", [byol, moco_v2, moco_v3, dino, ressl], ids=lambda method: method.__name__)
def test_the_stop_gradient_alone_detaches_shared_keys(model_of, doubles, method):
    """With the online network as target, only the paper's stop-gradient keeps the gradient from the keys."""
    model, x = model_of(f"{method.__name__} - momentum"), doubles()
    assert_same(model, as_the_paper(model, method, x), method(model, x))


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


@pytest.mark.parametrize("method", [swav, dino], ids=lambda method: method.__name__)
def test_multi_crop(model_of, doubles, method):
    """Small crops predict the codes of both global crops and give none."""
    model, x = model_of(method.__name__), doubles(8, 8, 6, 6)
    loss, keys = model(x)
    assert len(keys) == 2
    assert_same(model, loss, method(model, x))


def test_four_targets_are_the_mean_over_pairs(model_of, doubles):
    """FastSiam's query has each of the three other views in turn."""
    model, x = model_of("fastsiam"), doubles(8, 8, 8, 8)
    z = [model.online(v) for v in x]
    pairs = [paper.negative_cosine(model.predictor(z[i])[n], z[j][n].detach())
             for i in range(4) for j in range(4) if i != j for n in range(12)]  # fmt: skip
    assert_same(model, model(x)[0], sum(pairs) / len(pairs))


def test_simsiam_with_an_average_and_no_predictor(model_of, doubles):
    """Section 5.2: the target is the running average with this view's projection mixed in."""
    model, x = model_of("simsiam - predictor + average bank_momentum=0.8 read=after"), doubles()
    model.bank.seen[INDEX] = True
    z1, z2 = (model.online(v) for v in x)
    rows = model.bank.rows[INDEX]
    theirs = (paper.simsiam_average(z1, z2, rows, 0.8) + paper.simsiam_average(z2, z1, rows, 0.8)) / 2
    assert_same(model, model(x, INDEX)[0], theirs)


def test_a_part_of_the_bank(model_of, doubles):
    """Random rows, the sample's own left out, and the positive: with all rows drawn it is the whole softmax."""
    model, whole, x = model_of("instdisc bank_sample=39"), model_of("instdisc"), doubles()
    torch.manual_seed(2)
    loss = model(x, INDEX)[0]
    torch.manual_seed(2)
    drawn = torch.randint(40, (39,))
    q = torch.nn.functional.normalize(model.online(x[0]))
    logits = q @ model.bank.rows.T / model.recipe.loss.temperature
    theirs = []
    for row, own in zip(logits, INDEX, strict=True):
        others = [row[j] for j in drawn if j != own]
        theirs.append(paper.info_nce(row[own], [row[own], *others]))
    assert_same(model, loss, sum(theirs) / 12)
    assert not torch.equal(loss, whole(x, INDEX)[0])


def test_the_queue_joins_sinkhorn_from_its_epoch(model_of, doubles):
    """SwAV section 3.2: the codes of the batch are those that the batch and the queue get together."""
    model, x = model_of("swav sinkhorn_queue=true queue_epoch=2"), doubles()
    model.clock.done = 1
    alone = model(x)[0]
    assert_same(model, alone, swav(model, x))
    model.clock.done = 2
    z, knobs, unit = [model.online(v) for v in x], model.recipe.clustering, torch.nn.functional.normalize
    prototypes = unit(model.online.codebook.weight[0])
    theirs = 0
    for a, b in ((0, 1), (1, 0)):
        rows = torch.cat([model.queue.rows, unit(z[b]).detach()])
        codes = paper.official_sinkhorn((rows @ prototypes.T).detach(), knobs.epsilon, knobs.iterations)[-12:]
        logs = torch.log_softmax(unit(z[a]) @ prototypes.T / model.recipe.loss.temperature, dim=1)
        theirs = theirs - (codes * logs).sum(dim=1).mean() / 2
    assert_same(model, model(x)[0], theirs)
    assert abs(model(x)[0] - alone) > 1e-6


def test_prototypes_are_frozen_at_first(model_of, doubles):
    model, x = model_of("swav freeze_epochs=1"), doubles()
    model.clock.steps, codebook = 10 * model.recipe.training.epochs, model.online.codebook.weight
    for done, learns in ((0, False), (9, False), (10, True)):
        model.clock.done, codebook.grad = done, None
        model(x)[0].backward()
        assert (codebook.grad is not None) is learns


def test_the_codes_temperature_is_linear_then_constant(build):
    model = build("dino code_temperature_start=0.04 code_temperature=0.07 code_warmup_epochs=30")
    model.clock.steps, temperatures = model.recipe.training.epochs, []
    for model.clock.done in (0, 15, 30, 90):
        temperatures.append(float(model.codes.temperature(model.clock)))
    assert temperatures == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert build("dino").codes.temperature(model.clock) == 0.04


def test_the_centre_follows_the_teachers_scores(model_of, doubles):
    """DINO eq. 4, with the teacher as it was in the step."""
    model, x = model_of("dino"), doubles()
    before, keys = model.codes.centre[0, 0].clone(), model(x)[1]
    prototypes = torch.nn.functional.normalize(model.copy.codebook.weight[0])
    expected = paper.dino_centre(before, keys.flatten(0, 1) @ prototypes.T, 0.9)
    model.update(keys, INDEX, 0)
    torch.testing.assert_close(model.codes.centre[0, 0], expected)


def test_kmeans_finds_blobs_and_equals_the_reference():
    """Three blobs on a sphere from any start with a row of each; an empty cluster stays; several iterations."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(5, dtype=torch.float64)[:3]
    truth = torch.arange(60) % 3
    rows = centres[truth] + 0.1 * torch.randn(60, 5, generator=generator, dtype=torch.float64)
    centroids, near = spherical_kmeans(rows, rows[:3], 10)
    assert torch.equal(near, truth)
    torch.testing.assert_close(centroids, centres, rtol=0, atol=0.1)
    start = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    start[0] = -rows.mean(dim=0)  # nobody's nearest
    for iterations in (0, 1, 5):
        ours = spherical_kmeans(rows, start, iterations)
        theirs = paper.spherical_kmeans(rows, [*torch.nn.functional.normalize(start)], iterations)
        torch.testing.assert_close(ours[0], theirs[0])
        assert ours[1].tolist() == [int(i) for i in theirs[1]]
    assert 0 not in ours[1]


def test_an_epoch_starts_with_clusters_of_the_bank(build, views):
    """Every codebook gets centroids of the rows that have been seen, and every sample its nearest."""
    model, index = build("deepcluster_v2"), torch.arange(12)
    model.remember(views(), index)
    assert model.bank.seen.sum() == 12
    model.begin_epoch()
    books = model.online.codebook.weight
    assert books.shape == (3, 6, 8)
    assert not torch.equal(books[0], books[1])
    torch.testing.assert_close(books.norm(dim=2), torch.ones(3, 6))
    for book, assigned in zip(books, model.codes.assigned, strict=True):
        assert torch.equal(assigned[:12], (model.bank.rows[:12] @ book.T).argmax(dim=1))
        assert (assigned[12:] == -1).all()
    keys = model(views(), torch.arange(20, 32))[1]  # not seen yet: their code is the nearest centroid's
    assert torch.equal(model.code, torch.nn.functional.one_hot((keys[0] @ books.mT).argmax(dim=2), 6).float())


def test_every_method_is_compared():
    """A method of its own needs its paper's loss here."""
    own = {name for name in method_names() if not find_method(name).variant_of}
    assert own == {method.__name__ for method in METHODS}


@pytest.mark.parametrize(
    ("method", "scale", "factor"),
    [("vicreg", "small", 1), ("vicreg", "large", 1), ("moco_v3", "small", 1), ("moco_v3", "large", 1),
     ("byol", "small", 4), ("byol", "large", 1), ("nnbyol", "small", 1), ("nnbyol", "large", 1),
     ("barlow_twins", "small", 10)],
)  # fmt: skip
def test_a_recipe_has_its_sources_factor(model_of, doubles, method, scale, factor):
    """Beside LARS, which leaves biases and norms to plain SGD; BYOL's small recipe is lightly's, with SGD and - cos."""
    model, x = model_of(method, scale), doubles()
    theirs = globals()[method](model, x)
    torch.manual_seed(1)
    torch.testing.assert_close(
        gradients(model, factor * model(x, INDEX)[0]), gradients(model, theirs), rtol=1e-9, atol=1e-10
    )
