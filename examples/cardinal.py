"""Cardinal: an arm that picks from a heap and places into large containers.

The second worked example, after a published system of the same name: boxes above all, some big, in deep containers,
in poor light, by an oblique camera. Its look is held out of every base's training.
One command writes the cell's dataset, fine-tunes, serves the variant and measures it:

    python examples/cardinal.py --out ./cardinal

`--images` and `--max-minutes` make it shorter or longer. The pages are in OUT/report.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from finetune.scenes import CARDINAL, write_cell
from hub.cli.main import run

SEED = 4201


def main() -> int:
    """Exit code of the demo's command, which tells the story from the dataset on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("cardinal"))
    parser.add_argument("--images", type=int, default=100, help="training images; half as many more are held out")
    parser.add_argument("--max-minutes", type=float, default=5.0, help="training time")
    options = parser.parse_args()
    data = options.out / "dataset"
    if not data.exists():
        write_cell(data, CARDINAL, images=options.images * 3 // 2, seed=SEED)
    report = str(options.out / "report")
    return run(["demo", "--data", str(data), "--out", report, "--max-minutes", str(options.max_minutes)])


if __name__ == "__main__":
    sys.exit(main())
