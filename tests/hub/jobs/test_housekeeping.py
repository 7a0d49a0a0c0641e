"""What nobody comes back for goes while the hub runs; logs keep their bytes; others than hubs are told apart."""

from __future__ import annotations

import http.server
import os
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from hub.client.client import HubClient
from hub.clock import Elapsed
from hub.error_table import problem_of
from hub.errors import AnotherServiceError, HubAnswerError
from hub.jobs.logs import JobLogs
from hub.jobs.worker import LogShipper, Worker
from hub.maintenance.housekeeping import Housekeeping
from hub.settings import Settings


def test_workspaces_of_ended_jobs_go_and_the_others_stay(tmp_path):
    for name in ("failed", "running", "young", "orphan", "fresh-orphan"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "orphan", (0, 0))

    def broken(leapt):
        raise OSError("one kind fails")

    tidied = Housekeeping(
        tmp_path,
        ended=lambda before: ["failed"] if before < time.time() else [],
        known=lambda: {"failed", "running", "young"},
        forget_uploads=broken,
        forget_parts=lambda leapt: 2,
        workspace_grace=timedelta(days=7),
        elapsed=Elapsed(tmp_path.parent / "clock.json"),
    ).run()
    assert (tidied.workspaces, tidied.uploads, tidied.parts) == (2, 0, 2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fresh-orphan", "running", "young"]


@pytest.mark.parametrize("piece", [7, 64 * 1024])
def test_no_byte_of_a_log_is_lost_after_invalid_utf8(tmp_path, monkeypatch, piece):
    monkeypatch.setattr("hub.jobs.worker.LOG_PIECE", piece)
    data = b"start \xff\xfe\x80 gr\xc3\xb6\xc3\x9fer\n" * 40 + b"last words \xe2\x82"
    path = tmp_path / "log.txt"
    path.write_bytes(b"")
    logs = JobLogs(tmp_path / "logs")
    client = SimpleNamespace(add_log=lambda job, one: logs.append(job, one.offset, one.text))
    claim = SimpleNamespace(job=SimpleNamespace(id="j", attempt=1))
    shipper = LogShipper(client, claim, "w", path, 0)
    for at in range(0, len(data), 11):
        with path.open("ab") as file:
            file.write(data[at : at + 11])
        shipper.ship()
    shipper.ship(final=True)
    wanted = data.decode("utf-8", "replace")
    read, at = "", 0
    while (part := logs.read("j", offset=at, limit=13)).text:
        read, at = read + part.text, part.next
    assert read == wanted


def test_a_log_with_invalid_bytes_on_disk_is_read_to_its_end(tmp_path):
    logs = JobLogs(tmp_path)
    (tmp_path / "j.log").write_bytes(b"a\xffb\xffc" * 10)
    read, at = "", 0
    while (part := logs.read("j", offset=at, limit=4)).text:
        read, at = read + part.text, part.next
    assert read == (b"a\xffb\xffc" * 10).decode("utf-8", "replace")


def test_a_worker_survives_whatever_a_claim_is_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("hub.jobs.worker.POLL_SECONDS", 0.001)
    answers = [HubAnswerError(500, "x", "x", "x"), HubAnswerError(401, "x", "x", "x"), ValueError("no JSON"), None]
    worker = Worker(Settings.load({}, data=tmp_path), SimpleNamespace())

    def claim(name, kinds):
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        worker.request_stop()

    worker._client.claim = claim
    worker.run()
    assert not answers


class _Page(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [200, 404, 502])
def test_another_service_at_the_hubs_address_is_named(status):
    handler = type("Page", (_Page,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with (
                HubClient(url, "t") as client,
                pytest.raises(AnotherServiceError, match="another service answers") as no,
            ):
                client.cells()
            assert problem_of(no.value).slug == "another-service"
        finally:
            server.shutdown()


def test_a_clients_setting_is_not_what_the_hub_tells(tmp_path):
    settings = Settings.load({"PARCELHUB_HUB_URL": "http://elsewhere:1"}, data=tmp_path)
    assert settings.url == "http://elsewhere:1"
    assert "elsewhere" not in settings.told_url + settings.local_url + settings.public_url
