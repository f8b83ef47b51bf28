"""Ablations: the lattice and its spelling, runs kept and resumed, what they come to, and the files."""

import json
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest

from sslzoo import UserError
from sslzoo.metrics.health import largest_rank, verdict
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.rules import refusal
from sslzoo.studies.lattice import in_words, lattice, read_flips
from sslzoo.studies.pictures.bars import bars
from sslzoo.studies.pictures.curves import curves
from sslzoo.studies.pictures.scatter import scatter
from sslzoo.studies.results import Order, Result, Scoreboard, Spread, Table
from sslzoo.studies.summary import order, published_number, ranks, scoreboard, spearman
from sslzoo.studies.tables import flipped_value, protocol
from sslzoo.training.listeners.reporter import Reporter

QUICK = ("--limit", "64", "--epochs", "1", "--batch-size", "16")
KEYS = "expression flip data epochs seeds folder cells"
CELL = "expression switches refused knn random_knn std rank loss guards verdict seconds run diverged"


def cells(words, *flips):
    base = parse(words)
    return lattice([words], read_flips(flips, base.switches, base.base.name))


# ---- the lattice


@pytest.mark.parametrize(
    ("words", "flips", "count", "refused"),
    [
        ("simsiam", ["predictor"], 2, 0),
        ("simsiam", ["predictor,stop_gradient,momentum"], 8, 2),
        ("simsiam", ["predictor,stop-gradient", "momentum"], 8, 2),
        ("simclr", ["negatives", "predictor", "stop_gradient", "target=shared|momentum|snapshot"], 24, 8),
        ("byol - momentum + momentum", ["target"], 2, 0),
        ("moco_v2", ["batch,momentum"], 4, 0),
        ("simsiam", ["similarity=cosine|mse,normalize"], 4, 1),
        ("byol tau=0.9 batchnorm=none", ["momentum,batchnorm=none|hidden|all"], 6, 0),
        ("simsiam", ["predictor", "predictor_lr_scale=1|10"], 3, 0),  # without a predictor both are one cell
        ("swav like=simsiam", ["sinkhorn,predictor"], 4, 0),
    ],
)
def test_every_combination_is_spelled(words, flips, count, refused):
    found = cells(words, *flips)
    assert len(found) == len({cell.text for cell in found}) == count
    assert sum(cell.refused is not None for cell in found) == refused
    for cell in found:
        assert cell.refused == refusal(cell.switches)
        if cell.refused is None:
            assert parse(cell.text).switches == cell.switches
            assert cell.recipe.switches == cell.switches
    assert found[0].switches == parse(words).switches
    base = parse(words)
    product = math.prod(len(one.values) for one in read_flips(flips, base.switches, base.base.name))
    assert sum(len(cell.combinations) for cell in found) == product


def test_cells_are_spelled_as_a_person_would():
    assert [cell.text for cell in cells("byol", "momentum,predictor")] == [
        "byol", "byol - predictor", "byol - momentum", "byol - momentum - predictor",
    ]  # fmt: skip
    assert [cell.text for cell in cells("simclr - negatives + stop_gradient", "negatives,target=shared|snapshot")] == [
        "simclr + stop_gradient - negatives", "simclr + stop_gradient - negatives + snapshot",
        "simclr + stop_gradient", "simclr + stop_gradient + snapshot",
    ]  # fmt: skip
    assert [cell.text for cell in cells("moco_v2", "negatives=none|batch|queue")] == [
        "moco_v2 - queue", "moco_v2 + batch", "moco_v2",
    ]  # fmt: skip


def test_a_knob_that_a_cell_does_not_read_is_left_out_of_it():
    texts = [cell.text for cell in cells("byol tau=0.9 optimizer.lr=0.1", "momentum")]
    assert texts == ["byol tau=0.9 optimizer.lr=0.1", "byol - momentum optimizer.lr=0.1"]
    texts = [cell.text for cell in cells("simsiam", "predictor,predictor_lr_scale=1|10")]
    assert texts == ["simsiam predictor_lr_scale=1", "simsiam predictor_lr_scale=10", "simsiam - predictor"]


def test_flipped_numbers_are_kept_to_their_last_digit():
    found = cells("simsiam", "lr=0.12345678|0.123456|1e-05|3,epochs=1000000|2")
    assert [cell.recipe.optimizer.lr for cell in found][::2] == [0.12345678, 0.123456, 1e-05, 3.0]
    assert [cell.text for cell in found][6:] == ["simsiam lr=3 epochs=1000000", "simsiam lr=3 epochs=2"]


