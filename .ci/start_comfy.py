"""Starts ComfyUI with this folder among its custom nodes: `python .ci/start_comfy.py [options of ComfyUI's main.py]`.

Uses the ComfyUI at COMFYUI_PATH, else at ~/comfy/ComfyUI. Where there is none, comfy-cli installs it there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]
NAME = "dragnoise"  # in custom_nodes, and in the template browser
sys.path.insert(0, str(PACK / "tests" / "host"))
from find_host import find_host, host_python  # noqa: E402

NO_ACCELERATOR = "import sys, torch; sys.exit(torch.cuda.is_available() or torch.backends.mps.is_available())"
START = """
DragNoise is at {place}.
Open the address below. Behind ComfyUI's logo choose Browse Templates > {name} > 01_start_here, and press Run.

"""


def main() -> int:
    host = find_host() or install()
    link(host)
    python = host_python(host)
    options = sys.argv[1:]
    if subprocess.run([python, "-c", NO_ACCELERATOR]).returncode == 0 and "--cpu" not in options:
        options.append("--cpu")
    sys.stdout.write(START.format(place=host / "custom_nodes" / NAME, name=NAME))
    sys.stdout.flush()
    return subprocess.run([python, "main.py", *options], cwd=host).returncode


def install() -> Path:
    """Install ComfyUI with comfy-cli; return its folder."""
    host = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
    device = "--m-series" if sys.platform == "darwin" else "--nvidia" if shutil.which("nvidia-smi") else "--cpu"
    sys.stdout.write(f"No ComfyUI found: comfy-cli installs it to {host} ({device}).\n")
    sys.stdout.flush()
    tools = PACK / ".venv-comfy-cli"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    programs = tools / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", "comfy-cli"], check=True)
    subprocess.run([programs / "comfy", "--skip-prompt", "--workspace", host, "install", device], check=True)
    return host


def link(host: Path) -> None:
    """Link this folder into custom_nodes, unless it is there already. Never replaces anything."""
    place = host / "custom_nodes" / NAME
    if place.resolve() == PACK:
        return
    if place.exists() or place.is_symlink():
        raise SystemExit(f"{place} is there already and is not this folder; move it away, then run this again.")
    place.symlink_to(PACK, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
