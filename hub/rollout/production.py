"""What the hub knows of production, wired once: telemetry, captures, roll-outs, trials and the robots' tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hub.accounts.cell_tokens import LOCAL
from hub.accounts.tokens import Tokens
from hub.loop.alerts import Alerts
from hub.loop.changes import Changes
from hub.loop.events import Events
from hub.loop.failures import Failures
from hub.loop.pick_changes import PickChanges, forget_frames
from hub.loop.sites.inbox import Inbox
from hub.loop.sites.sites import Sites
from hub.loop.sites.statistics import SiteStatistics
from hub.loop.sites.wishes import Wishes
from hub.loop.uplink import Uplink
from hub.models.cells import Cells
from hub.models.remains import forgotten_cells
from hub.rollout.promotions import Promotions
from hub.rollout.robots import Robots
from hub.rollout.rollouts import Plans, Rollouts
from hub.rollout.serving_folder import ServingFolder
from hub.rollout.statistics import wilson
from hub.rollout.telemetry import Telemetry
from hub.rollout.trials import Trials, TrialWatch
from hub.settings import Settings
from registry.registry import Registry
from serving.observed.captures import CaptureStore
from serving.observed.spool import UPLINK, Spool


@dataclass(frozen=True, slots=True)
class Production:
    """These parts; `close` ends their threads."""

    telemetry: Telemetry
    captures: CaptureStore
    rollouts: Rollouts
    trials: Trials
    watch: TrialWatch
    robots: Robots
    alerts: Alerts
    failures: Failures
    events: Events
    pick_changes: PickChanges
    sites: Sites
    wishes: Wishes
    site_statistics: SiteStatistics
    inbox: Inbox

    @classmethod
    def over(
        cls,
        settings: Settings,
        registry: Registry,
        tokens: Tokens,
        cells: Cells,
        folder: ServingFolder,
        promotions: Promotions,
    ) -> Self:
        """Open them. The serving folder follows the plans from now on: call its `sync` after this."""
        catalog = registry.catalog
        plans = Plans(catalog)
        folder.plans = plans.all
        telemetry = Telemetry(
            settings.telemetry_folder, keep_days=settings.telemetry_days, forgotten=lambda: forgotten_cells(catalog)
        )
        trials = Trials(
            catalog, registry.blobs, registry.stages, promotions, telemetry, automatic=bool(settings.trials)
        )  # fmt: skip
        robots = Robots(catalog, tokens, cells, settings.serving_folder)
        if settings.check_robots:
            robots.ensure_local(settings.robot_token_file)
        robots.sync()
        captures = CaptureStore(settings.telemetry_folder / "captures")
        cells.before_delete.append(captures.remove_of)
        spool = Spool(settings.telemetry_folder / UPLINK)
        uplink = Uplink(catalog, spool)
        alerts = Alerts(catalog, uplink, captures, settings.data / "alerts")
        cells.on_delete.append(alerts.forget)
        failures = Failures(catalog, captures, telemetry.failed, settings.serving_folder)
        cells.on_delete.append(failures.forget)
        events = Events(catalog, captures, telemetry.outcome_of, settings.data / "events", wilson)
        cells.on_delete.append(events.forget)
        alerts.forgot.append(events.forget_capture)
        sites = Sites(catalog, tokens, settings.telemetry_folder)
        sites.ensure_local(settings.site_token_file)
        wishes = Wishes(catalog)
        statistics = SiteStatistics(catalog, settings.telemetry_folder, LOCAL)
        changes = Changes(catalog, uplink)
        cells.on_delete += [wishes.forget, statistics.forget, changes.forget]
        cells.before_delete.append(lambda cell: forget_frames(wishes.ask, cell))
        picks = PickChanges(telemetry.arrived, settings.telemetry_folder, wishes.ask)
        picks.observers.append(
            lambda cell, at: changes.picks(
                cell, at, "outcomes of its picks; frames of the failed ones are sampled first"
            )
        )
        cells.before_delete.append(picks.forget)
        return cls(
            telemetry=telemetry,
            captures=captures,
            rollouts=Rollouts(catalog, cells, plans, folder),
            trials=trials,
            watch=TrialWatch(trials),
            robots=robots,
            alerts=alerts,
            failures=failures,
            events=events,
            pick_changes=picks,
            sites=sites,
            wishes=wishes,
            site_statistics=statistics,
            inbox=Inbox(catalog, spool, captures, alerts, settings.telemetry_folder),
        )

    def close(self) -> None:
        """End the threads, then the telemetry that they read."""
        self.watch.close()
        self.pick_changes.close()
        self.telemetry.close()
