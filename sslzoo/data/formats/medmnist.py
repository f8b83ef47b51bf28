"""MedMNIST's data sets by name, ``medmnist:pathmnist``, or larger, ``medmnist:pathmnist:64``."""

from typing import Any

import numpy as np

from ...tools.errors import UserError, did_you_mean, in_a_line, listing
from ...tools.places import cache

SIZES = (28, 64, 128, 224)


def arrays(name: str) -> dict[str, Any]:
    """Return the arrays of a data set by its name, downloaded into the cache where they are not there yet."""
    try:
        import medmnist
    except ModuleNotFoundError:
        raise UserError(f"medmnist:{name} needs medmnist; pip install 'sslzoo[medmnist]'.") from None
    key, _, size = name.partition(":")
    flat = [one for one, about in medmnist.INFO.items() if not about["python_class"].endswith("3D")]
    if key not in flat:
        why = " of pictures" if key in medmnist.INFO else ""
        raise UserError(f"MedMNIST has no set{why} {key!r}{did_you_mean(key, flat)}; it has {listing(flat)}.")
    if size and size not in map(str, SIZES):
        raise UserError(f"MedMNIST's pictures cannot have {size} px; they have {listing(SIZES)}.")
    about = medmnist.INFO[key]
    found: dict[str, Any] = {}
    kind = getattr(medmnist, about["python_class"])
    (home := cache() / "medmnist").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        try:
            made = kind(split=split, root=str(home), size=int(size or SIZES[0]), download=True)
        except Exception as error:  # those of the network, of a file, and its own
            raise UserError(
                f"medmnist:{name} could not be downloaded into {home} ({in_a_line(error)}); check the network, or "
                "put its .npz there."
            ) from None
        found[f"{split}_images"], found[f"{split}_labels"] = np.asarray(made.imgs), np.asarray(made.labels)
    found["classes"] = [about["label"][str(i)] for i in range(len(about["label"]))]
    return found
