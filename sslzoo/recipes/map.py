"""The map of methods: the minimum spanning tree by number of differing switches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..tools.errors import UserError
from .algebra import diff
from .recipe import Method
from .schema import SWITCHES, Switches

# ---- the tree --------------------------------------------------------------------------------------------------------


@dataclass
class Node:
    """Holds methods with the same ten switches, the words that make them of the parent, and the nodes below."""

    methods: tuple[Method, ...]
    words: tuple[str, ...] = ()
    children: list["Node"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The method that gives the node its name; the others are `also`."""
        return self.methods[0].name

    @property
    def also(self) -> tuple[str, ...]:
        """Return the other methods with these switches."""
        return tuple(method.name for method in self.methods[1:])

    @property
    def switches(self) -> Switches:
        """Return the ten switches of all methods of the node."""
        return self.methods[0].switches

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Node"]]:
        """Return the node and all below, each with its depth; parents first."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


def spanning_tree(methods: Sequence[Method]) -> Node:
    """The tree of fewest changed switches, as its root: the hub. Raises `UserError` where there is not one hub.

    Prim's algorithm from the hub. Of edges that change equally many switches, the one nearest the hub is taken, then
    the first by name; so a parent's children stand by distance, then by name.
    """
    hubs = sorted(method.name for method in methods if method.hub)
    if len(hubs) != 1:
        found = f"{', '.join(hubs)} are all" if hubs else "No method is"
        raise UserError(f"{found} marked as the map's root; write 'hub = true' in exactly one method file.")
    same: dict[Switches, list[Method]] = {}
    for method in sorted(methods, key=lambda m: (not m.hub, bool(m.variant_of), m.name)):
        same.setdefault(method.switches, []).append(method)
    root, *outside = [Node(tuple(group)) for group in same.values()]
    inside = [(0, root)]
    while outside:
        _, depth, _, _, parent, child = min(
            (
                (len(diff(parent.switches, child.switches)), depth, parent.name, child.name, parent, child)
                for depth, parent in inside
                for child in outside
            ),
            key=lambda edge: edge[:4],
        )
        child.words = tuple(words(parent.switches, child.switches))
        parent.children.append(child)
        inside.append((depth + 1, child))
        outside.remove(child)
    return root


def words(a: Switches, b: Switches) -> list[str]:
    """Return the words of an expression that make the switches ``b`` of a method with the switches ``a``."""
    return [_word(name, old, new) for name, (old, new) in diff(a, b).items()]


def _word(name: str, old: str | bool, new: str | bool) -> str:
    """One switch's word: a part is added or removed by its name, unless the value says more (``+ momentum``)."""
    values, usual = SWITCHES[name].values, SWITCHES[name].usual
    off, is_part = values[0], values[0] in ("none", False)
    if is_part or usual is not None:
        if new == off:
            return f"- {name if is_part else old}"
        if old == off:
            return f"+ {name if is_part and new == usual else new}"
    return f"{name}={new}"


def described(root: Node) -> dict[str, Any]:
    """Return the map as plain values: what ``methods map --json`` prints."""
    nodes = [node for _, node in root.walk()]
    return {
        "hub": root.name,
        "nodes": [{"name": node.name, "title": node.methods[0].title, "also": list(node.also)} for node in nodes],
        "edges": [
            {
                "from": node.name,
                "to": child.name,
                "switches": list(diff(node.switches, child.switches)),
                "words": list(child.words),
            }
            for node in nodes
            for child in node.children
        ],
    }


def reading(root: Node) -> str:
    """The sentence that says how to read the map, with its shortest edge as the example."""
    text = "Joined by the fewest changes of switches: the words at a method turn its parent into it"
    if not root.children:
        return f"{text}."
    nearest = root.children[0]
    return f"{text}, so '{' '.join([root.name, *nearest.words])}' has {nearest.name}'s switches."
