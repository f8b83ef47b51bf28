"""The map: a minimum spanning tree from the hub, words that parse, a drawing without overlaps, the command."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from sslzoo.cli import main
from sslzoo.recipes.algebra import parse
from sslzoo.recipes.drawing import svg, write
from sslzoo.recipes.map import Node, described, spanning_tree, words
from sslzoo.recipes.recipe import Method, find_method, method_names, read_method, switch_values
from sslzoo.recipes.rules import refusal
from sslzoo.recipes.schema import SWITCHES, Switches
from sslzoo.tools.errors import UserError
from sslzoo.tools.toml import to_toml

LEGAL = [
    switches
    for values in product(*(field.values for field in SWITCHES.values()))
    if refusal(switches := Switches(*values)) is None
]
HUB = Switches("mlp", "shared", True, "none", "none", "view", "l2", "cosine", "none", True)
SVG = "{http://www.w3.org/2000/svg}"


def shipped() -> list[Method]:
    return [find_method(name) for name in method_names()]


def drawn(seed: int, n: int = 24) -> list[Method]:
    """Random methods, some with the switches of another."""
    found = [Method("hub", HUB, {}, title="The hub", hub=True)]
    for k, switches in enumerate(random.Random(seed).choices(LEGAL, k=n - 1)):
        found.append(Method(f"method_{k}", switches, {}, title=f"Method <{k}> & co", idea="Less < more."))
    found.append(Method("again", found[1].switches, {}, title="Again", variant_of=found[1].name))
    return found


SETS = [pytest.param(shipped, id="shipped"), *(pytest.param(lambda s=s: drawn(s), id=f"random {s}") for s in range(4))]


def distance(a: Switches, b: Switches) -> int:
    return sum(x != y for x, y in zip(switch_values(a).values(), switch_values(b).values(), strict=True))


def kruskal(points: Sequence[Switches]) -> int:
    """The weight of a minimum spanning tree, by sorted edges and merged sets."""
    group, weight = {point: point for point in points}, 0
    for a, b in sorted(combinations(points, 2), key=lambda edge: distance(*edge)):
        if group[a] != group[b]:
            weight += distance(a, b)
            old = group[b]
            group = {point: group[a] if leader == old else leader for point, leader in group.items()}
    return weight


def edges(root: Node) -> list[tuple[Node, Node]]:
    return [(node, child) for _, node in root.walk() for child in node.children]


@pytest.mark.parametrize("methods", SETS)
def test_it_is_a_minimum_spanning_tree_from_the_hub(methods: Callable[[], list[Method]]) -> None:
    found = methods()
    root = spanning_tree(found)
    assert root.methods[0].hub
    nodes = [node for _, node in root.walk()]
    assert sorted(method.name for node in nodes for method in node.methods) == sorted(m.name for m in found)
    points = list(dict.fromkeys(method.switches for method in found))
    assert len(nodes) == len(points) == len(edges(root)) + 1
    assert sum(distance(a.switches, b.switches) for a, b in edges(root)) == kruskal(points)


@pytest.mark.parametrize("methods", SETS)
def test_it_does_not_depend_on_the_order_of_methods(methods: Callable[[], list[Method]]) -> None:
    found = methods()
    mixed = random.Random(1).sample(found, len(found))
    assert described(spanning_tree(mixed)) == described(spanning_tree(found))
    assert svg(spanning_tree(mixed)) == svg(spanning_tree(found))


def test_equal_edges_are_taken_near_the_hub_then_by_name() -> None:
    def tree(**switches: dict[str, str | bool]) -> list[tuple[str, str]]:
        values = switch_values(HUB)
        rest = [Method(name, Switches(**{**values, **changed}), {}) for name, changed in switches.items()]
        return [(a.name, b.name) for a, b in edges(spanning_tree([*rest, Method("hub", HUB, {}, hub=True)]))]

    assert tree(a={"target": "momentum"}, b={"target": "snapshot"}) == [("hub", "a"), ("hub", "b")]
    one, other = {"target": "momentum"}, {"predictor": "none"}
    assert tree(a=one, b=other, c={**one, **other}) == [("hub", "a"), ("hub", "b"), ("a", "c")]
    assert tree(b=one, a=other, c={**one, **other}) == [("hub", "a"), ("hub", "b"), ("a", "c")]


def test_methods_with_the_same_switches_are_one_node() -> None:
    again = Method("a_variant", HUB, {}, variant_of="hub")
    root = spanning_tree([again, Method("hub", HUB, {}, hub=True)])
    assert (root.name, root.also, root.children) == ("hub", ("a_variant",), [])
    assert "also: a_variant" in svg(root)


def test_every_edge_is_an_expression_in_the_tool_s_grammar() -> None:
    for parent, child in edges(spanning_tree(shipped())):
        assert parse([parent.name, *child.words]).switches == child.switches
        assert parse(" ".join([parent.name, *child.words])).switches == child.switches


def test_words_make_any_legal_switches_of_any_others(tmp_path: Path) -> None:
    picked = random.Random(0).sample(LEGAL, 12)
    for a in picked:
        path = tmp_path / "a.toml"
        path.write_text(to_toml({"switches": switch_values(a)}))
        assert read_method(path).switches == a
        for b in picked:
            assert parse([str(path), *words(a, b)]).switches == b
            assert len(words(a, b)) == distance(a, b)


def test_the_spelling_of_words() -> None:
    def change(old: dict[str, str | bool], new: dict[str, str | bool]) -> list[str]:
        return words(*(Switches(**{**switch_values(HUB), **changed}) for changed in (old, new)))

    assert change({}, {"target": "momentum", "predictor": "none"}) == ["- predictor", "+ momentum"]
    assert change({"target": "momentum", "stop_gradient": False}, {}) == ["- momentum", "+ stop_gradient"]
    assert change({}, {"negatives": "batch", "symmetric": False}) == ["+ negatives", "- symmetric"]
    assert change({"negatives": "batch"}, {"negatives": "queue"}) == ["negatives=queue"]
    assert change({}, {"negatives": "queue"}) == ["+ queue"]
    assert change({"normalize": "none", "similarity": "mse"}, {}) == ["+ normalize", "similarity=cosine"]


@pytest.mark.parametrize(
    ("hubs", "message"), [([], "No method is marked"), (["a", "b"], "a, b are all marked")], ids=["none", "two"]
)
def test_there_is_one_hub(hubs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=rf"{message}.*'hub = true' in exactly one method file\.$"):
        spanning_tree([Method(name, HUB, {}, hub=name in hubs) for name in ("b", "a", "c")])


# ---- the drawing


@pytest.mark.parametrize("methods", SETS)
def test_the_drawing_has_every_name_and_nothing_overlaps(methods: Callable[[], list[Method]]) -> None:
    found = methods()
    page = ElementTree.fromstring(svg(spanning_tree(found)))
    texts = ["".join(text.itertext()) for text in page.iter(f"{SVG}text")]
    for method in found:
        assert any(method.name in text for text in texts)
    paper, *boxes = [rect.attrib for rect in page.iter(f"{SVG}rect")]
    assert paper["width"] == "100%"
    spans = []
    for box in boxes:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
        spans.append((x, y, x + width, y + height))
        assert 0 < x < x + width < float(page.attrib["width"])
        assert 0 < y < y + height < float(page.attrib["height"])
    assert len(spans) == len({method.switches for method in found})
    for a, b in permutations(spans, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    # The words of edges stand outside the boxes; baselines keep the height of a line from a box above them.
    for text in page.findall(f"{SVG}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        assert not any(left < x < right and top - 1 < y < bottom + 11 for left, top, right, bottom in spans)


def test_names_are_escaped() -> None:
    text = svg(spanning_tree([Method("a<b>&c", HUB, {}, title='"Title"', paper='https://x/?a&"', hub=True)]))
    page = ElementTree.fromstring(text)
    assert "a<b>&c" in "".join(page.itertext())
    assert next(page.iter(f"{SVG}a")).attrib["href"] == 'https://x/?a&"'


# ---- the command


def invoke(*args: str) -> Result:
    return CliRunner().invoke(main, ["methods", "map", *args])


def test_the_tree_on_the_terminal_is_plain_where_there_is_none() -> None:
    result = invoke()
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    hub = spanning_tree(shipped())
    assert result.stdout.split()[0] == hub.name
    for _, node in hub.walk():
        for child in node.children:
            assert f" {child.name}  {' '.join(child.words)}" in result.stdout


def test_json_has_nodes_and_edges() -> None:
    found = json.loads(invoke("--json").stdout)
    assert set(found) == {"hub", "nodes", "edges"}
    assert found["nodes"][0]["name"] == found["hub"] == "simsiam"
    assert len(found["edges"]) == len(found["nodes"]) - 1
    for edge in found["edges"]:
        assert set(edge) == {"from", "to", "switches", "words"}
        assert (
            len(edge["switches"])
            == len(edge["words"])
            == distance(find_method(edge["from"]).switches, find_method(edge["to"]).switches)
        )


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_out_writes_the_drawing_too(tmp_path: Path, args: list[str]) -> None:
    path = tmp_path / "map.svg"
    path.write_text(svg(spanning_tree(shipped()))[:200])  # one of ours, and broken
    result = invoke("--out", str(path), *args)
    assert result.exit_code == 0
    assert path.read_text(encoding="utf-8") == svg(spanning_tree(shipped()))
    assert [file.name for file in tmp_path.iterdir()] == ["map.svg"]
    assert (str(path) in result.stdout) == (not args)


@pytest.mark.parametrize(
    ("name", "message"),
    [("map.png", "has to end in .svg"), ("map", "has to end in .svg"), ("no/map.svg", "There is no folder")],
)
def test_out_is_refused_in_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    result = invoke("--out", str(tmp_path / name))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map.svg").mkdir()
    with pytest.raises(UserError, match=r"is a folder; give --out another place\.$"):
        write(tmp_path / "map.svg", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["map.svg"]


def test_the_command_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; from sslzoo.cli import main; "
        f"main(['methods', 'map', '--out', {str(tmp_path / 'map.svg')!r}], standalone_mode=False); "
        "assert not {'torch', 'faiss', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_committed_drawing_is_of_the_shipped_methods() -> None:
    """``sslzoo methods map --out benchmarks/results/map.svg`` writes it."""
    path = Path(__file__).parent.parent / "benchmarks" / "results" / "map.svg"
    assert path.read_text() == svg(spanning_tree(shipped()))
