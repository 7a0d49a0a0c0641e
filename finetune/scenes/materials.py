"""Skins: the pictures on the faces of packages, drawn from a look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array
from finetune.scenes.face_occluders import FaceCuts
from finetune.scenes.look import Look
from finetune.scenes.packages import TOP
from finetune.scenes.textures import FACE, UNIT, Float, Image, TextureBank

Key = TypeVar("Key")
Number = TypeVar("Number", bound=np.generic)


def choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One key, drawn in proportion to its weight."""
    keys = list(weights)
    share = np.fromiter(weights.values(), float)
    return keys[int(rng.choice(len(keys), p=share / share.sum()))]


def pick(rng: np.random.Generator, bank: tuple[Key, ...]) -> Key:
    """One element, all equally likely."""
    return bank[int(rng.integers(len(bank)))]


def hue_colour(
    rng: np.random.Generator, look: Look, saturation: tuple[float, float], value: tuple[float, float]
) -> Array:
    """An RGB colour [3] (0-255) whose hue lies in the look's ranges; saturation and value are 0 to 1."""
    low, high = pick(rng, look.hues)
    hue = rng.uniform(low, high) / 60.0
    s, v = rng.uniform(*saturation), rng.uniform(*value)
    ramp = np.abs((np.array([hue + 0.0, hue + 4.0, hue + 2.0]) % 6) - 3) - 1
    return 255 * v * (1 - s + s * np.clip(ramp, 0, 1))


