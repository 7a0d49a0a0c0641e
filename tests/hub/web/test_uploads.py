"""Uploads from the browser: the script's calls with a session, and what becomes of the files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.services import Services
from registry.types import RepoId
from tests.hub.material import write_rectangles
from tests.hub.web.material import Browser, work_off

CALLS = [
    ("POST", "/ui/uploads/acme/dock"),
    ("PUT", f"/ui/uploads/abc/files/{'0' * 64}"),
    ("POST", "/ui/uploads/abc/commit"),
    ("DELETE", "/ui/uploads/abc"),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    listed = [{"path": k, "size": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in files.items()]
    return {"files": listed, "message": "in the browser", "private": False} | more


def send(browser: Browser, name: str, files: dict[str, bytes]) -> str:
    """As the script does. Returns where the commit leads to."""
    proof = {"X-CSRF-Token": browser.csrf()}
    upload = browser.client.post(f"/ui/uploads/{name}", json=manifest(files), headers=proof)
    assert upload.status_code == 201, upload.text
    by_digest = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
    for one in upload.json()["missing"]:
        data, at = by_digest[one["sha256"]], 0
        while at < len(data):  # in parts
            end = min(len(data), at + 3000)
            span = {"Content-Range": f"bytes {at}-{end - 1}/{len(data)}"}
            route = f"/ui/uploads/{upload.json()['id']}/files/{one['sha256']}"
            answer = browser.client.put(route, headers=proof | span, content=data[at:end])
            assert answer.status_code == 200, answer.text
            at = answer.json()["received"]
    done = browser.client.post(f"/ui/uploads/{upload.json()['id']}/commit", headers=proof)
    assert done.status_code == 200, done.text
    return str(done.json()["address"])


def wait_for_check(browser: Browser) -> None:
    work_off(browser.client)


def test_a_folder_of_any_format_becomes_a_dataset_of_the_hubs_form(
    browser: Browser, client: HubClient, services: Services, tmp_path: Path
) -> None:
    files = files_of(write_rectangles(tmp_path / "frames", images=6))
    address = send(browser, "acme/dock", files)
    assert address == "/ui/datasets/acme/dock/check"
    assert "reloads by itself" in browser.get(address)
    wait_for_check(browser)
    page = browser.get(address)
    assert "reloads by itself" not in page and "Not checked yet" not in page and "cannot be used" not in page
    found = client.dataset_summary("acme/dock", "main")
    assert (found.images, found.instances, found.note) == (6, 18, "")
    tree = client.tree("dataset", "acme/dock", "main")
    assert sorted({file.path.partition("/")[0] for file in tree.files}) == ["annotations.json", "images"]
    commit = services.store.commit_of(RepoId.parse("acme/dock", "dataset"), "main")
    assert commit.message == "Read as yolo: 6 images" and commit.parent is not None
    before = client.tree("dataset", "acme/dock", commit.parent)
    assert {file.path for file in before.files} == set(files), "the files as they came are a revision of their own"
    assert '<image class="overlay"' in browser.get("/ui/datasets/acme/dock")


def test_what_is_no_dataset_is_said_on_the_checks_page(browser: Browser, client: HubClient) -> None:
    address = send(browser, "acme/notes", {"notes.txt": b"nothing here"})
    wait_for_check(browser)
    page = browser.get(address)
    assert "cannot be used" in page and "no dataset found" in page and "/web/quality" not in page
    assert [file.path for file in client.tree("dataset", "acme/notes", "main").files] == ["notes.txt"]


def test_calls_without_the_forms_proof_are_refused(browser: Browser) -> None:
    good = {"X-CSRF-Token": browser.csrf()}
    proofs = ({}, {"X-CSRF-Token": "0" * 64}, good | {"Sec-Fetch-Site": "cross-site"}, good | {"Origin": "null"})
    for method, address in CALLS:
        for headers in proofs:
            answer = browser.client.request(method, address, headers=headers, json=manifest({"a.txt": b"a"}))
            assert answer.status_code == 403, (address, answer.text)
            assert answer.headers["content-type"].startswith("application/problem+json"), "a script reads it"
        assert browser.client.app.state.services.datasets.page(_operator(browser), limit=9) == [], address


def test_every_call_is_in_the_list_above(browser: Browser) -> None:
    routes = [route for route in browser.client.app.routes if route.path.startswith("/ui/uploads/")]
    changes = [way for route in routes for way in route.methods if way not in ("GET", "HEAD", "OPTIONS")]
    assert sorted(changes) == sorted(method for method, _ in CALLS)


def test_who_may_not_contribute_is_told_so(stranger: Browser, services: Services) -> None:
    services.users.put("ann", teams=["acme"])
    stranger.sign_in(services.tokens.issue("ann", {Scope.FINETUNE}, user="ann"))
    assert "may not upload" in stranger.get("/ui/datasets/new")
    assert "/ui/datasets/new" not in stranger.get("/ui/datasets?search=x")
    answer = stranger.client.post(
        "/ui/uploads/acme/dock", json=manifest({"a.txt": b"a"}), headers={"X-CSRF-Token": stranger.csrf()}
    )
    assert answer.status_code == 403 and "contribute" in answer.json()["detail"]


def test_a_team_offers_its_own_names_and_writes_nobody_elses(stranger: Browser, services: Services) -> None:
    services.users.put("ann", teams=["acme"])
    stranger.sign_in(services.tokens.issue("ann", {Scope.CONTRIBUTE}, user="ann"))
    page = stranger.get("/ui/datasets/new?dataset=acme/%22%3Eevil")
    assert '<option value="acme" selected>' in page and '<option value="ann">' in page and '">evil' not in page
    proof = {"X-CSRF-Token": stranger.csrf()}
    for name, status in (("rival/dock", 403), ("acme/dock", 201)):
        answer = stranger.client.post(f"/ui/uploads/{name}", json=manifest({"a.txt": b"a"}), headers=proof)
        assert answer.status_code == status, answer.text


def test_hostile_files_are_refused_here_too(browser: Browser) -> None:
    proof = {"X-CSRF-Token": browser.csrf()}
    for path in ("../a.txt", "a.svg", "weights.safetensors", "a<b>.txt"):
        answer = browser.client.post("/ui/uploads/acme/dock", json=manifest({path: b"x"}), headers=proof)
        assert answer.status_code in (400, 422), (path, answer.text)
    files = {"a.png": b"<svg onload=alert(1)>"}
    upload = browser.client.post("/ui/uploads/acme/dock", json=manifest(files), headers=proof).json()
    route = f"/ui/uploads/{upload['id']}/files/{upload['missing'][0]['sha256']}"
    assert browser.client.put(route, headers=proof, content=files["a.png"]).status_code == 422
    assert browser.client.delete(f"/ui/uploads/{upload['id']}", headers=proof).status_code == 204
    assert browser.client.get(f"/ui/uploads/{upload['id']}").status_code == 404


def _operator(browser: Browser) -> Any:
    services: Services = browser.client.app.state.services
    return services.tokens.identify(services.settings.client_token())
