"""A dataset's contribution to the base: the offer's button, its way, and what it did for whom."""

from __future__ import annotations

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Scope
from hub.api.growth import contributions_of
from hub.errors import InputError
from hub.loop.growth.contributions import OPEN, PLAINLY
from hub.web.dependencies import Parts, Text, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pages_datasets import dataset_page, open_dataset
from registry.types import RepoId

MAX_NOTE = 500


@get("/datasets/{namespace:str}/{name:str}/contribution", sync_to_thread=True)
def contribution(request: WebRequest, web: Parts, namespace: Text, name: Text) -> Response[str]:
    """What became of the dataset's offers."""
    who, revision = identity_of(request), last(request, "revision")
    opened = open_dataset(web, who, namespace, name, revision)
    found = contributions_of(web.services, who, opened.repo)
    mine = who.may(Scope.CONTRIBUTE) and who.may_write("dataset", str(opened.repo))
    return dataset_page(
        request,
        web,
        opened,
        revision,
        "contribution",
        offers=found,
        standing=next((one for one in found if one.state in OPEN), None),
        plainly=PLAINLY,
        mine=mine,
    )


@post("/datasets/{namespace:str}/{name:str}/offer", status_code=HTTP_303_SEE_OTHER)
async def change_offer(request: WebRequest, web: Parts, namespace: Text, name: Text) -> Redirect:
    """Offer the dataset to the base, or take the offer back."""
    fields = await form_of(request)
    who = identity_of(request)
    who.require(Scope.CONTRIBUTE)
    action, note = fields.get("action", ""), fields.get("note", "")[:MAX_NOTE]
    if action not in ("offer", "withdraw"):
        raise InputError("the form's action is offer or withdraw")

    def change() -> str:
        repo, offers = RepoId("dataset", namespace, name), web.services.growth.contributions
        if action == "offer":
            offers.offer(repo, who, revision=fields.get("revision", "") or "main", note=note)
        else:
            offers.withdraw(repo, who, note)
        return f"/ui/datasets/{repo}/contribution"

    return to(await anyio.to_thread.run_sync(change))
