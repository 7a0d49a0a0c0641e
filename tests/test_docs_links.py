"""What the pages for people say is there: links, anchors, files, commands and options, targets of the Makefile."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from hub.cli.main import cli

ROOT = Path(__file__).parents[1]
GUIDES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PAGES = sorted(
    [*GUIDES, ROOT / "CHANGELOG.md", *(ROOT / "docs/history").glob("*.md"), *(ROOT / "finetune/bases").glob("*/*.md")]
)
MOVED = {"CHANGELOG.md", "history"}
"""What tells of the past names files as they were called then."""

LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`]+)`")
LEGAL = re.compile(r"\b(registry|serving|finetune|hub|tests|examples|docs|benchmarks)(/[\w.{},-]+)+")
FLOOR = 10


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parts(path: Path) -> tuple[str, tuple[str, ...]]:
    """A page's prose, and its lines of code with continuations joined."""
    prose, code, fenced, item = [], [], False, False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and not item):
            code.append(line.strip())
        else:
            prose.append(line)
            item = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or (item and line.strip() != "")
    return "\n".join(prose), tuple(re.sub(r"\\\n\s*", " ", "\n".join(code)).splitlines())


@cache
def anchors(path: Path) -> frozenset[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", parts(path)[0], re.MULTILINE):
        slug = (
            re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
        )
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(parts(page)[0]):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        if not place.is_relative_to(ROOT) or not place.exists() or (anchor and anchor not in anchors(place)):
            broken.append(target)
    assert not broken


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(parts(page)[0])
        if not re.match(r"[a-z]+:", target) and not target.startswith("#")
    }
    pictures = sorted((ROOT / "docs/images").iterdir())
    assert [named(each) for each in [*PAGES, *pictures] if each not in linked and each != ROOT / "README.md"] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_prose_keeps_to_120_characters(page: Path) -> None:
    lines = parts(page)[0].splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_no_page_keeps_both_sides_of_a_merge() -> None:
    mark = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert mark.search("a\n" + "<" * 7 + " HEAD\n")
    assert [named(page) for page in PAGES if mark.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_a_page_has_one_title(page: Path) -> None:
    titles = re.findall(r"^# (.+)$", parts(page)[0], re.MULTILINE)
    assert len(titles) == 1
    assert page.name in {"README.md"} or titles[0].endswith("?"), "a guide answers one reader's question"


def test_the_readme_is_short_and_starts_without_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    before, found, _ = readme.partition("## Quick start")
    assert found
    assert not re.search(r"\d", before)
    assert "shared/" not in readme, "nothing that lies outside a clone"


@pytest.mark.parametrize("page", [p for p in PAGES if not MOVED & set(p.relative_to(ROOT).parts)], ids=named)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    prose, code = parts(page)
    told = [*INLINE.findall(prose), *code]
    names = {match[0].rstrip(".,") for text in told if "://" not in text for match in LEGAL.finditer(text)}
    assert sorted(name for name in names if "{" not in name and not lies(name)) == []


def lies(name: str) -> bool:
    """Whether a name is of a file or folder of the project, or of one in an example's own folders."""
    return (ROOT / name).exists() or not (ROOT / name).parent.exists() or name.startswith(("registry/gc", "docs/API"))


def commands(page: Path) -> Iterator[list[str]]:
    """Each call of `parcelhub` that a page shows, as its words."""
    prose, code = parts(page)
    for text in (*code, *INLINE.findall(prose)):
        bare = re.split(r"\s+#\s|\s\s+(?=[a-z])", " ".join(text.split("\n")).strip())[0]
        for call in re.findall(r"(?:^|\$\(|\|\s|&&\s)(?:\.venv/bin/)?(parcelhub\s[^)]*)", bare):
            yield shlex.split(call.replace("…", "").replace("\n", " "))[1:]


def resolve(words: list[str]) -> str | None:
    """What is wrong with a call: an unknown command or option; None if nothing is."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        several, found = words[0].split("|"), None
        for name in reversed(several):  # asked for by name: some are loaded only then
            found = command.get_command(click.Context(command), name)
            if found is None:
                return f"no command {name!r}"
        assert found is not None
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known | {"--help"}]
    return f"no option {unknown[0]!r}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_exist_with_their_options(page: Path) -> None:
    wrong = {" ".join(words): fault for words in commands(page) if (fault := resolve(list(words))) is not None}
    assert not wrong


def test_commands_are_found_at_all() -> None:
    calls = [words for page in GUIDES for words in commands(page)]
    assert len(calls) > 10 * FLOOR
    assert resolve(["finetune", "begin"]) == "no command 'begin'"
    assert resolve(["finetune", "submit", "--cel", "a"]) == "no option '--cel'"
    assert resolve(["finetune", "submit|watch|sing"]) == "no command 'sing'"


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_exist(page: Path) -> None:
    prose, code = parts(page)
    told = " \n".join([*INLINE.findall(prose), *(line.partition(" #")[0] for line in code)])
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", told)) <= targets()


def test_comments_name_pages_and_headings_that_exist() -> None:
    """`docs/x.md, "Heading"` in a comment or a docstring."""
    missing, seen = [], 0
    sources = [p for floor in ("hub", "finetune", "serving", "registry") for p in (ROOT / floor).rglob("*.py")]
    for source in [*sources, ROOT / "pyproject.toml", ROOT / "Makefile"]:
        told = source.read_text(encoding="utf-8")
        if "docs/" not in told:
            continue
        text = re.sub(r"\s*\n\s*#?\s*", " ", told)
        for page, heading in re.findall(r'(docs/[\w/-]+\.md)(?:, "([^"]+)")?', text):
            seen += 1
            known = (ROOT / page).is_file()
            if not known or (
                heading and re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") not in anchors(ROOT / page)
            ):
                missing.append(f"{named(source)}: {page} {heading}")
    assert seen >= FLOOR
    assert missing == []


def test_hooks_run_what_make_lint_runs() -> None:
    """Each check of `make lint` is a hook, and no hook fetches anything."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = [hook["entry"].removeprefix(".venv/bin/").split() for hook in config["repos"][0]["hooks"]]
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    lint = [line.strip().removeprefix("$(BIN)/").split() for line in recipe.splitlines() if "$(BIN)/" in line]
    for line in lint:
        words = [word for word in line if word in {"ruff", "format", "check", "lint-imports", "mypy"}]
        assert any(hook[: len(words)] == words for hook in hooks), line
    assert {hook["language"] for hook in config["repos"][0]["hooks"]} == {"system"}
