"""Cells, their variants and bases: what serves, what speaks for a variant, how two of them differ, image by image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER
from markupsafe import Markup

from finetune.plots import Bar, Series, bar_plot, line_plot, loss_chart
from hub import schemas as s
from hub.api.audit import note
from hub.errors import GatedError, InputError, UnknownVariantError
from hub.tokens import Identity, Scope
from hub.variants import repo_of
from hub.web import marks as m
from hub.web.guards import REPORT_POLICY, WebRequest, form_of, identity_of
from hub.web.lineage import lineage_svg
from hub.web.pages_datasets import positions_of
from hub.web.parts import Parts, Text, Web, last, to, whole
from hub.web.render import page
from hub.web.reports import Predictions, Report, Shown
from registry.errors import MoveRefusedError, NotFoundError, StageError
from registry.stage_types import HELD_STAGES, DecisionRecord
from registry.types import Artifact, RepoId

LISTED = 50
DECISIONS = 20
_BASE = "base"


# --- cells ------------------------------------------------------------------------------------------------------------


@get("/cells", sync_to_thread=True)
def list_cells(request: WebRequest, web: Parts) -> Response[str]:
    """All cells and what serves each."""
    return _cells(request, web)


def _cells(request: WebRequest, web: Web, *, problem: str = "", status: int = 200) -> Response[str]:
    search, after = last(request, "search"), last(request, "after")
    found = web.services.cells.page(limit=LISTED + 1, after=after, contains=search)
    names = [cell.name for cell in found[:LISTED]]
    return page(
        request,
        "cells.html",
        status=status,
        here="cells",
        cells=found[:LISTED],
        serving=_serving(web, names),
        counts=_variant_counts(web, names),
        more=names[-1] if len(found) > LISTED else "",
        search=search,
        after=after,
        problem=problem,
    )


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
                {"name": fields.get("name", "").strip(), "description": fields.get("description", "")}, s.CellIn
            )
        except msgspec.ValidationError:
            problem = "A cell's name has lower-case letters, digits, '.', '_' or '-', at most 64 of them."
            return _cells(request, web, problem=problem, status=400)
        web.services.cells.create(asked.name, asked.description, team="" if who.user is None else who.user.lower())
        web.services.serving_folder.sync()  # robots may name the cell from now on; the base answers
        return to(f"/ui/cells/{asked.name}")

    return await anyio.to_thread.run_sync(make)


@get("/cells/{cell:str}", sync_to_thread=True)
def one_cell(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """A cell: its variants, what serves it, what was decided."""
    who = identity_of(request)
    found = web.services.cells.get(cell)
    after = last(request, "after")
    variants = web.services.variants.page(limit=LISTED + 1, cell=found.name, after=after)
    return page(
        request,
        "cell.html",
        here="cells",
        cell=found,
        variants=variants[:LISTED],
        more=variants[LISTED - 1].name if len(variants) > LISTED else "",
        serving=_serving(web, [found.name]).get(found.name, {}),
        stages=HELD_STAGES,
        decisions=[_told(one) for one in web.services.registry.stages.history(found.name, DECISIONS)],
        jobs=web.jobs(who, limit=5, cell=found.name),
        mine=who.owns(found.team) or not found.team,
        base=web.services.bases.newest_name(),
    )


@post("/cells/{cell:str}/rollback", status_code=HTTP_303_SEE_OTHER)
async def rollback(request: WebRequest, web: Parts, cell: Text) -> Redirect:
    """Give a stage back to what held it before."""
    fields = await form_of(request)

    def move() -> Redirect:
        who = _mover(web, request, cell)
        asked = _asked(fields, s.RollbackIn)
        moved = web.services.promotions.rollback(cell, asked.stage, actor=who.name, note=asked.note)
        note(request, decision=moved.decision, version=moved.version)
        return to(f"/ui/cells/{cell}?notice={moved.stage}%20is%20now%20served%20by%20{moved.version or 'the%20base'}")

    return await anyio.to_thread.run_sync(move)


def _mover(web: Web, request: WebRequest, cell: str) -> Identity:
    """Who asks, if they may move variants of this cell."""
    who = identity_of(request)
    who.require(Scope.PROMOTE)
    who.require_team(web.services.cells.get(cell).team, f"the cell {cell!r}")
    return who


def _asked(fields: Mapping[str, str], kind: Any) -> Any:  # noqa: ANN401  # a struct of the API
    try:
        return msgspec.convert({"stage": fields.get("stage", ""), "note": fields.get("note", "")}, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"the form is not well-formed: {error}") from error


# --- one variant ------------------------------------------------------------------------------------------------------


@get("/models/{cell:str}/{version:str}", sync_to_thread=True)
def one_model(request: WebRequest, web: Parts, cell: Text, version: Text) -> Response[str]:
    """A variant: what came of it in words, its numbers, its lineage, its stage and how it got there."""
    return _model(request, web, cell, version)


def _model(
    request: WebRequest, web: Web, cell: str, version: str, *, problem: str = "", status: int = 200
) -> Response[str]:
    who = identity_of(request)
    services = web.services
    variant = services.variants.get(cell, version)
    report = web.reports.report(cell, variant.commit)
    history = services.registry.stages.history(cell, 200)
    artifact = Artifact("variant", f"{repo_of(cell)}@{version}", variant.commit)
    team = services.cells.get(cell).team
    others = [one.name for one in services.variants.page(limit=LISTED, cell=cell) if one.version != version]
    return page(
        request,
        "model.html",
        status=status,
        here="cells",
        variant=variant,
        report=report,
        charts=_charts(report) if report else _plain_charts(variant.metrics),
        lineage=_safe(lineage_svg(services.registry.lineage, artifact)),
        decisions=[_told(one) for one in history if one.variant.version == version][:DECISIONS],
        mine=who.owns(team) or not team,
        stages=HELD_STAGES,
        others=others,
        images=_thumbnails(web, who, variant, report),
        problem=problem,
    )


def _safe(text: str) -> Any:  # noqa: ANN401
    return Markup(text)  # noqa: S704  # drawn here, every text in it escaped


def _thumbnails(web: Web, who: Identity, variant: s.Version, report: Report | None) -> dict[str, str]:
    """Names of the worst images to the addresses where their pictures begin, if the caller may see the dataset."""
    if report is None:
        return {}
    return picture_addresses(web, who, variant, {one.image for one in report.worst})


def picture_addresses(web: Web, who: Identity, variant: s.Version, names: set[str]) -> dict[str, str]:
    """`/ui/datasets/…/at/<commit>/{}/<place>` of images of a variant's dataset; none that the caller may not see."""
    name, _, commit = variant.dataset.partition("@")
    if not commit or not names:
        return {}
    try:
        repo = RepoId.parse(name, "dataset")
        web.services.readable(repo, who, files=True)
        places = positions_of(web, repo, commit, names)
    except (NotFoundError, GatedError):
        return {}
    return {name_: f"/ui/datasets/{repo}/at/{commit}/{{}}/{pos}" for name_, pos in places.items()}


