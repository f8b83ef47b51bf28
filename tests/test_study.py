"""Studies: every shipped file, files read strictly, reduced scales said so, and the published numbers beside."""

import json
import os
from pathlib import Path

import matplotlib.image
import pytest

from sslzoo.data.sets import KNOWN
from sslzoo.recipes.algebra import parse, resolve
from sslzoo.studies.study import STUDIES, find, listed, names, read
from sslzoo.studies.summary import published_number

QUICK = ("--limit", "64", "--epochs", "1", "--batch-size", "16")
MINE = """
title = "Mine"
source = "Table 9"
paper = "https://arxiv.org/abs/2011.10566"
question = "Is it so?"
data = "digits"
epochs = 8
seeds = 1
"""
FOUR = [
    ("with", "simsiam", "67.7 ± 0.1"), ("without", "simsiam - stop_gradient", "0.1"),
    ("momentum", "byol", "70"), ("negatives", "simclr", ""),
]  # fmt: skip
VARIANTS = "".join(f'[[variants]]\nlabel = "{a}"\nexpression = "{b}"\npublished = "{c}"\n' for a, b, c in FOUR)
SWAV = '[[variants]]\nlabel = "swav"\nexpression = "swav"\n'


@pytest.fixture
def mine(tmp_path):
    """Write a study file."""

    def write(text):
        (tmp_path / "mine.toml").write_text(text)
        return "mine.toml"

    return write


# ---- the shipped ones


@pytest.mark.parametrize("name", names())
def test_a_shipped_study_parses_and_resolves(name):
    study = find(name)
    cells = study.cells()
    assert len(cells) >= 2
    for cell in cells:
        if cell.refused is None:
            assert resolve(parse(cell.text)).switches == cell.switches
    assert study.data in KNOWN
    assert study.paper.startswith("https://arxiv.org/abs/")
    assert study.question.endswith("?")
    assert len({cell.label or cell.text for cell in cells}) == len(cells)
    assert all(
        published_number(cell.published) is not None or cell.published in ("", "NaN", "unstable") for cell in cells
    )
    first = (STUDIES / f"{name}.toml").read_text().splitlines()[0]
    assert first.startswith(("# Published: ", "# No published")), "says where the numbers are from"


def test_the_list_says_what_a_study_costs(loaded_list, run_cli):
    rows = {row["name"]: row for row in loaded_list["studies"]}
    assert list(rows) == names() == sorted(names())
    assert len(rows) == 15
    keys = ("name", "title", "source", "question", "data", "epochs", "seeds", "cells", "minutes")
    assert all(set(row) == set(keys) for row in rows.values())
    one = rows["stop_gradient"]
    assert (one["cells"], one["seeds"], one["epochs"]) == (4, 3, 8)
    assert one["minutes"] == pytest.approx(4 * 3 * 8 * 5748 / 1000 / 60)
    assert rows["scoreboard"]["cells"] == 12  # of 16; 4 are refused
    assert rows["byol_lattice"]["cells"] == 12
    output = run_cli("study").stdout
    for part in ("Stop-gradient (SimSiam, Fig. 2)", "4 x 3 x 8", "9 min", "at 1,000 images/s"):
        assert part in output


