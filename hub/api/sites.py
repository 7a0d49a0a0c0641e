"""Sites: their tokens, the uplink by which they speak with the hub, and what they observe."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from hub.accounts.minting import require_lifetime
from hub.accounts.tokens import Scope
from hub.client.sites import SiteCalls
from hub.errors import ForbiddenError, InputError
from hub.http.access_policy import OPERATOR, PRODUCTION, SITE
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.loop.sites.sites import name_of, speaks_for
from hub.schemas import sites as v
from serving.observed.camera_words import MAX_BYTES

MAX_SEGMENT = 64 * 1024**2
MAX_CAPTURE = 40 * 1024**2


class SitesController(Controller):
    """Sites' tokens: good for the uplink about their cells, for nothing else."""

    path = "/sites"
    tags = ("sites",)

    @get(sync_to_thread=True, guards=[requires(Scope.ADMIN)])
    def list_sites(self, services: Hub) -> list[v.Site]:
        """All sites, by name, and when each was heard last."""
        return services.production.sites.all()

    @post(sync_to_thread=True, guards=[requires(Scope.ADMIN)])
    def create_site(self, services: Hub, request: HubRequest, data: JSONBody[v.SiteIn]) -> v.NewSite:
        """Make a site's token. It has no end, so a token that has one makes none."""
        require_lifetime(identity_of(request), None)
        return v.NewSite(token=services.production.sites.add(data.name, data.cells))

    @delete("/{site_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT, guards=[requires(Scope.ADMIN)])
    def delete_site(self, services: Hub, site_id: Text) -> None:
        """End a site's token."""
        services.production.sites.remove(site_id)

    @get("/cameras", sync_to_thread=True)
    def list_cameras(
        self,
        services: Hub,
        request: HubRequest,
        cell: Annotated[str | None, QueryParameter(max_length=200, description="Of one cell alone.")] = None,
    ) -> list[v.CameraStatistics]:
        """What sites said last of the cameras: health, novelty, doubt; the newest first."""
        places = services.privacy.workplaces(identity_of(request))
        return services.production.site_statistics.of(places, cell=cell)


class UplinkController(Controller):
    """What a site sends and fetches, with its own token."""

    path = "/site"
    tags = ("sites",)

    @get("/wishes", sync_to_thread=True)
    def fetch_wishes(self, services: Hub, request: HubRequest) -> v.SiteWishes:
        """What the hub wishes of this site, the oldest first: samples of frames, cells to forget."""
        site = name_of(identity_of(request))
        services.production.sites.heard(site)
        found = services.production.wishes.of_site(site)
        wishes = [v.SiteWish(id=id_, wish=document) for id_, document in found]
        return v.SiteWishes(hub=services.production.sites.mark, wishes=wishes)

    @post("/wishes/{wish_id:str}/taken", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def take_wish(self, services: Hub, request: HubRequest, wish_id: Text) -> None:
        """The site has a wish, durably. Safe to repeat."""
        services.production.wishes.taken(name_of(identity_of(request)), wish_id)

    @post("/messages", sync_to_thread=True, status_code=HTTP_200_OK)
    def send_message(self, services: Hub, request: HubRequest, data: JSONBody[v.MessageIn]) -> v.Taken:
        """An alert that opens or closes. Counts once by its id."""
        services.registry.blobs.check_room()
        return v.Taken(taken=services.production.inbox.message(identity_of(request), data))

    @put("/captures/{capture_id:str}", sync_to_thread=True, status_code=HTTP_200_OK, request_max_body_size=MAX_CAPTURE)
    def send_capture(
        self, services: Hub, request: HubRequest, capture_id: Text, data: JSONBody[v.CaptureIn]
    ) -> v.Taken:
        """A frame with what was answered. Counts once by its id."""
        services.registry.blobs.check_room()
        return v.Taken(taken=services.production.inbox.capture(identity_of(request), capture_id, data))

    @put("/predictions/{segment:str}", status_code=HTTP_200_OK, request_max_body_size=MAX_SEGMENT)
    async def send_predictions(self, services: Hub, request: HubRequest, segment: Text) -> v.Taken:
        """Lines about answered requests, one JSON object each. Safe to repeat."""
        data = await request.body()

        def take() -> int:
            services.registry.blobs.check_room()
            return services.production.inbox.predictions(identity_of(request), segment, data)

        return v.Taken(taken=bool(await anyio.to_thread.run_sync(take)))

    @put("/statistics/{name:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def send_statistics(
        self, services: Hub, request: HubRequest, name: Text, data: JSONBody[v.StatisticsIn]
    ) -> v.Taken:
        """The newest word about a camera; an older one changes nothing."""
        who = identity_of(request)
        if not speaks_for(who, data.cell):
            raise ForbiddenError(f"the token of {who.name!r} is not good for the cell {data.cell!r}")
        if len(msgspec.json.encode(data)) > MAX_BYTES:
            raise InputError(f"a word about a camera has at most {MAX_BYTES:,} bytes")
        return v.Taken(taken=services.production.site_statistics.put(name_of(who), name, data))


RESOURCE = register(
    Resource(
        "sites",
        [SitesController, UplinkController],
        rules=dict.fromkeys(["GET /sites", "POST /sites", "DELETE /sites/{site_id}"], OPERATOR)
        | {"GET /sites/cameras": PRODUCTION}
        | dict.fromkeys(
            [
                *("GET /site/wishes", "POST /site/wishes/{wish_id}/taken", "POST /site/messages"),
                *("PUT /site/captures/{capture_id}", "PUT /site/predictions/{segment}", "PUT /site/statistics/{name}"),
            ],
            SITE,
        ),
        calls=SiteCalls,
    )
)
