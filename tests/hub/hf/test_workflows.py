"""Whole workflows of stock clients that once ended in silence, or in an error about something else."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RevisionNotFoundError

from hub.client.client import HubClient
from hub.protocol.notices import unwanted
from hub.settings import Settings
from tests.hub.material import tiny_weights

TRAIN = """
import sys, torch
from torch.utils.data import Dataset
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments

class Config(PretrainedConfig):
    model_type = "tiny-line"

class Line(PreTrainedModel):
    config_class = Config
    def __init__(self, config):
        super().__init__(config)
        self.line = torch.nn.Linear(2, 1)
        self.post_init()
    def forward(self, x, labels=None):
        out = self.line(x)
        return {"loss": ((out - labels) ** 2).mean(), "logits": out}

class Points(Dataset):
    def __len__(self): return 4
    def __getitem__(self, at): return {"x": torch.ones(2) * at, "labels": torch.ones(1)}

torch.set_num_threads(1)
args = TrainingArguments(sys.argv[1], push_to_hub=True, hub_model_id=sys.argv[2], hub_token=sys.argv[3], max_steps=2,
    save_steps=1, hub_strategy="checkpoint", report_to=[], use_cpu=True, disable_tqdm=True)
trainer = Trainer(Line(Config()), args, train_dataset=Points())
trainer.train()
trainer.push_to_hub()
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("without_xet", ["1", "0"])
def test_trainer_leaves_its_model(ann: HfApi, live_hub: Settings, tmp_path: Path, without_xet: str) -> None:
    name = f"ann/trained-{uuid.uuid4().hex[:8]}"
    environment = os.environ | {
        "HF_ENDPOINT": live_hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": without_xet,
    }
    words = [sys.executable, "-c", TRAIN, str(tmp_path / "out"), name, str(ann.token)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]
    files = set(ann.list_repo_files(name))
    assert {"model.safetensors", "config.json", "README.md"} <= files
    assert not any(file.endswith(("training_args.bin", ".pt", ".pth")) for file in files)
    with httpx.Client(base_url=live_hub.url) as browser:
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/ui/sign-in").text)
        assert csrf
        form = {"csrf": csrf[1], "token": ann.token, "next": ""}
        assert browser.post("/ui/sign-in", data=form, headers={"Origin": live_hub.url}).status_code == 303
        shown = browser.get(f"/ui/repos/model/{name}")
        assert shown.status_code == 200
        assert "training_args.bin" in shown.text
        assert "left out" in shown.text


def test_only_what_is_known_is_left_out() -> None:
    dangerous = base64.b64encode(pickle.dumps({"a": [1.0] * 9})).decode()
    archive = base64.b64encode(b"PK\x03\x04rest").decode()
    for name in ("training_args.bin", "a/optimizer.pt", "rng_state_3.pth", "scheduler.bin", "random_states_0.pkl"):
        assert unwanted(name, 100, archive)
        assert unwanted(name, 100, dangerous)
        assert not unwanted(name, 100, base64.b64encode(b"some words").decode())
        assert not unwanted(name, 0, "")
    assert not unwanted("pytorch_model.bin", 100, archive)  # a model without its weights would be a surprise
    assert unwanted("x/__pycache__/a.pyc", 10, "")


def test_a_refused_file_is_named_and_shown(ann: HfApi, repo: str, live_hub: Settings) -> None:
    bad = CommitOperationAdd("pytorch_model.bin", pickle.dumps({"weights": [1.0] * 10}))
    with pytest.raises(HfHubHTTPError, match=r"pytorch_model\.bin"):
        ann.create_commit(repo, [CommitOperationAdd("a.txt", b"a"), bad], commit_message="x")
    assert "a.txt" not in ann.list_repo_files(repo)


