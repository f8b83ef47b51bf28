"""The seams of a run, held by facts from outside: what the network is shown, when it is told, what it is compared with.

Each part of a run has tests of its own; these hold what lies between loop, scoring, views and features.
"""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import sslzoo
from sslzoo.core.backbones import SmallNet
from sslzoo.core.siamese import Siamese

N, M, SIZE, BATCH, EPOCHS = 96, 48, 16, 16, 2
AS_THEY_ARE = "scale_min=1 scale_max=1 flip=0 jitter=0 grayscale=0 blur=0 solarize=0".split()  # noqa: SIM905
TINY = ["dim=8", "hidden=8", "predictor_hidden=8"]


@pytest.fixture
def images(tmp_path: Path) -> dict[str, np.ndarray]:
    """Three classes of coloured noise, whose channels have means and deviations of their own; in ``data.npz``."""
    rng = np.random.default_rng(0)
    coarse, arrays = rng.normal(size=(3, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2), {}
    for split, n in (("train", N), ("test", M)):
        labels = np.arange(n) % 3
        x = (60, 120, 170) + (12, 25, 35) * (0.12 * coarse[labels] + rng.normal(size=(n, SIZE, SIZE, 3)))
        arrays |= {f"{split}_images": x.clip(0, 255).astype(np.uint8), f"{split}_labels": labels}
    np.savez(tmp_path / "data.npz", **arrays)
    return arrays


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, torch.Tensor]]:
    """All that the backbone was shown, in order: whether it was learning, and the images [N, 3, H, W]."""
    found, forward = [], SmallNet.forward

    def spy(self: SmallNet, x: torch.Tensor) -> torch.Tensor:
        found.append((self.training, x.detach().clone()))
        return forward(self, x)

    monkeypatch.setattr(SmallNet, "forward", spy)
    return found


def trained(tmp_path: Path, *words: str, **options: object) -> dict:
    """The result of a short run on ``data.npz``."""
    options = {"epochs": EPOCHS, "batch_size": BATCH, "device": "cpu", "backbone": "small", **options}
    return sslzoo.train(["simsiam", *TINY, *words], data=str(tmp_path / "data.npz"), out=str(tmp_path), **options)


def normalised(pixels: np.ndarray, like: np.ndarray) -> torch.Tensor:
    """Images [N, 3, H, W] less the mean of other ones' pixels over their deviation, channel by channel."""
    mean, std = ((f(like / 255.0, axis=(0, 1, 2))) for f in (np.mean, lambda x, axis: np.std(x, axis, ddof=1)))
    return torch.from_numpy(((pixels / 255.0 - mean) / std).transpose(0, 3, 1, 2)).float()


def test_training_views_have_mean_0_and_deviation_1(tmp_path: Path, images: dict, shown: list) -> None:
    trained(tmp_path, *AS_THEY_ARE)
    learnt = torch.cat([x for learning, x in shown if learning and len(x) == BATCH])
    assert len(learnt) == 2 * EPOCHS * N  # two views of each image an epoch
    var, mean = torch.var_mean(learnt, dim=(0, 2, 3))
    assert mean.abs().max() < 1e-3
    assert (var.sqrt() - 1).abs().max() < 1e-3


def test_an_image_is_one_tensor_in_training_and_in_evaluation(tmp_path: Path, images: dict, shown: list) -> None:
    """Where nothing is drawn at random, the network is shown the same numbers, and numpy finds them too."""
    trained(tmp_path, *AS_THEY_ARE)
    learnt = torch.cat([x for learning, x in shown if learning and len(x) == BATCH])
    looked_at = torch.cat([x for learning, x in shown if not learning and x.shape[-1] == SIZE and len(x) > 1])
    expected = normalised(images["train_images"], images["train_images"])
    for x in (learnt, looked_at):
        apart = torch.cdist(x.flatten(1).double(), expected.flatten(1).double()).min(dim=1).values
        test = torch.cdist(
            x.flatten(1).double(), normalised(images["test_images"], images["train_images"]).flatten(1).double()
        )
        assert torch.minimum(apart, test.min(dim=1).values).max() < 1e-3
    assert torch.cdist(expected.flatten(1).double(), looked_at.flatten(1).double()).min(dim=1).values.max() < 1e-3
    asked = normalised(images["test_images"], images["train_images"]).flatten(1).double()
    assert torch.cdist(asked, looked_at.flatten(1).double()).min(dim=1).values.max() < 1e-3  # by the training pixels


