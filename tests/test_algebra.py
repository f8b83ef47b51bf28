"""The algebra: tokens, flips, refusals, names, guards."""

import pytest

import sslzoo
from sslzoo.recipes import algebra, rules
from sslzoo.recipes.recipe import find_method, method_names, switch_values
from sslzoo.recipes.schema import KNOBS, SWITCHES
from sslzoo.tools.errors import UserError

EQUATIONS = {
    "byol - momentum": "simsiam",
    "moco_v3 - negatives": "byol",
    "simclr - negatives + predictor + stop_gradient": "simsiam",
    "swav - sinkhorn + predictor": "simsiam",
    "simclr + momentum + queue + stop_gradient - symmetric": "moco_v2",
    "simsiam + momentum": "byol",
    "simsiam + neighbour + batch": "nnclr",
    "dino - centering + predictor": "byol",
    "simsiam + neighbour": "nnsiam",
    "byol + neighbour": "nnbyol",
    "moco_v2 + symmetric": "moco_v2_plus",
    "moco_v1": "moco_v1",
    "ressl - relation + queue": "moco_v2",
    "swav clustering=kmeans": "deepcluster_v2",
    "w_mse normalize=l2 + negatives": "simclr",
    "vicreg regularizer=gaussian": "lejepa",
    "vicreg + standardize similarity=correlation regularizer=decorrelation": "barlow_twins",
    "instdisc - average + momentum negatives=queue": "moco_v2",
}


@pytest.mark.parametrize(("expression", "method"), EQUATIONS.items())
def test_equations_between_methods(expression: str, method: str) -> None:
    recipe = sslzoo.load(expression)
    assert recipe.method == method
    assert recipe.switches == find_method(method).switches


@pytest.mark.parametrize("name", method_names())
def test_every_shipped_method_keeps_its_name_and_guards(name: str) -> None:
    for scale in ("small", "large"):
        recipe = sslzoo.load(name, scale)
        assert recipe.method == name
        assert rules.collapse_guards(recipe.switches)
        assert recipe.dropped == ()


def test_one_method_without_variant_of_has_each_set_of_switches() -> None:
    named = [find_method(name) for name in method_names()]
    plain = [method.switches for method in named if not method.variant_of]
    assert len(plain) == len(set(plain)) >= 18
    assert all(find_method(m.variant_of).switches == m.switches for m in named if m.variant_of)


def test_words_are_unique_over_all_switches() -> None:
    words = [v for f in SWITCHES.values() for v in f.values if v not in ("none", True, False)]
    assert len(words) == len(set(words)) == 27
    assert not set(words) & set(SWITCHES)
    assert len(SWITCHES) == 10


def test_plain_names_of_knobs_are_unique() -> None:
    plain = [key.split(".")[1] for key in KNOBS if key.count(".") == 1]
    assert len(plain) == len(set(plain))
    assert not set(plain) & set(SWITCHES)


@pytest.mark.parametrize(
    "words",
    [
        ["byol - momentum tau=0.9 + momentum"],
        ["byol", "-", "momentum", "tau=0.9", "+", "momentum"],
        ["byol", "-momentum", "tau=0.9", "+momentum"],
        ["byol", "-momentum tau=0.9", "+", "momentum"],
    ],
)
def test_glued_spaced_and_quoted_are_one(words: list[str]) -> None:
    parsed = algebra.parse(words)
    assert parsed.text == "byol - momentum tau=0.9 + momentum"
    assert parsed.written == {"target.tau": 0.9}
    assert parsed.switches == find_method("byol").switches


