"""What `sslzoo` offers in Python: every parameter has a name, a type and a word in its docstring."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from numpy.typing import ArrayLike
from torch import nn

import sslzoo
from sslzoo.recipes.schema import Value
from sslzoo.training.listeners.reporter import Reporter
from sslzoo.training.options import Options
from sslzoo.training.run import Data

GIVEN = {"UserError", "Recipe", "Result", "LogRow", "Step", "Evaluation"}  # an error, and what is given back or told
CALLED = sorted(set(sslzoo.__all__) - GIVEN)


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(sslzoo, name)).parameters)


def hints(name: str) -> dict[str, object]:
    made = getattr(sslzoo, name)
    return get_type_hints(made.__init__ if inspect.isclass(made) else made)


def test_train_takes_the_options_of_a_run_by_name() -> None:
    found, types = parameters("train"), hints("train")
    assert next(iter(found)) == "expression"
    assert types["expression"] == str | Sequence[str]
    rest = {name: one for name, one in found.items() if name != "expression"}
    assert {one.kind for one in rest.values()} == {inspect.Parameter.KEYWORD_ONLY}
    options = get_type_hints(Options)
    expected = {field.name: (field.default, options[field.name]) for field in fields(Options)}
    expected |= {"reporter": (None, Reporter | None), "stop_after": (None, int | None)}
    expected |= {"backbone": (None, str | nn.Module | None), "callbacks": ((), Sequence[object])}
    expected |= {"data": (None, str | Path | Data | Mapping[str, Data] | None)}
    expected |= {"augment": (None, Callable[[torch.Tensor], torch.Tensor] | None)}
    assert {name: (one.default, types[name]) for name, one in rest.items()} == expected


def another(kind: Any, field: Any, number: int) -> Any:
    """A value of a type that no other option has, but for True and False."""
    kinds = get_args(kind) or (kind,)
    if str in kinds:
        return f"value of {field.name}"
    return number if int in kinds else number / 1000 if float in kinds else not field.default


def test_train_hands_each_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that all differ arrive under their own names."""
    seen = []

    def planned(expression: str, options: Options, augment: object) -> None:
        seen.append((expression, options, augment))
        raise sslzoo.UserError("Enough.")

    monkeypatch.setattr("sslzoo.training.run.planned", planned)
    types = get_type_hints(Options)
    given = {field.name: another(types[field.name], field, i) for i, field in enumerate(fields(Options), 100)}
    with pytest.raises(sslzoo.UserError, match="Enough"):
        sslzoo.train("simsiam", augment=torch.flip, **given)  # type: ignore[arg-type]
    assert seen == [("simsiam", Options(**given), torch.flip)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CALLED)
def test_every_parameter_has_a_type_and_a_word_in_the_docstring(name: str) -> None:
    found, types = parameters(name), hints(name)
    assert "return" in types or inspect.isclass(getattr(sslzoo, name))
    for parameter in found.values():
        assert parameter.name in types
        kind = types[parameter.name]
        assert kind is not object
        told = str(kind).replace(str(Callable[..., Any]), "")  # a switch's function, whose contract is its switch's
        assert kind in (ArrayLike, ArrayLike | None) or "Any" not in told
        said = inspect.getdoc(getattr(sslzoo, name)) or ""
        assert re.search(rf"``{parameter.name}``", said), f"{name} says nothing of {parameter.name}"


@pytest.mark.parametrize("name", sslzoo.__all__)
def test_no_tunnel_of_keywords(name: str) -> None:
    """But for the knobs of an expression, whose names the methods' schema has."""
    if name == "UserError":
        return
    kinds = {one.kind: one.name for one in parameters(name).values()}
    assert inspect.Parameter.VAR_POSITIONAL not in kinds
    assert kinds.get(inspect.Parameter.VAR_KEYWORD) == ("knobs" if name == "load" else None)
    if name == "load":
        assert hints(name)["knobs"] == Value
