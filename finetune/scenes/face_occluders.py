"""What cuts the face of a box without ending the box: lids, panels, straps and film that stops half-way.

A base that has not seen these outlines a tall crate as a stack of smaller boxes.
"""

from __future__ import annotations

import cv2
import numpy as np

from finetune.scenes.camera import Array
from finetune.scenes.packages import TOP, UNDERSIDE
from finetune.scenes.textures import FACE, Float, Image, TextureBank


class FaceCuts:
    """One box's cuts, the same on all of its sides: drawn once, then laid over each face."""

    def __init__(self, rng: np.random.Generator, bank: TextureBank, colour: Array) -> None:
        self._rng, self._bank, self._colour = rng, bank, colour
        kinds = rng.random(4)
        self._lid = int(FACE * rng.uniform(0.06, 0.4)) if kinds[0] < 0.4 else 0
        self._lid_tone = float(rng.uniform(0.72, 1.2))
        self._panelled = set(rng.choice(4, int(rng.integers(1, 4)), False).tolist()) if kinds[1] < 0.45 else set()
        self._panel_tone = self._tone() * rng.uniform(0.75, 1.2)
        self._upright = np.sort(rng.uniform(0.08, 0.92, int(rng.integers(1, 4)))) if kinds[2] < 0.35 else np.empty(0)
        self._around = rng.uniform(0.08, 0.92, int(rng.integers(0, 3))) if kinds[2] < 0.35 else np.empty(0)
        self._strap = rng.uniform(8, 70, 3) if rng.random() < 0.75 else rng.uniform(120, 240, 3)
        self._strap_width = int(rng.integers(1, 4))
        self._film = np.sort(rng.uniform(0.0, 1.0, 2)) if kinds[3] < 0.4 else np.empty(0)
        if len(self._film) and rng.random() < 0.7:  # film is wound from the pallet up
            self._film = np.array([rng.uniform(0.2, 0.8), 1.0])
        self._veil = float(rng.uniform(0.1, 0.45))

    def _tone(self) -> Array:
        """A panel's colour: the box's own ground, darker or lighter, or paper, or any other."""
        rng, kind = self._rng, self._rng.random()
        if kind < 0.45:
            return self._colour * rng.uniform(0.6, 1.35)
        return np.full(3, rng.uniform(190, 250)) if kind < 0.7 else rng.uniform(20, 240, 3)

    def lay(self, skin: Image, face: int) -> None:
        """Draw the cuts over one face's texture, uint8 [FACE, FACE, 3], in place. Rows run from its top edge down."""
        if face == UNDERSIDE:
            return
        if face != TOP:
            if face in self._panelled:
                self._panel(skin)
            if self._lid:
                skin[: self._lid] = np.clip(skin[: self._lid] * self._lid_tone, 0, 255).astype(np.uint8)
                edge = slice(self._lid, self._lid + int(self._rng.integers(1, 3)))
                skin[edge] = (skin[edge] * 0.55).astype(np.uint8)  # the lid's shadow on what it is slipped over
            for share in self._around:
                row = int(share * (FACE - 4))
                skin[row : row + self._strap_width] = self._strap.astype(np.uint8)
        for share in self._upright:
            column = int(share * (FACE - 4))
            skin[:, column : column + self._strap_width] = self._strap.astype(np.uint8)
        if len(self._film) and face != TOP:
            self._wind(skin)

    def _panel(self, skin: Image) -> None:
        """A large sheet, sign or picture: up to nearly all of the face, framed or not."""
        rng = self._rng
        width, height = (int(FACE * v) for v in rng.uniform(0.3, 0.94, 2))
        if rng.random() < 0.3:  # from edge to edge
            width = FACE
        x, y = int(rng.integers(0, FACE - width + 1)), int(rng.integers(0, FACE - height + 1))
        region = skin[y : y + height, x : x + width]
        grain = region.astype(np.float32) / np.maximum(self._colour.astype(np.float32), 1)
        region[:] = np.clip(self._panel_tone * (0.6 + 0.4 * grain.clip(0.5, 1.4)), 0, 255).astype(np.uint8)
        if rng.random() < 0.5:
            ink = rng.uniform(10, 240, 3).tolist()
            cv2.rectangle(skin, (x, y), (x + width - 1, y + height - 1), ink, int(rng.integers(1, 3)))
        if rng.random() < 0.5:
            decal = self._bank.label[int(rng.integers(len(self._bank.label)))]
            w, h = max(8, int(width * rng.uniform(0.3, 0.9))), max(8, int(height * rng.uniform(0.2, 0.8)))
            u, v = x + (width - w) // 2, y + int(rng.integers(0, height - h + 1))
            skin[v : v + h, u : u + w] = cv2.resize(decal, (w, h), interpolation=cv2.INTER_AREA)

    def _wind(self, skin: Image) -> None:
        """Clear film over a band of the face: it veils what is under it, glints, and ends in a bright edge."""
        first, last = (int(v * FACE) for v in self._film)
        if last - first < 4:
            return
        creases: Float = self._bank.film[int(self._rng.integers(len(self._bank.film)))][: last - first]
        alpha = (np.clip((creases - 1.0) * 1.5, 0, 0.6) + self._veil * 0.6)[:, :, None].astype(np.float32)
        band = skin[first:last]
        band[:] = np.clip(band * (1 - alpha) + 205 * alpha, 0, 255).astype(np.uint8)
        for row in (first, last - 1):
            if 0 < row < FACE - 1:
                skin[row] = np.clip(skin[row] * 0.6 + 90, 0, 255).astype(np.uint8)
