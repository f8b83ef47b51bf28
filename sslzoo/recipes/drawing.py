"""The map of methods as a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap

from ..tools import files
from .map import Node, reading

# ---- the drawing -----------------------------------------------------------------------------------------------------

MARGIN, GAP, BEND, LEAST = 28, 16, 56, 620  # px: around all; between rows; of a curve; width of the page
INK, SOFT, LINE, PAPER, HUB = "#1c2733", "#566472", "#8fa0b2", "#fbfcfd", "#1d4f86"
SIGNS, OTHER = {"+": "#17693a", "-": "#b3261e"}, "#7a5200"  # of words; their signs say the same without colour
NARROW, BROAD = set("fijlrtI.,:;'()- "), set("mwMW+=@%")


@dataclass(frozen=True)
class Line:
    """Holds a line of text: its words, each in its colour, and its size and weight."""

    words: tuple[tuple[str, str], ...]  # of text and colour
    size: float
    bold: bool = False

    @property
    def width(self) -> float:
        """Return its width in a broad sans-serif; the viewer's own font may be narrower, hardly broader."""
        text = "   ".join(word for word, _ in self.words)
        ems = sum(0.4 if c in NARROW else 0.95 if c in BROAD else 0.75 if c.isupper() else 0.64 for c in text)
        return ems * self.size * (1.1 if self.bold else 1)

    def draw(self, x: float, y: float, anchor: str = "start") -> str:
        """Return the SVG element, its middle at the height y."""
        weight = ' font-weight="bold"' if self.bold else ""
        apart = f' dx="{0.8 * self.size:g}"'
        spans = (
            f'<tspan fill="{fill}"{apart if n else ""}>{escape(word)}</tspan>'
            for n, (word, fill) in enumerate(self.words)
        )
        return (
            f'<text x="{x:.1f}" y="{y + 0.35 * self.size:.1f}" font-size="{self.size:g}" '
            f'text-anchor="{anchor}"{weight}>{"".join(spans)}</text>'
        )


class Block:
    """Draws a node: the words of the edge that ends there, over a box with the name, the title and other names."""

    def __init__(self, node: Node, hub: bool) -> None:
        self.node, self.fill, self.stroke = node, HUB if hub else "#ffffff", HUB if hub else LINE
        ink, soft = ("#ffffff", "#dbe7f4") if hub else (INK, SOFT)
        size, small, side, self.inset = (22.0, 14.0, 20, 14) if hub else (14.0, 11.0, 12, 6)
        texts = [node.methods[0].title or node.name, *wrap(f"also: {', '.join(node.also)}" if node.also else "", 24)]
        self.lines = [Line(((node.name, ink),), size, bold=True), *(Line(((text, soft),), small) for text in texts)]
        self.box = (max(line.width for line in self.lines) + 2 * side, tall(self.lines) + 2 * self.inset)
        self.words: list[Line] = []
        for word in node.words:
            coloured = ((word, SIGNS.get(word[0], OTHER)),)
            longer = Line((*self.words[-1].words, *coloured) if self.words else coloured, 12, bold=True)
            if self.words and longer.width <= max(self.box[0], 150):
                self.words[-1] = longer
            else:
                self.words.append(Line(coloured, 12, bold=True))
        self.width = max([self.box[0], *(line.width for line in self.words)])
        self.above = self.box[1] / 2 + (tall(self.words) + 3 if self.words else 0)  # from the box's middle
        self.height = self.above + self.box[1] / 2

    def draw(self, x: float, y: float) -> str:
        """Return the SVG elements, the box's left edge at x and its middle at the height y."""
        width, height = self.box
        method, words, lines = self.node.methods[0], [], []
        at = y - self.above
        for line in self.words:
            words.append(line.draw(x + 1, at + 0.65 * line.size))
            at += 1.3 * line.size
        at = y - height / 2 + self.inset
        for line in self.lines:
            lines.append(line.draw(x + width / 2, at + 0.65 * line.size, "middle"))
            at += 1.3 * line.size
        box = (
            f'<g><title>{escape(f"{method.title}: {method.idea}")}</title><rect x="{x:.1f}" y="{y - height / 2:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" rx="7" fill="{self.fill}" stroke="{self.stroke}"/>'
            f"{''.join(lines)}</g>"
        )
        return "".join(words) + (f'<a href="{escape(method.paper)}">{box}</a>' if method.paper else box)


