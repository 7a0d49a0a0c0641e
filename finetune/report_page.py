"""`report.html`: the facts of `finetune.report` as one page without any outside reference, charts and pictures inside.

It opens from a disk or a mail attachment, and holds no script. The hub serves it under a policy that would not run one.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image as PillowImage

from finetune.evaluate import FOUND_SCORE, match
from finetune.overlays import draw_instances, palette
from finetune.plots import STYLE, Bar, Series, bar_plot, line_plot, loss_chart
from finetune.report import WORST, Judged
from serving.instances import Instances
from serving.preprocess import Image

PICTURE_EDGE = 480
_QUALITY = 74
_TEMPLATE = "report_page.html"


def render_report(facts: Mapping[str, Any], judged: Judged) -> str:
    """The page. Raises DatasetError if an image of the holdout cannot be read any more."""
    by_name = {name: k for k, name in enumerate(judged.names)}
    worst = [{**one, "pictures": _pictures(judged, by_name[one["image"]])} for one in facts["worst"][:WORST]]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    environment.filters["points"] = lambda value: f"{value:.3f}"
    template = resources.files("finetune").joinpath(_TEMPLATE).read_text("utf-8")
    return environment.from_string(template).render(
        facts=facts,
        worst=worst,
        charts={name: Markup(text) for name, text in charts(facts).items()},  # noqa: S704  # ours, texts escaped
        plot_style=Markup(STYLE),  # noqa: S704
        found_score=FOUND_SCORE,
    )


def charts(facts: Mapping[str, Any]) -> dict[str, str]:
    """SVG by name: `before_after`, `classes`, `loss`, `curve`, `reliability`; "" where there is nothing to draw."""
    bars = []
    for name, title in (("ap50", "AP50"), ("ap75", "AP75"), ("ap", "AP")):
        for who, tone in (("base", 0), ("variant", 1)):
            low, high = facts[who]["intervals"].get(name, (None, None))
            bars.append(Bar(f"{title}, {who}", facts[who][name], low, high, tone))
    groups = [*facts["per_class"], *facts["per_size"]] if len(facts["per_class"]) > 1 else facts["per_size"]
    grouped = [Bar(f"{one['name']}, {who}", one[who], None, None, tone) for one in groups for who, tone in _WHO]
    return {
        "before_after": bar_plot(bars, title="Base and variant on the holdout, with 95 % intervals"),
        "classes": bar_plot(grouped, title="AP by class and size, base and variant"),
        "loss": loss_chart(facts["losses"]),
        "curve": _curve(facts["learning_curve"]),
        "reliability": _reliability(facts["reliability"]),
    }


_WHO = (("base", 0), ("variant", 1))


def _curve(curve: Mapping[str, Any] | None) -> str:
    if not curve:
        return ""
    points = curve["points"]
    x, y = [one["images"] for one in points], [one["ap50"] for one in points]
    low, high = [one["low"] for one in points], [one["high"] for one in points]
    last = Series(
        "expected",
        [x[-1], x[-1] + curve["more"]],
        [y[-1], y[-1] + curve["gain"]],
        [y[-1], max(0.0, y[-1] + curve["low"])],
        [y[-1], min(1.0, y[-1] + curve["high"])],
        dashed=True,
        tone=0,
    )
    return line_plot(
        [last, Series("measured", x, y, low, high)],
        title="AP50 of short trainings by number of images, and what more would bring",
        x_label="training images",
        y_label="AP50",
        log_x=True,
    )


def _reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    if len(bins) < 2:
        return ""
    honest = Series("scores that mean what they say", [0, 1], [0, 1], dashed=True, tone=0)
    mine = Series("this variant", [one["score"] for one in bins], [one["right"] for one in bins])
    return line_plot(
        [honest, mine], title="Share of right answers by score", x_label="score", y_label="share that is right"
    )


def _pictures(judged: Judged, k: int) -> list[dict[str, str]]:
    """Truth and variant of one image as JPEGs in the page; an answer that found a package has its colour."""
    image, truth = judged.samples[k].read_image(), judged.truths[k]
    shown = judged.variant[k].filter(FOUND_SCORE)
    tones = palette(len(truth) + len(shown))
    mine = list(tones[len(truth) :])
    for theirs, own in match(truth, shown):
        mine[own] = tones[theirs]
    edge = min(PICTURE_EDGE, max(PICTURE_EDGE // 2, *image.shape[:2]))
    return [
        {"title": "labelled", "src": _jpeg(_drawn(image, truth, tones[: len(truth)], edge, scores=False))},
        {"title": "variant", "src": _jpeg(_drawn(image, shown, mine, edge, scores=True))},
    ]


def _drawn(
    image: Image, instances: Instances, tones: Sequence[tuple[int, int, int]], edge: int, *, scores: bool
) -> Image:
    return draw_instances(image, instances, colours=tones, scores=scores, long_edge=edge)


def _jpeg(pixels: Image) -> str:
    target = io.BytesIO()
    PillowImage.fromarray(pixels).save(target, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()
