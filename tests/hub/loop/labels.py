"""Captures to be labelled: real frames with answers, in a real hub."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.schemas import labels as s
from hub.services import Services
from serving.instances import Instances
from serving.observed.captures import Capture

HEIGHT, WIDTH = 96, 128
CELL = "dock-7"
Client = Callable[[str], HubClient]


def ring_mask() -> np.ndarray[Any, Any]:
    """Bool [H, W]: two parts, one of them with a hole and an island in the hole."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:60, 8:58] = True
    mask[20:50, 18:48] = False
    mask[30:40, 28:38] = True
    mask[70:80, 70:83] = True
    return mask


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def frame(seed: int) -> np.ndarray[Any, Any]:
    """uint8 [H, W, 3]: another seed looks quite different."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (8, 9, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def capture(
    services: Services,
    cell: str,
    *,
    seed: int,
    masks: list[np.ndarray[Any, Any]] | None = None,
    labels: list[str] | None = None,
    scores: list[float] | None = None,
    at: float = 1_700_000_000.0,
) -> str:
    """One frame that robots' server kept. Returns its id."""
    masks = masks if masks is not None else [ring_mask(), box_mask(90, 10, 120, 50)]
    labels = labels or ["box"] * len(masks)
    found = Instances.from_masks(np.stack(masks), labels, scores or [0.9, 0.55][: len(masks)])
    kept = Capture(frame(seed), found, secrets.token_hex(8), at + seed, "low_score", f"{cell}@v1", cell, "l1", "r1")
    return services.production.captures.add(kept)


def people(services: Services) -> dict[str, str]:
    """Tokens of two people of the cell's team, of a stranger and of a reader."""
    for user, team in (("ann", "acme"), ("ben", "acme"), ("rob", "rival")):
        services.users.put(user, teams=[team])
    issue = services.tokens.issue
    return {
        "ann": issue("ann-laptop", [Scope.CONTRIBUTE], user="ann"),
        "ben": issue("ben-laptop", [Scope.CONTRIBUTE], user="ben"),
        "rob": issue("rob-laptop", [Scope.CONTRIBUTE], user="rob"),
        "reader": issue("ann-phone", [Scope.READ], user="ann"),
    }


def answer(work: s.TaskWork, *, keep: bool = True, **more: Any) -> s.Accept:
    regions = [s.RegionIn(label=one.label, keep=one.id) for one in work.regions] if keep else []
    return s.Accept(action=secrets.token_hex(16), version=work.task.version, **{"regions": regions, **more})


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HubAnswerError) as error:
        call()
    return error.value.status, error.value.slug
