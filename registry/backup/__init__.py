"""Backups and their restoring, and the audit that replays decisions: what stands above a whole registry."""
