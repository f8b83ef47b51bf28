"""benchmarks/cost.py and ranks.py: the model's collectives are those that are counted; its times are arithmetic."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import cost  # noqa: E402
import ranks  # noqa: E402

DIFFERENT = [
    "nnclr", "barlow_twins", "vicreg", "lejepa", "w_mse", "w_mse w_iter=3", "instdisc bank_sample=10", "deepcluster_v2",
    "dino", "swav sinkhorn_queue=true queue_epoch=0 queue_length=21", "ressl",
    "simclr + momentum + queue + stop_gradient", "swav - stop_gradient", "simclr local_crops=2 local_size=16",
    "moco_v2 pairs=2", "dino local_crops=2 local_size=16 together=true",
]  # fmt: skip


def test_the_models_calls_and_bytes_are_the_counted_ones():
    """Operation, bytes and number, every one of them, DDP's own among them; and of a look at health."""
    found = ranks.spread(2, "count", DIFFERENT, 32)
    assert [*found] == DIFFERENT
    for expression, seen in found.items():
        assert seen["counted"] == seen["model"], expression
        assert [call for call in seen["look_model"] if call not in seen["look"]] == [], expression


def test_the_committed_counts_are_of_shipped_methods():
    found = json.loads((ROOT / "benchmarks/results/ranks.json").read_text())
    assert found["counted"]["wrong"] == []
    for n in ("2", "4"):
        counted = {*found["counted"]["processes"][n]}  # a method that came since is counted when ranks.py runs again
        assert len(counted) >= 21
        assert counted <= {*ranks.method_names()}
    page = (ROOT / "benchmarks/results/ranks.md").read_text()
    assert ranks.page(found) == page
    assert "Nothing here was measured" in page


def test_times_of_rings():
    link = cost.Link(1e-3, 1e6)
    assert cost.seconds(cost.Call("all_gather", "x", 4000, 2), 4, link) == pytest.approx(2 * (3e-3 + 3e-3))
    assert cost.seconds(cost.Call("all_reduce", "x", 4000), 4, link) == pytest.approx(2 * (3e-3 + 3e-3))
    assert cost.seconds(cost.Call("broadcast", "x", 4000), 4, link) == pytest.approx(2e-3 + 4e-3)
    assert cost.seconds(cost.Call("all_gather", "x", 0), 1024, link, tree=True) == pytest.approx(10e-3)
    assert cost.seconds(cost.Call("all_reduce", "x", 4000), 1, link) == 0
    recipe, net = ranks.recipe_and_net("simclr", True, 64)
    assert cost.calls(recipe, net, 64, 1) == []


def test_fits_and_buckets():
    assert cost.line([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2))
    assert cost.line([1, 2, 4], [0.5, 2.5, 6.5])[0] == 0
    assert cost.buckets([200_000, 100_000, 10_000_000, 1]) == [1_200_000, 40_000_000, 4]


def test_a_link_over_nodes_is_as_slow_as_its_slowest_part():
    cluster = cost.Cluster(gpus=4, inside=cost.Link(1, 8), between=cost.Link(5, 2))
    assert cluster.link(4) == cost.Link(1, 8)
    assert cluster.link(8) == cost.Link(2, 2)
