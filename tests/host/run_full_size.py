"""Whole edits at full size on every ComfyUI here, its dynamic VRAM off and on, with random weights.

`python tests/host/run_full_size.py [sd15] [sd21] [sdxl]` prints a table of later edits with the ratio of the two, and
with --short-of-memory one of drags while the GPU's memory is short; --narrow only tries it, also on a CPU. Every
family, host and mode is a process of its own, of the host's own Python. `make bench` runs it as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from find_host import PACK, SKIPPED, find_hosts, host_python, host_version

sys.path.append(str(PACK))

from dragnoise_core.bench.table import markdown_table  # noqa: E402

MODES = ("off", "on")


class Run(NamedTuple):
    """A process: of one host, for one family, with dynamic VRAM on, off, or with a host that has none."""

    host: Path
    family: str
    mode: str

    @property
    def column(self) -> str:
        version = host_version(self.host)
        return f"{version}, {self.mode}" if has_dynamic_vram(self.host) else version


def has_dynamic_vram(host: Path) -> bool:
    return "class ModelPatcherDynamic" in (host / "comfy" / "model_patcher.py").read_text(encoding="utf-8")


def runs(hosts: Sequence[Path], families: Sequence[str], modes: Sequence[str]) -> Iterator[Run]:
    for family in families:
        for host in hosts:
            yield from (Run(host, family, mode) for mode in modes if mode == "off" or has_dynamic_vram(host))


def start(script: str, run: Run, arguments: Sequence[str]) -> tuple[list[dict], int]:
    """Run a script of this folder in a host's process; return what it wrote, line by line, and its exit code."""
    paths = [str(run.host), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    sys.stderr.write(f"{run.family}, ComfyUI {run.column}: {script}\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.jsonl"
        file.touch()
        command = [host_python(run.host), Path(__file__).with_name(script), run.family, "--json", file, *arguments]
        command += ["--dynamic-vram"] if run.mode == "on" else []
        code = subprocess.run([str(part) for part in command], env=environment).returncode
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()], code


def measure(run: Run, arguments: Sequence[str]) -> list[dict]:
    """Return the rows of the edits of one run, with a warning where the process failed."""
    rows, code = start("full_size.py", run, arguments)
    if code:
        rows.append({"run": f"{run.family}, ComfyUI {run.column}", "warning": f"{run.column} ended with code {code}"})
    return rows


def press(run: Run, arguments: Sequence[str]) -> list[dict]:
    """Return the courses of one run, one more where the process died."""
    courses, code = start("full_size_short_of_memory.py", run, arguments)
    if code:
        courses.append({"course": "the next", "result": f"THE PROCESS DIED ({code})", "seconds": 0, "remark": None})
    return [{"run": f"{run.family}, ComfyUI {run.column}", **course} for course in courses]


def later_table(found: dict[Run, list[dict]]) -> str:
    """Return a table of the seconds of later edits, a column a host and mode, with on / off of each host."""
    columns = list(dict.fromkeys(run.column for run in found))
    seconds: dict[str, dict[str, float]] = {}
    for run, rows in found.items():
        for row in rows:
            if row.get("state") == "later":
                what = f"{run.family}: {row['run'].split(': ', 1)[1]}"
                seconds.setdefault(what, {})[run.column] = row["total"]
    pairs = [(one, one.removesuffix("off") + "on") for one in columns if one.removesuffix("off") + "on" in columns]
    header = ["a later", *columns, *(f"{on} / {off.split(', ')[1]}" for off, on in pairs)]
    cells = [
        [
            what,
            *(f"{times[column]:.3f}" if column in times else "-" for column in columns),
            *(f"{times[on] / times[off]:.2f}" if {on, off} <= times.keys() else "-" for off, on in pairs),
        ]
        for what, times in seconds.items()
    ]
    return markdown_table(header, cells) if cells else ""


def press_table(courses: Sequence[dict]) -> str:
    header = ("memory", "drag", "seconds", "graphs")
    cells = [
        [f"{c['run']}: {c['course']}", c["result"], f"{c['seconds']:.2f}", c["remark"] or "as wanted"] for c in courses
    ]
    return markdown_table(header, cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=["sd15", "sd21", "sdxl"], metavar="FAMILY")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="of dynamic VRAM (default: both)")
    parser.add_argument("--short-of-memory", action="store_true", help="drags with little memory as well")
    parser.add_argument("--no-edits", action="store_true", help="only those with little memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--repeats", type=int, default=3, help="later runs, for the median (default: %(default)s)")
    parser.add_argument("--acceleration", default="auto", help="eager, cudagraph or auto (default: %(default)s)")
    parser.add_argument("--narrow", action="store_true", help="tiny networks: only to try it, also on a CPU")
    options = parser.parse_args()
    hosts = find_hosts()
    if not hosts:
        sys.stderr.write(SKIPPED + "\n")
        return 1
    narrow = ["--narrow"] if options.narrow else []
    edits: dict[Run, list[dict]] = {}
    courses: list[dict] = []
    for run in runs(hosts, options.families, options.modes):
        if not options.no_edits:
            speed = ["--repeats", str(options.repeats), "--acceleration", options.acceleration]
            edits[run] = measure(run, [*speed, *narrow])
        if options.short_of_memory:
            courses += press(run, narrow)
        if options.json:
            rows = [row for found in edits.values() for row in found]
            options.json.write_text(json.dumps({"rows": rows, "courses": courses}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(later_table(edits))
    sys.stdout.write("\n" + press_table(courses) if courses else "")
    warnings = [row["warning"] for rows in edits.values() for row in rows if "warning" in row]
    sys.stdout.write("".join(f"\nWRONG: {warning}\n" for warning in warnings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
