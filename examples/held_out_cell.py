"""Robin and Cardinal: two worked cells, after published systems of the same names.

Robin is an arm above a conveyor that sees cluttered heaps of every package type straight from above. Cardinal picks
from a heap, boxes above all and some of them big, and places into deep containers, in poor light, seen by an oblique
camera. Their looks are held out of every base's training. One command writes a cell's dataset, fine-tunes, serves the
variant and measures it; the pages are in OUT/report:

    python examples/held_out_cell.py robin --out ./robin
    python examples/held_out_cell.py cardinal --out ./cardinal --images 40 --max-minutes 2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hub.cli.demo import CELLS
from hub.cli.main import run

SEED = 4101


def main() -> int:
    """Exit code of the demo's command, which tells the story from the dataset on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", choices=sorted(CELLS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100, help="training images; half as many more are held out")
    parser.add_argument("--max-minutes", type=float, default=5.0, help="training time")
    options = parser.parse_args()
    data = options.out / "dataset"
    if not (data / "README.md").is_file():  # written last
        # Not before `hub.cli`, which tells numpy and torch how to share the cores.
        from finetune.scenes import CELLS as LOOKS
        from finetune.scenes import write_cell

        write_cell(data, LOOKS[options.cell], images=options.images * 3 // 2, seed=SEED)
    report = str(options.out / "report")
    return run(["demo", "--data", str(data), "--out", report, "--max-minutes", str(options.max_minutes)])


if __name__ == "__main__":
    sys.exit(main())