def test_tokens_apply_from_left_to_right_and_rules_at_the_end() -> None:
    with pytest.raises(UserError, match="No gradient can reach a momentum target; add '\\+ stop_gradient'"):
        algebra.parse("simclr + momentum")
    assert algebra.parse("simclr + momentum + stop-gradient").switches.target == "momentum"
    assert algebra.parse("simclr target=momentum stop_gradient=true").switches.stop_gradient is True


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("simsiamm", "no method 'simsiamm' \\(did you mean 'simsiam'\\?\\)"),
        ("", "starts with a method's name"),
        ("+ momentum", "starts with a method's name"),
        ("simsiam - momentum", "simsiam has no momentum to remove \\(target is shared\\)"),
        ("simsiam - negatives", "no negatives to remove \\(negatives is none\\)"),
        ("simsiam - shared", "no shared to remove"),
        ("byol + momentum", "has momentum already"),
        ("byol + target", "has target already \\(target is momentum\\)"),
        ("moco_v2 - batch", "no batch to remove \\(negatives is queue\\)"),
        ("simsiam + momentun", "did you mean 'momentum'"),
        ("simsiam +", "nothing behind '\\+'; name a switch or value"),
        ("simsiam predictor=none -", "nothing behind '-'"),
        ("simsiam like=byol like=simclr", "like is said twice"),
        ("simsiam momentum", "'momentum' needs a sign"),
        ("simsiam + similarity", "has no usual value; write similarity=cosine, mse, cross_entropy or correlation"),
        ("simsiam predictor=mpl", "predictor cannot be 'mpl' \\(did you mean 'mlp'\\?\\)"),
        ("simsiam symmetric=1", "symmetric cannot be '1'; it is false or true"),
        ("simsiam tau=0.9", "target.tau would not be read: it is read where target is momentum"),
        ("simsiam temperature=0.1", "loss.temperature would not be read"),
        ("simsiam tua=0.9", "'tua' is no knob"),
        ("simsiam optimizer.lrr=1", "no knob 'optimizer.lrr' \\(did you mean 'optimizer.lr'\\?\\)"),
        ("simsiam lr=fast", "optimizer.lr cannot be 'fast'; it is float"),
        ("simsiam lr=-1", "optimizer.lr cannot be -1.0; it is from 0 to"),
        ("simsiam lr=inf", "optimizer.lr cannot be inf"),
        ("simsiam lr=nan", "optimizer.lr cannot be nan"),
        ("simsiam dim=2.5", "heads.dim cannot be '2.5'; it is int"),
        ("simsiam batchnorm=some", "batchnorm cannot be 'some'.*; it is none, hidden, default or all"),
        ("simsiam trust=0.1", "optimizer.trust would not be read: it is read where optimizer.name is lars"),
        ("simsiam like=simclrr", "did you mean 'simclr'"),
        ("simsiam - l2", "Cosine divides by the norms"),
        ("simclr similarity=mse", "similarity=mse would be ignored beside negatives"),
        ("swav similarity=mse", "similarity=mse would be ignored beside clustering"),
        ("simsiam views.local.hue=0.1", "views.local_crops is at least 1"),
        ("simsiam 'oops", "close the quote"),
        ("missing.toml", "There is no file missing.toml"),
    ],
)
def test_refusals_are_one_sentence_with_a_mend(expression: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sslzoo.load(expression)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_knobs_that_are_read_by_other_knobs() -> None:
    assert sslzoo.load("simsiam optimizer.name=lars trust=0.1").optimizer.trust == 0.1
    assert sslzoo.load("simsiam local_crops=2 views.local.hue=0").views.local.hue == 0
    assert sslzoo.load("simsiam + snapshot every=epoch").target.every == "epoch"
    assert sslzoo.load("simsiam + snapshot every=10").target.every == 10


def test_a_key_of_all_views_and_one_of_a_single_view() -> None:
    recipe = sslzoo.load("byol hue=0.3 views.second.solarize=0.5")
    assert (recipe.views.first.hue, recipe.views.second.hue) == (0.3, 0.3)
    assert (recipe.views.first.solarize, recipe.views.second.solarize) == (0.0, 0.5)


def test_inherited_knobs_go_with_their_switch_and_new_ones_take_the_default() -> None:
    recipe = sslzoo.load("simclr - negatives + predictor + stop_gradient")
    assert "loss.temperature" in recipe.dropped
    assert "loss.temperature" not in recipe.origins
    assert recipe.origins["heads.predictor_hidden"] == "default"


def test_like_takes_all_tables_of_another_method() -> None:
    like, simsiam = sslzoo.load("byol - momentum like=simsiam"), sslzoo.load("simsiam")
    assert like.values() == simsiam.values()
    assert like.switches == simsiam.switches
    assert sslzoo.load("byol tau=0 tau_end=0 like=simsiam").heads == simsiam.heads


def test_load_takes_a_scale_and_knobs() -> None:
    assert sslzoo.load("swav", "large").views.local_crops == 6
    assert sslzoo.load("simsiam", dim=64).heads.dim == 64
    with pytest.raises(ValueError, match="small or large"):
        sslzoo.load("simsiam", "medium")


@pytest.mark.parametrize(
    ("expression", "guards"),
    [
        ("simsiam", ["predictor with stop-gradient"]),
        ("simsiam - stop_gradient", []),
        ("simsiam - predictor", []),
        ("byol - predictor", []),
        ("simclr", ["negatives"]),
        ("swav", ["balanced codes (sinkhorn) with stop-gradient"]),
        ("swav clustering=softmax", []),
        ("dino", ["centred codes with stop-gradient"]),
        ("deepcluster_v2", ["codes of k-means with stop-gradient"]),
        ("ressl", ["relations to a queue with stop-gradient"]),
        ("nnclr", ["negatives", "predictor with stop-gradient"]),
        ("simsiam - predictor + average", ["a target averaged over epochs"]),
        ("simsiam - predictor + neighbour", []),
        ("w_mse", ["whitening"]),
        ("w_mse normalize=standardize", []),
        ("vicreg", ["variance regularizer"]),
        ("lejepa", ["gaussian regularizer"]),
        ("barlow_twins", ["decorrelation of standardized channels"]),
        ("barlow_twins normalize=l2", []),
    ],
)
def test_collapse_guards(expression: str, guards: list[str]) -> None:
    assert rules.collapse_guards(sslzoo.load(expression).switches) == guards


def test_diff() -> None:
    a, b = sslzoo.load("byol").switches, sslzoo.load("simsiam").switches
    assert algebra.diff(a, b) == {"target": ("momentum", "shared")}
    assert algebra.diff(a, a) == {}
    assert list(switch_values(a)) == list(SWITCHES)
