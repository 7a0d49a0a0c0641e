"""`.gitattributes` and `.gitignore`: what we say of a file is what the real git says of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hub.protocol.attributes import ignored_files, large_files
from tests.scale import scaled

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
_ENV = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C"}
LFS = b"filter=lfs diff=lfs merge=lfs -text"
SEGMENT = st.text(st.sampled_from("ab .-]!^é#"), min_size=1, max_size=5).filter(lambda text: text not in (".", ".."))
PATHS = st.lists(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12)
PIECES = st.sampled_from(
    ["a", "b", "ab", ".", "*", "**", "**/", "/**", "/", "?", "[", "]", "[a-b]", "[!a]", "[^a]", "[[:space:]]", "[]a]"]
    + ["[[:alpha:]]", "[[:upper:]", "[a-]", "[\\]]", "\\", "\\*", "\\ ", "é", "!", "#", "-", "^", "[!é]", "[/]", " "]
)
PATTERN = st.lists(PIECES, min_size=1, max_size=6).map("".join)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    subprocess.run(["git", "init", "-q", folder], check=True, env=_ENV)
    return folder


def git(work: Path, *args: str, paths: Sequence[str]) -> list[str]:
    told = subprocess.run(
        ["git", "-C", str(work), *args],
        input="".join(f"{path}\0" for path in paths).encode(),
        capture_output=True,
        env=_ENV,
        check=False,
    )
    assert told.returncode in (0, 1), told.stderr
    return told.stdout.decode().split("\0")[:-1]


def check_attributes(work: Path, content: bytes, paths: Sequence[str]) -> None:
    (work / ".gitattributes").write_bytes(content)
    fields = git(work, "check-attr", "--stdin", "-z", "filter", paths=paths)
    said = dict(zip(fields[0::3], fields[2::3], strict=True))
    rules = large_files(content)
    names = {True: "set", False: "unset", None: "unspecified"}
    for path in paths:
        value = rules.filter_of(path)
        assert (value if isinstance(value, str) else names[value]) == said[path], (path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"my[[:space:]]file.bin " + LFS,  # as `git lfs track "my file.bin"` writes it
        b'"my file.bin" ' + LFS,
        b'"quo\\"te \\303\\251.bin" ' + LFS,
        b'"unended.bin ' + LFS,
        b"[attr]lfs " + LFS + b"\n*.bin lfs\nkeep.bin !filter\n",
        b"[attr]big filter=lfs\n[attr]lfs big\n*.bin lfs\n",
        b"*.bin -lfs\n[attr]lfs filter=lfs\n",
        b"*.bin filter=lfs\n*.bin binary\n*.bin -filter\n",
        b"[!a]*.bin " + LFS,
        b"[^a]*.bin " + LFS,
        b"/*.bin " + LFS,
        b"deep/ " + LFS + b"\n!deep/x.bin " + LFS,
        b"deep/** " + LFS + b"\n**/x.bin -filter\n",
        b"de**/x.bin " + LFS,
        b"\xef\xbb\xbf*.bin " + LFS,
        b"*.bin filter=lfs 1=2 -=x\n",
        b"*.bin\tfilter=lfs\r\n# *.bin -filter\n   *.bin   diff=lfs  \n",
        b"*.bin filter=other filter=lfs\n",
        b"x" * 2100 + b".bin filter=lfs\n*.bin !filter filter=lfs\n",
    ],
)
def test_as_people_and_tools_write_them(work: Path, content: bytes) -> None:
    paths = ["my file.bin", "myXfile.bin", 'quo"te é.bin', "unended.bin", "keep.bin", "a.bin", "b.bin", "deep/x.bin"]
    check_attributes(work, content, [*paths, "deep/er/x.bin", "dexx/x.bin", "dex.bin", "*.bin", "a/b/c"])


@hypothesis_settings(
    max_examples=scaled(25, 3000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(
        st.tuples(
            st.one_of(PATTERN, PATTERN.map(lambda text: f'"{text}"'), st.just("[attr]m"), st.just("[attr]n")),
            st.sampled_from(
                ["filter=lfs", "-filter", "!filter", "filter", "m", "-m", "n m", "m filter=x", "filter=lfs"]
            ),
        ),
        min_size=1,
        max_size=5,
    ),
    paths=PATHS,
)
@example(lines=[("a**/b", "filter=lfs")], paths=["ab", "a/b", "a/x/b", "axx/b"])
def test_attributes_are_what_git_says(work: Path, lines: list[tuple[str, str]], paths: list[str]) -> None:
    check_attributes(work, "\n".join(f"{pattern} {value}" for pattern, value in lines).encode(), paths)


@hypothesis_settings(
    max_examples=scaled(25, 3000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.one_of(PATTERN, PATTERN.map("!{}".format)), min_size=1, max_size=5), paths=PATHS)
@example(lines=["a\\ ", "b \\  "], paths=["a ", "a", "b  "])
def test_ignored_files_are_what_git_says(work: Path, lines: list[str], paths: list[str]) -> None:
    content = "\n".join(lines).encode()
    (work / ".gitignore").write_bytes(content)
    said = set(git(work, "check-ignore", "--no-index", "-z", "--stdin", paths=paths))
    rules = ignored_files(content)
    assert {path for path in paths if rules.match(path)} == said & set(paths), content
