"""Values of shipped recipes that their sources state, and what digits and CPUs, with an optimiser of theirs, hold."""

import pytest

import sslzoo
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here

CPUS = {"small": Circumstances("photos", 32, 3000, "cpu"), "large": Circumstances("photos", 96, 3000, "cpu")}

SOURCES = [  # method, scale, knob, the source's value, what digits and CPUs hold; None where they do not read it
    ("swav", "large", "optimizer.trust_clip", False, None),  # main_swav.py:177, clip=False
    ("deepcluster_v2", "large", "optimizer.trust_clip", False, None),  # main_deepclusterv2.py:169, clip=False
    ("lejepa", "small", "optimizer.weight_decay", 5e-4, 5e-4),  # README:71-73, ResNets
    ("lejepa", "small", "optimizer.decay_all", True, False),
    ("lejepa", "small", "optimizer.lr_end", 0.5, 0),  # MINIMAL.md:160
    ("lejepa", "small", "views.first.blur", 0.5, 0),
    ("lejepa", "large", "optimizer.weight_decay", 5e-4, 5e-4),
    ("lejepa", "large", "optimizer.decay_all", True, False),
    ("lejepa", "large", "optimizer.warmup_epochs", 1, 0),  # lightly vitb16/lejepa.py:103
    ("lejepa", "large", "optimizer.lr_end", 0.001, 0),
    ("lejepa", "large", "views.second.solarize", 0.2, 0),
    ("w_mse", "large", "optimizer.lr", 0.001, 0.48),  # README:72, as the next
    ("w_mse", "large", "views.first.scale_min", 0.08, 0.2),
    ("w_mse", "large", "views.first.contrast", 0.8, 0.4),
    ("w_mse", "large", "views.second.hue", 0.2, 0.1),
    ("w_mse", "large", "views.first.grayscale", 0.2, 0.1),
    ("w_mse", "large", "views.second.blur", 0.5, 0),
    ("deepcluster_v2", "large", "training.epochs", 800, 20),  # 2 x 224 + 6 x 96 px; on CPUs 60,000 passes
    ("dino", "small", "views.second.scale_min", 0.4, 0.2),  # dino_transform.py:99
    ("dino", "large", "optimizer.decay_all", False, True),
    ("dino", "large", "optimizer.clip_grad", 3.0, 0),
    ("swav", "small", "views.first.contrast", 0.4, 0.4),  # cj_strength 0.5, cifar10_benchmark.py:194
    ("swav", "small", "views.second.hue", 0.1, 0.1),
    ("instdisc", "small", "optimizer.lr", 0.06, 0.48),  # 0.03 at 128, cifar.py:30
    ("instdisc", "small", "views.first.flip", 0, 0.5),
    ("nnsiam", "small", "heads.layers", 3, 2),  # nnsiam.py:60
    ("nnsiam", "small", "heads.output_affine", False, True),
    ("ressl", "large", "target.tau", 0.999, 0.99),  # network/ressl.py:12, 104
    ("ressl", "large", "target.tau_end", 0.999, 0.99),
    ("ressl", "large", "optimizer.decay_all", False, True),
    ("moco_v3", "small", "heads.output_affine", False, True),  # builder.py:50
    ("moco_v3", "large", "heads.output_affine", False, True),
    ("nnclr", "small", "memory.queue_length", 2 * 65536, 1024),  # nnclr.py:207 pushes one view's keys, and we both's
    ("nnclr", "large", "memory.queue_length", 2 * 98304, 1024),
    ("nnsiam", "small", "memory.queue_length", 2 * 65536, 1024),
    ("nnbyol", "small", "memory.queue_length", 2 * 65536, 1024),
]


@pytest.mark.parametrize(("method", "scale", "knob", "value", "held"), SOURCES)
def test_a_recipe_has_what_its_source_states(method, scale, knob, value, held):
    assert sslzoo.load(method, scale).values()[knob] == value
    long = (
        {} if knob == "training.epochs" else {"training.epochs": 300}
    )  # 13,800 steps, which change nothing themselves
    tuned = resolve_here(parse(method), CPUS[scale], long)
    assert tuned.knobs().get(knob) == held
    if scale == "small" and not knob.startswith("views."):  # whose ranges digits have of their own
        held = 0.24 if knob == "optimizer.lr" else held
        assert resolve_here(parse(method), Circumstances("digits", 32, 3000, "cuda")).knobs().get(knob) == held