def test_zero_is_a_number_and_not_off():
    assert [flipped_value([value]) for value in (0.0, 0, False, "none", True, 1.0, 0.12345678)] == [
        "0", "0", "-", "-", "yes", "1", "0.12345678",
    ]  # fmt: skip
    assert [in_words("loss.covariance", value) for value in (0.0, 0, False, "none", 1)] == [
        "covariance 0", "covariance 0", "no covariance", "no covariance", "covariance 1",
    ]  # fmt: skip


def test_a_file_of_ones_own_is_a_base(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_cli("methods", "copy", "byol", "my own.toml")
    found = cells("'my own.toml'", "momentum")
    assert [cell.text for cell in found] == ["'my own.toml'", "'my own.toml' - momentum"]
    assert parse(found[1].text).switches == found[1].switches
    for words in (["simsiam", "like=my own.toml"], ["simsiam 'like=my own.toml'"]):
        base = parse(words)
        found = lattice(words, read_flips(["symmetric"], base.switches, base.base.name))
        assert [cell.text for cell in found] == [
            "simsiam 'like=my own.toml'", "simsiam 'like=my own.toml' - symmetric",
        ]  # fmt: skip
        assert parse(found[1].text).like == parse("'my own.toml'").base


@pytest.mark.parametrize(
    ("flip", "part"),
    [
        ("", "Name what to flip"),
        ("predicter", "did you mean 'predictor'"),
        ("tau", "tau is a knob; write its values"),
        ("tua=1|2", "did you mean 'tau'"),
        ("like=simclr", "like=NAME cannot be flipped"),
        ("like=simclr|dino", "like=NAME cannot be flipped"),
        ("target", "target is flipped twice"),
        ("target=shared", "two or more different values"),
        ("target=shared|shared", "two or more different values"),
        ("tau=0.5|.5", "two or more different values"),
        ("target=", "two or more different values"),
        ("target=shared|momentun", "did you mean 'momentum'"),
        ("tau=0.9|much", "cannot be 'much'"),
        ("stop_gradient=True|False", "did you mean 'true'?"),
        ("similarity", "no usual value; write '--flip \"similarity=cosine|mse"),
    ],
)
def test_flips_that_cannot_be(refused, flip, part):
    base = parse("byol")
    with refused(part):
        read_flips([flip, "target"] if part.endswith("twice") else [flip], base.switches, "byol")


# ---- the command


def test_a_real_lattice(loaded, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("ablate", "simsiam", "--flip", "stop_gradient,momentum", *QUICK)
    found = loaded(*words)
    assert set(KEYS.split()) <= set(found)
    assert all(set(CELL.split()) <= set(cell) for cell in found["cells"])
    assert found["flip"] == {"stop_gradient": [True, False], "target": ["shared", "momentum"]}
    assert (found["data"], found["epochs"], found["seeds"]) == ("digits", 1, 1)
    assert [cell["expression"] for cell in found["cells"]][:3] == [
        "simsiam", "simsiam + momentum", "simsiam - stop_gradient",
    ]  # fmt: skip
    *trained, last = found["cells"]
    assert "No gradient can reach a momentum target" in last["refused"]
    assert last["knn"] is last["run"] is last["verdict"] is last["seconds"] is None
    for cell in trained:
        assert cell["refused"] is None
        assert (cell["knn"]["sd"], cell["knn"]["n"], cell["diverged"]) == (None, 1, 0)
        one = json.loads((Path(cell["run"]) / "knn.json").read_text())
        assert cell["knn"]["mean"] == one["knn"]["k20"]
        assert [cell[key] for key in ("random_knn", "std", "rank", "loss")] == [
            one[key] for key in ("random_knn", "std", "rank", "loss")
        ]
        assert cell["verdict"] == verdict(cell["std"], cell["rank"], 32)
        assert 0 < cell["seconds"] < 60
    assert trained[0]["guards"] == ["predictor with stop-gradient"]
    assert trained[2]["guards"] == []
    folder = Path(found["folder"])
    assert set(os.listdir(folder)) == {"cells.json", "table.md", "table.csv", "lattice.png", "runs", ".lock"}
    assert folder.parent == Path("runs")
    assert folder.name.startswith("ablate-simsiam-")
    assert len(os.listdir(folder / "runs")) == 3
    assert json.loads((folder / "cells.json").read_text())["cells"] == found["cells"]
    assert "There are no runs" in run_cli("runs").stdout  # they belong to the table
    assert matplotlib.image.imread(folder / "lattice.png").shape[0] > 100
    output = run_cli(*words).stdout
    for part in ("stop gradient", "untrained", "verdict", "refused", "1 refused: No gradient", "lattice.png"):
        assert part in output


def test_finished_runs_are_not_run_again_and_seeds_are_added(loaded, trained):
    words = ("ablate", "simsiam", "--flip", "predictor,stop_gradient", *QUICK)
    one = loaded(*words)
    assert trained.asked == [(cell["expression"], 0) for cell in one["cells"]]
    assert loaded(*words) == one
    assert len(trained.asked) == 4
    three = loaded(*words, "--seeds", "3")
    assert three["folder"] == one["folder"]
    assert trained.asked[4:] == [(cell["expression"], seed) for seed in (1, 2) for cell in one["cells"]]
    for cell in three["cells"]:
        assert cell["knn"]["n"] == 3
        assert cell["knn"]["sd"] > 0
        assert len(cell["runs"]) == 3
    assert loaded(*words)["cells"] == one["cells"]  # fewer seeds: the first of them
    assert loaded(*words[:-2], "--batch-size", "8")["folder"] != one["folder"]
    assert len(trained.asked) == 16


def test_a_lattice_that_was_stopped_goes_on(loaded, run_cli, trained):
    words = ("ablate", "simsiam", "--flip", "predictor,stop_gradient", *QUICK)
    trained.stopping = {"simsiam - predictor"}
    stopped = run_cli(*words, "--quiet")
    assert stopped.exit_code == 75
    assert stopped.stderr == "Stopped; what was trained is kept, and the same command goes on.\n"
    assert len(trained.asked) == 2
    trained.stopping = set()
    loaded(*words)
    assert [text for text, _ in trained.asked] == [
        "simsiam", "simsiam - stop_gradient", "simsiam - predictor", "simsiam - predictor - stop_gradient",
    ]  # fmt: skip


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(loaded, trained, monkeypatch):
    words = ("ablate", "simsiam", "--flip", "predictor", *QUICK)
    resumed = []

    def stop(words, *, reporter, **options):
        run = Path(options["out"]) / "stopped"
        run.mkdir()
        (run / "last.pt").touch()
        reporter.begin(None, run, 0)
        raise KeyboardInterrupt

    def resume(run, reporter):
        resumed.append(run)
        reporter.begin(None, run, 1)
        return trained(["simsiam"], reporter=Reporter(), out=run.parent, seed=0)

    monkeypatch.setattr("sslzoo.studies.cells.train", stop)
    monkeypatch.setattr("sslzoo.studies.cells.resume", resume)
    with pytest.raises(AssertionError):
        loaded(*words)
    monkeypatch.setattr("sslzoo.studies.cells.train", trained)
    found = loaded(*words)
    assert resumed == [Path(found["folder"]) / "runs" / "stopped"]
    assert found["cells"][0]["run"] == str(resumed[0])


def test_a_run_that_diverges_is_a_result(loaded, run_cli, trained):
    words = ("ablate", "simsiam", "--flip", "predictor", *QUICK, "--seeds", "2")
    trained.diverging = {"simsiam - predictor"}
    base, gone = loaded(*words)["cells"]
    assert (base["diverged"], base["knn"]["n"]) == (0, 2)
    assert (gone["diverged"], gone["verdict"], gone["knn"], gone["loss"]) == (2, "diverged", None, None)
    assert Path(gone["run"]).is_dir()
    assert "diverged" in run_cli(*words).stdout
    assert len(trained.asked) == 4
    trained.diverging = set()
    assert loaded(*words[:-1], "3")["cells"][1]["diverged"] == 2  # of three
    assert loaded(*words[:-1], "3")["cells"][1]["verdict"] == "healthy"


def test_other_errors_end_the_command(run_cli, trained, monkeypatch):
    def fail(*_, **__):
        raise UserError("There is no room; make some.")

    monkeypatch.setattr("sslzoo.studies.cells.train", fail)
    result = run_cli("ablate", "simsiam", "--flip", "predictor", *QUICK, "--quiet")
    assert (result.exit_code, result.stderr) == (2, "Error: There is no room; make some.\n")


def test_data_without_labels_has_no_knn(loaded, run_cli, trained, monkeypatch):
    monkeypatch.setattr(trained.__class__, "__call__", without_labels(trained.__class__.__call__))
    found = loaded("ablate", "simsiam", "--flip", "predictor,stop_gradient,momentum", *QUICK)
    assert all(cell["knn"] is None and cell["random_knn"] is None for cell in found["cells"])
    assert {cell["verdict"] for cell in found["cells"]} == {"collapsed", "partial", "healthy", None}
    assert found["scoreboard"] is None


def test_pictures_without_labels_show_the_rank(loaded, trained, monkeypatch):
    monkeypatch.setattr(trained.__class__, "__call__", without_labels(trained.__class__.__call__))
    found = loaded("ablate", "simsiam", "--flip", "predictor,stop_gradient", *QUICK)
    table = Table.from_json(found)
    left, right = bars(table).axes[0], scatter(table).axes[0]
    ranks = [cell["rank"] for cell in found["cells"]]
    assert [bar.get_width() for bar in left.patches] == ranks == [2, 4, 6, 8]
    assert [tuple(dot.get_offsets()[0]) for dot in right.collections] == [
        (cell["std"], cell["rank"]) for cell in found["cells"]
    ]
    assert left.get_xlabel() == right.get_ylabel() == "effective rank"


def test_a_curve_of_one_epoch_has_one_tick(loaded, trained):
    axis = curves(Table.from_json(loaded("ablate", "simsiam", "--flip", "predictor", *QUICK))).axes[0]
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]


def without_labels(call):
    def made(self, words, *, reporter, **options):
        return replace(call(self, words, reporter=reporter, **options), knn=None, raw_knn=None, random_knn=None)

    return made


@pytest.mark.parametrize(
    "flips",
    [
        "predictor",
        "predictor,stop_gradient,momentum,negatives",
        "predictor,stop_gradient,target=shared|momentum|snapshot,negatives,batchnorm=none|hidden",
    ],
)
def test_tables_and_pictures_of_every_size(loaded, run_cli, trained, flips):
    found = loaded("ablate", "simsiam", "--flip", flips, *QUICK)
    folder = Path(found["folder"])
    lines = (folder / "table.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == len(found["cells"]) + 2
    assert any("digits, 64 images of 32 px, 1 epoch, batch 16, small, 1 seed" in line for line in lines)
    assert (folder / "table.csv").read_text().count("\n") == len(found["cells"]) + 1
    assert matplotlib.image.imread(folder / "lattice.png").std() > 0.05


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("ablate", "Name a method"),
        ("ablate simsiam", "Name what to flip"),
        ("ablate simsaim --flip predictor", "did you mean 'simsiam'"),
        ("ablate simsiam --flip predicter", "did you mean 'predictor'"),
        ("ablate simsiam --flip target=", "two or more different values"),
        ("ablate simsiam --flip epochs=1|2 --epochs 1", "epochs is 1 for the whole table, and cells set it too"),
        ("ablate simsiam batch_size=8 --flip predictor --batch-size 16", "batch_size is 16 for the whole table"),
        ("ablate simsiam --flip predictor --seeds 0", "--seeds cannot be 0"),
        ("ablate simsiam --flip predictor --epochs 0", "at least 1"),
        ("ablate simsiam --flip predictor --data nowhere", "no data 'nowhere'"),
        ("ablate simsiam --flip batch_size=65|66 --limit 64", "A batch of 65 is larger than the 64 training images"),
        ("ablate simsiam --flip predictor --limit 32 --batch-size 64", "larger than the 32 training images"),
        ("ablate simsiam --flip predictor --limit 64 --batch-size 16 --out file", "give --out another folder"),
    ],
)
def test_bad_input_is_one_sentence(bad_input, tmp_path, words, part):
    (tmp_path / "file").touch()
    bad_input(part, *words.split())
    assert os.listdir(tmp_path) == ["file"]


