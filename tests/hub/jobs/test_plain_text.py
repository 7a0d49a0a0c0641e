"""What a terminal was meant to read, on pages: no control characters, no bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.jobs.life import Life
from hub.jobs.plain_text import plain

BAR = "reading dock-7 ━━━━━━━━━━━━━━━━━━━━ 12/240 0:00:03"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("plain\n\tas it is", "plain\n\tas it is"),
        ("\x1b[1;31merror\x1b[0m: no such file", "error: no such file"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2K\x1b[1A\x1b[?25lx", "x"),
        ("\x9b31mred", "red"),
        ("10%\r20%\r100%\ndone", "100%\ndone"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("abc\b\bd", "ad"),
        (f"{BAR}\nthe label is missing", "the label is missing"),
        ("train: 12%|##        | 3/25 [00:01<00:09]\nstep 3", "step 3"),
        ("50%|█████     | 1/2\nx", "x"),
        ("bell\x07 null\x00 bidi\u202e end", "bell null bidi end"),
        ("AP50 0.43 → 0.76, 3 µm, 密封", "AP50 0.43 → 0.76, 3 µm, 密封"),
    ],
)
def test_as_one_would_read_it_off_the_terminal(said, read):
    assert plain(said) == read


@given(st.text())
def test_no_control_character_is_left(text):
    kept = plain(text)
    assert not any(ord(char) < 32 and char not in "\n\t" for char in kept) and "\x7f" not in kept and "\x9b" not in kept
    assert plain(kept) == kept


@pytest.mark.parametrize(
    ("life", "words"),
    [
        (Life("queued", 190.0, ahead=2), "Waiting for 3 minutes; 2 jobs before it."),
        (Life("queued", 5.0), "Waiting for 5 seconds; it is the next one."),
        (Life("running", 660.0, heard=2.0), "Starting for 11 minutes. It has said nothing yet: the machine is busy."),
        (Life("running", 660.0, heard=2.0), "sign of life 2 seconds ago"),
        (Life("running", 9.0, heard=1.0), "Starting for 9 seconds."),
        (Life("running", 900.0, heard=1.0, told=400.0), "the last report is 6 minutes old"),
        (Life("running", 900.0, heard=1.0, told=1.0), "Running for 15 minutes."),
        (Life("running", 900.0, heard=45.0, told=1.0), "No word from its worker for 45 seconds"),
    ],
)
def test_a_job_that_waits_says_so(life, words):
    assert words in str(life)