@pytest.fixture
def loaded_list(run_cli):
    result = run_cli("study", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_wheel_carries_the_studies():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '"benchmarks/studies" = "sslzoo/_files/studies"' in text
    assert len(listed()) == len(list(STUDIES.glob("*.toml")))


# ---- running one


def test_a_real_study_with_curves(loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = loaded("study", "stop-gradient", "--limit", "64", "--epochs", "2", "--batch-size", "16", "--seeds", "1")
    assert found["study"] == "stop_gradient"
    assert found["note"] == "Reduced: 2 epochs instead of 8, 1 seed instead of 3, 64 images (--limit)."
    assert [cell["label"] for cell in found["cells"]] == [
        "with, no output BN",
        "without, no output BN",
        "with",
        "without",
    ]
    assert [cell["published"] for cell in found["cells"]] == [None, None, "67.7 ± 0.1", "0.1"]
    assert found["order"] is None  # two published numbers are no order
    assert found["scoreboard"]["n"] == 4
    folder = Path(found["folder"])
    assert set(os.listdir(folder)) == {"cells.json", "table.md", "table.csv", "bars.png", "curves.png", "runs", ".lock"}
    assert folder.name.startswith("study-stop_gradient-")
    for picture in ("bars.png", "curves.png"):
        assert matplotlib.image.imread(folder / picture).std() > 0.05
    page = (folder / "table.md").read_text()
    for part in ("# Stop-gradient (SimSiam, Fig. 2)", "67.7 ± 0.1", found["note"], found["question"], "torch "):
        assert part in page
    log = (Path(found["cells"][0]["run"]) / "log.csv").read_text().splitlines()
    assert all(line.split(",")[-1] for line in log)  # a look at kNN after each epoch


def test_the_order_of_the_paper_and_seeds(loaded, run_cli, trained, mine):
    name = mine(MINE + 'picture = "scatter"\n' + VARIANTS)
    found = loaded("study", name, *QUICK)
    assert trained.asked == [(expression, 0) for _, expression, _ in FOUR]
    assert found["order"] == {"spearman": pytest.approx(0.5), "n": 3}  # measured .1, .2, .3 for 67.7, .1, 70
    assert found["scoreboard"] == {"n": 4, "std": 1, "rank": 1, "-loss": 1, "alignment": -1}
    assert loaded("study", name, *QUICK) == found
    assert len(trained.asked) == 4
    assert loaded("study", name, *QUICK, "--seeds", "2")["note"].startswith("Reduced: 1 epoch instead of 8, 2 seeds")
    assert [seed for _, seed in trained.asked] == [0] * 4 + [1] * 4
    output = run_cli("study", name, *QUICK).stdout
    assert "67.7 ± 0.1" in output
    assert "scatter.png" in output
    assert "Spearman" not in output  # over so few cells it would be no finding
    assert loaded("study", name)["note"] is None


def test_a_study_grows_without_running_anything_twice(loaded, trained, mine):
    loaded("study", mine(MINE + VARIANTS))
    loaded("study", mine(MINE + VARIANTS + SWAV))
    assert len(trained.asked) == 5
    same = SWAV.replace('"swav"', '"same"', 1).replace('"swav"', '"byol - momentum + momentum"')
    again = loaded("study", mine(MINE + VARIANTS + same))
    assert len(trained.asked) == 5
    assert again["cells"][-1]["run"] == again["cells"][2]["run"]


def test_a_lattice_as_a_study_and_words_for_all(loaded, trained, mine):
    found = loaded(
        "study", mine(MINE + 'base = "simsiam"\nflip = "predictor,stop_gradient"\nwords = "batchnorm=hidden"\n')
    )
    assert [cell["expression"] for cell in found["cells"]] == [
        "simsiam batchnorm=hidden", "simsiam - stop_gradient batchnorm=hidden", "simsiam - predictor batchnorm=hidden",
        "simsiam - predictor - stop_gradient batchnorm=hidden",
    ]  # fmt: skip
    assert found["flip"] == {"predictor": ["mlp", "none"], "stop_gradient": [True, False]}
    assert "lattice.png" in os.listdir(found["folder"])
    found = loaded("study", mine(MINE + 'words = "optimizer.lr=0.1"\nbatch_size = 32\n' + VARIANTS))
    assert all(text.endswith(" optimizer.lr=0.1") for text, _ in trained.asked[4:])
    assert found["batch_size"] == 32
    assert loaded("study", mine(MINE + "batch_size = 32\n" + VARIANTS), "--batch-size", "64")["note"] == (
        "Changed: batch_size 64 instead of 32."
    )


# ---- what a file cannot say


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "lacks title, source"),
        (MINE, "either [[variants]], or base and flip"),
        (MINE + 'base = "simsiam"', "either [[variants]], or base and flip"),
        (MINE + 'base = "simsiam"\nflip = "predictor"\n' + VARIANTS, "either [[variants]], or base and flip"),
        (MINE + "variants = []", "a list that is not empty"),
        (MINE + "seed = 3\n" + VARIANTS, "did you mean 'seeds'"),
        (MINE.replace("epochs = 8", 'epochs = "8"') + VARIANTS, "epochs cannot be '8'; it is a whole number"),
        (MINE.replace("seeds = 1", "seeds = 0") + VARIANTS, "seeds cannot be 0; it is at least 1"),
        (MINE + 'picture = "curve"\n' + VARIANTS, "did you mean 'curves'"),
        (MINE + '[[variants]]\nlabel = "a"', "lacks expression"),
        (MINE + VARIANTS + 'expresion = "simsiam"', "did you mean 'expression'"),
        (MINE + VARIANTS.replace('"70"', "70"), "published cannot be 70; it is text"),
        (MINE + VARIANTS.replace('"byol"', '"byl"'), "no method 'byl'"),
        (MINE + 'base = "simsiam"\nflip = "predicter"', "did you mean 'predictor'"),
        (MINE + VARIANTS.replace('"byol"', '"byol epochs=3"'), "epochs is 8 for the whole table"),
        (MINE + 'variants = ["simsiam"]', "variants cannot be ['simsiam']; it is a list of tables"),
        (MINE + 'base = "simsiam"\nflip = [1]', "flip cannot be [1]; it is a list of texts"),
        (MINE + 'base = ""\nflip = "predictor"', "mine.toml: An expression starts with a method's name"),
        (MINE + 'picture = "lattice"\n' + VARIANTS, "A lattice is the picture of base and flip"),
        (MINE + VARIANTS.replace('"byol"', '"byol + x"'), "mine.toml, 'momentum': There is no switch or value 'x'"),
        ("title = ", "not valid TOML"),
    ],
)
def test_a_study_file_is_read_strictly(bad_input, mine, text, part):
    bad_input(part, "study", mine(text))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("study stop_gradeint", "did you mean 'stop_gradient'"),
        ("study nothing.toml", "no file nothing.toml"),
        ("study folder.toml", "cannot be read"),
        ("study batch_size --batch-size 32", "batch_size is 32 for the whole table, and cells set it too"),
        ("study stop_gradient --seeds 0", "--seeds cannot be 0"),
        ("study stop_gradient --epochs 0", "--epochs cannot be 0"),
        ("study stop_gradient --data nowhere", "no data 'nowhere'"),
        ("study stop_gradient --limit 64 --batch-size 16 --out file", "give --out another folder"),
    ],
)
def test_bad_input_is_one_sentence(bad_input, tmp_path, words, part):
    (tmp_path / "file").touch()
    (tmp_path / "folder.toml").mkdir()
    bad_input(part, *words.split())
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.toml"]


