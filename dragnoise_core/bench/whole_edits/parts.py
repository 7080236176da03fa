"""The parts of `dragnoise bench edits`, each "kind" or "kind shape acceleration", and one of them as a process.

`python -m dragnoise_core.bench.whole_edits.parts PART --json FILE`
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..output import write_text

SHAPE_NAMES = ("sd15", "sdxl")
KINDS = ("published", "package", "comfyui", "precision")
ACCELERATIONS = ("eager", "cudagraph")


def usable() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measure(part: str, published: Path | None, repeats: int, narrow: bool) -> dict[str, Any]:
    """Return a part's figures, measured in this process. published: a checkout of the published code."""
    device = usable()
    # Imported here: only the part that runs needs its modules, and memory is measured.
    if part == "precision":
        from .precision import measure_precision

        return measure_precision(narrow, device)
    if part == "published":
        from .published_code import measure_published

        return {"rows": measure_published(published, repeats, narrow, device)}
    from .package import measure_package

    _, shape, acceleration = part.split()
    return {"rows": measure_package(shape, acceleration, repeats, narrow, device)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--narrow", action="store_true")
    options = parser.parse_args(arguments)
    figures = measure(options.part, options.published, options.repeats, options.narrow)
    write_text(options.json, json.dumps(figures))


if __name__ == "__main__":
    main()
