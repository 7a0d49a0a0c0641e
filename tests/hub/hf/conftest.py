"""The stock client against a hub in a process of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from hub.client.client import HubClient
from hub.settings import Settings

ANN, BOB, EVE = "ann", "Bob", "eve"


@pytest.fixture(scope="session")
def api_of(live_hub: Settings) -> Callable[[str], HfApi]:
    """The client of a user; ann and Bob are of the team `acme`, eve is of none."""
    made: dict[str, str] = {}
    with HubClient.of(live_hub) as operator:
        for name, teams in ((ANN, ["acme"]), (BOB, ["acme"]), (EVE, [])):
            operator.put_user(name, fullname=name.title(), teams=teams)
            made[name] = operator.create_token(f"{name}-test", ["read", "contribute"], user=name)
        made["reader"] = operator.create_token("ann-read", ["read"], user=ANN)
    return lambda name: HfApi(endpoint=live_hub.url, token=made[name])


@pytest.fixture
def ann(api_of: Callable[[str], HfApi]) -> HfApi:
    return api_of(ANN)


@pytest.fixture
def bob(api_of: Callable[[str], HfApi]) -> HfApi:
    return api_of(BOB)


@pytest.fixture
def eve(api_of: Callable[[str], HfApi]) -> HfApi:
    return api_of(EVE)


@pytest.fixture
def repo(ann: HfApi) -> Iterator[str]:
    """A model repo of the team."""
    name = f"acme/dock-{uuid.uuid4().hex[:8]}"
    ann.create_repo(name)
    yield name
    ann.delete_repo(name, missing_ok=True)


@pytest.fixture(autouse=True)
def without_xet(monkeypatch: pytest.MonkeyPatch, live_hub: Settings) -> None:
    """Large files by Git LFS; the Xet way has tests of its own. Some calls know no endpoint but the default."""
    template = live_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", live_hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
