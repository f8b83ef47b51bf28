"""Batched augmentation against torchvision: operation by operation, and draw by draw in distribution."""

from dataclasses import replace

import pytest
import torch
from torch import Generator
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as F

from sslzoo import load
from sslzoo.recipes.schema import View
from sslzoo.views import augment as augmentation
from sslzoo.views import pixels
from sslzoo.views.augment import Draw, augment, draw_boxes, packed, photometric, unpacked
from sslzoo.views.batches import pipelines

CLOSE = 1e-5  # the most that an operation may differ from torchvision's: float32 rounding, in other orders
NOTHING = View(scale_min=1, flip=0, jitter=0, grayscale=0)
JITTER = ("brightness", "contrast", "saturation", "hue")
EVERYTHING = View(scale_min=0.08, hue=0.5, brightness=0.9, blur=0.5, solarize=0.5)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def noise(*shape, seed=0):
    """Images in [0, 1] with values on the ends and pixels that are gray or nearly so."""
    images = torch.rand(shape, generator=seeded(seed)) * 1.2 - 0.1
    images[:, :, 0] = images[:, :1, 0]
    images[:, :, 1] = images[:, :1, 1] + 1e-4 * images[:, :, 1]
    return images.clamp(0, 1)


def one_by_one(operation, images, amounts):
    """torchvision's operation on each image, with its own amount."""
    return torch.stack([operation(image, float(amount)) for image, amount in zip(images, amounts, strict=True)])


def worst(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max())


def near(draws, others, tolerance):
    """Two samples have the same mean and quantiles; tolerance is some five standard errors of either."""
    at = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    assert float(draws.mean()) == pytest.approx(float(others.mean()), abs=tolerance)
    assert draws.quantile(at).tolist() == pytest.approx(others.quantile(at).tolist(), abs=tolerance)


@pytest.fixture
def calls(monkeypatch):
    """The operations that take an amount per image, as they are called: (name, amounts)."""
    made = []

    def watch(name, operation):
        monkeypatch.setattr(pixels, name, lambda images, x: made.append((name, x)) or operation(images, x))

    for name in (*JITTER, "blur"):
        watch(name, getattr(pixels, name))
    return made


# ---- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (20, 33, 48), (64, 40, 64), (17, 5, 32)])
def test_crop_equals_torchvisions_resized_crop(height, width, size):
    """Bilinear upscaling, where antialiasing does nothing; every second image is flipped."""
    images = noise(120, 3, height, width)
    boxes = draw_boxes(Draw(120, seeded()), height, width, View(scale_min=0.02))
    flip = torch.arange(120) % 2 == 1
    expected = []
    for image, box, flipped in zip(images, boxes.int().tolist(), flip, strict=True):
        cropped = F.resized_crop(image, *box, [size, size], antialias=True)
        expected.append(cropped.flip(-1) if flipped else cropped)
    assert worst(pixels.crop(images, boxes, flip, size), torch.stack(expected)) < CLOSE


def test_a_whole_box_of_the_same_size_is_the_image():
    images = noise(2, 3, 32, 32)
    cropped = pixels.crop(images, torch.tensor([[0.0, 0, 32, 32]]).repeat(2, 1), torch.tensor([False, True]), 32)
    assert worst(cropped, torch.stack([images[0], images[1].flip(-1)])) < CLOSE


@pytest.mark.parametrize(
    ("operation", "torchvisions", "amounts"),
    [
        (pixels.brightness, F.adjust_brightness, (0, 0.2, 1, 1.4, 3)),
        (pixels.contrast, F.adjust_contrast, (0, 0.2, 1, 1.4, 3)),
        (pixels.saturation, F.adjust_saturation, (0, 0.2, 1, 1.4, 3)),
        (pixels.hue, F.adjust_hue, (-0.5, -0.1, 0, 0.23, 0.5)),
    ],
    ids=("brightness", "contrast", "saturation", "hue"),
)
def test_jitters_operations_equal_torchvisions(operation, torchvisions, amounts):
    """Every image with its own amount; hue also at gray pixels, at nearly gray ones and at full colours."""
    for images in (noise(5, 3, 24, 40), noise(5, 3, 24, 40).round(), (noise(5, 3, 24, 40) * 255).round() / 255):
        assert worst(operation(images, torch.tensor(amounts)), one_by_one(torchvisions, images, amounts)) < CLOSE


def test_gray_equals_torchvisions():
    images = noise(3, 3, 9, 7)
    assert worst(pixels.gray(images), F.rgb_to_grayscale(images)) < CLOSE


@pytest.mark.parametrize(("size", "taps"), [(32, 3), (40, 5), (96, 9), (224, 23)])
def test_blur_equals_torchvisions(size, taps):
    assert pixels.kernel_size(size) == taps
    images, sigmas = noise(4, 3, size, size), (0.1, 0.5, 1.3, 2.0)
    expected = one_by_one(lambda image, s: F.gaussian_blur(image, [taps, taps], [s, s]), images, sigmas)
    assert worst(pixels.blur(images, torch.tensor(sigmas)), expected) < CLOSE


