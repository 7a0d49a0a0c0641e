"""Pictures for people: instances drawn on images, and a page that puts truth, base and variant side by side.

The page is a folder without outside references: it opens from a disk, an artifact store or a mail attachment.
"""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from finetune.errors import DatasetError
from finetune.evaluation.evaluate import FOUND_SCORE, image_score, match
from serving.errors import ImageError
from serving.inference.preprocess import Image, decode_image
from serving.instances import Instances

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

_FILL = 0.38
_SIGN_SHARE = 1.6  # a sign may be this much wider than its instance
_PANEL = (640, 960)  # the long edge of a picture on the page: at least, at most
_SHEET_EDGE = 320
_SHEET_ROWS = 6
_GAP = 8
_MISSED, _FALSE = (255, 176, 0), (240, 40, 140)  # as in `finetune.report.picture_svg`
_INK, _PAPER = (22, 24, 29), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class OverlayRow:
    """One image of the page. `image` is a JPEG or PNG file, or uint8 [H, W, 3] RGB; a missing answer is None."""

    name: str
    image: Path | Image
    truth: Instances
    base: Instances | None = None
    variant: Instances | None = None


@dataclass(frozen=True, slots=True)
class _Panel:
    """A drawn picture with its heading and a line on how it went."""

    title: str
    note: str
    pixels: Image


# --- drawing ----------------------------------------------------------------------------------------------------------


def palette(count: int) -> list[Colour]:
    """`count` colours that are told apart: hues a golden angle apart, in three degrees of brightness."""
    colours = []
    for k in range(count):
        red, green, blue = colorsys.hls_to_rgb((0.58 + 0.61803 * k) % 1, (0.6, 0.5, 0.68)[k % 3], 0.9)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours


def draw_instances(
    image: Image,
    instances: Instances,
    *,
    colours: Sequence[Colour] | None = None,
    scores: bool = True,
    long_edge: int | None = None,
    false: Collection[int] = (),
    missed: Instances | None = None,
) -> Image:
    """A copy of `image` with each instance filled, outlined and named; uint8 [h, w, 3] RGB.

    `false` are the places of instances that are none: they are hatched. What was `missed` is drawn in dashes with a
    cross. `colours` has one colour per instance. With `long_edge` the picture is scaled first, so that lines and words
    stay crisp. Outlines and words carry their own dark edge and are legible on any background.
    """
    scale = 1.0 if long_edge is None else long_edge / max(image.shape[:2])
    width, height = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = np.asarray(cv2.resize(image, (width, height), interpolation=way) if scale != 1 else image.copy(), np.uint8)
    tones = list(colours) if colours is not None else palette(len(instances))
    masks = [_scaled(mask, width, height) for mask in instances.decode_masks()]
    stroke = max(1, round(max(width, height) / 450))
    # Large ones first: a small package on a large one keeps its own colour.
    order = sorted(range(len(masks)), key=lambda k: -int(masks[k].sum()))
    rows, columns = np.indices((height, width), sparse=True)
    hatch = (rows + columns) // (3 * stroke) % 3 == 0
    for k in order:
        tone = np.array(_FALSE if k in false else tones[k], np.float32)
        if k in false:
            canvas[masks[k] & hatch] = tone
            tones[k] = _FALSE
            continue
        canvas[masks[k]] = (canvas[masks[k]] * (1 - _FILL) + tone * _FILL).astype(np.uint8)
    for k in order:
        rings, _ = cv2.findContours(masks[k].view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, rings, -1, _INK, stroke + 2, cv2.LINE_AA)
        cv2.drawContours(canvas, rings, -1, tones[k], stroke, cv2.LINE_AA)
    for mask in missed.decode_masks() if missed is not None else ():
        _dashed(canvas, _scaled(mask, width, height), stroke)
    return _with_words(canvas, instances, masks, tones, scores)


def _dashed(canvas: Image, mask: npt.NDArray[np.bool_], stroke: int) -> None:
    """Draw the outline of what was missed in dashes, and a cross in its middle."""
    rings, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    dash = 6 * stroke
    for ring in rings:
        for at in range(0, len(ring), 2 * dash):
            for tone, wide in ((_INK, stroke + 2), (_MISSED, stroke)):
                cv2.polylines(canvas, [ring[at : at + dash]], False, tone, wide, cv2.LINE_AA)
    if rings:
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        arm, middle = max(3, min(w, h) // 6), (x + w // 2, y + h // 2)
        for tone, wide in ((_INK, stroke + 2), (_MISSED, stroke)):
            cv2.drawMarker(canvas, middle, tone, cv2.MARKER_TILTED_CROSS, 2 * arm, wide, cv2.LINE_AA)


def _scaled(mask: npt.NDArray[np.bool_], width: int, height: int) -> npt.NDArray[np.bool_]:
    if mask.shape == (height, width):
        return mask
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 0.5, np.bool_)


