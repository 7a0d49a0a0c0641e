"""Label Studio's JSON export: a list of tasks with brush masks (an RLE of its own), bitmasks, polygons and boxes.

Images are found by the path that a task names (`/data/local-files/?d=...`, `/data/upload/...`, a URL, a path): by its
end, inside the dataset's folder only; nothing is fetched. A task may show several images, in a list or under several
names. Class names come from a labelling configuration (an XML file with the root `View`) where there is one, else from
the regions in their order. What a region says besides its label (choices, numbers, texts "per region") becomes
attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.kinds import AnnotationFormat, Look, register
from finetune.datasets.labelstudio_regions import RegionReader
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_of, split_said, suffix_of
from finetune.datasets.types import Sample
from finetune.datasets.xmlstream import Start, root_of, stream_xml
from finetune.errors import DatasetError

Record = dict[str, Any]
Shows = Callable[[Record], bool]
CONFIG_ROOT = "View"
_SPLIT_KEYS = ("split", "subset")
_VIDEOS = frozenset({".mp4", ".webm", ".avi", ".mov", ".mkv"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image of a checked task; `shows` tells its regions from those of the task's other images."""

    image: str
    split: str | None
    sequence: str | None
    shows: Shows


@dataclass(slots=True)
class LabelStudioSource:
    """Exports of Label Studio whose images are found."""

    tree: Tree
    documents: tuple[str, ...]
    known: dict[str, None] = field(default_factory=dict)
    entries: dict[tuple[str, int], list[_Entry]] = field(default_factory=dict)
    """By document and the task's place in it."""
    split_lists: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the order of their first mention; complete once `samples` has run to its end."""
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that tasks show, as paths in the tree; a task may show several."""
        return tuple(entry.image for entries in self.entries.values() for entry in entries)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """The samples whose image has a size, task by task. Raises DatasetError for a JSON that cannot be read."""
        for document in self.documents:
            for index, task in _tasks(self.tree, document):
                for entry in self.entries.get((document, index), []):
                    if entry.image not in sizes:
                        continue
                    found = InstanceList(*sizes[entry.image], findings)
                    reader = RegionReader(document, f"[{index}]", found, findings, entry.shows)
                    reader.read(_annotation(task) or {})
                    self.known |= dict.fromkeys(reader.labels)
                    sample = found.sample(self.tree.path(entry.image), entry.image, entry.split, entry.sequence)
                    if sample is not None:
                        yield sample


