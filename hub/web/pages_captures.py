"""Captures as a wall: what production kept, by cell, reason, outcome and date; and one of them with its answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlencode

from litestar import Response, get
from litestar.status_codes import HTTP_200_OK
from markupsafe import Markup

from finetune.report.picture_svg import MAX_MARKS, Drawn, outline, picture
from hub.api.captures import Wanted, find_captures, moment, own_capture
from hub.errors import InputError
from hub.schemas import serving as v
from hub.web.dependencies import Parts, Text, last
from hub.web.guards import WebRequest, identity_of
from hub.web.mask_svg import colour
from hub.web.pictures import FULL, THUMB
from hub.web.render import page, safe
from serving.errors import CaptureNotFound
from serving.observed.captures import REASONS
from serving.observed.selectors import selectors
from serving.robot.outcomes import OUTCOMES

SHOWN: Final = 48
SHORTEST: Final = 0.5
"""Instances below this score are not drawn on the wall: a robot would not pick them."""
SIZES: Final = {"thumb": THUMB, "full": FULL}


@get("/captures", sync_to_thread=True)
def captures(request: WebRequest, web: Parts) -> Response[str]:
    """Captures of the cells that the caller works in, newest first."""
    names = ("cell", "reason", "outcome", "since", "until")
    asked = {name: last(request, name).strip()[:200] for name in names}
    problem, found = "", list[v.Capture]()
    reasons = list(dict.fromkeys((*REASONS, *selectors())))
    try:
        wanted = Wanted(
            asked["cell"] or None,
            asked["reason"] if asked["reason"] in reasons else None,
            asked["outcome"] if asked["outcome"] in (*OUTCOMES, "none") else None,
            moment(asked["since"], "from"),
            moment(asked["until"], "to", end=True),
        )
        found = find_captures(
            web.services,
            web.services.privacy.workplaces(identity_of(request)),
            wanted,
            limit=SHOWN + 1,
            before=last(request, "before") or None,
        )
    except InputError as error:
        problem = str(error)
    more = ""
    if len(found) > SHOWN:
        kept = {name: value for name, value in asked.items() if value} | {"before": found[SHOWN - 1].id}
        more = f"/ui/captures?{urlencode(kept)}"
    return page(
        request,
        "captures.html",
        here="captures",
        captures=[(one, scene_of(one, "thumb", least=SHORTEST)) for one in found[:SHOWN]],
        more=more,
        asked=asked,
        problem=problem,
        reasons=reasons,
        outcomes=(*OUTCOMES, "none"),
    )


@get("/captures/{capture_id:str}", sync_to_thread=True)
def one_capture(request: WebRequest, web: Parts, capture_id: Text) -> Response[str]:
    """One capture: the frame and what was answered."""
    found = own_capture(web.services, identity_of(request), capture_id)
    rows = [
        (number, colour(number), one["label"], one["score"]) for number, one in enumerate(found.instances[:MAX_MARKS])
    ]
    return page(request, "capture.html", here="captures", capture=found, scene=scene_of(found, "full"), instances=rows)


@get("/captures/{capture_id:str}/image/{size:str}", sync_to_thread=True)
def image(request: WebRequest, web: Parts, capture_id: Text, size: Text) -> Response[bytes]:
    """The frame as a JPEG made anew, `thumb` or `full`. It is kept nowhere: a capture that is gone is gone."""
    own_capture(web.services, identity_of(request), capture_id)
    if size not in SIZES:
        raise CaptureNotFound(capture_id)
    data, _ = web.services.production.captures.image(capture_id)
    headers = {"Cache-Control": "private, max-age=600"}
    made = web.pictures.fresh(data, SIZES[size])
    return Response(made, status_code=HTTP_200_OK, media_type="image/jpeg", headers=headers)


def scene_of(
    capture: v.Capture, size: str, *, least: float = 0.0, only: int | None = None, marks: Iterable[str] = ()
) -> Markup:
    """The frame with the answer's masks on it. `only`: this instance is filled, the others are outlines; `marks` are
    shapes of ours to be put over it."""
    drawn = []
    for number, one in enumerate(capture.instances[:MAX_MARKS]):
        if one["score"] < least and number != only:
            continue
        mask = {"size": [capture.height, capture.width], "counts": one["mask"]}
        if not (path := outline(mask, capture.width, capture.height)):
            continue
        if only is None:
            drawn.append(Drawn(one["label"], path, "label", one["score"], colour(number)))
        else:
            drawn.append(Drawn(one["label"], path, "hit" if number == only else "label", one["score"]))
    drawn.sort(key=lambda one: one.kind == "hit")  # what was picked lies over the others
    href = f"/ui/captures/{capture.id}/image/{size}"
    words = f"{len(drawn)} packages on a frame of {capture.cell or 'no cell'}"
    text = picture(capture.width, capture.height, drawn, href=href, key=f"c{capture.id}", alt=words)
    return safe(text.removesuffix("</svg>") + "".join(marks) + "</svg>")
