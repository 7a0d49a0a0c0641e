"""Lists and pages ask the catalog as often however much is in it: no query per row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from litestar.testing import TestClient

from benchmarks.hub.api import Size, fill
from hub.app import create_app
from hub.services import Services
from hub.settings import Settings
from tests.hub.material import write_base_files
from tests.hub.web.material import Browser

SMALL = Size(variants=6, datasets=3, images=60, versions_per_cell=3)
LARGE = Size(variants=40, datasets=25, images=3000, versions_per_cell=10)
DATASET, CELL = "team-01/set-00001", "cell-00000"
ASKING = 3  # who asks: one statement and its transaction
API = {
    "/datasets?limit=100": 1,
    "/datasets?limit=100&q=set-0": 1,
    "/cells?limit=100": 1,
    "/jobs?limit=100": 1,
    "/evaluations?limit=100": 1,
    "/audit?limit=100": 1,
    "/tokens": 1,
    f"/models/{CELL}?limit=100": 2,  # the cell, its variants
    f"/models/{CELL}/v1": 1,
    "/models?limit=100": 4,  # variants, and the bases in three
    f"/datasets/{DATASET}/images?limit=100": 7,  # who may see it, what the revision is, the images
    f"/datasets/{DATASET}/images?limit=100&split=valid": 7,
    f"/datasets/{DATASET}/summary": 8,
}
"""An address to the statements that its answer takes at most, whoever asks aside."""
PAGES = {
    "/ui/": 10,
    "/ui/datasets": 3,
    f"/ui/datasets/{DATASET}": 12,
    f"/ui/datasets/{DATASET}?split=valid": 13,
    f"/ui/datasets/{DATASET}/images/3": 10,
    f"/ui/datasets/{DATASET}/check": 10,
    "/ui/finetune": 5,
    f"/ui/finetune?dataset={DATASET}": 16,
    "/ui/jobs": 3,
    "/ui/cells": 5,
    f"/ui/cells/{CELL}": 12,  # its open alerts among them, and what its refresh policy last said
    f"/ui/models/{CELL}/v2": 7,
    "/ui/compare": 3,
    f"/ui/compare?a={CELL}@v1&b={CELL}@v2": 6,
    "/ui/settings": 5,
}


def counted(folder: Path, size: Size, statements: Counter[str]) -> dict[str, int]:
    """Statements of each address, once it was asked before: the fewest of three times, as what the hub does by the
    clock may fall into one of them."""
    settings = Settings.load({}, data=folder / "data", base_source=write_base_files(folder / "base"))
    services = Services.open(settings)
    fill(services, size, lambda *_: None)
    services.close()
    found = {}
    with TestClient(create_app(settings)) as client:
        browser = Browser(client)
        browser.sign_in(settings.client_token())
        headers = {"Authorization": f"Bearer {settings.client_token()}"}
        for address in (*API, *PAGES):
            counts = []
            for _ in range(4):
                statements.clear()
                whole = address if address.startswith("/ui") else f"/api/v1{address}"
                answer = client.get(whole, headers={} if address.startswith("/ui") else headers)
                assert answer.status_code == 200, (address, answer.text[:500])
                # The watch over trials asks by the clock.
                counts.append(sum(number for sql, number in list(statements.items()) if "rollout_trials" not in sql))
            found[address] = min(counts[1:]) - ASKING - address.startswith("/ui")  # and the session
    return found


@pytest.mark.slow
def test_a_larger_catalog_takes_no_more_queries(tmp_path: Path, statements: Counter[str]) -> None:
    small = counted(tmp_path / "small", SMALL, statements)
    large = counted(tmp_path / "large", LARGE, statements)
    assert large == small
    too_many = {address: (large[address], most) for address, most in (API | PAGES).items() if large[address] > most}
    assert too_many == {}
