"""What the protocol's routes work with, wired once per hub process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.accounts.access import Access
from hub.accounts.limits import RequestRate, UploadQuota
from hub.accounts.links import Signer
from hub.accounts.possession import UploadLedger
from hub.accounts.privacy import CellPrivacy
from hub.accounts.quotas import Quotas
from hub.accounts.users import Users
from hub.protocol.discussions import Discussions
from hub.protocol.git import GitView
from hub.protocol.notices import Notices
from hub.protocol.views import Views, XetHashesOf
from hub.protocol.weights import Weights
from registry.registry import Registry

UPLOADS_FOLDER = "uploads"


@dataclass(frozen=True, slots=True)
class HubProtocol:
    """All parts over one registry. `parts_folder` is where pieces of large uploads wait for the last one."""

    registry: Registry
    users: Users
    access: Access
    ledger: UploadLedger
    views: Views
    discussions: Discussions
    notices: Notices
    git: GitView
    weights: Weights
    signer: Signer
    quota: UploadQuota
    rate: RequestRate
    parts_folder: Path
    max_file_bytes: int
    public_url: str

    @classmethod
    def over(
        cls,
        registry: Registry,
        users: Users,
        data: Path,
        *,
        anonymous: bool,
        max_file_bytes: int,
        public_url: str,
        xet_hashes_of: XetHashesOf = lambda _: {},
        quotas: Quotas | None = None,
        requests_per_minute: int = 0,
        cells: CellPrivacy | None = None,
    ) -> HubProtocol:
        """`anonymous`: whether public repos are readable without a token; `public_url`: "" for the request's own."""
        catalog, blobs, directory = registry.catalog, registry.blobs, registry.directory
        access = Access(catalog, directory, anonymous=anonymous, cells=cells)
        parts = data / UPLOADS_FOLDER
        parts.mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(
            registry=registry,
            users=users,
            access=access,
            ledger=UploadLedger(catalog, blobs, directory, access),
            views=Views(registry.git_ids, xet_hashes_of),
            discussions=Discussions(catalog, registry.repos),
            notices=Notices(catalog),
            git=GitView(registry),
            weights=Weights(blobs),
            signer=Signer.of(catalog),
            quota=UploadQuota(quotas, directory),
            rate=RequestRate(requests_per_minute),
            parts_folder=parts,
            max_file_bytes=max_file_bytes,
            public_url=public_url.rstrip("/"),
        )
