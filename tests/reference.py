"""The papers' losses, slowly: one sample after the other, from the equations; gradients stop where the papers' do.

Arguments are tensors of rows as the networks give them, before any normalisation; p and q are predictions, z and k are
projections. Each function returns the paper's loss, summed and scaled as the paper does.
"""

from math import exp

from torch import stack


def length(a):
    """|a|."""
    return (a * a).sum().sqrt()


def unit(a):
    """a / |a|."""
    return a / length(a)


def sim(a, b):
    """a.b / (|a| |b|)."""
    return a.dot(b) / (length(a) * length(b))


def softmax(a):
    """exp(a_c) / sum_c exp(a_c)."""
    return a.exp() / a.exp().sum()


def info_nce(positive, all_logits):
    """-log of exp(positive) over the sum of exp(logits), the positive among them."""
    return -(positive.exp() / sum(logit.exp() for logit in all_logits)).log()


def covariance(z):
    """1/(N - 1) sum_n (z_n - mean) (z_n - mean)', as a list of its rows."""
    mean = sum(z) / len(z)
    channels = range(len(mean))
    return [
        [sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in z) / (len(z) - 1) for j in channels] for i in channels
    ]


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


# ---- InstDisc (Wu et al. 2018) ---------------------------------------------------------------------------------------


def instdisc(v, bank, index, temperature):
    """Eq. 2 and the negative log-likelihood below it, in full (no NCE, no proximal term), averaged over images.

    Every row of the bank is a class, a unit vector without gradient; ``index[i]`` is the image's own.
    """
    total = 0
    for i in range(len(v)):
        logits = [unit(v[i]).dot(row.detach()) / temperature for row in bank]
        total = total + info_nce(logits[index[i]], logits)
    return total / len(v)


# ---- DINO (Caron et al. 2021) ----------------------------------------------------------------------------------------


def dino(
    student_crops,
    teacher_crops,
    student_prototypes,
    teacher_prototypes,
    centre,
    student_temperature,
    teacher_temperature,
):
    """Eq. 1-3 and algorithm 1: -p_t . log p_s, each teacher view with all other crops; the mean over pairs and images.

    The last layer's rows and its inputs are normalised; the centre is subtracted from the teacher's scores, which have
    no gradient.
    """
    total, pairs = 0, 0
    for t in range(len(teacher_crops)):
        for s in range(len(student_crops)):
            if s != t:
                pairs += 1
                for a, b in zip(teacher_crops[t], student_crops[s], strict=True):
                    teacher_scores = stack([sim(a, c) for c in teacher_prototypes]).detach()
                    student_scores = stack([sim(b, c) for c in student_prototypes])
                    p_t = softmax((teacher_scores - centre) / teacher_temperature)
                    p_s = softmax(student_scores / student_temperature)
                    total = total - p_t.dot(p_s.log()) / len(student_crops[s])
    return total / pairs


def dino_centre(centre, teacher_scores_of_all_views, momentum):
    """Eq. 4: c <- m c + (1 - m) mean of the teacher's scores, all views' rows one below the other; no temperature."""
    mean = sum(row.detach() for row in teacher_scores_of_all_views) / len(teacher_scores_of_all_views)
    return momentum * centre + (1 - momentum) * mean


# ---- Barlow Twins (Zbontar et al. 2021) ------------------------------------------------------------------------------


def standardised(z, epsilon=1e-5):
    """Each channel less its mean over its deviation in the batch, as batch normalisation: variance over N + epsilon."""
    mean = sum(z) / len(z)
    variance = sum((row - mean) ** 2 for row in z) / len(z)
    return [(row - mean) / (variance + epsilon).sqrt() for row in z]


def barlow_twins(z1, z2, lambd):
    """Eq. 1-2, algorithm 1: sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2; gradients through both views."""
    a, b = standardised(z1), standardised(z2)
    channels = range(len(a[0]))
    total = 0
    for i in channels:
        for j in channels:
            c = sum(a[n][i] * b[n][j] for n in range(len(a))) / len(a)
            total = total + ((1 - c) ** 2 if i == j else lambd * c**2)
    return total


# ---- VICReg (Bardes et al. 2022) -------------------------------------------------------------------------------------


def vicreg_variance(z):
    """Eq. 1-2: the mean over channels of max(0, 1 - sqrt(variance + 1e-4)), the variance over N - 1."""
    c = covariance(z)
    return sum((1 - (c[j][j] + 1e-4).sqrt()).relu() for j in range(len(c))) / len(c)


def vicreg_covariance(z):
    """Eq. 3-4: the squared covariances of different channels, summed, over the number of channels."""
    c = covariance(z)
    return sum(c[i][j] ** 2 for i in range(len(c)) for j in range(len(c)) if i != j) / len(c)


