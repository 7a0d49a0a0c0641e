"""The typed client of the REST service, used by the commands, the worker and the job process."""

from __future__ import annotations

from hub.client.accounts import AccountCalls
from hub.client.alerts import AlertCalls
from hub.client.audit import AuditCalls
from hub.client.calls import sha256_of, split_name
from hub.client.captures import CaptureCalls
from hub.client.cells import CellCalls
from hub.client.datasets import DatasetCalls
from hub.client.events import EventCalls
from hub.client.failures import FailureCalls
from hub.client.forgetting import ForgetCalls
from hub.client.growth import GrowthCalls
from hub.client.handoffs import HandOffCalls
from hub.client.jobs import JobCalls
from hub.client.labels import LabelCalls
from hub.client.models import ModelCalls
from hub.client.outcomes import OutcomeCalls
from hub.client.provenance import ProvenanceCalls
from hub.client.refresh import RefreshCalls
from hub.client.repos import ProgressCallback, RepoCalls
from hub.client.rollout import RolloutCalls
from hub.client.sites import SiteCalls
from hub.client.webhooks import WebhookCalls

__all__ = ["HubClient", "ProgressCallback", "sha256_of", "split_name"]


class HubClient(
    CellCalls,
    RepoCalls,
    AccountCalls,
    JobCalls,
    ModelCalls,
    DatasetCalls,
    AuditCalls,
    OutcomeCalls,
    CaptureCalls,
    ForgetCalls,
    AlertCalls,
    FailureCalls,
    EventCalls,
    RolloutCalls,
    LabelCalls,
    HandOffCalls,
    ProvenanceCalls,
    RefreshCalls,
    GrowthCalls,
    WebhookCalls,
    SiteCalls,
):
    """One connection pool to one hub: the calls of each resource (`hub.api`).

    They raise `HubAnswerError` (it said no), `HubUnavailableError` (nobody answers) and `AnotherServiceError`.
    """
