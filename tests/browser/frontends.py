"""The pages that the tests on ComfyUI run on: each host's own frontend and the newest of all, in every renderer."""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from find_host import find_hosts

NEWEST = "1.58.1"
FIRST_WITH_VUE = (1, 33)  # Nodes drawn by Vue show elements of packs from here on.


@dataclass(frozen=True)
class Frontend:
    """A frontend in one renderer. host: the ComfyUI that serves it; is_own: whether it comes with that host."""

    host: Path
    version: str
    is_own: bool
    is_vue: bool

    def __str__(self) -> str:
        return f"{self.version}-{'vue' if self.is_vue else 'canvas'}"

    @property
    def number(self) -> tuple[int, ...]:
        return _number(self.version)

    def files(self) -> Path | None:
        """Return the folder for --front-end-root; None for the host's own. Raises OSError when it cannot be had."""
        return None if self.is_own else newest_files()


def find_frontends() -> list[Frontend]:
    """Return what there is to test here, the oldest first; nothing without a ComfyUI."""
    found = {_own_version(host): host for host in find_hosts()}
    if not found:
        return []
    versions = sorted(found, key=_number)
    newest_host = found[versions[-1]]
    every = [(found[version], version, True) for version in versions]
    if NEWEST not in found:
        every.append((newest_host, NEWEST, False))
    return [
        Frontend(host, version, is_own, is_vue)
        for host, version, is_own in every
        for is_vue in (False, True)[: 1 + (_number(version) >= FIRST_WITH_VUE)]
    ]


def newest_files() -> Path:
    """The newest frontend's files: from COMFYUI_FRONTEND_ROOT, or downloaded once with pip. Raises OSError without."""
    named = os.environ.get("COMFYUI_FRONTEND_ROOT")
    if named:
        return Path(named)
    cache = Path.home() / ".cache" / "dragnoise-tests" / f"frontend-{NEWEST}"
    static = cache / "comfyui_frontend_package" / "static"
    if not (static / "index.html").exists():
        package = f"comfyui-frontend-package=={NEWEST}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), package]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise OSError(f"{package} cannot be downloaded: {result.stderr.strip().splitlines()[-1]}")
        with zipfile.ZipFile(next(cache.glob("*.whl"))) as wheel:
            wheel.extractall(cache)
    return static


def _own_version(host: Path) -> str:
    return re.search(r"comfyui-frontend-package==([\d.]+)", (host / "requirements.txt").read_text())[1]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
