"""Whether one frame is torn: the rows below some row (or above it) are shifted sideways against the others.

A torn frame is at once two pictures, each of them in order. So the fixed edges of the one part are where they were, and
those of the other are all found again at one distance to the side. Packages hide edges, and a camera that was moved
shifts all of them; neither does that. Where a view has few fixed edges, the seam tells: the row below it goes on as the
row above, but from another column on.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from serving.observed.views import Float

NEAR: Final = 5
"""Columns of the small picture: what is shifted by less is not torn (a lens shakes by so much)."""
LEAST, MOST = 0.12, 0.92
"""Share of the edges that the shifted part must have, at least and at most: of less nothing can be told."""
WHOLE: Final = 0.5
"""Share of the other part's edges that are where they were, at least."""
STEEPEST: Final = 0.5
"""Gradients of log-luminance count up to this: a package's rim is steeper than any edge that is fixed."""
ALIKE: Final = 0.75
"""Correlation of two rows that go on as each other."""
FLOOR: Final = 0.02
"""Mean square of log-luminance that is added to two rows that are compared, so that flat ones tell nothing."""
_ROWS: Final = cv2.DFT_ROWS
_BACK: Final = cv2.DFT_ROWS | cv2.DFT_SCALE | cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT


def spectra(edges: Float) -> Float:
    """The Fourier transform of each row [h, w], as `shifted` takes it."""
    return np.asarray(cv2.dft(edges, flags=_ROWS), np.float32)


def shifted(slope_x: Float, slope_y: Float, edges_x: Float, edges_y: Float, weights: Float) -> float:
    """How much better the fixed edges of the frame's upper or lower part are found elsewhere in their rows than where
    they were, as a share of them: 1 for a torn frame, below 0 for a whole one; -1 where nothing can be told.

    Args:
        slope_x, slope_y: float32 [h, w], the frame's gradient.
        edges_x, edges_y: `spectra` of the reference's fixed edges.
        weights: float32 [h], the sum of squares of each row's fixed edges.
    """
    total = float(weights.sum())
    if total <= 0:
        return -1.0
    along = cv2.mulSpectrums(spectra(np.clip(slope_x, -STEEPEST, STEEPEST)), edges_x, _ROWS, conjB=True)
    along += cv2.mulSpectrums(spectra(np.clip(slope_y, -STEEPEST, STEEPEST)), edges_y, _ROWS, conjB=True)
    found = np.asarray(cv2.dft(along, flags=_BACK), np.float32)  # [h, w]: by row and by shift
    below = found[::-1].cumsum(axis=0)[::-1]  # the rows from each one on
    share = weights[::-1].cumsum()[::-1]
    best = -1.0
    everything, here = below[0], found[:, 0].sum()
    for part, part_share in ((below[1:], share[1:]), (everything - below[1:], total - share[1:])):
        told = (part_share > LEAST * total) & (part_share < MOST * total)
        if not told.any():
            continue
        part, part_share = part[told], part_share[told]
        stays = np.maximum(part[:, :NEAR].max(axis=1), part[:, -NEAR + 1 :].max(axis=1))
        gain = (part[:, NEAR : -NEAR + 1].max(axis=1) - stays) / part_share
        whole = (here - part[:, 0]) / (total - part_share) > WHOLE
        if whole.any():
            best = max(best, float(gain[whole].max()))
    return best


def seam(log: Float) -> float:
    """How much better two neighbouring rows of float32 [h, w] agree when one is shifted than as they are: the most of
    all rows, some 1 for a torn frame."""
    width = log.shape[1]
    plain = log - log.mean(axis=1, keepdims=True)
    pairs = plain[:-1] + plain[1:]  # two rows each, against noise
    above, below = pairs[:-2], pairs[2:]
    length = np.einsum("ij,ij->i", pairs, pairs)
    norm = np.sqrt(length[:-2] * length[2:]) + FLOOR * width
    rows = spectra(pairs)
    same = cv2.mulSpectrums(np.ascontiguousarray(rows[2:]), np.ascontiguousarray(rows[:-2]), _ROWS, conjB=True)
    found = np.asarray(cv2.dft(same, flags=_BACK), np.float32)
    stays = np.maximum(found[:, :NEAR].max(axis=1), found[:, -NEAR + 1 :].max(axis=1))
    if len(above) == 0 or below.size == 0:
        return 0.0
    goes_on = found[:, NEAR + 1 : -NEAR].max(axis=1)
    return float(np.where(goes_on > ALIKE * norm, (goes_on - stays) / norm, 0.0).max())
