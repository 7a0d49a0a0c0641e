"""The client's side of the service's resources: datasets and uploads, teams and quotas, logs, evaluations, audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import msgspec

from hub.client.calls import Calls, split_name
from hub.schemas import core as s
from hub.schemas import resources as r


class ServiceCalls(Calls):
    """These calls, as part of `HubClient`."""

    # Datasets

    def datasets(self, *, limit: int | None = None, **wanted: str) -> list[r.Dataset]:
        """By name; `wanted`: `team`, `q` (part of the name), `offered` ("true")."""
        return [one for page in self._pages("/datasets", list[r.Dataset], wanted, limit=limit) for one in page]

    def dataset(self, name: str) -> r.Dataset:
        return self._call("GET", _dataset(name), r.Dataset)

    def change_dataset(self, name: str, *, private: bool) -> r.Dataset:
        return self._call("PATCH", _dataset(name), r.Dataset, {"private": private})

    def delete_dataset(self, name: str) -> None:
        self._send("DELETE", _dataset(name))

    def offer_dataset(self, name: str, *, offered: bool, note: str = "") -> r.Dataset:
        if offered:
            return self._call("PUT", _dataset(name) + "/offer", r.Dataset, {"note": note})
        return self._call("DELETE", _dataset(name) + "/offer", r.Dataset)

    def dataset_summary(self, name: str, revision: str = "main") -> r.DatasetSummary:
        return self._call("GET", _dataset(name) + "/summary", r.DatasetSummary, params={"revision": revision})

    def dataset_images(self, name: str, revision: str = "main") -> Iterator[r.DatasetImage]:
        """All images of a revision, page by page."""
        for page in self._pages(_dataset(name) + "/images", list[r.DatasetImage], {"revision": revision}):
            yield from page

    # Uploads

    def start_upload(
        self, name: str, files: Sequence[r.ManifestFile], message: str, *, private: bool = True
    ) -> r.Upload:
        body = r.UploadIn(files=list(files), message=message, private=private)
        return self._call("POST", _dataset(name) + "/uploads", r.Upload, body)

    def upload(self, upload_id: str) -> r.Upload:
        return self._call("GET", f"/uploads/{upload_id}", r.Upload)

    def put_file(self, upload_id: str, sha256: str, data: bytes, *, offset: int, total: int) -> r.PartReceived:
        """Send a whole file, or the part of one that begins at `offset`."""
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) < total:
            headers["Content-Range"] = f"bytes {offset}-{offset + len(data) - 1}/{total}"
        response = self._send("PUT", f"/uploads/{upload_id}/files/{sha256}", content=data, headers=headers)
        return msgspec.json.decode(response.content, type=r.PartReceived)

    def commit_upload(self, upload_id: str) -> s.Commit:
        return self._call("POST", f"/uploads/{upload_id}/commit", s.Commit)

    def abort_upload(self, upload_id: str) -> None:
        self._send("DELETE", f"/uploads/{upload_id}")

    # Teams

    def me(self) -> s.Me:
        return self._call("GET", "/me", s.Me)

    def teams(self) -> list[r.Team]:
        return [team for page in self._pages("/teams", list[r.Team]) for team in page]

    def team(self, name: str) -> r.Team:
        return self._call("GET", _team(name), r.Team)

    def put_team(self, name: str, fullname: str) -> r.Team:
        return self._call("PUT", _team(name), r.Team, {"fullname": fullname})

    def delete_team(self, name: str) -> None:
        self._send("DELETE", _team(name))

    def set_member(self, team: str, user: str, *, member: bool) -> r.Team:
        route = f"{_team(team)}/members/{quote(user, safe='')}"
        return self._call("PUT" if member else "DELETE", route, r.Team)

    def quota(self, team: str) -> r.Quota:
        return self._call("GET", _team(team) + "/quota", r.Quota)

    def set_quota(self, team: str, wanted: r.QuotaIn) -> r.Quota:
        return self._call("PUT", _team(team) + "/quota", r.Quota, wanted)

    def users(self) -> list[s.User]:
        return [user for page in self._pages("/users", list[s.User]) for user in page]

    # Logs

    def add_log(self, job_id: str, piece: r.LogIn) -> int:
        return self._call("POST", f"/jobs/{job_id}/log", r.LogSize, piece).size

    def log(self, job_id: str, *, offset: int = 0) -> r.LogPart:
        return self._call("GET", f"/jobs/{job_id}/log", r.LogPart, params={"offset": str(offset)})

    def log_tail(self, job_id: str, lines: int) -> r.LogPart:
        return self._call("GET", f"/jobs/{job_id}/log", r.LogPart, params={"tail": str(lines)})

    # Evaluations and the audit log

    def evaluations(self, *, limit: int | None = None, **wanted: str) -> list[r.Evaluation]:
        pages = self._pages("/evaluations", list[r.Evaluation], wanted, limit=limit)
        return [one for page in pages for one in page]

    def audit(self, *, limit: int | None = None, **wanted: str) -> list[r.AuditEntry]:
        """Newest first; `wanted`: `who`, `action`."""
        return [one for page in self._pages("/audit", list[r.AuditEntry], wanted, limit=limit) for one in page]

    def check_audit(self) -> r.AuditCheck:
        return self._call("GET", "/audit/check", r.AuditCheck)


def _dataset(name: str) -> str:
    namespace, short = split_name(name)
    return f"/datasets/{quote(namespace, safe='')}/{quote(short, safe='')}"


def _team(name: str) -> str:
    return f"/teams/{quote(name, safe='')}"
