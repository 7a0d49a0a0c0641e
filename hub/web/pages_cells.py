"""Cells: what serves each, their variants, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Scope
from hub.http.audit import note
from hub.schemas import core as s
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pages_alerts import open_alerts
from hub.web.pages_timeline import refresh_of
from hub.web.promotion_forms import asked_move, decision_row, mover
from hub.web.render import page
from registry.stage_types import HELD_STAGES
from registry.types import UNSET

LISTED = 50
DECISIONS = 20
TICK = "class-"


@get("/cells", sync_to_thread=True)
def list_cells(request: WebRequest, web: Parts) -> Response[str]:
    """All cells and what serves each."""
    return _cells(request, web)


def _cells(request: WebRequest, web: Web, *, problem: str = "", status: int = 200) -> Response[str]:
    search, after = last(request, "search"), last(request, "after")
    found = web.services.cells.page(limit=LISTED + 1, after=after, contains=search)
    names = [cell.name for cell in found[:LISTED]]
    hidden = web.services.privacy.hidden(identity_of(request))
    shown = [name for name in names if name not in hidden]
    return page(
        request,
        "cells.html",
        status=status,
        here="cells",
        cells=found[:LISTED],
        serving=_serving(web, shown),
        counts=_variant_counts(web, shown),
        more=names[-1] if len(found) > LISTED else "",
        search=search,
        after=after,
        problem=problem,
        choices=web.services.cells.choices(),
    )


def _ticked(fields: Mapping[str, str]) -> list[str]:
    """The classes that a form ticks."""
    return sorted(name.removeprefix(TICK) for name in fields if name.startswith(TICK))


def _serving(web: Web, cells: list[str]) -> dict[str, dict[str, str]]:
    """Cell to stage to version, of these cells."""
    rows = web.services.registry.catalog.query(
        "SELECT cell, stage, variant FROM stage_variants WHERE list_contains(?::VARCHAR[], cell) "
        "AND stage IN ('station', 'beta', 'fleet')",
        [cells],
    )
    found: dict[str, dict[str, str]] = {}
    for cell, stage, variant in rows:
        found.setdefault(cell, {})[stage] = str(variant).rpartition("@")[2]
    return found


def _places(web: Web, cell: str) -> dict[str, str]:
    """Stage to why its variant does not answer, for those that were promoted and are not in place."""
    held = {stage: f"{cell}@{version}" for stage, version in _serving(web, [cell]).get(cell, {}).items()}
    found = web.services.serving_folder.placement.of(held)
    return {stage: one.reason for stage, one in found.items() if one.state == "promoted, not in place"}


def _variant_counts(web: Web, cells: list[str]) -> dict[str, int]:
    rows = web.services.registry.catalog.query(
        "SELECT cell, count(*) FROM hub_variants WHERE list_contains(?::VARCHAR[], cell) GROUP BY cell", [cells]
    )
    return dict(rows)


@post("/cells", status_code=HTTP_303_SEE_OTHER)
async def create_cell(request: WebRequest, web: Parts) -> Response[Any]:
    """Create a cell."""
    fields = await form_of(request)

    def make() -> Response[Any]:
        who = identity_of(request)
        who.require(Scope.FINETUNE)
        try:
            asked = msgspec.convert(
                {
                    "name": fields.get("name", "").strip(),
                    "description": fields.get("description", ""),
                    "classes": _ticked(fields),
                },
                s.CellIn,
            )
        except msgspec.ValidationError:
            problem = "A cell's name has lower-case letters, digits, '.', '_' or '-', at most 64 of them."
            return _cells(request, web, problem=problem, status=400)
        team = "" if who.sees_all else who.home.lower()
        web.services.cells.create(asked.name, asked.description, team, asked.classes)
        web.services.serving_folder.sync()  # robots may name the cell from now on; the base answers
        return to(f"/ui/cells/{asked.name}")

    return await anyio.to_thread.run_sync(make)


@get("/cells/{cell:str}", sync_to_thread=True)
def one_cell(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """A cell: its variants, what serves it, what was decided."""
    who = identity_of(request)
    found = web.services.cells.get(cell)
    after = last(request, "after")
    hidden = web.services.privacy.hidden(who)
    secret = found.name in hidden
    variants = web.services.variants.page(limit=LISTED + 1, cell=found.name, after=after, hidden=hidden)
    return page(
        request,
        "cell.html",
        here="cells",
        cell=found,
        variants=variants[:LISTED],
        more=variants[LISTED - 1].name if len(variants) > LISTED else "",
        serving={} if secret else _serving(web, [found.name]).get(found.name, {}),
        stages=HELD_STAGES,
        places={} if secret else _places(web, found.name),
        decisions=[]
        if secret
        else [decision_row(o) for o in web.services.registry.stages.history(found.name, DECISIONS)],
        jobs=web.jobs(who, limit=5, cell=found.name),
        alerts=open_alerts(web, who, found.name),
        refresh=refresh_of(web, who, found.name),
        mine=who.owns(found.team) or not found.team,
        base=web.services.bases.newest_name(),
        choices=web.services.cells.choices(),
    )


@post("/cells/{cell:str}/classes", status_code=HTTP_303_SEE_OTHER)
async def say_classes(request: WebRequest, web: Parts, cell: Text) -> Redirect:
    """Say what there is in a cell."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.FINETUNE)
        who.require_team(web.services.cells.get(cell).team, f"the cell {cell!r}")
        web.services.cells.change(cell, classes=_ticked(fields))
        web.services.serving_folder.sync()
        return to(f"/ui/cells/{cell}?notice=classes")

    return await anyio.to_thread.run_sync(change)


@post("/cells/{cell:str}/rollback", status_code=HTTP_303_SEE_OTHER)
async def rollback(request: WebRequest, web: Parts, cell: Text) -> Redirect:
    """Give a stage back to what held it before."""
    fields = await form_of(request)

    def move() -> Redirect:
        who = mover(web, request, cell)
        asked = asked_move(fields, s.RollbackIn)
        expected = UNSET if isinstance(asked.expected, msgspec.UnsetType) else asked.expected
        moved = web.services.promotions.rollback(cell, asked.stage, actor=who.name, note=asked.note, expected=expected)
        note(request, decision=moved.decision, version=moved.version)
        return to(f"/ui/cells/{cell}?notice=rolled-back")

    return await anyio.to_thread.run_sync(move)
