"""Listings: filters, order and pages are one statement, and agree with what Python would have found."""

from __future__ import annotations

import itertools
import json

import pytest

from registry import DeleteFile, Readers, Registry, RepoId
from registry.repos.cards import Card
from registry.repos.purge import purge

ALL = Readers(everything=True)


def readme(**head: object) -> bytes:
    return f"---\n{json.dumps(head)}\n---\n# Hello\n".encode()


@pytest.fixture
def cell(registry: Registry, add):
    def cell(name: str, head: dict[str, object], **options: object) -> RepoId:
        repo = RepoId.parse(f"{name}")
        registry.repos.create(repo, **options)
        files = [add("README.md", readme(**head)), add("adapter_config.json", b"{}")]
        registry.repos.commit(repo, files, message="m", author="a")
        return repo

    return cell


def names(registry: Registry, **asked: object) -> list[str]:
    return [str(one.info.id) for one in registry.directory.search("model", **({"readers": ALL} | asked))]


@pytest.mark.slow
def test_filters_agree_with_a_loop(registry, cell):
    kept: dict[str, tuple[set[str], str | None, bool]] = {}
    for number, (tag, pipeline, private) in enumerate(
        itertools.product(["Lora", "full", None], ["image-segmentation", None], [False, True])
    ):
        head = {key: value for key, value in {"tags": tag and [tag], "pipeline_tag": pipeline}.items() if value}
        repo = cell(f"team-{number % 2}/cell-{number}", head, private=private)
        kept[str(repo)] = ({"peft", *(each.lower() for each in (tag, pipeline) if each)}, pipeline, private)
    registry.repos.create(RepoId.parse("team-0/empty"))
    for tags, pipeline, namespace in itertools.product(
        [(), ("lora",), ("LORA", "peft"), ("full", "lora"), ("nothing",)],
        [None, "image-segmentation"],
        [None, "TEAM-1"],
    ):
        for readers in (ALL, Readers(), Readers(frozenset({"team-0"}))):
            wanted = [
                name
                for name, (has, does, private) in kept.items()
                if {tag.lower() for tag in tags} <= has
                and pipeline in (None, does)
                and (namespace is None or name.startswith(namespace.lower()))
                and (readers.everything or not private or name.partition("/")[0] in readers.namespaces)
            ]
            found = names(registry, tags=tags, pipeline_tag=pipeline, namespace=namespace, readers=readers)
            assert sorted(wanted) == [name for name in found if name != "team-0/empty"]
            assert ("team-0/empty" in found) == (not tags and not pipeline and not namespace)
            for order in ("modified", "created"):
                newest = names(
                    registry, tags=tags, pipeline_tag=pipeline, namespace=namespace, readers=readers, order=order
                )
                assert [name for name in newest if name != "team-0/empty"] == wanted[::-1]
                pages = [
                    names(
                        registry,
                        tags=tags,
                        pipeline_tag=pipeline,
                        namespace=namespace,
                        readers=readers,
                        order=order,
                        limit=3,
                        offset=offset,
                    )
                    for offset in range(0, len(newest), 3)
                ]
                assert [name for page in pages for name in page] == newest


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 50])
def test_one_statement_however_many_there_are(registry, cell, statements, count):
    for number in range(count):
        cell(f"team/cell-{number:02d}", {"tags": ["lora", f"n-{number}"], "license": "mit"})
    statements.clear()
    found = registry.directory.search("model", readers=ALL, tags=["lora"], order="modified", limit=100)
    assert statements.total() == 1
    assert [one.card.tags[1] for one in found] == ["lora"] * count
    assert {one.card.data["license"] for one in found} == {"mit"}
    statements.clear()
    files = registry.repos.trees_of([one.head for one in found])
    assert statements.total() <= 3
    assert all(len(each) == 2 for each in files.values())


@pytest.mark.slow
def test_trees_of_many_that_are_not_in_memory(registry, cell, statements, tmp_path):
    repos = [cell(f"team/cell-{number:02d}", {}) for number in range(50)]
    heads = [registry.repos.resolve(repo, "main").id for repo in repos]
    registry.repos._trees.clear()
    statements.clear()
    files = registry.repos.trees_of(heads)
    assert statements.total() == 3
    assert {commit: registry.repos.tree(repo, "main") for commit, repo in zip(heads, repos, strict=True)} == files


def test_a_card_follows_whatever_moves_the_main_branch(registry, cell, add):
    repo = cell("team/cell", {"tags": ["one"]})
    repos = registry.repos

    def listed() -> tuple[str, ...]:
        (one,) = registry.directory.search("model", readers=ALL)
        assert one.head == repos.resolve(repo, "main").id
        assert one.modified == repos.resolve(repo, "main").created_at
        assert registry.directory.head(one.info.key) == (one.head, one.card)
        assert not registry.examine(quick=True).damaged
        return one.card.tags

    def commit(*operations: object, **options: object) -> None:
        repos.commit(repo, operations, **({"message": "m", "author": "a"} | options))

    assert listed() == ("peft", "one")
    commit(add("b.bin", b"b"))  # neither the README nor a name that counts
    assert listed() == ("peft", "one")
    commit(add("README.md", readme(tags=["Two", "deux"], library_name="mine")))
    assert listed() == ("mine", "Two", "deux")
    assert names(registry, tags=["two"]) == ["team/cell"]
    assert names(registry, tags=["one"]) == []
    commit(add("w.safetensors", (8).to_bytes(8, "little") + b"{}      "))
    assert listed() == ("mine", "Two", "deux", "safetensors")
    repos.branch(repo, "side", "main")
    commit(add("README.md", readme(tags=["side"])), branch="side")
    assert listed()[1] == "Two"
    repos.squash(repo, "main", message="m", author="a")
    assert listed()[1] == "Two"
    commit(DeleteFile("README.md"))
    assert listed() == ("peft", "safetensors")
    commit(add("README.md", readme(tags=["three"])))
    readme_digest = repos.entry(repo, "main", "README.md").sha256
    repos.delete_ref(repo, "side", "branch")
    assert purge(registry.catalog, repos, registry.blobs, repo, [readme_digest])
    assert listed() == ("peft", "safetensors")
    repos.delete(repo)
    assert registry.catalog.query("SELECT * FROM repo_heads") == []
    assert registry.catalog.query("SELECT * FROM repo_tags") == []


@pytest.mark.parametrize(
    "head",
    [
        "day: 2024-13-45",
        "n: " + "9" * 5000,
        "? [a, b]\n: c",
        "a: &x [1]\nb: *x",
        "- a list",
        "{",
        '"\\ud800": 1',
        'library_name: "\\0"',
        'tags: ["\\ud800"]',
        'pipeline_tag: "\\ud800"',
        "a: " + "[" * 100,
        "b: .nan",
    ],
)
def test_no_head_of_a_readme_stops_a_commit(registry, add, head):
    repo = RepoId.parse("team/odd")
    registry.repos.create(repo)
    registry.repos.commit(repo, [add("README.md", f"---\n{head}\n---\n".encode())], message="m", author="a")
    (one,) = registry.directory.search("model", readers=ALL)
    assert isinstance(one.card, Card)
    assert one.card.library_name is None
    assert one.card.pipeline_tag is None
