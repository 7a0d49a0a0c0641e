"""The content store's routes: who may do what, and what clients are told."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from blake3 import blake3
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.errors import SettingsError
from hub.maintenance.collector import collecting
from hub.protocol.xet_access import LINK_SECONDS, TOKEN_SECONDS, CasGrant
from hub.services import Services
from hub.settings import Settings
from registry.errors import BlobStoreError
from registry.types import FileEntry, RepoId
from registry.xet import Collected, hashes
from registry.xet.shards import parse_shard
from registry.xet.xorbs import MAX_UPLOAD
from tests.hub.material import wait_for
from tests.registry.xet_material import Made, content, file_rows, make_shard, make_xorb, pack

Client = TestClient[Any]
Headers = dict[str, str]
OURS, THEIRS = RepoId.parse("ada/dock", "dataset"), RepoId.parse("bob/dock", "dataset")


@pytest.fixture(autouse=True)
def people(services: Services) -> None:
    for name in ("ada", "bob"):
        services.users.put(name)
    for repo in (OURS, THEIRS):
        services.registry.repos.create(repo, private=True)


@pytest.fixture
def as_user(services: Services) -> Callable[..., Headers]:
    def as_user(name: str, *scopes: Scope) -> Headers:
        token = services.tokens.issue(name, scopes or (Scope.CONTRIBUTE,), user=name)
        return {"Authorization": f"Bearer {token}"}

    return as_user


class Cas:
    """A client of the content store with one token."""

    def __init__(self, raw: Client, asked: dict[str, Any]) -> None:
        self.raw = raw
        self.base = asked["casUrl"].removeprefix("http://testserver.local")
        self.headers = {"Authorization": f"Bearer {asked['accessToken']}"}

    def post(self, path: str, body: bytes) -> Any:
        return self.raw.post(self.base + path, content=body, headers=self.headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.raw.get(self.base + path, headers=self.headers | headers)

    def put(self, xorb: Made) -> None:
        assert self.post(f"/v1/xorbs/default/{xorb.name}", xorb.body).status_code == 200


@pytest.fixture
def cas(raw: Client, as_user: Callable[..., Headers]) -> Callable[..., Cas]:
    def cas(user: str = "ada", scope: str = "write", repo: RepoId = OURS) -> Cas:
        answer = raw.get(f"/api/datasets/{repo}/xet-{scope}-token/main", headers=as_user(user))
        assert answer.status_code == 200, answer.text
        return Cas(raw, answer.json())

    return cas


@pytest.fixture
def xorb() -> Made:
    dice = random.Random(1)
    return make_xorb([dice.randbytes(dice.randint(500, 9000)) for _ in range(20)], [0])


def commit(services: Services, repo: RepoId, data: bytes) -> None:
    entry = FileEntry("a.bin", hashlib.sha256(data).hexdigest(), len(data), lfs=True)
    services.registry.repos.commit(repo, [entry], message="a", author="ada")


class TestTokens:
    def test_body_and_headers_say_the_same(self, raw, as_user):
        answer = raw.get("/api/datasets/ada/dock/xet-write-token/None", headers=as_user("ada"))
        body = answer.json()
        assert body["casUrl"] == answer.headers["X-Xet-Cas-Url"]
        assert body["accessToken"] == answer.headers["X-Xet-Access-Token"]
        assert str(body["exp"]) == answer.headers["X-Xet-Token-Expiration"]
        assert answer.headers["Cache-Control"] == "no-store"

    def test_a_revision_may_hold_slashes(self, raw, as_user):
        answer = raw.get("/api/datasets/ada/dock/xet-write-token/refs%2Fpr%2F1", headers=as_user("ada"))
        assert answer.status_code == 200

    PERMISSIONS = (
        ("bob", "/api/datasets/ada/dock/xet-read-token/main", 404),  # private
        ("bob", "/api/datasets/ada/dock/xet-write-token/main", 404),
        ("ada", "/api/datasets/ada/nothing/xet-read-token/main", 404),
        ("ada", "/api/spaces/ada/dock/xet-read-token/main", 404),
        ("bob", "/api/datasets/ada/open/xet-read-token/main", 200),
        ("bob", "/api/datasets/ada/open/xet-write-token/main", 403),
        ("bob", "/api/datasets/ada/open/xet-write-token/main?create_pr=1", 200),
        ("ada", "/api/datasets/ADA/Dock/xet-write-token/main", 200),
    )

    def test_permissions(self, raw, services, as_user):
        services.registry.repos.create(RepoId.parse("ada/open", "dataset"))
        for user, address, status in self.PERMISSIONS:
            answer = raw.get(address, headers=as_user(user))
            assert answer.status_code == status, (user, address)
            if status == 404:
                assert answer.headers["X-Error-Code"] == "RepoNotFound", (user, address)

    def test_readers_propose_nothing(self, raw, as_user):
        address = "/api/datasets/ada/dock/xet-write-token/main"
        assert raw.get(address, headers=as_user("ada", Scope.READ)).status_code == 403
        assert raw.get(address + "?create_pr=1", headers=as_user("ada", Scope.READ)).status_code == 403

    def test_other_tokens_are_refused(self, raw, services, cas, as_user, xorb):
        ours = cas()
        path = f"{ours.base}/v1/xorbs/default/{xorb.name}"
        late = services.hf.signer
        grant = CasGrant("ada", "ada", "write", services.registry.repos.get(OURS).key)
        expired = late.sign(grant, seconds=-1)
        good = ours.headers["Authorization"]
        for header in (
            "",
            "Bearer ",
            "Basic x",
            f"Bearer {expired}",
            good[:-3] + "abc",
            as_user("ada")["Authorization"],
        ):
            answer = raw.post(path, content=xorb.body, headers={"Authorization": header} if header else {})
            assert answer.status_code == 401, header
        assert late.check(late.sign(grant, seconds=TOKEN_SECONDS), CasGrant) == grant

    def test_a_reading_token_writes_nothing(self, cas, xorb):
        reading = cas(scope="read")
        assert reading.post(f"/v1/xorbs/default/{xorb.name}", xorb.body).status_code == 403
        assert reading.post("/v1/shards", make_shard([])).status_code == 403


class TestUploads:
    def test_xorb_then_shard(self, services, cas, xorb):
        ours = cas()
        path = f"/v1/xorbs/default/{xorb.name}"
        assert ours.post(path, xorb.body).json() == {"was_inserted": True}
        assert ours.post(path, xorb.body).json() == {"was_inserted": False}
        assert ours.post("/v1/shards", make_shard([file_rows([(xorb, 0, 20)])], [xorb])).json() == {"result": 1}
        data = content([(xorb, 0, 20)])
        sha256 = hashlib.sha256(data).hexdigest()
        assert services.registry.blobs.read(sha256) == data
        assert services.hf.views.xet_hashes_of([sha256]) == {sha256: services.registry.xet.hash_of(sha256)}

    def test_possession_is_personal(self, services, cas, as_user, xorb):
        ours = cas()
        ours.put(xorb)
        ours.post("/v1/shards", make_shard([file_rows([(xorb, 0, 20)])]))
        sha256 = hashlib.sha256(content([(xorb, 0, 20)])).hexdigest()
        who = {name: services.tokens.identify(as_user(name)["Authorization"].split()[1]) for name in ("ada", "bob")}
        assert services.hf.ledger.size_of(who["ada"], sha256) == len(content([(xorb, 0, 20)]))
        assert services.hf.ledger.size_of(who["bob"], sha256) is None
        # Bob knows the hashes of file and xorb, but not the chunks: his shard proves nothing.
        theirs = cas("bob", repo=THEIRS)
        guessed = bytearray(file_rows([(xorb, 0, 20)]))
        guessed[96:128] = bytes(32)
        assert theirs.post("/v1/shards", make_shard([bytes(guessed)])).status_code == 403
        assert services.hf.ledger.size_of(who["bob"], sha256) is None
        # With the bytes in hand he needs no upload.
        assert theirs.post("/v1/shards", make_shard([file_rows([(xorb, 0, 20)])])).status_code == 200
        assert services.hf.ledger.size_of(who["bob"], sha256) is not None

    @pytest.mark.parametrize(
        ("name", "body", "status"),
        [
            ("0" * 64, b"noise", 400),
            ("0" * 64, b"", 400),
            ("0" * 64, pack(b"a good chunk of another xorb", 0), 400),
            ("0" * 63, b"", 400),
            ("Z" * 64, b"", 400),
        ],
    )
    def test_bad_xorbs(self, cas, name, body, status):
        assert cas().post(f"/v1/xorbs/default/{name}", body).status_code == status

    def test_a_xorb_beyond_all_limits(self, cas):
        chunk = pack(random.Random(2).randbytes(128 * 1024), 0)
        assert cas().post(f"/v1/xorbs/default/{'0' * 64}", chunk * (MAX_UPLOAD // len(chunk) + 1)).status_code == 413

    def test_bad_shards(self, cas, xorb):
        ours = cas()
        ours.put(xorb)
        assert ours.post("/v1/shards", b"noise").status_code == 400
        assert ours.post("/v1/shards", make_shard([file_rows([(xorb, 0, 2)], sha256=b"s" * 32)])).status_code == 400
        assert ours.post("/v1/shards", make_shard([file_rows([(xorb, 0, 2)], proofs=False)])).status_code == 403

    def test_a_client_that_remembers_too_much_is_told_to_forget(self, cas, xorb):
        before, other = cas(), cas("bob", repo=THEIRS)
        assert cas().base == before.base
        assert before.post("/v1/shards", make_shard([file_rows([(xorb, 0, 2)])])).status_code == 409
        assert cas().base != before.base
        assert cas("bob", repo=THEIRS).base == other.base
        before.put(xorb)  # an upload that has begun goes on at the old address
        assert before.post("/v1/shards", make_shard([file_rows([(xorb, 0, 2)])])).status_code == 200

    @pytest.mark.parametrize("path", ["/v2/shards", "/v1/xorb-grants/default/" + "0" * 64])
    def test_newer_routes_are_declined_as_clients_expect(self, cas, path):
        assert cas().post(path, b"").status_code == 404

    def test_chunks_are_told_to_those_who_may_read_them(self, raw, services, cas, xorb):
        ours, theirs = cas(), cas("bob", repo=THEIRS)
        ours.put(xorb)
        ours.post("/v1/shards", make_shard([file_rows([(xorb, 4, 9)])]))
        asked = f"/v1/chunks/default/{hashes.to_text(xorb.hashes[4])}"
        told = ours.get(asked)
        assert (told.status_code, told.headers["content-type"]) == (200, "application/octet-stream")
        (shown,) = parse_shard(told.content).xorbs
        assert (shown.hash, shown.lengths.tolist()) == (xorb.name, [len(chunk) for chunk in xorb.chunks])
        key = told.content[-200:][72:104]
        keyed = [blake3(raw_hash, key=key).digest() for raw_hash in xorb.hashes]
        # The file's own chunks are there under the key; of the others not even that.
        assert [at for at in range(20) if shown.chunks[at].tobytes() == keyed[at]] == [4, 5, 6, 7, 8]
        assert theirs.get(asked).status_code == 404
        assert raw.get(ours.base + asked).status_code == 401
        commit(services, THEIRS, content([(xorb, 4, 9)]))
        assert theirs.get(asked).status_code == 200
        # Each has a key of their own, so that what is told to one says nothing to another.
        assert theirs.get(asked).content[-200:][72:104] != key
        for other in (hashes.to_text(xorb.hashes[5]), "0" * 64):
            assert ours.get(f"/v1/chunks/default-merkledb/{other}").status_code == 404
        assert ours.get("/v1/chunks/default/xyz").status_code == 400

    def test_a_file_beyond_the_limit(self, services, cas):
        ours = cas()
        big = make_xorb([bytes(128 * 1024)] * 40, [1])
        ours.put(big)
        assert sum(map(len, big.chunks)) > services.settings.max_blob_bytes
        assert ours.post("/v1/shards", make_shard([file_rows([(big, 0, 40)])])).status_code == 413

    def test_telemetry_is_not_kept(self, raw, cas):
        assert raw.post("/v1/telemetry", content=b"{}").status_code == 200
        assert cas().post("/v1/telemetry", b"{}").status_code == 200


class TestDownloads:
    @pytest.fixture
    def stored(self, services: Services, cas: Callable[..., Cas], xorb: Made) -> str:
        """The Xet hash of a file that our repo holds."""
        ours = cas()
        ours.put(xorb)
        ours.post("/v1/shards", make_shard([file_rows([(xorb, 3, 18)])]))
        data = content([(xorb, 3, 18)])
        commit(services, OURS, data)
        found = services.registry.xet.hash_of(hashlib.sha256(data).hexdigest())
        assert found is not None
        return found

    def test_both_forms_lead_to_the_bytes(self, raw, cas, xorb, stored):
        reading = cas(scope="read")
        first = reading.get(f"/v1/reconstructions/{stored}").json()
        second = reading.get(f"/v2/reconstructions/{stored}").json()
        assert (
            first["terms"]
            == second["terms"]
            == [
                {
                    "hash": xorb.name,
                    "unpacked_length": len(content([(xorb, 3, 18)])),
                    "range": {"start": 3, "end": 18},
                }
            ]
        )
        assert first["offset_into_first_range"] == second["offset_into_first_range"] == 0
        (one,) = first["fetch_info"][xorb.name]
        (two,) = second["xorbs"][xorb.name]
        assert one["range"] == two["ranges"][0]["chunks"] == {"start": 3, "end": 18}
        assert one["url_range"] == two["ranges"][0]["bytes"]
        for url in (one["url"], two["url"]):
            bounds = f"{one['url_range']['start']}-{one['url_range']['end']}"
            answer = raw.get(url, headers={"Range": f"bytes={bounds}"})  # and no token
            assert answer.status_code == 206
            assert answer.headers["Content-Range"] == f"bytes {bounds}/*"
            assert answer.content == b"".join(pack(chunk, 0) for chunk in xorb.chunks[3:18])

    def test_ranges(self, cas, xorb, stored):
        reading = cas(scope="read")
        size = len(content([(xorb, 3, 18)]))
        head = len(xorb.chunks[3])
        answer = reading.get(f"/v1/reconstructions/{stored}", Range=f"bytes={head + 5}-{head + 6}").json()
        assert answer["offset_into_first_range"] == 5
        assert [term["range"] for term in answer["terms"]] == [{"start": 4, "end": 5}]
        for header, status in [
            (f"bytes={size - 1}-{size + 10**9}", 200),
            (f"bytes={size}-{size + 5}", 416),
            ("bytes=5-", 200),
            ("bytes=7-3", 416),
            ("bytes=0-1,4-5", 400),
            ("bytes=-5", 400),
            ("bytes=" + "9" * 30 + "-", 400),
        ]:
            for version in ("v1", "v2"):
                got = reading.get(f"/{version}/reconstructions/{stored}", Range=header).status_code
                assert got == status, header

    def test_other_repos_files_are_unknown(self, services, cas, xorb, stored):
        assert cas("bob", "read", THEIRS).get(f"/v1/reconstructions/{stored}").status_code == 404
        assert cas(scope="read").get(f"/v1/reconstructions/{'0' * 64}").status_code == 404
        commit(services, THEIRS, content([(xorb, 3, 18)]))
        assert cas("bob", "read", THEIRS).get(f"/v1/reconstructions/{stored}").status_code == 200

    def test_what_somebody_uploaded_they_may_read_before_it_is_committed(self, services, cas, xorb):
        ours = cas()
        ours.put(xorb)
        ours.post("/v1/shards", make_shard([file_rows([(xorb, 0, 7)])]))
        name = services.registry.xet.hash_of(hashlib.sha256(content([(xorb, 0, 7)])).hexdigest())
        assert ours.get(f"/v1/reconstructions/{name}").status_code == 200
        assert cas("bob", "read", THEIRS).get(f"/v1/reconstructions/{name}").status_code == 404

    def test_links_end_where_they_say(self, raw, services, cas, xorb, stored):
        (link,) = cas(scope="read").get(f"/v1/reconstructions/{stored}").json()["fetch_info"][xorb.name]
        url, first, last = link["url"], link["url_range"]["start"], link["url_range"]["end"]
        whole = raw.get(url)
        assert (whole.status_code, len(whole.content)) == (206, last + 1 - first)
        part = raw.get(url, headers={"Range": f"bytes={first + 3}-{first + 9}"})
        assert part.content == whole.content[3:10]
        for outside in (f"bytes={first - 1}-{last}", f"bytes={first}-{last + 1}", f"bytes={last + 1}-{last + 2}"):
            assert raw.get(url, headers={"Range": outside}).status_code == 416
        assert raw.get(url[:-2] + "AA").status_code == 403
        grant = services.xet.check_link(url.rsplit("/", 1)[1])
        assert raw.get("/xet-fetch/" + services.hf.signer.sign(grant, seconds=-1)).status_code == 403
        assert raw.get("/xet-fetch/" + services.hf.signer.sign(grant, seconds=LINK_SECONDS)).status_code == 206
        key = services.registry.repos.get(OURS).key
        token = services.hf.signer.sign(CasGrant("ada", "ada", "read", key), seconds=60)
        assert raw.get(f"/xet-fetch/{token}").status_code == 403


class TestCollector:
    def test_it_collects_while_the_hub_runs(self, services, cas, xorb):
        cas().put(xorb)
        xet, catalog = services.registry.xet, services.registry.catalog
        work = partial(xet.collect, timedelta(0))
        with collecting(work, first=timedelta(milliseconds=1), every=timedelta(milliseconds=5)):
            wait_for(lambda: catalog.query("SELECT count(*) FROM xet_xorbs") == [(0,)])
        assert not xet.touch_xorb(xorb.name)

    def test_a_failure_is_not_the_end(self, services, cas, xorb, caplog):
        cas().put(xorb)
        calls = []

        def collect() -> Collected:
            calls.append(1)
            if len(calls) == 1:
                raise BlobStoreError("the disk is away")
            return services.registry.xet.collect(timedelta(0))

        with collecting(collect, first=timedelta(0), every=timedelta(milliseconds=5)):
            wait_for(lambda: len(calls) >= 2)
        assert "tried again" in caplog.text

    def test_settings(self):
        assert Settings.load({"PARCELHUB_XET_GRACE_DAYS": "3.5"}).xet_grace_days == 3.5
        for wrong in ("-1", "1e9", "nan"):
            with pytest.raises(SettingsError):
                Settings.load({"PARCELHUB_XET_GRACE_DAYS": wrong})
