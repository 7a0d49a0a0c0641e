"""What is kept of a frame beside its answer, as JSON: embeddings of its packages and how novel each is."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from serving.observed.novelty import Float
from serving.observed.novelty_reference import Judged, Seen


def observed(seen: Seen, judged: Judged | None, beside: Float) -> dict[str, Any]:
    """What is kept of a frame beside the answer, as JSON: embeddings of its packages and how novel each is; `beside`
    are those of what was not answered."""
    found: dict[str, Any] = {"embeddings": pack(seen.instances), "width": int(seen.instances.shape[1])}
    if judged is not None:
        found |= {
            "novelty": [round(float(v), 5) for v in judged.novelty],
            "novel": [bool(v) for v in judged.novel],
            "embeddings_beside": pack(beside),
            "unanswered": [[round(v, 5) for v in box] for box in judged.unanswered],
            "strangeness": round(judged.strangeness, 4),
        }
    return found


def pack(rows: Float) -> str:
    """float32 [n, D] as base64 of float16."""
    return base64.b64encode(np.ascontiguousarray(rows, np.float16).tobytes()).decode()


def unpack(text: str, width: int | None = None) -> Float:
    """What `pack` made, one row unless `width` says how long each is. Raises ValueError for what is none."""
    values = np.frombuffer(base64.b64decode(text, validate=True), np.float16).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("embeddings that are not finite")
    return values.reshape(-1, width if width else max(len(values), 1))
