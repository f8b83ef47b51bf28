"""Plugins: values of switches, backbones and data sets of a person's own Python file, or of an installed package.

A file has any of ``VALUES`` (a list of `SwitchValue`), ``BACKBONES`` (functions of an image size in px that return a
module, by name) and ``DATA`` (functions that return arrays by MedMNIST's keys, by name). A package has entry points of
the groups ``sslzoo.values``, ``sslzoo.backbones`` and ``sslzoo.data``. A file is code that runs: it is loaded only
where it is named, and a run that needs one says which, by its path and its hash.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..tools.errors import UserError, did_you_mean, exhausted, kind_and_words, listing, within
from ..tools.records import Record
from .knobs import expand
from .schema import SWITCHES
from .values import SwitchValue, declare

PARTS = ("VALUES", "BACKBONES", "DATA")
Backbone = Callable[[int], Any]
T = TypeVar("T")
Data = Callable[[], Mapping[str, Any]]

_loaded: dict[str, "Plugin"] = {}  # by hash
_backbones: dict[str, Backbone] = {}
_data: dict[str, Data] = {}


@dataclass(frozen=True)
class Plugin(Record):
    """Names a file that was loaded: its path, and the SHA-256 of what it held then."""

    path: str
    sha256: str


def load_plugin(path: str | Path) -> Plugin:
    """Load a person's Python file, ``path``, and make known what it has; what is loaded already is not loaded again.

    Raises `UserError` for a file that is not there, that fails, or that has nothing of use.
    """
    file = Path(os.path.expanduser(path)).absolute()
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"There is no Python file {path}; give --plugin the path of one.")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); give --plugin another file.") from None
    plugin = Plugin(str(file), hashlib.sha256(content).hexdigest())
    if plugin.sha256 in _loaded:
        return _loaded[plugin.sha256]
    name = f"sslzoo_plugin_{plugin.sha256[:12]}"
    module = sys.modules[name] = ModuleType(name)  # where pickle and dataclasses look for it
    module.__file__ = str(file)
    try:
        exec(compile(content, str(file), "exec"), module.__dict__)
        with within(str(file)):
            _take(module)
    except UserError:
        del sys.modules[name]
        raise
    except Exception as error:  # a person's code may raise anything
        del sys.modules[name]
        raise UserError(f"The plugin {file} fails ({kind_and_words(error, 200)}); mend it.") from None
    _loaded[plugin.sha256] = plugin
    return plugin


def _take(module: ModuleType) -> None:
    """Make known what a plugin's module has. Raises `UserError`."""
    if not any(hasattr(module, part) for part in PARTS):
        raise UserError(f"A plugin has to have {listing(PARTS)}; this one has none of them.")
    values = getattr(module, "VALUES", [])
    check(values)
    for part in PARTS[1:]:
        found = getattr(module, part, {})
        if not isinstance(found, Mapping) or not all(isinstance(k, str) and callable(v) for k, v in found.items()):
            raise UserError(f"{part} has to map names to functions.")
    declare(values)
    _backbones.update(getattr(module, "BACKBONES", {}))
    _data.update(getattr(module, "DATA", {}))


def check(values: Iterable[SwitchValue]) -> None:
    """Raise `UserError` for a value whose switch, word, function or knobs are none."""
    for value in values:
        if not isinstance(value, SwitchValue):
            raise UserError(f"VALUES has to be a list of SwitchValue; {value!r:.60} is none.")
        if value.switch not in SWITCHES:
            raise UserError(f"There is no switch {value.switch!r}{did_you_mean(value.switch, SWITCHES)}.")
        if isinstance(SWITCHES[value.switch].off, bool):
            raise UserError(f"{value.switch} is on or off and takes no further values.")
        if not isinstance(value.word, str) or not re.fullmatch("[a-z][a-z0-9_]*", value.word):
            raise UserError(f"{value.word!r} cannot be a value; it is one word of small letters, digits and _.")
        if value.word in SWITCHES:
            raise UserError(f"{value.word!r} is a switch; give the value another word.")
        if not value.function:
            raise UserError(f"{value.word} has no function; a value of {value.switch} needs one.")
        for knob in value.knobs:
            if expand(knob) != [knob]:
                raise UserError(f"{value.word} reads {knob!r}, which stands for several knobs; name one.")


def failure(error: BaseException) -> str | None:
    """Return the sentence for an error that a plugin's own code raised: where, and what; None for any other."""
    trace, place = error.__traceback__, None
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path in [plugin.path for plugin in _loaded.values()]:
            place = f"{path} fails in line {trace.tb_lineno}"
        trace = trace.tb_next
    return None if place is None else f"The plugin {place} ({kind_and_words(error, 200)}); mend it."


def called(what: str, make: Callable[[], T]) -> T:
    """Return what a plugin's function makes. Raises `UserError` where it fails, as one does that takes no size."""
    try:
        return make()
    except UserError:
        raise
    except Exception as error:  # a person's code may raise anything
        if exhausted(error) is not None:
            raise
        raise UserError(
            failure(error) or f"The plugin's {what} fails ({kind_and_words(error, 200)}); mend it."
        ) from None


def loaded() -> list[Plugin]:
    """Return the files that were loaded, in the order of their loading."""
    return list(_loaded.values())


def require(needed: Iterable[Plugin], run: Path) -> None:
    """Raise `UserError` where a run needs a file that was not loaded, or that has changed since the run began."""
    for plugin in needed:
        if plugin.sha256 in _loaded:
            continue
        if plugin.path in [one.path for one in _loaded.values()]:
            raise UserError(f"{plugin.path} has changed since {run} began; bring it back as it was, or train anew.")
        raise UserError(f"{run} was trained with a plugin; give it again with --plugin {plugin.path}.")


@cache
def _installed(group: str, name: str) -> Any:
    """Return what an installed package has under a name; None where none has it."""
    return next((entry.load() for entry in entry_points(group=group, name=name)), None)


GIVEN = "given:"  # what the name begins with of a module that was given in Python


def give_backbone(module: Any) -> str:
    """Make known a module that a person gives in Python, and return the name under which a copy of it is made.

    Its weights of now are those that the copies have.
    """
    kept, name = deepcopy(module), f"{GIVEN}{type(module).__name__}"
    _backbones[name] = lambda size: deepcopy(kept)
    return name


def backbone(name: str) -> Backbone | None:
    """Return the function that makes a backbone of this name; None where no plugin has one."""
    found: Backbone | None = _backbones.get(name) or _installed("sslzoo.backbones", name)
    return found


def data(name: str) -> Data | None:
    """Return the function that gives the arrays of a data set of this name; None where no plugin has one."""
    found: Data | None = _data.get(name) or _installed("sslzoo.data", name)
    return found
