"""On a GPU that is not there: no step waits for the device, no devices are mixed, and little is sent to the device."""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

import bad_files
import numpy as np
import pytest
import torch
from fakecuda import Copy, FakeCuda, Wait, fake_cuda
from PIL import Image
from torch import nn

from sslzoo.core.siamese import Siamese
from sslzoo.data.images import FileImages, MemoryImages
from sslzoo.data.splits import Dataset, Shapes, Split
from sslzoo.evaluation.embedding import Embedding
from sslzoo.evaluation.encode import embed
from sslzoo.evaluation.evaluate import Evaluation, evaluate
from sslzoo.evaluation.protocols import find as find_protocol
from sslzoo.evaluation.sources import EmbedOptions, open_source
from sslzoo.metrics import index
from sslzoo.metrics.health import health
from sslzoo.metrics.index import Exact
from sslzoo.metrics.knn import knn
from sslzoo.recipes.algebra import parse, resolve
from sslzoo.recipes.recipe import Layer, method_names
from sslzoo.recipes.rules import refusal
from sslzoo.recipes.schema import SWITCHES, Switches, Value
from sslzoo.tools.errors import UserError
from sslzoo.training import scoring
from sslzoo.training.learner import Learner
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.loop import Training
from sslzoo.training.machine import fast_products
from sslzoo.training.options import Options
from sslzoo.training.plan import Plan
from sslzoo.training.run import train
from sslzoo.views.batches import Batches
from sslzoo.views.features import BATCH, Preprocessing, features
from sslzoo.views.loading import start_method

pytestmark = [
    pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this build of torch has no CUDA, to be faked"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's fake tensors and its own old spellings
]

CUDA = torch.device("cuda")
ROWS = 32  # of a batch
PER_VIEW = 2  # copies to the device that a view may cost
SWITCHED = 40  # combinations of switches that are tried


TINY = {  # heads and memories that take no time; those that a recipe does not read are left out
    "heads.hidden": 16, "heads.dim": 8, "heads.predictor_hidden": 8, "memory.queue_length": 48,
    "clustering.prototypes": 12, "loss.slices": 16, "training.backbone": "small", "training.epochs": 4,
    "training.batch_size": ROWS,
}  # fmt: skip


def noise(size: int, batches: int) -> Split:
    """So many batches of black images, with labels."""
    n = batches * ROWS
    return Split(MemoryImages(torch.zeros(n, 3, size, size, dtype=torch.uint8)), torch.arange(n) % 5)


PLAIN = {"views.jitter": 0.0, "views.grayscale": 0.0, "views.blur": 0.0, "views.solarize": 0.0}


def planned(
    expression: str, size: int = 32, split: Split | None = None, knobs: Mapping[str, Value] = TINY, **options: object
) -> Plan:
    """A run on noise, or on a split."""
    asked = Options(device="cuda", checkpoint_every="100", **options)  # type: ignore[arg-type]
    split = noise(size, 1) if split is None else split
    data = Dataset(
        "noise", split, split, split, size, 5, shapes=Shapes(44, 40, 40, False) if split.images.paths else None
    )
    found = parse(expression)
    given = {} if asked.backbone is None else {"training.backbone": asked.backbone}
    recipe = resolve(found, "small" if size <= 64 else "large", [Layer("tiny", {**knobs, **given})])
    return Plan(found, recipe, data, asked, CUDA, "bf16")


@dataclass
class Seen:
    """What was noted while batches were made, and while the learner stepped."""

    views: list[Wait]
    step: list[Wait]
    copies: list[list[Copy]]  # of each step, its batch included
    made: int  # views of a batch


def stepped(plan: Plan, watch: FakeCuda) -> Seen:
    """An epoch of a plan; whatever the model keeps has to end up on the device, and every weight that learns has to."""
    torch.manual_seed(0)
    batches = Batches(plan.data, plan.recipe, plan.device, 0)
    learner = Learner(plan, batches)
    learner.join()
    model = learner.model.train()
    if plan.recipe.switches.clustering == "kmeans":
        for index, views in batches.epoch(0):
            with learner.autocast():
                model.remember(views, index)
    model.begin_epoch()
    seen = Seen([], [], [], 0)
    made = iter(batches.epoch(0))
    for step in range(len(batches)):
        watch.clear()
        index, views = next(made)
        seen.views += watch.waits
        copies, seen.made = list(watch.copies), len(views)
        watch.clear()
        learner.step(views, index, step)
        learner.diverged(wait=False)
        seen.step += watch.waits
        seen.copies.append(copies + watch.copies)
        assert {x.device.type for x in (*views, index, *model.z, learner.loss)} == {"cuda"}
    kept = {
        name: x.device.type
        for name, x in model.state_dict().items()
        if isinstance(x, torch.Tensor) and "clock" not in name
    }
    assert {name: kind for name, kind in kept.items() if kind != "cuda"} == {}
    return seen


