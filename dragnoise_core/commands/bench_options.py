"""The options of `dragnoise bench ...`. The measurements themselves are imported when they run."""

import argparse
import os
from pathlib import Path


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add every measurement to the command `bench`."""
    measurements = parser.add_subparsers(required=True, metavar="MEASUREMENT")
    _add_speed(measurements.add_parser("speed", help="our optimisation against the naive loop, on this machine"))
    _add_edits(measurements.add_parser("edits", help="whole edits on a GPU: seconds and memory"))
    _add_scenes(measurements.add_parser("scenes", help="methods on drags whose truth is rendered"))
    _add_dragbench(measurements.add_parser("dragbench", help="a method over DragBench, with the papers' evaluation"))
    _add_export(measurements.add_parser("export-scenes", help="write the demo scenes' drags in DragBench's format"))
    _add_ablation(measurements.add_parser("ablation", help="the paper's own studies, with a plot"))


def _add_speed(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.speed import run_bench_speed

        run_bench_speed(options)

    parser.set_defaults(run=run)
    parser.add_argument(
        "--model", default="demo", help="demo, demo-random or sd15-random: random weights of that shape (default: demo)"
    )
    parser.add_argument("--iterations", type=int, default=60, help="gradient steps of one run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each loop (default: %(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def _add_edits(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.whole_edits.command import run_bench_edits

        run_bench_edits(options)

    parser.set_defaults(run=run)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--published", type=Path, metavar="DIR", help="a checkout of the published code, timed as well")
    parser.add_argument(
        "--comfyui",
        metavar="DIRS",
        default=_comfyui(),
        help="folders of ComfyUI, listed as in PATH, where the nodes are timed as well (default: COMFYUI_PATH or "
        "COMFYUI_PATHS, else ~/comfy/ComfyUI and ~/comfy-new/ComfyUI)",
    )
    parser.add_argument("--shapes", default="sd15,sdxl", help="with commas (default: %(default)s)")
    parser.add_argument(
        "--kinds",
        default="published,package,comfyui,precision",
        help="what to measure, with commas (default: %(default)s)",
    )
    parser.add_argument(
        "--accelerations", default="eager,cudagraph", help="how to run, with commas (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="later runs, for the median (default: %(default)s)")
    parser.add_argument("--narrow", action="store_true", help="tiny networks, only to try the command; works on a CPU")


def _comfyui() -> str | None:
    named = os.environ.get("COMFYUI_PATH") or os.environ.get("COMFYUI_PATHS")
    usual = [Path.home() / folder / "ComfyUI" for folder in ("comfy", "comfy-new")]
    return named or os.pathsep.join(str(folder) for folder in usual if folder.is_dir()) or None


def _add_dragbench(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.dragbench.command import run_dragbench

        run_dragbench(options)

    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="DragBench: folders of categories with folders of samples")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results; finished ones are kept")
    parser.add_argument("--method", default="default", help="what to run (default: %(default)s)")
    parser.add_argument("--model", default="demo", help="as for `dragnoise edit` (default: %(default)s)")
    parser.add_argument("--model-config", metavar="DIR", help="as for `dragnoise edit`")
    parser.add_argument("--prompt", help="for all samples (default: their own; the demo model needs scene kinds)")
    add_schedule(parser)
    parser.add_argument("--seed", type=int, default=0, help="torch's seed, set before every sample (default: 0)")
    parser.add_argument("--fresh", action="store_true", help="drag finished samples again")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate what is in --out, whoever made it")
    parser.add_argument(
        "--dift-model",
        metavar="MODEL",
        help="finds where things went; Stable Diffusion 2.1 in the papers (default: no mean distance)",
    )
    parser.add_argument("--lpips-weights", metavar="FILE", help="AlexNet's (default: torch's folder for downloads)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one; with torchrun one for each)")
    parser.add_argument("--json", action="store_true", help="report as JSON")


def _add_export(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.dragbench.export import run_export_scenes

        run_export_scenes(options)

    parser.set_defaults(run=run)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the samples")
    parser.add_argument("--count", type=int, default=96, help="drags (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the set of drags (default: 0)")


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.scenes import run_bench_scenes

        run_bench_scenes(options)

    parser.set_defaults(run=run)
    parser.add_argument(
        "--methods",
        default="nothing,paper,default",
        help="methods by name, with commas; a preset takes settings, as default:warp=0 (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other drags (default: %(default)s)")
    parser.add_argument("--count", type=int, default=96, help="drags; multiples of 96 are balanced (default: 96)")
    add_schedule(parser)
    parser.add_argument("--side", type=int, default=256, help="of the pictures, in pixels (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="folder for tables, the rows of all drags and a contact sheet")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--processes", type=int, default=1, help="side by side, one thread each; distorts the seconds (default: 1)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the rows in DIR; start anew if a method has changed since"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the DDIM schedule."""
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps of the whole schedule (default: %(default)s)")
    parser.add_argument(
        "--strength", type=float, default=0.7, help="part of it to invert, above 0 to 1 (default: %(default)s)"
    )


def _add_ablation(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from ..bench.ablation import run_bench_ablation

        run_bench_ablation(options)

    parser.set_defaults(run=run)
    parser.add_argument(
        "--study", default="all", help="start, block, tap, stop, replacement, variable, with commas (default: all)"
    )
    parser.add_argument("--count", type=int, default=12, help="drags (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other drags (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=25.0, help="begin no drag that would take longer (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps of the whole schedule (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=60, help="gradient steps of a drag (default: %(default)s)")
    parser.add_argument(
        "--learning-rates", default="0.01,0.03,0.1,0.3", help="for `block` and `variable` (default: %(default)s)"
    )
    parser.add_argument(
        "--budgets", default="5,10,20,40,80", help="gradient steps for `variable` (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for results, tables and plot (default: out/ablation)")
    parser.add_argument("--plot-only", metavar="FILE", help="an earlier run's ablation.json: draw, do not run")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
