"""What a package looks like in plain numbers: colours beside the frame's own, texture, and shape, under its mask.

A network that was trained to find packages of every colour does not care what colour they are; a person who says "that
is a new one" does. All is measured beside the frame's median, so that lamps that dim change little.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from serving.instances import Instances

HUES: Final = 8
WIDTH: Final = 3 + 3 + 2 + HUES + 3 + 2
"""Numbers a package: colour 3, its spread 3, texture at two scales, hues, shares of extremes 3, shape 2."""
WORKED_AT: Final = 320
"""Pixels of the longer side that a frame is looked at with."""
Float = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


def appearance(image: Image, instances: Instances) -> Float:
    """Of a frame uint8 [H, W, 3] RGB: float32 [N, WIDTH]; zeros for a mask that is empty."""
    found = np.zeros((len(instances), WIDTH), np.float32)
    if not len(instances):
        return found
    scale = min(WORKED_AT / max(image.shape[:2]), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    logs = np.log(small.astype(np.float32) + 4.0)
    light = logs.mean(axis=2)
    # Opponent colours of logarithms: a lamp's colour and strength are offsets, which the median takes away.
    opponent = np.stack([light, logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., :2].mean(axis=2)], axis=2)
    opponent -= np.median(opponent.reshape(-1, 3), axis=0)
    fine = np.abs(cv2.Laplacian(light, cv2.CV_32F, ksize=1))
    coarse = np.abs(cv2.Laplacian(cv2.GaussianBlur(light, (0, 0), 2.0), cv2.CV_32F, ksize=3))
    angle = np.arctan2(opponent[..., 2], opponent[..., 1])
    sector = np.floor((angle + np.pi) / (2 * np.pi) * HUES).astype(np.intp) % HUES
    colourful = np.hypot(opponent[..., 1], opponent[..., 2])
    masks = instances.decode_masks()
    for row, mask in zip(found, masks, strict=True):
        inside = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        core = cv2.erode(inside.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
        core = core if core.sum() >= 12 else inside
        if not core.any():
            continue
        values = opponent[core]
        hues = np.bincount(sector[core], weights=colourful[core], minlength=HUES) / core.sum()
        rows, columns = np.nonzero(inside)
        spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns]).astype(np.float64)) + 0.1 * np.eye(2))
        shares = [(values[:, 0] < -0.7).mean(), (values[:, 0] > 0.7).mean(), (colourful[core] > 0.4).mean()]
        row[:] = [
            *values.mean(axis=0),
            *values.std(axis=0),
            np.log(fine[core].mean() + 1e-3),
            np.log(coarse[core].mean() + 1e-3),
            *hues,
            *shares,
            0.5 * np.log(inside.mean() + 1e-5),
            0.25 * np.log(spread[1] / spread[0]),
        ]
    return found
