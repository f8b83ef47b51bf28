"""Short runs: what is fitted to the number of steps, computed by hand here, and what is left alone."""

import pytest

from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.recipes.recipe import Recipe


def recipe(words: str, epochs: int, samples: int = 640, data: str = "photos", device: str = "cpu") -> Recipe:
    """Ten steps an epoch."""
    return resolve_here(parse(words), Circumstances(data, 32, samples, device), {"training.epochs": epochs})


@pytest.mark.parametrize(
    ("words", "epochs", "tau", "tau_end"),
    [
        ("byol", 20, 0.5, 0.85),  # 200 steps: 1 - 100 / 200, 1 - 30 / 200
        ("byol", 5, 0.0, 0.4),  # 50: no less than 0
        ("byol", 500, 0.98, 0.99),  # 5,000; its own end is 0.99
        ("byol", 2000, 0.99, 0.99),  # 20,000: its own
        ("byol tau=0.9", 20, 0.9, 0.85),  # who writes one has the word
        ("byol - predictor", 20, 0.95, 0.985),  # 1 - 10 / 200, 1 - 3 / 200
        ("dino", 50, 0.98, 0.99),
        ("moco_v2", 20, 0.95, 0.985),
        ("moco_v2", 500, 0.99, 0.99),
    ],
)
def test_a_target_remembers_a_hundredth_of_the_run_and_a_tenth_where_nothing_predicts_it(
    words: str, epochs: int, tau: float, tau_end: float
) -> None:
    found = recipe(words, epochs)
    assert (found.target.tau, found.target.tau_end) == (tau, tau_end)
    if tau not in (0.9, 0.99):
        assert found.origins["target.tau"] == f"{10 * epochs:,} steps"


@pytest.mark.parametrize(
    ("words", "epochs", "rate"),
    [
        ("byol", 20, 10), ("simsiam", 999, 10), ("simsiam", 1000, 1), ("byol predictor_lr_scale=2", 20, 2),
        ("simsiam - predictor", 20, 1), ("simclr", 20, 1), ("simclr + predictor", 20, 10),
    ],
)  # fmt: skip
def test_a_predictor_learns_ten_times_as_fast_in_fewer_than_ten_thousand_steps(
    words: str, epochs: int, rate: float
) -> None:
    assert recipe(words, epochs).optimizer.predictor_lr_scale == rate


@pytest.mark.parametrize(("data", "device"), [("digits", "cpu"), ("photos", "cuda")])
def test_named_sets_with_a_plan_and_gpus_keep_the_published_values(data: str, device: str) -> None:
    """A GPU has the recipe's own optimiser, which the rule was not tried with."""
    short, long = (recipe("byol", epochs, data=data, device=device) for epochs in (2, 2000))
    assert short.target == long.target
    assert short.optimizer.predictor_lr_scale == long.optimizer.predictor_lr_scale == 1


def test_a_recipe_that_was_fitted_reads_back_as_it_is(tmp_path) -> None:
    from sslzoo.recipes.recipe import dump

    first = recipe("byol", 20)
    (tmp_path / "again.toml").write_text(dump(first))
    again = resolve_here(parse(str(tmp_path / "again.toml")), Circumstances("photos", 32, 10**6, "cpu"))
    assert again.knobs() == first.knobs()