def vicreg(z1, z2, invariance=25, variance=25, covariance=1):
    """Eq. 5-6 in the official code's scale: the two views' variance terms are halved, their covariance terms are not.

    Also the code's (and lightly's): the invariance term is a mean over images and channels. Eq. 6, algorithm 1 and
    solo-learn do not halve the variance term; eq. 5 does not divide by the number of channels.
    """
    squares = sum((a - b) ** 2 for a, b in zip(z1, z2, strict=True)).sum()
    return (
        invariance * squares / (len(z1) * len(z1[0]))
        + variance * (vicreg_variance(z1) / 2 + vicreg_variance(z2) / 2)
        + covariance * (vicreg_covariance(z1) + vicreg_covariance(z2))
    )


# ---- W-MSE (Ermolov et al. 2021) -------------------------------------------------------------------------------------


def cholesky(a):
    """The rows of the lower triangle L with L L' = a, each up to its diagonal."""
    lower = []
    for i in range(len(a)):
        row = []
        for j in range(i):
            row.append((a[i][j] - sum(row[k] * lower[j][k] for k in range(j))) / lower[j][j])
        row.append((a[i][i] - sum(entry**2 for entry in row)).sqrt())
        lower.append(row)
    return lower


def forward_substitution(lower, b):
    """x with L x = b, from the top."""
    x = []
    for i in range(len(b)):
        x.append((b[i] - sum(lower[i][k] * x[k] for k in range(i))) / lower[i][i])
    return stack(x)


def whitened(z, epsilon):
    """W (z - mean) with W = L^-1, L L' = (1 - epsilon) covariance + epsilon I, the covariance over N - 1."""
    c, mean = covariance(z), sum(z) / len(z)
    channels = range(len(c))
    lower = cholesky([[(1 - epsilon) * c[i][j] + epsilon * (i == j) for j in channels] for i in channels])
    return [forward_substitution(lower, row - mean) for row in z]


def w_mse(z1, z2, size, epsilon):
    """Section 3, one positive pair: 2 - 2 cos of the whitened views, averaged over images; gradients through both.

    Each ``size`` rows that follow one another are whitened by themselves, and each view by itself.
    """
    total = 0
    for start in range(0, len(z1), size):
        v1, v2 = whitened(z1[start : start + size], epsilon), whitened(z2[start : start + size], epsilon)
        total = total + sum(2 - 2 * sim(a, b) for a, b in zip(v1, v2, strict=True))
    return total / len(z1)


def w_mse_iterated(z1, z2, orders, size, epsilon):
    """Section 3, batch slicing: the covariance of a few rows is noisy, so that a batch is sliced several times.

    Each time all images are put into an order at random, both views of an image together, and sliced; the losses of all
    times are averaged.
    """
    total = 0
    for order in orders:
        rows = [int(place) for place in order]
        total = total + w_mse(stack([z1[i] for i in rows]), stack([z2[i] for i in rows]), size, epsilon)
    return total / len(orders)


# ---- NNCLR (Dwibedi et al. 2021) -------------------------------------------------------------------------------------


def nearest(z, queue):
    """Eq. 4: the queue's row next to z / |z|, of the largest cosine since rows are unit vectors; without gradient."""
    return max(queue, key=lambda row: sim(z, row).item()).detach()


def nnclr(p1, p2, z1, z2, queue, temperature):
    """Eq. 3 and algorithm 1: L(NN(z1), p2) / 2 + L(NN(z2), p1) / 2, averaged over images.

    The neighbour is the anchor: its logits are with the predictions of all images of the other view.
    """
    total = 0
    for z, p in ((z1, p2), (z2, p1)):
        for i in range(len(z)):
            neighbour = nearest(z[i], queue)
            logits = [sim(neighbour, row) / temperature for row in p]
            total = total + info_nce(logits[i], logits) / 2
    return total / len(z1)


# ---- ReSSL (Zheng et al. 2021) ---------------------------------------------------------------------------------------


def ressl(q, k, queue, student_temperature, teacher_temperature):
    """-p_teacher . log p_student, p the softmax of the cosines with the queue's rows, which are unit vectors.

    Averaged over images; keys and queue without gradient.
    """
    total = 0
    for i in range(len(q)):
        teacher = softmax(stack([unit(k[i]).dot(row) for row in queue]).detach() / teacher_temperature)
        student = softmax(stack([unit(q[i]).dot(row.detach()) for row in queue]) / student_temperature)
        total = total - teacher.dot(student.log())
    return total / len(q)


