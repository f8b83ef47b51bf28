"""What torchrun's environment says to a process, under the names that torch has for it."""

import os
import socket
import sys

import psutil

MOST_READERS = 16


def world_size() -> int:
    """Return how many processes of this command torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Return this process's number among them; the first one, 0, is the one that speaks."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def in_process_group() -> bool:
    """Return whether this process is in a group with the others."""
    group = sys.modules.get("torch.distributed")  # which need not have been imported
    return group is not None and bool(group.is_initialized())


def local_rank() -> int:
    """Return this process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Return how many processes of this command are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """Return how many cores this process may use: its part of those that are not kept from all of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // local_world_size())


def readers() -> int:
    """Return how many processes read images where nobody says it: cores less one, 2 to 16, and no more than cores."""
    return min(cores(), max(2, min(MOST_READERS, cores() - 1)))


def restart_count() -> int:
    """Return how often torchrun has started the processes anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launch_ids() -> list[str]:
    """Return what is the same after a restart: the agent on this machine, and torchrun's run id if one was given."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    agent, given = psutil.Process(os.getppid()), os.environ["TORCHELASTIC_RUN_ID"]
    ids = [f"{socket.gethostname()} {agent.pid} {agent.create_time():.2f}"]
    return ids if given == "none" else [*ids, f"id {given}"]