def test_solarize_equals_torchvisions():
    """Grayscale and solarize with certainty, and nothing else."""
    images = noise(6, 3, 16, 16)
    images[0] = 0.5
    got = photometric(images, replace(NOTHING, solarize=1), seeded())
    assert worst(got, F.solarize(images, 0.5)) < CLOSE
    got = photometric(images, replace(NOTHING, solarize=1, grayscale=1), seeded())
    assert worst(got, F.solarize(F.rgb_to_grayscale(images, 3), 0.5)) < CLOSE


def test_jitter_is_torchvisions_in_the_order_drawn(calls):
    """The four operations with the amounts per image and the one order of the batch, as torchvision's would do it."""
    orders = set()
    for seed in range(60):
        calls.clear()
        images = expected = noise(3, 3, 12, 12, seed=seed)
        got = photometric(images, replace(NOTHING, jitter=1, saturation=0.2), seeded(seed))
        for name, amounts in calls:
            expected = one_by_one(getattr(F, f"adjust_{name}"), expected, amounts)
        assert worst(got, expected) < CLOSE
        orders.add(tuple(name for name, _ in calls))
    assert all(sorted(order) == sorted(JITTER) for order in orders)
    assert len(orders) > 15  # of 24


# ---- distributions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 0.6)])
def test_boxes_are_distributed_as_torchvisions(scale):
    n, height, width = 20_000, 150, 180
    boxes = draw_boxes(Draw(n, seeded()), height, width, View(scale_min=scale[0], scale_max=scale[1]))
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    others = torch.tensor([RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(n)]).float()

    def features(box):
        """Area, log ratio, place and where the free room allows the crop to be: all of order one."""
        top, left, h, w = box.unbind(1)
        place = ((top + 0.5) / (height - h + 1), (left + 0.5) / (width - w + 1))
        return h * w / (height * width), (w / h).log(), top / height, left / width, *place

    for ours, theirs in zip(features(boxes), features(others), strict=True):
        near(ours, theirs, 0.02)
    top, left, h, w = boxes.unbind(1)
    assert bool((boxes == boxes.round()).all() & (boxes[:, :2] >= 0).all() & (boxes[:, 2:] >= 1).all())
    assert bool((top + h <= height).all() & (left + w <= width).all())
    assert bool((top + h == height).any() & (left + w == width).any() & (top == 0).any() & (left == 0).any())


@pytest.mark.parametrize(("height", "width"), [(10, 100), (100, 10), (7, 100), (1, 1), (40, 41)])
def test_a_box_that_never_fits_is_the_central_fallback(height, width):
    torch.manual_seed(0)
    expected = RandomResizedCrop.get_params(torch.empty(3, height, width), [40, 50], [3 / 4, 4 / 3])
    boxes = draw_boxes(Draw(3, seeded()), height, width, View(scale_min=40, scale_max=50))
    assert boxes.tolist() == [list(map(float, expected))] * 3


def test_a_largest_crop_below_the_smallest_is_the_smallest():
    h, w = draw_boxes(Draw(500, seeded()), 100, 100, View(scale_min=0.5, scale_max=0.1))[:, 2:].unbind(1)
    assert (h * w / 1e4).tolist() == pytest.approx([0.5] * 500, abs=0.01)


@pytest.mark.parametrize("p", [0, 0.2, 0.8, 1])
@pytest.mark.parametrize("name", ["flip", "jitter", "grayscale", "blur", "solarize"])
def test_operations_come_with_their_probability(name, p, monkeypatch):
    monkeypatch.setattr(augmentation, "SIGMA", (1, 2))  # a blur with a small sigma cannot be seen
    n = 3000
    images = noise(1, 3, 8, 8).repeat(n, 1, 1, 1)
    unchanged = augment(images[:1], NOTHING, 8, seeded())
    changed = (augment(images, replace(NOTHING, **{name: p}), 8, seeded()) - unchanged).abs().amax((1, 2, 3)) > 1e-4
    tolerance = 4 * (p * (1 - p) / n) ** 0.5 + 0.002  # jitter may change next to nothing, too
    assert float(changed.float().mean()) == pytest.approx(p, abs=tolerance)


def test_operations_are_drawn_independently_per_image():
    """Of four images in a batch each is changed in all combinations with the others."""
    images = noise(1, 3, 8, 8).repeat(4, 1, 1, 1)
    seen = {
        tuple((photometric(images, replace(NOTHING, grayscale=0.5), seeded(s)) != images).flatten(1).any(1).tolist())
        for s in range(200)
    }
    assert len(seen) == 16


@pytest.mark.parametrize("name", JITTER)
@pytest.mark.parametrize("strength", [0.1, 0.4, 0.5])
def test_strengths_are_distributed_as_torchvisions(name, strength, calls):
    n, off = 20_000, dict.fromkeys(JITTER, 0.0)
    photometric(torch.rand(n, 3, 1, 1), replace(NOTHING, jitter=1, **off | {name: strength}), seeded())
    ((called, amounts),) = calls
    torch.manual_seed(0)
    bounds = getattr(ColorJitter(**{name: strength}), name)
    others = [ColorJitter.get_params(*(bounds if key == name else None for key in JITTER)) for _ in range(n)]
    near(amounts, torch.tensor([drawn[1 + JITTER.index(name)] for drawn in others]), 0.02)
    assert called == name
    assert bounds[0] <= float(amounts.min()) <= float(amounts.max()) <= bounds[1]


