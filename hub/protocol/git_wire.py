"""Git's protocol version 2 for readers: which refs there are, and a pack of what a client lacks.

The pack is made while it is sent: commits and trees wait in a temporary file until their number is known, each blob
(at most 10 MB: what is larger is a pointer) is read when its turn comes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.protocol import pkt_line

from hub.errors import HubError
from hub.protocol.git import HEAD_BRANCH, GitBlob, GitView, Known
from registry.types import RepoInfo

DELIM: Final = b"0001"
FLUSH: Final = pkt_line(None)
AGENT: Final = b"agent=parcelhub"
MAX_LINES: Final = 200_000
BAND_BYTES: Final = 65_515
_COMMIT, _TREE, _BLOB = 1, 2, 3
_DATA, _TOLD, _FATAL = b"\x01", b"\x02", b"\x03"
_SPOOL: Final = 8 * 1024**2
CAPABILITIES: Final = (b"version 2\n", AGENT + b"\n", b"ls-refs=unborn\n", b"fetch=shallow\n", b"object-format=sha1\n")


class GitRequestError(HubError):
    """Raised for a request that is not git's protocol, or that asks for what is not there; git shows the sentence."""


def advertisement() -> bytes:
    """What a client of version 2 is told first."""
    service = pkt_line(b"# service=git-upload-pack\n") + FLUSH
    return service + b"".join(pkt_line(line) for line in CAPABILITIES) + FLUSH


def refusal(sentence: str) -> bytes:
    """An error as git shows it: `fatal: remote error: ...`."""
    return pkt_line(b"ERR " + sentence.encode()[:900] + b"\n")


@dataclass(slots=True)
class Asked:
    """A command with its arguments."""

    command: str = ""
    args: list[str] = field(default_factory=list)


def parse(body: bytes) -> Asked:
    """A request's body. Raises GitRequestError."""
    asked = Asked()
    at, lines, behind = 0, 0, False
    while at < len(body):
        try:
            size = int(body[at : at + 4], 16)
        except ValueError:
            raise GitRequestError("the request is no sequence of packet lines") from None
        lines += 1
        if lines > MAX_LINES:
            raise GitRequestError("the request has too many lines")
        if size in (0, 1, 2):
            at += 4
            behind = behind or size == 1
            if size == 0:
                break
            continue
        if size < 4 or at + size > len(body):
            raise GitRequestError("a packet line is cut short")
        try:
            line = body[at + 4 : at + size].decode().removesuffix("\n")
        except UnicodeDecodeError:
            raise GitRequestError("a packet line is no text") from None
        at += size
        if line.startswith("command=") and not asked.command:
            asked.command = line.removeprefix("command=")
        elif behind:
            asked.args.append(line)
        elif line.startswith("object-format=") and line != "object-format=sha1":
            raise GitRequestError("this hub's objects are named by sha1")
    return asked


def list_refs(git: GitView, info: RepoInfo, args: Sequence[str]) -> bytes:
    """The answer to `ls-refs`."""
    refs = git.refs(info)
    prefixes = [arg.removeprefix("ref-prefix ") for arg in args if arg.startswith("ref-prefix ")]
    head = f"refs/heads/{HEAD_BRANCH}"
    lines = []
    if head in refs:
        symref = f" symref-target:{head}" if "symrefs" in args else ""
        lines.append(("HEAD", f"{refs[head]} HEAD{symref}"))
    elif "unborn" in args:
        lines.append(("HEAD", f"unborn HEAD symref-target:{head}"))
    lines += [(name, f"{sha1} {name}") for name, sha1 in refs.items()]
    shown = [line for name, line in lines if not prefixes or name.startswith(tuple(prefixes))]
    return b"".join(pkt_line(f"{line}\n".encode()) for line in shown) + FLUSH


