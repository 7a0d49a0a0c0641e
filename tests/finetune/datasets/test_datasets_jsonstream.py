"""JSON read in pieces: where the window ends, faults with their line, limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.datasets.jsonstream import load_json, stream_json
from finetune.errors import DatasetError
from tests.finetune.folders import write_text


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_pieces_do_not_depend_on_where_the_window_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("finetune.datasets.jsonstream._CHUNK", chunk)
    document = {
        "a": [1, -2.5e3, 'ü\n"\\', None, {"x": [[], {}]}],
        "b": 1234567,
        "c": [],
        "d": {"e": True},
        "f": "\u2028",
    }
    for value in (document, [document, 12, [3]], "text", 1234567, []):
        for indent in (None, 2):
            path = write_text(tmp_path / "a.json", json.dumps(value, indent=indent))
            assert load_json(path, "a.json") == value


@pytest.mark.parametrize(
    ("text", "line"),
    [('{"a": 1,\n "b"\n 2}', 3), ('{"a": [1,\n2,\n}', 3), ("[1,\n2", 2), ('{"a": tru\n}', 1), ("", 1), ("{}\n{}", 2)],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_faults_in_json_name_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, chunk: int
) -> None:
    monkeypatch.setattr("finetune.datasets.jsonstream._CHUNK", chunk)
    path = write_text(tmp_path / "a.json", text)
    with pytest.raises(DatasetError, match=rf"^a\.json:{line}: is not JSON"):
        list(stream_json(path, "a.json"))


def test_files_over_the_limit_are_not_opened(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.json", "[" + " " * 100 + "]")
    with pytest.raises(DatasetError, match="the limit is 50"):
        list(stream_json(path, "a.json", max_bytes=50))