def test_a_broken_table_is_refused(loaded, run_cli, trained):
    words = ("ablate", "simsiam", "--flip", "predictor", *QUICK)
    folder = Path(loaded(*words)["folder"])
    for text in (
        '{"ended": 3}',
        "[]",
        '{"ended": [1], "begun": {}}',
        '{"ended": [{}], "begun": {}}',
        '{"ended": [], "b',
    ):
        (folder / "cells.json").write_text(text)
        result = run_cli(*words)
        assert result.exit_code == 2
        assert "cells.json is broken" in result.stderr


# ---- numbers


@pytest.mark.parametrize(
    ("std", "rank", "dim", "word"),
    [
        (0.19, 60, 128, "collapsed"),
        (0.9, 5.1, 2048, "collapsed"),
        (0.9, 5.2, 2048, "partial"),
        (0.21, 60, 128, "partial"),
        (0.49, 60, 128, "partial"),
        (0.9, 12.7, 128, "partial"),
        (0.9, 12.8, 128, "healthy"),
        (0.9, 1.6, 16, "healthy"),  # a small dimension bounds the rank
        (math.nan, math.nan, 128, "collapsed"),
    ],
)
def test_verdicts(std, rank, dim, word):
    assert verdict(std, rank, largest_rank(dim, 64)) == word


