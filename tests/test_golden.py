"""What the package does is what its golden files say: the curves of every method, and the whole command line.

Whoever changes that on purpose writes the files anew, with the command that each failure names.
"""

import difflib
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import click
import golden_cli
import golden_curves
import pytest
from golden_curves import Curve

from sslzoo.cli import main
from sslzoo.recipes.recipe import method_names

CURVES = golden_curves.read()
LOSS, KNN = 1e-3, 0.02  # relative and absolute: sums in another order, as on another processor, stay well below
RENEW = "if that is meant, 'python tests/golden.py {}' writes the file anew"


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, "Future[Curve]"]]:
    """The curves of today, made by two processes beside each other."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield {name: pool.submit(golden_curves.curve, name) for name in method_names()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("method", method_names())
def test_a_method_learns_as_before(found: dict[str, "Future[Curve]"], method: str) -> None:
    renew = RENEW.format("curves")
    assert method in CURVES, f"{method} has no golden curve; {renew}."
    got, expected = found[method].result(), CURVES[method]
    assert len(got.losses) == len(expected.losses) == golden_curves.STEPS
    for step, (now, then) in enumerate(zip(got.losses, expected.losses, strict=True), 1):
        assert abs(now - then) <= LOSS * abs(then), (
            f"{method}: the loss of step {step} is {now:.6g}, not {then}; {renew}."
        )
    assert abs(got.knn - expected.knn) <= KNN, f"{method}: kNN is {got.knn:.4f}, not {expected.knn}; {renew}."


def test_there_is_no_curve_of_a_method_that_has_gone() -> None:
    assert CURVES.keys() <= {*method_names()}, f"a method has gone; {RENEW.format('curves')}."


def test_the_curves_have_learnt_something() -> None:
    """A curve that no update has moved could not tell one update from another."""
    for method, curve in CURVES.items():
        assert len(set(curve.losses)) > golden_curves.STEPS // 2, method


def test_the_command_line_is_as_listed() -> None:
    listed, now = golden_cli.FILE.read_text(encoding="utf-8"), golden_cli.listing()
    differing = "\n".join(difflib.unified_diff(listed.splitlines(), now.splitlines(), "listed", "now", "", "", 2, ""))
    assert not differing, f"the command line has changed; {RENEW.format('cli')}:\n{differing}"


def test_every_object_that_a_command_prints_is_listed() -> None:
    prints = {
        name
        for name, command in golden_cli.commands(main, "")
        if any(isinstance(param, click.Option) and "--json" in param.opts for param in command.params)
    }
    missing = prints - golden_cli.RUNS.keys()
    assert not missing, f"give golden_cli.RUNS a run of {', '.join(sorted(missing))}, and write golden/cli.txt anew."
