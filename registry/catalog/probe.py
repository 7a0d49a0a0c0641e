"""Reads all of a catalog file in a process of its own: a damaged file may bring the process down that opens it.

    python -I catalog_probe.py FILE [--open-only]

Gives nothing and ends with 0 for a sound file; else one line that says what is wrong, and 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb

_LINES = 300


def probe(path: Path, *, whole: bool) -> str | None:
    """What is wrong with the file, or None. `whole`: every block is read, and so its checksum compared."""
    # As a file, not as a part of its package: that would import all of the registry first.
    command = [sys.executable, "-I", str(Path(__file__)), str(path), *([] if whole else ["--open-only"])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return None
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    if done.returncode < 0 or not said:
        return f"reading it ended the process that did ({done.returncode})"
    return said[-1][:_LINES]


def read(path: Path, *, whole: bool) -> None:
    """Open the file without changing it, and read every value. Raises what DuckDB raises."""
    with duckdb.connect(str(path), read_only=True, config={"memory_limit": "2GB"}) as connection:
        tables = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        for schema, table in tables if whole else ():
            connection.execute(f'SELECT count(*), bit_xor(hash(t)) FROM "{schema}"."{table}" t').fetchall()  # noqa: S608


def main() -> int:
    """0 for a file that can be read; else 1, with the reason in a line on stdout."""
    try:
        read(Path(sys.argv[1]), whole="--open-only" not in sys.argv)
    except duckdb.Error as error:
        sys.stdout.write(str(error).partition("\n")[0] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
