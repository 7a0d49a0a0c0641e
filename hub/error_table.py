"""The ONE table that says what people see of any floor's errors.

It gives each error class an HTTP status, a problem type (RFC 9457) and a command's exit code. Lookup goes up the class
hierarchy, so a new error is covered by its nearest relative until it gets a row.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from finetune import errors as finetune_errors
from hub.errors import (
    PROBLEM_PREFIX,
    AlertStateError,
    AnotherServiceError,
    BaseMismatchError,
    CellExistsError,
    ContributionStateError,
    DataFolderInUseError,
    EventChangeError,
    ForbiddenError,
    GatedError,
    GrowthStateError,
    HubAnswerError,
    HubError,
    HubUnavailableError,
    InputError,
    InUseError,
    JobFailedError,
    JobStateError,
    LabelError,
    MaintenanceBusyError,
    OutcomesWaitError,
    PortInUseError,
    QuotaError,
    ReceiverError,
    RefreshStateError,
    RefusedFileError,
    SettingsError,
    StackError,
    StageTakenError,
    StorageFullError,
    TaskStateError,
    TelemetryError,
    ToolError,
    TrialError,
    UnauthorizedError,
    UnknownAlertError,
    UnknownBaseError,
    UnknownCellError,
    UnknownContributionError,
    UnknownDeliveryError,
    UnknownEvaluationError,
    UnknownEventError,
    UnknownFailureError,
    UnknownGrowthError,
    UnknownJobError,
    UnknownRefreshError,
    UnknownRobotError,
    UnknownSiteError,
    UnknownTaskError,
    UnknownTeamError,
    UnknownTokenError,
    UnknownTrialError,
    UnknownUploadError,
    UnknownUserError,
    UnknownVariantError,
    UnknownWebhookError,
    UploadStateError,
)
from registry import errors as registry_errors
from registry.blobs.disk import is_full, is_read_only
from serving import errors as serving_errors

EXIT_FAILURE, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_CONFLICT = 1, 2, 3, 4, 5


class Problem(NamedTuple):
    """What people see of an error."""

    status: int
    slug: str
    title: str
    exit_code: int

    @property
    def type(self) -> str:
        """The problem's URI (RFC 9457): what clients tell errors apart by."""
        return PROBLEM_PREFIX + self.slug


INTERNAL = Problem(500, "internal", "The hub failed", EXIT_FAILURE)


