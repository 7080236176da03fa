"""How many cases are tried (FUZZ_CASES, few by default), and the table of what came of them (FUZZ_REPORT)."""

import datetime
import os
import platform
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
from doors import TALLIES  # noqa: E402

CASES = int(os.environ.get("FUZZ_CASES", 60))
HANG = datetime.timedelta(seconds=20)
settings.register_profile(
    "fuzz", max_examples=CASES, deadline=HANG, database=None, derandomize=CASES <= 60,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.load_profile("fuzz")


@pytest.fixture(scope="session", autouse=True)
def report():
    """Write the table where FUZZ_REPORT says, once all cases have run."""
    yield
    path = os.environ.get("FUZZ_REPORT")
    if not path:
        return
    lines = [
        "# Fuzzing", "",
        "`make fuzz` makes up points strings, points files, options, pictures, masks, edit files, checkpoints' headers and",
        "the settings of models' folders, half of them broken pieces of whole ones, and brings them to the doors that a",
        "person uses: the command line, and `DragPoints.parse` as the node calls it. Every case must be taken, or refused",
        "with exit code 2 and one printable line of at most 700 characters, within 20 seconds, and leave no file behind.",
        "Edits are applied, by a model of a few lines; the other cases end where a model would be loaded. `make test` runs",
        "60 of each.", "",
        f"{datetime.date.today()}, {_machine()}, Python {platform.python_version()}:", "",
        "| door | cases | taken | refused | sentences | slowest |", "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, tally in TALLIES.items():
        lines.append(
            f"| {name} | {tally.taken + tally.refused} | {tally.taken} | {tally.refused} | {len(tally.sentences)} "
            f"| {tally.slowest:.2f} s |"
        )
    Path(path).write_text("\n".join([*lines, "", "Sentences are counted without names and numbers.", ""]))


def _machine() -> str:
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} threads"
