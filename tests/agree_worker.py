"""Run by each of three processes: what they agree on a call later, and a run that is stopped and goes on.

usage: agree_worker.py OUT, a folder with noise.npz
"""

import json
import sys
import time
from pathlib import Path

import torch

from sslzoo.processes import collectives
from sslzoo.processes.agree import LaterMax, process_group
from sslzoo.training import checkpoints
from sslzoo.training.learner import Learner
from sslzoo.training.run import resume, train

SLOW = 0.4  # seconds that the second process is late
SMALL = {"batch_size": 12, "epochs": 2, "device": "cpu", "backbone": "small"}


def agreed() -> dict[str, list[float]]:
    """What each call told, and the seconds that it took; the first process wishes something at the second call."""
    later, told, seconds = LaterMax(), [], []
    for number in (0, 2, 0, 0):
        if collectives.rank() == 1:
            time.sleep(SLOW)
        started = time.perf_counter()
        told.append(later(number if collectives.rank() == 0 else 0))
        seconds.append(time.perf_counter() - started)
    return {"told": [*told, later.last(), later.last()], "seconds": seconds}


def trained(name: str, expression: str, out: Path) -> dict[str, bool]:
    """Whether unused parameters were looked for, and whether a run that was stopped ends as one that was not."""
    looked: list[bool] = []
    join = Learner.join

    def watched(self: Learner) -> None:
        join(self)
        looked.append(self.called.find_unused_parameters)

    Learner.join = watched
    try:
        some = {**SMALL, "data": str(out / "noise.npz")}
        whole = train(expression, out=str(out / name / "whole"), **some)["run"]
        half = train(expression, out=str(out / name / "half"), stop_after=1, **some)["run"]
        resume(half)
    finally:
        Learner.join = join
    one, two = (checkpoints.read(Path(run)).model for run in (whole, half))
    same = all(torch.equal(value, two[name]) for name, value in one.items() if isinstance(value, torch.Tensor))
    return {"looked": any(looked), "always": all(looked), "same": same}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    with process_group():
        found = {"agreed": agreed()}
        for name, expression in {
            "simsiam": "simsiam hidden=16 dim=8 predictor_hidden=8",
            "frozen": "swav hidden=16 dim=8 prototypes=8 freeze_epochs=1",
        }.items():
            found[name] = trained(name, expression, out)
        (out / f"{collectives.rank()}.json").write_text(json.dumps(found))
