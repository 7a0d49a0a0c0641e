"""The client's side of datasets and uploads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import msgspec

from hub.client.calls import Calls, split_name
from hub.schemas import core as s
from hub.schemas import resources as r


class DatasetCalls(Calls):
    """These calls, as part of `HubClient`."""

    def datasets(self, *, limit: int | None = None, **wanted: str) -> list[r.Dataset]:
        """By name; `wanted`: `team`, `q` (part of the name), `offered` ("true")."""
        return [one for page in self._pages("/datasets", list[r.Dataset], wanted, limit=limit) for one in page]

    def dataset(self, name: str) -> r.Dataset:
        """One dataset."""
        return self._call("GET", _dataset(name), r.Dataset)

    def change_dataset(self, name: str, *, private: bool) -> r.Dataset:
        """Make a dataset private or public."""
        return self._call("PATCH", _dataset(name), r.Dataset, {"private": private})

    def delete_dataset(self, name: str) -> None:
        """Remove a dataset."""
        self._send("DELETE", _dataset(name))

    def offer_dataset(self, name: str, *, offered: bool, note: str = "", revision: str = "main") -> r.Dataset:
        """Offer a revision to the base, or take the offer back."""
        if offered:
            asked = {"note": note, "revision": revision}
            return self._call("PUT", _dataset(name) + "/offer", r.Dataset, asked)
        return self._call("DELETE", _dataset(name) + "/offer", r.Dataset)

    def dataset_summary(self, name: str, revision: str = "main") -> r.DatasetSummary:
        """What a revision holds: images, instances, classes, splits."""
        return self._call("GET", _dataset(name) + "/summary", r.DatasetSummary, params={"revision": revision})

    def dataset_images(self, name: str, revision: str = "main") -> Iterator[r.DatasetImage]:
        """All images of a revision, page by page."""
        for page in self._pages(_dataset(name) + "/images", list[r.DatasetImage], {"revision": revision}):
            yield from page

    def start_upload(
        self, name: str, files: Sequence[r.ManifestFile], message: str, *, private: bool = True
    ) -> r.Upload:
        """Announce files; the answer says which contents the hub misses."""
        body = r.UploadIn(files=list(files), message=message, private=private)
        return self._call("POST", _dataset(name) + "/uploads", r.Upload, body)

    def upload(self, upload_id: str) -> r.Upload:
        """The state of an upload."""
        return self._call("GET", f"/uploads/{upload_id}", r.Upload)

    def put_file(self, upload_id: str, sha256: str, data: bytes, *, offset: int, total: int) -> r.PartReceived:
        """Send a whole file, or the part of one that begins at `offset`."""
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) < total:
            headers["Content-Range"] = f"bytes {offset}-{offset + len(data) - 1}/{total}"
        response = self._send("PUT", f"/uploads/{upload_id}/files/{sha256}", content=data, headers=headers)
        return msgspec.json.decode(response.content, type=r.PartReceived)

    def commit_upload(self, upload_id: str) -> s.Commit:
        """Make `main` hold exactly the announced files."""
        return self._call("POST", f"/uploads/{upload_id}/commit", s.Commit)

    def abort_upload(self, upload_id: str) -> None:
        """Forget an upload."""
        self._send("DELETE", f"/uploads/{upload_id}")


def _dataset(name: str) -> str:
    namespace, short = split_name(name)
    return f"/datasets/{quote(namespace, safe='')}/{quote(short, safe='')}"
