"""How many statements an answer takes does not depend on how many repos, files or versions it shows."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

MANY = 50
VERSIONS = 12


@pytest.fixture
def ask(raw: Any, admin: dict[str, str], statements: Counter[str]) -> Callable[[str], tuple[Any, int]]:
    """An answer, and the number of statements that it took."""

    def ask(path: str) -> tuple[Any, int]:
        statements.clear()
        answer: httpx.Response = raw.get(path, headers=admin)
        assert answer.status_code == 200, answer.text
        return answer.json(), statements.total()

    return ask


@pytest.fixture
def commit(raw: Any, admin: dict[str, str]) -> Callable[[str, dict[str, bytes]], None]:
    """Commit files to a model, which is made when it is not there."""

    def commit(repo: str, files: dict[str, bytes]) -> None:
        space, name = repo.split("/")
        raw.post("/api/repos/create", json={"name": name, "organization": space}, headers=admin)
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "m"}}]
        for path, data in files.items():
            value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "file", "value": value})
        body = "\n".join(map(json.dumps, lines))
        assert raw.post(f"/api/models/{repo}/commit/main", content=body, headers=admin).status_code == 200

    return commit


LISTINGS = [
    "",
    "?filter=lora",
    "?full=true",
    "?cardData=true&sort=lastModified",
    "?search=cell&author=team&gated=false",
]


def test_listings(ask, commit):
    commit("team/cell-0", {"README.md": b"---\ntags: [lora]\n---\n"})
    before = {query: ask(f"/api/models{query}") for query in LISTINGS}
    for number in range(1, MANY):
        commit(f"team/cell-{number}", {"README.md": b"---\ntags: [lora]\n---\n%d" % number})
    for query, (few, statements) in before.items():
        many, after = ask(f"/api/models{query}")
        assert len([one for one in few if one["id"].startswith("team/")]) == 1
        assert len([one for one in many if one["id"].startswith("team/")]) == MANY
        # Trees that are no more in memory come by 64.
        assert after <= statements + (2 if "full" in query else 0)


def test_trees(ask, commit):
    """Large files have Xet hashes, small ones git's ids: each kind is one question."""
    files = {f"{number}.txt": b"%d" % number for number in range(MANY)}
    commit("team/one", {"0.txt": b"0"})
    commit("team/many", files)
    one, statements = ask("/api/models/team/one/tree/main")
    many, after = ask("/api/models/team/many/tree/main")
    assert (len(one), len(many)) == (2, MANY + 1)
    assert after <= statements


def test_large_files_of_many_versions(ask, commit, raw, admin, services):
    for number in range(VERSIONS):
        commit("team/versions", {"weights.txt": b"%d" % number * 2_000_000})
        answer = raw.post("/api/models/team/versions/tag/main", json={"tag": f"v{number}"}, headers=admin)
        assert answer.status_code == 200
        if number == 0:
            _, statements = ask("/api/models/team/versions/lfs-files")
            _, walked = ask("/api/models/team/versions/tree/main?expand=true")
    _, after = ask("/api/models/team/versions/lfs-files")
    assert after <= statements + 2
    _, after = ask("/api/models/team/versions/tree/main?expand=true")
    assert after <= walked + 4
