"""Numbers and their limits: what an option may be, and what labels have to be."""

from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SMALLEST = 8  # px of an image


def whole_numbers(name: str, labels: "npt.ArrayLike") -> "npt.NDArray[np.int64]":
    """Return labels as int64 [rows]. Raises `UserError` for what is no whole numbers."""
    import numpy as np  # which commands that compute nothing do without

    x = np.asarray(labels).ravel()
    if x.dtype.kind not in "iub" and not (x.dtype.kind == "f" and bool((np.isfinite(x) & (x == np.rint(x))).all())):
        raise UserError(f"{name} are no whole numbers ({x.dtype}); number the classes.")
    if len(x) and not (float(x.min()) >= -(2.0**53) and float(x.max()) <= 2.0**53):
        raise UserError(f"{name} are too large to tell apart; number the classes from 0.")
    return x.astype(np.int64)


LOWEST = {
    "image_size": SMALLEST, "limit": 2, "epochs": 1, "batch_size": 2, "seed": 0, "workers": 0, "knn_every": 1,
    "stop_after": 1, "keep": 1, "accumulate": 1,
}  # fmt: skip
HIGHEST = {  # `batches.order` multiplies the seed, and the product has to fit a generator
    "image_size": 4096, "workers": 1024, "seed": 2**32 - 1,
}  # fmt: skip


def check_numbers(**options: int | None) -> None:
    """Raise `UserError` for a number among the options that is out of bounds."""
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if type(value) is not int:
            raise UserError(f"{flag} cannot be {value!r}; it is a whole number.")
        if value < LOWEST[name]:
            raise UserError(f"{flag} cannot be {value}; it is at least {LOWEST[name]}.")
        if name in HIGHEST and value > HIGHEST[name]:
            raise UserError(f"{flag} cannot be {value}; it is at most {HIGHEST[name]}.")
