"""Where ComfyUI is on this machine."""

import os
import re
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
SKIPPED = (
    "SKIPPED: no ComfyUI found, so the tests on the real host did not run; set COMFYUI_PATH to its folder, or "
    "COMFYUI_PATHS to several."
)


def find_hosts() -> list[Path]:
    """Return every ComfyUI here: the one at COMFYUI_PATH, else those that COMFYUI_PATHS lists, else the usual ones.

    COMFYUI_PATHS is a list as PATH is. The usual ones: ~/comfy/ComfyUI, ~/comfy-new/ComfyUI, and the one whose custom_nodes hold this pack.
    """
    here = Path(os.path.abspath(__file__))  # not resolved: the pack may be linked into custom_nodes
    usual = [Path.home() / "comfy" / "ComfyUI", Path.home() / "comfy-new" / "ComfyUI"]
    usual += [folder.parent for folder in here.parents if folder.name == "custom_nodes"]
    named = os.environ.get("COMFYUI_PATH") or os.environ.get("COMFYUI_PATHS")
    candidates = [Path(path) for path in named.split(os.pathsep)] if named else usual
    return [folder for folder in candidates if (folder / "comfy" / "samplers.py").is_file()]


def find_host() -> Path | None:
    """Return the first of `find_hosts`, or None."""
    return next(iter(find_hosts()), None)


def host_version(host: Path) -> str:
    """Return ComfyUI's version, as its own file says it."""
    return re.search(r'"(.+)"', (host / "comfyui_version.py").read_text())[1]


def host_python(host: Path) -> str:
    """Return the interpreter that ComfyUI runs with: COMFYUI_PYTHON, else its own environment's, else this one."""
    places = (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe", "venv/Scripts/python.exe")
    embedded = (host.parent / "python_embeded" / "python.exe",)
    candidates = [*(host / place for place in places), *embedded]
    own = next((str(path) for path in candidates if path.is_file()), sys.executable)
    return os.environ.get("COMFYUI_PYTHON", own)