def assert_few(seen: Seen) -> None:
    """No step's copies to the device are many, and the host waits for none of them, since all are pinned."""
    assert [copy for copies in seen.copies for copy in copies if copy.blocking or not copy.pinned] == []
    assert [len(copies) for copies in seen.copies if len(copies) > PER_VIEW * seen.made] == []


# ---- the stand-in itself ---------------------------------------------------------------------------------------------


def test_the_stand_in_notes_waits_and_copies() -> None:
    with fake_cuda() as watch:
        x = torch.ones(6).to(CUDA)
        y = torch.ones(6, dtype=torch.float64).pin_memory().to(CUDA, non_blocking=True)
        assert [(c.size, c.blocking, c.pinned) for c in watch.copies] == [(24, True, False), (48, False, True)]
        watch.clear()
        _ = x[torch.tensor([1, 2])]
        assert [(c.size, c.blocking) for c in watch.copies] == [(16, True)]
        assert watch.waits == []
        for wait in (lambda: x.sum().item(), lambda: x[x > 0], lambda: x.nonzero(), x.cpu, lambda: bool(y.sum() > 0)):
            watch.clear()
            wait()
            assert len(watch.waits) == 1
        with pytest.raises(RuntimeError, match="on the same device"):
            x + torch.ones(6)


def test_the_stand_in_leaves_the_host_alone() -> None:
    with fake_cuda() as watch:
        x = torch.arange(6.0)
        assert x[x > 2].tolist() == [3, 4, 5]
        assert float(x.sum()) == 15
    assert watch.waits == watch.copies == []


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", method_names())
def test_a_step_waits_for_nothing(name: str, size: int) -> None:
    """Without colours at 224 px, where they are many; the next test has them."""
    with fake_cuda() as watch:
        seen = stepped(planned(name, size, knobs=TINY if size == 32 else TINY | PLAIN), watch)
    assert seen.views == seen.step == []


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_views_of_all_colours_wait_for_nothing(name: str) -> None:
    with fake_cuda() as watch:
        assert stepped(planned(name, 224), watch).views == []


@pytest.mark.parametrize("expression", ["simsiam", "byol", "dino local_crops=3", "moco_v2", "ressl"])
@pytest.mark.parametrize("size", [32, 224])
def test_a_step_sends_little_to_the_device(expression: str, size: int) -> None:
    with fake_cuda() as watch:
        assert_few(stepped(planned(expression, size), watch))


def combinations() -> Iterator[Switches]:
    """Legal combinations of switches, drawn at random."""
    drawn = random.Random(0)
    while True:
        made = Switches(**{f.name: drawn.choice(SWITCHES[f.name].values) for f in fields(Switches)})
        if refusal(made) is None:
            yield made


def words(switches: Switches) -> str:
    """The expression of a combination."""
    given = [f"{f.name}={str(getattr(switches, f.name)).lower()}" for f in fields(Switches)]
    return " ".join(["simsiam", *given])


@pytest.mark.parametrize("expression", [words(one) for one in islice(combinations(), SWITCHED)])
def test_a_step_of_any_switches_waits_for_nothing(expression: str) -> None:
    with fake_cuda() as watch:
        seen = stepped(planned(expression, knobs=TINY | PLAIN), watch)
    assert seen.views == seen.step == []


@pytest.mark.parametrize("expression", ["byol", "dino"])
def test_accumulated_parts_wait_for_nothing(expression: str) -> None:
    with fake_cuda() as watch:
        seen = stepped(planned(expression, split=noise(32, 2), accumulate=2), watch)
    assert seen.views == seen.step == []


def test_a_step_that_may_be_left_out_asks_once() -> None:
    """Whether loss and gradients are finite is one number."""
    with fake_cuda() as watch:
        seen = stepped(planned("moco_v2", split=noise(32, 2), on_nan="skip"), watch)
    assert seen.views == []
    assert [wait.what for wait in seen.step] == ["_local_scalar_dense"] * 2


@pytest.mark.parametrize("expression", ["byol", "byol optimizer.name=lars", "byol optimizer.name=adamw"])
def test_a_step_in_fp16_waits_for_nothing(expression: str) -> None:
    """Whether gradients overflow is the optimiser's to find on the device."""
    with fake_cuda() as watch:
        plan = replace(planned(expression, split=noise(32, 2)), precision="fp16")
        seen = stepped(plan, watch)
    assert seen.views == seen.step == []
    assert_few(seen)


