"""Git's patterns (`wildmatch`), byte for byte: the language of `.gitattributes` and `.gitignore`.

A pattern becomes a list of steps; matching moves a set of positions, kept as the bits of one number, through them.
Nothing backtracks, so no pattern takes long, however many stars it has.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from enum import Enum

_SPECIAL = frozenset(b"*?[\\")
_SLASH = ord("/")


def _of(chars: str) -> frozenset[int]:
    return frozenset(chars.encode())


_CLASSES = {
    b"alnum": _of(string.ascii_letters + string.digits),
    b"alpha": _of(string.ascii_letters),
    b"blank": _of(" \t"),
    b"cntrl": frozenset((*range(32), 127)),
    b"digit": _of(string.digits),
    b"graph": frozenset(range(33, 127)),
    b"lower": _of(string.ascii_lowercase),
    b"print": frozenset(range(32, 127)),
    b"punct": _of(string.punctuation),
    b"space": _of(" \t\n\r\v\f"),
    b"upper": _of(string.ascii_uppercase),
    b"xdigit": _of(string.hexdigits),
}


class _Star(Enum):
    """What a star may stand for."""

    SEGMENT = "characters of one segment"
    ANYTHING = "any characters"
    FOLDERS = "no folder, or any number of whole ones with their slashes"


@dataclass(frozen=True, slots=True)
class _One:
    """One byte: one of these, or (`negated`) none of these; never a slash if `within` a segment."""

    bytes: frozenset[int]
    negated: bool = False
    within: bool = False

    def fits(self, byte: int) -> bool:
        return (byte in self.bytes) is not self.negated and not (self.within and byte == _SLASH)


_Step = _One | _Star


@dataclass(frozen=True, slots=True)
class Wildmatch:
    """A compiled pattern. `never`: it is malformed, so git lets it match nothing."""

    prefix: bytes
    steps: tuple[_Step, ...]
    never: bool = False

    def match(self, text: bytes) -> bool:
        """Whether the whole of `text` fits."""
        if self.never or not text.startswith(self.prefix):
            return False
        text = text[len(self.prefix) :]
        if not self.steps:
            return not text
        size = len(text)
        at = 1  # bit n: the steps so far can have used up n bytes
        for step in self.steps:
            if isinstance(step, _One):
                at = (at & _mask(text, step)) << 1
            elif step is _Star.SEGMENT:
                run = _mask(text, _NO_SLASH)
                at |= ((at & run) + run) ^ run  # a carry runs through to the next slash
                at &= (1 << (size + 1)) - 1
            else:
                first = at & -at
                reached = ((1 << (size + 1)) - 1) & ~(first - 1)
                at = reached if step is _Star.ANYTHING else at | (reached & (_mask(text, _IS_SLASH) << 1) & ~first)
            if not at:
                return False
        return bool(at >> size & 1)


_NO_SLASH = _One(frozenset((_SLASH,)), negated=True)
_IS_SLASH = _One(frozenset((_SLASH,)))


def _mask(text: bytes, step: _One) -> int:
    mask = 0
    for at, byte in enumerate(text):
        if step.fits(byte):
            mask |= 1 << at
    return mask


def compile_pattern(pattern: bytes, *, by_segment: bool) -> Wildmatch:
    """`by_segment`: stars and classes stay within a segment of a path, and `**` crosses segments."""
    literal = next((at for at, byte in enumerate(pattern) if byte in _SPECIAL), len(pattern))
    # Git compares what comes before the first wildcard by itself, and looks at the rest as a pattern of its own.
    steps = _steps(pattern[literal:], by_segment=by_segment)
    return Wildmatch(pattern[:literal], steps or (), steps is None)


def _steps(pattern: bytes, *, by_segment: bool) -> tuple[_Step, ...] | None:
    steps: list[_Step] = []
    at, size = 0, len(pattern)
    while at < size:
        byte = pattern[at]
        if byte == ord("*"):
            start = at
            while at < size and pattern[at] == ord("*"):
                at += 1
            rest = pattern[at : at + 2]
            whole = at - start > 1 and (start == 0 or pattern[start - 1] == _SLASH)
            whole = whole and (not rest or rest[:1] == b"/" or rest == b"\\/")
            if not by_segment or (whole and not rest):
                steps.append(_Star.ANYTHING)
            elif whole and rest[:1] == b"/":
                steps.append(_Star.FOLDERS)
                at += 1
            elif whole:
                steps.append(_Star.ANYTHING)
            else:
                steps.append(_Star.SEGMENT)
        elif byte == ord("?"):
            steps.append(_One(frozenset(), negated=True, within=by_segment))
            at += 1
        elif byte == ord("["):
            found = _class(pattern, at, within=by_segment)
            if found is None:
                return None
            step, at = found
            steps.append(step)
        else:
            at += byte == ord("\\")
            if at >= size:  # a backslash at the end matches nothing
                return None
            steps.append(_One(frozenset((pattern[at],))))
            at += 1
    return tuple(steps)


def _class(pattern: bytes, at: int, *, within: bool) -> tuple[_One, int] | None:
    """The class that begins with the bracket at `at`, and where the pattern goes on; None if it never ends."""
    size = len(pattern)
    at += 1
    negated = at < size and pattern[at] in b"!^"
    at += negated
    members: set[int] = set()
    before: int | None = None
    first = True
    while first or at >= size or pattern[at] != ord("]"):
        first = False
        if at >= size:
            return None
        byte = pattern[at]
        last: int | None = byte
        if byte == ord("\\"):
            at += 1
            if at >= size:
                return None
            last = pattern[at]
            members.add(last)
        elif byte == ord("-") and before is not None and at + 1 < size and pattern[at + 1] != ord("]"):
            at += 1
            if pattern[at] == ord("\\"):
                at += 1
                if at >= size:
                    return None
            members.update(range(before, pattern[at] + 1))
            last = None
        elif pattern[at : at + 2] == b"[:":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                return None
            if end - 1 >= at + 2 and pattern[end - 1] == ord(":"):
                named = _CLASSES.get(pattern[at + 2 : end - 1])
                if named is None:
                    return None
                members |= named
                at, last = end, None
            else:  # no ":]", so it is a bracket like any other byte
                members.add(byte)
        else:
            members.add(byte)
        before = last
        at += 1
    return _One(frozenset(members), negated, within), at + 1
