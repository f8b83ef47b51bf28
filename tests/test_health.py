"""The two health numbers on embeddings made for the purpose, the blind spot of each included."""

import math

import pytest
import torch

from sslzoo.health import health, rank, std


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
    assert health([a, b]) == (std(torch.cat([a[:64], b[:64]])), rank(torch.cat([a[:64], b[:64]])))
    assert health([a]) == (std(a[:128]), rank(a[:128]))
    assert health([a[:10], b[:10]]) == (std(torch.cat([a[:10], b[:10]])), rank(torch.cat([a[:10], b[:10]])))


def test_what_is_not_finite_is_told_and_does_not_crash() -> None:
    z = sphere(20, 8)
    z[3, 3] = math.nan
    assert all(math.isnan(value) for value in health([z, z]))
