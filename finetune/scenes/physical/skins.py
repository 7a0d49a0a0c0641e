"""Textures of packages for the physical tiers: the fast tier's skins at a finer grain, laid out for the meshes' UV
maps, with labels sharp enough to be read as such.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from finetune.scenes.look import Look
from finetune.scenes.materials import BoxSkins, grey, hue_colour, pick, round_skin, soft_skin
from finetune.scenes.physical.shapes import ATLAS
from finetune.scenes.textures import WORDS, Float, Image, TextureBank, smooth_noise

CELL = 144  # pixels: side of a face in the atlas of a box
SOFT = 192  # pixels: side of the texture of a soft or round package
NAMES = ("J. MOREAU", "A. KOWALSKI", "DEPOT 14", "M. LINDQVIST", "BAY C-07", "R. OKAFOR", "S. TANAKA", "GATE 3")


def finer(rng: np.random.Generator, skin: Image, size: tuple[int, int], grain: float) -> Image:
    """`skin` at another size (width, height) with fine grain on it."""
    big = cv2.resize(skin, size, interpolation=cv2.INTER_CUBIC)
    if grain <= 0:
        return big
    noise = rng.normal(1.0, grain, (size[1], size[0])).astype(np.float32)
    noise = 0.5 * noise + 0.5 * cv2.blur(noise, (5, 1))
    return np.clip(big * noise[:, :, None], 0, 255).astype(np.uint8)


def shipping_label(rng: np.random.Generator, width: int, height: int) -> Image:
    """Paper with an address, a routing code, lines and a bar code; uint8 [height, width, 3]."""
    scale = 3  # drawn large and shrunk: small print stays legible as print
    w, h = width * scale, height * scale
    paper = rng.uniform(215, 252)
    tone = (paper, paper, paper - rng.uniform(0, 8))
    if rng.random() < 0.12:
        tone = (250.0, rng.uniform(205, 235), rng.uniform(60, 130))
    face = np.full((h, w, 3), tone, np.uint8)
    ink = tuple(int(v) for v in grey(rng, 12, 60, 6))
    if rng.random() < 0.4:  # a coloured head with the carrier's name
        head = tuple(int(v) for v in rng.uniform(20, 220, 3))
        cv2.rectangle(face, (0, 0), (w, h // 6), head, -1)
    y = int(h * 0.22)
    for text in (WORDS[int(rng.integers(len(WORDS)))], pick(rng, NAMES), f"{int(rng.integers(10, 99))} DOCK RD"):
        cv2.putText(face, text, (int(w * 0.06), y), 0, h / 260, ink, max(1, h // 130), cv2.LINE_AA)
        y += int(h * 0.11)
    cv2.putText(
        face,
        f"{chr(65 + int(rng.integers(26)))}{int(rng.integers(10, 99))}",
        (int(w * 0.62), int(h * 0.42)),
        0,
        h / 120,
        ink,
        max(2, h // 60),
        cv2.LINE_AA,
    )
    cv2.line(face, (0, int(h * 0.52)), (w, int(h * 0.52)), ink, max(1, h // 100))
    top, low = int(h * 0.58), int(h * 0.88)
    if rng.random() < 0.75:
        x = int(w * 0.08)
        while x < w * 0.92:
            bar = int(rng.integers(1, 4)) * max(1, w // 110)
            cv2.rectangle(face, (x, top), (min(x + bar, int(w * 0.92)), low), ink, -1)
            x += bar + int(rng.integers(1, 4)) * max(1, w // 110)
    else:
        side = min(low - top, int(w * 0.8))
        matrix = cv2.resize(
            rng.integers(0, 2, (12, 12)).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST
        )
        face[top : top + side, int(w * 0.1) : int(w * 0.1) + side][matrix > 0] = ink
    return cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA)


def paste(rng: np.random.Generator, skin: Image, label: Image, folds: Float | None = None) -> None:
    """Stick a label somewhere on a skin (in place), turned a little, with the skin's folds in its shading."""
    height, width = skin.shape[:2]
    h, w = label.shape[:2]
    angle = float(rng.normal(0, 6) + 90 * int(rng.integers(4)))
    x, y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    matrix[:, 2] += (x - w / 2, y - h / 2)
    shade = label if folds is None else (label * folds).clip(0, 255).astype(np.uint8)
    laid = cv2.warpAffine(shade, matrix, (width, height), flags=cv2.INTER_LINEAR)
    alpha = cv2.warpAffine(np.full((h, w), 255, np.uint8), matrix, (width, height))[:, :, None] / np.float32(255)
    skin[:] = (skin * (1 - alpha) + laid * alpha).astype(np.uint8)


