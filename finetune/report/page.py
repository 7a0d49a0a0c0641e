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

from finetune.evaluation.evaluate import FOUND_SCORE
from finetune.report.picture_svg import labelled, legend, picture, tally, told_apart
from finetune.report.plots import STYLE, Bar, Series, bar_plot, line_plot, loss_chart
from finetune.report.report import WORST, Judged
from registry.promotion.readiness import LEARNT_STEPS
from serving.inference.preprocess import Image

PICTURE_EDGE = 960
_QUALITY = 80
_TEMPLATE = "page.html"


def render_report(facts: Mapping[str, Any], judged: Judged) -> str:
    """The page. Raises DatasetError if an image of the holdout cannot be read any more."""
    by_name = {name: k for k, name in enumerate(judged.names)}
    worst = [
        {**one, "pictures": _pictures(judged, by_name[one["image"]], f"w{number}")}
        for number, one in enumerate(facts["worst"][:WORST])
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    environment.filters["points"] = lambda value: f"{value:.3f}"
    template = resources.files("finetune.report").joinpath(_TEMPLATE).read_text("utf-8")
    return environment.from_string(template).render(
        facts=facts,
        worst=worst,
        charts={name: Markup(text) for name, text in charts(facts).items()},  # noqa: S704  # ours, texts escaped
        plot_style=Markup(STYLE),  # noqa: S704
        found_score=FOUND_SCORE,
        legend=Markup(legend()),  # noqa: S704
        short=facts["recipe"].get("steps", LEARNT_STEPS) < LEARNT_STEPS,
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


def _pictures(judged: Judged, k: int, key: str) -> list[dict[str, Any]]:
    """One image twice: as it was labelled, and what the variant made of it. The JPEG is in the page once."""
    sample, truth = judged.samples[k], judged.truths[k]
    size = sample.width, sample.height
    shown = told_apart(truth, judged.variant[k].filter(FOUND_SCORE))
    photo, labels = _jpeg(sample.read_image()), labelled(truth)
    mine = picture(*size, shown, href=photo, key=key, alt=f"{judged.names[k]}: {tally(shown)}")
    theirs = picture(
        *size, labels, use=f"{key}-picture", key=f"{key}-l", alt=f"{judged.names[k]}: {len(labels)} labelled"
    )
    return [
        {"title": "the variant", "note": str(tally(shown)), "svg": Markup(mine)},  # noqa: S704  # ours, texts escaped
        {
            "title": "as labelled",
            "note": f"{len(labels)} package{'' if len(labels) == 1 else 's'}",
            "svg": Markup(theirs),  # noqa: S704
        },
    ]


def _jpeg(pixels: Image) -> str:
    target = io.BytesIO()
    image = PillowImage.fromarray(pixels)
    image.thumbnail((PICTURE_EDGE, PICTURE_EDGE))
    image.save(target, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()
