"""Frames of the ring as samples: how much each is wanted, and the capture that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.instances import Instances
from serving.observed.captures import Capture, Reason
from serving.observed.doubt import by_scores
from serving.observed.novelty import Float
from serving.observed.observer import CameraKey


def interest(document: Mapping[str, Any], reason: Reason, requests: tuple[str, ...]) -> float:
    """How much a frame of the ring is wanted for a sample of this reason."""
    if requests:
        return float(document["request_id"] in requests)
    if reason == "doubt":
        return float(by_scores(document["scores"]))
    return float(document["observed"].get("strangeness", 0.0))


def change_of(key: CameraKey, stream: str, at: float, looks: float) -> dict[str, Any]:
    """What the hub is told of a change of a camera's stream."""
    reason = f"evidence above {looks:,.0f} looks, the mean between false alarms; a diverse sample of its frames is kept"
    return {
        "type": "change", "event": "change", "cell": key.cell, "line": key.line, "camera": key.camera,
        "stream": stream, "at": at, "reason": reason,
    }  # fmt: skip


def stacked(rows: Sequence[Float]) -> Float:
    """Embeddings of frames as float32 [n, D]; those of a base with shorter ones are filled with zeros: to a sample they
    are as unlike the others as they are."""
    width = max(len(one) for one in rows)
    found = np.zeros((len(rows), width), np.float32)
    for line, one in zip(found, rows, strict=True):
        line[: len(one)] = one
    return found


def capture_of(document: Mapping[str, Any], picture: bytes, reason: Reason) -> Capture:
    """A frame of the ring as a capture."""
    count = len(document["labels"])
    instances = Instances(
        int(document["height"]),
        int(document["width"]),
        np.array(document["boxes"], np.float32).reshape(count, 4),
        np.array(document["scores"], np.float32),
        tuple(document["labels"]),
        tuple(str(mask).encode() for mask in document["masks"]),
    )
    return Capture(
        picture, instances, str(document["request_id"]), float(document["at"]), reason, str(document["served_by"]),
        document["cell"], document["line"], document["robot"], document["camera"], document["observed"],
    )  # fmt: skip
