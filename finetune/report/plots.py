"""Charts as small SVG texts without any library: their ink is the page's own, so that they follow dark mode.

Colours are classes (`s0`, `s1`, ... for series; `axis`, `grid`, `band`, `word`), which `STYLE` gives meaning to; a page
that carries that style once can show any number of charts. All texts are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
.plot { display: block; width: 100%; max-width: 680px; height: auto; font: 13px system-ui, sans-serif; }
.plot .axis { stroke: var(--soft, #5a6270); fill: none; } .plot .grid { stroke: var(--line, #d9dde3); fill: none; }
.plot text { fill: var(--soft, #5a6270); } .plot .word { fill: var(--ink, #16181d); }
.plot .s0 { stroke: var(--s0, #6b7585); fill: var(--s0, #6b7585); }
.plot .s1 { stroke: var(--s1, #0b63ce); fill: var(--s1, #0b63ce); }
.plot .line { fill: none; stroke-width: 2; } .plot .band { opacity: .18; stroke: none; }
.plot .whisker { stroke: var(--ink, #16181d); stroke-width: 1.5; } .plot .dashed { stroke-dasharray: 5 4; }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """A named line. `low` and `high` are an interval around each `y`, or empty; `dashed`: not measured."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False
    tone: int = 1


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart: a value in [0, 1] with its interval, or without one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    tone: int = 1


_WIDTH, _HEIGHT = 680, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 44


def line_plot(
    series: Sequence[Series], *, title: str, x_label: str, y_label: str, y_from_zero: bool = True, log_x: bool = False
) -> str:
    """SVG of lines over a common axis; "" where no series has a point. `title` is what screen readers say."""
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for y in (*one.y, *one.low, *one.high) if math.isfinite(y)]
    if not xs or not ys:
        return ""
    y_ticks = ticks(0.0 if y_from_zero else min(ys), max(ys))
    bottom, top = y_ticks[0], y_ticks[-1]
    scale = (lambda x: math.log(max(x, 1e-9))) if log_x else float
    first, last = scale(min(xs)), scale(max(xs))

    def place_x(x: float) -> float:
        share = (scale(x) - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<path class="grid" d="M{_LEFT} {place_y(y):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 8}" y="{place_y(y) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        for y in y_ticks
    ]
    x_ticks = sorted(set(xs)) if log_x else [x for x in ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    for x in x_ticks:
        parts.append(
            f'<text x="{place_x(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_number(x)}</text>'
        )
    for one in series:
        points = list(zip(one.x, one.y, strict=True))
        if one.low and len(points) > 1:
            over = [f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in zip(one.x, one.high, strict=True)]
            under = [f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in zip(one.x, one.low, strict=True)]
            parts.append(f'<path class="s{one.tone} band" d="M{"L".join(over + under[::-1])}Z"/>')
        line = "L".join(f"{place_x(x):.1f} {place_y(y):.1f}" for x, y in points)
        dashed = " dashed" if one.dashed else ""
        parts.append(f'<path class="s{one.tone} line{dashed}" d="M{line}"><title>{escape(one.name)}</title></path>')
        if len(points) <= 12:
            parts += [
                f'<circle class="s{one.tone}" cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="4">'
                f"<title>{escape(one.name)}: {_number(x)}, {y:.3g}</title></circle>"
                for x, y in points
            ]
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts += [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    return _svg(title, _HEIGHT, parts)


def bar_plot(bars: Sequence[Bar], *, title: str) -> str:
    """SVG of horizontal bars from 0 to 1, each with its value and, where known, its interval."""
    row, left = 30, 190
    room = _WIDTH - left - 64
    parts = []
    for number, bar in enumerate(bars):
        y = 6 + row * number
        width = max(0.0, min(1.0, bar.value)) * room
        parts.append(
            f'<text class="word" x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(shorten(bar.name, 26))}</text>'
            f'<rect class="s{bar.tone}" x="{left}" y="{y + 3}" width="{width:.1f}" height="17" rx="3" stroke="none"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                f'<path class="whisker" d="M{left + bar.low * room:.1f} {y + 11.5}H{left + bar.high * room:.1f}"/>'
            )
        end = left + max(width, (bar.high or 0.0) * room)
        parts.append(f'<text class="word" x="{end + 8:.1f}" y="{y + 16}">{bar.value:.2f}</text>')
    return _svg(title, 12 + row * len(bars), parts) if bars else ""


def loss_chart(losses: Sequence[Sequence[float]], *, x_label: str = "step") -> str:
    """SVG of a training's loss, from points (step, loss); "" for fewer than two."""
    if len(losses) < 2:
        return ""
    line = Series("loss", [one[0] for one in losses], [one[1] for one in losses])
    return line_plot([line], title="Training loss", x_label=x_label, y_label="loss")


def ticks(low: float, high: float, *, wanted: int = 5) -> list[float]:
    """Round numbers that reach from `low` or just below to `high` or just above it."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300):  # as good as one number: steps would drown in it
        high = low + (abs(low) if abs(low) > 1e-300 else 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def shorten(text: str, most: int) -> str:
    """`text`, cut in its middle to at most `most` characters."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
