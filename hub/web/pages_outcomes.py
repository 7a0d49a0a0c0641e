"""What the picks did: success rates by cell, variant, stage and class, with their intervals, and day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get
from markupsafe import Markup

from finetune.report.plots import Bar, Series, bar_plot, line_plot
from hub.accounts.tokens import Identity
from hub.api.outcomes import success_rates
from hub.schemas import serving as v
from hub.services import Services
from hub.web.dependencies import Parts, last, whole
from hub.web.guards import WebRequest, identity_of
from hub.web.render import page

GROUPINGS: Mapping[str, str] = {
    "cell": "cell",
    "variant": "variant",
    "stage": "stage",
    "class": "class",
    "base": "base",
    "line": "line",
    "robot": "robot",
}
FILTERS = ("cell", "variant", "stage", "class")
DAYS = 30
MAX_DAYS = 3650
BARS, ROWS = 20, 200
"""So many groups are drawn and listed, those with the most picks first."""
NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """One group of picks as the table shows it. `link` leads to this group alone, "" where there is nothing finer."""

    name: str
    picks: int
    rate: str
    interval: str
    wrong: str
    link: str


@get("/outcomes", sync_to_thread=True)
def outcomes(request: WebRequest, web: Parts) -> Response[str]:
    """Success rates by what the address asks for, of the cells that the caller works in, as in the API."""
    who = identity_of(request)
    by = last(request, "by", "cell")
    if by not in GROUPINGS:
        by = "cell"
    days = whole(last(request, "days", str(DAYS)), low=1, high=MAX_DAYS, default=DAYS)
    where = {name: value for name in FILTERS if (value := last(request, name).strip()[:200])}
    found = success_rates(web.services, [by], where, days, who=who)
    groups = sorted(found.rates, key=lambda one: (-one.picks, str(one.group[by])))
    picks, successes = sum(one.picks for one in groups), sum(one.successes for one in groups)
    return page(
        request,
        "outcomes.html",
        here="outcomes",
        by=by,
        days=days,
        where=where,
        filters=FILTERS,
        groupings=GROUPINGS,
        picks=picks,
        share=f"{successes / picks:.1%}" if picks else "",
        unmatched=found.unmatched,
        rows=[_row(one, by, where, days) for one in groups[:ROWS]],
        left_out=max(len(groups) - ROWS, 0),
        bars=_bars(groups, by),
        drawn=min(len(groups), BARS),
        timeline=_timeline(web.services, where, days, who),
    )


def _row(one: v.Rate, by: str, where: Mapping[str, str], days: int) -> Row:
    name = one.group[by]
    finer = {"cell": "variant", "variant": "class", "stage": "variant", "class": "variant"}.get(by)
    link = ""
    if finer is not None and name is not None:
        link = "?" + urlencode({**where, by: name, "by": finer, "days": days})
    wrong = ", ".join(f"{count} {outcome}" for outcome, count in one.outcomes.items() if outcome != "success")
    rate = "-" if one.rate is None else f"{one.rate:.1%}"
    return Row(_shown(name, by), one.picks, rate, f"{one.low:.1%} to {one.high:.1%}", wrong, link)


def _shown(name: str | None, by: str) -> str:
    """A group's name; picks that the base answered have no variant, and those it made no stage."""
    if name is not None:
        return name
    return "the base" if by in ("variant", "stage") else NONE


def _bars(groups: Sequence[v.Rate], by: str) -> Markup:
    bars = [Bar(_shown(one.group[by], by), one.rate or 0.0, one.low, one.high) for one in groups[:BARS]]
    return _svg(bar_plot(bars, title=f"Success rate by {by}, with 95 % intervals"))


def _timeline(services: Services, where: Mapping[str, str], days: int, who: Identity) -> Markup:
    """Success rate by day, the days counted back from today; "" for fewer than two days with picks."""
    found = success_rates(services, ["day"], where, days, who=who).rates
    rates = [one for one in found if one.picks and one.group["day"]]
    if len(rates) < 2:
        return Markup()
    today = datetime.now(UTC).date()
    ages = [(datetime.strptime(str(one.group["day"]), "%Y-%m-%d").date() - today) / timedelta(days=1) for one in rates]
    series = Series(
        "success rate",
        ages,
        [one.rate or 0.0 for one in rates],
        low=[one.low for one in rates],
        high=[one.high for one in rates],
    )
    return _svg(
        line_plot(
            [series], title="Success rate by day, with 95 % intervals", x_label="days from today", y_label="success"
        )
    )


def _svg(text: str) -> Any:  # noqa: ANN401  # Markup is untyped to mypy
    return Markup(text)  # noqa: S704  # `finetune.report.plots` escapes every text
