"""What clients send, as structs: unknown fields are ignored, for clients are newer and older than this hub."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Text = Annotated[str, Meta(max_length=10_000)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Meta(ge=0, le=2**62)]
Visibility = Literal["public", "private"]


class CreateRepo(Struct, frozen=True):
    name: Name
    organization: Name | None = None
    type: str | None = None
    visibility: Visibility | None = None
    private: bool | None = None


class DeleteRepo(Struct, frozen=True):
    name: Name
    organization: Name | None = None
    type: str | None = None


class MoveRepo(Struct, frozen=True, rename="camel"):
    from_repo: Name
    to_repo: Name
    type: str | None = None


class Duplicate(Struct, frozen=True):
    repository: Name | None = None
    visibility: Visibility | None = None
    private: bool | None = None


class Settings(Struct, frozen=True):
    visibility: Visibility | None = None
    private: bool | None = None
    gated: Literal["auto", "manual"] | bool | None = None


class ValidateYaml(Struct, frozen=True, rename="camel"):
    content: Annotated[str, Meta(max_length=4_000_000)]
    repo_type: str = "model"


class NewBranch(Struct, frozen=True, rename="camel"):
    starting_point: Name | None = None


class NewTag(Struct, frozen=True):
    tag: Name
    message: Text | None = None


class Squash(Struct, frozen=True):
    message: Text | None = None


class PathsInfo(Struct, frozen=True):
    paths: Annotated[list[Annotated[str, Meta(max_length=2000)]], Meta(max_length=1000)]
    expand: bool = False


class PreuploadFile(Struct, frozen=True):
    path: Annotated[str, Meta(max_length=2000)]
    size: Size
    sample: Annotated[str, Meta(max_length=2000)] = ""


class Preupload(Struct, frozen=True, rename="camel"):
    files: Annotated[list[PreuploadFile], Meta(max_length=1000)]
    git_ignore: Annotated[str, Meta(max_length=256 * 1024)] | None = None
    git_attributes: Annotated[str, Meta(max_length=256 * 1024)] | None = None


# A commit, one line each


class HeaderValue(Struct, frozen=True, rename="camel"):
    summary: Text = ""
    description: Text = ""
    parent_commit: Name | None = None


class FileValue(Struct, frozen=True):
    path: str
    content: str
    encoding: Literal["base64", "utf-8"] = "utf-8"


class LfsFileValue(Struct, frozen=True):
    path: str
    oid: Hash
    algo: Literal["sha256", "sha_256", "sha-256"] = "sha256"
    size: Size | None = None


class PathValue(Struct, frozen=True):
    path: str


class HeaderLine(Struct, frozen=True, tag_field="key", tag="header"):
    value: HeaderValue


class FileLine(Struct, frozen=True, tag_field="key", tag="file"):
    value: FileValue


class LfsFileLine(Struct, frozen=True, tag_field="key", tag="lfsFile"):
    value: LfsFileValue


class DeletedFileLine(Struct, frozen=True, tag_field="key", tag="deletedFile"):
    value: PathValue


class DeletedFolderLine(Struct, frozen=True, tag_field="key", tag="deletedFolder"):
    value: PathValue


CommitLine = HeaderLine | FileLine | LfsFileLine | DeletedFileLine | DeletedFolderLine


# LFS


class LfsObject(Struct, frozen=True):
    oid: Hash
    size: Size


class LfsRef(Struct, frozen=True):
    name: Name


class LfsBatch(Struct, frozen=True):
    operation: Literal["upload", "download"]
    objects: Annotated[list[LfsObject], Meta(max_length=1000)]
    transfers: list[str] = field(default_factory=lambda: ["basic"])
    ref: LfsRef | None = None
    # Git LFS calls it sha256, the JavaScript client sha_256: the same function.
    hash_algo: Literal["sha256", "sha_256", "sha-256"] = "sha256"


class LfsPart(Struct, frozen=True, rename="camel"):
    part_number: Annotated[int, Meta(ge=1, le=10_000)]
    etag: Annotated[str, Meta(max_length=200)]


class LfsComplete(Struct, frozen=True):
    oid: Hash
    parts: Annotated[list[LfsPart], Meta(min_length=1, max_length=10_000)]


# Discussions and readers


class NewDiscussion(Struct, frozen=True, rename="camel"):
    title: Annotated[str, Meta(min_length=3, max_length=200)]
    description: Annotated[str, Meta(max_length=65_536)] = ""
    pull_request: bool = False


class NewComment(Struct, frozen=True):
    comment: Annotated[str, Meta(min_length=1, max_length=65_536)]


class EditedComment(Struct, frozen=True):
    content: Annotated[str, Meta(min_length=1, max_length=65_536)]


class NewStatus(Struct, frozen=True):
    status: Literal["open", "closed"]
    comment: Annotated[str, Meta(max_length=65_536)] | None = None


class NewTitle(Struct, frozen=True):
    title: Annotated[str, Meta(min_length=3, max_length=200)]


class Merge(Struct, frozen=True):
    comment: Annotated[str, Meta(max_length=65_536)] | None = None


class ReaderChange(Struct, frozen=True, rename="camel"):
    user: Name | None = None
    request_id: Name | None = None
    status: Literal["pending", "accepted", "rejected"] = "accepted"
    rejection_reason: Annotated[str, Meta(max_length=2000)] | None = None


class LfsDeletions(Struct, frozen=True, rename="camel"):
    sha: Annotated[list[Hash], Meta(max_length=1000)]
    rewrite_history: bool = True


class LfsFilesBatch(Struct, frozen=True):
    deletions: LfsDeletions


class CopiedFile(Struct, frozen=True, rename="camel"):
    sha256: Hash
    filename: Annotated[str, Meta(max_length=2000)] = ""
    xet_hash: str | None = None


class CopyTarget(Struct, frozen=True):
    name: Name
    type: str = "model"


class CopyFiles(Struct, frozen=True):
    target: CopyTarget
    files: Annotated[list[CopiedFile], Meta(max_length=1000)]


Json = dict[str, Any]
