"""Checking a shard against what is stored: that its xorbs are there, and that its sender knows its files' bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.catalog.catalog import Catalog
from registry.errors import UnknownXorbError, XetFormatError, XetProofError
from registry.types import Digest
from registry.xet import hashes, rows
from registry.xet.hashes import XetHash
from registry.xet.plan import Run, StoredXorb
from registry.xet.shards import Shard, ShardFile
from registry.xet.xorbs import ChunkTable


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file of a shard whose terms, proofs and hash hold."""

    file: ShardFile
    runs: tuple[Run, ...]

    @property
    def xorbs(self) -> Iterator[StoredXorb]:
        """The xorb of each run, in the file's order; one that is used again comes again."""
        return (run.xorb for run in self.runs)

    def check_sha256(self, sha256: Digest) -> None:
        """Raises XetFormatError if the shard says otherwise."""
        if self.file.sha256 not in (None, sha256):
            raise XetFormatError("file", f"{self.file.hash[:16]} has the sha256 {sha256}, not {self.file.sha256}")


class Registration:
    """The checks of one shard."""

    def __init__(self, catalog: Catalog, table_of: Callable[[StoredXorb], ChunkTable]) -> None:
        self._catalog = catalog
        self._table_of = table_of

    def check(self, shard: Shard) -> tuple[CheckedFile, ...]:
        """Every hash but the sha256s. Raises UnknownXorbError, XetFormatError, XetProofError."""
        names = {file.hash: [hashes.to_text(raw.tobytes()) for raw in file.xorbs] for file in shard.files}
        wanted = dict.fromkeys(name for of_file in names.values() for name in of_file)
        wanted |= dict.fromkeys(xorb.hash for xorb in shard.xorbs)
        # Their grace period begins anew, so that none can go while the files are read.
        with self._catalog.write() as tx:
            rows.touch_or_refuse(tx, list(wanted))
        stored = rows.xorbs_of_hashes(self._catalog, list(wanted)) if wanted else {}
        if missing := tuple(name for name in wanted if name not in stored):
            raise UnknownXorbError(missing)
        for xorb in shard.xorbs:
            table = self._table_of(stored[xorb.hash])
            if not (np.array_equal(table.hashes, xorb.chunks) and np.array_equal(table.lengths, xorb.lengths)):
                raise XetFormatError("xorb", f"{xorb.hash[:16]} holds other chunks than the shard says")
        return tuple(self._check_file(file, [stored[name] for name in names[file.hash]]) for file in shard.files)

    def _check_file(self, file: ShardFile, xorbs: list[StoredXorb]) -> CheckedFile:
        runs = tuple(
            Run(xorb, start, end, length)
            for xorb, start, end, length in zip(
                xorbs, file.starts.tolist(), file.ends.tolist(), file.lengths.tolist(), strict=True
            )
        )
        if file.proofs is None:
            raise XetProofError(file.hash, "it has no range hashes")
        parts, lengths = [], []
        for run, proof in zip(runs, file.proofs, strict=True):
            table = self._table_of(run.xorb)
            if run.end > len(table):
                raise XetFormatError("term", f"names chunk {run.end - 1} of a xorb of {len(table)}")
            part = table.hashes[run.start : run.end]
            of_part = table.lengths[run.start : run.end]
            if hashes.range_hash(part.tobytes()) != proof.tobytes():
                raise XetProofError(file.hash, "a range hash is wrong")
            if int(of_part.sum(dtype=np.uint64)) != run.length:
                raise XetFormatError("term", f"has not the {run.length} bytes that the shard says")
            parts.append(part)
            lengths.append(of_part)
        if file_hash(parts, lengths) != file.hash:
            raise XetFormatError("file", f"{file.hash[:16]} is not what its terms hash to")
        return CheckedFile(file, runs)


def file_hash(parts: list[hashes.Hashes], lengths: list[NDArray[np.uint32]]) -> XetHash:
    """The hash of the file whose chunks are these, run by run."""
    if not parts:
        return hashes.to_text(hashes.ZERO)
    return hashes.to_text(hashes.file_hash(np.concatenate(parts), np.concatenate(lengths)))
