"""Datasets: the list, the browser of images with their masks, one image, and the check's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Identity
from hub.kinds import dataset_check
from hub.schemas.quality import Quality
from hub.schemas.resources import DatasetImage, DatasetSummary
from hub.web import mask_svg as m
from hub.web.dependencies import Number, Parts, Text, Web, last, to, whole
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pictures import FULL, THUMB, text_key
from hub.web.render import page
from registry.errors import EntryNotFoundError
from registry.types import FileEntry, RepoId

PER_PAGE = 60
LISTED = 50
ANNOTATIONS = "annotations.json"
SPLITS = ("train", "valid", "test")
_KEEP = {"Cache-Control": "private, max-age=604800, immutable"}
"""Addresses of pictures name a commit: what they show never changes."""


class Size(NamedTuple):
    """Of an image, in pixels; None where the index does not know it."""

    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A revision of a dataset that the caller may see, and where its pictures' addresses begin."""

    repo: RepoId
    summary: DatasetSummary
    annotations: FileEntry | None

    @property
    def address(self) -> str:
        """The dataset's page."""
        return f"/ui/datasets/{self.repo}"

    @property
    def pictures(self) -> str:
        """Where its pictures' addresses begin."""
        return f"{self.address}/at/{self.summary.commit}"


def open_dataset(web: Web, who: Identity, namespace: str, name: str, revision: str) -> Opened:
    """Raises RepoNotFoundError, RevisionNotFoundError, GatedError."""
    repo = RepoId("dataset", namespace, name)
    summary = web.services.datasets.summary(repo, revision or "main", who)
    repo = RepoId.parse(summary.dataset.name, "dataset")
    try:
        entry = web.services.store.repos.entry(repo, summary.commit, ANNOTATIONS)
    except EntryNotFoundError:
        entry = None
    return Opened(repo, summary, entry)


def why_unusable(web: Web, opened: Opened) -> str:
    """Why no fine-tune can be made of a revision, as far as it is known; "" if nothing speaks against one."""
    commit = opened.summary.commit
    if opened.annotations is None and web.quality.state(opened.repo, commit) != "none":
        return "The hub is still reading what was uploaded."
    found = web.quality.found(opened.repo, commit)
    if found is not None and found.problem:
        return "This dataset cannot be used as it is: it could not be read."
    if opened.annotations is None:
        return "This dataset cannot be used as it is: it holds no labels in a form that the hub knows."
    if not opened.summary.instances:
        return "This dataset cannot be used as it is: none of its pictures has a labelled package."
    if found is not None and any(one.severity == "error" for one in found.findings):
        return "This dataset has to be repaired before a fine-tune: its check found errors."
    return ""


@get("/datasets", sync_to_thread=True)
def list_datasets(request: WebRequest, web: Parts) -> Response[str]:
    """All datasets that the caller may see, by name."""
    search, after = last(request, "search"), last(request, "after")
    found = web.services.datasets.page(identity_of(request), limit=LISTED + 1, after=after, contains=search)
    return page(
        request,
        "datasets.html",
        here="datasets",
        datasets=found[:LISTED],
        more=found[LISTED - 1].name if len(found) > LISTED else "",
        search=search,
        after=after,
    )


TABS: Final = {"images": "dataset.html", "check": "check.html", "contribution": "contribution.html"}


def dataset_page(
    request: WebRequest,
    web: Web,
    opened: Opened,
    revision: str,
    tab: str,
    **shown: Any,  # noqa: ANN401  # what the tab's template reads
) -> Response[str]:
    """One tab of a dataset's page, with the head that all tabs have."""
    unusable = why_unusable(web, opened)
    head: dict[str, Any] = {
        "here": "datasets",
        "opened": opened,
        "unusable": unusable,
        "revision": revision,
        "tab": tab,
    }
    return page(request, TABS[tab], **head, **shown)


