"""What torchrun says to a process in its environment: how many there are, which one this is, and who started it."""

import os
import socket
import sys

import psutil


def started() -> int:
    """How many processes of this command torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def number() -> int:
    """This process's number among them; the first one, 0, is the one that speaks."""
    return int(os.environ["RANK"]) if started() > 1 else 0


def joined() -> bool:
    """Whether this process is in a group with the others."""
    group = sys.modules.get("torch.distributed")  # which need not have been imported
    return group is not None and bool(group.is_initialized())


def local() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def neighbours() -> int:
    """How many processes of this command are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def attempt() -> int:
    """How often torchrun has started the processes anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def names() -> list[str]:
    """What is the same after a restart: torchrun's run id where one was given, and the agent on this machine."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    agent, given = psutil.Process(os.getppid()), os.environ["TORCHELASTIC_RUN_ID"]
    found = [f"{socket.gethostname()} {agent.pid} {agent.create_time():.2f}"]
    return found if given == "none" else [*found, f"id {given}"]
