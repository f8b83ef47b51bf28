"""benchmarks/: every script is run somewhere, and every committed result is small, named, and what its page shows."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))
import backbones  # noqa: E402
import compact  # noqa: E402
import embeddings  # noqa: E402
import formats  # noqa: E402
import kills  # noqa: E402
import listing  # noqa: E402
import newcomer  # noqa: E402
import page as speed_page  # noqa: E402
import precision  # noqa: E402
import race  # noqa: E402
import ranks_page  # noqa: E402
import record  # noqa: E402
import results  # noqa: E402
import shards  # noqa: E402
import soak  # noqa: E402

SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))
LARGEST = 50_000  # bytes of a committed JSON


def table(name: str) -> Callable[[list[dict]], str]:
    """How results.py makes a page."""
    return lambda rows: results.markdown(results.titled(name), name, rows)


PAGES: dict[str, tuple[str, Callable]] = {  # a committed JSON, its page, and what makes the one of the other
    "speed.json": ("../README.md", speed_page.page),
    "ranks.json": ("ranks.md", ranks_page.page),
    "kills.json": ("kills.md", kills.page),
    "soak.json": ("soak.md", soak.page),
    "precision.json": ("precision.md", precision.page),
    "records.json": ("../RECORDS.md", record.page),
    "listing.json": ("listing.md", listing.page),
    **{f"{name}.json": (f"{name}.md", table(name)) for name in ("zoo", "digits", "cifar")},
    **{
        f"embeddings-{data}.json": (f"embeddings-{data}.md", lambda found: embeddings.markdown(found, found["about"]))
        for data in ("digits", "cifar10_part", "fashion-mnist")
    },
}

LATER = {  # once they are measured
    "race.json": ("race.md", race.page),
    "formats.json": ("formats.md", formats.page),
    "shards.json": ("shards.md", shards.page),
    "newcomer.json": ("newcomer.md", newcomer.page),
    "backbones.json": ("backbones.md", backbones.page),
}
PAGES |= {name: made for name, made in LATER.items() if (RESULTS / name).is_file()}


def listed() -> tuple[set[str], set[str]]:
    """The scripts that scripts/benchmarks runs, and the modules that it names as theirs."""
    text = (ROOT / "scripts" / "benchmarks").read_text()
    modules = next(line for line in text.splitlines() if line.startswith("# Modules that the scripts below import"))
    return set(re.findall(r"\brun \d+ (\w+\.py)", text)), set(re.findall(r"\w+\.py", modules))


def test_every_script_is_run_at_a_tiny_size() -> None:
    """One that can be run is; a module is imported by one that is."""
    run, modules = listed()
    for name in SCRIPTS:
        text = (ROOT / "benchmarks" / name).read_text()
        assert (name in run) == ('if __name__ == "__main__"' in text), f"scripts/benchmarks does not run {name}"
        if name not in run:
            word = name.removesuffix(".py")
            users = [one for one in run if re.search(rf"^\s*(from|import) {word}\b", _text(one), re.M)]
            assert name in modules, f"scripts/benchmarks does not name {name}"
            assert users, f"no script imports {name}"
    assert run | modules <= set(SCRIPTS)


def _text(name: str) -> str:
    return (ROOT / "benchmarks" / name).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_takes_from_the_package_is_there(name: str) -> None:
    """Seen without running it, so that a name that has moved is noticed where lightly and kornia are not installed."""
    for node in ast.walk(ast.parse(_text(name))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sslzoo":
            module = importlib.import_module(node.module)
            for alias in node.names:
                there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert there, f"{node.module} has no {alias.name}"


def test_ci_runs_the_benchmarks_with_their_peers() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert text.index("pip install --quiet -e '.[test,bench,") < text.index("scripts/benchmarks")
    assert text.index("pytest ") < text.index("scripts/benchmarks")


def test_a_script_that_fails_is_named_and_fails_all(tmp_path: Path) -> None:
    """With a copy of the list over a script that ends with 3."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "benchmarks").mkdir()
    for name in SCRIPTS:
        (tmp_path / "benchmarks" / name).write_text("print('some words')\n")
    (tmp_path / "benchmarks" / "million.py").write_text("import sys\nprint('it broke')\nsys.exit(3)\n")
    copy = tmp_path / "scripts" / "benchmarks"
    copy.write_text((ROOT / "scripts" / "benchmarks").read_text())
    done = subprocess.run(["bash", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it broke" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("scripts/benchmarks: benchmarks/million.py failed with exit code 3")
    done = subprocess.run(["bash", str(copy), "cost", "soak"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    ran = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("benchmarks/")]
    assert sorted(ran) == ["benchmarks/cost.py", "benchmarks/soak.py"]


def test_a_name_that_is_no_script_is_refused() -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts" / "benchmarks"), "spede"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"spede" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "kills", "soak", "listing", "results digits", "newcomer x", "backbones", "precision", "embeddings digits",
        "ranks", "million", "race x", "record x",
    ],
)  # fmt: skip
def test_a_quick_run_has_to_say_where_to(name: str) -> None:
    """So that it never writes over a committed result."""
    script, *rest = name.split()
    words = [sys.executable, f"benchmarks/{script}.py", *rest, "--quick"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_committed_figures_are_small() -> None:
    """`git ls-files`, so that what is ignored does not count."""
    words = ["git", "ls-files", "*.json"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(found) >= 15
    assert {name: size for name in found if (size := (ROOT / name).stat().st_size) > LARGEST} == {}


def test_every_result_is_named() -> None:
    """In a row of the README: a file by its name, one of a study by its name in the row of its folder."""
    rows = [line for line in (RESULTS / "README.md").read_text().splitlines() if line.startswith("| [")]
    named = set()
    for row in rows:
        first = re.split(r"(?<!\\)\|", row)[1]
        folder = "".join(re.findall(r"studies/\w+/", first)[:1])
        named |= {folder + name.removeprefix(folder) for name in re.findall(r"[\w./-]+\.(?:md|json|svg|png)", first)}
    there = {path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*") if path.is_file()} - {"README.md"}
    assert named == there


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_that_of_its_figures(name: str) -> None:
    page, make = PAGES[name]
    found = json.loads((RESULTS / name).read_text())
    assert make(found) == (RESULTS / page).read_text()


def test_every_json_has_a_page() -> None:
    assert {path.name for path in RESULTS.glob("*.json")} == set(PAGES)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("studies/*/cells.json")), ids=lambda path: path.parent.name)
def test_a_studys_table_has_the_figures_of_its_cells(path: Path) -> None:
    """Label, mean and deviation of kNN, std, rank and loss, rounded here."""
    rows = [line.split(" | ") for line in (path.parent / "table.md").read_text().splitlines() if line.startswith("| ")]
    heads = [head.strip("| ") for head in rows[0]]
    cells = json.loads(path.read_text())["cells"]
    assert len(rows) == len(cells) + 2
    for row, cell in zip(rows[2:], cells, strict=True):
        shown = dict(zip(heads, (text.strip("| ") for text in row), strict=True))
        deviation = "" if cell["knn"]["sd"] is None else f" ± {cell['knn']['sd']:.3f}"
        assert shown["kNN"] == f"{cell['knn']['mean']:.3f}{deviation}"
        assert (shown["std"], shown["rank"]) == (f"{cell['std']:.2f}", f"{cell['rank']:.1f}")
        assert shown["loss"] == f"{cell['loss']:.3f}"
        assert shown["expression"] == f"`{cell['expression']}`"


def test_compact_json_is_the_same_value() -> None:
    value = {"a": [1, 2.5, None, {"b": "x" * 200}], "c": {}, "d": [], "e": {str(k): k / 3 for k in range(40)}}
    text = compact.compact(value)
    assert json.loads(text) == value
    assert max(map(len, text.splitlines())) <= 220
    assert compact.compact([1, {"a": 2}]) == '[1, {"a": 2}]'
    assert compact.digits({"a": [0.123456789, 7, "x"]}, 3) == {"a": [0.123, 7, "x"]}


def test_what_a_newcomer_gets_is_above_the_better_of_two() -> None:
    """Over two seeds .8 - .7 and .9 - .6 of one data set, and -.1 of another: +.200, -.100, +.050 on average.

    The second seed took the first one's plan on a busy machine: its time is not one.
    """
    numbers = [("a", 0, 0.8, 0.5, 0.7), ("a", 1, 0.9, 0.6, 0.4), ("b", 0, 0.2, 0.3, 0.1)]
    rows = [
        {
            "data": data, "seed": seed, "trained": trained, "untrained": untrained, "raw": raw, "method": "simclr",
            "epochs": 48, "image_size": 64, "seconds": 290.0 + 500 * seed, "said": None if seed else 280,
            "metric": "knn", "processor": "a CPU", "commit": "abc", "versions": {"torch": "2"}, "more": "",
            "same_plan": seed == 1,
        }
        for data, seed, trained, untrained, raw in numbers
    ]  # fmt: skip
    text = newcomer.page(rows)
    assert "| a | simclr | 2 | 48 of 64 | 0.850 ± 0.071 | 0.550 ± 0.071 | 0.550 ± 0.212 | +0.200 | 290 | 280 |" in text
    assert "| b | simclr | 1 | 48 of 64 | 0.200 | 0.300 | 0.100 | -0.100 | 290 | 280 |" in text
    assert "| simclr | +0.050 | -0.100 |" in text
    assert newcomer.seconds("1:04:40") == 3880
