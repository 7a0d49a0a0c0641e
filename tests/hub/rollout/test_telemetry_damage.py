"""Telemetry files that are damaged: set aside, named and counted; every other row is answered and taken."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hub.maintenance.telemetry_files import DAMAGED, set_aside
from hub.rollout.telemetry import Telemetry
from registry import durable
from serving.observed.telemetry import INCOMING, OUTCOMES, write_segment

NOW = time.time()


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"r{number}", "outcome": "success", "picked_at": NOW, "label": None, "cell": "dock-7",
        "line": None, "robot": "arm", "served_by": "dock-7@v1 on base/u@v1", **more,
    }  # fmt: skip


def picks(telemetry: Telemetry) -> int:
    groups, _ = telemetry.rates(["cell"])
    return sum(group.picks for group in groups)


def days(folder: Path) -> list[Path]:
    return sorted((folder / OUTCOMES).glob("*/*.parquet"))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4)
    path.write_bytes(data)


def other_columns(path: Path) -> None:
    import duckdb

    duckdb.sql(f"COPY (SELECT 1 AS nothing_of_ours) TO '{path}' (FORMAT parquet)")


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


@pytest.mark.parametrize(
    "damage",
    [lambda path: os.truncate(path, 0), cut_short, garbage_inside, other_columns, folder_in_its_place],
    ids=["zero bytes", "cut short", "garbage inside", "other columns", "a folder"],
)
def test_a_damaged_parquet_file_is_set_aside_and_the_rest_goes_on(tmp_path, caplog, damage):
    telemetry = Telemetry(tmp_path)
    telemetry.add_outcomes([row(1)], reporter="t")
    assert picks(telemetry) == 1
    telemetry.add_outcomes([row(2), row(3)], reporter="t")
    assert picks(telemetry) == 3
    first, second = sorted(days(tmp_path), key=lambda path: path.stat().st_mtime_ns)
    damage(first)
    with caplog.at_level(logging.ERROR):
        assert picks(telemetry) == 2
    assert telemetry.add_outcomes([row(4)], reporter="t") == (1, 0)
    assert picks(telemetry) == 3
    assert second in days(tmp_path)
    assert first not in days(tmp_path)
    assert any(first.name in name for name in telemetry.damaged)
    assert first.name in caplog.text
    assert (tmp_path / DAMAGED / first.relative_to(tmp_path)).exists()


def test_writing_goes_on_when_the_damage_is_met_by_a_write(tmp_path):
    telemetry = Telemetry(tmp_path)
    telemetry.add_outcomes([row(1)], reporter="t")
    picks(telemetry)
    os.truncate(days(tmp_path)[0], 0)
    assert telemetry.add_outcomes([row(2)], reporter="t") == (1, 0), "a write reads no file"
    telemetry.close()
    telemetry = Telemetry(tmp_path)  # the first write after a start does
    assert telemetry.add_outcomes([row(3)], reporter="t") == (1, 0)
    assert len(set_aside(tmp_path)) == 1


def test_of_a_damaged_segment_the_whole_lines_are_kept(tmp_path):
    telemetry = Telemetry(tmp_path)
    segment = write_segment(
        tmp_path / INCOMING, OUTCOMES, [{**row(n), "received_at": NOW, "reporter": "t"} for n in (1, 2)]
    )
    # A line longer than what DuckDB reads, as garbage of a torn disk block may be.
    segment.write_bytes(b'{"request_id": "' + b"x" * (40 << 20) + b"\n" + segment.read_bytes())
    telemetry.add_outcomes([row(3)], reporter="t")
    assert picks(telemetry) == 3
    assert len(telemetry.damaged) == 1


def test_a_zero_byte_segment_is_no_trouble(tmp_path):
    telemetry = Telemetry(tmp_path)
    (tmp_path / INCOMING).mkdir(parents=True)
    (tmp_path / INCOMING / f"{OUTCOMES}-0-1-0.jsonl").write_bytes(b"")
    telemetry.add_outcomes([row(1)], reporter="t")
    assert picks(telemetry) == 1


def test_merging_a_day_meets_a_damaged_file(tmp_path):
    telemetry = Telemetry(tmp_path)
    for number in range(22):
        telemetry.add_outcomes([row(number)], reporter="t")
        picks(telemetry)
    os.truncate(days(tmp_path)[3], 0)
    for number in range(22, 30):
        telemetry.add_outcomes([row(number)], reporter="t")
    assert picks(telemetry) == 29
    assert len(telemetry.damaged) == 1


def test_bytes_and_names_are_synced_before_a_file_is_acknowledged(tmp_path, monkeypatch):
    """What fsync was called for, in its order: the bytes under a draft's name, then the folder with the new name."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(f"{path.name}/" if path.is_dir() else path.name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    telemetry = Telemetry(tmp_path)
    telemetry.add_outcomes([row(1)], reporter="t")
    assert synced[-2].startswith(f".{OUTCOMES}-")
    assert synced[-1] == f"{INCOMING}/"
    synced.clear()
    assert picks(telemetry) == 1
    parquet = next(at for at, name in enumerate(synced) if name.endswith(".part"))
    day = f"{days(tmp_path)[0].parent.name}/"
    assert synced[parquet + 1] == day
    assert f"{OUTCOMES}/" in synced, "the day's folder has a name, too"


