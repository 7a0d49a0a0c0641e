"""Checks, collection and backups of a hub that is running, and the thread that collects by itself."""