def _with_words(
    canvas: Image,
    instances: Instances,
    masks: Sequence[npt.NDArray[np.bool_]],
    tones: Sequence[Colour],
    scores: bool,
) -> Image:
    """`canvas` with a small sign per instance: its colour, its label and, with `scores`, its score in per cent."""
    picture = PillowImage.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    size = min(22, max(10, round(max(canvas.shape) / 42)))
    font = ImageFont.load_default(size)
    taken: list[tuple[int, int, int, int]] = []
    for k in sorted(range(len(masks)), key=lambda k: -float(instances.scores[k])):
        if not masks[k].any():
            continue
        text = f"{instances.labels[k]} {instances.scores[k]:.0%}" if scores else instances.labels[k]
        wide, tall = round(pen.textlength(text, font)) + size + 6, round(size * 1.45)
        spot = _place(masks[k], wide, tall, canvas.shape[1], canvas.shape[0], taken)
        if spot is None:
            continue
        x, y = spot
        taken.append((x, y, x + wide, y + tall))
        pen.rounded_rectangle((x, y, x + wide, y + tall), radius=tall // 4, fill=_INK)
        pen.rounded_rectangle((x + 3, y + 3, x + 3 + size // 2, y + tall - 3), radius=2, fill=tones[k])
        pen.text((x + size // 2 + 8, y + tall / 2), text, fill=_PAPER, font=font, anchor="lm")
    return np.array(picture, np.uint8)


def _place(
    mask: npt.NDArray[np.bool_],
    wide: int,
    tall: int,
    width: int,
    height: int,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int] | None:
    """Top left corner of a sign of `wide` x `tall` pixels on or at its mask, clear of the other signs.

    None where there is no such place, or where the sign would hide the instance that it names.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    if wide > _SIGN_SHARE * (right - left + 1) and tall * 2 > bottom - top:
        return None
    middle = (left + right - wide) // 2
    spots = [(middle, (top + bottom - tall) // 2), (middle, top + 3), (middle, bottom - tall - 3), (left, top - tall)]
    for x0, y0 in spots:
        x, y = min(max(0, x0), max(0, width - wide)), min(max(0, y0), max(0, height - tall))
        if all(x + wide <= a or c <= x or y + tall <= b or d <= y for a, b, c, d in taken):
            return x, y
    return None


# --- the page ---------------------------------------------------------------------------------------------------------


def write_overlay_page(
    folder: Path,
    rows: Sequence[OverlayRow],
    summary: Mapping[str, str],
    title: str,
    *,
    min_score: float = FOUND_SCORE,
    charts: Mapping[str, str] | None = None,
    titles: tuple[str, str] = ("base", "variant"),
) -> Path:
    """Write `index.html`, one JPEG per picture and `contact_sheet.png` (the first six rows) to `folder`.

    `summary` is the table on top, a name and a value per line; `charts` are SVG texts of our own making under their
    headings; `titles` name the two answers. Answers below `min_score` are not drawn. Returns the path of
    `index.html`. Raises DatasetError if an image cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    sheet: list[list[_Panel]] = []
    for number, row in enumerate(rows):
        image = _pixels(row)
        pictures: list[dict[str, object]] = []
        for panel in _panels(row, image, min_score, min(_PANEL[1], max(_PANEL[0], *image.shape[:2])), titles):
            file = f"{number:04d}-{panel.title.replace(' ', '-')}.jpg"
            PillowImage.fromarray(panel.pixels).save(folder / file, quality=88)
            height, width = panel.pixels.shape[:2]
            pictures.append({"title": panel.title, "note": panel.note, "file": file, "width": width, "height": height})
        entries.append({"name": row.name, "pictures": pictures})
        if number < _SHEET_ROWS:
            sheet.append(list(_panels(row, image, min_score, _SHEET_EDGE, titles)))
    if sheet:
        PillowImage.fromarray(_contact_sheet(sheet)).save(folder / "contact_sheet.png", optimize=True)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_TEMPLATE).render(
        title=title,
        summary=summary,
        rows=entries,
        charts={k: Markup(v) for k, v in (charts or {}).items()},  # noqa: S704
    )
    (folder / "index.html").write_text(page, "utf-8")
    return folder / "index.html"


def _pixels(row: OverlayRow) -> Image:
    if not isinstance(row.image, Path):
        return row.image
    try:
        return decode_image(row.image.read_bytes())
    except (OSError, ImageError) as error:
        raise DatasetError(str(error), path=row.image) from error


def _panels(
    row: OverlayRow, image: Image, min_score: float, long_edge: int, titles: tuple[str, str]
) -> Iterator[_Panel]:
    """Truth, base and variant of one image. An answer that found a package of the truth shares its colour."""
    count = len(row.truth)
    tones = palette(count)
    note = f"{count} instance{'' if count == 1 else 's'}"
    yield _Panel(
        "ground truth", note, draw_instances(image, row.truth, colours=tones, scores=False, long_edge=long_edge)
    )
    for title, answer in zip(titles, (row.base, row.variant), strict=True):
        if answer is None:
            continue
        shown = answer.filter(min_score)
        colours = palette(count + len(shown))[count:]
        pairs = list(match(row.truth, shown))
        for theirs, mine in pairs:
            colours[mine] = tones[theirs]
        found, right = {theirs for theirs, _ in pairs}, {mine for _, mine in pairs}
        false = [k for k in range(len(shown)) if k not in right]
        missed = row.truth.take([k for k in range(count) if k not in found])
        result = image_score(row.name, row.truth, shown, min_score)
        note = f"{result.found} found, {result.missed} missed, {result.extra} extra"
        drawn = draw_instances(image, shown, colours=colours, long_edge=long_edge, false=false, missed=missed)
        yield _Panel(title, note, drawn)


def _contact_sheet(rows: Sequence[Sequence[_Panel]]) -> Image:
    """All panels on one white sheet, a row each, with the headings above the columns; uint8 [h, w, 3] RGB."""
    columns = max(len(row) for row in rows)
    heights = [max(panel.pixels.shape[0] for panel in row) for row in rows]
    head = 28
    shape = (head + sum(heights) + _GAP * len(rows), columns * (_SHEET_EDGE + _GAP) + _GAP)
    sheet = PillowImage.new("RGB", shape[::-1], _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, panel in enumerate(next(row for row in rows if len(row) == columns)):
        pen.text((_GAP + column * (_SHEET_EDGE + _GAP), head // 2), panel.title, fill=_INK, font=font, anchor="lm")
    y = head
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(PillowImage.fromarray(panel.pixels), (_GAP + column * (_SHEET_EDGE + _GAP), y))
        y += height + _GAP
    return np.array(sheet, np.uint8)


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #16181d; --soft: #5a6270; --paper: #fff; --card: #f4f5f7; --line: #d9dde3;
  --accent: #0b63ce; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceef2; --soft: #a2abb9; --paper: #14161a; --card: #1e2127; --line: #343a44; --accent: #7db7ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1720px; padding: 24px clamp(12px, 3vw, 40px); color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: clamp(1.35rem, 4vw, 2rem); line-height: 1.2; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 8px; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 0 0 28px; max-width: 100%; }
th, td { padding: 6px 14px 6px 0; text-align: left; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); }
td { font-variant-numeric: tabular-nums; }
section { margin: 0 0 20px; padding: 14px; border: 1px solid var(--line); border-radius: 12px;
  background: var(--card); }
.pictures { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; }
figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; font-size: .875rem;
  margin-bottom: 4px; }
figcaption span { color: var(--soft); }
figure a { display: block; border-radius: 8px; }
figure a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
img { display: block; width: 100%; height: auto; border-radius: 8px; }
p { color: var(--soft); }
.chart { background: #fff; border-radius: 8px; padding: 8px; width: fit-content; max-width: 100%; }
.chart svg { max-width: 100%; height: auto; display: block; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if summary %}
<table>
<caption hidden>Summary</caption>
{% for name, value in summary.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% for name, chart in charts.items() %}
<section>
<h2>{{ name }}</h2>
<div class="chart" role="img" aria-label="{{ name }}">{{ chart }}</div>
</section>
{% endfor %}
{% if rows %}
<p>What an answer found has the colour of its package. What it missed is dashed, a false find is hatched.</p>
{% endif %}
{% for row in rows %}
<section>
<h2>{{ row.name }}</h2>
<div class="pictures">
{% for picture in row.pictures %}
<figure>
<figcaption><b>{{ picture.title }}</b> <span>{{ picture.note }}</span></figcaption>
<a href="{{ picture.file }}"><img src="{{ picture.file }}" width="{{ picture.width }}" height="{{ picture.height }}"
 loading="lazy" alt="{{ row.name }}, {{ picture.title }}: {{ picture.note }}"></a>
</figure>
{% endfor %}
</div>
</section>
{% else %}
<p>No images to show.</p>
{% endfor %}
</main>
</body>
</html>
"""