def test_the_untrained_row_is_that_of_a_fresh_seeded_backbone(tmp_path: Path, images: dict) -> None:
    """kNN of a net that torch draws with the run's seed, by brute force in float64."""
    result = trained(tmp_path, "lr=0.5", seed=3, epochs=4)
    torch.manual_seed(3)
    net = SmallNet().eval()
    with torch.no_grad():
        bank, asked = (
            net(normalised(images[f"{s}_images"], images["train_images"])).double() for s in ("train", "test")
        )
    bank, asked = (x / x.norm(dim=1, keepdim=True) for x in (bank, asked))
    similar, near = (asked @ bank.T).topk(20)
    votes = torch.zeros(M, 3, dtype=torch.float64)
    votes.scatter_add_(1, torch.from_numpy(images["train_labels"])[near], (similar / 0.07).exp())
    right = votes.argmax(dim=1).numpy() == images["test_labels"]
    assert result["random_knn"] == pytest.approx(right.mean(), abs=1e-6)
    weights = torch.nn.utils.parameters_to_vector(sslzoo.encoder(result["run"]).parameters())
    assert not torch.allclose(
        weights, torch.nn.utils.parameters_to_vector(net.parameters()), atol=1e-3
    )  # it has learnt
    assert result["knn"]["k20"] != result["random_knn"]


def test_epochs_begin_and_steps_are_counted_from_0(
    tmp_path: Path, images: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    begin, update = Siamese.begin_epoch, Siamese.update
    monkeypatch.setattr(Siamese, "begin_epoch", lambda self: (events.append("epoch"), begin(self))[1])
    monkeypatch.setattr(
        Siamese, "update", lambda self, keys, index, step: (events.append(step), update(self, keys, index, step))[1]
    )
    trained(tmp_path)
    steps = N // BATCH
    assert events == ["epoch", *range(steps), "epoch", *range(steps, 2 * steps)]


def test_a_resumed_run_begins_no_epoch_twice(tmp_path: Path, images: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path, stop_after=1)["run"]
    events: list[object] = []
    update = Siamese.update
    monkeypatch.setattr(Siamese, "begin_epoch", lambda self: events.append("epoch"))
    monkeypatch.setattr(
        Siamese, "update", lambda self, keys, index, step: (events.append(step), update(self, keys, index, step))[1]
    )
    from sslzoo.training.run import resume

    resume(run)
    assert events == ["epoch", *range(N // BATCH, 2 * N // BATCH)]


MUTANTS = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text(encoding="utf-8"))["mutant"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant["what"] for mutant in MUTANTS])
def test_a_mutant_has_its_line_and_its_tests(mutant: dict[str, str]) -> None:
    """``scripts/mutants`` breaks it; here only that the line is there once, and that the tests are."""
    root = Path(__file__).parent.parent
    assert (root / "sslzoo" / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"]) == 1
    named = [word for word in mutant["tests"].split() if word.startswith("test_")]
    assert named
    assert all((root / "tests" / name).is_file() for name in named)


def test_mutants_are_of_all_rooms() -> None:
    assert len(MUTANTS) >= 40
    assert {mutant["file"].split("/")[0] for mutant in MUTANTS} == {
        path.parent.name for path in (Path(__file__).parent.parent / "sslzoo").glob("*/__init__.py")
    }
