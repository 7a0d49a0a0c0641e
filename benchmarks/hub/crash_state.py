"""Outcomes, promotions and memberships under kills: what the hub said it has must be there when it starts again."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import numpy as np
from safetensors.numpy import save

from hub.models.variants import repo_of
from hub.schemas.core import FinetuneIn, FinishIn
from hub.services import Services
from hub.settings import Settings
from registry.types import FileEntry, RepoId
from serving.folder.routing import ServingFolder
from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment

CELL: Final = "crash"
VARIANTS: Final = 3
TEAMS: Final = 3
"""Of each client; all clients change the teams of the same users at once."""
USERS: Final = 2
_OUTCOMES: Final = 20
_API: Final = "/api/v1"


@dataclass(slots=True)
class StateKept:
    """What was acknowledged.

    `members`: team and user to whether the user is in it; `unsure` are those whose last change nobody answered.
    `holder` is the variant at `fleet`, `perhaps` the one that an unanswered promotion named.
    """

    outcomes: list[str] = field(default_factory=list)
    sent: int = 0
    promotions: list[str] = field(default_factory=list)
    holder: str | None = None
    perhaps: str | None = None
    members: dict[tuple[str, str], bool] = field(default_factory=dict)
    unsure: set[tuple[str, str]] = field(default_factory=set)
    changes: int = 0
    refused: list[str] = field(default_factory=list)


def fill_cell(settings: Settings) -> None:
    """A cell with variants that can be promoted, as jobs leave them; the hub must not run."""
    services = Services.open(settings)
    try:
        services.cells.create(CELL, "")
        frames = RepoId("dataset", CELL, "frames")
        services.store.ensure(frames)
        _commit(services, frames, {"README.md": b"# Frames\n"})
        for number in range(VARIANTS):
            job = services.finetunes.request(FinetuneIn(cell=CELL, dataset=f"{CELL}/frames"), "bench")
            services.jobs.claim("bench")
            deck = json.dumps({"number": number}).encode()
            base, _, revision = job.spec.base.partition("@")
            document = {
                "base": {"repo": base, "revision": revision, "commit": job.spec.base_commit},
                "labels": {"box": "carton"}, "rank": 4, "deck": hashlib.sha256(deck).hexdigest(),
            }  # fmt: skip
            services.store.ensure(repo_of(CELL))
            files = {
                "variant.json": json.dumps(document).encode(),
                "adapter_config.json": b'{"r": 4}',
                "adapter_model.safetensors": save({"lora": np.full((8, 8), number, np.float32)}),
                "README.md": f"# Variant {number}\n".encode(),
            }
            commit = _commit(services, repo_of(CELL), files)
            digest = services.store.blobs.put_bytes(deck).sha256
            services.finetunes.accept(job.id, FinishIn(commit=commit, deck=digest, metrics={"variant_ap": 0.5}))
    finally:
        services.close()


def _commit(services: Services, repo: RepoId, files: dict[str, bytes]) -> str:
    entries = []
    for path, data in files.items():
        info = services.store.blobs.put_bytes(data)
        entries.append(FileEntry(path, info.sha256, info.size))
    return services.store.repos.commit(repo, entries, message="m", author="bench").id


class StateLoad:
    """Clients that change state until the hub is gone, and what they were told."""

    def __init__(self, settings: Settings, token: str, *, clients: int) -> None:
        self.settings = settings
        self.kept = StateKept()
        self._token = token
        self._clients = clients
        self._threads: list[threading.Thread] = []

    def prepare(self) -> None:
        """Make the users whose teams are changed."""
        with self._client() as http:
            for number in range(USERS):
                http.put(f"{_API}/users/racer-{number}", json={}).raise_for_status()
            for client in range(self._clients):  # a team is there while it has a name of its own
                for number in range(TEAMS):
                    http.put(f"{_API}/teams/crew-{client}-{number}", json={"fullname": "Crew"}).raise_for_status()

    def start(self, dice: random.Random) -> None:
        """Begin; the clients end by themselves when the hub does not answer."""
        works: list[Callable[[httpx.Client, random.Random], None]] = [self._report, self._promote]
        works += [self._member(number) for number in range(self._clients)]
        self._threads = [
            threading.Thread(target=self._until_gone, args=(work, random.Random(dice.random()))) for work in works
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for all clients to notice that the hub is gone."""
        for thread in self._threads:
            thread.join()

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self.settings.url, headers=headers, timeout=120)

    def _until_gone(self, work: Callable[[httpx.Client, random.Random], None], dice: random.Random) -> None:
        with self._client() as http:
            while True:
                try:
                    work(http, dice)
                except httpx.HTTPStatusError as error:
                    self.kept.refused.append(f"{error.request.url.path}: {error.response.text[:200]}")
                    return
                except httpx.HTTPError:
                    return

    def _report(self, http: httpx.Client, dice: random.Random) -> None:
        """A batch of picks: their requests are on record, as the robots' server leaves them."""
        ids = [f"{dice.getrandbits(96):024x}" for _ in range(_OUTCOMES)]
        now, variant = time.time(), f"{CELL}@v1"
        facts = {"cell": CELL, "variant": variant, "base": "universal@v1", "stage": "fleet", "table_version": 1}
        rows = [
            {"request_id": one, "at": now, **facts, "instances": 1, "labels": "{}", "latency_ms": 9.0, "batch": 1}
            for one in ids
        ]
        write_segment(self.settings.telemetry_folder / INCOMING, PREDICTIONS, rows)
        self.kept.sent += len(ids)
        _reported(http, ids).raise_for_status()
        self.kept.outcomes += ids

    def _promote(self, http: httpx.Client, dice: random.Random) -> None:
        wanted = f"v{dice.randint(1, VARIANTS)}"
        if f"{CELL}@{wanted}" == self.kept.holder:
            return
        self.kept.perhaps = f"{CELL}@{wanted}"
        body = {"stage": "fleet", "expected": self.kept.holder, "note": "bench"}
        answer = http.post(f"{_API}/models/{CELL}/{wanted}/promote", json=body)
        answer.raise_for_status()
        self.kept.holder = answer.json()["version"]
        self.kept.perhaps = None
        self.kept.promotions.append(answer.json()["decision"])

    def _member(self, client: int) -> Callable[[httpx.Client, random.Random], None]:
        def change(http: httpx.Client, dice: random.Random) -> None:
            team, user = f"crew-{client}-{dice.randrange(TEAMS)}", f"racer-{dice.randrange(USERS)}"
            member = not self.kept.members.get((team, user), False)
            self.kept.unsure.add((team, user))
            route = f"{_API}/teams/{team}/members/{user}"
            http.request("PUT" if member else "DELETE", route).raise_for_status()
            self.kept.members[team, user] = member
            self.kept.unsure.discard((team, user))
            self.kept.changes += 1

        return change

    def check(self, since: int, *, everything: bool) -> list[str]:
        """What is not as it was acknowledged. `since`: outcomes before that number were looked for already.

        What nobody answered may be there or not; it is taken as it is from then on.
        """
        lost = list(self.kept.refused)
        self.kept.refused.clear()
        with self._client() as http:
            lost += self._check_outcomes(http, 0 if everything else since)
            lost += self._check_promotions(http)
            lost += self._check_members(http)
        return lost

    def _check_outcomes(self, http: httpx.Client, since: int) -> list[str]:
        lost = []
        ids = self.kept.outcomes[since:]
        for at in range(0, len(ids), 1000):
            answer = _reported(http, ids[at : at + 1000])
            answer.raise_for_status()
            if (taken := answer.json()["taken"]) != 0:  # the hub did not know them any more
                lost.append(f"{taken} outcomes of {len(ids)}")
        rates = http.get(f"{_API}/outcomes/rates?by=cell&cell={CELL}")
        rates.raise_for_status()
        picks = sum(one["picks"] for one in rates.json()["rates"])
        if not len(self.kept.outcomes) <= picks <= self.kept.sent:
            lost.append(f"{picks} picks count, {len(self.kept.outcomes)} were acknowledged, {self.kept.sent} sent")
        return lost

    def _check_promotions(self, http: httpx.Client) -> list[str]:
        lost = []
        plan = http.get(f"{_API}/rollouts/{CELL}")
        plan.raise_for_status()
        fleet = plan.json()["fleet"]
        if fleet not in (self.kept.holder, self.kept.perhaps):
            lost.append(f"{fleet} is at fleet, {self.kept.holder} was put there")
        routed = ServingFolder(self.settings.serving_folder).table().cells[CELL].fleet
        if routed != fleet:
            lost.append(f"robots are routed to {routed}, {fleet} is at fleet")
        self.kept.holder, self.kept.perhaps = fleet, None
        known = http.get(f"{_API}/provenance/decisions?cell={CELL}&limit=1000")
        known.raise_for_status()
        told = known.text
        lost += [f"the decision {one}" for one in self.kept.promotions[-500:] if one not in told]
        return lost

    def _check_members(self, http: httpx.Client) -> list[str]:
        lost = []
        teams: dict[str, Any] = {}
        for client in range(self._clients):
            for number in range(TEAMS):
                name = f"crew-{client}-{number}"
                answer = http.get(f"{_API}/teams/{name}")
                answer.raise_for_status()
                teams[name] = answer.json()["members"]
        for (team, user), member in self.kept.members.items():
            if (user in teams[team]) != member and (team, user) not in self.kept.unsure:
                lost.append(f"{user} is {'not ' if member else ''}in {team}")
        for team, user in self.kept.unsure:
            self.kept.members[team, user] = user in teams[team]
        self.kept.unsure.clear()
        return lost


def _reported(http: httpx.Client, ids: Sequence[str]) -> httpx.Response:
    rows = [{"request_id": one, "outcome": "success", "picked_at": time.time()} for one in ids]
    return http.post(f"{_API}/outcomes", json={"outcomes": rows})