def tall(lines: Sequence[Line]) -> float:
    """Return the height of lines of text."""
    return sum(1.3 * line.size for line in lines)


class Drawing:
    """Draws a tree from left to right: a column for each depth, and for each node a band that no other node enters."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.blocks = {node.name: Block(node, node is root) for _, node in root.walk()}
        self.columns: list[tuple[float, float]] = []  # of each depth: left and right edge
        depths = {node.name: depth for depth, node in root.walk()}
        left = float(MARGIN)
        for depth in range(max(depths.values()) + 1):
            right = left + max(block.width for name, block in self.blocks.items() if depths[name] == depth)
            self.columns.append((left, right))
            left = right + BEND

    def room(self, node: Node) -> tuple[float, float, list[float]]:
        """What a node with all below it needs above and below its middle; and its children's middles, from its own."""
        middles, at = [], 0.0
        for child in node.children:
            above, below, _ = self.room(child)
            middles.append(at + above)
            at += above + below
        own = (middles[0] + middles[-1]) / 2 if middles else 0.0
        block = self.blocks[node.name]
        above, below = max(own, block.above + GAP / 2), max(at - own, block.box[1] / 2 + GAP / 2)
        return above, below, [middle - own for middle in middles]

    def draw(self, node: Node, y: float, depth: int = 0) -> list[str]:
        """Return the elements of a node, its middle at the height y, and of all below it."""
        block, (left, right) = self.blocks[node.name], self.columns[depth]
        start, turn, end = left + block.box[0], right + BEND / 2, right + BEND
        edges: list[str] = []
        below: list[str] = []
        for child, apart in zip(node.children, self.room(node)[2], strict=True):
            to = y + apart
            edges.append(
                f'<path d="M{start:.1f} {y:.1f}H{right:.1f}C{turn:.1f} {y:.1f} {turn:.1f} {to:.1f} {end - 8:.1f} '
                f'{to:.1f}" fill="none" stroke="{LINE}" stroke-width="1.5"/>'
                f'<path d="M{end - 1:.1f} {to:.1f}l-8 -4v8z" fill="{LINE}"/>'
            )
            below += self.draw(child, to, depth + 1)
        return [*edges, block.draw(left, y), *below]

    def text(self) -> str:
        """Return the whole SVG."""
        width = max(self.columns[-1][1] + MARGIN, LEAST)
        title = Line((("The map of methods", INK),), 22, bold=True)
        about = [Line(((text, SOFT),), 13) for text in wrap(reading(self.root), int((width - 2 * MARGIN) / 7.8))]
        top = MARGIN + 26 + tall(about) + 14
        above, below, _ = self.room(self.root)
        height = top + above + below + MARGIN - GAP / 2
        head = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="sans-serif">',
            "<title>The map of methods</title>",
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            title.draw(MARGIN, MARGIN + 8),
            *(line.draw(MARGIN, MARGIN + 36 + 1.3 * line.size * n) for n, line in enumerate(about)),
        ]
        return "\n".join([*head, *self.draw(self.root, top + above), "</svg>"]) + "\n"


def svg(root: Node) -> str:
    """Return the map as the text of an SVG file."""
    return Drawing(root).text()


def write(path: Path, text: str) -> None:
    """Write a drawing whole. Raises `UserError`."""
    files.check_out(path, ".svg")
    files.write(path, text, "give --out another place")
