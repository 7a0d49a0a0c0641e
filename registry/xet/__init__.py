"""A content-addressed store of chunks, as the Xet protocol has it. Knows no HTTP.

Files are cut into chunks by what they hold; chunks travel in *xorbs* (up to 64 MiB of them), and a *shard* says which
runs of chunks make up which file. So two files, or two versions of one, share what they have in common. `XetStore`
keeps all of it; `hashes`, `xorbs` and `shards` are the formats.

What clients remember: the stock client (hf-xet 1.8) keeps every shard that was accepted for three weeks, and sends no
chunk again that one of them has. If the xorb behind it is gone, no answer to the new shard makes that client send the
chunk after all: 4xx ends the upload, 5xx repeats the same shard. But the memory is kept in a folder per *address* of
the store, and the address is asked for before each upload. So it holds an epoch (`XetStore.epoch`): a collection that
removes a xorb begins a new one for all, a shard built on a missing xorb a new one for its sender. With a grace of
four weeks a client has forgotten a xorb before it goes.
"""

from registry.xet.hashes import XetHash
from registry.xet.plan import Fetch, Reconstruction, Term
from registry.xet.rows import XetFile
from registry.xet.store import Collected, XetStore
from registry.xet.tables import XET

__all__ = [
    "XET",
    "Collected",
    "Fetch",
    "Reconstruction",
    "Term",
    "XetFile",
    "XetHash",
    "XetStore",
]