def grey(rng: np.random.Generator, low: float, high: float, spread: float = 8.0) -> Array:
    """A nearly grey RGB colour [3] between two levels (0-255)."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-spread, spread, 3), 0, 255)


def tint(grain: Image, colour: Array) -> Image:
    """Grain [T, T, 3] in a colour [3]; uint8 [T, T, 3]."""
    return cv2.multiply(grain, (float(colour[0]), float(colour[1]), float(colour[2]), 0.0), scale=1 / UNIT)


def relief(detail: Float, colour: Array) -> Image:
    """Relief [T, T] (1 = flat) in a colour [3]; uint8 [T, T, 3]."""
    return np.clip(detail[:, :, None] * colour.astype(np.float32), 0, 255).astype(np.uint8)


def turned(rng: np.random.Generator, detail: NDArray[Number]) -> NDArray[Number]:
    """The same texture in one of its eight orientations, so that a small bank goes far."""
    turn = int(rng.integers(8))
    rotated = np.rot90(detail, turn % 4)
    return np.ascontiguousarray(rotated[:, ::-1] if turn >= 4 else rotated)


def box_colour(rng: np.random.Generator, look: Look, material: str) -> Array:
    """The ground colour of a box of this material."""
    if material == "kraft":
        return np.array([188.0, 148.0, 104.0]) * rng.uniform(0.6, 1.25) + rng.uniform(-14, 14, 3)
    if material == "plywood":
        return np.array([222.0, 186.0, 118.0]) * rng.uniform(0.7, 1.12) + rng.uniform(-10, 10, 3)
    if material == "white":
        return grey(rng, 175, 245, 10)
    if material == "dark":
        return grey(rng, 12, 60, 10)
    return hue_colour(rng, look, (0.25, 0.9), (0.35, 0.95))


class BoxSkins:
    """Textures for the faces of one box: grain, edges, tape, straps, prints and labels. A face is drawn when
    asked for, since a camera sees three of six at most."""

    def __init__(self, rng: np.random.Generator, look: Look, bank: TextureBank, material: str, colour: Array) -> None:
        self._rng, self._bank, self._colour = rng, bank, colour
        self._wood = material == "plywood"
        self._ink = pick(rng, bank.ink[pick(rng, look.prints)])[:, :, None]
        self._ink_colour = hue_colour(rng, look, (0.3, 1.0), (0.1, 0.7)) if rng.random() < 0.5 else grey(rng, 15, 80)
        self._printed = rng.random() < (0.85 if material == "printed" else 0.5)
        self._labelled = (
            set(rng.choice(5, int(rng.integers(1, 3)), False).tolist()) if rng.random() < look.labels else set()
        )
        self._tape_tone = float(rng.uniform(0.75, 1.3))
        self._tape_across, self._taped = rng.random() < 0.5, rng.random() < 0.6
        self._straps = rng.uniform(0.2, 0.8, 2) if rng.random() < 0.14 else np.empty(0)
        self._strap_colour = grey(rng, 10, 60) if rng.random() < 0.6 else hue_colour(rng, look, (0.3, 0.9), (0.3, 0.9))
        self._cuts = FaceCuts(rng, bank, colour) if look.cuts and rng.random() < look.cuts else None

    def face(self, face: int) -> Image:
        """Texture of one face (index into `packages.FACES`); uint8 [FACE, FACE, 3]."""
        rng, colour = self._rng, self._colour
        grain = turned(rng, pick(rng, self._bank.wood if self._wood else self._bank.fibre))
        skin = tint(grain, colour * rng.uniform(0.94, 1.06))
        top = face == TOP
        if self._printed and (not top or rng.random() < 0.4):
            alpha = self._ink * np.float32(rng.uniform(0.4, 0.9))
            skin = (skin * (1 - alpha) + self._ink_colour.astype(np.float32) * alpha).astype(np.uint8)
        middle, half = FACE // 2, int(FACE * 0.05)
        if not self._wood:
            self._seal(skin, middle, half, top)
        if not top and rng.random() < 0.15:  # a joint or fold on the side
            skin[int(rng.integers(4, middle))] = (colour * 0.75).clip(0, 255).astype(np.uint8)
        for share in self._straps:
            column = int(share * (FACE - 3))
            skin[:, column : column + 2] = self._strap_colour.astype(np.uint8)
        if face in self._labelled:
            decal = pick(rng, self._bank.label)
            width, height = int(rng.integers(14, 44)), int(rng.integers(14, 40))
            x, y = int(rng.integers(2, FACE - width - 1)), int(rng.integers(2, FACE - height - 1))
            skin[y : y + height, x : x + width] = cv2.resize(decal, (width, height), interpolation=cv2.INTER_AREA)
        if self._cuts is not None:
            self._cuts.lay(skin, face)
        edge = (colour * rng.uniform(0.6, 1.2)).clip(0, 255).tolist()
        cv2.rectangle(skin, (0, 0), (FACE - 1, FACE - 1), edge, 1)
        return skin

    def _seal(self, skin: Image, middle: int, half: int, top: bool) -> None:
        """The slit between the flaps on top, and the tape over it, which comes over the edge of the sides."""
        lane = skin if self._tape_across else skin.transpose(1, 0, 2)
        if self._taped and (top or self._rng.random() < 0.35):
            band = lane[middle - half : middle + half] if top else skin[: FACE // 6, middle - half : middle + half]
            band[:] = np.clip(band * self._tape_tone + 8, 0, 255).astype(np.uint8)
        if top:
            lane[middle] = (lane[middle] * 0.6).astype(np.uint8)


def soft_skin(rng: np.random.Generator, look: Look, bank: TextureBank, label: str) -> Image:
    """Texture of a soft package (padded_mailer, poly_bag, sack, item), relief included."""
    if label == "poly_bag":
        kind = rng.random()
        colour = (
            grey(rng, 190, 245)
            if kind < 0.35
            else grey(rng, 14, 55, 6)
            if kind < 0.6
            else hue_colour(rng, look, (0.1, 0.9), (0.4, 0.95))
        )
        detail = turned(rng, pick(rng, bank.film))
    elif label == "padded_mailer":
        kind = rng.random()
        kraft = np.array([196.0, 158.0, 108.0]) * rng.uniform(0.75, 1.2)
        colour = (
            kraft
            if kind < 0.5
            else grey(rng, 200, 250)
            if kind < 0.75
            else hue_colour(rng, look, (0.1, 0.8), (0.5, 0.95))
        )
        detail = turned(rng, pick(rng, bank.paper))
    elif label == "sack":
        colour = (
            grey(rng, 150, 240, 14) if rng.random() < 0.6 else np.array([190.0, 160.0, 115.0]) * rng.uniform(0.7, 1.1)
        )
        detail = turned(rng, pick(rng, bank.film)) * 0.6 + 0.4
    else:
        colour = hue_colour(rng, look, (0.2, 1.0), (0.25, 0.95))
        detail = turned(rng, pick(rng, bank.paper))
    ramp = np.linspace(-1, 1, FACE, dtype=np.float32)
    dome = 1.12 - 0.32 * np.maximum(np.abs(ramp)[:, None], np.abs(ramp)[None, :]) ** 3 - 0.08 * ramp[:, None]
    skin = relief(detail * dome, colour)
    if rng.random() < (0.45 if label != "item" else 0.8):
        ink = pick(rng, bank.ink[pick(rng, look.prints)])[:, :, None] * rng.uniform(0.3, 0.9)
        tone = hue_colour(rng, look, (0.2, 1.0), (0.1, 0.8))
        skin = (skin * (1 - ink) + tone * ink * dome[:, :, None]).clip(0, 255).astype(np.uint8)
    if label != "item" and rng.random() < look.labels:
        width, height = int(rng.integers(24, 60)), int(rng.integers(20, 50))
        x, y = int(rng.integers(6, FACE - width - 5)), int(rng.integers(6, FACE - height - 5))
        decal = cv2.resize(pick(rng, bank.label), (width, height), interpolation=cv2.INTER_AREA)
        folds = (detail[y : y + height, x : x + width, None] * 0.5 + 0.5).clip(0, 1.1)
        skin[y : y + height, x : x + width] = (decal * folds).clip(0, 255).astype(np.uint8)
    if label == "padded_mailer":  # the folded flap
        y = int(rng.integers(10, 26))
        skin[y : y + 2] = (skin[y : y + 2] * 0.72).astype(np.uint8)
    return skin


def soft_outline(rng: np.random.Generator, label: str) -> Array:
    """Outline [N, 2] in the unit square of a soft package."""
    corners = {"padded_mailer": 9.0, "poly_bag": 5.0, "sack": 3.5}.get(label, float(rng.uniform(1.6, 6)))
    ragged = {"padded_mailer": 0.02, "poly_bag": 0.06, "sack": 0.05}.get(label, 0.04)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    radius = (np.abs(c) ** corners + np.abs(s) ** corners) ** (-1 / corners)
    for wave in range(2, 7):
        radius = radius * (
            1 + ragged / np.sqrt(wave) * np.sin(wave * angle + rng.uniform(0, 2 * np.pi)) * rng.uniform(0, 1.5)
        )
    outline = np.stack([radius * c, radius * s], axis=1)
    return outline / np.abs(outline).max()


def round_skin(rng: np.random.Generator, look: Look, bank: TextureBank) -> tuple[Image, Array]:
    """Texture of a cylinder's side (columns run across it, so they carry the round shading) and the cap's colour."""
    kind = rng.random()
    if kind < 0.4:
        colour = np.array([186.0, 148.0, 104.0]) * rng.uniform(0.7, 1.2)
    elif kind < 0.65:
        colour = grey(rng, 170, 245)
    else:
        colour = hue_colour(rng, look, (0.2, 0.95), (0.3, 0.95))
    across = np.linspace(-1, 1, FACE, dtype=np.float32)
    lit = rng.uniform(-0.4, 0.4)
    round_shade = 0.45 + 0.65 * np.sqrt(np.clip(1 - (across - lit) ** 2 / (1 + abs(lit)) ** 2, 0, 1))
    skin = tint(turned(rng, pick(rng, bank.fibre)), colour)
    if rng.random() < 0.5:
        ink = pick(rng, bank.ink[pick(rng, look.prints)])[:, :, None] * rng.uniform(0.4, 0.9)
        skin = (skin * (1 - ink) + hue_colour(rng, look, (0.2, 1), (0.1, 0.9)) * ink).astype(np.uint8)
    if rng.random() < look.labels:
        y, height = int(rng.integers(8, 50)), int(rng.integers(16, 36))
        skin[y : y + height, 28:70] = cv2.resize(pick(rng, bank.label), (42, height), interpolation=cv2.INTER_AREA)
    skin = (skin * round_shade[None, :, None]).clip(0, 255).astype(np.uint8)
    cap = colour * rng.uniform(0.6, 1.1) if rng.random() < 0.6 else grey(rng, 120, 240)
    return skin, cap
