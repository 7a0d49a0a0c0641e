"""An auto-annotation function for CVAT: what the hub knows of a picture, or else what its robots' server answers.

    export PARCELHUB_HUB_URL=https://hub.acme.org PARCELHUB_TOKEN=hf_...
    cvat-cli --server-host https://cvat.acme.org task auto-annotate 42 \
        --function-file "$(parcelhub label cvat-function)" -p cell=str:dock-7

It needs `cvat-cli` and parcelhub in one environment. A frame that came from the hub is known by its name, and gets the
proposal that the hub has; every other one is asked about as a robot of the cell asks, at `PARCELHUB_TRITON_HOST` with
`PARCELHUB_ROBOT_TOKEN`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets.contours import trace
from hub.client.client import HubClient
from hub.client.tools.cvat_shapes import mask_points
from hub.errors import HubAnswerError, InputError
from hub.settings import Settings

if TYPE_CHECKING:
    import PIL.Image

    from serving.robot.client import RobotClient

_OURS = re.compile(r"([0-9a-f]{32})\.(?:jpg|png)")
_LEAST = 0.5
"""What is less sure is not shown, unless CVAT asks for another threshold."""
_NOT_FOUND = 404


class ParcelhubFunction:
    """A detection function in the form that `cvat-sdk` asks for."""

    def __init__(self, cell: str, classes: Sequence[str], hub: HubClient, settings: Settings) -> None:
        self._hub = hub
        self._settings = settings
        self._cell = cell
        self._numbers = {name: number for number, name in enumerate(classes, 1)}
        self._robot: RobotClient | None = None
        labels = [cvataa.label_spec(name, number, type="any") for name, number in self._numbers.items()]
        self.spec = cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: Any, image: PIL.Image.Image) -> list[Any]:  # noqa: ANN401  # types of cvat-sdk
        """Masks of a frame as `LabeledShapeRequest`s; polygons where CVAT asks for them."""
        least = _LEAST if context.conf_threshold is None else float(context.conf_threshold)
        found = self._known(str(context.frame_name))
        if found is None:
            found = self._asked(image)
        height, width = image.height, image.width
        shapes: list[Any] = []
        for label, score, counts in found:
            if score < least or label not in self._numbers:
                continue
            if context.conv_mask_to_poly:
                # A polygon of CVAT has one ring: holes are lost, parts become polygons of one group.
                rings = trace(counts, height, width).parts
                group = len(shapes) + 1 if len(rings) > 1 else 0
                for ring in rings:
                    points = [float(value) for value in ring.ravel().tolist()]
                    shapes.append(cvataa.polygon(self._numbers[label], points, group=group))
            else:
                bitmap = coco_mask.decode({"size": [height, width], "counts": counts})
                points = mask_points(np.ascontiguousarray(bitmap).view(np.bool_))
                shapes.append(cvataa.mask(self._numbers[label], points))
        return shapes

    def _known(self, frame: str) -> list[tuple[str, float, bytes]] | None:
        """(label, score, RLE) of the hub's proposal; None for a picture that the hub does not know."""
        match = _OURS.fullmatch(frame.rpartition("/")[2])
        if match is None:
            return None
        try:
            work = self._hub.label_task(match[1])
        except HubAnswerError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        if not work.task.proposed_by:
            return None
        shown = [one for one in work.regions if not one.offered or (one.score or 0.0) < _LEAST]
        return [(one.label, 1.0 if one.score is None else one.score, one.mask.counts.encode()) for one in shown]

    def _asked(self, image: PIL.Image.Image) -> list[tuple[str, float, bytes]]:
        """(label, score, RLE) of what robots of the cell are answered."""
        if self._robot is None:
            from serving.robot.client import RobotClient

            token = self._settings.local_robot_token()
            self._robot = RobotClient(self._settings.triton_grpc, cell=self._cell, timeout_s=60.0, token=token)
        answer = self._robot.segment(np.asarray(image.convert("RGB")), min_score=0.0).instances
        return [
            (label, float(score), counts)
            for label, score, counts in zip(answer.labels, answer.scores, answer.masks, strict=True)
        ]


def create(cell: str) -> ParcelhubFunction:
    """What `--function-file` calls, with the parameters of `-p`. Raises InputError for a cell without classes."""
    settings = Settings.load()
    hub = HubClient.of(settings)
    classes = hub.label_cell(cell).classes
    if not classes:
        raise InputError(f"the cell {cell!r} has no classes")
    return ParcelhubFunction(cell, classes, hub, settings)
