"""A camera's reference: what its view is like where nothing ever lies, learnt from its first frames.

Packages are others in every frame, so a frame as a whole says little about the camera. But belts have rims, totes have
edges and floors have stains: pixels that look the same in nearly all frames. On these alone the camera is judged, and
so a new kind of package changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from serving.observed.measures import Plain, detail, median, plain, tiles
from serving.observed.tearing import shifted, spectra
from serving.observed.views import TILES, Float, View

COVERED: Final = 0.25
"""A pixel that is covered in more of the frames than this is no part of the reference."""
MIN_FIXED: Final = 0.06
"""Share of the view that must be fixed for what needs the reference."""
MIN_EDGES: Final = 25
"""Pixels with a clear edge that a tile needs for its structure to be judged."""
EDGE: Final = 0.03
"""A clear edge: this gradient of log-luminance a pixel."""
SPREAD: Final = 0.10
"""Log-luminance beside the reference: a pixel that is farther off is covered."""
SOFT: Final = 0.4
"""Share of a window's fine detail that a blur may leave, or else it tells nothing."""
CLIPPED: Final = 5.53
"""Log-luminance (of a grey level of 250): a pixel that is brighter may have any light beyond that."""


@dataclass(frozen=True, eq=False)  # without slots: what follows from the arrays is computed once
class Reference:
    """What the view is like where nothing lies. h x w is the small picture, s the side of a window.

    Attributes:
        log: float32 [h, w], median log-luminance.
        fixed: float32 [h, w], 1 where the view is always the same.
        fixed_tiles: float32 [16], the share of each tile that is fixed. share: of the whole.
        edge_x, edge_y: float32 [h, w], its gradient where it is fixed and has a clear edge, 0 elsewhere.
        edges: float32 [16], mean squared gradient of each tile's edges; NaN where there are too few.
        red, blue: float32 [h, w], median colour (see `Plain`).
        window_mask: float32 [16, s, s], the fixed pixels of the windows. details: float32 [16], their fine detail;
            NaN where too little is fixed.
        slopes: float32 [16], mean squared gradient of all of a tile at ordinary times. lowest: float32 [16], log of the
            least of it (a belt that is empty there) beside the ordinary.
    """

    log: Float
    fixed: Float
    fixed_tiles: Float
    share: float
    edge_x: Float
    edge_y: Float
    edges: Float
    red: Float
    blue: Float
    window_mask: Float
    details: Float
    slopes: Float
    lowest: Float

    @cached_property
    def level(self) -> Float:
        """float32 [16]: log-luminance of each tile where it is fixed; of all of it where nothing is."""
        known = self.fixed_tiles > 0
        inside = tiles(self.log * self.fixed) / np.where(known, self.fixed_tiles, 1.0)
        return np.where(known, inside, tiles(self.log)).astype(np.float32)

    @cached_property
    def where(self) -> npt.NDArray[np.intp]:
        """The places of the fixed pixels; of all pixels where too few are."""
        return np.flatnonzero(self.fixed) if self.share >= MIN_FIXED else np.arange(self.fixed.size)

    @cached_property
    def in_rows(self) -> tuple[Float, Float, Float]:
        """The fixed edges as `tearing.shifted` takes them."""
        weights = (self.edge_x**2 + self.edge_y**2).sum(axis=1)
        return spectra(self.edge_x), spectra(self.edge_y), weights.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One frame beside the reference.

    Attributes:
        gain: median of log-luminance beside the reference's: how much brighter the view is.
        brightest: the same if pixels that are white now were infinitely bright: how much brighter it may be.
        gains: float32 [16], the gain of each tile beside the whole; NaN where too little is fixed.
        highest: float32 [16], the same if pixels that are white now were infinitely bright.
        structure: float32 [16], how much of the reference's edges is where it was: 1 all, 0 none; NaN without edges.
        agreement: the same over all edges; NaN without edges.
        left: float32 [16], log of each tile's mean squared gradient beside that of its fixed edges alone.
        texture: float32 [16], log of each tile's mean squared gradient beside the ordinary.
        sharpness: float32 [16], log of the fine detail of fixed pixels beside the reference's; NaN where unknown.
        red, blue: median colour beside the reference's. reds, blues: float32 [16], mean of each tile; NaN as `gains`.
        torn: see `tearing.shifted`.
    """

    gain: float
    brightest: float
    gains: Float
    highest: Float
    structure: Float
    agreement: float
    left: Float
    texture: Float
    sharpness: Float
    red: float
    blue: float
    reds: Float
    blues: Float
    torn: float


def learn(views: Sequence[View]) -> Reference:
    """The reference of a camera from views of one size, some sixty of them. Takes some 0.1 s."""
    measured = [plain(view) for view in views]
    logs = np.stack([one.log for one in measured])
    gains = np.zeros(len(logs), np.float32)
    median = np.median(logs, axis=0)
    for _ in range(2):
        gains = np.median(logs - median, axis=(1, 2)).astype(np.float32)
        median = np.median(logs - gains[:, None, None], axis=0)
    off = np.abs(logs - gains[:, None, None] - median)
    covered = (off > np.maximum(4 * 1.48 * np.median(off, axis=0), SPREAD)).mean(axis=0)
    fixed = (covered <= COVERED).astype(np.uint8)
    fixed = cv2.erode(fixed, np.ones((3, 3), np.uint8))  # what lies at the rim of a covered place moves its edges
    mask = fixed.astype(np.float32)
    log = median.astype(np.float32)
    slope_x = cv2.Sobel(log, -1, 1, 0, ksize=3, scale=0.25)
    slope_y = cv2.Sobel(log, -1, 0, 1, ksize=3, scale=0.25)
    clear = ((np.hypot(slope_x, slope_y) > EDGE) * mask).astype(np.float32)
    edge_x, edge_y = slope_x * clear, slope_y * clear
    square = tiles(edge_x**2 + edge_y**2)
    in_tile = mask.size / TILES**2
    square[tiles(clear) * in_tile < MIN_EDGES] = np.nan
    windows = _window_mask(views[0].size, views[0].windows.shape[1], mask)
    some = list(zip(measured, gains, strict=True))[:: max(len(measured) // 20, 1)]
    details = np.median([detail(one.fine, windows) * np.exp(-2 * gain) for one, gain in some], axis=0)
    # A slope that is soft by itself (a wall's shade) stays so: what a blur does not take away cannot tell of one.
    soft = np.median([detail(_blurred(one.fine), windows) * np.exp(-2 * gain) for one, gain in some], axis=0)
    few = windows.mean(axis=(1, 2)) < 0.3
    details[few | (details <= 0) | (soft > SOFT * details)] = np.nan
    every = np.stack([tiles(one.slope_x**2 + one.slope_y**2) for one in measured])
    slopes = np.median(every, axis=0)
    lowest = np.log((np.quantile(every, 0.05, axis=0) + 1e-5) / (slopes + 1e-5))
    return Reference(
        log,
        mask,
        tiles(mask),
        float(mask.mean()),
        edge_x,
        edge_y,
        square,
        np.median([one.red for one in measured], axis=0).astype(np.float32),
        np.median([one.blue for one in measured], axis=0).astype(np.float32),
        windows,
        details.astype(np.float32),
        slopes.astype(np.float32),
        lowest.astype(np.float32),
    )


def _blurred(fine: Float) -> Float:
    """Windows float32 [16, s, s], blurred by 2 pixels (standard deviation)."""
    return np.stack([cv2.GaussianBlur(one, (0, 0), 2.0) for one in fine])


def without(reference: Reference, covered: npt.NDArray[np.bool_], size: tuple[int, int]) -> Reference:
    """The reference of a camera of `size` (height, width) without some of its pixels, bool [h, w]."""
    keep = cv2.erode((~covered).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    mask = reference.fixed * keep
    edge_x, edge_y = reference.edge_x * keep, reference.edge_y * keep
    square = tiles(edge_x**2 + edge_y**2)
    clear = ((edge_x != 0) | (edge_y != 0)).astype(np.float32)
    square[tiles(clear) * (mask.size / TILES**2) < MIN_EDGES] = np.nan
    window_mask = _window_mask(size, reference.window_mask.shape[1], mask)
    before, now = reference.window_mask.sum(axis=(1, 2)), window_mask.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        details = reference.details * (now / before)
    details[now < 0.3 * window_mask[0].size] = np.nan
    return replace(
        reference,
        fixed=mask,
        fixed_tiles=tiles(mask),
        share=float(mask.mean()),
        edge_x=edge_x,
        edge_y=edge_y,
        edges=square,
        window_mask=window_mask,
        details=details,
    )


def _window_mask(size: tuple[int, int], side: int, mask: Float) -> Float:
    """The fixed pixels of the windows: each takes the small picture's pixel that it lies in."""
    height, width = size
    offsets = np.arange(side)
    found = np.zeros((TILES * TILES, side, side), np.float32)
    for k in range(TILES * TILES):
        row, column = divmod(k, TILES)
        y = (2 * row + 1) * height // (2 * TILES) - side // 2 + offsets
        x = (2 * column + 1) * width // (2 * TILES) - side // 2 + offsets
        at = np.ix_(y * mask.shape[0] // height, x * mask.shape[1] // width)
        found[k] = mask[at]
    return found


def compare(frame: Plain, reference: Reference) -> Compared:
    """Measure a frame beside the reference; both of one shape.

    What is said of edges and of detail is said of each tile under its own light: where a lamp failed, they are weaker
    but all there.
    """
    beside = (frame.log - reference.log).ravel()
    at_fixed = beside[reference.where]
    white = frame.log.ravel()[reference.where] > CLIPPED
    brightest = float("inf")
    if not white.any():
        gain = brightest = median(at_fixed)
    else:
        censored = np.where(white & (reference.log.ravel()[reference.where] <= CLIPPED), np.float32(np.inf), at_fixed)
        gain, brightest = median(at_fixed), median(censored)
    residual = beside - np.float32(gain)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gains = highest = _medians(residual, reference)
        if brightest != gain:
            highest = _medians(np.where(frame.log.ravel() > CLIPPED, np.float32(np.inf), residual), reference)
        faint, light = _light(reference.level, np.float32(gain) + np.where(np.isfinite(gains), gains, 0.0))
        along = tiles(frame.slope_x * reference.edge_x + frame.slope_y * reference.edge_y)
        structure = along / reference.edges / faint
        known = np.isfinite(reference.edges)
        agreement = float(along[known].sum() / reference.edges[known].sum()) if known.any() else float("nan")
        squares = tiles(frame.slope_x**2 + frame.slope_y**2) / faint**2
        texture = np.log((squares + 1e-5) / (reference.slopes + 1e-5))
        left = np.log((squares + 1e-7) / reference.edges)
        fine = detail(frame.fine, reference.window_mask) / light**2
        sharpness = np.log(np.maximum(fine / reference.details, 0.02))
        red, blue = frame.red - reference.red, frame.blue - reference.blue
        shares = np.where(np.isfinite(gains), reference.fixed_tiles, np.nan)
        reds, blues = tiles(red * reference.fixed) / shares, tiles(blue * reference.fixed) / shares
    some = reference.where[::2]
    return Compared(
        gain,
        brightest,
        gains,
        highest,
        structure,
        agreement,
        left,
        texture,
        sharpness,
        median(red.ravel()[some]),
        median(blue.ravel()[some]),
        reds.astype(np.float32),
        blues.astype(np.float32),
        shifted(frame.slope_x, frame.slope_y, *reference.in_rows),
    )


def _light(level: Float, gains: Float) -> tuple[Float, Float]:
    """What another light does to each tile, float32 [16]: to gradients of log-luminance (the sensor's floor, see
    `views.LOG`, flattens them in the dark), and to grey levels."""
    now, before = np.exp(level + gains), np.exp(level)
    faint = (1 - 2 / np.maximum(now, 2.5)) / (1 - 2 / np.maximum(before, 2.5))
    light = np.maximum(now - 2, 0.5) / np.maximum(before - 2, 0.5)
    return np.maximum(faint, 0.25).astype(np.float32), light.astype(np.float32)


def _medians(residual: Float, reference: Reference) -> Float:
    """The median over each tile's fixed pixels: a package that covers some of them changes nothing."""
    found = np.full(TILES * TILES, np.nan, np.float32)
    height, width = reference.fixed.shape
    rows = (np.arange(TILES + 1) * height) // TILES
    columns = (np.arange(TILES + 1) * width) // TILES
    picture, mask = residual.reshape(height, width), reference.fixed > 0
    for k in range(TILES * TILES):
        if reference.fixed_tiles[k] < 0.06:
            continue
        row, column = divmod(k, TILES)
        part = np.s_[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        found[k] = median(picture[part][mask[part]])
    return found


def arrays(reference: Reference) -> dict[str, Float]:
    """All of a reference as arrays, for saving."""
    return {one.name: np.asarray(getattr(reference, one.name), np.float32) for one in fields(reference)}


def from_arrays(found: dict[str, Float]) -> Reference:
    """What `arrays` made. Raises KeyError and ValueError for what is no reference."""
    shape = found["log"].shape
    if len(shape) != 2 or found["fixed"].shape != shape or found["edges"].shape != (TILES * TILES,):
        raise ValueError("these arrays are no reference of a camera")
    values = {one.name: found[one.name] for one in fields(Reference)}
    return Reference(**{**values, "share": float(found["share"])})  # type: ignore[arg-type]  # one is a number
