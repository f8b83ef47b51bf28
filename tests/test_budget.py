"""A budget of minutes: what fits is computed by hand here, speed is given, and who says epochs has the word."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_distributed import run_in, torchrun

import sslzoo
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.layers import Circumstances, resolve_here
from sslzoo.tools.errors import UserError
from sslzoo.training.budget import choice, timing
from sslzoo.training.budget.choice import ENOUGH, LADDER, choose
from sslzoo.training.budget.costs import START
from sslzoo.training.budget.timing import Speed, measure
from sslzoo.training.options import Options
from sslzoo.training.plan import Plan, prepare, surroundings
from sslzoo.training.run import planned, resume

SECOND = Speed(an_image=0, a_step=1.0, features=0, a_checkpoint=0, a_billion=0, width=10)  # a step takes one
TINY = "dim=8 hidden=8 predictor_hidden=8 batch_size=10"
WORDS = f"simsiam {TINY}"
ALONE = {"device": "cpu", "precision": "float32"}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A hundred labelled images of 12 px, ten steps an epoch, and ten to ask."""
    rng = np.random.default_rng(0)
    split = {
        f"{name}_images": rng.integers(0, 255, (n, 12, 12, 3), np.uint8) for name, n in (("train", 100), ("test", 10))
    }
    labels = {"train_labels": np.arange(100) % 2, "test_labels": np.arange(10) % 2}
    np.savez(tmp_path / "d.npz", **split, **labels)
    return str(tmp_path / "d.npz")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Forty photos of 100 x 80 px."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (80, 100, 3), np.uint8)).save(path)
    return str(tmp_path / "photos")


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Give speeds by view size, any other one otherwise; return the sizes that were asked for."""

    def give(usual: Speed = SECOND, **by_size: Speed) -> list[int]:
        asked: list[int] = []

        def measured(expression: Any, recipe: Any, options: Any, around: Any, size: int) -> Speed:
            asked.append(size)
            return by_size.get(f"px{size}", usual)

        monkeypatch.setattr(choice, "measure", measured)
        return asked

    return give


def plan(data: str, words: str = WORDS, **options: Any) -> Plan:
    return planned(words, Options(data=data, **{**ALONE, **options}))


# ---- what fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "epochs"), [(None, 24), (5, 24), (10, 48), (1, 5), (0.5, 2), (0.3, 1), (0.01, 1), (100, 512)]
)
def test_epochs_are_the_most_of_the_ladder_that_fit(
    minutes: float | None, epochs: int, data: str, speed: Callable[..., list[int]]
) -> None:
    """An epoch takes ten seconds: of 5 x 60 - 8 there is time for 29, and 24 is the next below."""
    speed()
    found = plan(data, minutes=minutes)
    assert found.recipe.training.epochs == epochs
    assert found.seconds == START + 10 * epochs
    assert found.recipe.origins["training.epochs"] == f"{minutes or 5:g} minute{'' if minutes == 1 else 's'}"


def test_all_that_takes_time_is_counted(data: str, speed: Callable[..., list[int]]) -> None:
    """By hand: 110 images and 110 for mean and deviation; 8 looks of 90 + 10 images, rounded up; twice 110."""
    found = Speed(an_image=0.01, a_step=0.1, features=0.02, a_checkpoint=0.5, a_billion=1e4, width=100)
    speed(found)
    epochs = plan(data).recipe.training.epochs
    looks = -(-epochs // -(-epochs // 8))
    search = 100 * 10 * 1e-5
    by_hand = START + 0.01 * (110 + 110) + epochs * (10 * 0.1 + 0.5) + looks * (0.02 * 110 + search * 100)
    by_hand += 2 * (0.02 * 110 + search * 100) + search * (3 * 12 * 12 + 8**3)  # raw pixels, and colours
    assert plan(data).seconds == pytest.approx(by_hand)
    assert by_hand <= 300
    less = plan(data, baselines=False, epochs=None).seconds
    assert less is not None
    assert less <= 300


def test_no_more_than_a_thousand_epochs(data: str, speed: Callable[..., list[int]]) -> None:
    speed(replace(SECOND, a_step=1e-4))
    found = plan(data)
    assert found.recipe.training.epochs == LADDER[-1] == 1000
    assert any("1,000 epochs are the most" in note for note in found.data.notes)


def test_one_epoch_that_does_not_fit_is_trained_and_said(data: str, speed: Callable[..., list[int]]) -> None:
    speed(replace(SECOND, a_step=100.0))
    found = plan(data)
    assert found.recipe.training.epochs == 1
    assert (
        "one epoch takes longer than 5 minutes (about 17): --limit N trains on fewer images, --minutes 17 allows it"
        in (found.data.notes)
    )
    assert plan(data, minutes=17).recipe.training.epochs == 1


# ---- view sizes ------------------------------------------------------------------------------------------------------


def test_photos_have_64_px_on_a_cpu(photos: str, speed: Callable[..., list[int]]) -> None:
    asked = speed()
    found = plan(photos)
    assert found.data.size == found.recipe.views.size == 64
    assert found.recipe.origins["views.size"] == "device cpu"
    assert asked == [64]
    assert any("views have 64 px" in note and "--image-size 80" in note for note in found.data.notes)
    assert plan(photos, epochs=3).data.size == 64  # also where nobody asks how long it takes
    assert plan(photos, image_size=80).data.size == 80
    assert plan(photos, f"{WORDS} size=40").data.size == 40
    both = plan(photos, f"{WORDS} size=40", image_size=48)  # an option has the last word, in what is written down too
    assert (both.data.size, both.recipe.views.size, both.recipe.origins["views.size"]) == (48, 48, "--image-size")


@pytest.mark.parametrize(
    ("a_step", "size", "sizes"),
    [
        ((1, 1, 1), 64, [64]),
        ((15, 2, 1), 48, [64, 48]),
        ((15, 15, 1), 32, [64, 48, 32]),
        ((15, 15, 15), 32, [64, 48, 32]),
    ],
)
def test_views_are_smaller_where_epochs_would_be_few(
    a_step: tuple[int, ...], size: int, sizes: list[int], photos: str, speed: Callable[..., list[int]]
) -> None:
    """36 images to train on, three steps an epoch: in 292 s there is time for 97 at a second a step, for 6 at 15."""
    by_size = {f"px{px}": replace(SECOND, a_step=float(s)) for px, s in zip((64, 48, 32), a_step, strict=True)}
    asked = speed(**by_size)
    found = plan(photos)
    assert (found.data.size, found.recipe.views.size) == (size, size)
    assert asked == sizes
    assert (found.recipe.training.epochs >= ENOUGH) == (a_step[len(sizes) - 1] < 15)
    if size < 64:
        assert found.recipe.origins["views.size"] == "5 minutes"
        assert any(f"views have {size} px: larger ones leave no time" in note for note in found.data.notes)


@pytest.mark.parametrize("given", [{"image_size": 80}, {"words": f"{WORDS} size=80"}])
def test_a_size_that_somebody_asks_for_stays(
    given: dict[str, Any], photos: str, speed: Callable[..., list[int]]
) -> None:
    asked = speed(replace(SECOND, a_step=50.0))
    assert plan(photos, **given).data.size == 80
    assert asked == [80]


# ---- who says how many epochs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options"),
    [(WORDS, {"epochs": 3}), (f"{WORDS} epochs=3", {}), (f"{WORDS} training.epochs=3", {}), ("FILE", {})],
)
def test_who_says_how_many_epochs_is_not_asked_how_long(
    words: str, options: dict[str, Any], data: str, tmp_path: Path, speed: Callable[..., list[int]]
) -> None:
    asked = speed()
    if words == "FILE":
        path = tmp_path / "mine.toml"
        path.write_text(
            '[switches]\npredictor = "mlp"\nstop_gradient = true\nnormalize = "l2"\n[training]\nepochs = 3\n'
        )
        words = f"{path} {TINY}"
    found = plan(data, words, **options)
    assert (found.recipe.training.epochs, found.seconds, asked) == (3, None, [])
    with pytest.raises(UserError, match=r"--minutes would decide how many epochs there are, and .* does; leave one"):
        plan(data, words, **options, minutes=5.0)


def test_a_named_set_keeps_its_plan_unless_minutes_are_given(speed: Callable[..., list[int]]) -> None:
    asked = speed()
    fixed = plan("digits", "simsiam")
    assert (fixed.recipe.training.epochs, fixed.seconds, asked) == (32, None, [])
    assert fixed == replace(prepare("simsiam", Options(**ALONE)), data=fixed.data, options=fixed.options)
    assert plan("digits", "simsiam", minutes=30.0).recipe.training.epochs == 20  # 89 steps an epoch
    assert asked == [32]


def test_minutes_on_a_gpu_are_thirty(data: str) -> None:
    around = replace(surroundings(Options(data=data, **ALONE)), device=torch.device("cuda"))
    assert choice.wanted(parse(WORDS), Options(), around) == 30
    assert choice.wanted(parse(WORDS), Options(minutes=2.0), around) == 2


# ---- one machine, one plan -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("later", "epochs"), [(0.8, 24), (1.25, 24), (0.5, 48), (2.0, 12)])
def test_a_plan_stays_while_the_machine_is_about_as_fast(
    later: float, epochs: int, data: str, speed: Callable[..., list[int]]
) -> None:
    """And what is said it takes is what it takes now."""
    speed()
    first = plan(data)
    assert first.recipe.training.epochs == 24
    speed(replace(SECOND, a_step=later))
    second = plan(data)
    assert second.recipe.training.epochs == epochs
    assert second.seconds == START + 10 * later * epochs


def test_images_that_were_read_before_change_no_plan(data: str, speed: Callable[..., list[int]]) -> None:
    """Read for the first time they take 220 of 292 seconds; a second run reads its copies, and is sooner done."""
    speed(replace(SECOND, an_image=1.0))
    first = plan(data)
    assert first.recipe.training.epochs == 6  # of 72 s
    speed()
    second = plan(data)
    assert second.recipe == first.recipe
    assert (first.seconds, second.seconds) == (START + 220 + 60, START + 60)


@pytest.mark.parametrize(("name", "held_up"), [("features", 1.0), ("a_checkpoint", 20.0), ("a_billion", 1e6)])
def test_what_was_held_up_for_a_moment_is_not_kept_for_good(
    name: str, held_up: float, data: str, speed: Callable[..., list[int]]
) -> None:
    """Steps are timed for seconds, these parts once: another program's moment would plan all runs that follow."""
    speed(replace(SECOND, **{name: held_up}))
    assert plan(data).recipe.training.epochs < 24
    speed(replace(SECOND, **{name: held_up / 3}))  # another load, and no moment
    assert plan(data).recipe.training.epochs < 24
    speed()
    assert plan(data).recipe.training.epochs == 24
    speed(replace(SECOND, **{name: held_up}))
    assert plan(data).recipe.training.epochs == 24  # now it is the later one that was held up


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a_step": 0}', '{"a_step": NaN}', "null"])
def test_what_was_kept_and_is_damaged_is_measured_anew(
    content: str, data: str, tmp_path: Path, speed: Callable[..., list[int]]
) -> None:
    speed()
    plan(data)
    (kept,) = (tmp_path / "cache" / "speeds").iterdir()
    before = kept.read_text()
    kept.write_text(content)
    assert plan(data).recipe.training.epochs == 24
    assert kept.read_text() == before


