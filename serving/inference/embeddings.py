"""What the network sees of each package: features of several layers, pooled under the masks, and of each patch.

The base alone is asked, never a variant: so embeddings of all cells on one base can be compared, and those of a cell
stay what they are when its variant changes. A copy of the base of its own is run, on one thread: whoever embeds waits
for no answer, and no answer for it. A pass over a picture of 320 pixels takes some 60 ms of one core.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from serving.errors import BaseError
from serving.families.load import load_model
from serving.families.types import InstanceModel
from serving.inference.preprocess import Image, Letterbox, Preprocess, check_pixels
from serving.instances import Instances

PATCHES: Final = 20
"""Patches along the longer side of a picture."""
COVERED: Final = 0.35
"""A patch that masks cover to this share belongs to a package that was answered."""
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One picture. D is the sum of the layers' widths.

    Attributes:
        instances: float32 [N, D], one row for each instance, in their order.
        patches: float32 [P, D], of the patches of the picture in rows. grid: (rows, columns) of them, P in all.
        covered: float32 [P], the share of each patch that lies under a mask.
        frame: float32 [D], the mean of all patches.
    """

    instances: Float
    patches: Float
    grid: tuple[int, int]
    covered: Float

    @property
    def frame(self) -> Float:
        """float32 [D], the mean of all patches; made anew by each call."""
        return np.asarray(self.patches.mean(axis=0), np.float32)


class Embedder:
    """A base that embeds. Thread-safe: one picture at a time."""

    def __init__(self, model: InstanceModel, preprocess: Preprocess, *, base_name: str) -> None:
        """Raises BaseError for a family that does not say which layers to look at."""
        if not model.feature_layers:
            raise BaseError(f"{type(model).__name__} names no layers to make embeddings of")
        self.base_name = base_name
        self.layers = model.feature_layers
        self._model = model
        self._preprocess = preprocess
        self._lock = threading.Lock()
        self._seen: dict[str, Tensor] = {}
        for name in self.layers:
            model.get_submodule(name).register_forward_hook(self._keep(name))

    @classmethod
    def load(cls, base_dir: Path, *, base_name: str, device: str | torch.device = "cpu") -> Self:
        """A copy of a base of its own, in float32. Raises BaseError."""
        import json

        try:
            config = json.loads((base_dir / "preprocessor_config.json").read_text(encoding="utf-8"))
            model = load_model(base_dir)
        except (OSError, ValueError) as error:
            raise BaseError(f"the base folder '{base_dir.name}' cannot be loaded: {error}") from error
        model.to(torch.device(device)).requires_grad_(False).eval()
        return cls(model, Preprocess.from_config(config), base_name=base_name)

    def embed(self, image: Image, instances: Instances) -> Embedded:
        """Embed what was answered on uint8 [H, W, 3] RGB. Raises ImageError, InstancesError."""
        image = check_pixels(image)
        with self._lock, torch.inference_mode():
            pixels, (box,) = self._preprocess.batch([image], device=next(self._model.parameters()).device)
            self._model.answer(pixels)
            maps = [_map(self._seen.pop(name)) for name in self.layers]
        return _pool(maps, box, instances)

    def _keep(self, name: str) -> Any:  # noqa: ANN401 - a hook as torch calls it
        def keep(_module: object, _inputs: object, output: Tensor) -> None:
            self._seen[name] = output

        return keep


def _map(output: Tensor) -> Float:
    """[1, h, w, C] or [1, T, C] of a square to float32 [h, w, C]."""
    if output.ndim == 3:
        side = round(output.shape[1] ** 0.5)
        output = output.reshape(1, side, side, -1)
    return np.asarray(output[0].float().cpu().numpy(), np.float32)


def _pool(maps: list[Float], box: Letterbox, instances: Instances) -> Embedded:
    masks = instances.decode_masks()
    long_edge = max(box.inner_height, box.inner_width)
    grid = tuple(max(round(PATCHES * edge / long_edge), 1) for edge in (box.inner_height, box.inner_width))
    pooled, patches = [], []
    for one in maps:
        rows = max(round(one.shape[0] * box.inner_height / box.size), 1)
        columns = max(round(one.shape[1] * box.inner_width / box.size), 1)
        inner = np.ascontiguousarray(one[:rows, :columns])
        weights = np.zeros((len(masks), rows * columns), np.float32)
        for row, mask in zip(weights, masks, strict=True):
            small = cv2.resize(mask.view(np.uint8).astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
            row[:] = small.ravel()
        total = weights.sum(axis=1, keepdims=True)
        pooled.append(weights @ inner.reshape(-1, inner.shape[2]) / np.maximum(total, 1e-6))
        patches.append(_resize(inner, grid[0], grid[1]).reshape(grid[0] * grid[1], -1))
    union = masks.any(axis=0) if len(masks) else np.zeros((box.height, box.width), np.bool_)
    covered = cv2.resize(union.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return Embedded(
        np.concatenate(pooled, axis=1).astype(np.float32),
        np.concatenate(patches, axis=1).astype(np.float32),
        (grid[0], grid[1]),
        covered.ravel().astype(np.float32),
    )


def _resize(inner: Float, rows: int, columns: int) -> Float:
    """Of any number of channels: float32 [rows, columns, C], means over what each patch covers."""
    planar = torch.from_numpy(inner).permute(2, 0, 1)[None]
    shape = (rows, columns)
    small = (
        torch.nn.functional.adaptive_avg_pool2d(planar, shape)
        if rows <= inner.shape[0] and columns <= inner.shape[1]
        else torch.nn.functional.interpolate(planar, shape, mode="bilinear", align_corners=False)
    )
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())
