"""What happens in the hub, as events of webhooks: `repo.*`, `discussion.*`, `job.*`, `promotion.*`, `alert.<name>`.

Each function is called inside the transaction of what it tells, and looks at nothing unless a webhook listens. Nothing
is told that the answers of the API would not show to the team: no evidence, no notes, no addresses of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hub.accounts.privacy import CELLS
from hub.errors import InputError
from hub.jobs.queue import Jobs
from hub.loop.alerts import Alerts
from hub.loop.events import Events
from hub.migrations.tables import timestamp
from hub.protocol.discussions import OID, Discussions, Event
from hub.rollout.trials import Trials
from hub.schemas.core import Job
from hub.webhooks.hooks import Happening, Subject, Webhooks, cell_name
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.registry import Registry
from registry.repos.changes import RepoChange
from registry.repos.repo_rows import REPO, info_of_row, names_of
from registry.stage_types import HELD_STAGES, DecisionRecord
from registry.types import RepoInfo
from serving.observed.camera_kinds import ADVICE

MAX_TEXT: Final = 4000
MAX_COMMITS: Final = 20
_ALERT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}(\.[a-z0-9][a-z0-9_-]{0,62}){0,2}")
_REPO_EVENTS: Final = {
    "created": "repo.created",
    "deleted": "repo.deleted",
    "renamed": "repo.renamed",
    "settings": "repo.settings",
    "commit": "repo.commit",
    "squashed": "repo.squashed",
    "ref-created": "repo.ref-created",
    "ref-deleted": "repo.ref-deleted",
}
_DISCUSSION_EVENTS: Final = {
    "opened": "discussion.opened",
    "comment": "discussion.comment",
    "edited": "discussion.comment-edited",
    "hidden": "discussion.comment-hidden",
    "status-change": "discussion.status",
    "title-change": "discussion.title",
    "commit": "discussion.commit",
}


class WebhookEvents:
    """Listens to all parts of the hub, and offers `alert` to whoever watches something."""

    def __init__(self, webhooks: Webhooks, catalog: Catalog) -> None:
        self._webhooks = webhooks
        self._catalog = catalog

    def watch(self, registry: Registry, discussions: Discussions, jobs: Jobs) -> None:
        """Follow what happens from now on."""
        registry.repos.observers.append(self._repo)
        registry.stages.observers.append(self._decided)
        discussions.observers.append(self._said)
        jobs.observers.append(self._job)

    def watch_trials(self, trials: Trials) -> None:
        """A trial that fails is an alert."""
        trials.observers.append(self._judged)

    def watch_alerts(self, alerts: Alerts) -> None:
        """A camera's fault is an alert: `alert.camera.open` and `alert.camera.closed`."""
        alerts.observers.append(self._camera)

    def watch_events(self, events: Events) -> None:
        """A new kind of package, or of failed pick, is an alert: `alert.event.new`."""
        events.observers.append(self._event)

    def alert(
        self,
        name: str,
        text: str,
        *,
        cell: str | None = None,
        team: str = "",
        data: Mapping[str, Any] | None = None,
        tx: Cursor | None = None,
    ) -> None:
        """Tell of something that a person should look at: `alert.<name>`, any name of lower-case words with dots.

        About a cell's production, about a team, or (neither) for the operator alone. `tx`: the transaction of the
        cause; without it, one of its own. Raises InputError for a name that nobody could ask for.
        """
        if not _ALERT.fullmatch(name):
            raise InputError(f"{name!r} is no name of an alert: lower-case letters, digits, '_', '-', dots between")
        event = f"alert.{name}"
        if not self._webhooks.listens(event):
            return
        if tx is None:
            with self._catalog.write() as own:
                self._alert(own, event, text, cell, team.lower(), data or {})
        else:
            self._alert(tx, event, text, cell, team.lower(), data or {})

    def _alert(self, tx: Cursor, event: str, text: str, cell: str | None, team: str, data: Mapping[str, Any]) -> None:
        owner = _team_of(tx, cell) if cell is not None else team
        about = {"cell": cell, "team": owner or None}
        subject = Subject(place=cell) if cell is not None else Subject(team=team)
        name = cell_name(cell) if cell is not None else team
        told = {"text": text[:MAX_TEXT], **data}
        self._webhooks.tell(tx, Happening(event, subject, name, owner, about, told))

    def _camera(self, tx: Cursor, alert: str, cell: str, state: str) -> None:
        row = tx.execute("SELECT kind, line, camera FROM loop_alerts WHERE id = ?", [alert]).fetchone()
        if row is None:
            return
        kind, line, camera = row
        text = f"{ADVICE[kind].what} {ADVICE[kind].remedy}" if state == "open" else f"{kind}: it is gone"
        data = {"alert": alert, "kind": kind, "line": line, "camera": camera}
        self.alert(f"camera.{state}", text, cell=cell, data=data, tx=tx)

    def _event(self, tx: Cursor, event: str, cell: str, what: str) -> None:
        text = "Packages that the cell does not know, or that fail, have something in common: look at the event."
        self.alert(f"event.{what}", text, cell=cell, data={"event": event}, tx=tx)

    def _repo(self, tx: Cursor, change: RepoChange) -> None:
        event = _REPO_EVENTS[change.kind]
        if not self._webhooks.listens(event):
            return
        row = tx.execute(REPO, names_of(change.repo)).fetchone()
        if row is None:
            return
        info = info_of_row(row)
        data: dict[str, Any] = {}
        if change.ref is not None:
            data |= {"ref": change.ref.name, "kind": change.ref.kind, "head": change.ref.commit[:OID]}
        if change.commits:
            data["commits"] = [
                {
                    "id": one.id[:OID],
                    "author": one.author,
                    "message": one.message[:1000],
                    "created_at": timestamp(one.created_at.timestamp()),
                }
                for one in change.commits[-MAX_COMMITS:]
            ]
            data["commits_in_all"] = len(change.commits)
        if change.before is not None:
            data["before"] = str(change.before)
        self._webhooks.tell(tx, _of_repo(tx, event, info, data))

    def _said(self, tx: Cursor, info: RepoInfo, num: int, what: str, event: Event) -> None:
        name = _DISCUSSION_EVENTS.get(what)
        if name is None or not self._webhooks.listens(name):
            return
        data: dict[str, Any] = {"discussion": num, "author": event.author}
        match what:
            case "comment" | "edited" | "hidden":
                text = "" if event.data.get("hidden") else str(event.data.get("latest", {}).get("raw", ""))
                data |= {"comment": event.seq, "text": text[:MAX_TEXT]}
            case "opened":
                data |= {"title": event.data["title"], "pull_request": event.data["pull"]}
            case "status-change":
                data |= {key: event.data[key] for key in ("status", "commit") if event.data.get(key)}
            case "title-change":
                data |= {"title": event.data.get("to", "")}
            case _:
                data |= {"head": event.data.get("oid", ""), "message": event.data.get("subject", "")[:1000]}
        self._webhooks.tell(tx, _of_repo(tx, name, info, data))

    def _job(self, tx: Cursor, job: Job) -> None:
        event = f"job.{job.state}"
        if not self._webhooks.listens(event):
            return
        data = {
            "kind": job.spec.kind,
            "state": job.state,
            "attempt": job.attempt,
            "dataset": job.spec.dataset or None,
            "created_by": job.created_by,
            "error": None if job.error is None else job.error[:MAX_TEXT],
            "variant": job.version,
        }
        about = {"job": job.id, "cell": job.spec.cell or None, "team": job.team or None}
        subject, name = Subject(team=job.team), cell_name(job.spec.cell) if job.spec.cell else job.spec.dataset
        self._webhooks.tell(tx, Happening(event, subject, name, job.team.lower(), about, data))

    def _decided(self, tx: Cursor, record: DecisionRecord) -> None:
        event = f"promotion.{_what(record)}"
        if not self._webhooks.listens(event):
            return
        team = _team_of(tx, record.cell)
        data = {
            "variant": f"{record.variant.repo.name}@{record.variant.version}",
            "from": record.from_stage,
            "to": record.to_stage,
            "previous": None if record.holder is None else f"{record.holder.repo.name}@{record.holder.version}",
            "actor": record.actor,
            "decision": record.id,
        }
        about = {"cell": record.cell, "team": team or None}
        what = Happening(event, Subject(cell=record.cell), cell_name(record.cell), team, about, data)
        self._webhooks.tell(tx, what)

    def _judged(self, tx: Cursor, trial: str, state: str) -> None:
        if state != "failed" or not self._webhooks.listens("alert.trial-failed"):
            return
        row = tx.execute(
            "SELECT cell, version, stage, picks, successes FROM rollout_trials WHERE id = ?", [trial]
        ).fetchone()
        if row is not None:
            cell, version, stage, picks, successes = row
            text = f"{cell}@{version} does worse at {stage} than it should: {successes} of {picks} picks went well"
            data = {"trial": trial, "stage": stage, "picks": picks, "successes": successes}
            self.alert("trial-failed", text, cell=cell, data=data, tx=tx)


def _what(record: DecisionRecord) -> str:
    if not record.allowed:
        return "refused"
    if record.kind == "rollback" or (record.from_stage in HELD_STAGES and record.to_stage == "candidate"):
        return "rolled-back"
    return "moved" if record.to_stage in HELD_STAGES else str(record.to_stage)


def _of_repo(tx: Cursor, event: str, info: RepoInfo, data: Mapping[str, Any]) -> Happening:
    """About a repo; one of a cell is its team's, and as private as the cell's variants."""
    ours = info.id.type == "model" and info.id.namespace.lower() == CELLS
    owner = _team_of(tx, info.id.name) if ours else info.id.namespace.lower()
    about = {"type": info.id.type, "repo": str(info.id), "private": info.private}
    subject = Subject(repo=info.key, cell=info.id.name if ours else None)
    return Happening(event, subject, str(info.id), owner, about, data, info)


def _team_of(tx: Cursor, cell: str) -> str:
    row = tx.execute("SELECT team FROM hub_cells WHERE name = ?", [cell]).fetchone()
    return (row[0] or "").lower() if row is not None else ""