_bad, _absent, _refused, _conflict, _failed = (
    EXIT_USAGE,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    EXIT_CONFLICT,
    EXIT_FAILURE,
)
TABLE: dict[type[Exception], Problem] = {
    InputError: Problem(400, "bad-input", "Bad input", _bad),
    SettingsError: Problem(500, "bad-setting", "Bad setting", _bad),
    UnknownCellError: Problem(404, "unknown-cell", "Unknown cell", _absent),
    UnknownJobError: Problem(404, "unknown-job", "Unknown job", _absent),
    UnknownVariantError: Problem(404, "unknown-variant", "Unknown variant", _absent),
    UnknownTeamError: Problem(404, "unknown-team", "Unknown team", _absent),
    UnknownUploadError: Problem(404, "unknown-upload", "Unknown upload", _absent),
    UnknownEvaluationError: Problem(404, "unknown-evaluation", "Unknown evaluation", _absent),
    UploadStateError: Problem(409, "upload-state", "The upload does not go on like this", _conflict),
    RefusedFileError: Problem(422, "refused-file", "A file is refused", _bad),
    InUseError: Problem(409, "in-use", "It is in use", _conflict),
    StorageFullError: Problem(413, "storage-full", "The team's room is used up", _refused),
    QuotaError: Problem(429, "quota", "The team's quota is used up", _refused),
    UnknownAlertError: Problem(404, "unknown-alert", "Unknown alert", _absent),
    UnknownFailureError: Problem(404, "unknown-failure", "Unknown failed pick", _absent),
    AlertStateError: Problem(409, "alert-state", "Not possible in the alert's state", _conflict),
    UnknownContributionError: Problem(404, "unknown-contribution", "Unknown contribution", _absent),
    ContributionStateError: Problem(409, "contribution-state", "Not possible in the contribution's state", _conflict),
    UnknownGrowthError: Problem(404, "unknown-growth", "Unknown growth of the base", _absent),
    GrowthStateError: Problem(409, "growth-state", "The base cannot grow now", _conflict),
    UnknownRefreshError: Problem(404, "unknown-refresh", "Unknown refresh", _absent),
    RefreshStateError: Problem(409, "refresh-state", "Not possible in the refresh's state", _conflict),
    UnknownEventError: Problem(404, "unknown-event", "Unknown event", _absent),
    EventChangeError: Problem(409, "event-change", "Events cannot be changed so", _conflict),
    UnknownTaskError: Problem(404, "unknown-task", "Unknown labelling task", _absent),
    TaskStateError: Problem(409, "task-state", "Not possible in the task's state", _conflict),
    ToolError: Problem(502, "labelling-tool", "The labelling tool did not do its part", _failed),
    LabelError: Problem(422, "bad-labels", "The labels are not valid", _bad),
    UnknownTokenError: Problem(404, "unknown-token", "Unknown token", _absent),
    UnknownWebhookError: Problem(404, "unknown-webhook", "Unknown webhook", _absent),
    UnknownDeliveryError: Problem(404, "unknown-delivery", "Unknown delivery", _absent),
    ReceiverError: Problem(502, "receiver", "The webhook's receiver did not take it", _failed),
    UnknownUserError: Problem(404, "unknown-user", "Unknown user", _absent),
    GatedError: Problem(403, "gated", "Only chosen readers", _refused),
    UnknownBaseError: Problem(404, "unknown-base", "Unknown base", _absent),
    CellExistsError: Problem(409, "cell-exists", "Cell exists", _conflict),
    JobStateError: Problem(409, "job-state", "Not possible in the job's state", _conflict),
    BaseMismatchError: Problem(409, "base-mismatch", "On another base", _conflict),
    UnauthorizedError: Problem(401, "unauthorized", "No valid token", _refused),
    ForbiddenError: Problem(403, "forbidden", "The token does not allow this", _refused),
    PortInUseError: Problem(503, "port-in-use", "Port in use", _bad),
    MaintenanceBusyError: Problem(409, "maintenance-busy", "Another one runs", _conflict),
    DataFolderInUseError: Problem(503, "data-folder-in-use", "Data folder in use", _bad),
    StackError: Problem(503, "stack", "The stack does not run", _failed),
    TelemetryError: Problem(503, "telemetry", "The telemetry files cannot be used", _failed),
    UnknownTrialError: Problem(404, "unknown-trial", "Unknown trial", _absent),
    TrialError: Problem(409, "trial", "Not a possible trial", _conflict),
    OutcomesWaitError: Problem(429, "outcomes-wait", "Too many outcomes without a request", _conflict),
    StageTakenError: Problem(409, "stage-taken", "Another variant has the stage by now", _conflict),
    UnknownSiteError: Problem(404, "unknown-site", "Unknown site", _absent),
    UnknownRobotError: Problem(404, "unknown-robot", "Unknown robot", _absent),
    JobFailedError: Problem(409, "job-failed", "The job did not finish", _failed),
    AnotherServiceError: Problem(503, "another-service", "Another service answers", _failed),
    HubUnavailableError: Problem(503, "hub-unavailable", "No hub", _failed),
    HubError: INTERNAL,
    # serving
    serving_errors.RequestError: Problem(400, "bad-inference-request", "The request cannot be answered", _bad),
    serving_errors.ImageError: Problem(422, "bad-image", "The image cannot be read", _bad),
    serving_errors.UnknownCell: Problem(404, "cell-not-served", "The robots' table has no such cell", _absent),
    serving_errors.UnknownVariant: Problem(404, "variant-not-served", "The variant is not served", _absent),
    serving_errors.Unauthorized: Problem(401, "robot-unauthorized", "The robot's token is not good for this", _refused),
    serving_errors.CaptureNotFound: Problem(404, "unknown-capture", "Unknown capture", _absent),
    serving_errors.OutcomeInvalid: Problem(400, "bad-outcome", "Not an outcome", _bad),
    serving_errors.Overloaded: Problem(503, "robot-overloaded", "The robots' server is too busy", _failed),
    serving_errors.InstancesError: Problem(422, "bad-instances", "The instances are not valid", _bad),
    serving_errors.BaseError: Problem(422, "base-not-loadable", "The base cannot be loaded", _failed),
    serving_errors.AdapterError: Problem(422, "adapter-not-servable", "The variant cannot be served", _failed),
    serving_errors.NoFreeSlot: Problem(503, "no-free-slot", "Too many variants at once", _failed),
    serving_errors.RoutingError: Problem(500, "routing", "The routing table cannot be used", _failed),
    serving_errors.StatusError: Problem(
        500, "server-status", "What the server says of its variants cannot be read", _failed
    ),
    serving_errors.TritonError: Problem(503, "triton", "Triton does not run", _failed),
    serving_errors.TritonNotFound: Problem(503, "triton-not-found", "Triton is not installed", _bad),
    serving_errors.LibraryMissing: Problem(503, "library-missing", "A shared library is missing", _bad),
    serving_errors.PortInUse: Problem(503, "port-in-use", "Port in use", _bad),
    serving_errors.RequestRejected: Problem(400, "robot-request", "The robot's request was refused", _bad),
    serving_errors.DeadlineExceeded: Problem(504, "robot-deadline", "No answer in time", _failed),
    serving_errors.ServerUnavailable: Problem(503, "robot-server", "Triton does not answer", _failed),
    serving_errors.ClientError: Problem(503, "robot-client", "The robot's request failed", _failed),
    serving_errors.ReferenceUnreadable: Problem(
        422, "reference-unreadable", "The novelty reference cannot be read", _failed
    ),
    serving_errors.ExtensionError: Problem(500, "extension", "An extension cannot be loaded", _bad),
    serving_errors.ServingError: INTERNAL,
    # registry
    registry_errors.InvalidValueError: Problem(400, "invalid-value", "Invalid value", _bad),
    registry_errors.UnsafeFileError: Problem(422, "unsafe-file", "The file may not come in", _bad),
    registry_errors.InvalidRangeError: Problem(416, "invalid-range", "Not a range of the blob", _bad),
    registry_errors.NotFoundError: Problem(404, "not-found", "Not found", _absent),
    registry_errors.RepoNotFoundError: Problem(404, "unknown-repo", "Unknown repository", _absent),
    registry_errors.RevisionNotFoundError: Problem(404, "unknown-revision", "Unknown revision", _absent),
    registry_errors.EntryNotFoundError: Problem(404, "unknown-file", "Unknown file", _absent),
    registry_errors.BlobNotFoundError: Problem(404, "unknown-blob", "Unknown blob", _absent),
    registry_errors.ConflictError: Problem(409, "conflict", "Conflict", _conflict),
    registry_errors.RepoExistsError: Problem(409, "repo-exists", "Repository exists", _conflict),
    registry_errors.RefConflictError: Problem(409, "head-moved", "The branch has moved", _conflict),
    registry_errors.StatementError: Problem(409, "not-vouched-for", "Nobody vouches for it", _refused),
    registry_errors.KeyRingError: Problem(500, "keys", "The signing keys cannot be used", _failed),
    registry_errors.PolicyError: Problem(400, "bad-policy", "The policy is not valid", _bad),
    registry_errors.StageError: Problem(409, "stage", "The move is not possible", _conflict),
    registry_errors.MoveRefusedError: Problem(409, "move-refused", "The gate refused the move", _refused),
    registry_errors.NothingToRollBackError: Problem(409, "nothing-to-roll-back", "Nothing to roll back to", _conflict),
    registry_errors.DigestMismatchError: Problem(422, "digest", "The bytes do not match their sha256", _failed),
    registry_errors.TooLargeError: Problem(413, "too-large", "Upload too large", _bad),
    registry_errors.XetError: Problem(400, "chunks", "The content store cannot take this", _bad),
    registry_errors.XetFormatError: Problem(400, "bad-chunks", "The xorb or shard is not valid", _bad),
    registry_errors.ShardWorkError: Problem(413, "shard-too-much", "The shard asks for too much work", _bad),
    registry_errors.XetProofError: Problem(403, "no-proof", "The shard does not prove possession", _refused),
    registry_errors.UnknownXorbError: Problem(409, "unknown-xorb", "The shard builds on unknown xorbs", _conflict),
    registry_errors.BlobStoreError: Problem(503, "blob-store", "The blob store failed", _failed),
    registry_errors.DiskFullError: Problem(507, "disk-full", "Disk full", _failed),
    registry_errors.StoreMismatchError: Problem(503, "store-mismatch", "Catalog and blobs do not fit", _bad),
    registry_errors.BackupError: Problem(409, "backup", "The backup cannot be used so", _bad),
    registry_errors.CatalogBrokenError: Problem(503, "catalog-broken", "The hub is about to start again", _failed),
    registry_errors.CatalogError: Problem(500, "catalog", "The catalog failed", _failed),
    registry_errors.CatalogLockedError: Problem(503, "catalog-locked", "The catalog is in use", _bad),
    registry_errors.CatalogTooNewError: Problem(503, "catalog-too-new", "The catalog is newer", _bad),
    registry_errors.RegistryError: INTERNAL,
    # finetune
    finetune_errors.DatasetError: Problem(422, "bad-dataset", "The dataset cannot be used as it is", _bad),
    finetune_errors.DeckError: Problem(422, "bad-deck", "No training deck can be made of the dataset", _bad),
    finetune_errors.BaseModelError: Problem(422, "bad-base", "The base model cannot be used", _bad),
    finetune_errors.TrainingError: Problem(500, "training", "Training failed", _failed),
    finetune_errors.SceneToolError: Problem(422, "scene-tool", "A tier of scenes cannot be drawn here", _bad),
    finetune_errors.FinetuneError: INTERNAL,
}

