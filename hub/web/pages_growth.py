"""The base's growth: a dataset's contribution with what it did for whom, and for the operator the growths."""

from __future__ import annotations

from typing import Final, cast, get_args

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Scope
from hub.api.growth import contributions_of
from hub.errors import InputError
from hub.loop.growth.contributions import OPEN, PLAINLY
from hub.schemas.growth import ContributionState, GrowthRun
from hub.web.dependencies import Parts, Text, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pages_datasets import dataset_page, open_dataset
from hub.web.render import page
from registry.types import RepoId

MAX_NOTE = 500
UNDER_WAY: Final = ("training", "refitting")


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


@get("/growth", sync_to_thread=True)
def growths(request: WebRequest, web: Parts) -> Response[str]:
    """What a growth would learn from now, the offers that stand, and the growths: for the operator."""
    identity_of(request).require(Scope.ADMIN)
    growth = web.services.growth
    return page(
        request,
        "growths.html",
        here="home",
        outlook=growth.outlook(),
        policy=growth.policies.get(),
        offers=growth.contributions.listed(),
        runs=growth.page(),
    )


@get("/growth/{run:str}", sync_to_thread=True)
def one_growth(request: WebRequest, web: Parts, run: Text) -> Response[str]:
    """One growth: what it learnt from, the base that came of it, and what became of each cell."""
    identity_of(request).require(Scope.ADMIN)
    growth = web.services.growth
    found: GrowthRun = growth.get(run)
    known = {
        f"{one.dataset}@{one.commit[:12]}": one for one in growth.contributions.listed(get_args(ContributionState))
    }
    learnt = [(told, known.get(told.partition(":")[0])) for told in found.contributions]
    return page(request, "growth.html", here="home", run=found, learnt=learnt, under_way=found.state in UNDER_WAY)


@post("/growth/{run:str}/stop", status_code=HTTP_303_SEE_OTHER)
async def stop_growth(request: WebRequest, web: Parts, run: Text) -> Redirect:
    """End a growth: cells that have not moved stay."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.ADMIN)
        web.services.growth.stop(run, who.owner, fields.get("note", "").strip()[:MAX_NOTE])
        return to(f"/ui/growth/{run}")

    return await anyio.to_thread.run_sync(change)


@post("/growth/contributions/{contribution:str}", status_code=HTTP_303_SEE_OTHER)
async def decide_offer(request: WebRequest, web: Parts, contribution: Text) -> Redirect:
    """Accept or refuse an offer where the test does not tell, or against what it tells."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.ADMIN)
        action, said = fields.get("action", ""), fields.get("note", "").strip()[:MAX_NOTE]
        if action not in ("accept", "refuse"):
            raise InputError("an offer is accepted or refused")
        offers = web.services.growth.contributions
        shown = fields.get("expected")  # an offer that has moved on since is a conflict
        if shown not in get_args(ContributionState):
            raise InputError("the form says in which state the offer was")
        offers.decide(contribution, action == "accept", who.owner, said, cast("ContributionState", shown))
        return to("/ui/growth")

    return await anyio.to_thread.run_sync(change)
