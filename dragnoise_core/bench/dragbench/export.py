"""`dragnoise bench export-scenes`: the demo scenes' drags in DragBench's format."""

import sys
from argparse import Namespace
from pathlib import Path

from tqdm import tqdm

from ...demo.scenes import SIZE
from ...demo.scenes.drags import drag_points
from ...drawing import to_picture
from ...errors import DragNoiseError
from ...points import DragPoints
from ..output import say
from ..scene_drags import bench_drags
from .format import write_sample

MOST = 10000


def run_export_scenes(options: Namespace) -> None:
    """Write the first drags of a seed's set; each kind of scene is a category, and its name the prompt."""
    if not 1 <= options.count <= MOST:
        raise DragNoiseError(f"--count is {options.count}; choose a number from 1 to {MOST}.")
    root = Path(options.out)
    for item in tqdm(bench_drags(options.seed, options.count), desc="scenes", file=sys.stderr):
        points = DragPoints.from_pairs(drag_points(item.drag), SIZE, SIZE)
        folder = root / item.drag.kind / f"{item.index:04}_seed{options.seed}"
        write_sample(folder, to_picture(item.drag.source_picture()), item.drag.kind, points, item.mask())
    say(f"{options.count} drags in {root}")
