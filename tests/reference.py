"""The papers' losses, slowly: one sample after the other, from the equations; gradients stop where the papers' do.

Arguments are tensors of rows as the networks give them, before any normalisation; p and q are predictions, z and k are
projections. Each function returns the paper's loss, summed and scaled as the paper does.
"""

from torch import stack


def length(a):
    """|a|."""
    return (a * a).sum().sqrt()


def sim(a, b):
    """a.b / (|a| |b|)."""
    return a.dot(b) / (length(a) * length(b))


def softmax(a):
    """exp(a_c) / sum_c exp(a_c)."""
    return a.exp() / a.exp().sum()


def info_nce(positive, all_logits):
    """-log of exp(positive) over the sum of exp(logits), the positive among them."""
    return -(positive.exp() / sum(logit.exp() for logit in all_logits)).log()


# ---- SimSiam (Chen & He 2021) ----------------------------------------------------------------------------------------


def negative_cosine(p, z):
    """Eq. 1: D(p, z)."""
    return -sim(p, z)


def cross_entropy(p, z):
    """Section 4.5: -softmax(z) . log softmax(p)."""
    return -softmax(z).dot(softmax(p).log())


def simsiam(p1, p2, z1, z2, distance=negative_cosine):
    """Eq. 2 with the stop-gradient (eq. 4): 1/2 D(p1, stopgrad(z2)) + 1/2 D(p2, stopgrad(z1)), averaged over images."""
    images = range(len(p1))
    return sum(distance(p1[i], z2[i].detach()) / 2 + distance(p2[i], z1[i].detach()) / 2 for i in images) / len(p1)


# ---- BYOL (Grill et al. 2020) ----------------------------------------------------------------------------------------


def byol(q1, q2, z1, z2):
    """Eq. 2 and its mirror image: |q/|q| - z'/|z'||^2, the targets z' without gradient; the sum of both."""
    total = 0
    for q, target in ((q1, z2), (q2, z1)):
        for i in range(len(q)):
            difference = q[i] / length(q[i]) - (target[i] / length(target[i])).detach()
            total = total + difference.dot(difference) / len(q)
    return total


# ---- SimCLR (Chen et al. 2020) ---------------------------------------------------------------------------------------


def simclr(z1, z2, temperature):
    """Algorithm 1: rows 2k - 1 and 2k are one image; l(i, j) leaves only k = i out; the mean over 2N rows."""
    z = [row for pair in zip(z1, z2, strict=True) for row in pair]

    def ell(i, j):
        others = [sim(z[i], z[k]) / temperature for k in range(len(z)) if k != i]
        return info_nce(sim(z[i], z[j]) / temperature, others)

    return sum(ell(i, i + 1) + ell(i + 1, i) for i in range(0, len(z), 2)) / len(z)


# ---- MoCo (He et al. 2020, Chen et al. 2021) -------------------------------------------------------------------------


def moco_v2(q, k, queue, temperature):
    """Eq. 1 and algorithm 1: one positive key and the queue's rows, which are unit vectors; keys without gradient."""
    total = 0
    for i in range(len(q)):
        positive = sim(q[i], k[i].detach()) / temperature
        negatives = [q[i].dot(row) / length(q[i]) / temperature for row in queue]
        total = total + info_nce(positive, [positive, *negatives])
    return total / len(q)


def moco_v3(q1, q2, k1, k2, temperature):
    """Algorithm 1: ctr(q1, k2) + ctr(q2, k1), each times 2 temperature; keys without gradient."""
    total = 0
    for q, k in ((q1, k2), (q2, k1)):
        for i in range(len(q)):
            logits = [sim(q[i], key.detach()) / temperature for key in k]
            total = total + 2 * temperature * info_nce(logits[i], logits) / len(q)
    return total


# ---- SwAV (Caron et al. 2020) ----------------------------------------------------------------------------------------


def official_sinkhorn(scores, epsilon, iterations):
    """The official code's ``distributed_sinkhorn``: Q is [K, N]; rows sum to 1/K, then columns to 1/N; [N, K] again."""
    q = (scores / epsilon).exp().T
    prototypes, samples = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        q = stack([row / row.sum() / prototypes for row in q])
        q = stack([column / column.sum() / samples for column in q.T]).T
    return (q * samples).T


def swav(crops, prototypes, temperature, epsilon, iterations, stop_gradient=True):
    """Eq. 1-2 and 6: every other crop predicts the code of each of the first two; the mean over pairs and images.

    Codes have no gradient; ``stop_gradient=False`` lets it through.
    """
    total, pairs = 0, 0
    for s in (0, 1):
        scores = stack([stack([sim(z, c) for c in prototypes]) for z in crops[s]])
        codes = official_sinkhorn(scores.detach() if stop_gradient else scores, epsilon, iterations)
        for t in range(len(crops)):
            if t != s:
                pairs += 1
                for z, code in zip(crops[t], codes, strict=True):
                    p = softmax(stack([sim(z, c) for c in prototypes]) / temperature)
                    total = total - code.dot(p.log()) / len(codes)
    return total / pairs
