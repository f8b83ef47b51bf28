"""Shared by the tests: tiny models, views, and what a refusal looks like."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bad_files
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sslzoo import Siamese, UserError
from sslzoo.cli import main
from sslzoo.recipes import plugins, values
from sslzoo.recipes.algebra import parse, resolve
from sslzoo.recipes.recipe import Layer
from sslzoo.tools.errors import Diverged
from sslzoo.training.guards import Interrupted
from sslzoo.training.listeners.reporter import Result

TINY = {
    "heads.hidden": 16, "heads.dim": 8, "heads.predictor_hidden": 8, "memory.queue_length": 20,
    "clustering.prototypes": 6, "loss.slices": 16, "training.batch_size": 12, "optimizer.lr": 1.0,
}  # fmt: skip


def pytest_addoption(parser):
    """``pytest --slow`` runs also what takes minutes."""
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config, items):
    """Leave those out otherwise."""
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Downloads and features of a test are its own."""
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def plain_processor(monkeypatch):
    """Figures of tests are those of every processor: "auto" is float32, also where there are instructions for bf16."""
    monkeypatch.setattr("sslzoo.training.machine.multiplies_bf16", lambda: False)


def tiny(expression, scale="small", dtype=torch.float32, encoder=None, samples=40):
    """A tiny seeded model of an expression, for images of any size; words of the expression win over `TINY`."""
    recipe = resolve(parse(expression), scale, [Layer("data tiny", TINY)])
    torch.manual_seed(0)
    if encoder is None:
        encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16))
    else:
        encoder.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
    return Siamese(encoder, recipe, samples).to(dtype)


@pytest.fixture(scope="session")
def true_run(tmp_path_factory):
    """The files of a run that was stopped after the first of two epochs."""
    folder = tmp_path_factory.mktemp("true")
    (folder / "tiny.npz").write_bytes(bad_files.images())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = (
            "train simsiam --data tiny.npz --epochs 2 --stop-after 1 --device cpu --precision float32 dim=8 hidden=8"
        )
        words += " predictor_hidden=8"
        result = CliRunner().invoke(main, words.split())
        assert result.exit_code == 0, result.output
    run = next((folder / "runs").iterdir())
    return {path.name: path.read_bytes() for path in run.iterdir()}


@pytest.fixture
def build():
    """Make a tiny model."""
    return tiny


@pytest.fixture
def views():
    """Draw seeded views [12, 3, size, size], one of each size."""

    def draw(*sizes, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(12, 3, size, size, generator=generator, dtype=dtype) for size in sizes or (8, 8)]

    return draw


@pytest.fixture
def refused():
    """Expect a `UserError` whose one sentence holds all of the words."""

    @contextmanager
    def expect(*words):
        with pytest.raises(UserError) as caught:
            yield
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert message.endswith("."), message
        assert "\n" not in message, message

    return expect


class FakeTrain:
    """In place of `sslzoo.cells.train`: a run directory in no time, and a count of what was asked for."""

    def __init__(self):
        self.asked, self.diverging, self.stopping = [], set(), set()

    def __call__(self, words, *, reporter, **options):
        if words[0] in self.stopping:
            raise Interrupted("somewhere")
        self.asked.append((words[0], options["seed"]))
        run = Path(options["out"]) / f"run-{len(os.listdir(options['out']))}"
        run.mkdir(parents=True)
        reporter.begin(None, run, 0)
        if words[0] in self.diverging:
            raise Diverged("The loss of epoch 1 is nan; lower optimizer.lr.")
        n = len(self.asked)
        loss, std, rank = -n / 10, n / 10, n * 2.0
        (run / "log.csv").write_text(
            f"epoch,loss,std,rank,lr,images_per_second,alignment,knn\n1,{loss},{std},{rank},1,1,{-n},0.5\n"
        )
        return Result(
            run=str(run), expression=words[0], method=None, switches={}, data="digits", epochs=1, loss=loss, std=std,
            rank=rank, knn={"k20": 0.1 * n % 1, "k200": 0.0}, raw_knn=0.4, random_knn=0.25, seconds=1.0,
            images_per_second=1.0, alignment=None, uniformity=None, code_entropy=None, code_usage=None, advice=[],
        )  # fmt: skip


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Train nothing, in an empty folder; what was asked for is in ``trained.asked``."""
    fake = FakeTrain()
    monkeypatch.setattr("sslzoo.studies.cells.train", fake)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def run_cli():
    """Run a command line."""
    return lambda *words: CliRunner().invoke(main, list(words))


@pytest.fixture
def bad_input(run_cli, trained):
    """Expect a command to end in one sentence with this part, exit code 2, and no run."""

    def expect(part, *words):
        result = run_cli(*words)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert part in result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stderr.endswith(".\n")
        assert trained.asked == []

    return expect


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Plugins that a test loads are known to no other."""
    kept, words = {name: dict(some) for name, some in values.VALUES.items()}, dict(values.WORDS)
    yield
    for name, some in kept.items():
        values.VALUES[name].clear()
        values.VALUES[name].update(some)
    values.WORDS.clear()
    values.WORDS.update(words)
    for known in (plugins._loaded, plugins._backbones, plugins._data):
        known.clear()
    plugins._installed.cache_clear()


@pytest.fixture
def loaded(run_cli):
    """The one JSON object that a command prints."""

    def run(*words):
        result = run_cli(*words, "--json", "--quiet")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""
        return json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return run
