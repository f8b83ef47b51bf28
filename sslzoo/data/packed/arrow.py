"""Where the bytes of pictures lie in an Arrow file that is not compressed: they are read from there as they are."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .index import Index


def batches(path: str) -> Iterator[tuple[Any, int]]:
    """Yield the tables of an Arrow file, a stream or none, and the address in memory at which the file begins."""
    import pyarrow as arrow

    with arrow.memory_map(path) as mapped:
        start = mapped.read_buffer(mapped.size()).address
        mapped.seek(0)
        try:
            stream = arrow.ipc.open_stream(mapped)
        except arrow.ArrowInvalid:
            mapped.seek(0)
            file = arrow.ipc.open_file(mapped)
            for place in range(file.num_record_batches):
                yield file.get_batch(place), start
            return
        for batch in stream:
            yield batch, start


def spans_of(values: Any, start: int, size: int) -> Any:
    """Return the first byte and the number of bytes [N, 2] of each cell of bytes in a file of a size; None where they
    lie elsewhere, since they were compressed. A gap has no bytes."""
    kind = np.int64 if str(values.type).startswith("large") else np.int32
    _, offsets, data = values.buffers()
    if not len(values):
        return np.zeros((0, 2), np.int64)
    ends = np.frombuffer(offsets, kind, len(values) + 1, np.dtype(kind).itemsize * values.offset).astype(np.int64)
    if data is None or ends[-1] == ends[0]:
        return np.zeros((len(values), 2), np.int64)
    first = data.address - start
    if not 0 <= first <= first + int(ends[-1]) <= size:
        return None
    lengths = np.diff(ends)
    lengths[~values.is_valid().to_numpy(zero_copy_only=False)] = 0
    return np.stack([first + ends[:-1], lengths], axis=1)


def indexed(path: str, names: list[str], column: Callable[[Any], Any]) -> Index | None:
    """Return the index of an Arrow file's pictures; None where it is compressed.

    ``column`` returns the cells of bytes of a table.
    """
    size, found = os.path.getsize(path), []
    for batch, start in batches(path):
        if (spans := spans_of(column(batch), start, size)) is None:
            return None
        found.append(spans)
    return Index.of(path, path, names, np.concatenate(found) if found else np.zeros((0, 2)))
