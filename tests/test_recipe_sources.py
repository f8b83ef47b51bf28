"""Values of shipped recipes that their sources state, and what digits and CPUs, which bring an optimiser, hold instead."""

import pytest

import sslzoo
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here

CPUS = {"small": Circumstances("photos", 32, 3000, "cpu"), "large": Circumstances("photos", 96, 3000, "cpu")}

SOURCES = [  # method, scale, knob, the source's value, what digits and CPUs hold; None where they do not read it
    ("swav", "large", "optimizer.trust_clip", False, None),  # main_swav.py:177, clip=False
    ("deepcluster_v2", "large", "optimizer.trust_clip", False, None),  # main_deepclusterv2.py:169, clip=False
]


@pytest.mark.parametrize(("method", "scale", "knob", "value", "held"), SOURCES)
def test_a_recipe_has_what_its_source_states(method, scale, knob, value, held):
    assert sslzoo.load(method, scale).values()[knob] == value
    tuned = resolve_here(parse(method), CPUS[scale])
    assert tuned.knobs().get(knob) == held
    if scale == "small" and not knob.startswith("views."):  # whose ranges digits have of their own
        assert resolve_here(parse(method), Circumstances("digits", 32, 3000, "cuda")).knobs().get(knob) == held
