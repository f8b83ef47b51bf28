"""Banks and queries of rows that people bring along: by a split column, by two files, or one set that asks itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...tools.errors import UserError, listing
from ..embedding import Embedding, read_features
from .formats import ARRAYS, Columns, read, read_labels, suffix
from .named import rows_of
from .rows import Array, Rows, labels_of, some, whole_numbers

BY_SPLIT = "train_features"  # the name of an array whose file has arrays for each split
BANKS = ("train", "training", "bank", "gallery", "reference")
QUERIES = ("test", "testing", "query", "queries")
VALIDATION = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Given:
    """Names files of a bank, with its labels, and of queries, with theirs; without queries the bank asks itself."""

    bank: Path | None = None
    bank_labels: Path | None = None
    queries: Path | None = None
    query_labels: Path | None = None

    def __bool__(self) -> bool:
        return any(one is not None for one in (self.bank, self.bank_labels, self.queries, self.query_labels))


@dataclass(frozen=True)
class Reading:
    """Says how files are read: ``columns`` by their roles; ``hold_out`` is a share that asks, drawn by ``seed``."""

    columns: Columns = field(default_factory=dict)
    hold_out: float | None = None
    seed: int = 0

    @property
    def asked(self) -> bool:
        """Return whether a person said how files are to be read."""
        return bool(self.columns) or self.hold_out is not None

    def __post_init__(self) -> None:
        if self.hold_out is not None and not 0 < self.hold_out < 1:
            raise UserError(f"--hold-out cannot be {self.hold_out:g}; it is a share of the rows, between 0 and 1.")


def embedding_of(path: Path, how: Reading) -> Embedding:
    """Return the embedding of a file, whose splits are its split column's, or drawn, or one that asks itself.

    Raises `UserError`.
    """
    if suffix(path) in ARRAYS:
        arrays, notes = by_split(ARRAYS[suffix(path)](path))
        if not how.asked and BY_SPLIT in arrays:
            found = read_features(path, arrays)
            return replace(found, note="; ".join([*notes, *filter(None, [found.note])]) or None)
        rows = rows_of(path, arrays, how.columns)
    else:
        rows = read(path, how.columns)
    if rows.splits is None:
        return between(str(path), path.stem, *drawn(str(path), rows, how))
    if how.hold_out is not None:
        raise UserError(f"{path} says of each row which split it is of; leave --hold-out out.")
    return between(str(path), path.stem, *by_column(str(path), rows))


def by_split(arrays: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Return arrays by our names where they have scikit-learn's, as X_train and y_train, and a note on it."""
    ours = {"x": "features", "y": "labels"}
    names = {}
    for name in arrays:
        words = {*name.lower().split("_")}
        if len(words) == 2 and (role := words & {*ours}) and (split := words & {"train", "val", "test"}):
            names[name] = f"{split.pop()}_{ours[role.pop()]}"
    if BY_SPLIT in arrays or BY_SPLIT not in names.values():
        return arrays, []
    said = ", ".join(f"{own} are {name}" for name, own in names.items())
    return {names.get(name, name): array for name, array in arrays.items()}, [said]


def drawn(where: str, rows: Rows, how: Reading) -> tuple[Rows, Rows | None, str]:
    """Return the rows that are a bank and those that ask, drawn by the seed, and a note on it; one set without a share.

    Raises `UserError` where the share leaves one of the two without rows.
    """
    if how.hold_out is None:
        return rows, None, ""
    n = len(rows.features)
    asking = np.random.default_rng(how.seed).permutation(n) < how.hold_out * n
    if asking.all() or not asking.any():
        raise UserError(f"{where} has {n} rows, too few for --hold-out {how.hold_out:g}; give more.")
    note = f"{int(asking.sum())} of {n} rows ask, drawn by seed {how.seed} (--hold-out {how.hold_out:g})"
    return rows.take(~asking), rows.take(asking), note


def by_column(where: str, rows: Rows) -> tuple[Rows, Rows | None, str]:
    """Return the bank's rows and the queries' by what a column of splits says, and a note on rows of neither."""
    assert rows.splits is not None
    words = np.char.lower(rows.splits)
    known = (*BANKS, *QUERIES, *VALIDATION)
    if strange := [word for word in np.unique(words).tolist() if word not in known]:
        raise UserError(f"{where} has rows of the split {strange[0]!r}; a split is {listing(known)}.")
    bank, test, val = (np.isin(words, some_words) for some_words in (BANKS, QUERIES, VALIDATION))
    asking, left = (test, val) if test.any() else (val, np.zeros_like(val))
    note = f"{int(left.sum())} rows of the validation split are left out" if left.any() else ""
    if not bank.any() or not asking.any():
        alone = bank if bank.any() else asking
        return rows.take(alone), None, note
    return rows.take(bank), rows.take(asking), note


def embedding_between(given: Given, how: Reading) -> Embedding:
    """Return the embedding of a bank and of queries that lie in files of their own. Raises `UserError`."""
    if given.bank is None:
        raise UserError("--bank is missing; name the file of the rows among which neighbours are searched.")
    if given.query_labels is not None and given.queries is None:
        raise UserError("--query-labels are of --queries, and there are none; give both.")
    if given.queries is not None and how.hold_out is not None:
        raise UserError("--hold-out draws queries, and --queries names a file of them; leave one of the two out.")
    bank = unsplit(labelled(read(given.bank, how.columns), given.bank, given.bank_labels, how.columns), given.bank)
    if given.queries is None:
        return between(str(given.bank), given.bank.stem, *drawn(str(given.bank), bank, how))
    queries = labelled(read(given.queries, how.columns), given.queries, given.query_labels, how.columns)
    queries = unsplit(queries, given.queries).like(bank, f"{given.bank} and {given.queries}")
    if bank.features.shape[1] != queries.features.shape[1]:
        raise UserError(
            f"{given.bank} has {bank.features.shape[1]} columns of features and {given.queries} "
            f"{queries.features.shape[1]}; give both of one encoder."
        )
    return between(f"{given.queries} in {given.bank}", given.bank.stem, bank, queries)


