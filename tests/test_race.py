"""benchmarks/race.py: a clock that stands still, a curve that is read at a minute, and a page of what was measured."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import race  # noqa: E402

from sslzoo.tools.figure import saved  # noqa: E402


class Hand:
    """A clock's hand that the test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += seconds


def row(side: str, points: list[race.Point], **keys: Any) -> dict:
    """A run as the file has it."""
    return {
        "data": "cifar10", "method": "simclr", "side": side, "seed": 0, "minutes": 10.0, "reads": [2.0, 10.0],
        "workers": 2, "asked": "auto", "threads": 2, "points": points,
        "trained_minutes": 9.8, "images_per_second": 2000.0, "of_schedule": 1.0,
        "knn_minutes": 3.0, "epochs": 24, "lr": 0.12, "precision": "bf16" if side == "ours" else "float32",
        "size": 32, "batch": 128, "backbone": "small", "train": 50_000, "test": 10_000, "files": False,
        "versions": {"torch": "2.0"}, "processor": "a CPU, 2 cores", "commit": "abc", **keys,
    }  # fmt: skip


# ---- the clock


def test_the_clock_stands_still_while_it_is_stopped() -> None:
    hand = Hand()
    clock = race.Clock(hand)
    hand.move(5)
    with clock.stopped():
        hand.move(60)
    hand.move(2)
    assert clock.seconds == 7
    assert clock.still == 60


def test_the_clock_goes_on_after_an_error() -> None:
    hand = Hand()
    clock = race.Clock(hand)

    def stop() -> None:
        with clock.stopped():
            hand.move(60)
            raise race.Over

    with pytest.raises(race.Over):
        stop()
    hand.move(3)
    assert clock.seconds == 3


def drive(hand: Hand, curve: race.Curve, seconds: list[float]) -> None:
    """Steps of so many seconds each, up to where the curve says that it is over."""
    curve.begin()
    for each in seconds:
        hand.move(each)
        curve.step()
    raise AssertionError("it did not end")


def test_knn_is_measured_before_the_step_that_would_pass_a_mark_and_takes_no_time() -> None:
    """Steps of 10 s, a first one of 25, evaluations of 1000 s: looks at 0, 55 (for 60) and 115 (for 120), then over."""
    hand = Hand()

    def measure() -> float:
        hand.move(1000)
        return 0.5

    curve = race.Curve(race.Clock(hand), [1.0, 2.0], measure)
    with pytest.raises(race.Over):
        drive(hand, curve, [25.0, *[10.0] * 50])
    assert [60 * at for at, _ in curve.points] == pytest.approx([0, 55, 115])
    assert all(at <= mark for (at, _), mark in zip(curve.points[1:], (1.0, 2.0), strict=True))
    assert curve.clock.still == 3000


def test_a_step_longer_than_any_before_is_read_at_the_mark_before() -> None:
    hand = Hand()
    values = iter([0.1, 0.2, 0.3, 0.4])
    curve = race.Curve(race.Clock(hand), [1.0, 2.0], lambda: next(values))
    with pytest.raises(race.Over):
        drive(hand, curve, [10.0, 10.0, 90.0, 10.0])
    assert curve.points == [(0.0, 0.1), (110 / 60, 0.2)]
    assert race.read(curve.points, 1.0) == 0.1
    assert race.read(curve.points, 2.0) == 0.2


def test_the_last_step_of_a_schedule_is_measured_and_ends_it() -> None:
    hand = Hand()
    curve = race.Curve(race.Clock(hand), [1.0, 10.0], lambda: 0.5)
    curve.begin()
    hand.move(6)
    with pytest.raises(race.Over):
        curve.step(last=True)
    assert curve.points == [(0.0, 0.5), (0.1, 0.5)]


# ---- a curve at a minute


def test_a_curve_is_read_at_or_before_a_minute() -> None:
    """No value between two: what had not been measured was not there."""
    points = [(0.0, 0.3), (1.9, 0.4), (2.0, 0.45), (2.01, 0.9), (9.7, 0.6)]
    assert race.read(points, 2.0) == 0.45
    assert race.read(points, 1.95) == 0.4
    assert race.read(points, 10.0) == 0.6
    assert race.read(points[1:], 1.0) is None


def test_a_run_that_diverged_has_no_knn_from_then_on() -> None:
    points = [(0.0, 0.3), (2.0, 0.45), (3.0, None)]
    assert race.read(points, 2.5) == 0.45
    assert race.read(points, 5.0) is None
    lost = [row("ours", points), row("ours", [(0.0, 0.3), (4.0, 0.5)], seed=1)]
    assert race.cell(lost, 5.0) == "diverged (1 of 2)"
    assert race.cell(lost, 2.5) == "0.375 ± 0.106"
    assert race.average(lost, 5.0) is None


