"""Looking after a registry: examination, collection, backup. The same calls serve a running hub and a stopped one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from hub.clock import Elapsed
from hub.error_table import plain, problem_of
from hub.errors import InputError, MaintenanceBusyError
from hub.settings import Settings
from registry.backup.backup import BackupDone, make_backup
from registry.maintenance.fsck_report import Progress, Report, silent
from registry.registry import Registry

_SECONDS_BETWEEN: Final = 0.25


class ReportView(msgspec.Struct, frozen=True):
    """What an examination found; `counts` has how many findings there are of each kind, `checked` what was seen."""

    damaged: bool
    quick: bool
    findings: list[dict[str, str]]
    counts: dict[str, int]
    checked: dict[str, int]

    @classmethod
    def of(cls, report: Report) -> Self:
        """The same of the registry's report."""
        rows = [
            {"severity": one.severity, "kind": one.kind, "name": one.name, "detail": one.detail}
            for one in report.findings
        ]
        return cls(report.damaged, report.quick, rows, report.counts, report.checked)


class CollectedView(msgspec.Struct, frozen=True):
    """What a collection removed, or would; sizes are bytes."""

    dry_run: bool
    looked_at: int
    blobs: int
    bytes: int
    xet_files: int
    xet_xorbs: int
    xet_bytes: int
    commits: int = 0
    trees: int = 0


class BackupView(msgspec.Struct, frozen=True):
    """What a backup did; sizes are bytes. `damaged` names what was lost or wrong in the hub, and is not in it."""

    name: str
    blobs: int
    bytes: int
    copied_blobs: int
    copied_bytes: int
    catalog_bytes: int
    damaged: list[str]
    waited_seconds: float
    seconds: float

    @classmethod
    def of(cls, done: BackupDone) -> Self:
        """The same of what the registry's backup answered."""
        return cls(
            done.name,
            done.blobs,
            done.bytes,
            done.copied_blobs,
            done.copied_bytes,
            done.catalog_bytes,
            list(done.damaged),
            done.waited_seconds,
            done.seconds,
        )


class Maintenance:
    """What an operator asks for, one at a time."""

    def __init__(self, registry: Registry, root: Path, *, blob_grace: timedelta, xet_grace: timedelta) -> None:
        self.registry = registry
        self.elapsed = Elapsed(root / "clock.json")
        self.root = root
        self._blob_grace = blob_grace
        self._xet_grace = xet_grace
        self._busy = threading.Lock()

    @classmethod
    def of(cls, registry: Registry, settings: Settings) -> Self:
        """Over an open registry."""
        blobs, xet = timedelta(days=settings.blob_grace_days), timedelta(days=settings.xet_grace_days)
        return cls(registry, settings.data, blob_grace=blobs, xet_grace=xet)

    def fsck(self, *, quick: bool, progress: Progress = silent) -> ReportView:
        """Raises BlobStoreError."""
        return ReportView.of(self.registry.examine(quick=quick, progress=progress))

    def collect(self, *, dry_run: bool = False, progress: Progress = silent) -> CollectedView:
        """Raises BlobStoreError, CatalogError; what is left over then, the next one removes."""
        self.elapsed.look()
        graces = (self._longer(self._blob_grace), self._longer(self._xet_grace))
        blobs, xet, rows = self.registry.collect(*graces, dry_run=dry_run, progress=progress)
        return CollectedView(
            dry_run,
            blobs.looked_at,
            blobs.blobs,
            blobs.bytes,
            xet.files,
            xet.xorbs,
            xet.bytes,
            rows.commits,
            rows.trees,
        )

    def _longer(self, grace: timedelta) -> timedelta:
        """A grace after which things are as old as it says, whatever the clock did meanwhile."""
        return grace + timedelta(seconds=self.elapsed.leapt(grace.total_seconds()))

    def backup(self, out: str, *, reread: bool = False, progress: Progress = silent) -> BackupView:
        """Back up to a folder of this machine, or to a URL. Raises InputError, BackupError, BlobStoreError."""
        return BackupView.of(
            make_backup(self.registry, self.root, check_target(out, self.root), reread=reread, progress=progress)
        )

    def streamed(self, work: Callable[[Progress], object]) -> Iterator[bytes]:
        """Do the work in a thread of its own and tell how it goes, a line of JSON each.

        `{"at": [what, done, total]}` now and then, at last `{"result": …}` or `{"error": {"code", "detail"}}`. Raises
        MaintenanceBusyError at once.
        """
        if not self._busy.acquire(blocking=False):
            raise MaintenanceBusyError("an examination, a collection or a backup is running; wait for its end")
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(work, lines), name="maintenance", daemon=True).start()
        return iter(lines.get, None)

    def _work(self, work: Callable[[Progress], object], lines: queue.SimpleQueue[bytes | None]) -> None:
        last = 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal last
            if (now := time.monotonic()) - last >= _SECONDS_BETWEEN:
                last = now
                lines.put(_line({"at": [what, done, total]}))

        try:
            lines.put(_line({"result": work(tell)}))
        except Exception as error:  # told to who asked, in the words of the one table of errors
            problem = problem_of(error)
            lines.put(_line({"error": {"code": problem.slug, "detail": str(plain(error)) or type(error).__name__}}))
        finally:
            self._busy.release()
            lines.put(None)


def check_target(out: str, data: Path) -> str:
    """Where a backup goes: an absolute path outside the data folder, or a URL. Raises InputError."""
    if "://" in out:
        if not out.startswith(("s3://", "gs://", "az://")):
            raise InputError(f"{out!r}: a folder or a URL that begins with s3://, gs:// or az:// is wanted")
        return out
    path = Path(out)
    if not path.is_absolute():
        raise InputError(f"{out!r}: the path must be absolute; it is a folder on the hub's machine")
    if path.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{out!r} lies in the hub's own data folder, and would be lost with it")
    return out


def _line(value: Any) -> bytes:  # noqa: ANN401  # whatever JSON can say
    return msgspec.json.encode(value) + b"\n"
