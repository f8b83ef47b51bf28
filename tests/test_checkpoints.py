"""Checkpoints: which are kept, what is refused and what offered instead, and that no moment is without a whole one."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from sslzoo.tools import files
from sslzoo.tools.errors import UserError
from sslzoo.training import checkpoints
from sslzoo.training.listeners.reporter import LogRow

ROW = {
    "epoch": 1, "loss": 0.5, "std": 1.0, "rank": 9.0, "alignment": 0.25, "uniformity": -2.0, "lr": 0.1,
    "images_per_second": 100.0, "knn": None,
}  # fmt: skip
CONTENT = {  # what a run of version 5a1bc71 writes, in its order
    "format": 3, "model": {"weight": torch.ones(2)}, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}},
    "done": 4, "loss": torch.tensor([0.5]), "skipped": 0, "random": {"torch": torch.arange(3), "views": torch.ones(1)},
    "recipe": "title = 'x'", "epoch": 1, "position": 4, "images": 64, "trained_seconds": 0.5,
    "health": [{"std": 1.0, "rank": 9.0}], "log": [ROW],
}  # fmt: skip


def checkpoint(number: int = 0, **other: Any) -> checkpoints.Checkpoint:
    return checkpoints.Checkpoint.from_json({**CONTENT, "images": number, **other})


def write(run: Path, number: int, keep: int = 3) -> None:
    checkpoints.write(run, checkpoint(number), keep)


def numbers(run: Path) -> dict[str, int]:
    return {path.name: checkpoints.read(path).images for path in run.iterdir()}


def test_a_file_has_the_keys_of_its_format_in_their_order(tmp_path):
    checkpoints.write(tmp_path, checkpoint(64))
    found = torch.load(tmp_path / "last.pt", weights_only=True)
    assert list(found) == list(CONTENT)
    assert list(found["log"][0]) == list(ROW)
    for key, value in CONTENT.items():
        assert str(found[key]) == str(value), key


def test_what_comes_back_is_what_was_written(tmp_path):
    made = checkpoint(64)
    checkpoints.write(tmp_path, made)
    found = checkpoints.read(tmp_path)
    assert str(found) == str(made)
    assert found.log[0] == LogRow(**ROW)
    assert found.scaler is None


def test_another_key_passes_and_a_scaler_comes_back(tmp_path):
    torch.save({**CONTENT, "later": 1}, tmp_path / "last.pt")
    assert checkpoints.read(tmp_path).epoch == 1
    checkpoints.write(tmp_path, checkpoint(scaler={"scale": 2.0}))
    assert checkpoints.read(tmp_path).scaler == {"scale": 2.0}


OTHERS = {
    "model": 5, "optimizer": [], "done": 1.5, "loss": 0.5, "skipped": None, "random": {"torch": 3}, "recipe": 7,
    "epoch": "one", "position": True, "images": None, "trained_seconds": "long", "health": {}, "log": [{"epoch": 1}],
}  # fmt: skip


@pytest.mark.parametrize("key", OTHERS)
def test_what_is_of_another_type_or_missing_is_refused_and_not_offered(tmp_path, key):
    torch.save({**CONTENT, key: OTHERS[key]}, tmp_path / "last.pt")
    torch.save({name: value for name, value in CONTENT.items() if name != key}, tmp_path / "last-1.pt")
    torch.save(CONTENT, tmp_path / "last-2.pt")
    for name in ("last.pt", "last-1.pt"):
        with pytest.raises(UserError, match=rf"{name} belongs to another recipe or is damaged; '.*last-2\.pt' goes on"):
            checkpoints.read(tmp_path / name)


def test_the_last_ones_are_kept(tmp_path):
    for number in range(5):
        write(tmp_path, number)
    assert numbers(tmp_path) == {"last.pt": 4, "last-1.pt": 3, "last-2.pt": 2}


def test_one_is_enough(tmp_path):
    for number in range(3):
        write(tmp_path, number, keep=1)
    assert numbers(tmp_path) == {"last.pt": 2}


def test_a_kill_between_two_names_does_no_harm(tmp_path):
    """Then the newest one has two names already, and what is written next must not go into that file."""
    write(tmp_path, 0, keep=2)
    os.link(tmp_path / "last.pt", tmp_path / "last-1.pt")
    write(tmp_path, 1, keep=2)
    assert numbers(tmp_path) == {"last.pt": 1, "last-1.pt": 0}


def test_a_disk_without_second_names(tmp_path, monkeypatch):
    def no(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(os, "link", no)
    for number in range(3):
        write(tmp_path, number)
    assert numbers(tmp_path) == {"last.pt": 2, "last-1.pt": 1, "last-2.pt": 0}


@pytest.mark.parametrize("step", range(6))
def test_at_every_moment_the_newest_is_whole(tmp_path, monkeypatch, step):
    """The process dies at each of the calls that change names, and all that is there can be read."""
    for number in range(3):
        write(tmp_path, number)
    left = [step]

    class Killed(BaseException):
        pass

    def dying(real):
        def call(*words: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*words)

        return call

    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    if step < 4:  # rename, link, rename, rename
        with pytest.raises(Killed):
            write(tmp_path, 3)
    else:
        write(tmp_path, 3)
    monkeypatch.undo()
    files.tidy(tmp_path)
    found = numbers(tmp_path)
    assert found["last.pt"] == (2 if step < 4 else 3)
    write(tmp_path, 4)
    assert numbers(tmp_path)["last.pt"] == 4


def damaged(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    return {
        "cut": content[:middle],
        "empty": b"",
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "text": b"not a checkpoint",
    }[how]


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "text"])
def test_a_damaged_one_is_refused_and_the_one_before_offered(tmp_path, how):
    checkpoints.write(tmp_path, checkpoint(loss=torch.zeros(10_000)))
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last-1.pt").write_bytes(content)
    (tmp_path / "last.pt").write_bytes(damaged(content, how))
    with pytest.raises(UserError, match="is cut off or no checkpoint") as refused:
        checkpoints.read(tmp_path)
    assert f"'sslzoo train --resume {tmp_path}/last-1.pt' goes on from the one before." in str(refused.value)
    assert len(checkpoints.read(tmp_path / "last-1.pt").loss) == 10_000
    (tmp_path / "last-1.pt").write_bytes(damaged(content, how))
    with pytest.raises(UserError, match=r"'sslzoo train .*recipe\.toml' starts anew\.$"):
        checkpoints.read(tmp_path)


def test_another_version_is_refused(tmp_path):
    torch.save({"format": checkpoints.FORMAT - 1}, tmp_path / "last.pt")
    with pytest.raises(UserError, match="is of another version of sslzoo, whose format is not"):
        checkpoints.read(tmp_path)


class Payload:
    """Would make a file where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"format": checkpoints.FORMAT, "model": Payload(marker)}, tmp_path / "last.pt")
    pickle.loads(pickle.dumps(Payload(marker)))  # it would
    assert marker.exists()
    marker.unlink()
    with pytest.raises(UserError, match="is cut off or no checkpoint"):
        checkpoints.read(tmp_path)
    assert not marker.exists()


def test_going_back_makes_an_older_one_the_newest(tmp_path):
    for number in range(3):
        write(tmp_path, number)
    checkpoints.go_back(tmp_path / "last-2.pt")
    assert numbers(tmp_path) == {"last.pt": 0, "last-1.pt": 1, "last-2.pt": 0}
