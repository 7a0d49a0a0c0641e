"""One variant: what speaks for it, its lineage, its stage, its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from litestar import Response, get, post
from litestar.status_codes import HTTP_303_SEE_OTHER

from finetune.report.picture_svg import legend, picture, tally
from finetune.report.plots import Bar, Series, bar_plot, line_plot, loss_chart
from hub.accounts.tokens import Identity
from hub.errors import GatedError, UnknownVariantError
from hub.http.audit import note
from hub.models.variants import repo_of
from hub.schemas import core as s
from hub.web.dependencies import Parts, Text, Web, to
from hub.web.guards import REPORT_POLICY, WebRequest, form_of, identity_of
from hub.web.lineage import lineage_svg
from hub.web.pages_datasets import positions_of
from hub.web.promotion_forms import asked_move, decision_row, mover
from hub.web.render import page, safe
from hub.web.reports import Report, told_apart_in
from registry.errors import MoveRefusedError, NotFoundError, StageError
from registry.promotion.readiness import LEARNT_STEPS
from registry.stage_types import HELD_STAGES
from registry.types import Artifact, RepoId

LISTED = 50
DECISIONS = 20


@get("/models/{cell:str}/{version:str}", sync_to_thread=True)
def one_model(request: WebRequest, web: Parts, cell: Text, version: Text) -> Response[str]:
    """A variant: what came of it in words, its numbers, its lineage, its stage and how it got there."""
    return _model(request, web, cell, version)


def _model(
    request: WebRequest, web: Web, cell: str, version: str, *, problem: str = "", status: int = 200
) -> Response[str]:
    who = identity_of(request)
    services = web.services
    services.require_variant(who, cell, version)
    variant = services.variants.get(cell, version)
    report = web.reports.report(cell, variant.commit)
    history = services.registry.stages.history(cell, 200)
    artifact = Artifact("variant", f"{repo_of(cell)}@{version}", variant.commit)
    team = services.cells.get(cell).team
    others = [one.name for one in services.variants.page(limit=LISTED, cell=cell) if one.version != version]
    read = services.datasets.readable_names
    return page(
        request,
        "model.html",
        status=status,
        here="cells",
        variant=variant,
        report=report,
        charts=_charts(report) if report else _plain_charts(variant.metrics),
        lineage=safe(lineage_svg(services.registry.lineage, artifact, seen=lambda name: name in read([name], who))),
        decisions=[decision_row(one) for one in history if one.variant.version == version][:DECISIONS],
        mine=who.owns(team) or not team,
        stages=HELD_STAGES,
        others=others,
        fails=_fails(web, who, variant, report),
        legend=safe(legend()),
        proposed=_proposed(web, variant),
        short=variant.metrics.get("steps", LEARNT_STEPS) < LEARNT_STEPS,
        problem=problem,
    )


def _proposed(web: Web, variant: s.Version) -> str:
    """The stage that the form begins with: what the verdict proposes, and the test station for what nobody measured."""
    judged = web.services.promotions.judged(variant)
    return judged.stage if judged else "station"


def _fails(web: Web, who: Identity, variant: s.Version, report: Report | None) -> list[dict[str, Any]]:
    """The worst images of the holdout, each with what the variant made of it; pictures of datasets that the caller may
    not see are left out."""
    if report is None:
        return []
    names = {one.image for one in report.worst}
    addresses = picture_addresses(web, who, variant, names)
    known = web.reports.predictions(variant.cell, variant.commit) if addresses else None
    answers = {one.name: one for one in known.images if one.name in names} if known else {}
    found = []
    for number, one in enumerate(report.worst):
        decision_row = f"{one.found} found, {one.missed} missed, {one.extra} false find{'' if one.extra == 1 else 's'}"
        svg, address, shown = "", addresses.get(one.image, ""), answers.get(one.image)
        if address and shown:
            drawn = told_apart_in(shown, "variant")
            decision_row = str(tally(drawn))
            svg = picture(shown.width, shown.height, drawn, href=address.format("thumb"), key=f"worst{number}")
        found.append({"image": one.image, "svg": safe(svg), "tally": decision_row})
    return found


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
        "before_after": safe(bar_plot(bars, title="Base and variant on the holdout, with 95 % intervals")),
        "classes": safe(bar_plot(by_group, title="AP by class and size, base and variant")),
        "loss": safe(loss_chart(report.losses)),
        "curve": safe(_curve(report.learning_curve)),
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
        "before_after": safe(bar_plot(bars, title="Base and variant on the holdout")),
        "classes": "",
        "loss": safe(loss_chart(points)),
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


@get("/models/{cell:str}/{version:str}/report", sync_to_thread=True)
def report_page(request: WebRequest, web: Parts, cell: Text, version: Text) -> Response[bytes]:
    """The report as the job wrote it, under a policy that runs nothing in it."""
    web.services.require_variant(identity_of(request), cell, version)
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
        who = mover(web, request, cell)
        asked = asked_move(fields, s.PromoteIn)
        try:
            moved = web.services.promotions.promote(cell, version, asked.stage, actor=who.name, note=asked.note)
        except (MoveRefusedError, StageError) as error:
            return _model(request, web, cell, version, problem=str(error), status=409)
        note(request, decision=moved.decision, version=moved.version)
        return to(f"/ui/models/{cell}/{version}?notice=promoted")

    return await anyio.to_thread.run_sync(move)
