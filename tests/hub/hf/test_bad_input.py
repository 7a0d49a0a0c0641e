"""What clients should never send: each is refused with an error that they understand, and nothing visible changes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import pickle
import struct
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

import hub.hf.commits
import hub.hf.lfs
from hub.accounts.limits import FRESH_SECONDS, RequestRate, TooManyRequestsError, UploadQuota
from hub.accounts.links import Signer
from hub.accounts.quotas import Quotas
from hub.schemas.resources import QuotaIn
from hub.services import Services
from hub.settings import Settings
from registry.types import RepoId
from tests.hub.material import tiny_weights, write_base_files

Client = TestClient[Any]
REPO = RepoId("model", "ann", "dock")
COMMIT = "/api/models/ann/dock/commit/main"
PICKLE = pickle.dumps({"weights": [1.0] * 10}, 4)
GOOD = tiny_weights(b"good")


@pytest.fixture
def ann(raw: Client, services: Services) -> Client:
    """The application with ann's token, and her repo with one good file."""
    services.users.put("ann")
    raw.headers["Authorization"] = f"Bearer {services.tokens.issue('t', ['contribute'], user='ann')}"
    assert raw.post("/api/repos/create", json={"name": "dock"}).status_code == 200
    assert commit(raw, file("README.md", b"# Dock")).status_code == 200
    return raw


@pytest.fixture
def state(services: Services, ann: Client) -> Callable[[], object]:
    """All that anybody can see of the repo."""

    def seen() -> object:
        repos = services.registry.repos
        return repos.refs(REPO), repos.tree(REPO, "main"), len(repos.history(REPO, "main"))

    return seen


def line(key: str, **value: object) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


def file(path: str, data: bytes) -> bytes:
    return line("file", path=path, content=base64.b64encode(data).decode(), encoding="base64")


