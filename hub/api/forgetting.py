"""Forget one picture everywhere, on a privacy request."""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.forgetting import ForgetCalls
from hub.datasets.forgetting import require_forget
from hub.errors import InputError
from hub.http.access_policy import CHANGE, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest
from hub.http.resources import Resource, register
from hub.schemas.failures import ForgetIn, Forgotten


class ForgetController(Controller):
    """Pictures that must go."""

    path = "/forget"
    tags = ("captures",)

    @post(sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def forget_picture(self, services: Hub, request: HubRequest, data: JSONBody[ForgetIn]) -> Forgotten:
        """Forget one picture, named by its sha256 or by a capture: captures, datasets with their history, the bytes.

        A team forgets what lies in its own datasets and cells, the operator all. The answer names the decks and models
        that used the picture. Again is safe.
        """
        who = identity_of(request)
        require_forget(who)
        if (data.sha256 is None) == (data.capture is None):
            raise InputError("name the picture by sha256 or by capture, one of the two")
        sha256 = data.sha256 or services.forgetting.capture_digest(str(data.capture), who)
        made = services.forgetting.forget(sha256, who, data.reason)
        note(request, sha256=sha256, captures=len(made.captures), datasets=made.datasets, models=made.models)
        return made


RESOURCE = register(
    Resource(
        "forget",
        [ForgetController],
        rules=grouped(
            ("/forget", CHANGE, "POST"),
        ),
        calls=ForgetCalls,
    )
)
