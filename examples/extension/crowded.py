"""A frame selector: frames with many packages are kept (`PARCELHUB_CAPTURE_SELECTORS=crowded,low_score,sample`)."""

from __future__ import annotations

from serving.observed.captures import CapturePolicy
from serving.observed.selectors import Answered, register

MANY = 30


def crowded(frame: Answered, policy: CapturePolicy) -> bool:
    """Whether there are many packages in the frame."""
    del policy
    return frame.instances is not None and len(frame.instances) >= MANY


register("crowded", crowded)
