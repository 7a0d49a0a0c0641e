"""Who vouches for what: the hub's keys, signed statements about published versions, and the audit of decisions.

A `KeyRing` holds the key that signs and the keys that are believed. `Statements` says, in in-toto's words and in a DSSE
envelope, which files a published version has and what they were made from, and refuses what no trusted key vouches for.
`registry.backup.audit` replays every decision about a cell from digests alone; it stands above the registry.
"""

from registry.provenance.keys import KeyInfo, KeyRing
from registry.provenance.statements import Material, Origin, Statement, Statements

__all__ = ["KeyInfo", "KeyRing", "Material", "Origin", "Statement", "Statements"]