@dataclass(slots=True)
class Wish:
    """What a fetch asks for. `depth` 0: everything."""

    wants: list[str] = field(default_factory=list)
    haves: list[str] = field(default_factory=list)
    shallow: set[str] = field(default_factory=set)
    depth: int = 0
    since: int = 0
    without: list[str] = field(default_factory=list)
    relative: bool = False
    done: bool = False

    @classmethod
    def of(cls, args: Sequence[str]) -> Wish:
        """Raises GitRequestError."""
        wish = cls()
        for arg in args:
            word, _, value = arg.partition(" ")
            if word in ("want", "have", "shallow"):
                if len(value) != 40:
                    raise GitRequestError(f"{word}: no object name")
                match word:
                    case "want":
                        wish.wants.append(value)
                    case "have":
                        wish.haves.append(value)
                    case _:
                        wish.shallow.add(value)
            elif word in ("deepen", "deepen-since"):
                if not value.isdecimal() or len(value) > 12:
                    raise GitRequestError(f"{word}: no number")
                wish.depth, wish.since = (int(value), 0) if word == "deepen" else (0, int(value))
            elif word == "deepen-not":
                wish.without.append(value)
            elif word == "deepen-relative":
                wish.relative = True
            elif word == "done":
                wish.done = True
        return wish

    @property
    def cuts(self) -> bool:
        """Whether a part of the history is asked for: a shallow fetch."""
        return bool(self.depth or self.since or self.without)


@dataclass(slots=True)
class Plan:
    """What is sent: commits oldest first, and where the client's history is cut and no longer cut."""

    commits: list[Known]
    common: list[str]
    ready: bool
    shallow: list[str]
    unshallow: list[str]
    base: list[Known]


def plan(git: GitView, info: RepoInfo, wish: Wish) -> Plan:
    """Raises GitRequestError for an object that is not there, and for a depth that leaves nothing."""
    histories: dict[str, list[Known]] = {}
    for want in dict.fromkeys(wish.wants):
        found = git.history(info, want)
        if found is None:
            raise GitRequestError(f"upload-pack: not our ref {want}")
        histories[want] = found
    reach = {one.sha1: (one, want, at) for want, chain in histories.items() for at, one in enumerate(chain)}
    common = [have for have in dict.fromkeys(wish.haves) if have in reach or git.commit_of(info.key, have)]
    kept = {want: _cut(git, info, wish, chain) for want, chain in histories.items()}
    # The client holds what leads back from what it has, up to where its own history is cut.
    held: set[str] = set()
    for have in common:
        for one in git.history(info, have) or []:
            if one.sha1 in held:
                break
            held.add(one.sha1)
            if one.sha1 in wish.shallow:
                break
    shallow, unshallow = [], []
    chosen: dict[str, Known] = {}
    for want, chain in histories.items():
        length = kept[want]
        if wish.cuts and length < len(chain):
            shallow.append(chain[length - 1].sha1)
        for at, one in enumerate(chain[:length]):
            if one.sha1 in wish.shallow and (at < length - 1 or length == len(chain)):
                unshallow.append(one.sha1)
            if one.sha1 not in held:
                chosen.setdefault(one.sha1, one)
    if not wish.cuts:
        # Below a cut of the client's own nothing is sent: it asked for none of it.
        for chain in histories.values():
            for at, one in enumerate(chain):
                if one.sha1 in wish.shallow:
                    for lower in chain[at + 1 :]:
                        chosen.pop(lower.sha1, None)
                    break
        unshallow = []
    commits = sorted(chosen.values(), key=lambda one: (one.commit.created_at, one.sha1))
    parents = {one.commit.parent for one in commits}
    base = [one for one, _, _ in reach.values() if one.sha1 in held and one.commit.id in parents]
    ready = bool(common) and all(any(one.sha1 in held for one in chain) for chain in histories.values())
    return Plan(commits, common, ready, list(dict.fromkeys(shallow)), list(dict.fromkeys(unshallow)), base)


