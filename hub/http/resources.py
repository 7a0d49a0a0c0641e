"""What a REST resource is: its routes, who may use them, its service and the client's calls, declared as one.

The hub's own resources are the modules of `hub.api`, others are registered by modules that `PARCELHUB_EXTENSIONS` names
(docs/extending.md). A route without a rule is refused for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from hub.client.calls import Calls, register_calls
from hub.http.access_policy import Rule, add_rules
from hub.services import Services
from serving import extensions

API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource.

    Attributes:
        name: as in its address, and as `HubClient.of_resource` asks for its calls.
        routes: controllers or handlers, under `/api/v1`. Their structs are the schema of the OpenAPI document.
        rules: `METHOD /address/with/{parameters}`, without `/api/v1`, to who may use it.
        calls: the client's side; None where other programs ask (an annotator's), or a client of its own does.
        service: makes, once per application, what the routes work with from the hub's `Services`; they get it as the
            dependency `service`. None: they take `services`, as the hub's own do.
    """

    name: str
    routes: Sequence[ControllerRouterHandler]
    rules: Mapping[str, Rule]
    calls: type[Calls] | None = None
    service: Callable[[Services], Any] | None = None

    def handlers(self) -> Sequence[ControllerRouterHandler]:
        """The routes, with their service at hand."""
        make = self.service
        if make is None:
            return self.routes

        def service_of(state: State) -> Any:  # noqa: ANN401  # the resource's own
            made = state.setdefault("resource_services", {})
            if made.get(self.name, (None, None))[0] is not state.services:  # another folder was opened since
                made[self.name] = (state.services, make(state.services))
            return made[self.name][1]

        given = {"service": Provide(service_of, sync_to_thread=False)}
        return [Router("/", route_handlers=list(self.routes), dependencies=given)]


_register: dict[str, Resource] = {}


def register(wanted: Resource) -> Resource:
    """Make a resource known. Raises ValueError if another has its name, or one of its routes has a rule already."""
    if _register.setdefault(wanted.name, wanted) is not wanted:
        raise ValueError(f"there are two resources named {wanted.name!r}")
    add_rules({f"{rule.partition(' ')[0]} {API}{rule.partition(' ')[2]}": of for rule, of in wanted.rules.items()})
    if wanted.calls is not None:
        register_calls(wanted.name, wanted.calls)
    return wanted


def resources() -> Mapping[str, Resource]:
    """All that are registered, by name. Raises ExtensionError."""
    extensions.load()
    return _register
