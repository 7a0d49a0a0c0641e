"""What a base saw is read off its card, signed, and found both ways."""

from __future__ import annotations

import pytest

from hub.accounts.tokens import Identity, Scope
from hub.models.base_lineage import BaseLineage, Saw, Scenes, saw_of
from hub.models.bases import UNIVERSAL
from hub.services import Services
from registry.types import Artifact, FileEntry, RepoId

OPERATOR = Identity("operator", frozenset(Scope))
FRAMES = RepoId("dataset", "acme", "frames")
OLD_CARD = """---
license: apache-2.0
---
46,496 scenes of the project's own generator (version 2, seed 3) in
85 minutes and nothing else, no photograph among them.
"""


@pytest.mark.parametrize(
    ("readme", "saw"),
    [
        (OLD_CARD, Saw(Scenes(2, 3, 46496))),
        ("---\nparcelhub: {scenes: {generator: 2, seed: 3, count: 5}}\n---\n", Saw(Scenes(2, 3, 5))),
        ("---\nparcelhub: {datasets: [a/b@c]}\n---\n" + OLD_CARD, Saw(datasets=("a/b@c",))),
        ("# nothing", Saw()),
        ("---\nparcelhub: 7\n---\n", Saw()),
        ("---\nparcelhub: {scenes: {generator: -1, seed: 3, count: 5}}\n---\n", Saw()),
        ("---\nparcelhub: {start: weights}\n---\n", Saw()),
        ("---\n{\n---\n", Saw()),
    ],
)
def test_what_a_card_says(readme: str, saw: Saw) -> None:
    assert saw_of(readme) == saw


def put(services: Services, path: str, data: bytes) -> FileEntry:
    blob = services.registry.blobs.put_bytes(data)
    return FileEntry(path, blob.sha256, blob.size)


def test_both_ways(services: Services) -> None:
    registry, repos = services.registry, services.registry.repos
    (first,) = services.bases.all()
    repos.create(FRAMES)
    frames = repos.commit(FRAMES, [put(services, "a.jpg", b"a")], message="m", author="ann").id
    readme = (
        "---\nparcelhub:\n  scenes: {generator: 9, seed: 4, count: 1000}\n"
        f"  datasets: ['acme/frames@{frames[:40]}', acme/gone@1234567, nonsense]\n  start: {first.weights}\n---\n"
    )
    commit = repos.commit(
        UNIVERSAL, [put(services, "README.md", readme.encode())], message="m", author="a", tags=["v2"]
    )
    lineage = BaseLineage(registry, services.bases)
    for _ in range(2):  # recorded once
        lineage.catch_up()
        edges = registry.lineage.parents(Artifact("base", "base/universal@v2", commit.id))
        assert {(edge.relation, edge.parent.name) for edge in edges} == {
            ("scenes", "scenes/v9"),
            ("dataset", "acme/frames"),
            ("base", first.name),
        }
    up = services.lineages.of("base/universal@v2", "up", OPERATOR)
    (scenes,) = [node for node in up.nodes if node.kind == "scenes" and node.distance == 1]
    assert scenes.facts == {"generator": 9, "seed": 4, "count": 1000}
    for name in ("scenes/v9", f"scenes/v9@{scenes.revision[:12]}", "acme/frames", first.name):
        down = services.lineages.of(name, "down", OPERATOR)
        assert "base/universal@v2" in {node.name for node in down.nodes}
    signed = services.vouching.sign_base("base/universal@v2", run="test")
    named = {each["name"] for each in signed.predicate["buildDefinition"]["resolvedDependencies"]}
    assert named == {"scenes", "dataset", "base"}
    assert not registry.examine().damaged
    # What a base saw stays, whatever becomes of the dataset's history.
    repos.commit(FRAMES, [put(services, "a.jpg", b"b")], message="m", author="ann")
    repos.squash(FRAMES, "main", message="m", author="ann")
    services.maintenance.collect()
    assert repos.resolve(FRAMES, frames).id == frames
