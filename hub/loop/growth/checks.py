"""What a contribution must pass before it is tested: quality, licence, privacy; each as a sentence."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from finetune.growth_plan import Contribution as Material
from hub.errors import UNREADABLE
from hub.jobs.plain_text import plain
from hub.settings import Settings
from hub.stack.processes import parcelhub_command
from registry.errors import NotFoundError
from registry.registry import Registry
from registry.repos.cards import MAX_README, README, licences_of
from registry.types import RepoId

MAX_SECONDS: Final = 1800.0
MIN_IMAGES: Final = 1


class _Finding(msgspec.Struct, frozen=True):
    severity: str
    message: str
    count: int = 1


class _Quality(msgspec.Struct, frozen=True):
    images: int = 0
    instances: int = 0
    findings: list[_Finding] = []


class _Checked(msgspec.Struct, frozen=True):
    quality: _Quality | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """`told` are all findings as sentences; `against` those that speak against it."""

    told: tuple[str, ...]
    against: tuple[str, ...]


class Checks:
    """Checks contributions. The pictures of strangers are decoded in a process of its own."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry, self._settings = registry, settings

    def run(self, material: Material, licences: Sequence[str]) -> Checked:
        """All checks. Raises OSError where the disk is full."""
        against: list[str] = []
        told: list[str] = []
        wrong, said = self._licence(material, licences)
        (against if wrong else told).append(said)
        if len(material.files) < MIN_IMAGES:
            against.append("None of the images that were offered is there.")
        else:
            problems, notes = self._quality(material)
            against += problems
            told += notes
        closed = self._closed(material.dataset)
        told.append(
            "It is private: its name and pictures are shown to its team alone; the base that learns from it is not."
            if closed
            else "It is public."
        )
        return Checked((*against, *told), tuple(against))

    def _closed(self, dataset: str) -> bool:
        try:
            info = self._registry.repos.get(RepoId.parse(dataset, "dataset"))
        except NotFoundError:
            return True
        return info.private or info.gated != "no"

    def _licence(self, material: Material, allowed: Sequence[str]) -> tuple[bool, str]:
        """(whether it speaks against it, a sentence)."""
        repo = RepoId.parse(material.dataset, "dataset")
        try:
            entry = self._registry.repos.entry(repo, material.commit, README)
            named = licences_of(self._registry.blobs.read(entry.sha256)) if entry.size <= MAX_README else []
        except NotFoundError:
            named = []
        if not named:
            return True, (
                f"Its card ({README}) names no licence; a base that everybody gets needs one of: {', '.join(allowed)}."
                " Push it again with one (dataset push --licence), and offer it again."
            )
        strange = [one for one in named if one not in {each.lower() for each in allowed}]
        if strange:
            return True, f"Its licence {', '.join(strange)[:80]} is not among those allowed: {', '.join(allowed)}."
        return False, f"Its licence {', '.join(named)} is allowed."

    def _quality(self, material: Material) -> tuple[list[str], list[str]]:
        """(findings that speak against it, other findings)."""
        with tempfile.TemporaryDirectory(dir=self._settings.data, prefix=".growth-check-") as temporary:
            folder = Path(temporary) / "dataset"
            self._export(material, folder)
            command = parcelhub_command("dataset", "check", str(folder), "--quality", "--json")
            environment = {**os.environ, **self._settings.environment(), "TERM": "dumb", "NO_COLOR": "1"}
            try:
                done = subprocess.run(command, env=environment, capture_output=True, timeout=MAX_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                return ["Its check did not end in half an hour."], []
            try:
                checked = msgspec.json.decode(done.stdout, type=_Checked).quality
            except UNREADABLE:
                checked = None
        if checked is None:
            lines = plain(done.stderr.decode(errors="replace")).replace(temporary, "").strip().splitlines()
            return [f"It cannot be read as a dataset: {lines[-1][:300] if lines else 'no reason was given'}"], []
        problems = [f"{one.message} ({one.count} times)" for one in checked.findings if one.severity == "error"]
        notes = [f"{one.message} ({one.count} times)" for one in checked.findings if one.severity != "error"]
        if not checked.instances:
            problems.append("None of its images has a labelled package.")
        summary = f"{checked.images} images with {checked.instances} labelled packages were looked at."
        return problems, [summary, *notes[:20]]

    def _export(self, material: Material, folder: Path) -> None:
        for entry in self._registry.repos.tree(RepoId.parse(material.dataset, "dataset"), material.commit):
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._registry.blobs.export_to(entry.sha256, target)
