"""The check of a dataset: a kind of job that looks over images, masks and classes.

What was uploaded in a browser is first brought into the form that the hub stores, as `dataset push` does before it
sends anything: images and COCO annotations, one revision on from the files as they came. Pictures of strangers are
decoded in the job's process, never in the hub's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from hub.errors import HubAnswerError, QuotaError
from hub.jobs.kinds import Done, Fact, Fragment, JobKind, JobStoppedError, Work, downloads, register
from hub.jobs.plain_text import plain
from hub.schemas.jobs import JobSpec
from hub.schemas.quality import Finding, Quality
from registry.types import RepoId

if TYPE_CHECKING:
    from finetune.datasets import Dataset
    from hub.accounts.tokens import Identity
    from hub.schemas.core import FinishIn, Job, Tree
    from hub.services import Services

log = logging.getLogger("parcelhub.job")

KIND = "dataset-check"
CARD = "README.md"
MAX_SECONDS = 3600.0
STAGES = {"download": "fetch the files", "read": "read the labels", "write": "store them", "check": "look them over"}
State = Literal["none", "waiting", "running", "failed"]
_NAMED = 20


class DatasetCheckIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked."""

    dataset: Annotated[str, Meta(pattern=r"^[^/@\s]+/[^/@\s]+$", max_length=200)]
    """`team/name`"""
    revision: Annotated[str, Meta(max_length=200)] = "main"


class DatasetCheckSpec(Struct, JobSpec, frozen=True, kw_only=True, tag_field="kind", tag=KIND):
    """What is queued.

    Attributes:
        convert: whether the revision is brought into the hub's form first, as another one.
        left_out: pictures that did not come with an upload, each with the reason: labels may speak of them.
    """

    light: ClassVar[bool] = True
    dataset: str
    dataset_commit: str
    convert: bool = False
    left_out: dict[str, str] = {}
    max_seconds: float = MAX_SECONDS

    def writes(self) -> list[str]:
        """The dataset itself, where the check makes a revision of it."""
        return [f"dataset/{self.dataset}"] if self.convert else []

    def keeps(self) -> list[str]:
        """Nothing: a dataset that is deleted needs no check."""
        return []


# --- the job's process ------------------------------------------------------------------------------------------------


class _GaveUpError(Exception):
    """Raised with the sentence to show where a check cannot go on."""


def run(work: Work) -> Done:
    """Download the revision, convert it if that was asked for, and check it. What is wrong with the files is an answer
    too. Raises JobStoppedError and HubError."""
    spec = work.job.spec
    assert isinstance(spec, DatasetCheckSpec)  # noqa: S101  # the kind's own
    folder = work.workspace / spec.dataset.partition("/")[2]
    tree = work.client.download_tree("dataset", spec.dataset, spec.dataset_commit, folder, downloads(work)("dataset"))
    commit, notes = spec.dataset_commit, _left_out(spec.left_out)
    try:
        if spec.convert:
            commit, more = _convert(work, spec, folder, tree)
            notes += more
        quality = msgspec.structs.replace(_check(work, folder), notes=notes)
    except _GaveUpError as error:
        quality = Quality(problem=str(error), notes=notes)
    return Done(msgspec.to_builtins(quality), commit, rest=(folder, _converted(folder)))


def _check(work: Work, folder: Path) -> Quality:
    """Raises _GaveUpError."""
    from finetune.datasets.quality import check_quality
    from finetune.errors import DatasetError

    done = _converted(folder)
    found = _read(work, done if done.is_dir() else folder, leave_out_damaged=False)
    try:
        report = check_quality(found, progress=lambda at, of: _tell(work, "check", at, of))
    except DatasetError as error:
        raise _GaveUpError(_sentence(error, folder)) from None
    findings = [Finding(one.severity, one.check, one.message, one.count, list(one.files)) for one in report.findings]
    return Quality(report.images, report.instances, findings)


