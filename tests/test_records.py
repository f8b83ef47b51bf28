"""Records: what goes to JSON comes back, and what is not of its type is refused with its place."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sslzoo import UserError
from sslzoo.tools.records import Misfit, Record, write_json


@dataclass(frozen=True)
class Inner(Record):
    scores: dict[str, float]
    best: float | None = field(default=None, metadata={"key": "recall@1"})


@dataclass(frozen=True)
class Outer(Record):
    name: str
    sizes: tuple[int, ...]
    inner: Inner
    more: list[Inner] = field(default_factory=list)
    flag: bool = False


WHOLE = Outer("a", (1, 2), Inner({"k1": 0.5}, 0.25), [Inner({}, None)], True)
JSON = {
    "name": "a", "sizes": [1, 2], "inner": {"scores": {"k1": 0.5}, "recall@1": 0.25},
    "more": [{"scores": {}, "recall@1": None}], "flag": True,
}  # fmt: skip


def test_a_record_is_one_json_object_and_comes_back(tmp_path: Path) -> None:
    assert WHOLE.to_json() == JSON
    write_json(tmp_path / "f.json", WHOLE)
    assert json.loads((tmp_path / "f.json").read_text()) == JSON
    assert Outer.read(tmp_path / "f.json", "wrong.") == WHOLE


def test_an_optional_field_is_left_out_where_it_is_none() -> None:
    @dataclass(frozen=True)
    class Sparse(Record):
        there: int | None = field(default=None, metadata={"optional": True})
        kept: int | None = None

    assert Sparse().to_json() == {"kept": None}
    assert Sparse(0, 1).to_json() == {"there": 0, "kept": 1}
    assert Sparse.from_json({}) == Sparse()


def test_a_whole_number_is_a_float_and_an_unknown_key_is_passed_over() -> None:
    found = Inner.from_json({"scores": {"k1": 1}, "other": 3})
    assert found == Inner({"k1": 1.0})
    assert type(found.scores["k1"]) is float


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": 3}, "name"), ({"sizes": 3}, "sizes"), ({"sizes": [1.5]}, "sizes[]"), ({"sizes": [True]}, "sizes[]"),
        ({"flag": 1}, "flag"), ({"flag": None}, "flag"), ({"inner": []}, "Inner"),
        ({"inner": {"scores": {"k1": "x"}}}, "scores.k1"), ({"inner": {"scores": {"k1": True}}}, "scores.k1"),
        ({"inner": {"scores": {"k1": 10**400}}}, "scores.k1"),
        ({"inner": {}}, "scores"), ({"inner": {"scores": {}, "recall@1": "x"}}, "recall@1"),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_is_refused_with_its_place(change: dict, place: str) -> None:
    with pytest.raises(Misfit, match=place.replace("[", r"\[")):
        Outer.from_json({**JSON, **change})


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"name": "a"}', "null"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UserError, match="Mend it"):
        Outer.read(tmp_path / "f.json", "Mend it.")