def is_task(value: object) -> bool:
    """Whether the first element of a list is a task of Label Studio's JSON export."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("data"), dict)
        and bool({"annotations", "completions", "predictions"} & set(value))
    )


def read_labelstudio(tree: Tree, names: list[str], findings: Findings) -> LabelStudioSource:
    """The exports `names` as one dataset. Raises DatasetError if nothing is annotated in them."""
    source = LabelStudioSource(tree, tuple(names))
    shown: dict[str, str] = {}
    for config in tree.with_suffix(".xml"):
        classes, views = _configured(tree, config)
        source.known |= dict.fromkeys(classes)
        shown |= views
    reader = _TaskReader(tree, source, shown, findings)
    for name in names:
        for index, task in _tasks(tree, name):
            reader.read(name, index, task)
    if reader.tasks and not reader.annotated:
        drafts = " there are predictions alone, which nobody accepted;" if reader.predicted else ""
        text = (
            f"nothing is annotated yet in its {reader.tasks} tasks:{drafts} submit the annotations in Label Studio and "
        )
        raise DatasetError(text + "export JSON again", path=Path(names[0]))
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in reader.listed:
            findings.warn("image that no annotated task names and that was left out", image)
    return source


class _TaskReader:
    """The first pass: the images of the tasks that are annotated."""

    def __init__(self, tree: Tree, source: LabelStudioSource, shown: Mapping[str, str], findings: Findings) -> None:
        self._source = source
        self._shown = shown
        self._findings = findings
        self._finder = ImageFinder(tree, findings)
        self.listed: dict[str, str] = {}
        self.tasks = self.annotated = self.predicted = 0

    def read(self, name: str, index: int, task: Record) -> None:
        where = f"[{index}]"
        self.tasks += 1
        data = task.get("data")
        if not isinstance(data, dict):
            self.annotated += 1  # it is another fault
            self._findings.problem("is no task with `data`", name, field=where)
            return
        annotation = _annotation(task)
        self.predicted += bool(task.get("predictions"))
        if annotation is None:
            text = "task without an annotation (or with skipped ones only), left out"
            self._findings.warn(text, f"{name} {where}")
            return
        self.annotated += 1
        if len(_usable(task)) > 1:
            text = "task with several annotations, of which the ground truth or else the first was taken"
            self._findings.warn(text, f"{name} {where}")
        sequence = data.get("sequence")
        kept = sequence if isinstance(sequence, str) else None
        entries = []
        try:
            declared = _declared_split(task, data, annotation)
        except ValueError as error:
            self._findings.problem(str(error), name, field=f"{where}.data.split")
            return
        try:
            for reference, shows in _shown_images(data, annotation, self._shown):
                image = _find(self._finder, name, reference)
                path, _ = _path_of(reference)
                said = declared or split_of(image) or split_of("/".join(path.replace("\\", "/").split("/")[-3:]))
                entries.append(_Entry(image, said, kept, shows))
            if len(entries) > 1:
                self._findings.warn("task of several images: each is an image of its own here", f"{name} {where}")
        except ValueError as error:
            self._findings.problem(str(error), name, field=f"{where}.data")
            return
        for entry in entries:
            if entry.image in self.listed:
                text = f"{entry.image} is in a second task, after {self.listed[entry.image]}: delete one of the tasks"
                self._findings.problem(text, name, field=where)
                return
            self.listed[entry.image] = f"{name} {where}"
        self._source.entries[name, index] = entries


def _declared_split(task: Record, data: Record, annotation: Record) -> str | None:
    """The split that a task declares: in its data, in its `meta`, or by a choice of that name. Raises ValueError."""
    meta = task.get("meta")
    for fields in (data, meta if isinstance(meta, dict) else {}):
        for key in _SPLIT_KEYS:
            if (split := split_said(fields.get(key))) is not None:
                return split
    results = annotation.get("result")
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict) and result.get("from_name") in _SPLIT_KEYS and result.get("type") == "choices":
            value = result.get("value")
            chosen = value.get("choices") if isinstance(value, dict) else None
            return split_said(chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else None)
    return None


def _tasks(tree: Tree, name: str) -> Iterator[tuple[int, Record]]:
    for item in stream_json(tree.path(name), name):
        if item.number is not None and item.number != LIST:
            yield item.number, item.value if isinstance(item.value, dict) else {}


def _usable(task: Record) -> list[Record]:
    listed = task.get("annotations", task.get("completions"))
    records = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    return [record for record in records if not record.get("was_cancelled")]


def _annotation(task: Record) -> Record | None:
    usable = _usable(task)
    return next((a for a in usable if a.get("ground_truth")), usable[0] if usable else None)


def _configured(tree: Tree, name: str) -> tuple[list[str], dict[str, str]]:
    """Class names of a labelling configuration, and the field of a task's data that each of its images shows; nothing
    if the XML file is something else.
    """
    try:
        if root_of(tree.path(name), name) != CONFIG_ROOT:
            return [], {}
        starts = [event for event in stream_xml(tree.path(name), name) if isinstance(event, Start)]
    except DatasetError:
        return [], {}
    values = [e.attributes.get("value", "").strip() for e in starts if e.path[-2:] in _LABEL_TAGS]
    images = [e.attributes for e in starts if e.path[-1] == "Image"]
    views = {i.get("name", ""): (i.get("value") or i.get("valueList") or "").lstrip("$") for i in images}
    return [value for value in values if value], {name: key for name, key in views.items() if key}


_LABEL_TAGS = {
    (parent, "Label") for parent in ("BrushLabels", "BitmaskLabels", "PolygonLabels", "RectangleLabels", "Labels")
}


def _shown_images(data: Record, annotation: Record, shown: Mapping[str, str]) -> list[tuple[str, Shows]]:
    """The images of a task as it names them, each with what tells its regions. Raises ValueError."""
    fields = {
        key: value for key, value in data.items() if key not in (*_SPLIT_KEYS, "sequence") and _is_image(key, value)
    }
    listed = annotation.get("result")
    results = [r for r in listed if isinstance(r, dict)] if fields and isinstance(listed, list) else []
    used = dict.fromkeys(str(r.get("to_name")) for r in results if r.get("type") != "relation" and r.get("to_name"))
    if not fields:
        if any(key == "video" or _suffix(value) in _VIDEOS for key, value in data.items()):
            raise ValueError("the task shows a video: label its frames as images, and export those tasks")
        raise ValueError("the task names no image")
    if len(fields) == 1 or len(used) < 2:
        named = [shown.get(name, name) for name in used]
        key = next(key for key in [*named, "image", *fields] if key in fields)
        value = fields[key]
        return [(value, _all)] if isinstance(value, str) else _listed(value, results)
    images = []
    for name in used:
        key = shown.get(name, name)
        if not isinstance(fields.get(key), str):
            raise ValueError(  # noqa: TRY004
                f"the task shows {len(fields)} images ({', '.join(fields)}), and nothing says which of them is "
                f"{name[:40]!r}: put the labelling configuration beside the export, as an XML file"
            )
        images.append((str(fields[key]), _of_view(name)))
    return images


def _suffix(value: object) -> str:
    return _path_of(value)[1] if isinstance(value, str) else ""


def _is_image(key: str, value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, str) and _path_of(v)[1] in IMAGE_SUFFIXES for v in value)
    return isinstance(value, str) and (key == "image" or _path_of(value)[1] in IMAGE_SUFFIXES)


def _listed(values: list[str], results: list[Record]) -> list[tuple[str, Shows]]:
    """The images of a list, whose regions say the place in it. Raises ValueError."""
    for result in results:
        item = result.get("item_index", 0 if len(values) == 1 else None)
        if "original_width" in result and not (isinstance(item, int) and 0 <= item < len(values)):
            text = f"region {str(result.get('id'))[:40]} does not say which of the task's {len(values)} images it is of"
            raise ValueError(f"{text} (item_index {item!r:.20}): label one image per task, or export again")
    return [(value, _of_item(item)) for item, value in enumerate(values)]


def _all(_: Record) -> bool:
    return True


def _of_item(item: int) -> Shows:
    return lambda result: result.get("item_index", 0) == item


def _of_view(name: str) -> Shows:
    return lambda result: result.get("to_name") == name


def _find(finder: ImageFinder, document: str, value: str) -> str:
    """The image that a task names, in the tree. Raises ValueError."""
    path, _ = _path_of(value)
    if ".." in path.replace("\\", "/").split("/"):
        raise ValueError(f"{value[:80]!r} leads out of the dataset's folder")
    try:
        return finder.find(path, usual_folders(document, None), remote=True)
    except ValueError:
        if "+" not in path:
            raise
        # Forms write a space as a plus, Label Studio itself does not.
        return finder.find(path.replace("+", " "), usual_folders(document, None), remote=True)


def _path_of(value: str) -> tuple[str, str]:
    """(path, suffix) that a reference names: the file of `?d=`, a URL's path, or the text itself."""
    # All of the rest: a file's name may hold `+`, `&` and `#`.
    _, local, rest = value.partition("/local-files/?d=")
    if local:
        return unquote(rest), suffix_of(unquote(rest))
    try:
        parts = urlsplit(value)
    except ValueError:
        return value, suffix_of(value)
    if parts.scheme in ("http", "https", "s3", "gs", "azure-blob", "file"):
        path = unquote(parts.path)
    else:
        path = parts.path if parts.query and value.startswith("/") else value
    return path, suffix_of(PurePosixPath(path).name)


def _files(look: Look) -> list[str]:
    return [
        name
        for name in look.tree.with_suffix(".json")
        if (peek := look.json(name)) is not None and peek.is_list and is_task(peek.first)
    ]


register(AnnotationFormat("labelstudio", "Label Studio", "a .json file with a list of tasks", _files, read_labelstudio))