def test_a_strength_above_one_stops_at_black(calls):
    photometric(torch.rand(5000, 3, 1, 1), replace(NOTHING, jitter=1, brightness=1.5), seeded())
    assert [float(x) for x in dict(calls)["brightness"].aminmax()] == pytest.approx([0, 2.5], abs=0.01)


def test_sigmas_are_uniform(calls):
    photometric(torch.rand(20_000, 3, 1, 1), replace(NOTHING, blur=0.5), seeded())
    near(dict(calls)["blur"], torch.linspace(0.1, 2, 20_001), 0.06)


# ---- views -----------------------------------------------------------------------------------------------------------


def test_views_depend_on_the_generators_state_alone():
    images, generator = noise(20, 3, 32, 32), seeded(5)
    state = generator.get_state()
    torch.manual_seed(1)
    first = augment(images, EVERYTHING, 32, generator)
    second = augment(images, EVERYTHING, 32, generator)
    torch.manual_seed(2)
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(first, augment(images, EVERYTHING, 32, generator))
    assert torch.equal(second, augment(images, EVERYTHING, 32, generator))


def test_equal_images_get_different_views():
    made = augment(noise(1, 3, 32, 32).repeat(50, 1, 1, 1), View(), 32, seeded())
    assert len(made.flatten(1).unique(dim=0)) == 50


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [8, 32, 50])
def test_pixels_stay_within_bounds(seed, size):
    """Also of white, black, noisy and elongated images, up to rounding."""
    for shape in ((40, 3, 32, 32), (10, 3, 9, 60)):
        images = (noise(*shape, seed=seed) * 255).byte()
        images[0], images[1] = 0, 255
        made = augment(images, EVERYTHING, size, seeded(seed))
        assert made.shape == (shape[0], 3, size, size)
        assert made.dtype == torch.float32
        assert bool(made.isfinite().all())
        assert -1e-6 <= float(made.min()) <= float(made.max()) <= 1 + 1e-6


def test_bytes_are_taken_as_their_255ths():
    images = (noise(10, 3, 32, 32) * 255).byte()
    kept = images.clone()
    made = augment(images, EVERYTHING, 32, seeded())
    assert worst(made, augment(images.float() / 255, EVERYTHING, 32, seeded())) == 0
    assert torch.equal(images, kept)


def test_floats_are_left_alone():
    images = noise(10, 3, 32, 32)
    kept = images.clone()
    augment(images, EVERYTHING, 32, seeded())
    assert torch.equal(images, kept)


@pytest.mark.parametrize(("scale", "blur"), [("small", (0, 0)), ("large", (1.0, 0.1))])
def test_byols_second_view_solarizes_and_its_first_does_not(scale, blur):
    """White stays light under every other operation."""
    (first, _), (second, size) = pipelines(load("byol", scale), 32)
    assert (first.blur, second.blur) == blur
    white = torch.ones(1000, 3, 8, 8)
    dark = [(augment(white, view, 8, seeded()).amax((1, 2, 3)) < 0.5).float().mean() for view in (first, second)]
    assert size == 32
    assert [float(part) for part in dark] == [0, pytest.approx(0.2, abs=0.05)]


def test_pipelines_are_pairs_and_local_crops():
    """An asymmetric loss takes its pairs of views; a symmetric one takes one pair, and both of them local crops."""
    recipe = load("simsiam", local_crops=3, scale_max=0.3)
    assert [size for _, size in pipelines(recipe, 224)] == [224, 224, 96, 96, 96]
    assert [size for _, size in pipelines(recipe, 32)] == [32] * 5
    recipe = load("simsiam - symmetric", pairs=2)
    recipe = replace(recipe, views=replace(recipe.views, first=NOTHING))
    assert [view == NOTHING for view, _ in pipelines(recipe, 32)] == [True, False, True, False]


# ---- what goes to a device -------------------------------------------------------------------------------------------


def test_tensors_are_packed_and_unpacked():
    """Of any type and length, empty ones too; none shares a byte with the next."""
    tensors = [
        torch.tensor([3, -1, 2**40]), torch.tensor([True, False, True]), torch.rand(5), torch.empty(0, 4),
        torch.rand(7, 4)[:, ::2], torch.arange(5, dtype=torch.uint8), torch.empty(0, dtype=torch.long),
        torch.rand(3, dtype=torch.float64),
    ]  # fmt: skip
    bytes_in_a_row = packed(tensors)
    assert (bytes_in_a_row.dtype, bytes_in_a_row.ndim) == (torch.uint8, 1)
    found = unpacked(bytes_in_a_row.clone(), tensors)
    assert [(x.dtype, x.shape) for x in found] == [(x.dtype, x.shape) for x in tensors]
    assert all(torch.equal(x, y) for x, y in zip(found, tensors, strict=True))
