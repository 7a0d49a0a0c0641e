"""The house: few modules on each floor, no circles, rooms that say what they are, a command that starts at once."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("hub", "finetune", "serving", "registry")
PACKAGES = (*FLOORS, "benchmarks")
MOST_BESIDE_ROOMS = 8
MOST_LINES = 400


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What every module imports of ours, at any depth of its code."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {one: set(graph.find_modules_directly_imported_by(one)) for one in graph.modules}


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other: Tarjan's strongly connected components of two and more."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(one: str) -> None:
        number[one] = low[one] = len(number)
        stack.append(one)
        for other in imports.get(one, ()):
            if other not in number:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], number[other])
        if low[one] == number[one]:
            group = stack[stack.index(one) :]
            del stack[stack.index(one) :]
            if len(group) > 1:
                found.append(sorted(group))

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        for one in imports:
            if one not in number:
                visit(one)
    finally:
        sys.setrecursionlimit(limit)
    return found


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_no_module_imports_itself_by_others(imports: dict[str, set[str]]) -> None:
    assert circles(imports) == []


def test_no_room_imports_itself_by_others(imports: dict[str, set[str]]) -> None:
    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    rooms: dict[str, set[str]] = {}
    for one, others in imports.items():
        if "." in one:  # what a floor shows at its own name is no room
            rooms.setdefault(room(one), set()).update(room(o) for o in others if "." in o and room(o) != room(one))
    assert circles(rooms) == []


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_is_a_handful_of_rooms(floor: str) -> None:
    modules = [path.stem for path in (ROOT / floor).glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= MOST_BESIDE_ROOMS, sorted(modules)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_says_what_it_is(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    silent = [
        str(folder.relative_to(ROOT))
        for folder in folders
        if folder != ROOT / package and not ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
    ]
    assert sorted(silent) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_short(package: str) -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text("utf-8").splitlines()) for p in (ROOT / package).rglob("*.py")}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_benchmarks_are_not_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        "hub",
        "registry",
        "finetune",
        "serving",
    ]


def test_the_shipped_floors_import_no_benchmark(imports: dict[str, set[str]]) -> None:
    said = [
        one
        for one, others in imports.items()
        if not one.startswith("benchmarks")
        for o in others
        if o.startswith("benchmarks")
    ]
    assert said == []


def test_bench_says_where_it_runs_when_it_is_not_there(tmp_path: Path) -> None:
    for floor in FLOORS:
        (tmp_path / floor).symlink_to(ROOT / floor)
    code = "import sys; from hub.cli.main import main; sys.argv = ['parcelhub', 'bench', 'registry']; main()"
    # -S and -P: neither the installed checkout nor the working folder is on the path, only what is named here.
    paths = [str(tmp_path), *(p for p in sys.path if "site-packages" in p)]
    run = subprocess.run(
        [sys.executable, "-S", "-P", "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin"},
    )
    assert run.returncode == 2
    assert "in a checkout of the project" in run.stderr


def test_the_command_starts_without_torch() -> None:
    heavy = ("torch", "transformers", "litestar", "duckdb")
    code = f"import sys, hub.cli.main; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"
