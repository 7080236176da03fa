"""Runs the tests of this folder on every ComfyUI here, with its own Python: `python tests/host/run.py [pytest arguments]`.

One line a host at the end: its version, and how many tests passed, failed and were skipped.
"""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from find_host import SKIPPED, find_hosts, host_python, host_version


def main() -> int:
    hosts = find_hosts()
    if not hosts:
        sys.stdout.write(SKIPPED + "\n")
        return 0
    results = [run(host, sys.argv[1:]) for host in hosts]
    sys.stdout.write("\n" + "\n".join(line for line, _ in results) + "\n")
    return max(code for _, code in results)


def run(host: Path, arguments: list[str]) -> tuple[str, int]:
    """Return the line that says how the tests went on one host, and pytest's exit code."""
    python, here = host_python(host), str(Path(__file__).parent)
    if subprocess.run([python, "-c", "import pytest"], capture_output=True).returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "pytest"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [python, "-m", "pytest", here, f"--junitxml={report}", *arguments]
        code = subprocess.run(command, env={**os.environ, "COMFYUI_PATH": str(host)}).returncode
        line = f"ComfyUI {host_version(host)} at {host}: {counts(report)}"
    return line, code


def counts(report: Path) -> str:
    """Return how many tests passed, failed and were skipped, from pytest's report."""
    if not report.is_file():
        return "no test ran"
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    every, failures, errors, skipped = (
        sum(numbers)
        for numbers in zip(
            *([int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")] for suite in suites),
            strict=True,
        )
    )
    return f"{every - failures - errors - skipped} passed, {failures + errors} failed, {skipped} skipped"


if __name__ == "__main__":
    sys.exit(main())
