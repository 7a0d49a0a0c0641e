"""Who may do what in the content store, and what follows from it for the rest of the hub.

Stock clients drop the hub's own token when they talk to the content store, and fetch chunks with no token at all. So
there are two kinds of signed grants, which carry all that is to be checked: tokens of the store, and fetch links.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from hub.accounts.limits import UploadQuota
from hub.accounts.links import Signer
from hub.accounts.possession import UploadLedger
from hub.accounts.reservations import FILE, XORB
from hub.accounts.tokens import Identity, Kind
from hub.errors import ForbiddenError, UnauthorizedError
from hub.protocol.xet_schemas import LinkOf, TokenOut
from registry.errors import NotFoundError, UnknownXorbError, XetFileNotFoundError
from registry.repos.directory import Directory
from registry.types import RepoInfo
from registry.xet import Reconstruction, XetFile, XetHash, XetStore

CasScope = Literal["read", "write"]

TOKEN_SECONDS: Final = 30 * 60
"""Clients ask for a new token a minute before the end."""
SHARED_SECONDS: Final = 24 * 3600
"""Clients may build on others' chunks for so long without asking: less than any sensible grace of a collection."""
LINK_SECONDS: Final = 60 * 60
"""Clients ask for a new link when one is refused."""


class CasGrant(msgspec.Struct, frozen=True):
    """A token of the store: for the files of the repo with this key. `name` None: somebody anonymous."""

    name: str | None
    user: str | None
    scope: CasScope
    repo: int
    kind: Kind | None = None

    @property
    def who(self) -> Identity | None:
        """As the ledger knows them: no scope of the hub's own token goes with it."""
        return None if self.name is None else Identity.known_as(self.name, self.user, self.kind)

    @property
    def holder(self) -> str:
        """Whose clients share an epoch."""
        return f"user:{self.user}" if self.user else f"token:{self.name}" if self.name else "anonymous"


class FetchGrant(msgspec.Struct, frozen=True):
    """A link to the stored bytes [first, stop) of a xorb."""

    xorb: XetHash
    first: int
    stop: int


class XetAccess:
    """The store, as far as somebody may use it."""

    def __init__(
        self,
        store: XetStore,
        directory: Directory,
        ledger: UploadLedger,
        signer: Signer,
        *,
        max_file_bytes: int,
        quota: UploadQuota | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._directory = directory
        self._ledger = ledger
        self._signer = signer
        self._max_file_bytes = max_file_bytes
        self._quota = quota
        self._now = now

    def token(self, who: Identity | None, repo: RepoInfo, scope: CasScope, origin: str) -> TokenOut:
        """A token for a repo; that `who` may read it, or write to it, was checked before.

        `origin` is where the caller reaches the hub: `https://hub.example`.
        """
        grant = CasGrant(None, None, scope, repo.key)
        if who is not None:
            grant = CasGrant(who.owner if who.kind is Kind.TEAM else who.name, who.user, scope, repo.key, who.kind)
        return TokenOut(
            cas_url=f"{origin}/xet/{self.store.epoch(grant.holder)}",
            exp=int(self._now()) + TOKEN_SECONDS,
            # Those who ask a little late are still heard.
            access_token=self._signer.sign(grant, seconds=TOKEN_SECONDS + 60),
        )

    def check_token(self, token: str) -> CasGrant:
        """Raises UnauthorizedError, upon which clients ask for a new one."""
        try:
            return self._signer.check(token, CasGrant)
        except ForbiddenError as error:
            raise UnauthorizedError("the token of the content store is not valid (any more)") from error

    def links(self, origin: str) -> LinkOf:
        """Makes fetch links."""

        def link_of(xorb: XetHash, first: int, stop: int) -> str:
            token = self._signer.sign(FetchGrant(xorb, first, stop), seconds=LINK_SECONDS)
            return f"{origin}/xet-fetch/{token}"

        return link_of

    def check_link(self, token: str) -> FetchGrant:
        """Raises ForbiddenError, upon which clients ask for a new one."""
        return self._signer.check(token, FetchGrant)

    def register(self, grant: CasGrant, shard: bytes) -> tuple[XetFile, ...]:
        """Register a shard; whoever sent it has proven to possess its files. Raises as `XetStore.register`."""
        owner, team = self._payer(grant)
        reserved: list[str] = []

        def admit(new: Mapping[XetHash, int], xorbs: Sequence[XetHash]) -> None:
            # The chunks become these files: what was reserved for them is given back at the same moment.
            contents = {FILE + name: size for name, size in new.items()}
            self._reserve(team, owner, contents, instead_of=[XORB + name for name in xorbs])
            reserved.extend(contents)

        try:
            files = self.store.register(shard, max_bytes=self._max_file_bytes, admit=admit)
        except UnknownXorbError:
            # Their client remembers xorbs that are gone. It keeps that memory by the address of the store, and asks
            # for the address before each upload: a new one makes the next upload start from nothing, and succeed.
            self.store.renew_epoch(grant.holder)
            raise
        if (who := grant.who) is not None:
            for file in files:
                self._ledger.record(who, file.sha256, file.size, "xet")
        mine = {file.sha256: file.size for file in files if FILE + file.hash in reserved}
        self._reserve(team, owner, mine, instead_of=reserved)
        return files

    def announce_xorb(self, grant: CasGrant, name: XetHash, size: int) -> None:
        """Take room for chunks before they travel. Raises StorageFullError."""
        owner, team = self._payer(grant)
        self._reserve(team, owner, {XORB + name: size})

    def _payer(self, grant: CasGrant) -> tuple[str, str]:
        """Whose bytes these are, and for which team's repository the token was made."""
        info = self._directory.of_key(grant.repo)
        if info is None:
            raise UnauthorizedError("the token of the content store is for a repository that is gone")
        return grant.holder, info.id.namespace

    def _reserve(self, team: str, owner: str, contents: Mapping[str, int], *, instead_of: Sequence[str] = ()) -> None:
        if self._quota is not None:
            self._quota.reserve(team, owner, contents, instead_of=instead_of)

    def find_chunk(self, grant: CasGrant, chunk: XetHash) -> bytes:
        """A shard that says where a chunk lies, if it is of a file that the caller may read anyway.

        Raises NotFoundError. Files of others stay out of it: that a file exists may be a secret, too.
        """
        for file in self.store.files_with(chunk):
            if self._may_read(grant, file):
                # One key for each holder: their clients search once for each key that they know.
                key = self._signer.derive(f"chunks {grant.holder}")
                return self.store.keyed_shard(file.hash, chunk, key=key, seconds=SHARED_SECONDS)
        raise NotFoundError(f"the chunk {chunk[:16]} is in no file that you may read")

    def plan(self, grant: CasGrant, name: XetHash, start: int, stop: int | None) -> Reconstruction:
        """How to put a file together, if the repo's history holds it, or its reader possesses it anyway.

        Raises XetFileNotFoundError, InvalidRangeError.
        """
        file = self.store.file(name)
        if not self._may_read(grant, file):
            raise XetFileNotFoundError(name)
        if file.size == 0 and start == 0:
            return Reconstruction(0, (), {})
        return self.store.plan(name, start, stop)

    def _may_read(self, grant: CasGrant, file: XetFile) -> bool:
        if any(info.key == grant.repo for info, _ in self._directory.holders(file.sha256)):
            return True
        who = grant.who
        return who is not None and self._ledger.size_of(who, file.sha256) is not None
