"""`dragnoise bench edits`: what whole edits cost on this machine's GPU, random weights in the sizes of SD 1.5 and SDXL.

One Markdown table: edits through the package, eager and as CUDA graphs; the same in every ComfyUI here, with its
dynamic VRAM off and on; the published code, where a checkout of it is given. Every part runs in a process of its own,
so that its first edit is a first one and its memory its own. Without a GPU, the ratio that `dragnoise bench speed`
prints.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...errors import DragNoiseError
from ..output import say, write_text
from ..speed import machine, run_bench_speed
from .parts import ACCELERATIONS, KINDS, SHAPE_NAMES, measure, usable
from .report import report

# ComfyUI's side of it is not in the package, which knows no host.
IN_COMFYUI = Path(__file__).resolve().parents[3] / "tests" / "host" / "run_full_size.py"
TIMEOUT = 900  # seconds for one part; none takes half of it on a GPU


def run_bench_edits(options: Namespace) -> None:
    """Measure all parts that were asked for and print the report.

    Raises DragNoiseError for unknown names, and in the end if a part failed, which does not stop the others.
    """
    device = usable()
    parts = chosen_parts(options, device.type)
    if device.type == "cpu" and not options.narrow:
        run_bench_speed(Namespace(model="demo", iterations=60, repeats=options.repeats, device="cpu", json=False))
        return
    results: dict[str, Any] = {"rows": [], "failed": []}
    for part in parts:
        sys.stderr.write(f"measuring {part}\n")
        try:
            found = run_part(part, options, device.type)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            results["failed"].append(f"{part}: {error}; what it said is above")
            continue
        for row in found.get("rows", []):
            sys.stderr.write(f"    {row['run']}, {row['state']}: {row.get('total', 0):.3f} s\n")
        results["rows"] += found.pop("rows", [])
        results |= found
        # After every part: whoever stops a long run keeps what was measured.
        _keep(results, options)
    # Not before: asking for the GPU's name takes some of its memory.
    results["machine"] = machine(device)
    _keep(results, options)
    say(report(results))
    if results["failed"]:
        raise DragNoiseError(f"{len(results['failed'])} of {len(parts)} parts failed; the report names them.")


def chosen_parts(options: Namespace, device: str) -> list[str]:
    """Return what is to be measured; on a CPU there are no graphs. Raises DragNoiseError for unknown names."""
    kinds, shapes, accelerations = (
        _chosen(text, known)
        for text, known in (
            (options.kinds, KINDS), (options.shapes, SHAPE_NAMES), (options.accelerations, ACCELERATIONS)
        )
    )  # fmt: skip
    if device == "cpu":
        accelerations = ACCELERATIONS[:1]
    possible = {"published": options.published is not None, "comfyui": options.comfyui is not None}
    parts = []
    for kind in (kind for kind in kinds if possible.get(kind, True)):
        whole = kind in ("published", "precision")
        parts += [kind] if whole else [f"{kind} {shape} {way}" for shape in shapes for way in accelerations]
    return parts


def _chosen(text: str, known: tuple[str, ...]) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise DragNoiseError(f"{', '.join(unknown)} cannot be measured; choose among {', '.join(known)}.")
    return names


def run_part(part: str, options: Namespace, device: str) -> dict[str, Any]:
    """Return a part's figures, measured in a process of its own, or in this one where memory is not measured anyway."""
    environment = dict(os.environ)
    if part.startswith("comfyui"):
        _, shape, acceleration = part.split()
        command = [IN_COMFYUI, shape, "--acceleration", acceleration]
        environment.pop("COMFYUI_PATH", None)
        environment["COMFYUI_PATHS"] = options.comfyui
    elif device == "cpu":
        return measure(part, options.published, options.repeats, options.narrow)
    else:
        command = ["-m", "dragnoise_core.bench.whole_edits.parts", part]
        command += ["--published", options.published] if options.published else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command += ["--json", file, "--repeats", options.repeats, *(["--narrow"] if options.narrow else [])]
        command = [sys.executable, *map(str, command)]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT)
        return json.loads(file.read_text(encoding="utf-8"))


def _keep(results: dict[str, Any], options: Namespace) -> None:
    if options.json:
        write_text(options.json, json.dumps(results, indent=2) + "\n")
