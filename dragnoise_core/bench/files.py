"""Files that the benches write while they run."""

import tempfile
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".dragnoise-") as folder:
        temporary = Path(folder) / "text"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
