"""The house in rooms: which room may import which, and how many files one has."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sslzoo"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = re.findall(r"^\| `(\w+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)  # ground first
FOLDERS = sorted({path.parent for path in MODULES.values()})


def imports(module: str, typing_too: bool = True) -> Iterator[str]:
    """The modules of the package that a module imports anywhere, in functions too; "" is the package's root."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hints = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    hidden = set() if typing_too else {id(node) for hint in hints for node in ast.walk(hint)}
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "sslzoo"]
            yield from (name.removeprefix("sslzoo").lstrip(".") for name in names)
        elif isinstance(node, ast.ImportFrom) and id(node) not in hidden:
            if node.level:
                start = package[: len(package) - node.level + 1]
            elif node.module and node.module.split(".")[0] == "sslzoo":
                start = []
            else:
                continue
            base = ".".join([*start, *(node.module or "").removeprefix("sslzoo").strip(".").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield inner if inner in MODULES or (PACKAGE / inner.replace(".", "/")).is_dir() else base


def test_every_room_has_a_row_in_the_table() -> None:
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "_files")}
    assert sorted(ROOMS) == sorted(there)


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_a_room_imports_only_from_rooms_above_it(module: str) -> None:
    if module in ("__init__", "__main__"):
        return
    room = module.split(".")[0]
    for other in imports(module):
        assert other, "nothing imports the package's root"
        assert ROOMS.index(other.split(".")[0]) <= ROOMS.index(room), f"{module} imports {other}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {name: {other for other in imports(name, False) if other in MODULES} - {name} for name in MODULES if name}
    done: list[str] = []
    while left := [name for name in graph if name not in done]:
        free = [name for name in left if graph[name] <= {*done}]
        assert free, f"a circle among {left}"
        done += free


def test_the_root_holds_no_module_of_its_own() -> None:
    there = {path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix != ".toml"}
    assert there == {"__init__.py", "__main__.py", "py.typed"}


def test_a_folder_has_at_most_fourteen_files() -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in MODULES.values())
    assert {folder: n for folder, n in counts.items() if n > 14} == {}


def test_the_reader_of_imports_sees_all_kinds() -> None:
    """Relative ones, ones in functions, and whole modules: known places of this package."""
    assert "tools.errors" in set(imports("core.siamese"))
    assert "training.run" in set(imports("cli.train"))
    assert "processes.collectives" in set(imports("core.siamese"))
    assert "show" in set(imports("cli"))
