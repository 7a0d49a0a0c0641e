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
    """A repo to make, in `organization`, by the prefix of `name`, or in the caller's own namespace. `type` None: a
    model."""

    name: Name
    organization: Name | None = None
    type: str | None = None
    visibility: Visibility | None = None
    private: bool | None = None


class DeleteRepo(Struct, frozen=True):
    """A repo to delete with all its history; named as in `CreateRepo`."""

    name: Name
    organization: Name | None = None
    type: str | None = None


class MoveRepo(Struct, frozen=True, rename="camel"):
    """A repo's new name: `namespace/name`, both times."""

    from_repo: Name
    to_repo: Name
    type: str | None = None


class Duplicate(Struct, frozen=True):
    """Where a copy of a repo goes; `repository` None: the caller's own namespace, under the same name."""

    repository: Name | None = None
    visibility: Visibility | None = None
    private: bool | None = None


class Settings(Struct, frozen=True):
    """What to change of a repo; None leaves it. `gated` says how readers are let in (True: `auto`); False: no gate."""

    visibility: Visibility | None = None
    private: bool | None = None
    gated: Literal["auto", "manual"] | bool | None = None


class ValidateYaml(Struct, frozen=True, rename="camel"):
    """The README whose metadata block is to be checked before a commit."""

    content: Annotated[str, Meta(max_length=4_000_000)]
    repo_type: str = "model"


class NewBranch(Struct, frozen=True, rename="camel"):
    """Where a branch begins: a branch, tag or commit; None: the head of `main`."""

    starting_point: Name | None = None


class NewTag(Struct, frozen=True):
    """A tag to set on the revision of the address."""

    tag: Name
    message: Text | None = None


class Squash(Struct, frozen=True):
    """The message of the one commit that takes the place of a branch's history; None: the hub's own."""

    message: Text | None = None


class PathsInfo(Struct, frozen=True):
    """Paths to tell about; `expand` asks for the last commit of each, too."""

    paths: Annotated[list[Annotated[str, Meta(max_length=2000)]], Meta(max_length=1000)]
    expand: bool = False


class PreuploadFile(Struct, frozen=True):
    """A file that is to be committed: its size in bytes and its beginning, base64."""

    path: Annotated[str, Meta(max_length=2000)]
    size: Size
    sample: Annotated[str, Meta(max_length=2000)] = ""


class Preupload(Struct, frozen=True, rename="camel"):
    """Files whose way of upload is asked, with the `.gitignore` and `.gitattributes` that come with them."""

    files: Annotated[list[PreuploadFile], Meta(max_length=1000)]
    git_ignore: Annotated[str, Meta(max_length=256 * 1024)] | None = None
    git_attributes: Annotated[str, Meta(max_length=256 * 1024)] | None = None


# A commit, one line each


class HeaderValue(Struct, frozen=True, rename="camel"):
    """The commit's message, and the head that it is made on; None: whatever it is by then."""

    summary: Text = ""
    description: Text = ""
    parent_commit: Name | None = None


class FileValue(Struct, frozen=True):
    """A small file, its content in the line itself."""

    path: str
    content: str
    encoding: Literal["base64", "utf-8"] = "utf-8"


class LfsFileValue(Struct, frozen=True):
    """A file whose bytes were uploaded before: `oid` is their sha256. `size` None: whatever it is."""

    path: str
    oid: Hash
    algo: Literal["sha256", "sha_256", "sha-256"] = "sha256"
    size: Size | None = None


class PathValue(Struct, frozen=True):
    """A path that goes. That of a folder may end with a slash."""

    path: str


class HeaderLine(Struct, frozen=True, tag_field="key", tag="header"):
    """The first line: the commit itself."""

    value: HeaderValue


class FileLine(Struct, frozen=True, tag_field="key", tag="file"):
    """A line that adds or replaces a small file."""

    value: FileValue


class LfsFileLine(Struct, frozen=True, tag_field="key", tag="lfsFile"):
    """A line that adds or replaces an uploaded file."""

    value: LfsFileValue


