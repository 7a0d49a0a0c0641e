"""A real Label Studio for tests: one that is named, or one that is started from `LABEL_STUDIO_BIN`."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from finetune.datasets.brush import encode_brush
from hub.locks import free_ports
from tests.hub.material import wait_for

USER, PASSWORD = "test@example.org", "parcelhub-Test1"  # of a server that lives as long as a test


class Server:
    """A Label Studio and its personal access token, and what a person does there with the mouse."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._http = httpx.Client(base_url=url, timeout=120)

    def call(self, method: str, path: str, **more: Any) -> Any:
        access = self._http.post("/api/token/refresh/", json={"refresh": self.token}).json()["access"]
        answer = self._http.request(method, path, headers={"Authorization": f"Bearer {access}"}, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def tasks(self, project: int) -> list[dict[str, Any]]:
        found = self.call("GET", "/api/tasks/", params={"project": project, "page_size": 500, "fields": "all"})
        return list(found["tasks"])

    def annotate(self, task: int, result: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Submit an annotation (`was_cancelled`: skip)."""
        body = {"result": result, "lead_time": 4.0, **more}
        return dict(self.call("POST", f"/api/tasks/{task}/annotations/", json=body))


def brush(mask: np.ndarray[Any, Any], label: str, region: str = "drawn") -> dict[str, Any]:
    """A region as the editor makes it with the brush."""
    height, width = mask.shape
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]}
    return {
        "id": region, "from_name": "label", "to_name": "image", "type": "brushlabels", "image_rotation": 0,
        "original_width": width, "original_height": height, "value": value,
    }  # fmt: skip


def access_token(url: str) -> str:
    """Sign in with a password as a person does, and make a personal access token."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=120) as http:
        page = http.get("/user/login/").text
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert found is not None
        form = {"csrfmiddlewaretoken": found[1], "email": USER, "password": PASSWORD}
        assert http.post("/user/login/", data=form, headers={"Referer": f"{url}/user/login/"}).is_success
        made = http.post("/api/token/", headers={"X-CSRFToken": http.cookies["csrftoken"], "Referer": url})
        return str(made.json()["token"])


@contextmanager
def server(folder: Path) -> Iterator[Server | None]:
    """None where no Label Studio is named."""
    url, binary = os.environ.get("LABEL_STUDIO_URL"), os.environ.get("LABEL_STUDIO_BIN")
    if url:
        yield Server(url, os.environ.get("LABEL_STUDIO_TOKEN") or access_token(url))
        return
    if not binary:
        yield None
        return
    (port,) = free_ports("127.0.0.1", 1)
    base = f"http://127.0.0.1:{port}"
    env = os.environ | {"LABEL_STUDIO_BASE_DATA_DIR": str(folder), "COLLECT_ANALYTICS": "False", "DEBUG": "false"}
    # The hub of a test is on this machine, which Label Studio asks nothing of unless it is told to.
    env |= {"ML_BLOCK_LOCAL_IP": "false", "USE_DEFAULT_BANNED_SUBNETS": "false"}
    env.pop("PYTHONPATH", None)
    command = [binary, "start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1"]
    command += ["--username", USER, "--password", PASSWORD]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(lambda: process.poll() is not None or _answers(base), seconds=600)
        yield Server(base, access_token(base))
    finally:
        process.terminate()
        process.wait(30)


def _answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health", timeout=10).is_success
    except httpx.HTTPError:
        return False
