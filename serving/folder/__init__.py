"""The serving folder as files: routing table, robots' access, digests. Imports no torch."""