@get("/datasets/{namespace:str}/{name:str}", sync_to_thread=True)
def browse(request: WebRequest, web: Parts, namespace: Text, name: Text) -> Response[str]:
    """The wall of images. Without scripts it has pages; with them, it scrolls."""
    who = identity_of(request)
    dataset = web.services.datasets.get(RepoId("dataset", namespace, name), who)
    if dataset.commit is None:
        return page(request, "dataset_empty.html", here="datasets", dataset=dataset)
    revision, split = last(request, "revision"), last(request, "split")
    opened = open_dataset(web, who, namespace, name, revision)
    split = split if split in SPLITS else ""
    total = _count(web, opened, split)
    pages = max(1, -(-total // PER_PAGE))
    number = whole(last(request, "page"), low=1, high=pages, default=1)
    return dataset_page(
        request,
        web,
        opened,
        revision,
        "images",
        split=split,
        splits=_splits(web, opened),
        total=total,
        pages=pages,
        number=number,
        images=_page(web, opened, split, number),
        per_page=PER_PAGE,
    )


@get("/datasets/{namespace:str}/{name:str}/at/{commit:str}/wall/{number:int}", sync_to_thread=True)
def wall(request: WebRequest, web: Parts, namespace: Text, name: Text, commit: Text, number: Number) -> Response[str]:
    """One page of tiles, for the script that scrolls."""
    opened = open_dataset(web, identity_of(request), namespace, name, commit)
    split = last(request, "split")
    images = _page(web, opened, split if split in SPLITS else "", max(1, number))
    answer = page(request, "tiles.html", opened=opened, images=images, revision=last(request, "revision"))
    answer.headers.update(_KEEP)
    return answer


@get("/datasets/{namespace:str}/{name:str}/at/{commit:str}/{kind:str}/{pos:int}", sync_to_thread=True)
def picture(
    request: WebRequest, web: Parts, namespace: Text, name: Text, commit: Text, kind: Text, pos: Number
) -> Response[bytes]:
    """`thumb`, `full` (JPEG) or `masks` (SVG) of the image at a place."""
    opened = open_dataset(web, identity_of(request), namespace, name, commit)
    image, _ = web.services.datasets.image(opened.repo, opened.summary.commit, pos, identity_of(request))
    if kind == "masks":
        data = _overlay(web, opened, image)
        headers = _KEEP | {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(data, media_type="image/svg+xml", headers=headers)
    edge = {"thumb": THUMB, "full": FULL}.get(kind)
    if edge is None:
        raise EntryNotFoundError(opened.repo, commit, kind)
    return Response(web.pictures.jpeg(image.sha256, image.bytes, edge), media_type="image/jpeg", headers=_KEEP)


def _overlay(web: Web, opened: Opened, image: DatasetImage) -> bytes:
    found = marks_of(web, opened, image)
    if found is None:
        return m.svg(m.ImageMarks(max(1, image.width or 1), max(1, image.height or 1), [])).encode()
    assert opened.annotations is not None  # noqa: S101  # marks come from there
    key = text_key(opened.annotations.sha256, image.file)
    return web.pictures.kept(f"{key}-2.svg", lambda: m.svg(found).encode())


def marks_of(web: Web, opened: Opened, image: DatasetImage) -> m.ImageMarks | None:
    """The masks of an image of the dataset, as its annotations have them."""
    if opened.annotations is None:
        return None
    return web.marks.of(opened.annotations.sha256, opened.annotations.size, image.file)


@get("/datasets/{namespace:str}/{name:str}/images/{pos:int}", sync_to_thread=True)
def one_image(request: WebRequest, web: Parts, namespace: Text, name: Text, pos: Number) -> Response[str]:
    """One image with its masks and classes; arrow keys lead to its neighbours."""
    who = identity_of(request)
    revision = last(request, "revision")
    opened = open_dataset(web, who, namespace, name, revision)
    image, _ = web.services.datasets.image(opened.repo, opened.summary.commit, pos, who)
    found = marks_of(web, opened, image)
    listed = [(m.colour(k), one.label) for k, one in enumerate(found.marks)] if found else []
    return page(
        request,
        "image.html",
        here="datasets",
        opened=opened,
        image=image,
        marks=listed,
        revision=revision,
        before=pos - 1 if pos else None,
        after=pos + 1 if pos + 1 < opened.summary.images else None,
        wall_page=pos // PER_PAGE + 1,
    )


# --- the check --------------------------------------------------------------------------------------------------------


@get("/datasets/{namespace:str}/{name:str}/check", sync_to_thread=True)
def check(request: WebRequest, web: Parts, namespace: Text, name: Text) -> Response[str]:
    """What the check found, with the pictures that it speaks of."""
    who = identity_of(request)
    revision = last(request, "revision")
    opened = open_dataset(web, who, namespace, name, revision)
    found = web.quality.found(opened.repo, opened.summary.commit)
    places = _places(web, opened, found) if found else {}
    standing = web.quality.standing(opened.repo, opened.summary.commit)
    return dataset_page(
        request,
        web,
        opened,
        revision,
        "check",
        quality=found,
        state=standing.state,
        trouble=standing.error,
        places=places,
        sizes=_sizes(web, opened, places.values()),
        image_names=image_names,
    )


@post("/datasets/{namespace:str}/{name:str}/check", status_code=HTTP_303_SEE_OTHER)
async def start_check(request: WebRequest, web: Parts, namespace: Text, name: Text) -> Redirect:
    """Have the revision checked. It changes nothing of the dataset."""
    fields = await form_of(request)

    def begin() -> str:
        opened = open_dataset(web, identity_of(request), namespace, name, fields.get("revision", ""))
        asked = dataset_check.DatasetCheckIn(dataset=str(opened.repo), revision=opened.summary.commit)
        dataset_check.queue(web.services, identity_of(request), asked)
        return f"{opened.address}/check"

    address = await anyio.to_thread.run_sync(begin)
    revision = fields.get("revision", "")
    return to(address + (f"?revision={revision}" if revision.isalnum() else ""))


def _places(web: Web, opened: Opened, quality: Quality) -> Mapping[str, int]:
    """The places in the dataset's order of the images that findings name."""
    named = {name for one in quality.findings for text in one.files for name in image_names(text)}
    number = web.services.datasets.images.of(opened.repo, opened.summary.commit).number
    return _positions(web, number, named)


def _sizes(web: Web, opened: Opened, places: Iterable[int]) -> dict[int, Size]:
    """Width and height of the images at these places."""
    wanted = sorted(set(places))
    if not wanted:
        return {}
    number = web.services.datasets.images.of(opened.repo, opened.summary.commit).number
    rows = web.services.registry.catalog.query(
        "SELECT pos, width, height FROM hub_images WHERE set_number = ? AND list_contains(?::INTEGER[], pos)",
        [number, wanted],
    )
    return {place: Size(None, None) for place in wanted} | {pos: Size(width, height) for pos, width, height in rows}


def image_names(text: str) -> list[str]:
    """The images in a place that a finding names: `a.jpg: detail`, `a.jpg = b.jpg`, `a.jpg (train) = b.jpg (valid)`."""
    head = text.partition(": ")[0]
    return [part.partition(" (")[0].strip() for part in head.split(" = ")]


def _positions(web: Web, number: int, names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    rows = web.services.registry.catalog.query(
        "SELECT file, pos FROM hub_images WHERE set_number = ? AND list_contains(?::VARCHAR[], "
        "regexp_extract(file, '[^/]*$'))",
        [number, sorted({name.rpartition("/")[2] for name in names})],
    )
    whole_names = dict(rows)
    return {file.rpartition("/")[2]: pos for file, pos in rows} | whole_names


def positions_of(web: Web, dataset: RepoId, commit: str, names: set[str]) -> dict[str, int]:
    """The places of these images of a dataset, by name."""
    return _positions(web, web.services.datasets.images.of(dataset, commit).number, names)


# --- pages of images --------------------------------------------------------------------------------------------------


def _page(web: Web, opened: Opened, split: str, number: int) -> list[DatasetImage]:
    index = web.services.datasets.images
    found = index.of(opened.repo, opened.summary.commit)
    after = (number - 1) * PER_PAGE - 1
    if split:
        after = _start(web, found.number, split, (number - 1) * PER_PAGE) - 1
    return index.page(found.number, after=after, limit=PER_PAGE, split=split or None)


def _start(web: Web, number: int, split: str, offset: int) -> int:
    """The place of the image number `offset` of a split."""
    rows = web.services.registry.catalog.query(
        "SELECT pos FROM hub_images WHERE set_number = ? AND split = ? ORDER BY pos LIMIT 1 OFFSET ?",
        [number, split, offset],
    )
    return int(rows[0][0]) if rows else 2**31 - 1


def _splits(web: Web, opened: Opened) -> dict[str, int]:
    number = web.services.datasets.images.of(opened.repo, opened.summary.commit).number
    rows = web.services.registry.catalog.query(
        "SELECT split, count(*) FROM hub_images WHERE set_number = ? AND split IS NOT NULL GROUP BY split", [number]
    )
    counts: dict[str, int] = dict(rows)
    return {split: counts[split] for split in SPLITS if split in counts}


def _count(web: Web, opened: Opened, split: str) -> int:
    return _splits(web, opened).get(split, 0) if split else opened.summary.images
