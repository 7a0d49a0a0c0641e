"""Short names for what the routes' signatures are made of."""

from __future__ import annotations

from typing import TypeAlias

from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath

from hub.accounts.tokens import Identity
from hub.schemas.core import RepoType
from hub.services import Services
from registry.types import RepoId

Hub: TypeAlias = NamedDependency[Services]
Repo: TypeAlias = NamedDependency[RepoId]
Text: TypeAlias = FromPath[str]
HubRequest: TypeAlias = Request[Identity | None, None, State]


def services_of(state: State) -> Services:
    """Provides `services`: the ones that the application opened."""
    services: Services = state.services
    return services


def repo_of_path(type_: FromPath[RepoType], namespace: Text, name: Text) -> RepoId:
    """Provides `repo`: the one that the path names."""
    return RepoId(type_, namespace, name)
