"""The slow references themselves: values by hand and in closed form."""

from math import cos, erf, exp, log, pi, radians, sin, sqrt

import pytest
import reference as paper
import torch

E1, E2 = (1.0, 0.0), (0.0, 1.0)


def rows(*values):
    """Rows in float64, with a gradient."""
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def noise(*shape, seed=0):
    """Seeded noise in float64, with a gradient."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def at(*degrees):
    """Unit vectors of the plane at these angles."""
    return rows(*((cos(radians(d)), sin(radians(d))) for d in degrees))


def softplus(a):
    """-log of the smaller probability's rival: log(1 + exp(a))."""
    return log(1 + exp(a))


def near(found, expected, tolerance=1e-12):
    found, expected = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_instdisc() -> None:
    bank = rows((1, 0, 0), (0, 1, 0))
    near(paper.instdisc(rows((0, 0, 7), (0, 0, 1)), bank, [0, 1], 0.1), log(2))  # as far from all
    near(paper.instdisc(rows((0, 3, 0)), bank, [1], 0.5), softplus(-2))  # its own row is in the denominator
    near(paper.instdisc(rows((0, 3, 0), (0, 3, 0)), bank, [1, 0], 0.5), (softplus(-2) + softplus(2)) / 2)


def test_dino() -> None:
    views, eye = [rows((2, 0)), rows((0, 3))], rows((5, 0), (0, 1))
    zero, skewed = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)

    def h(gap):  # between a teacher whose second score is this much higher and a student at the first prototype
        p = 1 / (1 + exp(-gap / 0.25))
        return p * softplus(1 / 0.5) + (1 - p) * softplus(-1 / 0.5)

    near(paper.dino(views, views, eye, eye, zero, 0.5, 0.25), h(1))  # (e1, e2) and (e2, e1): never a view with itself
    # the centre takes e1's lead and doubles e2's; the third crop, e2, agrees with the second teacher view
    near(paper.dino(views, views, eye, eye, skewed, 0.5, 0.25), (h(0) + h(2)) / 2)
    near(paper.dino([*views, rows(E2)], views, eye, eye, zero, 0.5, 0.25), (3 * h(1) + h(-1)) / 4)
    third = paper.dino([*views, rows(E2)], views, eye, eye, skewed, 0.5, 0.25)
    near(third, (h(0) + h(2) + h(0) + h(-2)) / 4)
    moved = paper.dino([*views, rows(E2)], views, eye, eye.flip(0), zero, 0.5, 0.25)  # a teacher that swaps e1 and e2
    near(moved, (3 * h(-1) + h(1)) / 4)
    assert paper.dino_centre(skewed, rows((0, 2), (4, 2)), 0.9).tolist() == pytest.approx([0.9 + 0.2, 0.2])


def test_barlow_twins() -> None:
    a, b = (1, 1, -1, -1), (1, -1, 1, -1)
    one = 1 / (1 + 1e-5)  # a correlation of 1, less for the epsilon
    z, swapped = rows(*zip(a, b, strict=True)), rows(*zip(b, a, strict=True))
    near(paper.barlow_twins(z, z + 3, 0.1), 2 * (1 - one) ** 2)
    near(paper.barlow_twins(z, -z, 0.1), 2 * (1 + one) ** 2)
    near(paper.barlow_twins(z, swapped, 0.1), 2 + 2 * 0.1 * one**2)


def test_vicreg() -> None:
    flat, line = rows((0, 0), (0, 0)), rows((0, 0), (2, 2))  # line: variances 2, covariance 2
    near(paper.vicreg(flat, flat), 25 * (1 - 0.01))
    near(paper.vicreg(line, line + 1), 25 + 2 * (2 * 2**2 / 2))
    near(paper.vicreg(flat, line), 25 * 2 + 25 * (1 - 0.01) / 2 + 2 * 2**2 / 2)
    near(paper.vicreg(line, line + 1, 3, 5, 7), 3 + 7 * 8)


