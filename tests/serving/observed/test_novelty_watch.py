"""The watch beside the answers: the ring, samples with their reasons and quotas, wishes of the hub, bad input."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from serving.instances import Instances
from serving.observed.captures import CapturePolicy, CaptureStore
from serving.observed.novelty_reference import Reference, Seen
from serving.observed.novelty_watch import Frame, NoveltyWatch
from serving.observed.observer import CameraKey
from serving.observed.packing import unpack
from serving.observed.ring import FrameRing, read_key
from serving.observed.sampling import Quota, diverse, picture_hash
from serving.observed.wishes import wish

GRID = (6, 8)
KEY = CameraKey("dock-7", "l1")
SINCE = 1_790_000_000.0


def look(rng: np.random.Generator, *, new: bool = False) -> Seen:
    rows = rng.normal(size=(3, 12)).astype(np.float32) + (5.0 if new else 0.0)
    patches = rng.normal(size=(GRID[0] * GRID[1], 8)).astype(np.float32) + (2.0 if new else 0.0)
    return Seen(rows, np.full(3, 0.9, np.float32), patches, np.ones(GRID[0] * GRID[1], np.float32), GRID)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    return Reference.learn([look(rng) for _ in range(60)], base="u@v1", layers=())


class Site:
    """A watch whose embeddings are planted: `new` says what the next frames are."""

    def __init__(self, folder: Path, reference: Reference | None, **how: object) -> None:
        self.rng = np.random.default_rng(1)
        self.new = False
        self.folder = folder
        self.captures = CaptureStore(folder / "captures", CapturePolicy())
        self.at = SINCE
        self.watch = NoveltyWatch(
            folder, self.captures, self.embed, lambda _variant: reference, start=False, between_s=40_000.0, **how  # type: ignore[arg-type]
        )  # fmt: skip

    def embed(self, _image: np.ndarray, _instances: Instances, _variant: str | None) -> Seen:
        return look(self.rng, new=self.new)

    def frame(self, request: str = "") -> Frame:
        image = cv2.resize(self.rng.integers(0, 255, (6, 8, 3), np.uint8), (80, 60), interpolation=cv2.INTER_NEAREST)
        masks = np.zeros((3, 60, 80), np.bool_)
        for k in range(3):
            masks[k, 10:40, 5 + 20 * k : 20 + 20 * k] = True
        found = Instances.from_masks(masks, ["box"] * 3, [0.9, 0.8, 0.7])
        self.at += 4.0
        return Frame(KEY, image, found, request or f"r{self.at}", self.at, "base/u@v1", "dock-7@v1", "arm")

    def run(self, count: int, *, new: float = 0.0) -> None:
        for k in range(count):
            self.new = bool(new) and k % round(1 / new) == 0
            self.watch.look(self.frame())

    def kept(self) -> list[dict[str, object]]:
        return [self.captures.read(name) for name in self.captures.names()]


def test_a_change_preserves_a_diverse_sample_with_its_reason(reference: Reference, tmp_path: Path) -> None:
    site = Site(tmp_path, reference, sample=10)
    site.run(250)
    assert site.watch.state_of(KEY) == "ok" and not site.kept()
    site.run(60, new=0.5)
    assert site.watch.changes >= 1
    kept = site.kept()
    assert 5 <= len(kept) <= 10 * site.watch.changes and {one["reason"] for one in kept} == {"novelty"}
    novel = [any(one["observed"]["novel"]) for one in kept]  # type: ignore[index]
    assert sum(novel) >= len(kept) / 2
    first = kept[0]["observed"]
    assert unpack(first["embeddings"], first["width"]).shape == (3, 12)  # type: ignore[index]
    assert site.captures.image(str(kept[0]["id"]))[1] == "image/jpeg"
    assert len({one["request_id"] for one in kept}) == len(kept)


def test_without_a_reference_it_cannot_tell(tmp_path: Path) -> None:
    site = Site(tmp_path, None)
    site.run(150, new=0.5)
    assert site.watch.state_of(KEY) == "cannot_tell" and not site.kept()
    assert site.watch.state_of(CameraKey("never seen")) == "cannot_tell"


def test_the_hub_may_wish_for_a_sample_of_failed_picks(reference: Reference, tmp_path: Path) -> None:
    site = Site(tmp_path, reference, sample=4)
    site.run(20)
    site.watch.look(site.frame("failed-1"))
    site.watch.look(site.frame("failed-2"))
    wish(tmp_path, "a" * 32, "dock-7", "failed_picks", SINCE, ("failed-1", "failed-2"))
    (tmp_path / "wishes" / f"{'b' * 32}.json").write_text("{")
    (tmp_path / "wishes" / f"{'c' * 32}.json").write_text(json.dumps({"cell": 1, "since": "x"}))
    (tmp_path / "wishes" / "evil.json").write_text("{}")
    assert site.watch.grant() == 1
    kept = site.kept()
    assert {"failed-1", "failed-2"} <= {one["request_id"] for one in kept} and len(kept) <= 4
    assert {one["reason"] for one in kept} == {"failed_picks"}
    assert [path.name for path in (tmp_path / "wishes").iterdir()] == ["evil.json"]
    wish(tmp_path, "d" * 32, "another", "failed_picks", SINCE, ())
    assert site.watch.grant() == 1 and len(site.kept()) == len(kept)


def test_the_frames_of_a_cell_that_is_gone_go(reference: Reference, tmp_path: Path) -> None:
    site = Site(tmp_path, reference, sample=4)
    site.run(20)
    wish(tmp_path, "a" * 32, "dock-7", "forget", SINCE, ())
    site.watch.grant()
    assert not list((tmp_path / "ring").iterdir())
    wish(tmp_path, "b" * 32, "dock-7", "failed_picks", SINCE, ())
    assert site.watch.grant() == 1 and not site.kept()


def test_a_cells_quota_of_the_day_holds(reference: Reference, tmp_path: Path) -> None:
    site = Site(tmp_path, reference, sample=40)
    site.run(120)
    for number in range(4):
        wish(tmp_path, f"{number:032x}", "dock-7", "failed_picks", 0.0, ())
    site.watch.grant()
    assert 0 < len(site.kept()) <= 60
    quota = Quota(tmp_path / "quota.json", per_day=5)
    quota.use("a", SINCE, 3)
    again = Quota(tmp_path / "quota.json", per_day=5)
    assert (again.left("a", SINCE), again.left("b", SINCE), again.left("a", SINCE + 86_400)) == (2, 5, 5)
    (tmp_path / "quota.json").write_text("[")
    assert Quota(tmp_path / "quota.json", per_day=5).left("a", SINCE) == 5


def test_near_duplicates_are_kept_once() -> None:
    rng = np.random.default_rng(0)
    images = [cv2.resize(rng.integers(0, 255, (6, 9, 3), np.uint8), (90, 60)) for _ in range(4)]
    noisy = [cv2.add(images[0], rng.integers(0, 3, images[0].shape, np.uint8)) for _ in range(6)]
    hashes = [picture_hash(one) for one in [*images, *noisy]]
    rows = rng.normal(size=(10, 5)).astype(np.float32)
    strange = np.array([0.0] * 4 + [1.0] * 6, np.float32)
    chosen = diverse(rows, strange, hashes, 10)
    assert len(chosen) == 4 and sum(k >= 4 or k == 0 for k in chosen) == 1
    assert diverse(rows[:0], strange[:0], [], 3) == []


def test_the_ring_is_bounded_and_opens_with_its_key_alone(tmp_path: Path) -> None:
    key = read_key(base64.b64encode(bytes(range(32))).decode())
    ring = FrameRing(tmp_path / "ring", max_bytes=20_000, key=key)
    names = [ring.put(SINCE + k, {"k": k}, os.urandom(1500)) for k in range(30)]
    assert ring.size <= 20_000 and ring.read(names[0]) is None
    document, picture = ring.read(names[-1]) or ({}, b"")
    assert document == {"k": 29} and len(picture) == 1500
    on_disk = (tmp_path / "ring" / names[-1]).read_bytes()
    assert b'"k"' not in on_disk and picture[:32] not in on_disk
    assert ring.put(SINCE, {}, bytes(30_000)) == "" and ring.read("../../etc/passwd") is None
    changed = bytearray(on_disk)
    changed[-1] ^= 1
    (tmp_path / "ring" / names[-1]).write_bytes(bytes(changed))
    assert ring.read(names[-1]) is None
    other = FrameRing(tmp_path / "ring", key=bytes(32))
    assert all(other.read(name) is None for name in other.names())
    assert FrameRing(tmp_path / "ring").size == 0  # without the key they are of no use, and go
    for wrong in ("short", "!" * 44, base64.b64encode(b"x" * 16).decode()):
        with pytest.raises(ValueError, match="PARCELHUB_RING_KEY"):
            read_key(wrong)
    assert read_key("") is None


def test_frames_outlive_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from serving.observed.ring import FrameRing\n"
        "ring = FrameRing(Path(sys.argv[1])); k = 0\n"
        "while True:\n"
        "    ring.put(1.79e9 + k, {'k': k}, bytes(5000)); k += 1; print(k, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "ring")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    ring = FrameRing(tmp_path / "ring")
    found = [ring.read(name) for name in ring.names()]
    assert len(found) >= 5 and all(one is not None and len(one[1]) == 5000 for one in found)