# ---- DCL (Yeh et al. 2022) -------------------------------------------------------------------------------------------


def dcl(z1, z2, temperature):
    """SimCLR's loss whose denominator leaves out the positive too, so only other images; the mean over 2N rows."""
    total = 0
    for own, other in ((z1, z2), (z2, z1)):
        for i in range(len(own)):
            negatives = [sim(own[i], view[j]) / temperature for view in (own, other) for j in range(len(own)) if j != i]
            total = total - sim(own[i], other[i]) / temperature + sum(logit.exp() for logit in negatives).log()
    return total / (2 * len(z1))


# ---- LeJEPA (Balestriero & LeCun 2025) -------------------------------------------------------------------------------


def sigreg(z, directions):
    """Epps and Pulley's statistic against a standard normal, averaged over the directions (unit columns).

    N times the integral of |empirical - normal characteristic function|^2 exp(-t^2 / 2), by the trapezoid rule of the
    official minimal code: 17 knots in [0, 3], doubled for negative t (the paper's are in [-5, 5]).
    """
    total = 0
    for direction in directions.T:
        x = [row.dot(direction) for row in z]
        for knot in range(17):
            t = knot * 3 / 16
            normal = exp(-(t**2) / 2)
            weight = 2 * 3 / 16 * normal * (1 / 2 if knot in (0, 16) else 1)
            real = sum((t * value).cos() for value in x) / len(x)
            imaginary = sum((t * value).sin() for value in x) / len(x)
            total = total + len(x) * weight * ((real - normal) ** 2 + imaginary**2)
    return total / len(directions.T)


def lejepa(views, directions, lambd):
    """(1 - lambda) mean of (z_v - mean_v z)^2 + lambda mean over views of ``sigreg``; gradients everywhere.

    The first mean is the official minimal code's: over views, images and channels, around the mean of all views.
    """
    total = 0
    for i in range(len(views[0])):
        mean = sum(view[i] for view in views) / len(views)
        for view in views:
            total = total + ((view[i] - mean) ** 2).sum()
    prediction = total / (len(views) * len(views[0]) * len(views[0][0]))
    return (1 - lambd) * prediction + lambd * sum(sigreg(view, directions) for view in views) / len(views)


# ---- Hybrids: BYOL with neighbours, SimSiam with averages ------------------------------------------------------------


def nnbyol(q1, q2, z1, z2, queue):
    """BYOL's eq. 2 and its mirror image, the targets replaced by their neighbours in the queue (NNCLR's eq. 4)."""
    return byol(q1, q2, stack([nearest(z, queue) for z in z1]), stack([nearest(z, queue) for z in z2]))


def simsiam_average(p, z, rows, momentum):
    """SimSiam's section 5.2: D(p, eta) with an image's eta <- m eta + (1 - m) z / |z|, without gradient; averaged.

    ``rows`` are the images' averages before this step; the new ones are normalised.
    """
    total = 0
    for i in range(len(p)):
        target = unit(momentum * rows[i] + (1 - momentum) * unit(z[i])).detach()
        total = total + negative_cosine(p[i], target)
    return total / len(p)


# ---- DeepCluster v2 (Caron et al. 2020) ------------------------------------------------------------------------------


def assigned(row, centroids):
    """The number of the centroid with the largest dot product."""
    return max(range(len(centroids)), key=lambda k: row.dot(centroids[k]).item())


def spherical_kmeans(rows, centroids, iterations):
    """The official code's clustering of an epoch: (centroids, the assignment to these centroids).

    An iteration assigns the normalised rows, then moves every centroid to its rows' normalised mean; a centroid without
    rows stays.
    """
    rows = [unit(row.detach()) for row in rows]
    centroids = list(centroids)
    for _ in range(iterations):
        assignment = [assigned(row, centroids) for row in rows]
        for k in range(len(centroids)):
            members = [row for row, its in zip(rows, assignment, strict=True) if its == k]
            if members:
                centroids[k] = unit(sum(members) / len(members))
    return stack(centroids), [assigned(row, centroids) for row in rows]


def deepcluster_v2(crops, assignments, centroids, temperature):
    """SwAV's appendix on DeepCluster-v2: -log softmax(z . c / temperature) at the assigned centroid of each head.

    The mean over heads, crops and images; centroids are unit vectors and frozen.
    """
    total = 0
    for assignment, head in zip(assignments, centroids, strict=True):
        for crop in crops:
            for z, k in zip(crop, assignment, strict=True):
                logits = [unit(z).dot(c.detach()) / temperature for c in head]
                total = total + info_nce(logits[k], logits) / len(crop)
    return total / (len(assignments) * len(crops))
