"""Carries a site's uplink to a hub that does not share its disk, and fetches what the hub asks of the site.

Beside Triton one thread goes round: it fetches the hub's wishes with the site's own token and lays them where the watch
grants them, and sends captures, predictions, messages and statistics. Each is removed here when the hub says that it
has it, and each has an id by which the hub counts it once, so whoever is killed in between sends it again. While the
hub is away everything waits in its folder, within that folder's bounds. A hub on the same disk (`hub.id` in the
telemetry folder is its own) takes these up by itself; then only the wishes are fetched.

A wish is laid down once as well, however often it is fetched: its file is written aside, the mark that it was taken is
synced, then the file gets its name. Who is killed before the mark fetches it again; who is killed after it finishes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from registry.durable import publish, write_file
from serving.errors import CaptureNotFound
from serving.observed import camera_words
from serving.observed.captures import CaptureStore
from serving.observed.segments import INCOMING, PREDICTIONS
from serving.observed.spool import UPLINK, Spool
from serving.observed.uplink import CAPTURES
from serving.observed.wishes import WISHES

log = logging.getLogger(__name__)

HUB_MARK: Final = "hub.id"
"""In the telemetry folder of a hub, its own name: 32 hexadecimal digits."""
EVERY_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0
AT_ONCE: Final = 100
"""Captures and segments of one round: wishes and alerts must not wait for a long queue."""
MAX_TAKEN: Final = 4_096
MAX_ANSWER: Final = 8 * 1024**2
_ID: Final = re.compile(r"[0-9a-f]{32}")
_NEVER: Final = frozenset({400, 403, 404, 409, 413, 415, 422})
"""What the hub will never take, whenever it is sent: it is in nobody's way. 403: of a cell that is not the site's, one
that was deleted for instance; a token that is none at all is a 401, or a 403 to the first request of a round."""


class AwayError(Exception):
    """The hub cannot be reached, or does not know this site's token now: later."""