_EXIT_OF_CODE = {kind.code: EXIT_NOT_FOUND for kind in (serving_errors.UnknownCell, serving_errors.UnknownVariant)}
_EXIT_OF_SLUG = {problem.slug: problem.exit_code for problem in TABLE.values()}


def problem_of(error: BaseException) -> Problem:
    """The row of the error's class or of its nearest listed ancestor."""
    error = plain(error)
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def plain(error: BaseException) -> BaseException:
    """The error as people are told it: whatever a full or read-only disk made fail, it is that."""
    if isinstance(error, HubAnswerError):
        return error
    if is_full(error):
        return error if isinstance(error, registry_errors.DiskFullError) else registry_errors.DiskFullError()
    if is_read_only(error):
        return registry_errors.BlobStoreError("the disk of the hub's data folder is read-only: nothing can be stored")
    return error


def log_failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Tell the log of a request that failed: with a traceback, unless the disk is full or read-only.

    That is no fault of the code, and a thousand refused requests must not fill the rest of the disk with tracebacks.
    """
    if is_full(error) or is_read_only(error):
        log.warning("%s refused: %s", what, "disk full" if is_full(error) else "the disk is read-only")
    else:
        log.error("%s failed", what, exc_info=error)


def exit_code_of(error: BaseException) -> int:
    """A refusal by the hub ends a command as the same error would have ended it locally."""
    if isinstance(error, HubAnswerError):
        known = _EXIT_OF_SLUG.get(error.slug)
        return known if known is not None else (EXIT_FAILURE if error.status >= 500 else EXIT_USAGE)
    if isinstance(error, serving_errors.RequestRejected):  # the server's own word for what was wrong
        return _EXIT_OF_CODE.get(error.reason_code, EXIT_USAGE)
    return problem_of(error).exit_code


def is_expected(error: BaseException) -> bool:
    """Whether the error has a row of its own kind: its sentence says enough, no traceback is needed."""
    return isinstance(error, HubAnswerError) or problem_of(error) is not INTERNAL
