"""The sbatch script of docs/processes.md, run by bash with stubs of Slurm: stopped, queued again, resumed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from sslzoo.training import checkpoints

ROOT = Path(__file__).parent.parent
SRUN = """
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:]
tasks = [
    subprocess.Popen(words, env={**os.environ, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i), "SLURM_NTASKS": "2"})
    for i in range(2)
]
signal.signal(signal.SIGUSR1, lambda number, _: [task.send_signal(number) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """
import sys
if sys.argv[1] == "requeue":
    open("requeued", "a").write(sys.argv[2] + "\\n")
else:
    print("127.0.0.1\\nanother")
"""
SSLZOO = """
import sys
from sslzoo.cli import main
open("asked", "a").write(" ".join(sys.argv[1:]) + "\\n")
main(prog_name="sslzoo")
"""


def script() -> str:
    """The page's script, with a tiny run in a folder of the test."""
    text = re.search(r"^```bash\n(#!/bin/bash\n#SBATCH.*?)^```", (ROOT / "docs/processes.md").read_text(), re.S | re.M)
    tiny = "WORDS=(simclr --limit 160 --batch-size 16 --epochs 4000 --device cpu --quiet)"
    found, n = re.subn(r"^WORDS=\(.*\)$", tiny, text.group(1), count=1, flags=re.M)
    return found.replace("/shared/", "") if n else ""


def started(folder: Path) -> subprocess.Popen:
    """The job, as Slurm starts it."""
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "nodes"}
    return subprocess.Popen(["bash", "job.sh"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)


def until(ready) -> None:
    """Wait for something."""
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_pages_job_stops_is_queued_again_and_goes_on(tmp_path):
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("sslzoo", SSLZOO)):
        (tmp_path / name).write_text(f"#!{sys.executable}{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(script())
    assert "--signal=B:USR1@" in script()
    number, run = str(os.getpid()), tmp_path / f"runs/job-{os.getpid()}/simclr-digits-s0-1"
    epochs = []
    for turn in (1, 2):
        job = started(tmp_path)
        rows = len((run / "log.csv").read_text().splitlines()) if turn == 2 else 1
        until(lambda rows=rows: (run / "log.csv").exists() and (run / "log.csv").read_text().count("\n") > rows)
        job.send_signal(signal.SIGUSR1)  # to the script alone
        _, said = job.communicate(timeout=60)
        assert job.returncode == 75, said
        assert said.count("Stopped and saved") == 1
        assert (tmp_path / "requeued").read_text() == f"{number}\n" * turn
        epochs.append(checkpoints.read(run).images)
    assert epochs[0] < epochs[1]
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [words.startswith("train --resume runs/job-") for words in asked] == [False, False, True, True]
