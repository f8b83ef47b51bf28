"""House rules: where imports live, what is lazy, how long files are, and that the README has the table of methods."""

import ast
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest
from click.testing import CliRunner

import sslzoo
from sslzoo.cli import main
from sslzoo.recipes.recipe import method_names

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sslzoo"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]
HOMES = {  # rooms, or folders and files of them, that import a package
    "click": {"cli"},
    "rich": {"show"},
    "faiss": {"metrics/index.py"},
    "timm": {"core/backbones", "data/decoded/crops.py", "exchange", "training/optim.py"},
    "matplotlib": {"studies/pictures", "evaluation/drawn", "evaluation/python_api/run.py", "tools/figure.py"},
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_is_one_idea(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "the first line says which idea"
    assert text.count("\n") <= 320
    name = path.relative_to(PACKAGE).as_posix()
    for package, homes in HOMES.items():
        assert package not in imported(path) or {name, *map(str, PurePosixPath(name).parents)} & homes
    for name in method_names():
        assert f'"{name}"' not in text, "a method's name in package code"


def test_the_core_is_short() -> None:
    assert (PACKAGE / "core" / "siamese.py").read_text().count("\n") <= 150


@pytest.mark.parametrize("statement", ["import sslzoo", "import sslzoo; sslzoo.load('simsiam')", "import sslzoo.cli"])
def test_importing_is_light(statement: str) -> None:
    heavy = ("torch", "faiss", "timm", "sklearn", "matplotlib")
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_package_shows_its_public_names_before_they_are_used() -> None:
    names = (
        "train(", "resume(", "load(", "knn(", "embed(", "retrieval(", "search(", "encoder(", "export(",
        "optimizer(", "collapse_guards(", "diff(", "load_plugin(",
    )  # fmt: skip
    classes = (
        "Callback", "Evaluation", "LogRow", "Recipe", "Result", "Run", "Siamese", "Step", "SwitchValue", "UserError",
    )  # fmt: skip
    code = "import sslzoo, pydoc; print(sorted(set(dir(sslzoo)) & set(sslzoo.__all__)) == sorted(sslzoo.__all__)); "
    code += "print(pydoc.plain(pydoc.render_doc(sslzoo)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("True\n")
    for signature in (*names, "class Siamese(", "class Recipe(", "class Run(", "class UserError("):
        assert re.search(rf"^ +{re.escape(signature)}", shown, re.M), signature
    assert sorted([*re.findall(r"\w+", " ".join(names)), *classes]) == sorted(sslzoo.__all__)
    assert "**options" not in shown


def test_the_readme_has_the_table_of_methods() -> None:
    table = CliRunner().invoke(main, ["methods", "list", "--markdown"]).output
    readme = (ROOT / "README.md").read_text()
    assert re.search(r"<!-- methods: .* -->\n(.*?)<!-- /methods -->", readme, re.S).group(1) == table  # type: ignore[union-attr]
    assert table.count("\n") == len(method_names()) + 2


def parameters(function: ast.FunctionDef) -> int:
    """How many a function takes, itself or its class not counted."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_function_takes_seven_parameters_at_most(path: Path) -> None:
    """But for click's, and the keyword-only ones of the public functions."""
    if "cli" in path.relative_to(PACKAGE).parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and parameters(node) > 7:
            assert node.name in sslzoo.__all__, f"{node.name} takes {parameters(node)}"
            assert len(node.args.args) <= 7