def test_a_pull_request_that_cannot_be_leaves_none(ann: HfApi, repo: str) -> None:
    ann.create_tag(repo, tag="v1")
    head = str(ann.model_info(repo).sha)

    def add() -> list[CommitOperationAdd]:
        return [CommitOperationAdd("a.txt", b"a")]

    for revision in ("v1", head, "refs/pr/1", "nothing"):
        with pytest.raises(RevisionNotFoundError):
            ann.create_commit(repo, add(), commit_message="x", revision=revision, create_pr=True)
    for refused in (
        CommitOperationAdd("x.bin", pickle.dumps({"weights": [1.0] * 10})),
        CommitOperationAdd("a:b?.txt", b"x"),
    ):
        with pytest.raises(HfHubHTTPError):
            ann.create_commit(repo, [*add(), refused], commit_message="x", create_pr=True)
    with pytest.raises(HfHubHTTPError):
        ann.create_commit(repo, add(), commit_message="x", create_pr=True, parent_commit="0" * 40)
    assert not list(ann.get_repo_discussions(repo))
    made = ann.create_commit(repo, add(), commit_message="propose", create_pr=True)
    assert [one.num for one in ann.get_repo_discussions(repo)] == [1]
    assert made.pr_num == 1
    details = ann.get_discussion_details(repo, 1)
    assert [event.type for event in details.events] == ["commit"]
    assert details.merge_commit_oid is None
    ann.merge_pull_request(repo, 1)
    assert ann.get_discussion_details(repo, 1).merge_commit_oid == ann.model_info(repo).sha
    with pytest.raises(BadRequestError):
        ann.merge_pull_request(repo, 1, comment="once more")
    assert not [event for event in ann.get_discussion_details(repo, 1).events if event.type == "comment"]
    with pytest.raises(BadRequestError):
        late = [CommitOperationAdd("late.txt", b"late")]
        ann.create_commit(repo, late, commit_message="late", revision="refs/pr/1")


def test_comments_are_edited_and_hidden(ann: HfApi, eve: HfApi, repo: str) -> None:
    num = ann.create_discussion(repo, title="a thing", description="first").num
    said = eve.comment_discussion(repo, num, "eve's words")
    edited = eve.edit_discussion_comment(repo, num, said.id, "better words")
    assert (edited.content, edited.edited) == ("better words", True)
    with pytest.raises(HfHubHTTPError):
        ann.edit_discussion_comment(repo, num, said.id, "put into her mouth")
    with pytest.warns(UserWarning):
        hidden = ann.hide_discussion_comment(repo, num, said.id)
    assert hidden.hidden
    assert "better words" not in str([event._event for event in ann.get_discussion_details(repo, num).events])


def test_access_requests_have_ids(ann: HfApi, eve: HfApi, repo: str, live_hub: Settings) -> None:
    with pytest.raises(BadRequestError, match="not gated"):
        ann.grant_access(repo, "eve")
    ann.update_repo_settings(repo, gated="manual")
    client = httpx.Client(
        base_url=f"{live_hub.url}/api/models/{repo}", headers={"Authorization": f"Bearer {ann.token}"}
    )
    with pytest.raises(HfHubHTTPError):
        ann.accept_access_request(repo, "eve")  # nobody asked
    httpx.post(f"{live_hub.url}/api/models/{repo}/ask-access", headers={"Authorization": f"Bearer {eve.token}"})
    (asked,) = client.get("/user-access-request/pending").json()
    handled = {"requestId": asked["requestId"], "status": "accepted"}
    assert client.post("/user-access-request/handle", json=handled).status_code == 200
    assert client.post("/user-access-request/handle", json=handled).status_code == 400
    assert client.post("/user-access-request/handle", json=handled | {"requestId": "0" * 24}).status_code == 404
    with pytest.raises(BadRequestError):
        ann.grant_access(repo, "eve")
    ann.reject_access_request(repo, "eve", rejection_reason="not now")
    ann.grant_access(repo, "eve")


def test_a_plain_push_says_what_it_is(ann: HfApi, repo: str) -> None:
    ann.upload_file(path_or_fileobj=tiny_weights(b"1"), path_in_repo="model.safetensors", repo_id=repo)
    config = json.dumps({"architectures": ["EomtForUniversalSegmentation"], "model_type": "eomt"}).encode()
    ann.upload_file(path_or_fileobj=config, path_in_repo="config.json", repo_id=repo)
    info = ann.model_info(repo)
    assert info.pipeline_tag == "image-segmentation"
    assert info.safetensors is not None
    assert info.safetensors.total == sum(info.safetensors.parameters.values()) > 0
    assert repo in [one.id for one in ann.list_models(author="acme", pipeline_tag="image-segmentation")]


@pytest.mark.parametrize("path", ["a:b?.txt", "d/c:x", "x/.git/config", "x/.cache/y"])
def test_names_that_clients_refuse(ann: HfApi, repo: str, live_hub: Settings, path: str) -> None:
    lines = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}},
    ]
    told = httpx.post(
        f"{live_hub.url}/api/models/{repo}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {ann.token}"},
    )
    assert told.status_code == 422, told.text
    ann.upload_file(path_or_fileobj=b"x", path_in_repo="awful?name%you:should,never.give", repo_id=repo)


