"""Runs full_size.py with ComfyUI's own Python: `python tests/host/run_full_size.py [its arguments]`."""

import os
import subprocess
import sys
from pathlib import Path

from find_host import SKIPPED, find_host, host_python


def main() -> int:
    host = find_host()
    if host is None:
        sys.stderr.write(SKIPPED + "\n")
        return 1
    paths = [str(host), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    script = Path(__file__).with_name("full_size.py")
    return subprocess.run([host_python(host), script, *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
