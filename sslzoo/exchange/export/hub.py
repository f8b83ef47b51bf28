"""A folder of timm's pushed to the Hugging Face Hub, by timm's own function, with our card."""

from pathlib import Path
from typing import cast

import timm
import timm.models
from torch import nn

from ...tools.errors import UserError, kind_and_words
from .formats import FILES

BY_TIMM = ("model.safetensors",)  # of a folder's files; the others are ours


def push(folder: Path, repository: str) -> str:
    """Push the net of a folder and the files beside it, and return the address of what is there then.

    Raises `UserError` without a network or a token.
    """
    from huggingface_hub import HfApi, constants

    net = cast(nn.Module, timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0))
    try:
        timm.models.push_to_hf_hub(net, repository, commit_message="Encoder of sslzoo", safe_serialization=True)
        HfApi(library_name="sslzoo").upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message="Model card of sslzoo",
            allow_patterns=[name for name in FILES if name not in BY_TIMM],
        )  # fmt: skip
    except Exception as error:  # whatever the hub's client raises
        raise UserError(f"{folder} is written, but not pushed to {repository} ({_why(error)}).") from None
    return f"{constants.ENDPOINT}/{repository}"


def _why(error: Exception) -> str:
    """Return what is amiss, and what to do."""
    kind, status = type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)
    if "Token" in kind or status == 401:
        return "the Hub knows no token of yours: log in with 'hf auth login', or set HF_TOKEN"
    if status == 403:
        return "your token may not write there: give it that right, or push to another name"
    if kind == "HFValidationError":
        return "that is no name of a repository: it is NAME or OWNER/NAME"
    if isinstance(error, OSError) or any(word in kind for word in ("Connect", "Timeout", "Offline", "Network")):
        return f"the Hub does not answer, {kind}: see that there is a network, and try again"
    return kind_and_words(error)