def _charts(report: Report) -> dict[str, Any]:
    bars = []
    for key, title in (("ap50", "AP50"), ("ap75", "AP75"), ("ap", "AP")):
        for who, tone in (("base", 0), ("variant", 1)):
            score = getattr(report, who)
            low, high = score.intervals.get(key, (None, None))
            bars.append(Bar(f"{title}, {who}", getattr(score, key), low, high, tone))
    groups = [*report.per_class, *report.per_size] if len(report.per_class) > 1 else report.per_size
    by_group = [
        Bar(f"{one.get('name', '')}, {who}", float(one.get(who, 0.0)), None, None, tone)
        for one in groups[:24]
        for who, tone in (("base", 0), ("variant", 1))
    ]
    return {
        "before_after": _safe(bar_plot(bars, title="Base and variant on the holdout, with 95 % intervals")),
        "classes": _safe(bar_plot(by_group, title="AP by class and size, base and variant")),
        "loss": _safe(loss_chart(report.losses)),
        "curve": _safe(_curve(report.learning_curve)),
    }


def _plain_charts(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """For a variant without a report: what its job told."""
    bars = [
        Bar(f"{title}, {who}", float(metrics[f"{who}_{key}"]), None, None, tone)
        for key, title in (("ap50", "AP50"), ("ap75", "AP75"), ("ap", "AP"))
        for who, tone in (("base", 0), ("variant", 1))
        if isinstance(metrics.get(f"{who}_{key}"), int | float)
    ]
    losses = metrics.get("losses")
    points = [p for p in losses if isinstance(p, list) and len(p) == 2] if isinstance(losses, list) else []
    return {
        "before_after": _safe(bar_plot(bars, title="Base and variant on the holdout")),
        "classes": "",
        "loss": _safe(loss_chart(points)),
        "curve": "",
    }


def _curve(curve: Mapping[str, Any] | None) -> str:
    try:
        points = curve["points"] if curve else []
        x, y = [float(p["images"]) for p in points], [float(p["ap50"]) for p in points]
        low, high = [float(p["low"]) for p in points], [float(p["high"]) for p in points]
    except (KeyError, TypeError, ValueError):
        return ""
    title = "AP50 of short trainings by number of images"
    line = Series("measured", x, y, low, high)
    return line_plot([line], title=title, x_label="training images", y_label="AP50", log_x=True)


def _told(record: DecisionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": record.kind,
        "version": record.variant.version,
        "from": record.from_stage,
        "to": record.to_stage,
        "actor": record.actor,
        "note": record.note,
        "reason": record.reason,
        "verdict": record.verdict,
        "at": record.decided_at.isoformat(),
        "evidence": json.dumps(record.evidence, indent=1, sort_keys=True, ensure_ascii=False),
    }


@get("/models/{cell:str}/{version:str}/report", sync_to_thread=True)
def report_page(request: WebRequest, web: Parts, cell: Text, version: Text) -> Response[bytes]:
    """The report as the job wrote it, under a policy that runs nothing in it."""
    variant = web.services.variants.get(cell, version)
    name, _, _ = variant.dataset.partition("@")
    if name:  # it holds pictures of the dataset: who may not see that one may not see them here
        web.services.readable(RepoId.parse(name, "dataset"), identity_of(request), files=True)
    data = web.reports.page(cell, variant.commit)
    if data is None:
        raise UnknownVariantError(f"{variant.name} has no report")
    return Response(data, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": REPORT_POLICY})


@post("/models/{cell:str}/{version:str}/promote", status_code=HTTP_303_SEE_OTHER)
async def promote(request: WebRequest, web: Parts, cell: Text, version: Text) -> Response[Any]:
    """Ask the gate to move the variant to a stage; its answer is on the page."""
    fields = await form_of(request)

    def move() -> Response[Any]:
        who = _mover(web, request, cell)
        asked = _asked(fields, s.PromoteIn)
        try:
            moved = web.services.promotions.promote(cell, version, asked.stage, actor=who.name, note=asked.note)
        except (MoveRefusedError, StageError) as error:
            return _model(request, web, cell, version, problem=str(error), status=409)
        note(request, decision=moved.decision, version=moved.version)
        return to(f"/ui/models/{cell}/{version}?notice=Robots%20are%20served%20by%20it%20now%20({moved.stage})")

    return await anyio.to_thread.run_sync(move)


# --- two variants -----------------------------------------------------------------------------------------------------


@get("/compare", sync_to_thread=True)
def compare(request: WebRequest, web: Parts) -> Response[str]:
    """Two variants, or a variant and the base, on the same image: with a slider, or side by side."""
    who = identity_of(request)
    first, second = last(request, "a"), last(request, "b")
    cell = (first if first not in ("", _BASE) else second).partition("@")[0]
    names = [one.name for one in web.services.variants.page(limit=LISTED, **({"cell": cell} if cell else {}))]
    sides = [_side(web, who, name) for name in (first, second)]
    shared, scene = _shared(first, second, sides), None
    if shared:
        number = whole(last(request, "image"), low=0, high=len(shared) - 1, default=0)
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
        missing=[
            name for name, side in zip((first, second), sides, strict=True) if name and name != _BASE and side is None
        ],
    )


def _side(web: Web, who: Identity, name: str) -> tuple[s.Version, Predictions] | None:
    """A variant and its answers on its holdout; None for the base, which is in every variant's answers."""
    if not name or name == _BASE:
        return None
    cell, _, version = name.partition("@")
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
    for name, shown in zip(names, (left, right), strict=True):
        source = shown or some
        which = "base" if name == _BASE else "variant"
        panels.append(
            {"name": name, "count": len(getattr(source, which)), "svg": _layer(source, which), "truth": len(some.truth)}
        )
    return {
        "name": some.name,
        "number": number,
        "picture": address.format("full") if address else "",
        "width": some.width,
        "height": some.height,
        "panels": panels,
        "truth": _layer(some, "truth"),
        "instances": len(some.truth),
    }


def _layer(shown: Shown, which: str) -> Any:  # noqa: ANN401
    drawn = shown.marks(which)
    kept = m.ImageMarks(drawn.width, drawn.height, [one for one in drawn.marks if (one.score or 1.0) >= 0.5])
    return _safe(m.svg(kept))
