"""Cards: the YAML at the head of a README, and what listings need of it. Reading one runs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

README = "README.md"
MAX_README = 1024 * 1024
MAX_HEAD = 128 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 30
_HEAD = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SIMPLE = re.compile(r"[\w .:/+@-]{1,100}")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGGED = {"license": "license", "datasets": "dataset", "base_model": "base_model", "arxiv": "arxiv"}


class CardError(ValueError):
    """Raised when a README's head is no usable YAML."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a state of a repo says of itself."""

    data: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library_name: str | None = None


def licences_of(readme: bytes) -> list[str]:
    """The licences that a card names, in lower case; `unknown` names none. Empty where the card cannot be read."""
    if len(readme) > MAX_README:
        return []
    try:
        said = read_head(readme.decode("utf-8", "replace")).get("license")
    except CardError:
        return []
    named = [str(one).strip().lower() for one in (said if isinstance(said, list) else [said] if said else [])]
    return [one for one in named if one not in ("", "unknown")]


def licence_of_folder(folder: Path) -> str:
    """The licence that the card of a folder on disk names, or `unknown`."""
    card = folder / README
    if not card.is_file() or card.stat().st_size > MAX_README:
        return "unknown"
    return next(iter(licences_of(card.read_bytes())), "unknown")


def read_head(readme: str) -> dict[str, Any]:
    """The mapping between the first two `---` lines; empty without them. Raises CardError."""
    found = _HEAD.match(readme)
    if found is None:
        return {}
    text = found[1]
    if len(text) > MAX_HEAD:
        raise CardError(f"the metadata has more than {MAX_HEAD} characters")
    try:
        _check_size(text)
        data = yaml.load(text, Loader=_LOADER)  # noqa: S506  # a safe loader either way
        plain = json.loads(json.dumps({} if data is None else data, default=str))
    except CardError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        # Days that no calendar has, numbers of thousands of digits, lists as names: YAML's own reader lets them pass.
        raise CardError(str(error)) from error
    if not isinstance(plain, dict):
        raise CardError("the metadata must be a mapping of names to values")
    return plain


def _check_size(text: str) -> None:
    """Refuse documents that are small here and huge in memory."""
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.AliasEvent):
            raise CardError("aliases are not allowed in metadata")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise CardError("the metadata is too large or too deeply nested")


_TASKS = (
    # The end of an architecture's name, and the task that the ecosystem gives it; the first that fits.
    ("ForZeroShotObjectDetection", "zero-shot-object-detection"),
    ("ForZeroShotImageClassification", "zero-shot-image-classification"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForDocumentQuestionAnswering", "document-question-answering"),
    ("ForVisualQuestionAnswering", "visual-question-answering"),
    ("ForTableQuestionAnswering", "table-question-answering"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForMaskedLM", "fill-mask"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForImageTextToText", "image-text-to-text"),
    ("ForVision2Seq", "image-to-text"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("ForSemanticSegmentation", "image-segmentation"),
    ("ForInstanceSegmentation", "image-segmentation"),
    ("ForUniversalSegmentation", "image-segmentation"),
    ("ForImageSegmentation", "image-segmentation"),
    ("ForSegmentation", "image-segmentation"),
    ("ForObjectDetection", "object-detection"),
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForKeypointDetection", "keypoint-detection"),
    ("ForMaskGeneration", "mask-generation"),
    ("ForImageToImage", "image-to-image"),
    ("ForVideoClassification", "video-classification"),
    ("ForAudioClassification", "audio-classification"),
    ("ForSpeechSeq2Seq", "automatic-speech-recognition"),
    ("ForCTC", "automatic-speech-recognition"),
    ("Model", "feature-extraction"),
)


def task_of(architectures: Iterable[str]) -> str | None:
    """The task of a transformers model, by what its `config.json` calls its architecture; None if it is not known."""
    for name in architectures:
        for end, task in _TASKS:
            if name.endswith(end):
                return task
    return None


def card_of(data: Mapping[str, Any], files: Iterable[str], architectures: Iterable[str] = ()) -> Card:
    """What follows from a README's head, the names of the files, and the model's `architectures`."""
    names = set(files)
    library = _string(data.get("library_name"))
    if library is None:
        library = "peft" if "adapter_config.json" in names else "transformers" if "config.json" in names else None
    pipeline = _string(data.get("pipeline_tag")) or task_of(architectures)
    tags = [library, pipeline, *strings(data.get("tags")), *strings(data.get("language"))]
    for key, prefix in _TAGGED.items():
        tags += [f"{prefix}:{value}" for value in strings(data.get(key))]
    if any(name.endswith(".safetensors") for name in names):
        tags.append("safetensors")
    return Card(data, tuple(dict.fromkeys(tag for tag in tags if tag)), pipeline, library)


def strings(value: object) -> list[str]:
    """The plain words of a value that should be one, or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and _SIMPLE.fullmatch(one)]


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and _SIMPLE.fullmatch(value) else None