def test_another_recipe_size_or_folder_has_its_own(data: str, photos: str, tmp_path: Path, speed: Any) -> None:
    speed()
    for words, given, more in (
        (WORDS, data, {}),
        (f"{WORDS} optimizer.lr=0.1", data, {}),
        (WORDS, photos, {}),
        (WORDS, data, {"image_size": 10}),
    ):
        plan(given, words, **more)
    assert len([*(tmp_path / "cache" / "speeds").iterdir()]) == 4


# ---- what it comes to ------------------------------------------------------------------------------------------------


def test_the_same_numbers_given_by_hand_give_the_same_run(photos: str, tmp_path: Path, speed: Any) -> None:
    """And so does its recipe.toml, on any machine."""
    speed(replace(SECOND, a_step=40.0))
    given = {**ALONE, "data": photos, "baselines": False}
    first = sslzoo.train(WORDS, **given, out=str(tmp_path / "a"))
    about = json.loads((Path(first.run) / "run.json").read_text())
    assert (about["epochs"], about["image_size"], about["batch_size"]) == (first.epochs, 32, 10) == (2, 32, 10)
    recipe = (Path(first.run) / "recipe.toml").read_text()
    assert "size = 32\n" in recipe
    assert "epochs = 2\n" in recipe
    asked = speed()
    second = sslzoo.train(WORDS, **given, epochs=2, image_size=32, out=str(tmp_path / "b"))
    third = sslzoo.train(f"{first.run}/recipe.toml", **given, out=str(tmp_path / "c"))
    assert asked == []
    assert first.loss == second.loss == third.loss
    assert weights(first) == weights(second) == weights(third)


