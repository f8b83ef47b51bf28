"""Values, backbones and data of a person's own file: one place each, and no list in the package to change."""

import hashlib
import json
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import sslzoo
from sslzoo import UserError
from sslzoo.core.functions import chosen, function
from sslzoo.recipes import plugins, values
from sslzoo.recipes.knobs import expand
from sslzoo.recipes.schema import KNOBS, SWITCHES
from sslzoo.recipes.values import VALUES, SwitchValue

FILE = '''
"""KoLeo (Sablayrolles et al. 2019, eq. 2), a tiny backbone, and eight-pixel noise."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sslzoo import SwitchValue


def koleo(views, pairs, knobs):
    terms = []
    for z in views:
        unit = F.normalize(z, dim=1)
        near = (unit @ unit.T).fill_diagonal_(-1).argmax(dim=1)
        terms.append(-(unit - unit[near]).norm(dim=1).clamp(min=1e-8).log().mean())
    return torch.stack(terms).mean()


class Tiny(nn.Module):
    def __init__(self, image_size):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))

    def forward(self, x):
        return self.layers(x)


def noise():
    rng = np.random.default_rng(0)
    return {f"{split}_{what}": array for split, n in (("train", 48), ("test", 24)) for what, array in (
        ("images", rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)), ("labels", np.arange(n) % 3))}


VALUES = [
    SwitchValue(
        "regularizer", "koleo", "nearest rows far apart", koleo, ("loss.regularizer_weight", "loss.similarity_weight"),
        "a row's nearest one is a whole batch's", "koleo regularizer",
    )
]
BACKBONES = {"tiny_linear": Tiny}
DATA = {"eight": noise}
'''
pytestmark = pytest.mark.usefixtures("forgotten")
WORDS = ["simsiam", "+", "koleo", "regularizer_weight=0.5", "dim=8", "hidden=8", "predictor_hidden=8"]
WORDS += "--backbone tiny_linear --data eight --epochs 2 --batch-size 12 --device cpu".split()  # noqa: SIM905


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a folder that is the working one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_value_a_backbone_and_data_of_a_file_train(plugin: Path, loaded) -> None:
    result = loaded("train", *WORDS, "--plugin", "mine.py")
    assert result["switches"]["regularizer"] == "koleo"
    assert 0 <= result["knn"]["k20"] <= 1
    about = json.loads((Path(result["run"]) / "run.json").read_text())
    assert about["plugins"] == [{"path": str(plugin), "sha256": hashlib.sha256(FILE.encode()).hexdigest()}]
    assert about["backbone"] == "tiny_linear"
    assert sslzoo.encoder(result["run"])(torch.zeros(3, 3, 8, 8)).shape == (3, 6)


def test_a_declared_value_is_known_everywhere(plugin: Path, run_cli, bad_input) -> None:
    """Its guard, its knobs, its refusal of --accumulate, its page: all from the one declaration."""
    sslzoo.load_plugin(plugin)
    recipe = sslzoo.load("vicreg - variance + koleo similarity_weight=2.0")
    assert recipe.loss.similarity_weight == 2
    assert not recipe.reads("loss.covariance")
    assert "koleo regularizer" in sslzoo.collapse_guards(recipe.switches)
    assert SWITCHES["regularizer"].values[-1] == "koleo"
    bad_input("a row's nearest one is a whole batch's", "train", *WORDS, "--accumulate", "2")
    page = run_cli("methods", "show", "simsiam + koleo")
    assert "koleo" in page.stdout
    with pytest.raises(UserError, match=r"loss.covariance would not be read: it is read where regularizer is variance"):
        sslzoo.load("simsiam + koleo covariance=0.1")


