"""Runs the tests of this folder with ComfyUI's own Python: `python tests/host/run.py [pytest arguments]`."""

import subprocess
import sys
from pathlib import Path

from find_host import SKIPPED, find_host, host_python


def main() -> int:
    host = find_host()
    if host is None:
        sys.stdout.write(SKIPPED + "\n")
        return 0
    python = host_python(host)
    if subprocess.run([python, "-c", "import pytest"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "pytest"], check=True)
    return subprocess.run([python, "-m", "pytest", str(Path(__file__).parent), *sys.argv[1:]]).returncode


if __name__ == "__main__":
    sys.exit(main())