def labelled(rows: Rows, path: Path, labels: Path | None, columns: Columns) -> Rows:
    """Return rows with the labels of a file: by the names of files where both have them, else by their order."""
    if labels is None:
        return rows
    found, files, notes = read_labels(labels, columns)
    rows = replace(rows, notes=(*rows.notes, *notes))
    if files is None or rows.files is None:
        if rows.unordered:
            raise UserError(
                f"{path} has a vector for each name, in no order of its own; give --bank-labels or --query-labels a "
                "table with the columns file and label."
            )
        if len(found) != len(rows.features):
            of, head = len(rows.features), ", and its first line is taken for the names of columns"
            said = f"{labels} has {len(found)} labels for the {of} rows of {path}{head * (len(found) + 1 == of)}"
            raise UserError(f"{said}; give one a row.")
        said = f"labels of {labels.name} are taken in the order of its rows, since not both files have names of files"
        return replace(rows, labels=found, notes=(*rows.notes, said))
    place = {name: i for i, name in enumerate(files.tolist())}
    if len(place) < len(files):
        raise UserError(f"{labels} has a file twice; give each one label.")
    if missing := [name for name in rows.files.tolist() if name not in place]:
        raise UserError(f"{labels} has no label for {some(missing, 3)} of {path}; add one for each.")
    return replace(rows, labels=found[[place[name] for name in rows.files.tolist()]])


def unsplit(rows: Rows, path: Path) -> Rows:
    """Return all rows of a file that is a bank or queries as a whole, whatever splits it names; a note says so."""
    if rows.splits is None:
        return rows
    return replace(rows, splits=None, notes=(*rows.notes, f"all rows of {path.name} are taken, of whatever split"))


def between(source: str, name: str, bank: Rows, queries: Rows | None, note: str = "") -> Embedding:
    """Return an embedding of a bank and of queries; of one set where there are none. Raises `UserError`."""
    parts = {"train": bank} | ({} if queries is None else {"test": queries})
    for rows in parts.values():
        check(source, rows.features)
    labels, classes, notes = coded(source, {split: rows.labels for split, rows in parts.items()})
    arrays: dict[str, Array] = {}
    for split, rows in parts.items():
        arrays[f"{split}_features"] = rows.features
        if (own := labels.get(split)) is not None:
            arrays[f"{split}_labels"] = own
        if rows.files is not None:
            arrays[f"{split}_files"] = rows.files
    if classes or bank.classes:
        arrays["classes"] = np.array(classes or bank.classes)
    said = [*filter(None, [note]), *dict.fromkeys(note for rows in parts.values() for note in rows.notes), *notes]
    return Embedding(source, name, arrays, note="; ".join(said) or None)


def with_numbers(embedding: Embedding) -> Embedding:
    """Return an embedding whose labels are numbers, where some were texts. Raises `UserError` as `coded` does."""
    labels = {key: array for key, array in embedding.arrays.items() if key.endswith("_labels")}
    if all(array.dtype.kind in "fiub" for array in labels.values()):
        return embedding
    given = {key: labels_of(embedding.source, array) for key, array in labels.items()}
    numbers, classes, notes = coded(embedding.source, given)
    names = {"classes": np.array(classes)} if classes else {}
    said = "; ".join([*filter(None, [embedding.note]), *notes]) or None
    return replace(embedding, arrays={**embedding.arrays, **numbers, **names}, note=said)


def check(source: str, features: Array) -> None:
    """Raise `UserError` for features that are no matrix of numbers."""
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "fiub":
        raise UserError(
            f"{source} has features of shape {list(features.shape)} and kind {features.dtype}; they have to be numbers "
            "[rows, columns], neither empty."
        )


def coded(source: str, labels: Mapping[str, Array | None]) -> tuple[dict[str, Array], tuple[str, ...], list[str]]:
    """Return labels as numbers, the names of the classes where they were texts, in their order, and notes.

    An empty text is no label. Texts are numbers where those of all splits are. Raises `UserError` where some are texts
    and others are numbers.
    """
    there = {split: column for split, column in labels.items() if column is not None}
    wordy = [split for split, column in there.items() if column.dtype.kind == "U"]
    read = {split: whole_numbers(there[split]) for split in wordy}
    if all(column.dtype.kind != "U" for column in read.values()):
        below = sum(int(((column < 0) & (there[split] != "")).sum()) for split, column in read.items())
        return there | read, (), [f"{below:,} labels are below 0, which counts as none"] if below else []
    if len(wordy) < len(there):
        raise UserError(f"{source} has labels that are texts and others that are numbers; give all of one kind.")
    names = sorted({str(name) for column in there.values() for name in np.unique(column)} - {""})
    place = {name: i for i, name in enumerate(names)} | {"": -1}
    found = {split: np.array([place[name] for name in column.tolist()], np.int64) for split, column in there.items()}
    return found, tuple(names), []
