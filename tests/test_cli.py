"""The commands as a person types them: output, errors, exit codes."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sslzoo import UserError
from sslzoo.cli import main, part_signs
from sslzoo.recipes.recipe import METHODS, method_names
from sslzoo.show.plain import duration
from sslzoo.tools.files import write

Invoke = Callable[..., Result]
QUICK = ("--limit", "64", "--epochs", "1", "--batch-size", "16")


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, list(words))

    return run


def refused(result: Result, *parts: str) -> None:
    """One sentence on standard error, exit code 2, no traceback, nothing on standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip().endswith((".", "?"))  # click asks: did you mean?
    for part in parts:
        assert part in result.stderr


def loaded(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return dict(json.loads(result.stdout))


def save_npz(path: Path, n: int = 40, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays = {f"{s}_images": rng.integers(0, 255, (n, 16, 16, 3), dtype=np.uint8) for s in ("train", "test")}
    arrays |= {f"{s}_labels": np.arange(n)[:, None] % 3 for s in ("train", "test")}
    np.savez(path, **{**arrays, **more})
    return path


# ---- methods


def test_methods_lists_every_method(invoke: Invoke) -> None:
    for words in (["methods"], ["methods", "list"]):
        output = invoke(*words).stdout
        assert all(name in output for name in method_names())
    rows = loaded(invoke("methods", "list", "--json"))["methods"]
    assert [row["name"] for row in rows] == list(method_names())
    assert all(len(row["switches"]) == 10 for row in rows)


def test_show_as_json(invoke: Invoke) -> None:
    found = loaded(invoke("methods", "show", "byol", "-momentum", "tau=0.9", "+momentum", "--json"))
    assert {"expression", "method", "switches", "knobs", "guards", "tables"} <= set(found)
    assert found["expression"] == "byol - momentum tau=0.9 + momentum"
    assert found["method"] == "byol"
    assert found["knobs"]["tau"] == found["tables"]["target"]["tau"] == 0.9
    assert found["tables"]["views"]["second"]["solarize"] == 0.2
    assert found["guards"] == ["predictor with stop-gradient"]
    assert (
        loaded(invoke("methods", "show", "swav", "--scale", "large", "--json"))["tables"]["views"]["local_crops"] == 6
    )
    assert (
        loaded(invoke("methods", "show", "swav", "--data", "digits", "--json"))["tables"]["training"]["backbone"]
        == "small"
    )
    assert loaded(invoke("methods", "show", "simsiam - stop_gradient", "--json"))["method"] is None


def test_show_says_whose_switches_they_are_and_what_went(invoke: Invoke) -> None:
    assert "these are simsiam's switches" in invoke("methods", "show", "byol", "-", "momentum").stdout
    output = invoke("methods", "show", "simclr", "-negatives", "+predictor", "+stop_gradient").stdout
    assert "no longer used: loss.temperature" in output
    assert "(was batch)" in output
    assert "nothing here is known to prevent collapse" in invoke("methods", "show", "simsiam", "-predictor").stdout


def test_diff(invoke: Invoke) -> None:
    found = loaded(invoke("methods", "diff", "byol - momentum like=simsiam", "simsiam", "--json"))
    assert found["switches"] == {}
    assert found["knobs"] == {}
    assert loaded(invoke("methods", "diff", "byol", "simsiam", "--json"))["switches"] == {
        "target": ["momentum", "shared"]
    }
    assert "are the same" in invoke("methods", "diff", "simsiam", "simsiam").stdout


def test_a_copied_method_is_a_method(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("methods", "copy", "simsiam", "mine.toml").exit_code == 0
    assert "hub" not in Path("mine.toml").read_text()  # the map has one, and this is another method
    assert loaded(invoke("methods", "show", "mine.toml", "+momentum", "--json"))["method"] == "byol"
    assert invoke("methods", "copy", "BYOL", "other.toml").exit_code == 0
    assert Path("other.toml").read_text() == (METHODS / "byol.toml").read_text()
    refused(invoke("methods", "copy", "SimSiam", "missing/x.toml"), "folder that exists")
    os.remove("other.toml")
    refused(invoke("methods", "copy", "simsiam", "mine.toml"), "is there already")
    refused(invoke("methods", "copy", "simsaim", "other.toml"), "did you mean 'simsiam'")
    refused(invoke("methods", "copy", "simsiam", "missing/mine.toml"), "folder that exists")
    assert os.listdir(tmp_path) == ["mine.toml"]


# ---- train, runs, knn, embed


def test_the_main_job_on_a_small_scale(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("train", "byol", "-momentum", *QUICK, "--json", "--quiet")
    found = loaded(result)
    keys = "run expression method switches data epochs loss std rank knn raw_knn random_knn colour_knn leaked notes"
    more = "seconds images_per_second alignment uniformity code_entropy code_usage advice"
    assert list(found) == [*keys.split(), *more.split()]
    assert result.stderr == ""
    assert (found["method"], found["data"], found["epochs"]) == ("simsiam", "digits", 1)
    assert set(found["knn"]) == {"k1", "k5", "k20", "k200"}
    assert found["run"] == os.path.join("runs", "byol-no-momentum-digits-s0-1")
    files = {"recipe.toml", "run.json", "log.csv", "last.pt", "encoder.safetensors", "knn.json", "last-1.pt"}
    assert set(os.listdir(found["run"])) == files

    rows = loaded(invoke("knn", found["run"], "random", "raw", "--limit", "64", "--json"))
    assert rows["data"] == "digits"
    assert rows["protocol"]["temperature"] == 0.07
    by_source = {row["source"]: row for row in rows["rows"]}
    assert by_source[found["run"]]["knn"]["k20"] == pytest.approx(found["knn"]["k20"])
    assert by_source["raw"]["knn"]["k20"] == pytest.approx(found["raw_knn"])
    assert by_source["random"]["knn"]["k20"] == pytest.approx(found["random_knn"])
    assert by_source["raw"]["dimension"] == 3 * 32 * 32

    assert loaded(invoke("embed", found["run"], "--limit", "64", "--out", "f.npz", "--json"))["arrays"][
        "train_features"
    ] == [64, 2048]
    again = loaded(invoke("knn", "f.npz", "--json"))["rows"][0]
    assert again["knn"] == by_source[found["run"]]["knn"]
    assert "f.npz" in invoke("knn", "f.npz").stdout
    listed = loaded(invoke("runs", "--json"))["runs"]
    assert [(row["run"], row["done"], row["knn"]) for row in listed] == [(found["run"], 1, found["knn"]["k20"])]
    assert "byol-no-momentum" in invoke("runs").stdout


def test_what_a_person_reads(invoke: Invoke) -> None:
    output = invoke("train", "simsiam", "-stop_gradient", *QUICK).stdout
    for part in (
        "simsiam - stop_gradient: no shipped method has these switches",
        "Warning: nothing here is known to prevent collapse",
        "1 epoch (--epochs), batch 16",
        "epoch 1/1  loss",
        "untrained backbone",
        "raw pixels",
        "std x sqrt(d)",
        "next: sslzoo knn runs/",
    ):
        assert part in output


def test_a_dry_run_prints_origins_and_writes_nothing(invoke: Invoke, tmp_path: Path) -> None:
    found = loaded(
        invoke("train", "simclr", "temperature=0.3", "--epochs", "7", "--batch-size", "32", "--dry-run", "--json")
    )
    assert found["origins"]["loss.temperature"] == "expression"
    assert found["origins"]["training.epochs"] == "--epochs"
    assert found["origins"]["views.first.flip"] == "data digits"
    assert found["learning_rate"] == pytest.approx(found["tables"]["optimizer"]["lr"] * 32 / 256)
    assert "effective learning rate" in invoke("train", "simclr", "--dry-run").stdout
    assert os.listdir(tmp_path) == []


def test_own_data_without_configuration(invoke: Invoke, tmp_path: Path) -> None:
    save_npz(tmp_path / "mine.npz")
    found = loaded(invoke("train", "simclr", "--data", "mine.npz", "--epochs", "2", "--json"))
    assert found["data"] == "mine"
    again = loaded(invoke("knn", found["run"], "--json"))["rows"][0]
    assert again["knn"]["k20"] == pytest.approx(found["knn"]["k20"])
    for i in range(12):
        Image.new("RGB", (20 + i, 24), (i * 20, 90, 5)).save(tmp_path / f"{i}.png")
    typed = invoke("train", "simsiam", "--data", ".", "--epochs", "1", "--out", "my runs").stdout.splitlines()[-1]
    assert typed.startswith("next: sslzoo embed 'my runs/simsiam-")
    assert invoke(*shlex.split(typed)[2:]).exit_code == 0
    bare = invoke("train", "simsiam", "--data", ".", "--epochs", "1", "--json")
    assert loaded(bare)["knn"] is None
    assert "no labels" in bare.stderr
    looked_over = invoke("knn", loaded(bare)["run"])
    assert looked_over.exit_code == 2
    assert "rank" in looked_over.stdout
    assert "give data with labels" in looked_over.stderr


def test_init_starts_from_the_weights_of_a_run(invoke: Invoke, tmp_path: Path) -> None:
    first = loaded(invoke("train", "simsiam", *QUICK, "--json"))
    second = loaded(invoke("train", "simsiam", *QUICK, "--init", first["run"], "--json"))
    assert second["random_knn"] == pytest.approx(first["knn"]["k20"])
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    refused(invoke("train", "simsiam", *QUICK, "--init", "bad.safetensors"), "cannot be read as weights")
    refused(invoke("train", "simsiam", *QUICK, "--init", "missing.pt"), "no weights at missing.pt")
    refused(invoke("train", "simsiam", *QUICK, "--backbone", "resnet18", "--init", first["run"]), "does not fit")
    larger = [*QUICK, "--image-size", "64"]  # whose first convolution has a stride
    refused(invoke("train", "simsiam", *larger, "--init", first["run"]), "give the --image-size that it was trained")
    assert len(os.listdir("runs")) == 2


# ---- errors


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train", "Name a method"),
        ("train simsaim", "did you mean 'simsiam'"),
        ("train simsiam - momentum", "no momentum to remove"),
        ("train simsiam + negative", "did you mean 'negatives'"),
        ("train simsiam predictor=big", "predictor cannot be 'big'"),
        ("train simsiam tau=0.9", "would not be read"),
        ("train simsiam optimizer.learning_rate=1", "no knob"),
        ("train simsiam --epoch 3", "--epochs"),
        ("train simsiam --epochs three", "not a valid integer"),
        ("train simsiam --epochs 0", "at least 1"),
        ("train simsiam --batch-size 1", "--batch-size cannot be 1; it is at least 2"),
        ("train simsiam --limit 32 --batch-size 64", "larger than the 32 training images"),
        ("train simsiam --data nowhere", "no data 'nowhere'"),
        ("train simsiam --data cifar11", "did you mean 'cifar10'"),
        ("train simsiam --data nowhere.npz", "no file nowhere.npz"),
        ("train simsiam --data empty", "holds no images"),
        ("train simsiam --data corrupt", "0.png cannot be read as an image"),
        ("train simsiam --data text.npz", "not an .npz of plain arrays"),
        ("train simsiam --data other.npz", "no array 'train_images'"),
        ("train simsiam --device cuda", "no cuda on this machine"),
        ("train simsiam --device gpu", "auto, cuda, mps or cpu"),
        ("train simsiam --precision fp8", "auto, float32, bf16 or fp16"),
        ("train simsiam --eval train", "val or test"),
        ("train simsiam --seed -1", "at least 0"),
        ("train simsiam --seed 4294967296", "--seed cannot be 4294967296; it is at most 4294967295"),
        ("train simsiam --knn-every 0", "--knn-every cannot be 0; it is at least 1"),
        ("train instdisc bank_sample=15 positive_in_denominator=false", "set bank_sample to 16 or more, or 0 for all"),
        ("train simsiam --out=", "--out cannot be empty"),
        ("train simsiam predictor_hidden=0", "heads.predictor_hidden cannot be 0; it is from 1 to 32768"),
        ("train simsiam dim=10000000", "heads.dim cannot be 10000000; it is from 2 to 32768"),
        ("train simsiam hidden=10000000", "heads.hidden cannot be 10000000"),
        ("train moco_v2 queue_length=100000000", "memory.queue_length cannot be 100000000"),
        ("train swav prototypes=100000000", "clustering.prototypes cannot be 100000000"),
        ("train lejepa slices=100000000", "loss.slices cannot be 100000000"),
        ("train simsiam lr=1e308", "optimizer.lr cannot be 1e+308; it is from 0 to 1e+30"),
        ("train simsiam lr=inf", "optimizer.lr cannot be inf; it is from 0 to 1e+30"),
        ("train simsiam optimizer.name=adamw optimizer.momentum=1", "optimizer.momentum cannot be 1.0"),
        ("train simsiam loss_scale=inf", "loss.loss_scale cannot be inf; it is finite and at least 0"),
        ("train simsiam scale_max=0.5", "views.first.scale_min (0.6) is above views.first.scale_max (0.5)"),
        ("train simsiam --backbone resnet19", "did you mean 'resnet"),
        ("train simsiam --limit 64 --batch-size 16 --out text.npz", "--out"),
        ("train simsiam --limit 64 --batch-size 16 --stop-after 0", "at least 1"),
        ("train --resume nowhere", "There is no run nowhere"),
        ("train --resume empty", "no run directory"),
        ("train simsiam --resume empty", "takes no expression"),
        ("knn", "Name at least one source"),
        ("knn nowhere", "no method 'nowhere'"),
        ("knn empty", "no run directory"),
        ("knn nowhere.npz", "no file nowhere.npz"),
        ("knn other.npz", "no name says which are the features"),
        ("knn raw -k 0", "at least 1"),
        ("knn raw --temperature 0", "at least 0.001"),
        ("knn raw --workers -1", "--workers cannot be -1; it is at least 0"),
        ("knn raw --image-size 0", "--image-size cannot be 0; it is at least 8"),
        ("knn random --seed 4294967296", "--seed cannot be"),
        ("embed raw --out f.npz --workers -1", "--workers cannot be -1"),
        ("embed raw --out f.npz --image-size -5", "--image-size cannot be -5"),
        ("knn timm:resnet19", "timm has no model 'resnet19'"),
        ("embed raw", "--out"),
        ("embed raw --out f.txt", "end in .npz"),
        ("embed raw --out missing/f.npz", "no folder missing"),
        ("methods show", "starts with a method's name"),
        ("methods show simsiam --scale medium", "medium"),
        ("methods show simsiam --scale small --data digits", "one of the two"),
        ("methods shwo", "No such command"),
        ("tarin simsiam", "No such command"),
    ],
)
def test_bad_input_is_one_sentence(invoke: Invoke, tmp_path: Path, words: str, part: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    before = sorted(path for path in tmp_path.rglob("*"))
    refused(invoke(*words.split()), part)
    assert sorted(path for path in tmp_path.rglob("*")) == before


PLACES = [
    "train PATH", "train PATH.toml", "train simsiam PATH", "train simsiam like=PATH", "train simsiam --data PATH",
    "train simsiam --data PATH.npz", "train --resume PATH", "train simsiam --limit 64 --batch-size 16 --init PATH",
    "ablate PATH --flip predictor", "study PATH", "study PATH.toml", "knn PATH", "knn PATH.npz",
    "embed PATH --out f.npz", "methods show PATH", "methods diff PATH simsiam", "methods copy PATH mine.toml",
]  # fmt: skip


@pytest.mark.parametrize("path", ["a" * 300, f"{'a' * 300}/b", "~nobody-of-this-name"])
@pytest.mark.parametrize("words", PLACES)
def test_a_path_that_cannot_be_is_one_sentence(invoke: Invoke, tmp_path: Path, words: str, path: str) -> None:
    refused(invoke(*words.replace("PATH", path).split()))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", ["methods copy simsiam LONG.toml", "methods map --out LONG.svg"])
def test_a_name_that_is_too_long_to_write(invoke: Invoke, tmp_path: Path, words: str) -> None:
    refused(invoke(*words.replace("LONG", "a" * 300).split()), "cannot be written")
    refused(invoke(*words.replace("LONG", f"{'a' * 300}/b").split()), "folder")
    assert "There are no runs" in invoke("runs", "--out", "a" * 300).stdout
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / f"{'a' * 300}.npz", b"")
    assert os.listdir(tmp_path) == []


def test_pretrained_weights_that_are_not_there_are_named(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(invoke("knn", "timm:resnet18", "--data", "digits"), "weights of timm:resnet18", "once with a network")


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/self"), reason="needs a folder nobody can write")
def test_a_folder_that_cannot_be_written(invoke: Invoke) -> None:
    refused(invoke("train", "simsiam", *QUICK, "--out", "/proc/self/runs"), "cannot be written")


def test_resume_refuses_other_flags_and_foreign_checkpoints(invoke: Invoke, tmp_path: Path) -> None:
    run = loaded(
        invoke(
            "train", "simsiam", "--limit", "64", "--epochs", "2", "--batch-size", "16", "--stop-after", "1", "--json"
        )
    )
    assert run["epochs"] == 1
    refused(invoke("train", "--resume", run["run"], "--dry-run"), "--dry-run says what a new run would do")
    assert (tmp_path / run["run"] / "log.csv").read_text().count("\n") == 2  # nothing was trained
    refused(
        invoke("train", "--resume", run["run"], "--epochs", "5"),
        "has trained 1 of its 2 epochs; go on to its end first",
    )
    refused(invoke("train", "--resume", run["run"], "--seed", "5"), "--seed belongs to the run (0)")
    refused(invoke("train", "--resume", run["run"], "--minutes", "5"), "--minutes belongs to the run (none was given)")
    assert loaded(invoke("train", "--resume", run["run"], "--epochs", "2", "--json"))["epochs"] == 2
    (tmp_path / run["run"] / "last.pt").write_bytes(b"something else")
    refused(
        invoke("train", "--resume", run["run"]), "is cut off or no checkpoint", "last-1.pt' goes on from the one before"
    )
    (tmp_path / run["run"] / "last.pt").unlink()
    refused(invoke("train", "--resume", run["run"]), "holds no last.pt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{}"),
        ("run.json", "[1]"),
        ("run.json", '"options": {"data"'),
        ("run.json", {"options": {"data": "digits", "colour": "red"}}),
        ("run.json", {"options": {}}),
        ("run.json", {"epochs": "many"}),
        ("log.csv", b"\xff\xfe"),
        ("log.csv", "1,2\n3,4,5\n"),
        ("knn.json", "{"),
        ("knn.json", "[]"),
        ("knn.json", '{"knn": {"k20": "high"}}'),
        ("knn.json", '{"knn": 3}'),
    ],
)
def test_a_damaged_run_is_one_sentence(invoke: Invoke, tmp_path: Path, name: str, content: Any) -> None:
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    options = {"data": "digits"}
    about = {
        "expression": "simsiam",
        "method": "simsiam",
        "data": "digits",
        "images": 64,
        "image_size": 32,
        "epochs": 1,
    }
    about |= {"mean": [0.5] * 3, "std": [0.2] * 3, "batch_size": 16, "backbone": "small", "options": options}
    (run / "run.json").write_text(json.dumps(about))
    (run / "log.csv").write_text("epoch,loss,std,rank,lr,images_per_second\n1,0.5,1,9,0.1,100\n")
    (run / "knn.json").write_text('{"knn": {"k20": 0.5}}')
    rows = loaded(invoke("runs", "--json"))["runs"]
    assert [(row["done"], row["loss"], row["knn"]) for row in rows] == [(1, 0.5, 0.5)]
    if isinstance(content, dict):
        content = json.dumps({**about, **content})
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(invoke("runs"), name, "broken")
    if name == "run.json":
        refused(invoke("knn", "runs/one"), "run.json is missing, broken or of another version")
        refused(invoke("train", "--resume", "runs/one"), "run.json is missing, broken or of another version")


def test_different_runs_need_data_to_be_named(invoke: Invoke, tmp_path: Path) -> None:
    save_npz(tmp_path / "mine.npz")
    one = loaded(invoke("train", "simsiam", *QUICK, "--json"))["run"]
    two = loaded(invoke("train", "simsiam", "--data", "mine.npz", "--epochs", "1", "--batch-size", "8", "--json"))[
        "run"
    ]
    refused(invoke("knn", one, two), "different data", "--data")


def test_brackets_in_names_and_papers_are_no_markup(invoke: Invoke, tmp_path: Path) -> None:
    text = (METHODS / "simsiam.toml").read_text()
    Path("[x].toml").write_text(re.sub("paper = .*", 'paper = "[/x]"', text))
    assert "[/x]" in invoke("methods", "show", "[x].toml").stdout
    assert "[x].toml" in invoke("methods", "diff", "[x].toml", "byol").stdout
    save_npz(tmp_path / "[b]y.npz")
    words = ("train", "[x].toml", "--data", "[b]y.npz", "--epochs", "1", "--batch-size", "8", "--json")
    run = loaded(invoke(*words))["run"]
    assert "[b]y" in invoke("runs").stdout
    assert "kNN on [b]y" in invoke("knn", run).stdout


# ---- the shell


def run_module(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "sslzoo", *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize("words", [["methods"], ["methods", "list", "--json"], []])
def test_an_output_that_cannot_be_written_is_no_traceback(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        found = run_module(*words, stdout=full)
        assert run_module("methods", "--bogus", stdout=full).returncode == 2  # which writes nothing there
    assert found.returncode == 1
    assert found.stderr == "Error: The output cannot be written (No space left on device); give it another place.\n"
    read, write = os.pipe()
    os.close(read)
    found = run_module(*words, stdout=write)
    os.close(write)
    assert (found.returncode, found.stderr) == (1, "")
    found = run_module(*words, preexec_fn=lambda: os.close(1))
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("columns", ["80", "100", "120", "160"])
def test_a_narrow_terminal_cuts_no_name(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    run = loaded(invoke("train", "simclr -negatives +predictor +stop_gradient", *QUICK, "--json", "--quiet"))["run"]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", invoke(word).stdout) for word in ("runs", "methods")]
    assert not any("…" in text for text in plain)
    assert "".join(line.split(" ")[0] for line in plain[0].splitlines()[2:]) == run  # folded
    rows = plain[1].split("\n\n")[0].splitlines()
    assert max(map(len, rows)) <= int(columns)
    assert {row.split()[0] for row in rows} >= set(method_names())


def test_a_run_of_one_step_says_nothing_when_quiet(tmp_path: Path) -> None:
    words = ("--limit", "64", "--batch-size", "64", "--epochs", "1", "--quiet", "--out", str(tmp_path))
    found = run_module("train", "simsiam", *words, stdout=subprocess.PIPE)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_letters_that_the_output_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "ü.toml").write_text((METHODS / "simsiam.toml").read_text().replace("title = ", 'title = "ü±" #'))
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(METHODS.parent)}
    found = run_module("methods", "show", "ü.toml", env=env, cwd=tmp_path, stdout=subprocess.PIPE)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("?.toml")


def test_signs_are_parted_from_words_but_not_from_options() -> None:
    train = main.commands["train"].params
    args = ["simclr", "-negatives", "--out", "-odd", "+x", "-", "y", "--", "-z"]
    assert part_signs(args, train) == ["simclr", "-", "negatives", "--out", "-odd", "+x", "-", "y", "--", "-z"]


def test_completion(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_SSLZOO_COMPLETE" in invoke("completion", shell).stdout
    env = {**os.environ, "_SSLZOO_COMPLETE": "bash_complete", "COMP_WORDS": "sslzoo train sims", "COMP_CWORD": "2"}
    found = subprocess.run([sys.executable, "-m", "sslzoo"], env=env, capture_output=True, text=True, check=False)
    assert "simsiam" in found.stdout


def test_version_and_module() -> None:
    found = subprocess.run([sys.executable, "-m", "sslzoo", "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("sslzoo, version ")


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "0:05"), (65, "1:05"), (99.6, "1:40"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_a_duration_is_minutes_and_hours(seconds: float, words: str) -> None:
    assert duration(seconds) == words