def large(path: str, data: bytes, **changed: object) -> bytes:
    known = {"path": path, "algo": "sha256", "oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return line("lfsFile", **known | changed)


def commit(raw: Client, *lines: bytes, header: bool = True) -> Any:
    head = line("header", summary="change") if header else b""
    return raw.post(COMMIT, content=head + b"".join(lines), headers={"Content-Type": "application/x-ndjson"})


def announce(raw: Client, data: bytes, **changed: object) -> dict[str, Any]:
    one = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)} | changed
    body = {"operation": "upload", "transfers": ["basic"], "objects": [one]}
    answer = raw.post("/ann/dock.git/info/lfs/objects/batch", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["objects"][0]
    return found


def link(announced: dict[str, Any]) -> str:
    return urlsplit(announced["actions"]["upload"]["href"]).path


def told(answer: Any) -> str:
    """The sentence, which must stand where clients look for it."""
    assert answer.status_code >= 400, answer.text
    assert answer.headers["x-error-message"]
    return str(answer.headers["x-error-message"])


BAD_PATHS = [
    "../up",
    "a/../../up",
    "/etc/passwd",
    "a//b",
    "a/./b",
    "a\\b",
    ".git/config",
    "a\nb",
    "a\0b",
    "",
    "é" * 600,
]
BAD_PATHS += ["a/" + "b" * 256, "\ud800"]
DANGERS = [
    ("model.safetensors", PICKLE, "pickle"),
    ("model.bin", PICKLE, "pickle"),
    ("model.safetensors", b"no weights", "absurd|header|short"),
    ("model.safetensors", struct.pack("<Q", 2**60) + b"{}", "allowed"),
    ("model.safetensors", GOOD + b"more", "speaks of"),
    ("tool", b"\x7fELF" + b"\0" * 60, "ELF"),
    ("setup", b"MZ" + b"\0" * 58 + struct.pack("<I", 64) + b"PE\0\0", "Windows"),
    ("data.json", gzip.compress(PICKLE), "gzip"),
]


class TestFiles:
    def test_what_could_run_is_refused_in_the_commit_and_over_lfs(
        self, ann: Client, state: Callable[[], object]
    ) -> None:
        before = state()
        for path, data, says in DANGERS:
            answer = commit(ann, file(path, data))
            assert answer.status_code == 422
            assert any(word in told(answer) for word in says.split("|")), told(answer)
            announced = announce(ann, data)
            if "actions" in announced:  # else these bytes came under another name before
                assert ann.put(link(announced), content=data).status_code == 200  # what it will be called is not known
            answer = commit(ann, large(path, data))
            assert answer.status_code == 422
            assert any(word in told(answer) for word in says.split("|")), told(answer)
        assert state() == before

    def test_a_good_file_beside_a_bad_one_stays_out(self, ann: Client, state: Callable[[], object]) -> None:
        before = state()
        assert commit(ann, file("a.safetensors", GOOD), file("b.safetensors", PICKLE)).status_code == 422
        assert state() == before
        assert commit(ann, file("a.safetensors", GOOD)).status_code == 200

    def test_paths_that_lead_elsewhere(self, ann: Client, state: Callable[[], object], services: Services) -> None:
        before = state()
        for path in BAD_PATHS:
            for key, value in (("file", {"content": ""}), ("lfsFile", {"oid": "a" * 64}), ("deletedFile", {})):
                answer = commit(ann, line(key, path=path, **value))
                assert answer.status_code in (400, 422), (path, key)
                assert told(answer)
        assert state() == before
        assert not (services.settings.data / "up").exists()


class TestUploads:
    def test_bytes_of_another_length(self, ann: Client, state: Callable[[], object], services: Services) -> None:
        before, data = state(), b"twice twice "
        for sent in (b"", b"half of i", b"twice twice twice "):
            assert ann.put(link(announce(ann, data)), content=sent).status_code in (413, 422)
        assert not services.registry.blobs.exists(hashlib.sha256(data).hexdigest())
        assert "never uploaded" in told(commit(ann, large("a.bin", data)))
        assert state() == before

    def test_bytes_of_another_hash(self, ann: Client, services: Services) -> None:
        data = b"what was announced"
        assert ann.put(link(announce(ann, data)), content=data[::-1]).status_code == 422
        assert not services.registry.blobs.exists(hashlib.sha256(data).hexdigest())
        assert not services.registry.blobs.exists(hashlib.sha256(data[::-1]).hexdigest())

    def test_sizes_that_lie(self, ann: Client, state: Callable[[], object]) -> None:
        data = b"ten bytes."
        assert ann.put(link(announce(ann, data, size=11)), content=data).status_code in (200, 422)
        assert ann.put(link(announce(ann, b"other", size=2)), content=b"other").status_code == 413
        assert announce(ann, b"huge", size=2**40)["error"]["code"] == 413
        before = state()
        assert commit(ann, large("a.bin", data, size=9)).status_code == 400
        assert commit(ann, large("a.bin", data, size=-1)).status_code in (400, 422)
        assert commit(ann, large("a.bin", data, size=2**63)).status_code in (400, 422)
        assert state() == before

    def test_hashes_that_are_none(self, ann: Client, state: Callable[[], object]) -> None:
        before = state()
        for oid in ("a" * 63, "A" * 64, "g" * 64, "../" + "a" * 61, ""):
            body = {"operation": "upload", "objects": [{"oid": oid, "size": 1}]}
            assert ann.post("/ann/dock.git/info/lfs/objects/batch", json=body).status_code == 400
            assert commit(ann, line("lfsFile", path="a", oid=oid)).status_code in (400, 422)
        assert state() == before

    def test_links_of_others_and_of_yesterday(self, ann: Client, services: Services) -> None:
        data = b"mine to send"
        path = link(announce(ann, data))
        token = path.rpartition("/")[2]
        late = Signer(services.hf.signer._key, now=lambda: 0.0)
        grant = hub.hf.lfs.UploadGrant(hashlib.sha256(data).hexdigest(), len(data), "ann", "t")
        stranger = Signer(b"\0" * 32)
        forged = {
            "expired": late.sign(grant, seconds=60),
            "another key": stranger.sign(grant, seconds=60),
            "a download link": services.hf.signer.sign(hub.hf.lfs.DownloadGrant(grant.oid, grant.size), seconds=60),
            "cut off": token[:-4],
            "changed": token[:10] + ("A" if token[10] != "A" else "B") + token[11:],
        }
        for what, bad in forged.items():
            answer = ann.put(f"/lfs/objects/{bad}", content=data)
            assert answer.status_code in (400, 403), what
        assert not services.registry.blobs.exists(grant.oid)
        assert ann.put(path, content=data).status_code == 200

    def test_anothers_bytes_cannot_be_claimed(self, ann: Client, services: Services) -> None:
        secret = services.registry.blobs.put_bytes(b"a secret of others")
        answer = commit(ann, line("lfsFile", path="a", oid=secret.sha256, size=secret.size))
        assert answer.status_code == 400
        assert "not yours" in told(answer)


NONSENSE = [
    b"",
    b"not json\n",
    b'{"key":"file"}\n',
    b'{"key":"nonsense","value":{}}\n',
    b"[" * 100_000 + b"\n",
    line("file", path="a", content="!!!", encoding="base64"),
    line("file", path="a", content="x", encoding="utf-7"),
    line("header", summary="x" * 20_000),
    line("header", summary="change", parentCommit="f" * 40),
]


class TestCommits:
    def test_nonsense(self, ann: Client, state: Callable[[], object]) -> None:
        before = state()
        for lines in NONSENSE:
            answer = commit(ann, lines, file("a", b"a") if b"parentCommit" in lines else b"", header=False)
            assert answer.status_code in (400, 412, 422), lines[:80]
            assert told(answer)
        assert state() == before

    def test_an_endless_line(self, ann: Client, state: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
        before = state()
        monkeypatch.setattr(hub.hf.commits.lines_of, "__defaults__", (1000,))
        assert commit(ann, file("a", b"x" * 2000)).status_code == 413
        assert state() == before

    @pytest.mark.slow
    def test_a_hundred_thousand_files_are_a_commit_and_one_more_is_none(
        self, ann: Client, state: Callable[[], object], services: Services
    ) -> None:
        empty = line("file", path="%", content="")
        lines = [empty.replace(b"%", b"d%d/f%d" % (number // 1000, number)) for number in range(100_001)]
        before = state()
        answer = commit(ann, *lines)
        assert answer.status_code == 400
        assert "100000" in told(answer)
        unchanged = state() == before  # not in the assertion: nobody wants to read how such trees differ
        assert unchanged
        made = commit(ann, *lines[:-1]).status_code
        assert made == 200
        assert len(services.registry.repos.tree(REPO, "main")) == 100_002

    def test_of_many_on_one_head_one_wins(self, ann: Client, services: Services) -> None:
        head = services.registry.repos.resolve(REPO, "main").id[:40]
        answers: list[int] = []

        def push(number: int) -> None:
            lines = [line("header", summary="mine", parentCommit=head), file(f"f{number}", b"x")]
            answers.append(commit(ann, *lines, header=False).status_code)

        threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [200] + [412] * 7
        assert len([one for one in services.registry.repos.tree(REPO, "main") if one.path.startswith("f")]) == 1


class TestLimits:
    def test_a_team_stores_no_more_than_it_may(
        self, ann: Client, services: Services, state: Callable[[], object]
    ) -> None:
        services.quotas.set("ann", QuotaIn(bytes=10_000))
        services.hf.quota._rooms.clear()  # a minute later
        before, data = state(), bytes(range(256)) * 40
        answer = commit(ann, file("a.bin", data))
        assert answer.status_code == 413
        assert "bytes that it may" in told(answer)
        one = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
        body = {"operation": "upload", "transfers": ["basic"], "objects": [one]}
        assert ann.post("/ann/dock.git/info/lfs/objects/batch", json=body).status_code == 413
        assert state() == before
        assert commit(ann, file("a.bin", data[:8000])).status_code == 200
        assert commit(ann, file("again.bin", data[:8000])).status_code == 200  # what it has is free

    def test_use_is_counted_now_and_then(self, services: Services) -> None:
        at = [0.0]
        asked: list[str] = []

        class Counted(Quotas):
            def get(self, team: str) -> Any:
                asked.append(team)
                return super().get(team)

        registry = services.registry
        counted = Counted(registry.catalog, services.quotas._defaults)
        quota = UploadQuota(counted, registry.directory, now=lambda: at[0])
        for _ in range(5):
            quota.check("Ann", {"a" * 64: 10})
        assert asked == ["ann"]
        at[0] = FRESH_SECONDS + 1
        quota.check("ann", {"a" * 64: 10})
        assert len(asked) == 2

    def test_who_asks_too_often_is_told_when_to_ask_again(self, tmp_path: Any) -> None:
        from hub.app import create_app

        base = write_base_files(tmp_path / "base")
        settings = Settings.load({}, data=tmp_path / "data", base_source=base, requests_per_minute=5)
        with TestClient(create_app(settings), raise_server_exceptions=False) as raw:
            token = {"Authorization": f"Bearer {settings.client_token()}"}
            answers = [raw.get("/api/models", headers=token) for _ in range(7)]
            assert [one.status_code for one in answers] == [200] * 5 + [429] * 2
            refused = answers[-1].headers
            assert 1 <= int(refused["retry-after"]) <= 60
            assert refused["ratelimit"] == f'"api";r=0;t={refused["retry-after"]}'
            assert refused["ratelimit-policy"] == '"fixed window";"api";q=5;w=60'
            assert raw.get("/api/v1/health").status_code == 200  # the hub's own routes are not meant

    def test_windows_end(self) -> None:
        at = [0.0]
        rate = RequestRate(2, now=lambda: at[0])
        for caller in ("a", "b"):
            rate.count(caller)
            rate.count(caller)
        with pytest.raises(TooManyRequestsError):
            rate.count("a")
        at[0] = 61.0
        rate.count("a")
        free = RequestRate(0)
        for _ in range(100):
            free.count("a")


def test_a_clone_keeps_no_old_commit_alive(ann: Client, services: Services) -> None:
    repos, registry = services.registry.repos, services.registry
    info = repos.get(REPO)
    before = services.hf.git.refs(info)
    assert commit(ann, file("README.md", b"# Dock 2")).status_code == 200
    services.hf.git.refs(info)
    repos.squash(REPO, "main", message="one", author="ann")
    for _ in range(2):
        registry.collect(timedelta(0), timedelta(0))
    rows = registry.catalog.query("SELECT count(*) FROM commits WHERE repo = ?", [info.key])
    assert rows == [(1,)]
    after = services.hf.git.refs(info)
    assert after.keys() == before.keys()
    assert after != before


DEEP = (b"[" * 100_000, b'{"a":' * 100_000, b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}")
NO_TEXT = (b'{"name": "\xed\xa0\x80"}', b'{"name": "\xff"}', b'{"\xc3": 1}')


def test_bodies_that_no_decoder_can_read_are_the_callers_mistake(ann: Client) -> None:
    ways = ("repos/create", "models/ann/dock/preupload/main", "v1/cells", "v1/outcomes", "v1/forget")
    for where, body in product(ways, (*DEEP, *NO_TEXT)):
        told = ann.post(f"/api/{where}", content=body, headers={"Content-Type": "application/json"})
        assert 400 <= told.status_code < 500, (where, body[:20], told.text)


def test_bodies_that_are_read_by_hand_as_well(ann: Client) -> None:
    ways = ("/ann/dock/info/lfs/verify", "/ann/dock/info/lfs/objects/batch", COMMIT)
    for where, body in product(ways, (*DEEP, *NO_TEXT)):
        told = ann.post(where, content=body, headers={"Content-Type": "application/vnd.git-lfs+json"})
        assert 400 <= told.status_code < 500, (where, body[:20], told.text)


@pytest.mark.parametrize("body", [*DEEP, b'{"architectures": ["\xed\xa0\x80"]}'])
def test_a_configuration_that_nobody_can_read_hides_no_model(ann: Client, body: bytes) -> None:
    value = {"path": "config.json", "content": base64.b64encode(body).decode(), "encoding": "base64"}
    lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "file", "value": value}]
    sent = ann.post(COMMIT, content="\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"})
    if sent.is_success:  # else it was refused, in words
        assert ann.get("/api/models/ann/dock?expand=config").status_code == 200
        assert ann.get("/api/models/ann/dock").status_code == 200
        assert ann.get("/api/models?full=true").status_code == 200
    else:
        assert sent.status_code in (400, 422), sent.text
