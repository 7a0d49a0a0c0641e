"""The `datasets` library and the client's higher functions, with nothing set but the hub's address and a token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hub.settings import Settings

# In a process of its own: these libraries read the hub's address when they are imported.
SCRIPT = """
import json
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi, HfFileSystem, snapshot_download
from PIL import Image

folder, name = Path(sys.argv[1]), sys.argv[2]
api, rng = HfApi(), np.random.default_rng(0)

# A folder of images with COCO annotations and a row of metadata for each image
images = folder / "frames" / "train"
images.mkdir(parents=True)
rows, coco = [], {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
for number in range(4):
    file = f"{number}.png"
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(images / file)
    rows.append({"file_name": file, "boxes": [[1, 2, 10, 12]], "labels": ["box"]})
    coco["images"].append({"id": number, "file_name": file, "width": 32, "height": 24})
    box = {"id": number, "image_id": number, "category_id": 1, "bbox": [1, 2, 9, 10], "area": 90, "iscrowd": 0}
    coco["annotations"].append(box | {"segmentation": [[1, 2, 10, 2, 10, 12, 1, 12]]})
(images / "metadata.jsonl").write_text("".join(json.dumps(row) + chr(10) for row in rows))
(folder / "frames" / "annotations.json").write_text(json.dumps(coco))
api.create_repo(f"{name}-frames", repo_type="dataset", private=True)
api.upload_folder(repo_id=f"{name}-frames", repo_type="dataset", folder_path=folder / "frames")
loaded = load_dataset(f"{name}-frames", "default", data_dir="train", split="train")
assert loaded.num_rows == 4 and loaded[0]["labels"] == ["box"], loaded
assert np.array_equal(np.asarray(loaded[2]["image"]), np.asarray(Image.open(images / "2.png")))
local = Path(snapshot_download(f"{name}-frames", repo_type="dataset"))
assert json.loads((local / "annotations.json").read_text()) == coco

# Parquet, pushed and streamed
table = Dataset.from_dict({"pick": list(range(100)), "ok": [number % 3 > 0 for number in range(100)]})
table.push_to_hub(f"{name}-picks", private=True)
assert load_dataset(f"{name}-picks", split="train")["pick"] == list(range(100))
streamed = load_dataset(f"{name}-picks", split="train", streaming=True)
assert sum(row["ok"] for row in streamed) == 66
(parquet,) = [path for path in HfFileSystem().find(f"datasets/{name}-picks") if path.endswith(".parquet")]
assert HfFileSystem().read_bytes(parquet)[:4] == b"PAR1"
print("loaded")
"""


@pytest.mark.slow
@pytest.mark.parametrize("without_xet", ["1", "0"])
def test_images_coco_and_parquet(ann: HfApi, live_hub: Settings, tmp_path: Path, without_xet: str) -> None:
    pytest.importorskip("datasets")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_ENDPOINT": live_hub.url,
        "HF_TOKEN": str(ann.token),
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": without_xet,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), f"ann/library-{without_xet}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.stdout.endswith("loaded\n"), done.stderr[-2000:]
