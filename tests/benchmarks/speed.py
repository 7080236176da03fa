"""`make bench`: what whole edits cost on this machine's GPU, with random weights in the sizes of SD 1.5 and SDXL.

One Markdown table: edits through the package, eager and as CUDA graphs; the same in ComfyUI's process; the published
code, where a checkout of it is given. Every part runs in a process of its own, so that its first edit is a first one
and its memory its own. Without a GPU, the ratio that `dragnoise bench speed` prints.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOST_TESTS = HERE.parent / "host"
sys.path[:0] = [str(HERE), str(HOST_TESTS), str(HERE.parents[1])]

import torch  # noqa: E402
from find_host import find_host, host_python  # noqa: E402
from report import report  # noqa: E402

from dragnoise_core.bench.files import write_text  # noqa: E402
from dragnoise_core.bench.speed import machine  # noqa: E402
from dragnoise_core.commands.command_line import main as dragnoise  # noqa: E402

SHAPE_NAMES = ("sd15", "sdxl")
KINDS = ("published", "package", "comfyui", "precision")
ACCELERATIONS = ("eager", "cudagraph")
TIMEOUT = 400  # seconds for one part; none takes half of it on a GPU


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all parts that were asked for, print the report; 1 if a part failed, which does not stop the others."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.part:
        _write(options.json, _measure(options.part, options, device))
        return 0
    if device.type == "cpu" and not options.narrow:
        return dragnoise(["bench", "speed", "--repeats", str(options.repeats)])
    results: dict[str, Any] = {"rows": [], "failed": []}
    for part in _parts(options, device):
        sys.stderr.write(f"measuring {part}\n")
        try:
            found = _run_part(part, options, device)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            results["failed"].append(f"{part}: {error}; what it said is above")
            continue
        for row in found.get("rows", []):
            sys.stderr.write(f"    {row['run']}, {row['state']}: {row.get('total', 0):.3f} s\n")
        results["rows"] += found.pop("rows", [])
        results |= found
        # After every part: whoever stops a long run keeps what was measured.
        if options.json:
            _write(options.json, results)
    # Not before: to ask for the GPU's name takes some of its memory.
    results["machine"] = machine(device)
    if options.json:
        _write(options.json, results)
    sys.stdout.write(report(results))
    return 1 if results["failed"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--published", type=Path, metavar="DIR", help="a checkout of the published code, timed as well")
    parser.add_argument(
        "--comfyui", type=Path, metavar="DIR", help="ComfyUI's folder (default: COMFYUI_PATH, else ~/comfy/ComfyUI)"
    )
    parser.add_argument("--shapes", default=",".join(SHAPE_NAMES), help="with commas (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="what to measure, with commas (default: %(default)s)")
    parser.add_argument(
        "--accelerations", default=",".join(ACCELERATIONS), help="how to run, with commas (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="later runs, for the median (default: %(default)s)")
    parser.add_argument("--narrow", action="store_true", help="tiny networks: only to try the script, also on a CPU")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser


def _parts(options: argparse.Namespace, device: torch.device) -> list[str]:
    """Return what is to be measured, each "kind" or "kind shape acceleration"; on a CPU there are no graphs."""
    kinds, shapes = options.kinds.split(","), options.shapes.split(",")
    asked = (kinds, KINDS), (shapes, SHAPE_NAMES), (options.accelerations.split(","), ACCELERATIONS)
    for given, known in asked:
        if set(given) - set(known):
            raise SystemExit(f"{', '.join(sorted(set(given) - set(known)))}: choose among {', '.join(known)}.")
    possible = {"published": options.published is not None, "comfyui": _host(options) is not None}
    accelerations = options.accelerations.split(",") if device.type == "cuda" else ACCELERATIONS[:1]
    parts = []
    for kind in (kind for kind in kinds if possible.get(kind, True)):
        whole = kind in ("published", "precision")
        parts += [kind] if whole else [f"{kind} {shape} {way}" for shape in shapes for way in accelerations]
    return parts


def _host(options: argparse.Namespace) -> Path | None:
    if options.comfyui:
        os.environ["COMFYUI_PATH"] = str(options.comfyui.resolve())
    return find_host()


def _run_part(part: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return a part's figures, measured in a process of its own, or in this one where memory is not measured anyway."""
    in_host = part.startswith("comfyui")
    if device.type == "cpu" and not in_host:
        return _measure(part, options, device)
    environment = dict(os.environ)
    if in_host:
        host = _host(options)
        _, shape, acceleration = part.split()
        script = [host_python(host), str(HOST_TESTS / "full_size.py"), shape]
        own = ["--acceleration", acceleration]
        paths = [str(host), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    else:
        script = [sys.executable, __file__]
        own = ["--part", part, *(["--published", str(options.published)] if options.published else [])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        common = ["--json", str(file), "--repeats", str(options.repeats), *(["--narrow"] if options.narrow else [])]
        subprocess.run([*script, *own, *common], env=environment, check=True, timeout=TIMEOUT)
        return json.loads(file.read_text(encoding="utf-8"))


def _measure(part: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return a part's figures, measured in this process."""
    # Imported here: they need diffusers, and only the part that runs needs its modules.
    if part == "precision":
        from precision import measure_precision

        return measure_precision(options.narrow, device)
    if part == "published":
        from published_code import measure_published

        return {"rows": measure_published(options.published, options.repeats, options.narrow, device)}
    from package_edits import measure_package

    _, shape, acceleration = part.split()
    return {"rows": measure_package(shape, acceleration, options.repeats, options.narrow, device)}


def _write(path: Path, figures: dict[str, Any]) -> None:
    write_text(path, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