def _convert(work: Work, spec: DatasetCheckSpec, folder: Path, tree: Tree) -> tuple[str, list[str]]:
    """Commit a revision in the hub's form, and answer its commit, the same one if it is in that form already, and
    what was left out or repaired on the way.

    Raises _GaveUpError for files that are no dataset, and where somebody else has changed the dataset meanwhile.
    """
    from finetune.datasets import export_dataset
    from finetune.errors import DatasetError

    # To whoever reads the labels, a picture that was left out is one that is damaged: it is left out with them.
    for name in spec.left_out:
        stub = folder / name
        with suppress(OSError):  # a name that is a folder here
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.touch(exist_ok=True)
    target, before = _converted(folder), {file.path: file.sha256 for file in tree.files}
    read = _read(work, folder, leave_out_damaged=True)
    try:
        if not target.is_dir():
            lost = export_dataset(read, target, "coco", progress=lambda at, of: _tell(work, "write", at, of))
        else:  # an earlier attempt got so far
            lost = ()
    except DatasetError as error:
        raise _GaveUpError(_sentence(error, folder)) from None
    operations, known = [], set(before.values())
    wanted = {CARD: before[CARD]} if CARD in before else {}
    for path in sorted(target.rglob("*")):
        if not path.is_file():
            continue
        name, digest = path.relative_to(target).as_posix(), _sha256(path)
        if name != CARD or CARD not in wanted:
            wanted[name] = digest
        if before.get(name) != digest:
            if digest not in known:
                work.client.put_blob(path, digest)
            operations.append({"op": "put", "path": name, "sha256": digest})
    operations += [{"op": "delete", "path": name} for name in before if name not in wanted]
    told = [line for line in read.warnings if not (spec.left_out and "the file is empty" in line)]
    notes = [plain(line) for line in (*told, *(f"lost: {one}" for one in lost))]
    if not operations:
        return spec.dataset_commit, notes
    message = f"Read as {read.format}: {len(read.samples):,} images"
    try:
        made = work.client.commit("dataset", spec.dataset, message, operations, expected_parent=spec.dataset_commit)
    except HubAnswerError as error:
        if error.slug != "head-moved":
            raise
        now = work.client.tree("dataset", spec.dataset, "main")
        if {file.path: file.sha256 for file in now.files} != wanted:  # else an earlier attempt of ours made it
            raise _GaveUpError("The dataset was changed while it was read; check it again.") from None
        return now.commit, notes
    return made.id, notes


def _read(work: Work, folder: Path, *, leave_out_damaged: bool) -> Dataset:
    """Raises _GaveUpError."""
    from finetune.datasets import read_dataset
    from finetune.errors import DatasetError

    try:
        return read_dataset(
            folder, leave_out_damaged=leave_out_damaged, progress=lambda at, of: _tell(work, "read", at, of)
        )
    except DatasetError as error:
        raise _GaveUpError(_sentence(error, folder)) from None


def _tell(work: Work, stage: str, done: int, of: int) -> None:
    """Raises JobStoppedError where the job is to end."""
    from finetune.contract import Progress

    if work.should_stop():
        raise JobStoppedError
    work.report(Progress(stage, done, of))