def test_copies_lists_and_teams(ann: HfApi, eve: HfApi, repo: str, live_hub: Settings) -> None:
    ann.upload_file(path_or_fileobj=b"x" * 1000, path_in_repo="a.bin", repo_id=repo)
    copy = f"ann/copy-{uuid.uuid4().hex[:8]}"

    def ask(api: HfApi, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, live_hub.url + path, headers={"Authorization": f"Bearer {api.token}"}, **more)

    body = {"repository": copy, "visibility": "private"}
    made = ask(ann, "POST", f"/api/models/{repo}/duplicate", json=body)
    assert made.json()["url"].endswith(copy)
    assert ask(ann, "POST", f"/api/models/{repo}/duplicate", json=body).status_code == 409
    assert ann.list_repo_files(copy) == ann.list_repo_files(repo)
    assert ask(eve, "POST", f"/api/models/{repo}/duplicate", json=body).status_code in (403, 409)
    listed = {one["id"]: one for one in ask(ann, "GET", "/api/settings/repositories").json()}
    assert listed[copy]["visibility"] == "private"
    assert listed[copy]["storage"] >= 1000
    team = ask(ann, "GET", "/api/organizations/acme/settings/repositories").json()
    assert repo in [one["id"] for one in team]
    assert ask(eve, "GET", "/api/organizations/acme/settings/repositories").status_code == 403
    overview = ask(ann, "GET", "/api/organizations/acme/overview").json()
    assert overview["numUsers"] == 2
    assert overview["numModels"] >= 1


def test_a_card_is_checked_without_a_token(live_hub: Settings) -> None:
    """Stock clients ask so before each card that they push, whatever token they push it with."""

    def check(head: str) -> httpx.Response:
        body = {"content": f"---\n{head}\n---\n# Dock\n", "repoType": "model"}
        return httpx.post(f"{live_hub.url}/api/validate-yaml", json=body, headers={"Accept": "text/plain"})

    assert check("license: mit").status_code == 200
    told = check("license: [7, {}]")
    assert (told.status_code, "license" in told.text) == (400, True)


@pytest.mark.parametrize(
    "path", ["models/acme/x/like", "models/acme/x/likers", "settings/webhooks", "spaces", "collections/a/b", "jobs/ann"]
)
def test_what_is_not_offered_says_so(ann: HfApi, live_hub: Settings, path: str) -> None:
    told = httpx.get(f"{live_hub.url}/api/{path}", headers={"Authorization": f"Bearer {ann.token}"})
    assert told.status_code == 501
    assert "Not offered by this hub" in told.headers["X-Error-Message"]
    assert "X-Error-Code" not in told.headers


def test_tokens_suit_every_client(ann: HfApi, live_hub: Settings) -> None:
    assert str(ann.token).startswith("hf_")
    with HubClient.of(live_hub) as operator:
        old = "ph_" + uuid.uuid4().hex
        operator.create_token("old", ["read"], user="ann", value=old)
    assert HfApi(endpoint=live_hub.url, token=old).whoami()["name"] == "ann"


SCRIPT = """
import * as hub from "@huggingface/hub";
const [hubUrl, accessToken, name] = process.argv.slice(2);
const who = await hub.whoAmI({ hubUrl, accessToken });
await hub.createRepo({ hubUrl, accessToken, repo: name });
const big = new Blob([new Uint8Array(300000).map((_, at) => at % 251)]);
await hub.uploadFiles({ hubUrl, accessToken, repo: name, useXet: process.argv[5] === "xet", files: [
  { path: "data.npy", content: big }, { path: "words.txt", content: new Blob(["words"]) }] });
const files = [];
for await (const one of hub.listFiles({ hubUrl, accessToken, repo: name, recursive: true })) files.push(one.path);
const back = await hub.downloadFile({ hubUrl, accessToken, repo: name, path: "data.npy" });
const same = Buffer.from(await back.arrayBuffer()).equals(Buffer.from(await big.arrayBuffer()));
const info = await hub.fileDownloadInfo({ hubUrl, accessToken, repo: name, path: "data.npy", revision: "HEAD" });
console.log(JSON.stringify({ who: who.name, files, same, size: info.size }));
"""


@pytest.mark.skipif(
    shutil.which("node") is None or not os.environ.get("PARCELHUB_NODE_MODULES"),
    reason="needs node, and PARCELHUB_NODE_MODULES: a folder node_modules with @huggingface/hub",
)
@pytest.mark.parametrize("way", ["lfs", "xet"])
def test_the_javascript_client(ann: HfApi, live_hub: Settings, tmp_path: Path, way: str) -> None:
    (tmp_path / "node_modules").symlink_to(os.environ["PARCELHUB_NODE_MODULES"])
    (tmp_path / "try.mjs").write_text(SCRIPT)
    name = f"ann/js-{uuid.uuid4().hex[:8]}"
    words = ["node", "try.mjs", live_hub.url, str(ann.token), name, way]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["who"] == "ann"
    assert {"data.npy", "words.txt"} <= set(told["files"])
    assert told["same"]
    assert told["size"] == 300_000
