"""Which format a folder is in: found out by what its files hold, never by what they are called alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finetune.datasets.findings import Findings
from finetune.datasets.foreign import explain
from finetune.datasets.kinds import AnnotationFormat, Look, Source, annotation_formats
from finetune.datasets.tree import Tree
from finetune.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Detected:
    """A format's short name, and the annotation files that say so."""

    format: str
    files: list[str] = field(default_factory=list)


def detect(tree: Tree) -> Detected:
    """The one format that `tree` is in. Raises DatasetError that says what was seen if it is none or several."""
    look = Look(tree)
    found: dict[str, tuple[AnnotationFormat, list[str]]] = {}
    for known in annotation_formats():
        if files := known.files(look):
            found[known.name] = known, files
    for known, _ in list(found.values()):
        for other in known.before:
            found.pop(other, None)
    if not found:
        text = explain(look)
        for fault in list(look.faults.values())[:3]:
            text += f"\n  {fault}"
        raise DatasetError(text, path=Path(tree.root.name))
    if len(found) > 1:
        seen = " and ".join(f"{known.title} ({files[0]})" for known, files in found.values())
        raise DatasetError(f"holds {seen}; keep the one that is right", path=Path(tree.root.name))
    ((known, files),) = found.values()
    return Detected(known.name, files)


def open_source(tree: Tree, detected: Detected, findings: Findings) -> Source:
    """The dataset in `tree`, ready to be measured and read. Raises DatasetError, or notes problems in `findings`."""
    known = next(known for known in annotation_formats() if known.name == detected.format)
    return known.read(tree, detected.files, findings)