def _converted(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.converted")


def _sha256(path: Path) -> str:
    from hub.client.client import sha256_of

    return sha256_of(path)


def _left_out(pictures: Mapping[str, str]) -> list[str]:
    """What the browser left out, in a line."""
    if not pictures:
        return []
    shown = "; ".join(f"{path} ({why})" if why else path for path, why in list(pictures.items())[:_NAMED])
    more = f"; and {len(pictures) - _NAMED:,} more" if len(pictures) > _NAMED else ""
    return [f"{len(pictures):,} damaged picture{'' if len(pictures) == 1 else 's'} left out: {shown}{more}"]


def _sentence(error: Exception, folder: Path) -> str:
    """What was wrong, without the names of our folders."""
    parent = str(folder.parent)
    return plain(str(error)).replace(parent + "/", "").replace(parent, "").strip()[-4000:]


# --- the hub's side ---------------------------------------------------------------------------------------------------


def queue(services: Services, who: Identity, asked: DatasetCheckIn) -> Job:
    """Queue the check of a revision that the asker may have. Raises NotFoundError, GatedError, QuotaError."""
    repo = RepoId.parse(asked.dataset, "dataset")
    services.readable(repo, who, files=True)
    commit = services.store.repos.resolve(repo, asked.revision)
    return _queue(services, repo, commit.id, who.owner, team=repo.namespace if who.owns(repo.namespace) else who.home)


def _queue(
    services: Services,
    repo: RepoId,
    commit: str,
    created_by: str,
    *,
    team: str,
    convert: bool = False,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Job:
    spec = DatasetCheckSpec(dataset=str(repo), dataset_commit=commit, convert=convert, left_out=dict(left_out))
    request = f"{KIND}:{team.lower()}{_of_files(repo, services.quality.tree(repo, commit))}"
    return services.jobs.create(spec, created_by, team=team, request=request)


def _of_files(repo: RepoId, tree: str) -> str:
    """The end of a request's name. It begins with the team: another team's job is no answer, since nobody else may look
    at it."""
    return f":{repo}:{tree}"


def accept(services: Services, job: Job, answer: FinishIn) -> Job:
    """Keep what was found, for the revision that was checked. Raises msgspec.ValidationError, NotFoundError."""
    spec = job.spec
    assert isinstance(spec, DatasetCheckSpec)  # noqa: S101  # the kind's own
    quality = msgspec.convert(answer.metrics, Quality)
    tree = services.quality.tree(RepoId.parse(spec.dataset, "dataset"), answer.commit or spec.dataset_commit)
    if not spec.convert and (before := services.quality.of_tree(tree)) is not None:
        # What was noted when these files were read first: a later check does not read them again.
        quality = msgspec.structs.replace(quality, notes=before.notes)
    services.quality.keep(tree, quality)
    told = {"images": quality.images, "instances": quality.instances, "findings": len(quality.findings)}
    return services.jobs.finish(job.id, None, told | ({"summary": [quality.problem]} if quality.problem else {}))


class Standing(NamedTuple):
    """How far the check of a revision is, and its job."""

    state: State
    job: str = ""
    error: str = ""


class Checks:
    """What pages ask of checks."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def found(self, repo: RepoId, commit: str) -> Quality | None:
        """What a finished check said."""
        return self._services.quality.found(repo, commit)

    def standing(self, repo: RepoId, commit: str) -> Standing:
        """The newest check of these files, or of files that this revision is made of right now."""
        rows = self._services.registry.catalog.query(
            "SELECT id, state, error FROM hub_jobs WHERE kind = ? AND (ends_with(request, ?)"
            " OR (state IN ('queued', 'running') AND json_extract_string(spec, '$.dataset') = ?"
            " AND json_extract_string(spec, '$.convert') = 'true'))"
            " ORDER BY created_at DESC, id LIMIT 1",
            [KIND, _of_files(repo, self._services.quality.tree(repo, commit)), str(repo)],
        )
        if not rows:
            return Standing("none")
        job, state, error = rows[0]
        states: dict[str, State] = {"queued": "waiting", "running": "running", "failed": "failed"}
        return Standing(states.get(state, "none"), job, error or "")

    def state(self, repo: RepoId, commit: str) -> State:
        """Whether a check waits or runs."""
        found = self.standing(repo, commit).state
        return "none" if found == "failed" else found

    def start(
        self,
        repo: RepoId,
        commit: str,
        *,
        asked_by: str = "",
        team: str = "",
        convert_for: str = "",
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Have a revision checked, unless it is being checked or its team has no job left to queue.

        With `convert_for`, the author of the revision that comes of it, it is brought into the hub's form before.
        `left_out` are pictures that did not come with it, each with the reason: labels may speak of them.
        """
        try:
            _queue(
                self._services,
                repo,
                commit,
                convert_for or asked_by or str(repo),
                team=team or repo.namespace,
                convert=bool(convert_for),
                left_out=left_out,
            )
        except QuotaError as error:  # its page has a button, which says so
            log.info("%s@%s is not checked: %s", repo, commit[:12], error)


def page(job: Job) -> Fragment:
    """The page of a check: what was checked, and where the report is."""
    spec = job.spec
    assert isinstance(spec, DatasetCheckSpec)  # noqa: S101  # the kind's own
    address = f"/ui/datasets/{spec.dataset}"
    facts = [
        Fact("dataset", f"{spec.dataset} at {spec.dataset_commit[:12]}", f"{address}?revision={spec.dataset_commit}"),
        Fact("brought into the hub's form", "yes" if spec.convert else "no"),
    ]
    links = [("See what was found", f"{address}/check")] if job.state == "finished" else []
    return Fragment(f"Check of {spec.dataset}", [Fact("on", spec.dataset, address)], facts, STAGES, links)


register(JobKind(DatasetCheckSpec, "dataset check", run, page, DatasetCheckIn, queue, accept))
