"""What the benches write: their report to standard output, files while they run."""

import sys
import tempfile
from pathlib import Path


def say(text: str) -> None:
    """Write a line of the report to standard output."""
    sys.stdout.write(text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".dragnoise-") as folder:
        temporary = Path(folder) / "text"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