def test_the_loss_is_the_plugins(plugin: Path, build) -> None:
    sslzoo.load_plugin(plugin)
    x = [torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    with_it, without = (build(f"simsiam{words}")(x)[0] for words in (" + koleo regularizer_weight=3", ""))
    model = build("simsiam + koleo regularizer_weight=3")
    terms = []
    for view in x:
        unit = model.online(view).double()
        unit = unit / unit.norm(dim=1, keepdim=True)
        apart = torch.cdist(unit, unit).fill_diagonal_(torch.inf)
        terms.append(-apart.min(dim=1).values.log().mean())
    torch.testing.assert_close(with_it.double(), without.double() + 3 * sum(terms) / 2, rtol=1e-4, atol=1e-4)


def test_resume_needs_the_same_file(plugin: Path, loaded, run_cli) -> None:
    run = loaded("train", *WORDS, "--plugin", "mine.py", "--stop-after", "1")["run"]
    plugins._loaded.clear()
    result = run_cli("train", "--resume", run)
    assert result.exit_code == 2
    assert f"was trained with a plugin; give it again with --plugin {plugin}." in result.stderr
    assert f"--plugin {plugin}." in run_cli("knn", run).stderr
    plugin.write_text(FILE + "\n# another\n")
    VALUES["regularizer"].pop("koleo")
    values.WORDS.pop("koleo")
    result = run_cli("train", "--resume", run, "--plugin", "mine.py")
    assert result.exit_code == 2
    assert f"{plugin} has changed since" in result.stderr
    plugin.write_text(FILE)
    plugins._loaded.clear()
    VALUES["regularizer"].pop("koleo")
    values.WORDS.pop("koleo")
    assert loaded("train", "--resume", run, "--plugin", "mine.py")["epochs"] == 2


def test_a_table_made_with_another_file_is_another_table(plugin: Path, trained, loaded) -> None:
    words = ["ablate", "simsiam", "--flip", "koleo", "--limit", "100", "--plugin", "mine.py"]
    first = loaded(*words)["folder"]
    assert loaded(*words)["folder"] == first
    plugin.write_text(FILE + "\n# another\n")
    VALUES["regularizer"].pop("koleo")
    values.WORDS.pop("koleo")
    plugins._loaded.clear()
    again = loaded(*words)
    assert again["folder"] != first
    assert again["command"].endswith(f"--plugin {plugin}")
    shutil.rmtree(first)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x = 1", "has none of them"),
        ("VALUES = [", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("VALUES = [3]", "has to be a list of SwitchValue"),
        ("VALUES = [V('regularise', 'x', 'd', print)]", "no switch 'regularise' (did you mean 'regularizer'?)"),
        ("VALUES = [V('regularizer', 'batch', 'd', print)]", "'batch' is a value of negatives already"),
        ("VALUES = [V('regularizer', 'variance', 'd', print)]", "'variance' is a value of regularizer already"),
        ("VALUES = [V('regularizer', 'target', 'd', print)]", "'target' is a switch"),
        ("VALUES = [V('regularizer', 'A b', 'd', print)]", "cannot be a value"),
        ("VALUES = [V('regularizer', 'x', 'd')]", "has no function"),
        ("VALUES = [V('regularizer', 'x', 'd', print, ('loss.weigth',))]", "There is no knob 'loss.weigth'"),
        ("VALUES = [V('regularizer', 'x', 'd', print, ('views.hue',))]", "stands for several knobs"),
        ("VALUES = [V('symmetric', 'x', 'd', print)]", "is on or off"),
        ("BACKBONES = ['a']", "has to map names to functions"),
        ("DATA = {'a': 3}", "has to map names to functions"),
    ],
)
def test_a_file_of_no_use_is_one_sentence(tmp_path: Path, bad_input, text: str, part: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(f"from sslzoo import SwitchValue as V\n{text}\n")
    before = {name: list(some) for name, some in VALUES.items()}
    bad_input(part, "train", "simsiam", "--plugin", str(path))
    assert {name: list(some) for name, some in VALUES.items()} == before


def test_a_file_that_is_not_there(bad_input) -> None:
    bad_input("There is no Python file nowhere.py", "train", "simsiam", "--plugin", "nowhere.py")
    bad_input("There is no Python file .", "train", "simsiam", "--plugin", ".")


def test_installed_packages_have_values_backbones_and_data(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points, found where a word is not known."""
    monkeypatch.syspath_prepend(str(plugin.parent))
    made = {
        "sslzoo.values": EntryPoint("koleo", "mine:VALUES", "sslzoo.values"),
        "sslzoo.backbones": EntryPoint("tiny_linear", "mine:Tiny", "sslzoo.backbones"),
        "sslzoo.data": EntryPoint("eight", "mine:noise", "sslzoo.data"),
    }

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [e for e in [made[group]] if name in (None, e.name)]

    monkeypatch.setattr(values, "entry_points", entry_points)
    monkeypatch.setattr(plugins, "entry_points", entry_points)
    result = sslzoo.train(
        ["simsiam", "+", "koleo", "dim=8", "hidden=8", "predictor_hidden=8"],
        data="eight", backbone="tiny_linear", epochs=1, batch_size=12, device="cpu",
    )  # fmt: skip
    assert result["switches"]["regularizer"] == "koleo"


# ---- what is declared in the package -------------------------------------------------------------------------------

DECLARED = [(name, word) for name, some in VALUES.items() for word in some]


@pytest.mark.parametrize(("switch", "word"), DECLARED, ids=[f"{name}-{word}" for name, word in DECLARED])
def test_a_values_function_is_found_and_its_knobs_are_there(switch: str, word: str | bool) -> None:
    value = VALUES[switch][word]
    assert value.doc
    assert callable(function(switch, word)) is bool(value.function)
    assert all(expand(knob) == [knob] and knob in KNOBS for knob in value.knobs)
    assert set(value.guard_needs) <= set(SWITCHES)


def test_off_is_first_and_every_switch_has_its_values() -> None:
    switches = sslzoo.load("simsiam").switches
    for name, switch in SWITCHES.items():
        assert switch.off == type(switches).__dataclass_fields__[name].default
        assert isinstance(VALUES[name][switch.off], SwitchValue)
    assert chosen(switches, "regularizer") is None


@pytest.mark.parametrize(
    ("line", "place"),
    [("    for z in views:", "koleo"), ("    rng = np.random", "noise")],
)
def test_a_plugin_that_fails_later_is_named_and_leaves_no_run(plugin: Path, run_cli, line: str, place: str) -> None:
    """Its own code raises while it is used: one sentence with its line, and no half of a run."""
    indent = line[: len(line) - len(line.lstrip())]
    broken = FILE.replace(line, f"{indent}raise RuntimeError('boom')\n{line}", 1)
    plugin.write_text(broken)
    number = broken[: broken.index("raise RuntimeError")].count("\n") + 1
    result = run_cli("train", *WORDS, "--plugin", "mine.py", "--quiet")
    assert result.exit_code == 2, place
    assert f"{plugin} fails in line {number} (RuntimeError: boom); mend it." in result.stderr.replace("\n", " ")
    assert not [*Path("runs").glob("*")]


@pytest.mark.parametrize(
    ("line", "other", "part"),
    [
        ('{"tiny_linear": Tiny}', '{"tiny_linear": lambda: Tiny(8)}', "backbone tiny_linear fails (TypeError: "),
        ('{"tiny_linear": Tiny}', '{"tiny_linear": int}', "backbone tiny_linear is a int and no torch.nn.Module"),
        ('{"eight": noise}', '{"eight": lambda place: noise()}', "data eight fails (TypeError: "),
        ('{"eight": noise}', '{"eight": lambda: 3}', "data eight fails (TypeError: "),
    ],
)
def test_a_function_that_is_not_called_so_is_named(plugin: Path, run_cli, line: str, other: str, part: str) -> None:
    """No line of the plugin is at fault: what it gives does not take what it is called with, or is something else."""
    plugin.write_text(FILE.replace(line, other))
    result = run_cli("train", *WORDS, "--plugin", "mine.py", "--quiet")
    assert result.exit_code == 2, result.output
    assert f"Error: The plugin's {part}" in result.stderr
    assert result.stderr.endswith("mend it.\n")
    assert not [*Path("runs").glob("*")]