def test_whitening() -> None:
    z = noise(7, 3)
    white = torch.stack(paper.whitened(z, 0))
    torch.testing.assert_close(torch.cov(white.T), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(torch.stack(paper.whitened(z, 1)), z - z.mean(0))  # nothing left of the covariance
    torch.testing.assert_close(white, (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T)


def test_w_mse() -> None:
    z = noise(8, 2)
    lower = torch.tensor([[2, 0], [-3, 0.5]], dtype=torch.float64)
    near(paper.w_mse(z, z @ lower.T + 5, 8, 0), 0)  # Cholesky whitening undoes what it could have done
    near(paper.w_mse(z, -z, 4, 0), 4)
    moved = torch.cat([z[:4], z[4:] + 9])
    near(paper.w_mse(z, moved, 4, 0.1), 0)  # by sub-batch
    assert paper.w_mse(z, moved, 8, 0.1) > 0.1
    turned = torch.cat([z[:4], -z[4:]])
    near(paper.w_mse(z, turned, 4, 0), 2)  # the mean over all images


def test_nnclr() -> None:
    queue, right, wrong = rows(E1, E2), softplus(-2), softplus(2)
    z1, z2, p = rows((3, 1), (1, 3)), rows((1, 3), (3, 1)), rows((2, 0), (0, 5))
    near(paper.nnclr(p, p, z1, z1, queue, 0.5), right)
    near(paper.nnclr(p, p, z1, z2, queue, 0.5), (right + wrong) / 2)
    p2 = rows((1, 0), (1, 0))  # p1's neighbours are z2's
    near(paper.nnclr(p, p2, z1, z2, queue, 0.5), (log(2) + wrong) / 2)
    same = rows((9, 1), (2, 1))  # one neighbour of both: softmax over predictions, not over neighbours
    near(paper.nnclr(p, p, same, same, queue, 0.5), (right + wrong) / 2)


def test_ressl() -> None:
    queue = rows((1, 0, 0), (0, 1, 0))
    near(paper.ressl(rows((0, 0, 4)), rows((1, 2, 3)), queue, 0.1, 0.04), log(2))
    p = 1 / (1 + exp(-1 / 0.25))
    far, close = p * softplus(2) + (1 - p) * softplus(-2), p * softplus(-2) + (1 - p) * softplus(2)
    q, k = rows((3, 0, 0), (3, 0, 0), (0, 1, 0)), rows((0, 2, 0), (2, 0, 0), (0, 2, 0))
    near(paper.ressl(q, k, queue, 0.5, 0.25), (far + 2 * close) / 3)


def test_dcl() -> None:
    flat, eye = rows(E1, E1, E1), rows((2, 0), (0, 3))
    near(paper.dcl(flat, 2 * flat, 0.1), log(4))  # 2N - 2 negatives, as near as the positive
    near(paper.dcl(eye, eye, 0.5), log(2) - 2)
    z1, z2 = noise(3, 4), noise(3, 4, seed=1)
    assert paper.dcl(z1, z2, 0.5) < paper.simclr(z1, z2, 0.5)  # a smaller denominator


def test_sigreg() -> None:
    eye, zero = torch.eye(2, dtype=torch.float64), rows((0, 0))
    integral = sqrt(2 * pi) * erf(3 / sqrt(2)) - 2 * sqrt(pi) * erf(3) + sqrt(2 * pi / 3) * erf(3 * sqrt(1.5))
    near(paper.sigreg(zero, eye), integral, 1e-3)  # (1 - exp(-t^2 / 2))^2 exp(-t^2 / 2) over [-3, 3]
    near(paper.sigreg(rows(*[(0, 0)] * 5), eye), 5 * paper.sigreg(zero, eye))
    normal = torch.distributions.Normal(0, 1).icdf((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    near(paper.sigreg(normal[:, None], eye[:1, :1]), 0, 1e-2)
    assert paper.sigreg(normal[:, None] + 1, eye[:1, :1]) > 10  # only the sines see a sign, both see the mean
    half = torch.stack([normal, torch.zeros_like(normal)], 1)[::20]
    near(paper.sigreg(half, eye), (paper.sigreg(half, eye[:, :1]) + paper.sigreg(half, eye[:, 1:])) / 2)


def test_lejepa() -> None:
    a, b, eye = rows((1, 5)), rows((3, 5)), torch.eye(2, dtype=torch.float64)
    near(paper.lejepa([a, b], eye, 0), 0.5)
    regulariser = (paper.sigreg(a, eye) + paper.sigreg(b, eye)) / 2
    near(paper.lejepa([a, b], eye, 1), regulariser)
    near(paper.lejepa([a, b], eye, 0.2), 0.8 * 0.5 + 0.2 * regulariser)


def test_hybrids() -> None:
    queue, p = rows(E1, E2), rows((4, 0))
    near(paper.nnbyol(p, p, rows((1, 3)), rows((3, 1)), queue), 2)  # q1 finds e1 behind z2, q2 finds e2 behind z1
    near(paper.nnbyol(p, p, rows((3, 1)), rows((3, 1)), queue), 0)
    near(paper.nnbyol(p, -p, rows((1, 3)), rows((3, 1)), queue), 2)
    near(paper.simsiam_average(p, rows((0, 4)), rows(E1), 1), -1)
    near(paper.simsiam_average(p, rows((0, 4)), rows(E1), 0.5), -sqrt(0.5))
    near(paper.simsiam_average(p, rows((0, 4)), rows(E1), 0.8), -0.8 / sqrt(0.8**2 + 0.2**2))


def test_spherical_kmeans() -> None:
    z = at(0, 45, 60, 62) * torch.tensor([[1], [9], [2], [5]])  # lengths do not count
    centroids, assignment = paper.spherical_kmeans(z, at(0, 100, 250), 1)
    torch.testing.assert_close(centroids, at(22.5, 61, 250))  # the empty one stays
    assert assignment == [0, 1, 1, 1]  # 45 is now nearer to 61
    centroids, assignment = paper.spherical_kmeans(z, at(0, 100, 250), 2)
    torch.testing.assert_close(centroids, torch.stack([*at(0), paper.unit(at(45, 60, 62).sum(0)), *at(250)]))


def test_deepcluster_v2() -> None:
    heads, right, wrong = [rows(E1, E2), rows(E2, E1)], softplus(-2), softplus(2)
    crops = [rows((3, 0), (0, 2)), rows((3, 0), (0, 2)), rows((0, 1), (0, 2))]
    near(paper.deepcluster_v2(crops, [[0, 1], [1, 0]], heads, 0.5), (5 * right + wrong) / 6)
    near(paper.deepcluster_v2(crops, [[0, 1], [0, 0]], heads, 0.5), (9 * right + 3 * wrong) / 12)


def bank():
    return torch.nn.functional.normalize(noise(5, 3, seed=9).detach(), dim=1).requires_grad_()


@pytest.mark.parametrize(
    ("loss", "learnt"),
    [
        (lambda a, b, c, d: paper.instdisc(a, b, [2, 0, 1, 1], 0.3), "a"),
        (lambda a, b, c, d: paper.dino([a, a + 1, a * a], [b, b + 1], c, d, b[0, :1], 0.3, 0.2), "ac"),
        (lambda a, b, c, d: paper.barlow_twins(a, b, 0.1), "ab"),
        (lambda a, b, c, d: paper.vicreg(a, b), "ab"),
        (lambda a, b, c, d: paper.w_mse(a, b, 4, 0.1), "ab"),
        (lambda a, b, c, d: paper.nnclr(a, b, c, c, d, 0.3), "ab"),
        (lambda a, b, c, d: paper.ressl(a, b, d, 0.3, 0.2), "a"),
        (lambda a, b, c, d: paper.dcl(a, b, 0.3), "ab"),
        (lambda a, b, c, d: paper.lejepa([a, b], c.T.detach(), 0.1), "ab"),
        (lambda a, b, c, d: paper.nnbyol(a, b, c, c, d), "ab"),
        (lambda a, b, c, d: paper.simsiam_average(a, b, c, 0.8), "a"),
        (lambda a, b, c, d: paper.deepcluster_v2([a, b], [[1, 0, 2, 1]], [d], 0.3), "ab"),
    ],
)
def test_gradients_stop_where_the_papers_stop_them(loss, learnt) -> None:
    arguments = dict(zip("abcd", (noise(4, 3, seed=seed) for seed in range(4)), strict=True))
    found = torch.autograd.grad(loss(*arguments.values()), [*arguments.values()], materialize_grads=True)
    assert "".join(name for name, g in zip(arguments, found, strict=True) if g.abs().max() > 1e-6) == learnt