def test_a_real_backbone_waits_for_nothing() -> None:
    with fake_cuda() as watch:
        seen = stepped(planned("simsiam", backbone="resnet18"), watch)
    assert seen.views == seen.step == []


@pytest.fixture
def files(tmp_path: Path) -> Split:
    """Two batches of pictures in files."""
    drawn = np.random.default_rng(0)
    for i in range(2 * ROWS):
        Image.fromarray(drawn.integers(0, 255, (40, 44, 3), dtype=np.uint8)).save(tmp_path / f"{i:03}.png")
    return Split(FileImages(tuple(sorted(tmp_path.glob("*.png")))), torch.arange(2 * ROWS) % 5)


def test_streamed_views_come_pinned(files: Split) -> None:
    """One copy for the crops of each view, from memory that the host need not wait for."""
    with fake_cuda() as watch:
        seen = stepped(planned("dino local_crops=2 views.local_size=16", split=files), watch)
    assert seen.views == seen.step == []
    sizes = [ROWS * 3 * size**2 for size in (32, 32, 16, 16)]
    assert_few(seen)
    for copies in seen.copies:
        large = [copy for copy in copies if copy.size >= min(sizes)]
        assert [copy.size for copy in large] == sizes
        assert all(copy.pinned and not copy.blocking for copy in large)


@pytest.mark.parametrize(("part", "place"), [(0.49, "cuda"), (0.51, "cpu")])
def test_images_stay_on_the_host_where_a_gpu_would_be_half_full(part: float, place: str) -> None:
    """They are sent batch by batch then, from pinned memory."""
    plan = planned("simsiam", split=noise(32, 2))
    size = 2 * ROWS * 3 * 32**2
    with fake_cuda(free=round(size / part)) as watch:
        assert Batches(plan.data, plan.recipe, CUDA, 0).resident.device.type == place  # type: ignore[union-attr]
        seen = stepped(plan, watch)
    assert seen.views == seen.step == []
    assert_few(seen)
    assert [copy.size for copy in seen.copies[0] if copy.size >= size / 2] == ([] if place == "cuda" else [size / 2])


def out_of_memory(*_: object, **__: object) -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_gpu_that_others_fill_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the model is made, and while features are; nobody sees torch's own error."""
    with fake_cuda(), monkeypatch.context() as patch:
        patch.setattr(Siamese, "to", out_of_memory)
        with pytest.raises(UserError, match=r"Memory does not hold a small and its optimiser; end what else uses it"):
            Training(planned("simsiam"))
    monkeypatch.setattr("sslzoo.evaluation.encode.features", out_of_memory)
    with pytest.raises(UserError, match=r"Memory does not hold 256 images of 32 px; take a smaller --image-size, or"):
        embed("random", EmbedOptions("digits", device="cpu", cached=False))


def test_an_epoch_waits_for_its_looks_alone() -> None:
    """Two steps with a look at the health of each, its two views and whether all is finite; and the epoch's end."""
    with fake_cuda(number=1e6) as watch:
        training = Training(planned("simsiam", split=noise(32, 2)))
        watch.clear()
        training.train_epoch(Reporter(), [])
        training.row(scored=False)
    assert [wait.what for wait in watch.waits].count("copy to the host") == 2 * 2
    assert [wait.what for wait in watch.waits].count("_local_scalar_dense") == 2 + 1 + 1
    assert len(watch.waits) == 8


# ---- looks -----------------------------------------------------------------------------------------------------------


def test_health_waits_for_what_it_reads() -> None:
    """Two views' projections, and the codes."""
    with fake_cuda() as watch:
        z = [torch.randn(ROWS, 8).to(CUDA) for _ in range(2)]
        found = health(z)
        assert [wait.what for wait in watch.waits] == ["copy to the host"] * 2
        watch.clear()
        assert {*health(z, torch.rand(1, ROWS, 6).to(CUDA))} == {*found, "code_entropy", "code_usage"}
        assert [wait.what for wait in watch.waits] == ["copy to the host"] * 3


def rows_of(split: Split, watch: FakeCuda) -> np.ndarray:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1)).to(CUDA)
    watch.clear()
    return features(net, split, Preprocessing(32, (0.5,) * 3, (0.25,) * 3), CUDA)


