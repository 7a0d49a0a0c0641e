"""What the check of a dataset found, as it is kept and shown."""

from __future__ import annotations

from msgspec import Struct


class Finding(Struct, frozen=True):
    """One kind of trouble; `files` are places as `image` or `image: detail`."""

    severity: str
    check: str
    message: str
    count: int = 1
    files: list[str] = []


class Quality(Struct, frozen=True):
    """What the check found, or the reason (`problem`) why it could not look; `notes` is what was left out or repaired
    when the files were uploaded and read.
    """

    images: int = 0
    instances: int = 0
    findings: list[Finding] = []
    problem: str = ""
    notes: list[str] = []
