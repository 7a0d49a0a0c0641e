"""What a base answers where there is no package: the pictures, and how answers are counted."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner

from benchmarks.cli.bench import bench
from finetune.evaluation import false_packages
from finetune.evaluation.false_packages import measure_false_packages, packaged_pictures, pictures_without
from hub.settings import SHIPPED


def test_pictures_without_packages_are_many_and_the_same_again() -> None:
    first, again = (list(pictures_without(6, 64)) for _ in range(2))
    assert len(first) == 6
    assert all(a == b and np.array_equal(x, y) for (a, x), (b, y) in zip(first, again, strict=True))
    packaged = [name for name, _ in packaged_pictures()]
    assert [name for name, _ in first][: len(packaged)] == packaged[:6]
    assert any(name.startswith("scene: ") for name, _ in first)
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for _, picture in first)


def test_answers_are_counted_where_they_are_sure(monkeypatch) -> None:
    """On the shipped base: as many answers as the same base gives when asked picture by picture; at a threshold that
    nothing reaches, none."""
    found = measure_false_packages(SHIPPED, images=4, size=96)
    assert found.images == 4 == sum(seen for seen, _ in found.by_place.values())
    assert found.answers == sum(answers for _, answers in found.by_place.values())
    assert found.a_picture == found.answers / 4
    assert found.pictures_with_any <= min(4, found.answers)
    monkeypatch.setattr(false_packages, "SURE", 0.0)
    everything = measure_false_packages(SHIPPED, images=4, size=96)
    assert everything.answers > found.answers
    monkeypatch.setattr(false_packages, "SURE", 1.0)
    assert measure_false_packages(SHIPPED, images=4, size=96).answers == 0


def test_the_bench_prints_and_writes_its_figures(tmp_path) -> None:
    target = tmp_path / "figures.json"
    run = CliRunner().invoke(bench, ["false-packages", "--images", "2", "--size", "64", "--json", str(target)])
    assert run.exit_code == 0, run.output
    assert "a picture" in run.output
    figures = json.loads(target.read_text())
    assert figures["images"] == 2
    assert figures["a_picture"] == figures["answers"] / 2