def weights(result: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in sslzoo.encoder(result.run).state_dict().items()}


def test_a_run_goes_on_as_it_began_on_a_machine_that_is_faster(photos: str, tmp_path: Path, speed: Any) -> None:
    speed(replace(SECOND, a_step=40.0))
    given = {**ALONE, "data": photos, "baselines": False}
    whole = sslzoo.train(WORDS, **given, out=str(tmp_path / "a"))
    part = sslzoo.train(WORDS, **given, out=str(tmp_path / "b"), stop_after=1)
    asked = speed(replace(SECOND, a_step=0.001))
    assert weights(resume(part.run)) == weights(whole)
    assert asked == []


def test_all_cells_of_an_ablation_share_one_plan(
    photos: str, run_cli: Any, tmp_path: Path, speed: Any, monkeypatch: Any
) -> None:
    """And the same command goes on with it, however fast the machine is then."""
    monkeypatch.chdir(tmp_path)
    asked = speed(replace(SECOND, a_step=40.0))
    words = (
        f"ablate simsiam dim=8 hidden=8 predictor_hidden=8 batch_size=10 --flip predictor --data {photos} --device cpu"
    )
    words += " --precision float32 --json --quiet"
    first = json.loads(run_cli(*words.split()).stdout)
    assert (first["epochs"], first["image_size"], asked) == (2, 32, [64, 48, 32])
    asked = speed(replace(SECOND, a_step=0.001))
    second = json.loads(run_cli(*words.split(), "--seeds", "2").stdout)
    assert (second["epochs"], second["image_size"], asked) == (2, 32, [])
    assert second["folder"] == first["folder"]
    assert [cell["runs"][0] for cell in second["cells"] if cell["runs"]] == [
        cell["runs"][0] for cell in first["cells"] if cell["runs"]
    ]


