"""The command `dragnoise`: its options and exit codes. The commands themselves are imported when they run."""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from typing import NoReturn

from ..errors import DragNoiseError, printable, quoted
from .bench_options import add_bench, add_schedule
from .streams import Tolerant

REFUSED, INTERRUPTED = 2, 130
BENCH = f"{__package__.rpartition('.')[0]}.bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for what the user can mend (one line says how), 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _check_texts(options)
        options.run(options)
    except DragNoiseError as error:
        return _refuse(str(error), REFUSED)
    except KeyboardInterrupt:
        return _refuse("stopped.", INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name == BENCH:
            return _refuse(
                "the benches are left out of installed packages; run them from a checkout of the repository, installed "
                "with pip install -e '.[standalone,bench]'.",
                REFUSED,
            )
        return _refuse(f"the package {error.name} is missing; pip install 'dragnoise[standalone]'.", REFUSED)
    except OSError as error:
        return _refuse(f"{quoted(error.filename)}: {error.strerror}; check the name and who may read it.", REFUSED)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _refuse("out of memory; use a smaller model or a device with more memory.", REFUSED)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages are as short and printable as all others here, whatever the arguments hold."""

    def error(self, message: str) -> NoReturn:
        self.exit(REFUSED, f"{self.format_usage()}dragnoise: {printable(message)}; see {self.prog} --help.\n")


def _check_texts(options: argparse.Namespace) -> None:
    """Refuse an argument that can be neither text nor a file's name, and a prompt that is not text."""
    for name, value in vars(options).items():
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            try:
                text.encode("utf-8", "strict" if name == "prompt" else "surrogateescape")
            except UnicodeEncodeError:
                text = "\0"
            if "\0" in text:
                raise DragNoiseError(f"{name} {quoted(value)} holds what no text or file name can hold; write it anew.")


def _refuse(sentence: str, code: int) -> int:
    Tolerant(sys.stderr).write(f"dragnoise: {printable(sentence)}\n")
    return code


def _is_out_of_memory(error: Exception) -> bool:
    # By name: when a command fails early, torch has not been imported.
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)


@cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dragnoise", description="Drag points of a picture; the picture follows.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_edit(commands.add_parser("edit", help="drag points of a picture"))
    _add_apply(commands.add_parser("apply", help="repeat a saved edit on its picture"))
    _add_pick(commands.add_parser("pick", help="place points on a picture in the browser and print them"))
    _add_demo(commands.add_parser("demo", help="one drag of each scene kind of the demo model"))
    add_bench(commands.add_parser("bench", help="measure"))
    return parser


def _add_edit(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from .edit_command import run_edit

        run_edit(options)

    parser.set_defaults(run=run)
    parser.add_argument("image", metavar="IMAGE", help="picture file of any size")
    parser.add_argument(
        "--drag", action="append", metavar="X,Y:X,Y[@R]",
        help="handle and target in pixels of the picture, and the reach: what lies within R pixels of the handle moves "
        "with it (default: the method guesses); repeat for more",
    )  # fmt: skip
    parser.add_argument(
        "--pin", action="append", metavar="X,Y", help="a point of the picture that stays; repeat for more"
    )
    parser.add_argument("--points", metavar="FILE", help="the points as JSON instead")
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="picture that says where the result may change: what is transparent, as ComfyUI's mask editor saves it; "
        "without transparency, what is white",
    )
    parser.add_argument("--preset", default="default", help="paper or default (default: %(default)s)")
    add_schedule(parser)
    parser.add_argument("--iterations", type=int, help="gradient steps at most (default: the preset's)")
    parser.add_argument("--lr", type=float, help="learning rate (default: the preset's)")
    parser.add_argument("--process", metavar="FILE.gif", help="write the drag as it happens")
    parser.add_argument("--sheet", metavar="FILE", help="write before, points and after side by side in one picture")
    parser.add_argument("--save-edit", metavar="FILE", help="write the edit, for `dragnoise apply`")
    _add_common(parser)


def _add_apply(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from .edit_command import run_apply

        run_apply(options)

    parser.set_defaults(run=run)
    parser.add_argument("image", metavar="IMAGE", help="the picture that the edit was made for")
    parser.add_argument("edit", metavar="EDIT", help="file that `dragnoise edit --save-edit` wrote")
    _add_common(parser)


def _add_pick(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from .pick_command import run_pick

        run_pick(options)

    parser.set_defaults(run=run)
    parser.description = (
        "Opens the point picker in this machine's browser, offline, and prints the points as JSON, for "
        "`dragnoise edit --points`, once Done is pressed there."
    )
    parser.add_argument("image", metavar="IMAGE", help="picture file of any size")
    parser.add_argument("--points", metavar="FILE", help="points to begin with, as JSON")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="demo",
        help="demo, a local diffusers folder, a .safetensors checkpoint, or a hub id (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--model-config",
        metavar="DIR",
        help="for a checkpoint: diffusers folder with its settings (default: the hub's)",
    )
    parser.add_argument(
        "--prompt", default="", help="what the picture shows; for the demo model a scene kind, such as face"
    )
    parser.add_argument("--out", metavar="FILE", help="the result (default: NAME-dragged.png in this folder)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument(
        "--acceleration", default="auto", help="auto, eager or cudagraph: CUDA graphs or none (default: %(default)s)"
    )
    parser.add_argument(
        "--low-memory", action="store_true", help="recompute what a gradient step would keep in memory: slower"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from .demo_command import run_demo

        run_demo(options)

    parser.set_defaults(run=run)
    parser.add_argument("--out", default="out", metavar="DIR", help="folder for the pictures (default: %(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")


if __name__ == "__main__":
    sys.exit(main())
