"""What light, lens and sensor do to a finished picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes.look import Look
from finetune.scenes.textures import Image, TextureBank


def light_field(rng: np.random.Generator, image: Image, look: Look) -> Image:
    """Uneven light, colour cast and exposure."""
    size = image.shape[0]
    coarse = 1 + rng.normal(0, 0.16, (3, 3, 1)) + rng.normal(0, 0.02, (3, 3, 3))
    if rng.random() < 0.15:  # a lamp or a window: a bright corner
        coarse[int(rng.integers(3)), int(rng.integers(3))] += rng.uniform(0.3, 1.2)
    gain = rng.uniform(*look.brightness) * (1 + rng.normal(0, look.colour_cast, 3) * rng.random())
    field = cv2.resize((coarse * gain).clip(0.05, 2.5).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, field, dtype=cv2.CV_8U)


def lens(rng: np.random.Generator, image: Image, ids: NDArray[np.uint8]) -> tuple[Image, NDArray[np.uint8]]:
    """Radial distortion, applied to picture and id map alike."""
    size = image.shape[0]
    strength = rng.uniform(-0.16, 0.22)
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid, grid)
    factor = (1 + strength * (x * x + y * y)) / (1 + max(strength, 0.0) * 2)
    map_x, map_y = ((v * factor + 1) / 2 * size - 0.5 for v in (x, y))
    straight = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return straight, cv2.remap(ids, map_x, map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)


def sensor(rng: np.random.Generator, image: Image, look: Look, bank: TextureBank) -> Image:
    """Defocus or motion blur, noise, and now and then JPEG blocks."""
    size = image.shape[0]
    if rng.random() < look.blur:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.6)))
        else:
            length = int(rng.integers(3, 8))
            kernel = np.zeros((length, length), np.float32)
            angle = rng.uniform(0, np.pi)
            centre = (length - 1) / 2
            for step in np.linspace(-centre, centre, 2 * length):
                kernel[round(centre + step * np.sin(angle)), round(centre + step * np.cos(angle))] = 1
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
    else:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.3, 0.7)))  # the aliasing of hard-edged painting
    level = rng.uniform(*look.noise)
    if level > 0.5:
        x, y = rng.integers(0, bank.sensor.shape[0] - size, 2) if size < bank.sensor.shape[0] else (0, 0)
        patch = bank.sensor[y : y + size, x : x + size]
        image = cv2.addWeighted(image.astype(np.int16), 1.0, patch, level / 64, 0.0).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return image
