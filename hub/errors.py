"""Every error the hub raises. `hub.error_table` says what people see of them."""

from __future__ import annotations

from typing import Any, Final, Self

import msgspec

PROBLEM_PREFIX = "urn:parcelhub:problem:"
UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What decoding others' JSON may raise: it is malformed or of another shape, no UTF-8, or nested too deeply."""


class HubError(Exception):
    """Root of this floor's errors."""


class InputError(HubError):
    """Raised when what the caller sent cannot be right: a bad value, a missing file, an unknown field."""


class SettingsError(HubError):
    """Raised when a setting has no usable value."""


class UnknownCellError(HubError):
    """Raised when a cell is named that was never created."""


class UnknownJobError(HubError):
    """Raised when there is no such job."""


class UnknownVariantError(HubError):
    """Raised when a cell has no such version."""


class UnknownTeamError(HubError):
    """Raised when there is no team of this name."""


class UnknownUploadError(HubError):
    """Raised when there is no such upload, or it is somebody else's."""


class UnknownEvaluationError(HubError):
    """Raised when there is no evaluation of this id."""


class UploadStateError(HubError):
    """Raised when a part does not follow the one before, or files are missing at the end."""


class RefusedFileError(HubError):
    """Raised when a file's content is not what its name says, or nothing a dataset may hold."""


class InUseError(HubError):
    """Raised when something is to be deleted that other things need."""


class QuotaError(HubError):
    """Raised when a team has used up what it may use; says which limit, and how much of it is used."""


class StorageFullError(QuotaError):
    """Raised, at the doors of stock clients, when a team's repositories may not hold so many bytes more."""


class UnknownTokenError(HubError):
    """Raised when there is no token of this id."""


class UnknownWebhookError(HubError):
    """Raised when there is no webhook of this id, or it is another team's."""


class UnknownDeliveryError(HubError):
    """Raised when a webhook has no delivery of this id."""


class ReceiverError(HubError):
    """Raised when a webhook's receiver cannot be reached, may not be asked, or does not answer in time."""


class UnknownUserError(HubError):
    """Raised when there is no user of this name."""


class GatedError(HubError):
    """Raised when a repository lets only chosen readers in, and the caller is none of them."""

    def __init__(self, kind: str, repo: object) -> None:
        super().__init__(
            f"Access to {kind} {repo} is restricted and you are not in the authorized list. Ask its owners for access."
        )


class UnknownBaseError(HubError):
    """Raised when no such base version is published."""


class CellExistsError(HubError):
    """Raised when a cell is created a second time."""


class JobStateError(HubError):
    """Raised when a job is not in a state that allows the request, a lost lease among the causes."""


class BaseMismatchError(HubError):
    """Raised when a variant is promoted that is on another base than the one that is served."""


class UnauthorizedError(HubError):
    """Raised when a request has no token, or one that is unknown, expired or revoked."""


class ForbiddenError(HubError):
    """Raised when the token does not carry the scope that a request needs."""


class PortInUseError(HubError):
    """Raised when a port that we must listen on is taken."""


class MaintenanceBusyError(HubError):
    """Raised when an examination, a collection or a backup is asked for while another one runs."""


class DataFolderInUseError(HubError):
    """Raised when another hub owns the data folder."""


class StackError(HubError):
    """Raised when a part of `parcelhub up` does not start or keeps dying."""


class TelemetryError(HubError):
    """Raised when the telemetry files cannot be read or written."""


class UnknownTrialError(HubError):
    """Raised when there is no trial of this id."""


class TrialError(HubError):
    """Raised when a trial makes no sense: nobody holds the stage, or the rates are the wrong way round."""


class OutcomesWaitError(HubError):
    """Raised when a robot reports on more requests that are not on record than the hub keeps."""


class StageTakenError(HubError):
    """Raised when a stage is not held by whom the caller judged: nothing was moved."""


class UnknownAlertError(HubError):
    """Raised when there is no alert of this id, or none that the caller may see."""


class UnknownFailureError(HubError):
    """Raised when there is no failed pick of this id, or none that the caller may see."""


class AlertStateError(HubError):
    """Raised when an alert that is closed is acknowledged or closed."""


class UnknownContributionError(HubError):
    """Raised when there is no contribution of this id."""


class ContributionStateError(HubError):
    """Raised when a contribution is in another state than what is asked of it needs."""


class UnknownGrowthError(HubError):
    """Raised when there is no growth of the base of this id."""


class GrowthStateError(HubError):
    """Raised when the base cannot grow as things stand, or the growth policy changed meanwhile."""


class UnknownRefreshError(HubError):
    """Raised when a cell has no refresh of this id."""


class RefreshStateError(HubError):
    """Raised when a refresh cannot be started, vetoed or undone as things stand, or its policy changed meanwhile."""


class UnknownEventError(HubError):
    """Raised when there is no event or finding of this id, or none that the caller may see."""


class EventChangeError(HubError):
    """Raised when events cannot be merged or split as asked."""


class UnknownTaskError(HubError):
    """Raised when there is no labelling task of this id, or none that the caller may see."""


class LabelError(HubError):
    """Raised for labels that no picture can have: outside of it, empty, of an unknown class, too many."""


class ToolError(HubError):
    """Raised when a labelling tool cannot be reached, refuses, or answers with what no such tool says."""


class TaskStateError(HubError):
    """Raised when a labelling task is not in the state that the caller saw, or is held by somebody else."""


class UnknownSiteError(HubError):
    """Raised when there is no site of this id."""


class UnknownRobotError(HubError):
    """Raised when there is no robot token of this id."""


class JobFailedError(HubError):
    """Raised when a command waited for a job that then failed or was cancelled."""


class HubUnavailableError(HubError):
    """Raised by the client when nobody answers at the hub's address."""

    def __init__(self, url: str, cause: Exception) -> None:
        self.url = url
        super().__init__(f"no hub answers at {url} ({cause}); start one with `parcelhub up`, or name it with --hub")


class AnotherServiceError(HubUnavailableError):
    """Raised by the client when what answers at the hub's address does not speak as a hub does."""

    def __init__(self, url: str, what: str) -> None:
        self.url = url
        HubError.__init__(
            self,
            f"another service answers at {url} ({what}), not a hub; is the address right (--hub, PARCELHUB_HUB_URL), "
            "and does something else listen on the hub's port?",
        )


class HubAnswerError(HubError):
    """Raised by the client when the hub refuses: the problem document it sent."""

    def __init__(self, status: int, slug: str, title: str, detail: str) -> None:
        self.status, self.slug, self.title, self.detail = status, slug, title, detail
        super().__init__(detail or title)

    @classmethod
    def of(cls, status: int, body: bytes) -> Self:
        """Made of an answer's status and body; a body that is no problem document gives the status alone."""
        try:
            problem = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:  # a HEAD, or something in between that is not the hub
            problem = {}
        slug = str(problem.get("type", "")).removeprefix(PROBLEM_PREFIX)
        title = str(problem.get("title", f"HTTP {status}"))
        fields = "; ".join(f"{e.get('field')}: {e.get('message')}" for e in problem.get("errors", []))
        detail = " ".join(filter(None, [str(problem.get("detail", "")), f"({fields})" if fields else ""]))
        return cls(status, slug, title, detail)