@pytest.mark.parametrize("kind", ["in memory", "in files"])
def test_features_wait_once_a_batch(kind: str, files: Split) -> None:
    split = Split(MemoryImages(torch.zeros(BATCH + 20, 3, 32, 32, dtype=torch.uint8))) if kind == "in memory" else files
    with fake_cuda() as watch:
        rows = rows_of(split, watch)
    assert rows.shape == (len(split), 4)
    batches = -(-len(split) // BATCH)
    assert [wait.what for wait in watch.waits] == ["copy to the host"] * batches
    sent = [copy for copy in watch.copies if copy.size > 12]  # beside the mean and the deviation
    assert len(sent) == batches
    assert all(copy.pinned and not copy.blocking for copy in sent)


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_features_on_a_gpu_are_in_the_precision_of_the_training(precision: str, kind: torch.dtype) -> None:
    """And in the memory layout that its convolutions are fast in; in float32 on a CPU, as ever."""
    seen: list[tuple[torch.dtype, bool]] = []
    plan = planned("simsiam")
    for device in (CUDA, torch.device("cpu")):
        with fake_cuda():
            plan = replace(plan, device=device, precision=precision)
            net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)).to(device)
            net[0].register_forward_hook(
                lambda _, given, found: seen.append((found.dtype, given[0].is_contiguous(memory_format=CHANNELS_LAST)))
            )
            assert scoring._shared(plan, net, plan.data.bank).dtype == np.float32
    assert seen == [(kind, True), (torch.float32, False)]


CHANNELS_LAST = torch.channels_last


def test_a_run_is_evaluated_in_its_own_precision(true_run: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in true_run.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "tiny.npz").write_bytes(bad_files.images())
    about = json.loads((tmp_path / "run.json").read_text())
    for precision in ("bf16", "float32"):
        (tmp_path / "run.json").write_text(json.dumps({**about, "precision": precision}))
        options = EmbedOptions(data=str(tmp_path / "tiny.npz"), device="cpu")
        assert open_source(str(tmp_path), options)[0].precision == precision
    assert open_source("random", EmbedOptions(data="digits", device="cpu"))[0].precision == "float32"


