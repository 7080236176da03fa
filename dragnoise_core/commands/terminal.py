"""What the commands share: progress bars, reports, outputs checked before the work."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..drawing import picture_format
from ..errors import DragNoiseError, printable
from ..progress import Progress
from .streams import Tolerant

BAR = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}, {elapsed} gone, {remaining} left"


class ProgressBars:
    """A callback: one bar on standard error for each phase. A context manager that closes the last bar."""

    def __init__(self, title: str = "") -> None:
        self.title, self.phase, self.bar = title, "", None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, progress: Progress) -> None:
        """See `progress.Callback`."""
        if progress.phase != self.phase:
            self.__exit__()
            self.phase = progress.phase
            title = f"{self.title} {self.phase}".strip()
            self.bar = tqdm(total=progress.total, desc=title, file=Tolerant(sys.stderr), bar_format=BAR)
        self.bar.update(progress.step - self.bar.n)


class Outputs:
    """Writes what was made; what cannot be written where it should go is kept elsewhere.

    files: where each thing was written, by its purpose.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.failures: list[str] = []
        self.kept_in: Path | None = None

    def write(self, purpose: str, path: Path, write: Callable[[Path], None]) -> None:
        """Call `write` with the path; if that fails, with one in a folder for temporary files or in the home folder."""
        try:
            write(path)
            self.files[purpose] = str(path)
        except DragNoiseError as error:
            self.failures.append(str(error))
            # Other formats limit what they hold; PNG does not.
            suffix = path.suffix if purpose not in ("picture", "sheet") else ".png"
            self._keep(purpose, f"{purpose}{suffix}", write)

    def _keep(self, purpose: str, name: str, write: Callable[[Path], None]) -> None:
        for parent in (None, tempfile.gettempdir, Path.home):
            if parent is None and self.kept_in is None:
                continue
            try:
                folder = self.kept_in if parent is None else Path(tempfile.mkdtemp(prefix="dragnoise-", dir=parent()))
                write(folder / name)
            except (DragNoiseError, OSError, RuntimeError):
                continue
            self.kept_in, self.files[purpose] = folder, str(folder / name)
            return

    def check(self) -> None:
        """Raise DragNoiseError, saying where it is kept, when something could not be written as asked."""
        if self.failures:
            where = f" What was made is kept in {self.kept_in}." if self.kept_in else ""
            raise DragNoiseError(f"{self.failures[0]}{where}")


def note(text: str) -> None:
    """Write a line for the person to standard error, where no program reads it."""
    Tolerant(sys.stderr).write(f"{printable(text)}\n")


def describe(report: dict[str, Any]) -> str:
    """Return a report of `EditResult.report` as lines of text."""
    lines = [f"{'point':>5}  {'start':>16}  {'target':>16}  {'end':>16}  {'left':>9}"]
    for number, point in enumerate(report["points"], 1):
        places = "  ".join(f"{point[name][0]:7.1f}, {point[name][1]:7.1f}" for name in ("start", "target", "end"))
        lines.append(f"{number:5}  {places}  {point['distance']:6.1f} px")
    if not report["changed"]:
        lines.append("All points are on their targets already: nothing was changed.")
    lines.append(f"iterations: {report['iterations']}")
    if report["diverged"]:
        lines.append(
            f"Steps diverged at {report['diverged']} noise level(s) and were taken back: lower the rate (--lr)."
        )
    lines.append("seconds: " + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in report["seconds"].items()))
    return "\n".join(lines)


def check_picture_output(path: Path, source: Path | None = None) -> Path:
    """Return `path` if a picture can be written there, and not over `source`. Raises DragNoiseError otherwise."""
    picture_format(path)
    if source is not None and path.resolve() == source.resolve():
        raise DragNoiseError(f"{path} is the picture to edit; give the result another name.")
    return check_output(path)


def check_output(path: Path) -> Path:
    """Return `path` if a file can be written there. Raises DragNoiseError otherwise."""
    if path.is_dir():
        raise DragNoiseError(f"{path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise DragNoiseError(f"there is no folder {path.parent} for {path.name}; make it first.")
    try:
        # Permissions say nothing of read-only or full file systems; writing does.
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        raise DragNoiseError(
            f"the folder {path.parent} cannot be written ({error.strerror}); choose another one."
        ) from error
    return path