class Carrier:
    """Goes round. One per telemetry folder; not thread-safe but for `close`."""

    def __init__(
        self,
        folder: Path,
        url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`folder` is the site's telemetry folder, `token` the site's own."""
        self._folder = folder
        self._captures = CaptureStore(folder / CAPTURES)
        self._spool = Spool(folder / UPLINK)
        self._told: dict[str, float] = {}
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1/site", timeout=timeout_s, transport=transport,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        self.refused = 0
        """What the hub will never take, and was left out."""

    def start(self) -> None:
        """Go round until it is closed."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and the connections; what waits goes on waiting."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._http.close()

    def once(self) -> int:
        """One round: how many things were carried. Raises AwayError; OSError where the disk fails."""
        asked = self._ask("GET", "/wishes").json()
        carried = self._take_wishes(asked.get("wishes", []))
        if not self._shares_disk(str(asked.get("hub", ""))):
            carried += self._send_captures() + self._send_segments() + self._send_messages() + self._send_statistics()
        return carried

    def _run(self) -> None:
        pause, said = EVERY_S, ""
        while not self._stop.wait(pause):
            try:
                self.once()
                if said:
                    log.info("the hub is back")
                pause, said = EVERY_S, ""
            except (AwayError, OSError, ValueError) as error:
                pause = min(pause * 2, LONGEST_PAUSE_S)
                if str(error) != said:
                    said = str(error)
                    log.warning("the uplink waits: %s", said)
            except Exception:
                # Whatever a hub of another version answers: the next round may go well, and robots are answered.
                log.exception("the uplink waits")
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _ask(
        self,
        method: str,
        route: str,
        *,
        never: bool = False,
        **content: Any,  # noqa: ANN401  # as httpx takes it
    ) -> httpx.Response:
        """The answer. With `never`, also one that says that the hub will never take it. Raises AwayError."""
        try:
            answer = self._http.request(method, route, **content)
        except httpx.HTTPError as error:
            raise AwayError(f"the hub cannot be reached: {error}") from error
        if answer.is_success and len(answer.content) <= MAX_ANSWER:
            return answer
        if never and answer.status_code in _NEVER:
            return answer
        raise AwayError(f"the hub answered {answer.status_code} to {method} {route.partition('/')[2][:20]}")

    def _gone(self, answer: httpx.Response, what: str) -> None:
        """Note an answer to something that was sent."""
        if not answer.is_success:
            self.refused += 1
            log.warning("the hub does not take %s, which was left out: %s", what, answer.text[:300])

    def _shares_disk(self, hub: str) -> bool:
        try:
            return bool(hub) and (self._folder / HUB_MARK).read_text(encoding="ascii").strip() == hub
        except (OSError, ValueError):
            return False

    # --- what the hub asks --------------------------------------------------------------------------------------------

    def _take_wishes(self, wishes: object) -> int:
        count = 0
        for each in wishes if isinstance(wishes, list) else []:
            if not isinstance(each, dict) or not _ID.fullmatch(str(each.get("id"))):
                continue
            count += lay_down(self._folder, each["id"], each.get("wish", {}))
            self._ask("POST", f"/wishes/{each['id']}/taken", never=True)
        return count

    # --- what the site says -------------------------------------------------------------------------------------------

    def _send_captures(self) -> int:
        """Captures first: an alert that is sent after them takes those of a camera at fault away again."""
        count = 0
        for name in sorted(self._captures.names())[:AT_ONCE]:
            try:
                document = self._captures.read(name)
                data, kind = self._captures.image(name)
            except CaptureNotFound:  # it made room for a newer one
                continue
            body = {"document": document, "picture": base64.b64encode(data).decode(), "kind": kind}
            self._gone(self._ask("PUT", f"/captures/{name}", never=True, json=body), f"the capture {name}")
            self._captures.remove(name)
            count += 1
        return count

    def _send_segments(self) -> int:
        count = 0
        for path in sorted((self._folder / INCOMING).glob(f"{PREDICTIONS}-*.jsonl"))[:AT_ONCE]:
            with contextlib.suppress(FileNotFoundError):
                content, headers = path.read_bytes(), {"Content-Type": "application/x-ndjson"}
                route = f"/predictions/{quote(path.stem, safe='')}"
                self._gone(self._ask("PUT", route, never=True, content=content, headers=headers), path.name)
                path.unlink(missing_ok=True)
                count += 1
        return count

    def _send_messages(self) -> int:
        count = 0
        for name in self._spool.names():
            document = self._spool.read(name)
            if document is not None:
                body = {"at": int(name[:13]) / 1000, "message": document}
                self._gone(self._ask("POST", "/messages", never=True, json=body), f"the message {name}")
                count += 1
            self._spool.remove(name)
        return count

    def _send_statistics(self) -> int:
        """Those that are new since this process last sent them; the hub goes by their time."""
        count, seen = 0, {}
        for name, changed, data in camera_words.waiting(self._folder):
            seen[name] = changed
            if self._told.get(name) == changed:
                continue
            with contextlib.suppress(ValueError):
                body = json.loads(data)
                self._gone(self._ask("PUT", f"/statistics/{name}", never=True, json=body), "what is known of a camera")
                count += 1
            self._told[name] = changed
        self._told = {name: changed for name, changed in self._told.items() if name in seen}
        return count


def lay_down(folder: Path, wish_id: str, wish: object) -> bool:
    """Lay a wish where the watch grants it; False for one that was laid down already. Raises OSError."""
    target, taken = folder / WISHES / f"{wish_id}.json", folder / WISHES / "taken"
    aside, mark = taken / f"{wish_id}.wish", taken / wish_id
    if mark.exists():
        if not aside.exists():
            return False
        publish(aside, target)  # a process that was killed had come as far as the mark
        return True
    write_file(aside, json.dumps(wish).encode())
    write_file(mark, b"")
    publish(aside, target)
    _forget_marks(taken)
    return True


def _forget_marks(taken: Path) -> None:
    marks = [entry for entry in _entries(taken) if _ID.fullmatch(entry.name)]
    if len(marks) > MAX_TAKEN:
        marks.sort(key=lambda entry: entry.stat().st_mtime)
        for entry in marks[: len(marks) - MAX_TAKEN]:
            Path(entry.path).unlink(missing_ok=True)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        yield from os.scandir(folder)
    except FileNotFoundError:
        return
