"""The examples of docs/examples run, and learn; and a person's own script is checked by mypy as strictly as ours."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_plain_loop_learns() -> None:
    """Of ten classes, better than their raw pixels (0.22) and far better than by chance."""
    assert example("plain").main("simclr", epochs=5, limit=2000) > 0.3


@pytest.mark.parametrize(("name", "needs"), [("with_lightning", "lightning"), ("with_accelerate", "accelerate")])
@pytest.mark.filterwarnings("default")  # of the libraries' own
def test_an_example_with_a_trainer_lowers_its_loss(name: str, needs: str) -> None:
    pytest.importorskip(needs)
    module = example(name)
    first, last = (module.main(epochs=epochs, limit=256) for epochs in (1, 6))
    assert last < first


@pytest.mark.filterwarnings("default")  # of the library's own
def test_ray_embeds_on_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file has its row, with the features that the run's own command gives."""
    pytest.importorskip("ray")
    import sslzoo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(sslzoo.__file__).parents[1]))
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / ("rose", "tulip")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    run = sslzoo.train("simsiam", data="photos", epochs=1, device="cpu", backbone="small", image_size=32).run
    made = example("with_ray").main(str(tmp_path / run), str(tmp_path / "photos"), str(tmp_path / "made"))
    assert made == 40
    from pyarrow import dataset

    rows = dataset.dataset(tmp_path / "made").to_table().to_pylist()
    there = {Path(row["file"]).relative_to(tmp_path / "photos").as_posix(): row for row in rows}
    wanted = sslzoo.embed(tmp_path / run, device="cpu").arrays
    known = {
        str(name): features
        for split in ("train", "test")
        for name, features in zip(wanted[f"{split}_files"], wanted[f"{split}_features"], strict=True)
    }
    assert there.keys() == known.keys()
    for name, features in known.items():
        np.testing.assert_allclose(there[name]["features"], features, atol=1e-4)
        assert there[name]["label"] == name.split("/")[0]


SCRIPT = """
from pathlib import Path

import numpy as np
import torch

import sslzoo


def views(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-1)


class Watch(sslzoo.Callback):
    losses: list[float]

    def __init__(self) -> None:
        self.losses = []

    def on_epoch(self, row: sslzoo.LogRow) -> None:
        self.losses.append(row.loss)


def main() -> float:
    watch = Watch()
    result = sslzoo.train(
        "byol - momentum", data="digits", epochs=1, backbone=torch.nn.Flatten(), augment=views, callbacks=[watch]
    )
    run = sslzoo.Run(Path(result.run))
    scores = sslzoo.knn(np.eye(3), [0, 1, 2], np.eye(3), [0, 1, 2])
    found: dict[str, float | None] = sslzoo.retrieval(np.eye(3), [0, 0, 1])
    features = sslzoo.embed("raw", data="digits").arrays["train_features"]
    return scores["knn"]["k1"] + (found["map"] or 0) + float(features.mean()) + run.recipe.optimizer.lr
"""


def test_a_script_is_typed(tmp_path: Path) -> None:
    """And one with a wrong keyword and a wrong type is not."""
    (tmp_path / "good.py").write_text(SCRIPT)
    (tmp_path / "bad.py").write_text(
        'import sslzoo\n\nsslzoo.train("simsiam", epoch=3)\nsslzoo.train("simsiam", epochs="3")\n'
    )
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\n")
    found = {
        name: subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", settings, tmp_path / name], capture_output=True, text=True,
            cwd=tmp_path, check=False,
        )
        for name in ("good.py", "bad.py")
    }  # fmt: skip
    assert found["good.py"].returncode == 0, found["good.py"].stdout
    assert found["bad.py"].stdout.count("error:") == 2
