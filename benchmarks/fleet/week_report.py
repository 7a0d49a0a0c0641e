"""The week's page: pick success of each cell over time, with what happened, as one HTML file without scripts."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.fleet.week_diary import Diary

BACK: Final = 0.02
"""Pick success is back when it is within so much of before the shift."""
WIDTH, HEIGHT, LEFT, TOP = 640, 150, 44, 14
MARKS: Final = {
    "labels": ("#7a5195", "L", "labels"),
    "training": ("#2f6f9f", "T", "training ended"),
    "promotion": ("#2a7f3f", "P", "promotion to the fleet"),
    "refused": ("#b3261e", "X", "refused by a gate"),
    "rollback": ("#b3261e", "R", "rolled back"),
    "alert": ("#b8860b", "A", "alert"),
    "event": ("#d4700a", "E", "event"),
    "planted": ("#111111", "!", "planted: a bad deck"),
}
"""Kinds that the charts mark: colour, letter, name."""


def summary(diary: Diary) -> dict[str, Any]:
    """The week in figures: of each cell before the shift, at its worst and on the last day; and the counts."""
    shift = diary.planted.shift
    cells = {}
    for name, days in diary.rates.items():
        before = _share(days[:shift])
        after = [_share([one]) for one in days[shift:]]
        known = [one for one in after if one is not None]
        last = known[-1] if known else None
        back = None if before is None or last is None else last >= before - BACK
        cells[name] = {"before": before, "worst": min(known, default=None), "last": last, "back": back}
    kinds = [one["kind"] for one in diary.steps if one["kind"] != "promotion" or one["title"].endswith("fleet")]
    asked = sum(1 for one in diary.steps if one["kind"] in ("promotion", "refused"))
    worse = sum(1 for one in diary.steps if one["kind"] == "refresh" and one["tone"] == "bad")
    bad = [
        one for one in diary.steps
        if one["kind"] == "promotion" and one["cell"] == diary.planted.bad_deck and one["title"].endswith("fleet")
        and one["day"] == shift
    ]  # fmt: skip
    return {
        "cells": cells,
        "back": sum(bool(one["back"]) for one in cells.values()),
        "labels": sum(sum(each) for each in diary.labels.values()),
        "label_minutes": round(diary.label_seconds / 60, 1),
        "counts": {name: kinds.count(name) for name in MARKS},
        "asked": asked,
        "worse_refreshes": worse,
        "planted_deck_in_fleet": len(bad),
        "problems": diary.problems,
        "minutes": round(diary.minutes, 1),
    }


def write_report(diary: Diary, out: Path) -> Path:
    """Write `week.json` and `week.html`."""
    found = summary(diary)
    document = {"summary": found, "diary": asdict(diary)}
    (out / "week.json").write_text(json.dumps(document, indent=1, default=sorted), "utf-8")
    page = out / "week.html"
    page.write_text(render(diary, found), "utf-8")
    return page


def render(diary: Diary, found: dict[str, Any]) -> str:
    """The page."""
    planted, size = diary.planted, diary.size
    text = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>The week</title>",
        "<meta name=viewport content='width=device-width'><style>", _STYLE, "</style>",
        f"<h1>A shift week, seed {diary.seed}</h1>",
        f"<p>{size.cells} cells, {size.days} days of {size.frames} frames a cell, {size.labels} labels a day at most;"
        f" {found['minutes']} minutes. The shift comes on day {planted.shift + 1}: a new bag in"
        f" {_names(planted.novel)}, drifting light in {_names(planted.drift)}, a camera fault in"
        f" {_names(planted.faults)}, a bad deck in {_names([planted.bad_deck])}.</p>",
        "<table><tr><th>figure<th>value</tr>",
        _row("cells whose pick success is back within 2 points of before the shift, on the last day",
             f"{found['back']} of {len(found['cells'])}"),
        _row("labels by the person (minutes of work)", f"{found['labels']} ({found['label_minutes']})"),
        *(_row(MARKS[name][2], str(count)) for name, count in found["counts"].items() if name != "labels"),
        _row("refreshes that are worse on the cell's history", str(found["worse_refreshes"])),
        _row("promotions to the fleet in the cell with the bad deck, on the day that it came",
             str(found["planted_deck_in_fleet"])),
        _row("candidates that the week's program offered to the gates, stage by stage", str(found["asked"])),
        "</table>",
        *(f"<p class=bad>{html.escape(one)}</p>" for one in diary.problems),
        "<p class=key>", *(f"<span><b style='background:{c}'>{m}</b> {n}</span>" for c, m, n in MARKS.values()), "</p>",
    ]  # fmt: skip
    for name in diary.rates:
        text.append(_cell(diary, name, found["cells"][name]))
    text.append("<h2>What happened</h2><table class=log><tr><th>day<th>cell<th>what<th>why</tr>")
    for one in diary.steps:
        tone = html.escape(one["tone"] or "")
        title, why = html.escape(one["title"]), html.escape(one["reason"][:300])
        day = "before" if one["day"] < 0 else str(one["day"] + 1)
        text.append(f"<tr class='{tone}'><td>{day}<td>{html.escape(one['cell'])}<td>{title}<td>{why}</tr>")
    return "\n".join([*text, "</table></html>\n"])


def _cell(diary: Diary, name: str, told: dict[str, Any]) -> str:
    days, shift = diary.rates[name], diary.planted.shift
    step = (WIDTH - LEFT - 16) / max(1, len(days))
    floor = TOP + HEIGHT

    def x(day: float) -> float:
        return LEFT + step * (day + 0.5)

    def y(share: float) -> float:
        return TOP + HEIGHT * (1 - share)

    parts = [f"<svg viewBox='0 0 {WIDTH} {floor + 56}' role=img aria-label='pick success of {html.escape(name)}'>"]
    for share in (0, 0.5, 1):
        parts.append(f"<line class=grid x1={LEFT} x2={WIDTH - 8} y1={y(share):.0f} y2={y(share):.0f} />")
        parts.append(f"<text x={LEFT - 6} y={y(share) + 4:.0f} text-anchor=end>{share:.0%}</text>")
    at = LEFT + step * shift
    parts.append(f"<line class=shift x1={at:.0f} x2={at:.0f} y1={TOP} y2={floor} />")
    if told["before"] is not None:
        line = y(told["before"])
        parts.append(f"<line class=before x1={LEFT} x2={WIDTH - 8} y1={line:.1f} y2={line:.1f} />")
    points = [(x(k), y(good / picks)) for k, (good, picks) in enumerate(days) if picks]
    parts.append(f"<polyline class=rate points='{' '.join(f'{a:.1f},{b:.1f}' for a, b in points)}' />")
    parts += [f"<circle cx={a:.1f} cy={b:.1f} r=3 />" for a, b in points]
    for k in range(len(days)):
        parts.append(f"<text x={x(k):.0f} y={floor + 14} text-anchor=middle>day {k + 1}</text>")
        marks = [(kind, _why(diary, name, k, kind)) for kind in MARKS]
        shown = [(kind, why) for kind, why in marks if why]
        for place, (kind, why) in enumerate(shown):
            colour, letter, _ = MARKS[kind]
            left = x(k) + 17 * (place - (len(shown) - 1) / 2)
            parts.append(
                f"<g><title>{html.escape(why)}</title>"
                f"<circle cx={left:.0f} cy={floor + 34} r=8 style='fill:{colour}' />"
                f"<text class=mark x={left:.0f} y={floor + 38} text-anchor=middle>{letter}</text></g>"
            )
    parts.append("</svg>")
    planted = [word for word, cells in (("new bag", diary.planted.novel), ("drift", diary.planted.drift),
                                        ("camera fault", diary.planted.faults),
                                        ("bad deck", [diary.planted.bad_deck])) if name in cells]  # fmt: skip
    figures = ", ".join(f"{word} {'-' if told[word] is None else f'{told[word]:.0%}'}" for word in ("before", "worst",
                                                                                               "last"))  # fmt: skip
    back = {True: "back", False: "not back", None: "cannot tell"}[told["back"]]
    note = f" ({', '.join(planted)})" if planted else ""
    served = diary.served[name][-1].partition(" on ")[0] if diary.served.get(name) else "-"
    return (
        f"<section><h3>{html.escape(name)}{note}</h3><p>{figures}: {back}. Served on the last day:"
        f" {html.escape(served)}.</p>{''.join(parts)}</section>"
    )


def _why(diary: Diary, cell: str, day: int, kind: str) -> str:
    """What a chart marks of a day, as a sentence; "" where nothing of the kind happened."""
    if kind == "labels":
        count = diary.labels.get(cell, [])[day] if day < len(diary.labels.get(cell, [])) else 0
        return f"{count} pictures were labelled" if count else ""
    found = [one["title"] for one in diary.steps if one["day"] == day and one["cell"] == cell and one["kind"] == kind]
    if kind == "training":
        found = [one for one in found if "made" in one or "failed" in one]
    if kind == "promotion":
        found = [one for one in found if one.endswith("fleet")]
    return "; ".join(found[:4])


def _share(days: list[tuple[int, int]]) -> float | None:
    good, picks = sum(one[0] for one in days), sum(one[1] for one in days)
    return good / picks if picks else None


def _names(cells: Any) -> str:  # noqa: ANN401  # a set, a mapping or a list of names
    return html.escape(", ".join(sorted(cells)) or "no cell")


def _row(name: str, value: str) -> str:
    return f"<tr><td>{html.escape(name)}<td>{html.escape(value)}</tr>"


_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1340px;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
section{display:inline-block;width:min(640px,100%);margin:.4rem .4rem .4rem 0;vertical-align:top}
h3{margin:.3rem 0}p{margin:.3rem 0}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}
.log{font-size:13px}.bad td,.bad{color:#b3261e}.warn td{color:#8a5a00}
.good td{color:#1d6b31}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}
svg text.mark{fill:#fff;font-weight:700}.grid{stroke:#e3e3e3}.shift{stroke:#b3261e;stroke-dasharray:4 3}
.before{stroke:#2a7f3f;stroke-dasharray:2 4}.rate{fill:none;stroke:#1f4e79;stroke-width:2}circle{fill:#1f4e79}
.key span{margin-right:1rem;white-space:nowrap}.key b{display:inline-block;width:1.3em;text-align:center;color:#fff;
border-radius:1em;font-size:12px}
"""