def test_what_flips_epochs_is_asked_nothing(
    data: str, run_cli: Any, tmp_path: Path, speed: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = speed()
    done = run_cli(*f"ablate {WORDS} --flip epochs=1|2 --data {data} --device cpu --quiet".split())
    assert done.exit_code == 0, done.output
    assert asked == []


def test_a_dry_run_says_how_long_it_takes(data: str, run_cli: Any, speed: Any) -> None:
    speed()
    words = ["train", *WORDS.split(), "--data", data, "--device", "cpu", "--dry-run"]
    assert "time: about 4:08" in run_cli(*words).stdout
    found = json.loads(run_cli(*words, "--json").stdout)
    assert found["seconds"] == 248
    assert found["origins"]["training.epochs"] == "5 minutes"
    assert json.loads(run_cli(*words, "--epochs", "3", "--json").stdout)["seconds"] is None


# ---- measuring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["auto", "never"])
@pytest.mark.parametrize(
    "words", [WORDS, "dino dim=8 hidden=8 prototypes=8 batch_size=10", "instdisc dim=8 batch_size=10"]
)
def test_measuring_leaves_no_trace(words: str, memory: str, photos: str, tmp_path: Path) -> None:
    """Random numbers, files and results are as if nothing had been measured."""
    options = Options(data=photos, memory=memory, baselines=False, **ALONE)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    found = choose(words, options, surroundings(options))
    assert torch.equal(torch.rand(3), expected)
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
    assert found is not None
    assert found.epochs in LADDER


def test_what_is_measured_is_what_takes_time(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that sleeps for a twentieth of a second takes at least that, and not much more."""
    import time

    from sslzoo.training.learner import Learner

    usual = Learner.step

    def slow(self: Learner, *given: Any) -> bool:
        time.sleep(0.05)
        return usual(self, *given)

    options = Options(data=data, **ALONE)
    around = surroundings(options)
    recipe = prepare(WORDS, replace(options, epochs=1)).recipe
    plain = measure(parse(WORDS), recipe, options, around, 12)
    monkeypatch.setattr(Learner, "step", slow)
    slowed = measure(parse(WORDS), recipe, options, around, 12)
    assert slowed.a_step >= 0.05
    assert slowed.a_step - plain.a_step < 0.15
    assert plain.width == 2048


@pytest.mark.parametrize(
    ("images", "processes", "batch"), [(60, 1, 15), (60, 2, 14), (60, 4, 12), (2, 2, 2), (3, 1, 2)]
)
def test_a_batch_that_nobody_asked_for_can_be_shared(images: int, processes: int, batch: int) -> None:
    """A quarter of the images, in equal parts."""
    here = Circumstances("mine", 32, images, "cpu", processes=processes)
    assert resolve_here(parse("simsiam"), here).training.batch_size == batch


def test_one_image_of_each_process_is_timed_as_two(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm of one row alone cannot train; of all processes together it can."""
    options = Options(data=data, batch_size=2, **ALONE)
    recipe = prepare(WORDS, replace(options, epochs=1)).recipe
    around, world = surroundings(options), timing.collectives.world
    monkeypatch.setattr(timing.collectives, "world", lambda: world() if timing.collectives._alone else 2)
    assert measure(parse(WORDS), recipe, options, around, 12).a_step > 0


@pytest.mark.parametrize(("a_step", "part"), [(4.0, "(about 48 seconds)"), (60.0, "(about 10)")])
def test_what_an_epoch_takes_is_said_in_a_unit_that_shows_it(
    data: str, speed: Callable[..., list[int]], a_step: float, part: str
) -> None:
    """Ten steps an epoch, and eight seconds to begin: 48 s are no "about 1" minute, and eight no "about 0"."""
    speed(replace(SECOND, a_step=a_step))
    assert any(part in note for note in plan(data, minutes=0.01).data.notes)


def test_one_image_is_refused_with_what_would_do(tmp_path: Path) -> None:
    """No batch fits: "--batch-size 2 or less" would be wrong advice."""
    Image.new("RGB", (12, 12), "red").save(tmp_path / "one.png")
    with pytest.raises(UserError, match=r"^One image is too few to train on; give two or more\.$"):
        plan(str(tmp_path))


def test_two_processes_have_the_plan_of_the_first(data: str, tmp_path: Path) -> None:
    words = ["train", *WORDS.split(), "--data", data, "--device", "cpu", "--minutes", "0.01", "--json", "--quiet"]
    done = run_in(tmp_path, torchrun(2, *words))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 1
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("memory", "cores", "asked", "expected"),
    [("always", 2, None, 0), ("never", 2, None, 2), ("always", 8, None, 7), ("always", 2, 3, 3)],
)
def test_two_cores_cut_crops_of_images_in_memory_between_the_steps(photos, monkeypatch, memory, cores, asked, expected):
    """Processes that cut them beside took the steps' time: 1,600 images a second in place of 2,200, of photos of 64 px.

    Who cuts them changes no result: `test_oneness`.
    """
    monkeypatch.setattr("sslzoo.training.plan.cores", lambda: cores)
    monkeypatch.setattr("sslzoo.processes.launched.cores", lambda: cores)
    made = prepare(["simclr"], Options(data=photos, epochs=1, memory=memory, workers=asked, device="cpu"))
    assert made.workers == expected
