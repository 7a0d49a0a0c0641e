"""Text that was meant for a terminal, as plain text: no control sequences, no bars that are drawn over and over."""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # OSC and other strings: titles, links
    r"|\x1b[ -/]*[0-~]"  # two characters: reset, charset
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_BARS = re.compile("[\u2500-\u259f\u2800-\u28ff\u25a0-\u25ff]{3,}")
"""Box drawing, blocks, braille and squares: what progress bars are made of."""
_HASHES = re.compile(r"^[^\n|]{0,80}\d+%\|[^|\n]*\|.*$", re.MULTILINE)
"""A bar of tqdm without such characters: `train: 12%|##   | 3/25`."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` as somebody would read it off the terminal: of a line that was written over only what stood last, no
    control character but newline and tab, and no line that is a progress bar.
    """
    text = _SEQUENCES.sub("", text.replace("\r\n", "\n"))
    if "\r" in text or "\b" in text:
        text = "\n".join(_last_written(line) for line in text.split("\n"))
    text = _CONTROLS.sub("", text)
    if not (_BARS.search(text) or "%|" in text):
        return text
    kept = [line for line in text.split("\n") if not (_BARS.search(line) or _HASHES.match(line))]
    return "\n".join(kept)


def _last_written(line: str) -> str:
    parts = [part for part in line.split("\r") if part]
    line = parts[-1] if parts else ""
    while "\b" in line:
        line = re.sub(r"[^\x08]\x08|^\x08", "", line)
    return line
