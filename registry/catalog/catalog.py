"""The catalog: one DuckDB file, one owning process, one writer at a time, many readers."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import duckdb

from registry.catalog import indexes
from registry.catalog.cursor import Cursor as Cursor
from registry.catalog.migrations import REGISTRY, MigrationSet
from registry.catalog.remembered import Answer, current, key_of
from registry.errors import CatalogBrokenError, CatalogError, CatalogLockedError, CatalogTooNewError

log = logging.getLogger(__name__)

_SETTINGS: dict[str, str | bool] = {
    # The machine is shared with training and Triton; DuckDB's own default is 80 % of its memory.
    "memory_limit": "2GB",
    # Nothing is downloaded behind the operator's back.
    "autoinstall_known_extensions": False,
}

_GROUP = 64  # so that a group's first one does not wait long for its last
R = TypeVar("R")

# DuckDB lets one process open a file twice, and two write locks would then guard one file.
_open_here: set[Path] = set()
_open_here_lock = threading.Lock()


def to_db(moment: datetime) -> datetime:
    """An aware time as the catalog keeps it: naive, UTC, microseconds."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def from_db(moment: datetime) -> datetime:
    """A time of the catalog as floors pass it: aware UTC."""
    return moment.replace(tzinfo=UTC)


class _Job(Generic[R]):
    """Somebody's part of a shared transaction."""

    __slots__ = ("_result", "done", "error", "woken", "work")

    def __init__(self, work: Callable[[Cursor], R]) -> None:
        self.work = work
        self.done = False
        self.woken = threading.Event()
        self.error: BaseException | None = None

    def succeed(self, result: R) -> None:
        self._result, self.done = result, True

    def fail(self, error: BaseException) -> None:
        self.error, self.done = error, True

    def result(self) -> R:
        if self.error is not None:
            raise self.error
        return self._result


