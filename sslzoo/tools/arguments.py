"""What a person's Python gives to a public function: keywords that it has, of the types that it says."""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import BoundArguments, Parameter, Signature, signature
from os import PathLike, fsdecode
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

from .errors import UserError, did_you_mean, listing
from .records import Misfit, fitted

P = ParamSpec("P")
T = TypeVar("T")
WORDS = {
    int: "a whole number", float: "a number", str: "a text", bool: "True or False", Path: "a path", NoneType: "None",
}  # fmt: skip
MANY = {int: "a list of whole numbers", float: "a list of numbers", str: "a list of texts"}


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Return the same function, which raises `UserError` for arguments that it does not have, or of another type.

    Only what is annotated as numbers, texts, truth values or lists of these is checked; a number of numpy's is one of
    Python's.
    """
    says = signature(function)
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    names = [name for name, one in says.parameters.items() if one.kind in kinds and name != "self"]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        own = function.__qualname__
        for word in kwargs:
            if word not in names:
                near = did_you_mean(word, names)
                raise UserError(f"{own}() has no option {word!r}{near}; it has {listing(names)}.")
        bound = _bound(says, own, args, kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _fitting(name, value, says.parameters[name].annotation)
        return function(*bound.args, **bound.kwargs)

    return call


def _bound(says: Signature, own: str, args: Sequence[Any], kwargs: Any) -> BoundArguments:
    """Return arguments by their names. Raises `UserError` where one is missing, or more come without a name."""
    try:
        return says.bind(*args, **kwargs)
    except TypeError as error:
        by_name = [name for name, one in says.parameters.items() if one.kind is Parameter.KEYWORD_ONLY]
        give = f"; give {by_name[0]}= and those after it by name" if "positional" in str(error) and by_name else ""
        raise UserError(f"{own}() has {str(error).replace('missing', 'no value for')}{give}.") from None


def _fitting(name: str, value: Any, annotation: Any) -> Any:
    """Return a value as its annotation says, where that is of plain types. Raises `UserError` for another type."""
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    words = {kind: MANY.get(get_args(kind)[0]) if get_origin(kind) is Sequence else WORDS.get(kind) for kind in kinds}
    if not all(words.values()):
        return value  # which the function itself looks at
    many = any(get_origin(kind) is Sequence for kind in kinds) and hasattr(value, "__iter__")
    plain = [_plain(one) for one in value] if many and not isinstance(value, str) else _plain(value)
    try:
        return fitted(plain, annotation, name)
    except Misfit:
        raise UserError(f"{name} cannot be {value!r:.80}; it is {listing(words.values())}.") from None


def _plain(value: Any) -> Any:
    """Return a number of numpy's as one of Python's, and a path as text; another value as it is."""
    if isinstance(value, PathLike):
        return fsdecode(value)
    scalar = hasattr(value, "dtype") and hasattr(value, "item") and not getattr(value, "ndim", 1)
    return value.item() if scalar else value