def test_an_append_that_fails_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "log"
    durable.append(path, b"first")

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        durable.append(path, b"second")
    assert path.read_bytes() == b"first"
    with pytest.raises(OSError, match="No space"):
        durable.write_file(path, b"third")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == ["log"]


def test_files_of_earlier_versions_are_no_damage(tmp_path: Path) -> None:
    """They lack the newest columns; a damaged file beside them must not take them along."""
    import duckdb

    telemetry = Telemetry(tmp_path)
    telemetry.add_outcomes([row(1)], reporter="r")
    assert picks(telemetry) == 1
    (today,) = days(tmp_path)
    old = today.parent.with_name("2026-01-02") / "old.parquet"
    old.parent.mkdir()
    columns = "* EXCLUDE (speaker) REPLACE ('r2' AS request_id)"
    duckdb.sql(f"COPY (SELECT {columns} FROM '{today}') TO '{old}' (FORMAT parquet)")  # noqa: S608
    (today.parent / "torn.parquet").write_bytes(b"")
    other_columns(today.parent / "strange.parquet")
    assert picks(telemetry) == 2
    assert set_aside(tmp_path) == [f"{OUTCOMES}/{today.parent.name}/{name}.parquet" for name in ("strange", "torn")]
    telemetry.close()
    again = Telemetry(tmp_path)
    assert picks(again) == 2
    again.close()


def test_lines_of_the_wrong_shape_are_no_votes_and_stop_nothing(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    incoming = tmp_path / INCOMING
    incoming.mkdir(parents=True)
    lines = [
        b"[1, 2]", b'{"request_id": 7}', b'{"request_id": "a"}', b'{"request_id": "b", "received_at": "soon"}',
        b'{"request_id": "c", "received_at": NaN, "outcome": "drop"}', b"\xff\xfe", b"[" * 100_000,
    ]  # fmt: skip
    (incoming / f"{OUTCOMES}-1-1-1.jsonl").write_bytes(b"\n".join(lines))
    (incoming / "predictions-1-1-1.jsonl").write_bytes(b'{"request_id": "d", "at": null}\n{"request_id": "e"}\n')
    telemetry.look(wait=True)
    assert telemetry.add_outcomes([row(1)], reporter="r") == (1, 0)
    assert telemetry.request("d") is None
    assert picks(telemetry) >= 1
    telemetry.close()


def test_a_clock_that_ran_ahead_ends_nothing_that_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention believes a day only when later ones have records; after the clock is put back all is as before."""
    import hub.rollout.telemetry_parquet as files

    telemetry = Telemetry(tmp_path, keep_days=30)
    telemetry.add_outcomes([row(1)], reporter="r")
    assert picks(telemetry) == 1
    telemetry.close()

    class Ahead(files.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + files.timedelta(days=400)

    monkeypatch.setattr(files, "datetime", Ahead)
    telemetry = Telemetry(tmp_path, keep_days=30)
    assert picks(telemetry) == 1
    telemetry.close()
