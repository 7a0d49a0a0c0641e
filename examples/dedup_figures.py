"""What the second version costs: bytes on the hub's disk for variants, a grown dataset and a retrained base.

    HF_ENDPOINT=http://127.0.0.1:8400 HF_TOKEN=... python examples/dedup_figures.py ann --data ./parcelhub-data

Needs a hub on this machine (its data folder is measured) and a stock client with Xet. Everything is random, so nothing
is smaller for being compressible; the repositories are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from huggingface_hub import HfApi
from safetensors.numpy import save_file

MIB = 1024**2


def stored(data: Path) -> int:
    """Bytes of everything that the hub keeps of uploads."""
    return sum(path.stat().st_size for path in (data / "blobs").rglob("*") if path.is_file())


def weights(rng: np.random.Generator, tensors: int, side: int = 512) -> dict[str, np.ndarray]:
    """A model of `tensors` MiB."""
    return {f"layer.{number:03}.weight": rng.normal(size=(side, side)).astype(np.float32) for number in range(tensors)}


def retrained(rng: np.random.Generator, model: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """The model with a share of its tensors, spread over it, made anew."""
    names = sorted(model)
    every = round(1 / share)
    return {
        name: rng.normal(size=model[name].shape).astype(np.float32) if at % every == 0 else model[name]
        for at, name in enumerate(names)
    }


def images(rng: np.random.Generator, folder: Path, first: int, count: int) -> int:
    """Write so many noisy pictures; gives their bytes."""
    size = 0
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        path = folder / f"{number:05}.jpg"
        cv2.imwrite(str(path), rng.integers(0, 256, (200, 300, 3), dtype=np.uint8))
        size += path.stat().st_size
    return size


def main() -> int:
    """Measure the cases and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("namespace")
    parser.add_argument("--data", type=Path, required=True, help="the hub's data folder")
    parser.add_argument("--mib", type=int, default=64, help="size of the base")
    asked = parser.parse_args()
    api, rng = HfApi(), np.random.default_rng(0)
    made: list[tuple[str, str]] = []

    def push(case: str, name: str, kind: str, folder: Path, new_bytes: int) -> None:
        api.create_repo(name, repo_type=kind, exist_ok=True)
        made.append((name, kind))
        before = stored(asked.data)
        api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder)
        grown = stored(asked.data) - before
        pushed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        line = {"case": case, "pushed": pushed, "new": new_bytes, "disk": grown, "ratio": round(grown / new_bytes, 3)}
        print(json.dumps(line), flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        base = weights(rng, asked.mib)
        for number, (case, model, new) in enumerate(
            (
                ("a base", base, asked.mib * MIB),
                ("the base retrained, 10 % of its tensors changed", retrained(rng, base, 0.1), None),
            )
        ):
            folder = root / f"base-{number}"
            folder.mkdir()
            save_file(model, folder / "model.safetensors")
            changed = sum(value.nbytes for name, value in model.items() if value is not base[name])
            push(case, f"{asked.namespace}/dedup-base", "model", folder, new or changed)
        folder = root / "variants"
        folder.mkdir()
        for number in range(10):
            save_file(retrained(rng, base, 1 / 16), folder / f"variant-{number}.safetensors")
        new = 10 * MIB * len(range(0, asked.mib, 16))
        push(
            "ten whole copies of the base, 1/16 of each changed", f"{asked.namespace}/dedup-many", "model", folder, new
        )
        folder = root / "dataset"
        first = images(rng, folder / "images", 0, 600)
        push("a dataset of 600 images", f"{asked.namespace}/dedup-data", "dataset", folder, first)
        more = images(rng, folder / "images", 600, 30)
        push("the dataset with 5 % new images", f"{asked.namespace}/dedup-data", "dataset", folder, more)
    for name, kind in dict.fromkeys(made):
        api.delete_repo(name, repo_type=kind)
    return 0


if __name__ == "__main__":
    sys.exit(main())
