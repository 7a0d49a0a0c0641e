"""Charts as SVG, drawn by matplotlib: reliability of scores, and curves with bands."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from finetune.evaluation.calibration import Calibration

_INK, _SOFT, _ACCENT = "#2b313b", "#8a93a3", "#0b63ce"
_TONES = ("#0b63ce", "#d1495b", "#2e8b57", "#8a5cd6", "#b7791f")


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) with an interval (low, high) around each y."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def reliability_chart(calibration: Calibration) -> str:
    """SVG: share of right answers against their score, with the diagonal of perfect honesty and the counts below."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=_SOFT, linestyle="--", linewidth=1, label="scores that mean what they say")
    bins = calibration.bins
    upper.plot([b.score for b in bins], [b.right for b in bins], color=_ACCENT, marker="o", label="this model")
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, loc="upper left")
    lower.bar([b.low for b in bins], [b.count for b in bins], width=0.1, align="edge", color=_SOFT)
    lower.set(xlabel="score", ylabel="answers")
    return _svg(figure)


def curves_chart(
    curves: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    levels: Mapping[str, float] | None = None,
) -> str:
    """SVG: named curves with bands over a logarithmic x axis; `levels` are named horizontal lines."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for (name, curve), tone in zip(curves.items(), _TONES * len(curves), strict=False):
        axes.plot(curve.x, curve.y, marker="o", color=tone, label=name)
        axes.fill_between(curve.x, curve.low, curve.high, color=tone, alpha=0.16, linewidth=0)
    for (name, level), tone in zip((levels or {}).items(), _TONES[::-1] * len(levels or {}), strict=False):
        axes.axhline(level, color=tone, linestyle=":", label=name)
    axes.set_xscale("log")
    ticks = sorted({x for curve in curves.values() for x in curve.x})
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.minorticks_off()
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axes.grid(axis="y", color="#e3e6ea")
    axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK)
    target = io.StringIO()
    # No date and a fixed salt for ids: equal data, equal bytes.
    with rc_context({"svg.hashsalt": "parcelhub", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})
    text = target.getvalue()
    return text[text.index("<svg") :]
