"""A backend that a Label Studio asks for pre-annotations, as `label-studio-ml` servers answer.

In Label Studio's settings the address is `https://<hub>/api/v1/labels/cells/<cell>/ml`, the method basic
authentication, any user name, and a token of the hub as the password. It answers for pictures that came from the hub:
no address that a task names is ever asked, and what Label Studio says of itself (its own token among it) is not kept.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any
from xml.parsers import expat  # nothing but the bytes it is given; document types are refused below

import anyio.to_thread
from litestar import Controller, get, post
from litestar.middleware import AuthenticationResult
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from hub.client.tools.label_studio import prediction_of
from hub.client.tools.tool import KEY
from hub.errors import InputError, UnauthorizedError, UnknownTaskError
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import BearerMiddleware, Connection, identity_of
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.services import Services

MAX_TASKS = 200
_MAX_CONFIG = 200_000


class BasicMiddleware(BearerMiddleware):
    """As the bearer's, and of a basic authentication the password: Label Studio knows no bearer."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        """As the bearer's, with basic authentication too. Raises UnauthorizedError for what is no token of the hub."""
        scheme, _, value = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return await super().authenticate_request(connection)
        try:
            token = base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise UnauthorizedError("the basic authentication cannot be read") from None
        services: Services = connection.app.state.services
        return AuthenticationResult(user=await anyio.to_thread.run_sync(services.tokens.identify, token), auth=None)


class Asked(Struct, frozen=True):
    """Label Studio's question; what else it sends is not read."""

    tasks: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TASKS)]
    label_config: Annotated[str, Meta(max_length=_MAX_CONFIG)] = ""


class Told(Struct, frozen=True):
    """What Label Studio tells when it is set up: nothing of it is needed."""


class LabelBackendController(Controller):
    """Pre-annotations for a Label Studio."""

    path = "/labels/cells/{cell:str}/ml"
    tags = ("labels",)
    middleware = (BasicMiddleware,)

    @get("/health", sync_to_thread=True)
    def label_backend_health(self, services: Hub, request: HubRequest, cell: Text) -> dict[str, Any]:
        """That the backend answers, and for which variant."""
        services.labelling.cell(cell, identity_of(request))
        return {"status": "UP", "model_class": "parcelhub", "model_version": _version(services, cell)}

    @post("/setup", sync_to_thread=True, status_code=HTTP_200_OK)
    def label_backend_setup(
        self,
        services: Hub,
        request: HubRequest,
        cell: Text,
        data: JSONBody[Told],  # noqa: ARG002  # read and left
    ) -> dict[str, Any]:
        """The variant that answers."""
        services.labelling.cell(cell, identity_of(request))
        return {"model_version": _version(services, cell)}

    @post("/predict", sync_to_thread=True, status_code=HTTP_200_OK)
    def label_backend_predict(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[Asked]
    ) -> dict[str, Any]:
        """What is proposed for each task, in their order; nothing for pictures that did not come from the hub."""
        who = identity_of(request)
        services.labelling.cell(cell, who)
        brush, image = names_of(data.label_config)
        version = _version(services, cell)
        results: list[dict[str, Any]] = []
        for task in data.tasks:
            said = task.get("data")
            known = said.get(KEY) if isinstance(said, dict) else None
            found = None
            if isinstance(known, str):
                try:
                    work = services.labelling.work(known, who)
                except UnknownTaskError:
                    work = None
                if work is not None and work.task.cell == cell:
                    found = prediction_of(work, brush=brush, image=image)
            results.append(found or {"model_version": version, "score": 0.0, "result": []})
        return {"results": results, "model_version": version}


def _version(services: Services, cell: str) -> str:
    """The variant that robots of the cell are answered by, or else its base."""
    variant, _ = services.promotions.placed_by(cell, "fleet")
    return f"parcelhub {variant or cell}"


def names_of(config: str) -> tuple[str, str]:
    """The names of the brush and of its picture in a labelling interface; ours where it has none. Raises InputError."""
    found: list[tuple[str, str]] = []
    if not config.strip():
        return "label", "image"

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "BrushLabels" and not found:
            found.append((attributes.get("name", "label"), attributes.get("toName", "image")))

    def refuse(*_: object) -> None:
        raise InputError("the labelling interface brings a document type")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(config.encode(), True)
    except expat.ExpatError as error:
        raise InputError(f"the labelling interface is no XML: {error}") from None
    return found[0] if found else ("label", "image")


RESOURCE = register(
    Resource(
        "label-backend",
        [LabelBackendController],
        rules=grouped(
            ("/labels/cells/{cell}/ml", PRODUCTION, "GET /health, POST /setup, POST /predict"),
        ),
    )
)
