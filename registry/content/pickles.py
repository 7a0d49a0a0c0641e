"""Recognising a pickle by what it is, whatever it is called: its opcodes are read, never run.

A pickle is a program; one that names or calls anything can run code when it is loaded. Its reader stops at the first
STOP, so bytes after it prove nothing, and a program is one from its first byte on or not at all.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import Final

_CALLS: Final = frozenset(
    ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD", "PERSID", "BINPERSID")
    + ("EXT1", "EXT2", "EXT4")
)
"""Opcodes by which a pickle reaches beyond plain values."""
_RUNS: Final = frozenset(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"))
"""Those that call something at once, whether or not the pickle ever ends."""
MANY: Final = 2_000
"""So many opcodes in a row are no accident, and somebody who hides one behind more of them hides it."""
FEW: Final = 12
_NAME = re.compile(r"[^\W\d][\w.]*")


def is_pickle(head: bytes, *, whole: bool) -> bool:
    """Whether a file that begins with `head` is a pickle; `whole` says that there is no more of it.

    With the mark of protocols 2 to 5 at the front, the few opcodes that fit are enough. Texts can begin with letters
    that are opcodes of the older protocols by accident; those count only if they end as a pickle does, and name or
    call something.
    """
    if not head:
        return False
    marked = head[0] == 0x80 and len(head) > 1 and head[1] <= 5
    count, calls, ran, stack = 0, False, False, _Stack()
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(head)):
            count += 1
            if opcode.name in ("GLOBAL", "INST") and not _names(argument):
                return False
            if not stack.take(opcode):  # its reader would end here: what counts is what ran before
                return ran
            ran = ran or opcode.name in _RUNS
            calls = calls or opcode.name in _CALLS
            if opcode.name == "STOP":
                return marked or calls
            if count >= MANY or (marked and count >= FEW):
                return True
    except (ValueError, UnicodeError, OverflowError, MemoryError) as error:
        # Where the head ends in the middle of an argument, what was read so far must do.
        cut = not whole and ("not enough data" in str(error) or "no newline" in str(error) or "expected" in str(error))
        return cut and (marked or (calls and count >= FEW))
    return False


class _Stack:
    """How much a pickle's reader has on its stack, and where its marks lie."""

    def __init__(self) -> None:
        self._marked: list[bool] = []

    def take(self, opcode: pickletools.OpcodeInfo) -> bool:
        """Do what the opcode does to the stack; False if there is not what it needs."""
        before, after = list(opcode.stack_before), list(opcode.stack_after)
        if pickletools.markobject in before:
            if True not in self._marked:
                return False
            while not self._marked.pop():
                pass
            before = before[: before.index(pickletools.markobject)]
        if len(before) > len(self._marked):
            return False
        del self._marked[len(self._marked) - len(before) :]
        self._marked += [one is pickletools.markobject for one in after]
        return True


def _names(argument: object) -> bool:
    """Whether this may be the `module name` that a pickle asks for."""
    parts = str(argument).split(" ")
    return len(parts) == 2 and all(_NAME.fullmatch(part) for part in parts)