def test_a_label_is_no_formula(loaded, trained, mine):
    text = MINE.replace("Mine", "$^^ $") + 'picture = "curves"\n' + VARIANTS.replace("without", "$5 $^^")
    found = loaded("study", mine(text), *QUICK)
    assert {"bars.png", "curves.png"} <= set(os.listdir(found["folder"]))


def test_a_base_that_no_cell_uses_may_be_what_cannot_train(loaded, trained, mine):
    study = 'base = "simclr + momentum batch_size=500"\nflip = ["batch_size=8|16", "stop_gradient"]\n'
    found = loaded("study", mine(MINE + study), "--limit", "64")
    assert [cell["refused"] is None for cell in found["cells"]] == [False, True, True]
    words = ("simclr + momentum batch_size=500", "--flip", "batch_size=8|16,stop_gradient", "--limit", "64")
    again = loaded("ablate", *words)
    assert [cell["expression"] for cell in again["cells"]] == [cell["expression"] for cell in found["cells"]]


def test_a_study_from_python_is_plain_data():
    content = {"title": "t", "source": "s", "paper": "p", "question": "q?", "data": "digits", "epochs": 1, "seeds": 1}
    study = read("mine", {**content, "variants": [{"label": "a", "expression": "simsiam"}]})
    assert [cell.label for cell in study.cells()] == ["a"]


def test_a_variant_of_an_unknown_backbone_is_refused_before_anything_is_trained(bad_input, mine):
    bad_input("no model 'resnet19'", "study", mine(MINE + VARIANTS.replace('"byol"', '"byol backbone=resnet19"')))
