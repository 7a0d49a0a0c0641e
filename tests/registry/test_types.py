from __future__ import annotations

import json
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.canonical import canonical_json
from registry.errors import InvalidNameError, InvalidPathError, InvalidValueError
from registry.types import Artifact, FileEntry, RepoId, Variant, check_name, check_path, check_ref_name

DIGEST = "ab" * 32


@pytest.mark.parametrize("name", ["a", "A9", "_x_", "dock-7", "a.b_c-d", "v1.0", "x" * 96])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "a--b",
        "a b",
        "a/b",
        "é",
        "a\n",
        "a\0",
        "x" * 97,
        "a.git",
        "n.IPYNB",
    ],
)
def test_bad_names(name):
    with pytest.raises(InvalidNameError):
        check_name(name)


@pytest.mark.parametrize(
    ("ref", "good"),
    [
        ("main", True),
        ("refs/pr/1", False),
        ("v1.2", True),
        ("a" * 39, True),
        ("a" * 40, False),
        ("a" * 64, False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        ("a/../b", False),
        ("a@b", False),
        ("", False),
        ("a/" * 100 + "b", False),
    ],
)
def test_ref_names(ref, good):
    if good:
        assert check_ref_name(ref) == ref
    else:
        with pytest.raises(InvalidNameError):
            check_ref_name(ref)


@pytest.mark.parametrize("path", ["a", "a/b.c", "images/bild ä.png", ".gitattributes", "a/.git/x", "...", "x" * 255])
def test_good_paths(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x85b",
        ".git/config",
        ".GIT",
        "\ud800",
    ]
    + ["x" * 256, "ä" * 128, "/".join(["x" * 200] * 6)],
)
def test_bad_paths(path):
    with pytest.raises(InvalidPathError):
        check_path(path)


@given(st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "", "a", "\\", "b c"]), max_size=5).map("/".join))
def test_an_accepted_path_stays_inside_its_folder(path):
    try:
        check_path(path)
    except InvalidPathError:
        return
    assert posixpath.normpath(posixpath.join("/root", path)) == f"/root/{path}"


@given(st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True), st.from_regex(r"[A-Za-z0-9._/-]{1,20}", fullmatch=True))
def test_an_accepted_name_reads_back(namespace, rest):
    try:
        repo = RepoId("dataset", namespace, rest)
    except InvalidNameError:
        return
    assert RepoId.parse(str(repo), "dataset") == repo
    assert Variant.parse(f"{namespace}/{rest}@v1") == Variant(RepoId("model", namespace, rest), "v1")


@pytest.mark.parametrize("text", ["name", "a/b/c", "/a", "a/", "", "a/b@"])
def test_bad_repo_texts(text):
    with pytest.raises(InvalidNameError):
        RepoId.parse(text)


@pytest.mark.parametrize("text", ["cells/a", "a@v1", "cells/a@", "cells/a@v1@v2", "@"])
def test_bad_variant_texts(text):
    with pytest.raises(InvalidNameError):
        Variant.parse(text)


def test_a_repo_type_is_checked():
    with pytest.raises(InvalidNameError):
        RepoId("space", "a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("digest", "size"), [("AB" * 32, 1), ("ab" * 31, 1), (DIGEST + "\n", 1), (DIGEST, -1), (DIGEST, 2**63)]
)
def test_bad_entries(digest, size):
    with pytest.raises(InvalidValueError):
        FileEntry("a", digest, size)


def test_artifacts_are_checked():
    assert str(Artifact("base", "base/universal", DIGEST)) == "base base/universal@abababababab"
    with pytest.raises(InvalidNameError):
        Artifact("", "x", DIGEST)
    with pytest.raises(InvalidNameError):
        Artifact("base", "", DIGEST)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_is_a_fixed_point(value):
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, {"a": object()}, "\ud800"])
def test_what_json_cannot_say(value):
    with pytest.raises(InvalidValueError):
        canonical_json(value)
