"""The health numbers on embeddings made for the purpose, blind spots included, and the advice that they give."""

import math

import pytest
import torch

from sslzoo.metrics.health import advice, alignment, code_entropy, health, rank, std, uniformity


def sphere(rows: int, dim: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def test_spread_out() -> None:
    z = sphere(2000, 64)
    assert std(z) == pytest.approx(1, abs=0.02)
    assert rank(z) > 60


def test_collapsed_to_a_point() -> None:
    z = torch.ones(128, 64)
    assert std(z) == pytest.approx(0, abs=1e-5)
    assert rank(z) == pytest.approx(1, abs=1e-2)


def test_plus_and_minus_one_vector_is_seen_by_the_rank_alone() -> None:
    signs = torch.where(torch.arange(128) % 2 == 0, 1.0, -1.0)
    z = signs[:, None] * torch.ones(64)
    assert std(z) == pytest.approx(1, abs=0.01)
    assert rank(z) == pytest.approx(1, abs=1e-2)


def test_a_subspace_has_its_dimension_as_rank() -> None:
    z = torch.zeros(512, 64)
    z[:, :5] = torch.eye(5).repeat(103, 1)[:512]
    assert rank(z) == pytest.approx(5, abs=0.05)


def test_scale_of_the_rows_does_not_matter() -> None:
    z = sphere(128, 32)
    scaled = z * torch.rand(128, 1, generator=torch.Generator().manual_seed(1)) * 100
    assert std(z) == pytest.approx(std(scaled), rel=1e-4)
    assert rank(z) == pytest.approx(rank(scaled), rel=1e-4)


def test_128_rows_of_both_views() -> None:
    a, b = sphere(300, 16), -sphere(300, 16)

    def both(projections: list[torch.Tensor]) -> tuple[float, float]:
        found = health(projections)
        return found["std"], found["rank"]

    assert both([a, b]) == (std(torch.cat([a[:64], b[:64]])), rank(torch.cat([a[:64], b[:64]])))
    assert both([a]) == (std(a[:128]), rank(a[:128]))
    assert both([a[:10], b[:10]]) == (std(torch.cat([a[:10], b[:10]])), rank(torch.cat([a[:10], b[:10]])))
    assert health([a, b])["alignment"] == pytest.approx(4)  # opposite points


def test_what_is_not_finite_is_told_and_does_not_crash() -> None:
    z = sphere(20, 8)
    z[3, 3] = math.nan
    assert all(math.isnan(value) for value in health([z, z]).values())
    assert list(advice(health([z, z]), 8)) == ["std"]


def test_alignment_and_uniformity() -> None:
    """A point: (0, 0). Two poles: half of the pairs are at distance 2. The whole sphere: near -4 in many dimensions."""
    point, poles = torch.ones(64, 8), torch.cat([torch.ones(64, 8), -torch.ones(64, 8)])
    assert (alignment(point, point), uniformity(point)) == pytest.approx((0, 0), abs=1e-6)
    expected = math.log((64 * 64 * math.exp(-8) + 64 * 63) / (64 * 127))
    assert uniformity(poles) == pytest.approx(expected, abs=1e-5)
    assert uniformity(sphere(500, 512)) == pytest.approx(-4, abs=0.05)
    a = torch.eye(4)
    assert alignment(a, a.roll(1, 0)) == pytest.approx(2)


def test_entropy_of_codes() -> None:
    uniform, one_hot, same = torch.full((1, 8, 8), 1 / 8), torch.eye(8)[None], torch.eye(8)[:1].repeat(8, 1)[None]
    assert code_entropy(uniform) == pytest.approx((1, 1))
    assert code_entropy(one_hot) == pytest.approx((0, 1))
    assert code_entropy(same) == pytest.approx((0, 0), abs=1e-6)
    assert code_entropy(torch.eye(64)[None, :8]) == pytest.approx((0, 1 / 2))  # 8 of 64: ln 8 over ln 64
    assert code_entropy(torch.full((1, 8, 64), 1 / 64)) == pytest.approx((1, 1))  # few soft codes are no more than all
    half = torch.cat([torch.full((1, 4, 8), 1 / 8), torch.zeros(1, 4, 56)], dim=-1)
    assert code_entropy(half) == pytest.approx((1 / 2, 1 / 2))
    two = torch.cat([torch.eye(64)[:1].repeat(4, 1), torch.eye(64)[1:2].repeat(4, 1)])[None]
    assert code_entropy(two)[1] == pytest.approx(1 / 6)  # ln 2 over ln 64: few prototypes take all


SIGNS = torch.where(torch.arange(128) % 2 == 0, 1.0, -1.0)[:, None] * torch.ones(64)


@pytest.mark.parametrize(
    ("z", "codes", "trips"),
    [
        (sphere(256, 64), None, []),
        (sphere(256, 64), torch.eye(16).repeat(8, 1)[None], []),
        (torch.ones(256, 64), None, ["std"]),
        (SIGNS, None, ["rank"]),  # what std is blind to
        (torch.eye(64)[torch.arange(128) % 4], None, ["rank"]),
        (sphere(256, 64), torch.full((1, 128, 16), 1 / 16), ["code_entropy"]),
        (sphere(256, 64), torch.eye(16)[:1].repeat(128, 1)[None], ["code_usage"]),
        (sphere(256, 64), torch.eye(512)[torch.arange(8) % 6][None], ["code_usage"]),  # few rows excuse nothing
        (torch.ones(256, 64), torch.eye(16)[:1].repeat(128, 1)[None], ["std", "code_usage"]),
    ],
)
def test_advice(z: torch.Tensor, codes: torch.Tensor | None, trips: list[str]) -> None:
    found = advice(health([z[::2], z[1::2]], codes), z.shape[1])
    assert list(found) == trips
    assert all(sentence.endswith(".") and ";" in sentence for sentence in found.values())


def test_few_dimensions_are_no_collapse() -> None:
    """Projections of eight dimensions have a rank of at most eight."""
    assert advice(health([sphere(64, 8), sphere(64, 8)]), 8) == {}
