"""What floors and walls carry that is no package: painted lines, hazard tape, arrows, stains, doors, posters, pipes.

All of it is drawn into the flat texture, uint8 [T, T, 3], in place; the hall's perspective comes after.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from finetune.scenes.look import Look
from finetune.scenes.materials import grey, hue_colour, pick
from finetune.scenes.textures import WORDS, Image, TextureBank

Draw = Callable[[np.random.Generator, Look, TextureBank, Image], None]
YELLOW = (238.0, 196.0, 40.0)


def paint_colour(rng: np.random.Generator, look: Look) -> tuple[float, ...]:
    """Floor paint: yellow and white most of the time."""
    kind = rng.random()
    if kind < 0.45:
        return tuple(float(v) for v in np.array(YELLOW) * rng.uniform(0.7, 1.05))
    colour = grey(rng, 190, 245) if kind < 0.7 else hue_colour(rng, look, (0.5, 1.0), (0.35, 0.9))
    return tuple(float(v) for v in colour)


def _blend(before: Image, after: Image, rng: np.random.Generator) -> None:
    """Worn paint: `after` is drawn over a copy, then mixed into what was there."""
    worn = float(rng.uniform(0.45, 1.0))
    cv2.addWeighted(after, worn, before, 1 - worn, 0, dst=before)


def _stripes(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    """Lanes and bays: straight lines, parallel or as a rectangle."""
    n = picture.shape[0]
    drawn, colour = picture.copy(), paint_colour(rng, look)
    wide = int(rng.integers(5, 22))
    if rng.random() < 0.5:
        (x, y), (w, h) = rng.integers(0, n // 2, 2), rng.integers(n // 5, n // 2, 2)
        for k in range(int(rng.integers(1, 4))):
            at = (int(x + k * w), int(y))
            cv2.rectangle(drawn, at, (int(at[0] + w), int(y + h)), colour, wide)
    else:
        for _ in range(int(rng.integers(1, 4))):
            a, b = rng.integers(-n // 4, n + n // 4, (2, 2))
            if rng.random() < 0.6:
                b[0] = a[0]
            cv2.line(drawn, a.tolist(), b.tolist(), colour, wide)
    _blend(picture, drawn, rng)


def _hazard(rng: np.random.Generator, _look: Look, _bank: TextureBank, picture: Image) -> None:
    """Black and yellow (or red and white) diagonal tape along a line."""
    n = picture.shape[0]
    wide, start = int(rng.integers(10, 30)), int(rng.integers(0, n - 40))
    light, dark = (np.array(YELLOW), np.full(3, 25.0)) if rng.random() < 0.75 else (np.full(3, 230.0), [190, 40, 35])
    yy, xx = np.mgrid[0:wide, 0:n]
    band = np.where((((xx + yy) // max(6, wide)) % 2 == 0)[:, :, None], light, dark).astype(np.uint8)
    lane = picture if rng.random() < 0.5 else picture.transpose(1, 0, 2)
    lane[start : start + wide] = band
    if rng.random() < 0.4:
        end = min(n - wide, start + int(rng.integers(60, 300)))
        lane[end : end + wide] = band


def _arrow(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    n = picture.shape[0]
    drawn = picture.copy()
    a = rng.integers(40, n - 40, 2)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(40, 160)
    b = (a + reach * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    thick = int(rng.integers(6, 18))
    cv2.arrowedLine(drawn, a.tolist(), b.tolist(), paint_colour(rng, look), thick, cv2.LINE_AA, tipLength=0.35)
    _blend(picture, drawn, rng)


def _words(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    drawn = picture.copy()
    word = ("STOP", "P", "KEEP CLEAR", "EXIT", "ZONE 4", "A12", "B", "07", *WORDS)[int(rng.integers(8 + len(WORDS)))]
    at = (int(rng.integers(0, 300)), int(rng.integers(60, 480)))
    cv2.putText(drawn, word, at, int(rng.integers(0, 4)), float(rng.uniform(1, 4)), paint_colour(rng, look), 6)
    _blend(picture, drawn, rng)


def _zebra(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    drawn, colour = picture.copy(), paint_colour(rng, look)
    pitch, x, y = int(rng.integers(24, 60)), int(rng.integers(0, 300)), int(rng.integers(0, 380))
    deep = int(rng.integers(60, 200))
    for k in range(int(rng.integers(3, 9))):
        cv2.rectangle(drawn, (x, y + k * pitch), (x + deep, y + k * pitch + pitch // 2), colour, -1)
    _blend(picture, drawn, rng)


def _traces(rng: np.random.Generator, _look: Look, _bank: TextureBank, picture: Image) -> None:
    """Tyre marks, cracks and stains."""
    n = picture.shape[0]
    drawn = picture.copy()
    tone = float(rng.uniform(15, 90))
    for _ in range(int(rng.integers(1, 4))):
        points = np.cumsum(rng.normal(0, n / 8, (5, 2)), axis=0) + rng.integers(0, n, 2)
        cv2.polylines(drawn, [points.astype(np.int32)], False, (tone,) * 3, int(rng.integers(1, 12)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 4))):
        centre, axes = rng.integers(0, n, 2).tolist(), rng.integers(6, 60, 2).tolist()
        cv2.ellipse(drawn, centre, axes, float(rng.uniform(0, 180)), 0, 360, (tone,) * 3, -1, cv2.LINE_AA)
    cv2.addWeighted(drawn, 0.4, picture, 0.6, 0, dst=picture)


def _joints(rng: np.random.Generator, _look: Look, _bank: TextureBank, picture: Image) -> None:
    """Tiles, slabs, gratings and drains."""
    n = picture.shape[0]
    pitch, tone = int(rng.integers(16, 200)), int(rng.integers(20, 150))
    wide = max(1, pitch // 40)
    for at in range(int(rng.integers(0, pitch)), n, pitch):
        picture[at : at + wide] = tone
        picture[:, at : at + wide] = tone
    if rng.random() < 0.4:
        (x, y), (w, h) = rng.integers(0, n - 60, 2), rng.integers(20, 60, 2)
        picture[y : y + h, x : x + w] = int(rng.integers(20, 70))
        picture[y : y + h : 4, x : x + w] = int(rng.integers(90, 160))


FLOOR_MARKS: tuple[Draw, ...] = (_stripes, _stripes, _hazard, _arrow, _words, _zebra, _traces, _traces, _joints)


def mark_floor(rng: np.random.Generator, look: Look, bank: TextureBank, picture: Image) -> None:
    """None to four kinds of marks."""
    for _ in range(int(rng.integers(0, 5))):
        pick(rng, FLOOR_MARKS)(rng, look, bank, picture)


def _door(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    """A roll-up door, a door or a window, with its frame."""
    n = picture.shape[0]
    w, h = int(rng.integers(70, 240)), int(rng.integers(120, 330))
    x = int(rng.integers(0, n - w))
    y = n - h if rng.random() < 0.75 else int(rng.integers(0, n - h))
    colour = grey(rng, 30, 245) if rng.random() < 0.5 else hue_colour(rng, look, (0.2, 0.9), (0.3, 0.9))
    picture[y : y + h, x : x + w] = colour.astype(np.uint8)
    if rng.random() < 0.6:
        pitch = int(rng.integers(6, 40))
        picture[y : y + h : pitch, x : x + w] = (colour * 0.7).astype(np.uint8)
    frame = grey(rng, 20, 230).tolist()
    cv2.rectangle(picture, (x, y), (x + w, y + h), frame, int(rng.integers(3, 12)))


def _poster(rng: np.random.Generator, look: Look, bank: TextureBank, picture: Image) -> None:
    """Labels, notices and signs on the wall."""
    n = picture.shape[0]
    for _ in range(int(rng.integers(1, 6))):
        w, h = (int(v) for v in rng.integers(14, 90, 2))
        x, y = int(rng.integers(0, n - w)), int(rng.integers(n // 5, n - h))
        kind = rng.random()
        if kind < 0.6:
            picture[y : y + h, x : x + w] = cv2.resize(pick(rng, bank.label), (w, h), interpolation=cv2.INTER_LINEAR)
        else:
            colour = hue_colour(rng, look, (0.5, 1), (0.4, 0.95))
            picture[y : y + h, x : x + w] = colour.astype(np.uint8)
            ink = pick(rng, bank.ink[pick(rng, ("text", "arrows", "logo"))])
            ink = cv2.resize(ink, (w, h), interpolation=cv2.INTER_AREA)[:, :, None]
            region = picture[y : y + h, x : x + w]
            region[:] = (region * (1 - ink) + 245 * ink).astype(np.uint8)
        if rng.random() < 0.3:
            cv2.rectangle(picture, (x, y), (x + w, y + h), (20, 20, 20), 2)


def _pipes(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    """Pipes, cable trays and pillars from edge to edge."""
    n = picture.shape[0]
    for _ in range(int(rng.integers(1, 5))):
        lane = picture if rng.random() < 0.5 else picture.transpose(1, 0, 2)
        at, wide = int(rng.integers(0, n - 50)), int(rng.integers(3, 40))
        colour = grey(rng, 40, 220) if rng.random() < 0.6 else hue_colour(rng, look, (0.5, 1), (0.4, 0.95))
        across = 1 - 0.6 * np.linspace(-1, 1, wide)[:, None, None] ** 2
        lane[at : at + wide] = (colour * across).astype(np.uint8)


def _cabinets(rng: np.random.Generator, look: Look, _bank: TextureBank, picture: Image) -> None:
    """Machines and electric cabinets along the wall: panels with vents, lamps and buttons."""
    n = picture.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        w, h = int(rng.integers(50, 170)), int(rng.integers(90, 260))
        x, y = int(rng.integers(0, n - w)), n - h
        colour = grey(rng, 60, 215, 16)
        picture[y:, x : x + w] = colour.astype(np.uint8)
        cv2.rectangle(picture, (x, y), (x + w, n), (colour * 0.5).tolist(), 3)
        cv2.line(picture, (x + w // 2, y), (x + w // 2, n), (colour * 0.6).tolist(), 2)
        for k in range(int(rng.integers(0, 7))):
            cv2.line(picture, (x + 8, y + 20 + 6 * k), (x + w // 2 - 8, y + 20 + 6 * k), (colour * 0.5).tolist(), 2)
        for _lamp in range(int(rng.integers(0, 5))):
            at = (x + int(rng.integers(8, w - 8)), y + int(rng.integers(10, h - 10)))
            cv2.circle(picture, at, 4, hue_colour(rng, look, (0.7, 1), (0.6, 1)).tolist(), -1, cv2.LINE_AA)


WALL_MARKS: tuple[Draw, ...] = (_door, _door, _poster, _poster, _pipes, _cabinets, _hazard, _words)


def mark_wall(rng: np.random.Generator, look: Look, bank: TextureBank, picture: Image) -> None:
    """One to five kinds of what hangs and stands at walls."""
    for _ in range(int(rng.integers(1, 6))):
        pick(rng, WALL_MARKS)(rng, look, bank, picture)