def test_marks_are_tenths_and_what_is_read() -> None:
    assert race.marks(10.0, [2.0, 2.5, 10.0]) == [1, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10]


def test_when_ours_has_what_lightly_has_at_the_end() -> None:
    mine = [row("ours", [(0.0, 0.3), (1.0, 0.4), (2.0, 0.5), (9.9, 0.6)])]
    theirs = [row("lightly", [(0.0, 0.3), (9.9, 0.45)])]
    assert race.overtaken(mine, theirs, 10.0) == "2.0"
    back = [row("ours", [(0.0, 0.3), (1.0, 0.5), (2.0, 0.4), (3.0, 0.5), (9.9, 0.6)])]
    assert race.overtaken(back, theirs, 10.0) == "3.0"
    assert race.overtaken(theirs, mine, 10.0) == "not reached"
    assert race.overtaken(mine, [], 10.0) == "-"


def test_steps_are_timed_after_those_that_warm_up() -> None:
    seen: list[int] = []

    def steps():
        for number in range(100):
            seen.append(number)
            yield

    assert race.step_seconds(steps(), 0.0) >= 0
    assert len(seen) == race.WARM + 3


# ---- the page, the picture and the order


def test_the_page_of_two_sides() -> None:
    """Means by hand: ours .50 and .60 at 10 minutes, lightly .40."""
    rows = [
        row("ours", [(0.0, 0.3), (1.99, 0.45), (9.9, 0.5)]),
        row("ours", [(0.0, 0.3), (1.99, 0.47), (9.9, 0.6)], seed=1),
        row("lightly", [(0.0, 0.3), (1.99, 0.35), (9.9, 0.4)], lr=0.06),
    ]
    text = race.page(rows)
    assert "| cifar10 | simclr | 2 / 1 | 0.460 ± 0.014 | 0.350 | 0.550 ± 0.071 | 0.400 | 2.0 |" in text
    assert "| cifar10 | simclr | lightly | float32 | 0.06 | 24.0 | 100% | 2,000 | 9.80 | 3.0 |" in text
    assert "The clock stands still while kNN is measured" in text
    assert "ours, 2 min | lightly, 2 min" in text
    assert "| simclr | 1 / 0 | 0.450 | not measured |" in race.page(rows[:1])
    assert saved(race.picture(rows)).startswith(b"\x89PNG")


def test_both_sides_run_next_to_each_other_and_take_turns() -> None:
    order = [(side, seed) for side, _, _, seed in race.jobs(2, ["data"], ["simclr"])]
    assert order == [("ours", 0), ("lightly", 0), ("lightly", 1), ("ours", 1)]


def test_other_settings_do_not_join_a_file(tmp_path: Path) -> None:
    race.write(tmp_path / "race.json", [row("ours", [(0.0, 0.3), (9.9, 0.5)])])
    words = [sys.executable, "benchmarks/race.py", "x", "--precision", "bf16", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--name" in done.stderr


# ---- lightly's side, where it is installed


def test_lightlys_learning_rates_are_its_benchmarks() -> None:
    """cifar10_benchmark.py: 6e-2 x batch / 128, SimSiam 6e-2, SwAV Adam 1e-3 x batch / 128."""
    pytest.importorskip("lightly")
    import rival

    assert rival.learning_rate("simclr", 512) == pytest.approx(0.24)
    assert rival.learning_rate("byol", 128) == pytest.approx(0.06)
    assert rival.learning_rate("simsiam", 512) == pytest.approx(0.06)
    assert rival.learning_rate("swav", 256) == pytest.approx(0.002)


@pytest.mark.parametrize("method", race.METHODS)
def test_lightlys_loop_trains_so_many_steps_with_its_cosine_to_zero(method: str) -> None:
    pytest.importorskip("lightly")
    import rival

    from sslzoo.data.images import MemoryImages

    pixels = torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    run = rival.Rival(method, MemoryImages(pixels), 32, batch=8, seed=0, workers=0)
    first = next(iter(run.model.backbone.parameters()))
    before, weights = first.detach().clone(), []
    for loss in run.steps(3):
        assert torch.isfinite(loss)
        weights.append(first.detach().clone())
    assert len(weights) == 3
    assert run.seen == 24
    assert not torch.equal(before, weights[0])
    names = {type(one) for one in run.model.modules()}
    assert (rival.SwaVPrototypes in names) == (method == "swav")
    assert isinstance(run.model.predict, nn.Identity) == (method in ("simclr", "swav"))
