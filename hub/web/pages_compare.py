"""Two variants, or one and the base, image by image."""

from __future__ import annotations

import re
from typing import Any, cast

from litestar import Response, get

from finetune.report.picture_svg import labelled, layer, legend, tally
from hub.accounts.tokens import Identity
from hub.errors import GatedError
from hub.schemas import core as s
from hub.web import mask_svg as m
from hub.web.dependencies import Parts, Web, last, whole
from hub.web.guards import WebRequest, identity_of
from hub.web.pages_models import picture_addresses
from hub.web.render import page, safe
from hub.web.reports import Predictions, Shown, told_apart_in
from registry.errors import NotFoundError
from registry.types import RepoId

LISTED = 50
_BASE = "base"
_NAME = re.compile(r"base|[a-z0-9._-]{1,64}@[A-Za-z0-9._-]{1,64}")


@get("/compare", sync_to_thread=True)
def compare(request: WebRequest, web: Parts) -> Response[str]:
    """Two variants, or a variant and the base, on the same image: with a slider, or side by side."""
    who = identity_of(request)
    # What is no name of a variant is as if not there: a link puts no words of its own on the page.
    first, second = (name if _NAME.fullmatch(name) else "" for name in (last(request, "a"), last(request, "b")))
    cell = (first if first not in ("", _BASE) else second).partition("@")[0]
    hidden = web.services.privacy.hidden(who)
    found = web.services.variants.page(limit=LISTED, cell=cell or None, hidden=hidden)
    names = [one.name for one in found]
    sides = [_side(web, who, name) for name in (first, second)]
    shared, scene = _shared(first, second, sides), None
    if shared:
        number = whole(
            last(request, "image"), low=0, high=len(shared) - 1, default=_place(shared, last(request, "name"))
        )
        scene = _scene(web, who, shared, sides, (first, second), number)
    known = [name for name in (first, second) if name and name != _BASE and name not in names]
    return page(
        request,
        "compare.html",
        here="compare",
        names=names + known,
        first=first,
        second=second,
        way="side" if last(request, "way") == "side" else "slider",
        total=len(shared),
        scene=scene,
        legend=safe(legend()),
        missing=[
            name for name, side in zip((first, second), sides, strict=True) if name and name != _BASE and side is None
        ],
    )


def _place(shared: list[tuple[Shown | None, Shown | None]], name: str) -> int:
    """Where the image of this name is among those that are compared; the first where it is not."""
    return next((k for k, pair in enumerate(shared) if any(one is not None and one.name == name for one in pair)), 0)


def _side(web: Web, who: Identity, name: str) -> tuple[s.Version, Predictions] | None:
    """A variant and its answers on its holdout; None for the base, which is in every variant's answers."""
    if not name or name == _BASE:
        return None
    cell, _, version = name.partition("@")
    web.services.require_variant(who, cell, version)
    variant = web.services.variants.get(cell, version)
    dataset = variant.dataset.partition("@")[0]
    try:
        if dataset:
            web.services.readable(RepoId.parse(dataset, "dataset"), who, files=True)
    except (NotFoundError, GatedError):
        return None
    found = web.reports.predictions(cell, variant.commit)
    return (variant, found) if found else None


_Sides = list[tuple[s.Version, Predictions] | None]


def _shared(first: str, second: str, sides: _Sides) -> list[tuple[Shown | None, Shown | None]]:
    """The images that both were judged on, worst of the second first."""
    if not first or not second or all(side is None for side in sides):
        return []
    maps = [{one.name: one for one in side[1].images} if side else None for side in sides]
    if (first != _BASE and maps[0] is None) or (second != _BASE and maps[1] is None):
        return []
    leading = maps[1] if maps[1] is not None else maps[0]
    assert leading is not None  # noqa: S101  # at least one side has answers
    pairs: list[tuple[Shown | None, Shown | None]] = []
    for name in leading:
        pair = tuple(one.get(name) if one is not None else None for one in maps)
        if all(shown is not None or one is None for shown, one in zip(pair, maps, strict=True)):
            pairs.append(cast(tuple[Shown | None, Shown | None], pair))
    return pairs


def _scene(
    web: Web,
    who: Identity,
    shared: list[tuple[Shown | None, Shown | None]],
    sides: _Sides,
    names: tuple[str, str],
    number: int,
) -> dict[str, Any]:
    """What the page draws of one image."""
    left, right = shared[number]
    some = right or left
    assert some is not None  # noqa: S101  # every pair has one
    variant = next(side[0] for side in reversed(sides) if side is not None)
    address = picture_addresses(web, who, variant, {some.name}).get(some.name, "")
    panels = []
    for number_, (name, shown) in enumerate(zip(names, (left, right), strict=True)):
        source = shown or some
        drawn = told_apart_in(source, "base" if name == _BASE else "variant")
        panels.append(
            {
                "name": "the shared base" if name == _BASE else name,
                "tally": str(tally(drawn)),
                "layer": safe(layer(some.width, some.height, drawn, key=f"panel{number_}")),
            }
        )
    labels = labelled(m.instances(some.marks("truth")))
    return {
        "name": some.name,
        "number": number,
        "picture": address.format("full") if address else "",
        "width": some.width,
        "height": some.height,
        "panels": panels,
        "truth": safe(layer(some.width, some.height, labels, key="truth")),
        "instances": len(labels),
    }
