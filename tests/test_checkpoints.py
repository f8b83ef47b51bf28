"""Checkpoints: which are kept, what is refused and what offered instead, and that no moment is without a whole one."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from sslzoo.tools import files
from sslzoo.tools.errors import UserError
from sslzoo.training import checkpoints


def write(run: Path, number: int, keep: int = 3) -> None:
    checkpoints.write(run, {"number": torch.tensor(number)}, keep)


def numbers(run: Path) -> dict[str, int]:
    return {path.name: int(checkpoints.read(path)["number"]) for path in run.iterdir()}


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
    checkpoints.write(tmp_path, {"number": torch.zeros(10_000)})
    content = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last-1.pt").write_bytes(content)
    (tmp_path / "last.pt").write_bytes(damaged(content, how))
    with pytest.raises(UserError, match="is cut off or no checkpoint") as refused:
        checkpoints.read(tmp_path)
    assert f"'sslzoo train --resume {tmp_path}/last-1.pt' goes on from the one before." in str(refused.value)
    assert len(checkpoints.read(tmp_path / "last-1.pt")["number"]) == 10_000
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
    torch.save({"format": checkpoints.FORMAT, "number": Payload(marker)}, tmp_path / "last.pt")
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
