"""Method files: strict reading, layers, and what a run writes."""

import tomllib
from pathlib import Path

import pytest

import sslzoo
from sslzoo.recipes.algebra import parse, resolve
from sslzoo.recipes.knobs import expand
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.recipes.recipe import METHODS, Layer, described, dump, find_method, method_names, read_method
from sslzoo.recipes.rules import misfit
from sslzoo.recipes.schema import KNOBS, SWITCHES
from sslzoo.tools.errors import UserError

TEXT = (METHODS / "simsiam.toml").read_text()


@pytest.mark.parametrize("name", method_names())
def test_every_shipped_file_says_what_it_is_and_only_what_differs(name: str) -> None:
    method = find_method(name)
    assert method.title
    assert method.idea.endswith(".")
    assert method.paper.startswith("https://arxiv.org/abs/")
    assert method.tables["small"]
    assert method.tables["large"]
    assert not method.tables[""]
    for scale in ("small", "large"):
        for key, value in method.tables[scale].items():
            same = KNOBS[key].default if scale == "small" else KNOBS[key].metadata["large"]
            assert value != same or key.startswith("views."), f"{key} repeats the default"


def test_shipped_methods_are_found_by_several_spellings() -> None:
    assert find_method("moco-v2") is not None
    assert find_method("MoCo_v2").name == "moco_v2"
    assert set(method_names()) >= {"simsiam", "byol", "simclr", "swav", "moco_v2", "moco_v3"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", "Unknown key 'titel' \\(did you mean 'title'\\?\\)"),
        ("[switches]", "[switches]\n[other]", "Unknown key 'other'"),
        ('predictor = "mlp"', 'predictor = "mlp"\npredict = 1', "Unknown switch 'predict'"),
        ('predictor = "mlp"', 'predictor = "big"', "predictor cannot be 'big'"),
        ("stop_gradient = true", 'stop_gradient = "yes"', "stop_gradient cannot be 'yes'"),
        ("lr = 0.03", "learning_rate = 0.03", "no knob 'optimizer.learning_rate'"),
        ("lr = 0.03", "lr = true", "optimizer.lr cannot be True; it is float"),
        ("lr = 0.03", "lr = 'a lot'", "optimizer.lr cannot be 'a lot'"),
        (
            "[small.optimizer]",
            "[small.target]\ntau = 0.9\n[small.optimizer]",
            "target.tau is not read by these switches",
        ),
        ("[small.optimizer]", "[smal.optimizer]", "Unknown key 'smal' \\(did you mean 'small'\\?\\)"),
        ("[switches]", "[switches", "not valid TOML"),
        ("title = ", "title = 1 #", "'title' has to be a text"),
        ("hub = true", 'hub = "yes"', "'hub' has to be true or false"),
        ("[switches]", "heads = 1\n[switches]", "'heads' has to be a table"),
    ],
)
def test_strict_keys(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        read_method(path)
    assert "\n" not in str(caught.value)


def test_a_switch_that_a_persons_file_leaves_out_is_off(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[switches]\nnegatives = "batch"\nnormalize = "l2"\nsymmetric = true\n')
    simclr = read_method(METHODS / "simclr.toml").switches
    assert read_method(path).switches == simclr
    path.write_text("title = 'nothing'\n")
    with pytest.raises(UserError, match=r"no table \[switches\]"):
        read_method(path)


@pytest.mark.parametrize("name", method_names())
def test_a_shipped_file_names_all_ten_switches(name: str) -> None:
    content = tomllib.loads((METHODS / f"{name}.toml").read_text(encoding="utf-8"))
    assert sorted(content["switches"]) == sorted(SWITCHES)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_method(path)


def test_layers_and_their_origins() -> None:
    recipe = resolve(
        parse("byol lr=0.3"),
        layers=[
            Layer(
                "data set",
                {"optimizer.lr": 0.2, "heads.dim": 64, "target.tau": 0.5},
                dict.fromkeys(expand("views.solarize"), (0.0, 0.1)),
            ),
            Layer("device cpu", {"heads.dim": 32}),
        ],
        flags={"training.epochs": 3},
    )
    assert (recipe.optimizer.lr, recipe.origins["optimizer.lr"]) == (0.3, "expression")
    assert (recipe.heads.dim, recipe.origins["heads.dim"]) == (32, "device cpu")
    assert (recipe.target.tau, recipe.origins["target.tau"]) == (0.5, "data set")
    assert (recipe.heads.hidden, recipe.origins["heads.hidden"]) == (1024, "byol (small)")
    assert (recipe.training.epochs, recipe.origins["training.epochs"]) == (3, "--epochs")
    assert recipe.origins["optimizer.momentum"] == "default"
    assert (recipe.views.first.solarize, recipe.views.second.solarize) == (0.0, 0.1)  # held, the asymmetry kept
    assert recipe.origins["views.second.solarize"] == "data set"


def test_a_data_value_that_no_switch_reads_is_left_out() -> None:
    recipe = resolve(parse("simsiam"), layers=[Layer("data set", {"target.tau": 0.5})])
    assert "target.tau" not in recipe.origins


@pytest.mark.parametrize("expression", ["byol tau=0.9 hue=0.3", "swav local_crops=2", "simsiam + snapshot every=epoch"])
def test_a_dumped_recipe_loads_to_the_same_values_on_any_data(tmp_path: Path, expression: str) -> None:
    recipe = sslzoo.load(expression)
    path = tmp_path / "recipe.toml"
    path.write_text(dump(recipe, title='a "quoted" title'))
    again = resolve(
        parse([str(path)]),
        "large",
        [Layer("data set", {"optimizer.lr": 9.0}, dict.fromkeys(expand("views.hue"), (0, 0)))],
    )
    assert again.knobs() == recipe.knobs()
    assert again.switches == recipe.switches
    assert again.method == recipe.method


def test_the_effective_learning_rate() -> None:
    recipe = sslzoo.load("simsiam lr=0.1 batch_size=64")
    assert recipe.learning_rate == pytest.approx(0.025)


def test_described_writes_what_all_views_share_once() -> None:
    knobs = described(sslzoo.load("byol"))
    assert knobs["views.hue"] == 0.1
    assert (knobs["views.first.solarize"], knobs["views.second.solarize"]) == (0.0, 0.2)


def test_defaults_that_do_not_fit_are_lowered_and_written_ones_are_not() -> None:
    both = parse("deepcluster_v2 normalize=whiten")
    recipe = resolve_here(both, Circumstances("digits", 32, 40, "cpu"), {"training.batch_size": 16})
    assert (recipe.heads.dim, recipe.clustering.prototypes) == (8, 10)
    assert misfit(recipe, 40) is None
    written = resolve_here(parse("w_mse dim=16"), Circumstances("digits", 32, 40, "cpu"), {"training.batch_size": 16})
    assert written.heads.dim == 16
    assert misfit(written, 40) is not None


def test_a_plain_table_and_a_scale_s_are_read_together(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = (METHODS / "swav.toml").read_text() + "\n[clustering]\nsinkhorn_queue = true\n"
    path.write_text(text + "\n[small.memory]\nqueue_length = 100\n")
    assert sslzoo.load(str(path)).memory.queue_length == 100
    path.write_text(text.replace("true\n", "false\n") + "\n[small.memory]\nqueue_length = 100\n")
    with pytest.raises(UserError, match="queue_length is not read"):
        read_method(path)


@pytest.mark.parametrize("words", ["dino code_temperature_start=0.02", "moco_v1 hidden=64"])
def test_a_knob_below_another_is_not_read(words: str) -> None:
    with pytest.raises(UserError, match=r"would not be read: it is read where .* is above [01]"):
        sslzoo.load(words)


TUNED = TEXT + "\n[small.tuned.heads]\nlayers = 5\n[small.tuned.views]\nflip = 0.25\n"
HERE = {"digits": ("cuda", 32, 5), "cifar10": ("cpu", 32, 5), "": ("cuda", 32, 2), "photos": ("cpu", 96, 3)}


@pytest.mark.parametrize(("data", "device", "size", "layers"), [(data, *here) for data, here in HERE.items()])
def test_a_tuned_table_is_read_beside_an_optimiser_that_is_brought(tmp_path, data, device, size, layers) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TUNED)
    recipe = resolve_here(parse(str(path)), Circumstances(data, size, 1000, device))
    assert recipe.heads.layers == layers
    assert resolve_here(parse(f"{path} layers=4"), Circumstances(data, size, 1000, device)).heads.layers == 4
    assert recipe.views.second.flip == (
        0 if data == "digits" else 0.25 if layers == 5 else 0.5
    )  # held within its range


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[small.tuned]\nlr = 1", "no knob 'lr'"),
        ("[small.tuned.target]\ntau = 0.9", "target.tau is not read"),
        ("[small.tuned.views]\nscale_min = 0.9\nscale_max = 0.8", "is above"),
        ("[large]\ntuned = 3", "no knob 'tuned'"),
        ("[tuned.loss]\nloss_scale = 2", "Unknown key 'tuned'"),
    ],
)
def test_a_tuned_table_is_read_strictly(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((TEXT if "large" not in table else TEXT[: TEXT.index("[large")]) + f"\n{table}\n")
    with pytest.raises(UserError, match=message):
        read_method(path)


def test_an_edit_of_a_repository_recipe_is_seen() -> None:
    path = METHODS / "zz_test.toml"
    try:
        path.write_text(TEXT.replace("lr = 0.03", "lr = 0.0123"))
        assert read_method(path).tables["small"]["optimizer.lr"] == 0.0123
        assert Path(__file__).parent.parent / "methods" == METHODS
    finally:
        path.unlink()
