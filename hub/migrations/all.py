"""Every set of tables that the hub adds to the registry's, in the order of their first release."""

from __future__ import annotations

from typing import Final

from hub.migrations.tables import HUB
from hub.migrations.tables_access import ACCESS
from hub.migrations.tables_events import EVENTS
from hub.migrations.tables_failures import FAILURES
from hub.migrations.tables_growth import GROWTH
from hub.migrations.tables_handoff import HANDOFF
from hub.migrations.tables_labelling import LABELLING
from hub.migrations.tables_loop import LOOP
from hub.migrations.tables_promoter import PROMOTER
from hub.migrations.tables_protocol import PROTOCOL
from hub.migrations.tables_quotas import QUOTAS
from hub.migrations.tables_refresh import REFRESH
from hub.migrations.tables_rollout import ROLLOUT
from hub.migrations.tables_sites import SITES
from hub.migrations.tables_webhooks import WEBHOOKS
from registry.catalog.migrations import MigrationSet

MIGRATIONS: Final[tuple[MigrationSet, ...]] = (
    *(HUB, ROLLOUT, ACCESS, QUOTAS, PROTOCOL, WEBHOOKS, LOOP, REFRESH, FAILURES, EVENTS, LABELLING, HANDOFF, GROWTH),
    *(SITES, PROMOTER),
)