class DeletedFileLine(Struct, frozen=True, tag_field="key", tag="deletedFile"):
    """A line that deletes a file."""

    value: PathValue


class DeletedFolderLine(Struct, frozen=True, tag_field="key", tag="deletedFolder"):
    """A line that deletes all files below a folder."""

    value: PathValue


CommitLine = HeaderLine | FileLine | LfsFileLine | DeletedFileLine | DeletedFolderLine


# LFS


class LfsObject(Struct, frozen=True):
    """Some bytes: their sha256 and how many they are."""

    oid: Hash
    size: Size


class LfsRef(Struct, frozen=True):
    """The branch that an upload is meant for."""

    name: Name


class LfsBatch(Struct, frozen=True):
    """Objects that a client wants links for. `transfers` are the ways that it knows; the hub picks one."""

    operation: Literal["upload", "download"]
    objects: Annotated[list[LfsObject], Meta(max_length=1000)]
    transfers: list[str] = field(default_factory=lambda: ["basic"])
    ref: LfsRef | None = None
    # Git LFS calls it sha256, the JavaScript client sha_256: the same function.
    hash_algo: Literal["sha256", "sha_256", "sha-256"] = "sha256"


class LfsPart(Struct, frozen=True, rename="camel"):
    """A part that was uploaded, counted from 1, with the etag that its answer had."""

    part_number: Annotated[int, Meta(ge=1, le=10_000)]
    etag: Annotated[str, Meta(max_length=200)]


class LfsComplete(Struct, frozen=True):
    """All parts of one object: it is put together of them."""

    oid: Hash
    parts: Annotated[list[LfsPart], Meta(min_length=1, max_length=10_000)]


# Discussions and readers


class NewDiscussion(Struct, frozen=True, rename="camel"):
    """A discussion to open, or a pull request."""

    title: Annotated[str, Meta(min_length=3, max_length=200)]
    description: Annotated[str, Meta(max_length=65_536)] = ""
    pull_request: bool = False


class NewComment(Struct, frozen=True):
    """A comment in Markdown."""

    comment: Annotated[str, Meta(min_length=1, max_length=65_536)]


class EditedComment(Struct, frozen=True):
    """The new text of a comment."""

    content: Annotated[str, Meta(min_length=1, max_length=65_536)]


class NewStatus(Struct, frozen=True):
    """A discussion to close or to open again, and why."""

    status: Literal["open", "closed"]
    comment: Annotated[str, Meta(max_length=65_536)] | None = None


class NewTitle(Struct, frozen=True):
    """A discussion's new title."""

    title: Annotated[str, Meta(min_length=3, max_length=200)]


class Merge(Struct, frozen=True):
    """A pull request to merge, with a last comment."""

    comment: Annotated[str, Meta(max_length=65_536)] | None = None


class ReaderChange(Struct, frozen=True, rename="camel"):
    """Who may read a gated repo: a user, by name or by the id of what they asked."""

    user: Name | None = None
    request_id: Name | None = None
    status: Literal["pending", "accepted", "rejected"] = "accepted"
    rejection_reason: Annotated[str, Meta(max_length=2000)] | None = None


class LfsDeletions(Struct, frozen=True, rename="camel"):
    """Uploaded files to take out of the whole history; `rewrite_history` False is refused."""

    sha: Annotated[list[Hash], Meta(max_length=1000)]
    rewrite_history: bool = True


class LfsFilesBatch(Struct, frozen=True):
    """What to do with a repo's uploaded files."""

    deletions: LfsDeletions


class CopiedFile(Struct, frozen=True, rename="camel"):
    """A file to copy, by its sha256."""

    sha256: Hash
    filename: Annotated[str, Meta(max_length=2000)] = ""
    xet_hash: str | None = None


class CopyTarget(Struct, frozen=True):
    """The repo that files are copied to."""

    name: Name
    type: str = "model"


class CopyFiles(Struct, frozen=True):
    """Files that are to be committed to another repo; no byte moves."""

    target: CopyTarget
    files: Annotated[list[CopiedFile], Meta(max_length=1000)]


Json = dict[str, Any]