def test_ranks_and_spearman():
    assert list(ranks([10, 30, 20])) == [1, 3, 2]
    assert list(ranks([1, 2, 2, 3, 2])) == [1, 3, 3, 5, 3]
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 6 * 4 / (5 * 24))  # the formula without ties
    # with ties by hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4 give 4.5 / sqrt(4.5 x 5)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_published_numbers_are_led_by_a_number():
    texts = ["67.7 ± 0.1", "0.1", ".01", "70.9 (72.7 tuned)", "NaN", "unstable", "", None, "-3"]
    assert [published_number(text) for text in texts] == [67.7, 0.1, 0.01, 70.9, None, None, None, None, -3]


def cell(knn, std=0.5, published=None, **scores):
    knn = None if knn is None else Spread(knn, None, 1)
    return Result(
        label="", published=published, expression="", switches={}, combinations=(), refused=None, knn=knn,
        random_knn=None, raw_knn=None, std=std, rank=3.0, loss=-1.0, scores=scores, guards=[], verdict=None,
        diverged=0, seconds=None, run=str(id(scores)), runs=[],
    )  # fmt: skip


def test_order_and_scoreboard():
    rows = [cell(0.1, 0.1, "0.1", a=4.0), cell(0.3, 0.2, "66 ± 1", a=3.0)]
    rows += [cell(0.2, 0.3, "67", a=2.0), cell(0.9, 0.4, "NaN", a=1.0)]
    assert order(rows) == Order(pytest.approx(0.5), 3)
    assert order(rows[:2]) is None
    board = scoreboard([*rows, cell(None)])
    assert board == Scoreboard(4, {"std": pytest.approx(0.8), "rank": None, "-loss": None, "a": pytest.approx(-0.8)})
    assert scoreboard(rows[:3]) is None