class Catalog:
    """The owner of the catalog file. Use from any number of threads.

    An acknowledged write survives the death of the process and of the machine: DuckDB calls fdatasync on its
    write-ahead log before COMMIT returns, and replays the log when the file is next opened.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        # DuckDB refuses two calls at once on one connection, were it only to make cursors.
        self._making = threading.Lock()
        self._writer: int | None = None
        self._queue: deque[_Job[Any]] = deque()
        self._queueing = threading.Lock()
        self._led = False
        self.on_broken: Callable[[CatalogBrokenError], None] = lambda _: None
        """Called once, by whatever thread meets it, when DuckDB gives up: who owns the process should end it."""
        self.check_room: Callable[[], None] = lambda: None
        """Raises DiskFullError if rows may not be written now: DuckDB gives up on a file whose log finds no room."""
        self._broken = threading.Lock()  # taken for good by the first who meets it
        self.transactions = 0
        """Write transactions that were committed by this process, each with one fdatasync if it changed anything."""

    @classmethod
    def open(cls, path: Path, migrations: Sequence[MigrationSet] = (REGISTRY,)) -> Self:
        """Open or create the file at `path` and apply the steps that it lacks, set by set, in the given order.

        Raises CatalogLockedError if it is open elsewhere, CatalogTooNewError if newer code wrote it, and
        CatalogError if it is no catalog or a step fails (the steps before that one stay applied).
        """
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_here_lock:
            if path in _open_here:
                raise CatalogLockedError(path, "by this process")
            try:
                connection = duckdb.connect(str(path), config=dict(_SETTINGS))
            except duckdb.IOException as error:
                if "lock on file" in str(error):
                    raise CatalogLockedError(path, _holder(str(error))) from error
                raise CatalogError(f"{path}: {error}") from error
            except duckdb.Error as error:
                raise CatalogError(f"{path}: {error}") from error
            _open_here.add(path)
        catalog = cls(path, connection)
        try:
            catalog._look_at_indexes()
            catalog._migrate(migrations)
            catalog._mend_indexes()
        except BaseException:
            catalog.close()
            raise
        return catalog

    def close(self) -> None:
        """Wait for the running write, fold the log into the file and give the file free. Twice is fine."""
        with self._lock, _open_here_lock, self._making:
            if self.path in _open_here:
                self._connection.close()
                _open_here.remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def write(self) -> Iterator[Cursor]:
        """A write transaction: committed at the end of the block, rolled back if the block raises.

        Writers wait for one another, so keep the block short; what many clients do at once is for `run`. Raises
        CatalogError if a statement or the commit fails, and for a write inside a write, which could only be half
        rolled back.
        """
        self.check_room()
        with self._lock, self._as_writer(), self._transaction() as cursor:
            yield cursor
        self.transactions += 1

    def run(self, work: Callable[[Cursor], R]) -> R:
        """Do `work` in a write transaction that it may share with others who come at the same time; gives its result.

        Group commit: whoever finds nobody writing begins at once; those who come while a transaction is on its way to
        the disk share the next one, and its fdatasync. Durable when it returns. `work` changes nothing but the
        catalog, looks at it through its cursor alone (others' changes before it are not committed yet), and may be
        called again: if one of a group raises, each is done by itself, and the error goes to its owner alone.
        Raises what `work` raises, and CatalogError.
        """
        if self._writer == threading.get_ident():
            raise CatalogError("a write transaction is already open in this thread")
        self.check_room()
        job = _Job(work)
        with self._queueing:
            self._queue.append(job)
            leads, self._led = not self._led, True
        if not leads:
            job.woken.wait()
        if not job.done:
            self._lead(job)
        return job.result()

    def _lead(self, own: _Job[Any]) -> None:
        """Do what is queued, `own` among it, and hand over to the oldest of those who came meanwhile."""
        group: list[_Job[Any]] = []
        try:
            with self._lock, self._as_writer():
                with self._queueing:
                    group = [self._queue.popleft() for _ in range(min(_GROUP, len(self._queue)))]
                self._together(group)
        finally:
            with self._queueing:
                if not own.done and own in self._queue:  # interrupted while it waited
                    self._queue.remove(own)
                following = self._queue[0] if self._queue else None
                self._led = following is not None
            for job in (*([following] if following else ()), *group):
                job.woken.set()

    def _together(self, group: Sequence[_Job[Any]]) -> None:
        worked = False
        try:
            with self._transaction() as cursor:
                results = [job.work(cursor) for job in group]
                worked = True
        except BaseException as error:  # it goes to its owner
            if worked or len(group) == 1:  # of a failed commit nothing is there, for any of them
                for job in group:
                    job.fail(error)
            else:
                for job in group:
                    self._together([job])
            return
        self.transactions += 1
        for job, result in zip(group, results, strict=True):
            job.succeed(result)

    @contextlib.contextmanager
    def _as_writer(self) -> Iterator[None]:
        """Under the lock, which lets this thread in twice."""
        if self._writer is not None:
            raise CatalogError("a write transaction is already open in this thread")
        self._writer = threading.get_ident()
        try:
            yield
        finally:
            self._writer = None

    @contextlib.contextmanager
    def read(self) -> Iterator[Cursor]:
        """Several statements that all see the same state. Never waits for writers. Raises CatalogError."""
        with self._transaction() as cursor:
            yield cursor

    def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of one reading statement, as last committed; inside of `remembering`, a statement that was answered
        since the last commit is not run again. Raises CatalogError."""
        known, commits = current(), self.transactions  # counted first: a commit while it is read makes it old
        key = None if known is None else key_of(sql, params)
        if known is not None and key is not None and (found := known.find(id(self), commits, key)) is not None:
            return found
        with self._raw_cursor() as raw:
            rows = Cursor(raw).execute(sql, params).fetchall()
        if known is not None and key is not None:
            known.keep(id(self), commits, key, rows)
        return rows

    def execute(self, sql: str, params: Sequence[object] = ()) -> Answer:
        """As `query`, for what may also be asked inside a transaction. Raises CatalogError."""
        return Answer(self.query(sql, params))

    def snapshot(self, target: Path) -> Path:
        """Copy the catalog as last committed to `target`, which must not exist; gives `target`.

        Writers wait while it is copied, readers do not. The copy opens like a catalog whose process was killed at
        that moment: beside it, under the same name and `.wal`, there may be its log. Raises CatalogError.
        """
        with self._lock:
            # With readers about, the log may have to stay.
            with contextlib.suppress(CatalogError), self._raw_cursor() as raw:
                Cursor(raw).execute("CHECKPOINT")
            for source, copy in ((self.path, target), (wal_of(self.path), wal_of(target))):
                if source.exists():
                    _copy(source, copy)
        return target

    def versions(self) -> dict[str, int]:
        """The number of the last applied step of each migration set."""
        return dict(self.query("SELECT set_name, max(number) FROM migrations GROUP BY set_name"))

    @contextlib.contextmanager
    def _raw_cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._making:
                raw = self._connection.cursor()
        except duckdb.Error as error:
            raise CatalogError(f"{self.path}: {error}") from error
        try:
            yield raw
        except CatalogBrokenError as error:
            self._break(error)
            raise
        finally:
            raw.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self._raw_cursor() as raw:
            cursor = Cursor(raw)
            cursor.execute("BEGIN")
            try:
                yield cursor
            except BaseException:
                # The first error is the one to show; DuckDB may already have ended the transaction.
                with contextlib.suppress(CatalogError):
                    cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    def rebuild_indexes(self) -> list[str]:
        """Make all secondary indexes anew; gives their names. Raises CatalogError."""
        with self.write() as tx:
            return indexes.rebuild(tx)

    def _break(self, error: CatalogBrokenError) -> None:
        if self._broken.acquire(blocking=False):
            # The next one who opens the file makes all indexes anew: of what is known to bring DuckDB down, that helps.
            with contextlib.suppress(OSError):
                _broken_mark(self.path).write_text(error.reason, encoding="utf-8")
            self.on_broken(error)

    def _look_at_indexes(self) -> None:
        with self.write() as tx:
            indexes.bind(tx)

    def _mend_indexes(self) -> None:
        """Once in the life of a catalog, for versions before this one may have left it indexes with rows missing; and
        after a process that DuckDB gave up in."""
        if "indexes" not in self.versions():
            with self.write() as tx:
                indexes.rebuild(tx)
                tx.execute("INSERT INTO migrations VALUES ('indexes', 1, ?)", [to_db(datetime.now(UTC))])
        elif _broken_mark(self.path).exists():
            log.warning("the catalog broke in the process before; its indexes are made anew")
            self.rebuild_indexes()
        _broken_mark(self.path).unlink(missing_ok=True)

    def _migrate(self, sets: Sequence[MigrationSet]) -> None:
        with self.write() as tx:
            tx.execute(
                "CREATE TABLE IF NOT EXISTS migrations (set_name VARCHAR NOT NULL, number INTEGER NOT NULL, "
                "applied_at TIMESTAMP NOT NULL, PRIMARY KEY (set_name, number))"
            )
        found = self.versions()
        # All are checked before any is applied: a file that is refused is left as it was.
        for each in sets:
            if found.get(each.name, 0) > len(each.steps):
                raise CatalogTooNewError(self.path, each.name, found[each.name], len(each.steps))
        for each in sets:
            for number in range(found.get(each.name, 0) + 1, len(each.steps) + 1):
                with self.write() as tx:
                    tx.execute(each.steps[number - 1])
                    now = to_db(datetime.now(UTC))
                    tx.execute("INSERT INTO migrations VALUES (?, ?, ?)", [each.name, number, now])


def _broken_mark(path: Path) -> Path:
    """The file that says that DuckDB gave up on a catalog."""
    return path.with_name(path.name + ".broken")


def wal_of(path: Path) -> Path:
    """The write-ahead log that belongs to a catalog file."""
    return path.with_name(path.name + ".wal")


def _copy(source: Path, target: Path) -> None:
    # By another process: if this one opened and closed the file, DuckDB's lock on it would be gone (POSIX).
    command = [sys.executable, "-c", "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"]
    done = subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CatalogError(f"cannot copy {source}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _holder(message: str) -> str:
    """The part of DuckDB's message that names the process, if there is one."""
    _, found, rest = message.partition("held in ")
    return "by " + rest.split(".  ")[0].split(". See")[0].strip() if found else "by another process"
