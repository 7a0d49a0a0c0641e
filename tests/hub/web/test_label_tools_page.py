"""The buttons that send pictures to another labelling tool: they do, they say what came of it, and keep no token."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hub.client.tools.guarded import guarded_transport
from hub.client.tools.session import Session
from hub.errors import InputError, ToolError
from hub.outbound import Guard
from hub.schemas.labels import FillIn
from hub.services import Services
from hub.settings import Settings
from hub.web.handing import Asked, Handings
from tests.hub.loop.labels import capture, people
from tests.hub.material import wait_for
from tests.hub.web.material import EVIL, Browser

CELL, SECRET = "dock-7", "secret-token-zebracrossing"
PAGE = f"/ui/label/cells/{CELL}/tools"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, webhook_allow="127.0.0.0/8")


@pytest.fixture
def ann(services: Services, browser: Browser) -> Browser:
    """Signed in as one of the team, with two pictures that wait."""
    services.cells.create(CELL, EVIL, "acme", ["box"])
    for seed in range(2):
        capture(services, CELL, seed=seed)
    browser.sign_in(people(services)["ann"])
    services.labelling.fill(CELL, FillIn(limit=10), services.tokens.identify(services.settings.client_token()))
    return browser


def run(browser: Browser, action: str, **fields: str) -> str:
    """Press a button, and the page when it is done."""
    web = browser.client.app.state.web
    browser.post(f"{PAGE}/{action}", {"csrf": browser.csrf(PAGE), "tool": "fiftyone", **fields})
    wait_for(lambda: web.handings.standing(CELL).state != "running", 60.0)
    return browser.get(PAGE)


def test_pictures_go_to_fiftyone_and_come_back(ann: Browser, services: Services) -> None:
    assert "None." in ann.get(PAGE) and PAGE in ann.get("/ui/label") and PAGE in ann.get(f"/ui/label/cells/{CELL}")
    shown = run(ann, "push")
    assert "2 pictures are at fiftyone dock-7" in shown and "not begun" in shown
    folder = services.settings.data / "handoffs" / CELL
    samples = json.loads((folder / "samples.json").read_text())
    assert len(samples["samples"]) == 2
    assert "No picture waits here" in run(ann, "push")
    for one in samples["samples"]:
        one["tags"] = [*one.get("tags", []), "accepted"]
    (folder / "samples.json").write_text(json.dumps(samples))
    shown = run(ann, "pull")
    assert "2 new answers" in shown and "labelled and taken back" in shown
    assert {task.state for task in services.labelling.queue.page(CELL, limit=10)} == {"labelled"}
    assert EVIL not in shown


def test_a_limit_and_an_event_are_kept_to(ann: Browser) -> None:
    assert "1 pictures are at" in run(ann, "push", limit="1")
    assert "there is no event" in run(ann, "push", event="0" * 32)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tool": "label-studio", "url": "", "token": ""}, "address"),
        ({"tool": "paint", "url": "https://x.example", "token": "t"}, "no labelling tool"),
        ({"tool": "cvat", "url": "https://x.example", "token": "two words"}, "no token"),
        ({"tool": "cvat", "url": "https://x.example", "token": "t", "project": "x"}, "whole numbers"),
        ({"tool": "cvat", "url": "https://x.example", "token": "t", "limit": "0"}, "1 to 1,000"),
    ],
)
def test_a_form_that_cannot_be_is_refused_in_words(ann: Browser, fields: dict[str, str], said: str) -> None:
    answer = ann.post(f"{PAGE}/push", {"csrf": ann.csrf(PAGE), **fields}, status=400)
    assert said in answer.text
    assert ann.client.app.state.web.handings.standing(CELL) is None


@pytest.mark.parametrize("tool", ["label-studio", "cvat"])
def test_a_tool_that_does_not_answer_is_told_and_the_token_is_nowhere(
    ann: Browser, services: Services, tool: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as held, caplog.at_level(logging.DEBUG):
        held.bind(("127.0.0.1", 0))  # nobody listens
        shown = run(ann, "push", tool=tool, url=f"http://127.0.0.1:{held.getsockname()[1]}", token=SECRET)
    assert "failed" in shown and "does not answer" in shown and "Nothing is lost" in shown
    assert SECRET not in shown and SECRET not in caplog.text
    kept = services.registry.catalog.query("SELECT * FROM hub_audit") if _has(services, "hub_audit") else []
    assert SECRET not in str(kept)
    assert {task.state for task in services.labelling.queue.page(CELL, limit=10)} == {"open"}


def _has(services: Services, table: str) -> bool:
    return bool(services.registry.catalog.query("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [table]))


class Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_POST = do_GET  # noqa: N815  # the server's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_token_that_is_not_good_there_is_told(ann: Browser, refusing: str) -> None:
    shown = run(ann, "push", tool="cvat", url=refusing, token=SECRET)
    assert "does not let this token do" in shown


def test_the_hub_asks_no_address_of_its_own_network_that_is_not_allowed(refusing: str) -> None:
    with pytest.raises(ToolError, match="PARCELHUB_WEBHOOK_ALLOW"):
        Session(refusing, "CVAT", lambda _: "x", guard=Guard())
    # And none that a name leads to only when it is connected to.
    import httpx

    with httpx.Client(transport=guarded_transport(Guard())) as client, pytest.raises(httpx.ConnectError):
        client.get(refusing)
    with httpx.Client(transport=guarded_transport(Guard.of("127.0.0.0/8"))) as client:
        assert client.get(refusing).status_code == 401


def test_one_at_a_time(ann: Browser, services: Services) -> None:
    handings = Handings(services)
    who = services.tokens.identify(services.settings.client_token())
    going, goes_on = threading.Event(), threading.Event()
    opened = handings._open

    def slow(cell: str, asked: Asked):  # type: ignore[no-untyped-def]
        going.set()
        goes_on.wait(30)
        return opened(cell, asked)

    handings._open = slow  # type: ignore[method-assign]
    thread = handings.start(CELL, who, Asked("push", "fiftyone", "", ""))
    assert going.wait(30)
    with pytest.raises(InputError, match="under way"):
        handings.start(CELL, who, Asked("push", "fiftyone", "", ""))
    goes_on.set()
    thread.join(60)
    found = handings.standing(CELL)
    assert found is not None and found.state == "done" and "2 pictures" in found.said
    assert SECRET not in repr(Asked("push", "cvat", "https://x.example", SECRET))


def test_who_may_not_label_and_who_is_a_stranger(ann: Browser, services: Services) -> None:
    tokens = people_again(services)
    ann.sign_in(tokens["rob"])
    ann.get(PAGE, status=404)
    ann.post(f"{PAGE}/push", {"tool": "fiftyone"}, status=404)
    ann.sign_in(tokens["reader"])
    assert "<button" not in ann.get(PAGE).partition("<main")[2].partition("</main>")[0]
    ann.post(f"{PAGE}/push", {"tool": "fiftyone"}, status=403)
    answer = ann.client.post(f"{PAGE}/push", data={"tool": "fiftyone"}, follow_redirects=False)
    assert answer.status_code == 403 and "out of date" in answer.text


def people_again(services: Services) -> dict[str, str]:
    from hub.accounts.tokens import Scope

    issue = services.tokens.issue
    return {
        "rob": issue("rob-2", [Scope.CONTRIBUTE], user="rob"), "reader": issue("ann-2", [Scope.READ], user="ann"),
    }  # fmt: skip


def test_the_folder_is_the_hubs_own(services: Services) -> None:
    assert Handings(services).folder(CELL).is_relative_to(services.settings.data)