def test_a_cell_that_does_not_fit_the_images_is_refused_and_the_others_are_trained(loaded, trained):
    """Whitening, clusters and batches are looked at in one place, for a run and for the cells of a table."""
    found = loaded("ablate", "simsiam", "--flip", "training.batch_size=16|500", "--limit", "64", "--epochs", "1")
    assert [cell["refused"] is None for cell in found["cells"]] == [True, False]
    assert "A batch of 500 is larger than the 64 training images" in found["cells"][1]["refused"]
    assert len(trained.asked) == 1


def test_a_cell_of_an_unknown_backbone_is_refused_and_the_others_are_trained(loaded, trained):
    found = loaded("ablate", "simsiam", "--flip", "backbone=small|resnet19", *QUICK)
    assert [cell["refused"] is None for cell in found["cells"]] == [True, False]
    assert "timm has no model 'resnet19' (did you mean" in found["cells"][1]["refused"]
    assert trained.asked == [("simsiam backbone=small", 0)]


def test_the_command_of_a_table_can_be_typed_again(loaded, trained):
    words = ("ablate", "simsiam lr=0.1", "--flip", "target=shared|momentum", "--out", "my tables", *QUICK)
    found = loaded(*words)
    _, *typed = shlex.split(found["command"])
    assert loaded(*typed)["cells"] == found["cells"]
    assert len(trained.asked) == 2


def test_one_is_no_plural(run_cli, trained):
    trained.stopping = {"byol - momentum"}
    run_cli("ablate", "byol", "--flip", "momentum", *QUICK)
    trained.stopping = set()
    assert "1 run to do" in run_cli("ablate", "byol", "--flip", "momentum", *QUICK).stdout


def test_the_protocol_says_what_varies(loaded, trained):
    found = loaded("ablate", "simsiam", "--flip", "epochs=1|2,batch_size=8|16", "--limit", "64")
    assert (found["epochs"], found["batch_size"], found["backbone"]) == (None, None, "small")
    assert "64 images of 32 px, epochs vary, batch varies, small" in (Path(found["folder"]) / "table.md").read_text()
    table = Table.from_json(loaded("ablate", "simsiam", "--flip", "predictor", *QUICK))
    assert "1 epoch, batch 16" in protocol(table.head)
