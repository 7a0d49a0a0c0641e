"""Cards: the YAML at the head of a README, and what the listing needs of it.

A card is read when somebody first asks for the state it belongs to, and kept with that commit's id: whatever way a
commit came, the next listing sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hub.hf.licenses import LICENSES
from registry.blobs import BlobStore
from registry.catalog import Catalog
from registry.directory import Listed
from registry.repos import Repos
from registry.types import FileEntry, RepoId

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
    """What a repo's main branch says of itself."""

    data: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library_name: str | None = None


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
    except yaml.YAMLError as error:
        raise CardError(str(error)) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise CardError("the metadata must be a mapping of names to values")
    plain: dict[str, Any] = json.loads(json.dumps(data, default=str))
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


def problems_of(readme: str, repo_type: str) -> tuple[list[str], list[str]]:
    """What is wrong with a README's head: errors, which stop a commit, and warnings."""
    try:
        data = read_head(readme)
    except CardError as error:
        return [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = []
    for key in ("tags", "language", "datasets", "license", "metrics"):
        value = data.get(key)
        if not (value is None or isinstance(value, str) or _is_strings(value)):
            errors.append(f'"{key}" must be a string or a list of strings')
    if "tags" in data and not _is_strings(data["tags"] or []):
        errors.append('"tags" must be an array')
    index = data.get("model-index")
    if index is not None:
        if not isinstance(index, list) or not all(isinstance(one, dict) for one in index):
            errors.append('"model-index" must be an array of objects')
        elif not all(isinstance(one.get("name"), str) and one["name"] for one in index):
            errors.append('"model-index[0].name" is required')
    unknown = [one for one in _strings(data.get("license")) if one not in LICENSES]
    if unknown:
        errors.append('"license" must be one of the identifiers that clients know, such as apache-2.0, mit, other')
    for key in ("pipeline_tag", "library_name", "base_model"):
        value = data.get(key)
        if not (value is None or isinstance(value, str) or (key == "base_model" and _is_strings(value))):
            errors.append(f'"{key}" must be a string')
    return list(dict.fromkeys(errors)), ["no license is given"] * (repo_type == "model" and "license" not in data)


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def card_of(data: Mapping[str, Any], files: Iterable[str]) -> Card:
    """What follows from a README's head and the names of the files."""
    names = set(files)
    library = data.get("library_name")
    if not isinstance(library, str):
        library = "peft" if "adapter_config.json" in names else "transformers" if "config.json" in names else None
    pipeline = data.get("pipeline_tag")
    pipeline = pipeline if isinstance(pipeline, str) else None
    tags = [library, pipeline, *_strings(data.get("tags")), *_strings(data.get("language"))]
    for key, prefix in _TAGGED.items():
        tags += [f"{prefix}:{value}" for value in _strings(data.get(key))]
    if any(name.endswith(".safetensors") for name in names):
        tags.append("safetensors")
    return Card(data, tuple(dict.fromkeys(tag for tag in tags if tag)), pipeline, library)


def _strings(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and _SIMPLE.fullmatch(one)]


class Cards:
    """The cards of main branches."""

    def __init__(self, catalog: Catalog, repos: Repos, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._repos = repos
        self._blobs = blobs

    def at(self, files: Sequence[FileEntry]) -> Card:
        """The card of any state of a repo, from its files."""
        readme = next((file for file in files if file.path == README), None)
        data: dict[str, Any] = {}
        if readme is not None and readme.size <= MAX_README:
            try:
                data = read_head(self._blobs.read(readme.sha256).decode("utf-8", "replace"))
            except CardError:
                data = {}
        return card_of(data, (file.path for file in files))

    def of(self, listed: Sequence[Listed]) -> dict[int, Card]:
        """The cards of repos as they were listed, by the repo's key."""
        rows = self._catalog.query(
            "SELECT repo, commit, tags, pipeline_tag, library_name, card FROM hub_cards "
            "WHERE repo IN (SELECT unnest(?::BIGINT[]))",
            [[one.info.key for one in listed]],
        )
        kept = {row[0]: row for row in rows}
        found: dict[int, Card] = {}
        for one in listed:
            row = kept.get(one.info.key)
            if one.head is None:
                found[one.info.key] = Card({})
            elif row is not None and row[1] == one.head:
                found[one.info.key] = Card(json.loads(row[5]), tuple(row[2]), row[3], row[4])
            else:
                found[one.info.key] = self._read(one.info.id, one.info.key, one.head)
        return found

    def tagged(self, listed: Sequence[Listed], tags: Sequence[str], pipeline_tag: str | None) -> list[int]:
        """The keys of those repos whose cards carry all these tags (in any case)."""
        wanted = {tag.lower() for tag in tags}
        return [
            key
            for key, card in self.of(listed).items()
            if wanted <= {tag.lower() for tag in card.tags} and pipeline_tag in (None, card.pipeline_tag)
        ]

    def _read(self, repo: RepoId, key: int, commit: str) -> Card:
        card = self.at(self._repos.tree(repo, commit))
        row = [key, commit, list(card.tags), card.pipeline_tag, card.library_name, json.dumps(card.data)]
        with self._catalog.write() as tx:
            tx.execute(
                "INSERT INTO hub_cards (repo, commit, tags, pipeline_tag, library_name, card) "
                "VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET commit = excluded.commit, tags = excluded.tags, "
                "pipeline_tag = excluded.pipeline_tag, library_name = excluded.library_name, card = excluded.card",
                row,
            )
        return card