@pytest.mark.parametrize(
    ("workers", "device", "begun", "method"),
    [(2, "cuda", True, "spawn"), (2, "cpu", True, "spawn"), (2, "cpu", False, "fork"), (0, "cuda", True, None)],
)
def test_readers_are_no_copies_of_a_process_that_uses_a_gpu(
    monkeypatch: pytest.MonkeyPatch, workers: int, device: str, begun: bool, method: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
    readers = start_method(workers, torch.device(device))
    assert (readers and readers.get_start_method()) == method


# ---- how a GPU multiplies --------------------------------------------------------------------------------------------


def products() -> tuple[str, bool, bool]:
    """What torch is told of float32 products and of convolutions."""
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@pytest.mark.parametrize(
    ("device", "precision", "inside"),
    [
        ("cuda", "bf16", ("high", True, True)), ("cuda", "fp16", ("high", True, True)),
        ("cuda", "float32", ("highest", False, False)), ("cpu", "float32", None), ("cpu", "bf16", None),
    ],
)  # fmt: skip
def test_a_gpu_multiplies_fast_unless_float32_was_asked_for(
    device: str, precision: str, inside: tuple[str, bool, bool] | None
) -> None:
    """And all is as it was afterwards, also after an error."""

    def work() -> None:
        with fast_products(torch.device(device), precision):
            seen.append(products())
            raise KeyError

    before, seen = products(), []
    with pytest.raises(KeyError):
        work()
    assert seen == [inside or before]
    assert products() == before


def test_neighbours_are_found_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Similarities of TF32 would differ in their fourth digit, and ties are told by the seventh."""
    seen: list[str] = []
    topk = torch.Tensor.topk

    def watched(*words: object, **more: object) -> object:
        seen.append(torch.get_float32_matmul_precision())
        return topk(*words, **more)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    with fake_cuda(), fast_products(CUDA, "bf16"):
        Exact("cuda")(ROWS_OF((50, 8), np.float32), ROWS_OF((10, 8), np.float32), 5)
        assert torch.get_float32_matmul_precision() == "high"
    assert seen == ["highest"]


def test_a_run_trains_within_fast_products(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loop asks for them with its device and precision, and run.json says what they were."""
    seen: list[object] = []

    @contextmanager
    def watched(device: torch.device, precision: str) -> Iterator[None]:
        seen.append((device.type, precision))
        yield
        seen.append("over")

    step = Learner.step
    monkeypatch.setattr("sslzoo.training.loop.fast_products", watched)
    monkeypatch.setattr(Learner, "step", lambda *words: seen.append("step") or step(*words))
    (tmp_path / "tiny.npz").write_bytes(bad_files.images())
    words = "simsiam dim=8 hidden=8 predictor_hidden=8"
    found = train(words, data=str(tmp_path / "tiny.npz"), epochs=1, device="cpu", out=str(tmp_path))
    assert seen[0] == ("cpu", "float32")
    assert seen[1:] == ["step"] * (len(seen) - 2) + ["over"]
    assert json.loads((Path(found["run"]) / "run.json").read_text())["tf32"] is False


# ---- searches --------------------------------------------------------------------------------------------------------


ROWS_OF = np.random.default_rng(0).standard_normal


def test_the_exact_search_sends_its_bank_once() -> None:
    """Also where it is asked again; it waits for similarities and rows of each thousand queries."""
    bank, queries = ROWS_OF((50, 8), np.float32), ROWS_OF((1500, 8), np.float32)
    with fake_cuda() as watch:
        exact = Exact("cuda")
        similar, near = exact(bank, queries, 5)
        assert [wait.what for wait in watch.waits] == ["copy to the host"] * 4
        exact(bank, queries[:10], 5)
    assert similar.shape == near.shape == (1500, 5)
    assert [copy.size for copy in watch.copies] == [bank.nbytes, 1024 * 32, 476 * 32, 10 * 32]


def test_a_bank_that_does_not_fit_comes_in_parts() -> None:
    bank, queries = ROWS_OF((2500, 8), np.float32), ROWS_OF((10, 8), np.float32)
    with fake_cuda(free=1) as watch:
        assert Exact("cuda")(bank, queries, 5)[0].shape == (10, 5)
    assert [copy.size for copy in watch.copies] == [1024 * 32, 320, 1024 * 32, 320, 452 * 32, 320]


def test_a_search_that_runs_out_of_memory_takes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(bank: torch.Tensor, queries: np.ndarray, k: int) -> object:
        if len(bank) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(bank, queries, k)

    real, bank, queries = index.best, ROWS_OF((4500, 8), np.float32), ROWS_OF((10, 8), np.float32)
    monkeypatch.setattr(index, "best", full)
    with fake_cuda():
        fits = 1200
        assert Exact("cuda")(bank, queries, 5)[0].shape == (10, 5)
        fits = 0
        with pytest.raises(UserError, match=r"The memory of cuda does not hold 1024 rows .*; use --device cpu\."):
            Exact("cuda")(bank, queries, 5)


def test_a_cpu_searches_by_faiss_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    bank, labels = ROWS_OF((90, 8), np.float32), np.arange(90) % 3
    arrays = {"train_features": bank, "train_labels": labels, "test_features": bank[:30], "test_labels": labels[:30]}
    with fake_cuda() as watch:
        row = evaluate(Embedding("rows", "noise", arrays, device="cpu"), Evaluation([find_protocol("sslzoo")]))
        assert knn(bank, labels, bank[:30], labels[:30])["knn"] == row.knn
    assert row.knn["k1"] == 1
    assert watch.copies == []
    assert [index.exact_by(device) for device in ("cpu", "cuda:1")] == [
        "faiss, exact inner product",
        "torch on cuda:1, exact inner product",
    ]


def test_knn_searches_on_its_device() -> None:
    bank, labels = ROWS_OF((90, 8), np.float32), np.arange(90) % 3
    arrays = {"train_features": bank, "train_labels": labels, "test_features": bank[:30], "test_labels": labels[:30]}
    with fake_cuda() as watch:
        knn(bank, labels, bank[:30], labels[:30], device="cuda")
        assert [copy.size for copy in watch.copies] == [90 * 32, 30 * 32]  # the bank and the queries
        watch.clear()
        asked = Evaluation([find_protocol("sslzoo"), find_protocol("dino")])
        evaluate(Embedding("rows", "noise", arrays, device="cuda"), asked)
        assert [copy.size for copy in watch.copies] == [90 * 32, 30 * 32]


def test_an_evaluation_of_rows_asks_nothing_of_the_device() -> None:
    """Votes, retrieval and the probe are the host's."""
    with fake_cuda() as watch:
        split = Split(MemoryImages(torch.zeros(60, 3, 32, 32, dtype=torch.uint8)))
        rows = rows_of(split, watch) + np.random.default_rng(0).standard_normal((60, 4), dtype=np.float32)
        watch.clear()
        labels = np.arange(60) % 3
        arrays = {
            "train_features": rows, "train_labels": labels, "test_features": rows[:20], "test_labels": labels[:20],
        }  # fmt: skip
        row = evaluate(Embedding("rows", "noise", arrays), Evaluation([find_protocol("sslzoo")], probe=True))
    assert 0 <= row.probe.accuracy <= 1
    assert watch.waits == watch.copies == []