def box_atlas(
    rng: np.random.Generator, look: Look, bank: TextureBank, style: tuple[str, np.ndarray], half: np.ndarray
) -> Image:
    """The six faces of one box in the layout of `shapes.box`; uint8 [2 CELL, 3 CELL, 3]."""
    material, colour = style
    # Labels of the fast tier are 48 pixels wide; here they are drawn at the size at which they are stuck on.
    skins = BoxSkins(rng, replace(look, labels=0.0), bank, material, colour)
    atlas = np.empty((ATLAS[1] * CELL, ATLAS[0] * CELL, 3), np.uint8)
    labelled = set(rng.choice(5, int(rng.integers(1, 3)), False).tolist()) if rng.random() < look.labels else set()
    reach = ((0, 2), (0, 2), (1, 2), (1, 2), (0, 1), (0, 1))
    for face in range(6):
        skin = finer(rng, skins.face(face), (CELL, CELL), 0.05 if material != "dark" else 0.1)
        if material != "plywood":
            _wear(rng, skin)
        if face in labelled:
            across, along = (2 * float(half[k]) for k in reach[face])
            wide = rng.uniform(0.1, 0.19)  # metres
            tall = wide * rng.uniform(0.55, 1.0)
            # Pixels differ in size across and along a face; a label keeps its own proportions on the box.
            w, h = (int(np.clip(m / s * CELL, 16, 0.85 * CELL)) for m, s in ((wide, across), (tall, along)))
            label = shipping_label(rng, w, h)
            x, y = int(rng.uniform(0.03, 0.97 - w / CELL) * CELL), int(rng.uniform(0.03, 0.97 - h / CELL) * CELL)
            skin[y : y + h, x : x + w] = label
            if rng.random() < 0.3:  # a pouch of clear film around it
                cv2.rectangle(skin, (x - 3, y - 3), (x + w + 2, y + h + 2), (235, 235, 235), 1)
        row, column = divmod(face, ATLAS[0])
        atlas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = skin
    return atlas


def _wear(rng: np.random.Generator, skin: Image) -> None:
    """Scuffs, stains and edges that handling has darkened or rubbed pale (in place)."""
    size = skin.shape[0]
    field = 1 + 0.05 * smooth_noise(rng, size, 5)
    ramp = np.abs(np.linspace(-1, 1, size, dtype=np.float32))
    edge = np.maximum(ramp[:, None], ramp[None, :]) ** 24
    field = field * (1 + rng.uniform(-0.22, 0.2) * edge)
    for _ in range(int(rng.integers(0, 4))):
        p, q = rng.integers(0, size, 2).tolist(), rng.integers(0, size, 2).tolist()
        lane = np.zeros((size, size), np.float32)
        cv2.line(lane, p, q, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA)
        field = field + lane * rng.uniform(-0.12, 0.14)
    skin[:] = np.clip(skin * field[:, :, None], 0, 255).astype(np.uint8)


def soft_texture(
    rng: np.random.Generator, look: Look, bank: TextureBank, label: str, *, ground: np.ndarray | None = None
) -> Image:
    """Texture of a soft package; uint8 [SOFT, SOFT, 3]. `ground` [3] (0-255) replaces the colour that the look
    draws."""
    plain = replace(look, labels=0.0)
    skin = finer(rng, soft_skin(rng, plain, bank, label), (SOFT, SOFT), 0.02)
    if ground is not None:
        level = skin.mean(axis=2, keepdims=True) / max(float(skin.mean()), 1.0)
        skin = np.clip(level * ground.astype(np.float32), 0, 255).astype(np.uint8)
        if rng.random() < 0.35:
            ink = cv2.resize(pick(rng, bank.ink[pick(rng, look.prints)]), (SOFT, SOFT))[:, :, None]
            tone = hue_colour(rng, look, (0.2, 1.0), (0.3, 0.9)) if ground.mean() > 60 else grey(rng, 150, 230)
            skin = (skin * (1 - ink * 0.8) + tone * ink * 0.8).clip(0, 255).astype(np.uint8)
    if label != "item" and rng.random() < look.labels:
        w = int(rng.integers(50, 96))
        h = int(w * rng.uniform(0.55, 1.0))
        folds = 1 + 0.06 * smooth_noise(rng, 96, 6)[:h, :w, None]
        paste(rng, skin, shipping_label(rng, w, h), folds)
    return skin


def lathe_texture(rng: np.random.Generator, look: Look, bank: TextureBank) -> Image:
    """Texture of a turned body in the layout of `shapes.lathe`; uint8 [SOFT, 4/3 SOFT, 3]."""
    skin, cap = round_skin(rng, replace(look, labels=0.0), bank)
    middle = skin[:, skin.shape[1] // 3 : 2 * skin.shape[1] // 3]  # without the shading of the round side
    wide = finer(rng, np.concatenate([middle, middle[:, ::-1]] * 2, 1), (SOFT, SOFT), 0.03)
    if rng.random() < look.labels:
        w = int(rng.integers(56, 110))
        paste(rng, wide, shipping_label(rng, w, int(w * rng.uniform(0.5, 0.9))))
    ends = np.empty((SOFT, SOFT // 3, 3), np.uint8)
    ends[:] = np.clip(cap, 0, 255)
    centre = (SOFT // 6, SOFT // 2)
    kind = rng.random()
    dark = tuple(int(v) for v in cap * rng.uniform(0.2, 0.6))
    if kind < 0.45:  # a core, as rolls and tubes have one
        cv2.ellipse(ends, centre, (SOFT // 18, SOFT // 6), 0, 0, 360, dark, -1, cv2.LINE_AA)
    elif kind < 0.8:  # a rim
        cv2.ellipse(ends, centre, (int(SOFT / 7), int(SOFT * 0.41)), 0, 0, 360, dark, 2, cv2.LINE_AA)
    return np.concatenate([wide, finer(rng, ends, (SOFT // 3, SOFT), 0.03)], 1)
