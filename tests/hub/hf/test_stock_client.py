"""What people do with `huggingface_hub`, and what they may not."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.settings import Settings


def headers(api: HfApi) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token}"}


def test_who_am_i(ann: HfApi, live_hub: Settings) -> None:
    me = ann.whoami()
    assert (me["name"], me["fullname"], [org["name"] for org in me["orgs"]]) == ("ann", "Ann", ["acme"])
    assert me["auth"]["accessToken"]["role"] == "write"
    wrong = httpx.get(f"{live_hub.url}/api/whoami-v2", headers={"Authorization": "Bearer hf_nobody"})
    assert (wrong.status_code, wrong.headers["x-error-message"]) == (401, "Invalid credentials in Authorization header")
    assert httpx.get(f"{live_hub.url}/api/whoami-v2").status_code == 401


def test_a_folder_goes_up_and_comes_down(ann: HfApi, repo: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a b" / "ünïcode").mkdir(parents=True)
    (source / "README.md").write_text(
        "---\nlicense: mit\ntags: [boxes]\npipeline_tag: image-segmentation\n---\n# Dock\n"
    )
    (source / "a b" / "ünïcode" / "weights.bin").write_bytes(bytes(range(256)) * 20_000)
    (source / "a b" / "#100%+.txt").write_text("text")
    (source / "empty.bin").write_bytes(b"")
    commit = ann.upload_folder(repo_id=repo, folder_path=source, commit_message="All of it", commit_description="Why")
    target = Path(ann.snapshot_download(repo, cache_dir=tmp_path / "cache"))
    assert target.name == commit.oid
    for path in (path for path in source.rglob("*") if path.is_file()):
        assert (target / path.relative_to(source)).read_bytes() == path.read_bytes()
    info = ann.model_info(repo, files_metadata=True)
    files = {file.rfilename: file for file in info.siblings or []}
    assert files["a b/ünïcode/weights.bin"].lfs is not None
    assert files["a b/#100%+.txt"].blob_id == hashlib.sha1(b"blob 4\0text").hexdigest()  # noqa: S324
    assert (info.pipeline_tag, info.card_data["license"], info.sha) == ("image-segmentation", "mit", commit.oid)
    first, second = ann.list_repo_commits(repo, formatted=True)
    assert (first.title, first.message, second.title) == ("All of it", "Why", "initial commit")
    tagged = [model.id for model in ann.list_models(filter=["boxes", "license:mit"], author="ACME")]
    assert tagged == [repo]
    again = ann.upload_folder(repo_id=repo, folder_path=source)
    assert again.oid == commit.oid  # nothing to do, nothing done


def test_a_file_system_reads_and_writes(ann: HfApi, repo: str, live_hub: Settings) -> None:
    fs = HfFileSystem(endpoint=live_hub.url, token=str(ann.token))
    with fs.open(f"{repo}/d/data.bin", "wb") as out:
        out.write(b"0123456789" * 1000)
    assert fs.ls(f"{repo}/d", detail=False) == [f"{repo}/d/data.bin"]
    with fs.open(f"{repo}/d/data.bin", "rb", block_size=100) as file:
        file.seek(5005)
        assert file.read(10) == b"5678901234"
    assert fs.info(f"{repo}/d/data.bin")["size"] == 10_000
    fs.rm(f"{repo}/d", recursive=True)
    assert not fs.exists(f"{repo}/d/data.bin")


def test_commits_add_copy_and_delete(ann: HfApi, repo: str) -> None:
    ann.create_commit(
        repo,
        [
            CommitOperationAdd("a.bin", b"large"),
            CommitOperationAdd("b.txt", b"small"),
            CommitOperationAdd("d/x", b"1"),
            CommitOperationAdd("d/y", b"2"),
        ],
        commit_message="one",
    )
    ann.create_commit(
        repo,
        [
            CommitOperationCopy("a.bin", "copy.bin"),
            CommitOperationCopy("b.txt", "copy.txt"),
            CommitOperationDelete("d/"),
            CommitOperationDelete("b.txt"),
            CommitOperationAdd("b.txt", b"anew"),
        ],
        commit_message="two",
    )
    assert sorted(ann.list_repo_files(repo)) == [".gitattributes", "a.bin", "b.txt", "copy.bin", "copy.txt"]
    with pytest.raises(HfHubHTTPError) as caught:
        ann.create_commit(repo, [CommitOperationDelete("nothing")], commit_message="three")
    assert caught.value.response.status_code == 404
    large, copy = ann.get_paths_info(repo, ["a.bin", "copy.bin"], expand=True)
    assert large.lfs == copy.lfs
    assert large.last_commit.title == "one"
    assert copy.last_commit.title == "two"


def test_one_of_many_wins_a_commit_on_the_same_parent(ann: HfApi, repo: str) -> None:
    parent = ann.model_info(repo).sha
    ends: list[int] = []

    def commit(number: int) -> None:
        operation = CommitOperationAdd(f"f{number}", b"%d" % number)
        try:
            ann.create_commit(repo, [operation], commit_message=f"{number}", parent_commit=parent)
            ends.append(200)
        except HfHubHTTPError as error:
            ends.append(error.response.status_code)

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == [200, 412, 412, 412, 412]
    assert len(ann.list_repo_commits(repo)) == 2


def test_refs(ann: HfApi, repo: str) -> None:
    made = ann.upload_file(path_or_fileobj=b"1", path_in_repo="x", repo_id=repo)
    ann.create_tag(repo, tag="v1")
    ann.create_branch(repo, branch="feature/x", revision="v1")
    ann.upload_file(path_or_fileobj=b"2", path_in_repo="x", repo_id=repo, revision="feature/x")
    refs = ann.list_repo_refs(repo, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "feature/x"]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", made.oid)]
    assert ann.file_exists(repo, "x", revision="feature/x")
    assert ann.repo_info(repo, revision=made.oid[:10]).sha == made.oid
    for revision in ("v2", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            ann.repo_info(repo, revision=revision)
    ann.super_squash_history(repo)
    assert len(ann.list_repo_commits(repo)) == 1
    ann.delete_branch(repo, branch="feature/x")
    ann.delete_tag(repo, tag="v1")


def test_pull_requests_are_proposed_and_merged(ann: HfApi, eve: HfApi, repo: str) -> None:
    proposed = eve.upload_file(path_or_fileobj=b"better", path_in_repo="x", repo_id=repo, create_pr=True)
    assert proposed.pr_num == 1
    assert not ann.file_exists(repo, "x")
    assert ann.file_exists(repo, "x", revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError):
        eve.merge_pull_request(repo, 1)
    ann.comment_discussion(repo, 1, "thanks")
    ann.merge_pull_request(repo, 1)
    details = ann.get_discussion_details(repo, 1)
    assert (details.status, details.author, details.is_pull_request) == ("merged", "eve", True)
    assert ann.file_exists(repo, "x")
    clash = eve.create_pull_request(repo, title="Another way")
    eve.upload_file(path_or_fileobj=b"mine", path_in_repo="x", repo_id=repo, revision=clash.git_reference)
    ann.upload_file(path_or_fileobj=b"ours", path_in_repo="x", repo_id=repo)
    with pytest.raises(HfHubHTTPError, match="other changes"):
        ann.merge_pull_request(repo, clash.num)
    assert [one.num for one in ann.get_repo_discussions(repo)] == [2, 1]


def test_a_private_repo_does_not_exist_for_others(
    ann: HfApi, bob: HfApi, eve: HfApi, repo: str, live_hub: Settings
) -> None:
    ann.upload_file(path_or_fileobj=b"secret" * 100, path_in_repo="a.bin", repo_id=repo)
    ann.update_repo_settings(repo, private=True)
    assert bob.repo_exists(repo)
    for call in (
        lambda: eve.model_info(repo),
        lambda: eve.list_repo_files(repo),
        lambda: eve.hf_hub_download(repo, "a.bin"),
        lambda: eve.list_repo_refs(repo),
        lambda: eve.auth_check(repo),
        lambda: eve.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo),
        lambda: eve.create_pull_request(repo, title="let me in"),
    ):
        with pytest.raises(RepositoryNotFoundError):
            call()
    assert repo not in [model.id for model in eve.list_models()]
    assert repo in [model.id for model in bob.list_models()]
    # Nor over the hub's own routes, nor by its hash.
    digest = hashlib.sha256(b"secret" * 100).hexdigest()
    with HubClient(live_hub.url, str(eve.token)) as client:
        for call in (
            lambda: client.tree("model", repo, "main"),
            lambda: client.refs("model", repo),
            lambda: client.blob(digest),
        ):
            with pytest.raises(HubAnswerError) as error:
                call()
            assert error.value.status == 404
        assert repo.partition("/")[2] not in [one.name for one in client.repos("model")]
        assert not client.has_blob(digest)


def test_a_hash_gives_nobody_anothers_bytes(ann: HfApi, eve: HfApi, repo: str, live_hub: Settings) -> None:
    ann.update_repo_settings(repo, private=True)
    ann.upload_file(path_or_fileobj=b"only ann's", path_in_repo="a.bin", repo_id=repo)
    digest = hashlib.sha256(b"only ann's").hexdigest()
    eve.create_repo("eve/mine", exist_ok=True)
    lines = (
        '{"key":"header","value":{"summary":"take"}}\n'
        f'{{"key":"lfsFile","value":{{"path":"a.bin","algo":"sha256","oid":"{digest}","size":10}}}}\n'
    )
    url = f"{live_hub.url}/api/models/eve/mine/commit/main"
    said = httpx.post(url, content=lines, headers=headers(eve) | {"Content-Type": "application/x-ndjson"})
    assert said.status_code == 400
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": digest, "size": 10}]}
    lfs = f"{live_hub.url}/eve/mine.git/info/lfs/objects/batch"
    # The hub has these bytes, and does not tell: eve is asked to send them.
    assert "actions" in httpx.post(lfs, json=batch, headers=headers(eve)).json()["objects"][0]
    batch["operation"] = "download"
    assert "error" in httpx.post(lfs, json=batch, headers=headers(eve)).json()["objects"][0]


def test_writing_is_for_the_team(ann: HfApi, bob: HfApi, eve: HfApi, api_of, repo: str, live_hub: Settings) -> None:
    bob.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo)
    reader = api_of("reader")
    for api in (eve, reader):
        for call in (
            lambda api=api: api.upload_file(path_or_fileobj=b"x", path_in_repo="y", repo_id=repo),
            lambda api=api: api.delete_repo(repo),
            lambda api=api: api.create_tag(repo, tag="v1"),
            lambda api=api: api.update_repo_settings(repo, private=True),
            lambda api=api: api.move_repo(repo, "eve/taken"),
            lambda api=api: api.super_squash_history(repo),
            lambda api=api: api.create_repo("acme/new"),
            lambda api=api: api.create_repo("base/mine"),
        ):
            with pytest.raises(HfHubHTTPError) as error:
                call()
            assert error.value.response.status_code == 403
    assert eve.create_repo(repo, exist_ok=True).repo_id == repo
    anonymous = httpx.get(f"{live_hub.url}/api/models/{repo}")
    assert (anonymous.status_code, anonymous.headers["x-error-code"]) == (401, "RepoNotFound")


def test_gates(ann: HfApi, eve: HfApi, repo: str, live_hub: Settings) -> None:
    ann.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=repo)
    ann.update_repo_settings(repo, gated="manual")
    assert eve.model_info(repo).gated == "manual"
    with pytest.raises(GatedRepoError):
        eve.hf_hub_download(repo, "x")
    asked = httpx.post(f"{live_hub.url}/api/models/{repo}/ask-access", headers=headers(eve))
    assert asked.json() == {"status": "pending"}
    assert [request.username for request in ann.list_pending_access_requests(repo)] == ["eve"]
    ann.accept_access_request(repo, "eve")
    eve.auth_check(repo)


def test_an_old_name_leads_to_the_new_one(ann: HfApi, repo: str, tmp_path: Path) -> None:
    ann.upload_file(path_or_fileobj=b"x", path_in_repo="d/x", repo_id=repo)
    new = f"ann/{repo.partition('/')[2]}-moved"
    ann.move_repo(repo, new)
    assert ann.model_info(repo).id == ann.model_info(new.upper()).id == new
    assert Path(ann.hf_hub_download(repo, "d/x", cache_dir=tmp_path)).read_bytes() == b"x"
    ann.upload_file(path_or_fileobj=b"y", path_in_repo="y", repo_id=repo)
    assert ann.file_exists(new, "y")
    with pytest.raises(RepositoryNotFoundError):
        ann.delete_repo(repo)
    ann.delete_repo(new)
    assert not ann.repo_exists(repo)


def test_pages_follow_one_another(ann: HfApi, repo: str, live_hub: Settings) -> None:
    operations = [CommitOperationAdd(f"d/{number:04}.txt", b"same") for number in range(1100)]
    ann.create_commit(repo, operations, commit_message="many")
    assert len(list(ann.list_repo_tree(repo, recursive=True))) == 1100 + 2
    page = httpx.get(f"{live_hub.url}/api/models/{repo}/tree/main/d?limit=2", headers=headers(ann))
    assert [node["path"] for node in page.json()] == ["d/0000.txt", "d/0001.txt"]
    after = httpx.get(page.links["next"]["url"], headers=headers(ann))
    assert [node["path"] for node in after.json()] == ["d/0002.txt", "d/0003.txt"]
    with pytest.raises(EntryNotFoundError):
        list(ann.list_repo_tree(repo, "nowhere"))


def test_links_for_parts(ann: HfApi, repo: str, live_hub: Settings) -> None:
    """Links for parts are refused when they, or what is sent to them, are not what was agreed."""
    data = bytes(range(256)) * 1024
    digest = hashlib.sha256(data).hexdigest()
    batch = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [{"oid": digest, "size": 3 << 30}]}
    answer = httpx.post(f"{live_hub.url}/{repo}.git/info/lfs/objects/batch", json=batch, headers=headers(ann)).json()
    assert answer["transfer"] == "multipart"
    upload = answer["objects"][0]["actions"]["upload"]
    assert {"chunk_size", "1", "48"} <= upload["header"].keys()
    assert "49" not in upload["header"]
    short = httpx.put(upload["header"]["1"], content=b"short")
    assert short.status_code == 400
    token = upload["header"]["1"].split("/")[-2]
    for tampered in (
        token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "x" + token,
        "",
        "a.b",
        token.partition(".")[0],
    ):
        assert httpx.put(f"{live_hub.url}/lfs/parts/{tampered}/1", content=b"x").status_code in (403, 404, 405)
    body = {"oid": digest, "parts": [{"partNumber": number, "etag": "x"} for number in range(1, 49)]}
    assert httpx.post(upload["href"], json=body).status_code == 400  # none arrived
