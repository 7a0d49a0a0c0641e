"""The client's part for operators: what takes long tells how it goes."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
import msgspec

from hub.client.calls import away, check_answer
from hub.errors import AnotherServiceError, HubAnswerError, HubUnavailableError
from hub.maintenance.maintenance import BackupView, CollectedView, ReportView
from hub.settings import Settings
from registry.maintenance.fsck_report import Progress, silent

T = TypeVar("T")
_STATUS = 500


class MaintenanceClient:
    """One connection to one hub. Raises `HubAnswerError` (it said no) and `HubUnavailableError`."""

    def __init__(self, url: str, token: str, *, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        # Between two lines there may be a large blob, or another's collection to wait for.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=3600.0, transport=transport)

    @classmethod
    def of(cls, settings: Settings) -> MaintenanceClient:
        """A client of the hub that the settings name, with their token."""
        return cls(settings.url, settings.client_token())

    def __enter__(self) -> MaintenanceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def fsck(self, *, quick: bool, progress: Progress = silent) -> ReportView:
        """Examine catalog and blobs; nothing is changed."""
        return self._told("fsck", {"quick": quick}, ReportView, progress)

    def collect(self, *, dry_run: bool = False, progress: Progress = silent) -> CollectedView:
        """Remove what nobody needs, or say what would go."""
        return self._told("gc", {"dry_run": dry_run}, CollectedView, progress)

    def backup(self, out: str, *, reread: bool = False, progress: Progress = silent) -> BackupView:
        """Write a backup into a folder or to a URL, as the hub sees it."""
        return self._told("backup", {"out": out, "reread": reread}, BackupView, progress)

    def _told(self, route: str, body: object, type_: type[T], progress: Progress) -> T:
        content = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        try:
            with self._http.stream("POST", f"/api/v1/maintenance/{route}", content=content, headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                    check_answer(answer)
                for line in answer.iter_lines():
                    try:
                        said = msgspec.json.decode(line, type=dict[str, Any])
                    except msgspec.DecodeError as error:
                        raise AnotherServiceError(str(self._http.base_url), "its answer is no JSON") from error
                    if "at" in said:
                        progress(*said["at"])
                    elif "result" in said:
                        return msgspec.convert(said["result"], type_)
                    elif "error" in said:
                        problem = {"type": said["error"]["code"], "detail": said["error"]["detail"]}
                        raise HubAnswerError.of(_STATUS, msgspec.json.encode(problem))
        except httpx.HTTPError as error:
            raise away(str(self._http.base_url), error) from error
        raise HubUnavailableError(str(self._http.base_url), EOFError("the answer ended in the middle"))