def _cut(git: GitView, info: RepoInfo, wish: Wish, chain: Sequence[Known]) -> int:
    """How many commits of a history are wanted."""
    length = len(chain)
    if wish.depth:
        start = 0
        if wish.relative:
            start = next((at for at, one in enumerate(chain) if one.sha1 in wish.shallow), 0)
            start += bool(start or (chain and chain[0].sha1 in wish.shallow))
        length = min(length, start + wish.depth)
    if wish.since:
        length = next((at for at, one in enumerate(chain) if one.commit.created_at.timestamp() < wish.since), length)
    if wish.without:
        refs = git.refs(info)
        out: set[str] = set()
        for name in wish.without:
            sha1 = refs.get(name) or refs.get(f"refs/heads/{name}") or refs.get(f"refs/tags/{name}")
            if sha1 is None:
                raise GitRequestError(f"deepen-not is not a ref: {name}")
            out |= {one.sha1 for one in git.history(info, sha1) or []}
        length = min(length, next((at for at, one in enumerate(chain) if one.sha1 in out), length))
    if length == 0:
        raise GitRequestError("no commits selected for shallow requests")
    return length


def fetch(git: GitView, info: RepoInfo, wish: Wish) -> Iterator[bytes]:
    """The answer to `fetch`, in pieces. Raises GitRequestError before the first one."""
    made = plan(git, info, wish)
    return _answer(git, wish, made)


def _answer(git: GitView, wish: Wish, made: Plan) -> Iterator[bytes]:
    if not wish.done:
        lines = [b"acknowledgments\n"]
        lines += [f"ACK {have}\n".encode() for have in made.common] or [b"NAK\n"]
        if made.ready:
            lines.append(b"ready\n")
        yield b"".join(pkt_line(line) for line in lines) + (DELIM if made.ready else FLUSH)
        if not made.ready:
            return
    if wish.cuts:
        lines = [b"shallow-info\n", *(f"shallow {one}\n".encode() for one in made.shallow)]
        lines += [f"unshallow {one}\n".encode() for one in made.unshallow]
        yield b"".join(pkt_line(line) for line in lines) + DELIM
    yield pkt_line(b"packfile\n")
    pending = bytearray()
    try:
        for piece in _pack(git, made):
            if isinstance(piece, str):
                yield pkt_line(_TOLD + piece.encode())
                continue
            pending += piece
            while len(pending) >= BAND_BYTES:
                yield pkt_line(_DATA + bytes(pending[:BAND_BYTES]))
                del pending[:BAND_BYTES]
    except Exception:
        yield pkt_line(_FATAL + b"the hub failed while it made the pack; its log says why\n")
        raise
    if pending:
        yield pkt_line(_DATA + bytes(pending))
    yield FLUSH


def _pack(git: GitView, made: Plan) -> Iterator[bytes | str]:
    """The pack's bytes; texts between them are progress for the person who waits."""
    from dulwich.pack import pack_header_chunks, pack_object_chunks  # not at every start of a hub

    seen: set[str] = set()
    for snapshot in git.snapshots(made.base):
        seen |= snapshot.trees.keys() | snapshot.blobs.keys()
    blobs: dict[str, GitBlob] = {}
    count = 0
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spool:
        for at, snapshot in enumerate(git.snapshots(made.commits), 1):
            objects = [(_COMMIT, snapshot.commit)]
            new = [(sha1, tree) for sha1, tree in snapshot.trees.items() if sha1 not in seen]
            seen |= {sha1 for sha1, _ in new}
            for kind, one in [*objects, *((_TREE, tree) for _, tree in new)]:
                for chunk in pack_object_chunks(kind, one.as_raw_chunks(), DEFAULT_OBJECT_FORMAT):
                    spool.write(chunk)
                count += 1
            blobs |= {sha1: blob for sha1, blob in snapshot.blobs.items() if sha1 not in seen}
            seen |= snapshot.blobs.keys()
            if at % 100 == 0:
                yield f"Reading commits: {at}/{len(made.commits)}\n"
        digest = hashlib.sha1(usedforsecurity=False)
        for chunk in pack_header_chunks(count + len(blobs)):
            digest.update(chunk)
            yield chunk
        spool.seek(0)
        while chunk := spool.read(BAND_BYTES):
            digest.update(chunk)
            yield chunk
    for blob in blobs.values():
        for chunk in pack_object_chunks(_BLOB, [git.read(blob)], DEFAULT_OBJECT_FORMAT):
            digest.update(chunk)
            yield chunk
    yield digest.digest()
