"""A robot's loop: frames from a folder, one answer each, who gave it and how long it took.

Start a hub first (`parcelhub up`) and promote a variant, or let the base answer for a cell that has none:

    parcelhub cell create dock-7
    python examples/robot_loop.py --cell dock-7 path/to/frames
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from serving.errors import ServingError
from serving.robot.client import RobotClient


def main() -> int:
    """Ask for every picture in the folder; exit code 1 if the server refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--cell", required=True)
    parser.add_argument("--server", default="127.0.0.1:8411")
    parser.add_argument("--token", default=os.environ.get("PARCELHUB_ROBOT_TOKEN"), help="the robot's token")
    options = parser.parse_args()
    frames = sorted(p for p in options.frames.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    milliseconds: list[float] = []
    with RobotClient(options.server, cell=options.cell, robot="example-arm", token=options.token) as robot:
        for frame in frames:
            start = time.perf_counter()
            try:
                answer = robot.segment(frame)
            except ServingError as error:
                print(f"{frame.name}: {error}", file=sys.stderr)
                return 1
            milliseconds.append(1000 * (time.perf_counter() - start))
            sure = answer.instances.filter(0.5)
            print(f"{frame.name}: {len(sure)} packages, {milliseconds[-1]:.0f} ms, {answer.served_by}")
    if milliseconds:
        print(f"median {statistics.median(milliseconds):.1f} ms over {len(milliseconds)} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
