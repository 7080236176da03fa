"""The figures as Markdown tables."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..table import markdown_table
from .meter import AUTOENCODER

PHASES = ("inversion", "optimisation", "sampling")
HEADER = (
    "run", "edit", *PHASES, "total s", "autoencoder s", "allocated GiB", "without autoencoder", "reserved GiB",
    "iterations",
)  # fmt: skip
NOTES = """Seconds are medians; the GPU is waited for after every phase. total: without the autoencoder, whose time is
told apart. first: the model's first edit, its graphs captured in it; later: another edit of a picture of that size.
allocated: peak, the autoencoder in memory and used; what a replayed graph works in counts as reserved alone. Text
encoders are in memory only in the runs that say so. In the package the preset default samples while it drags. With
dynamic VRAM the weights lie in pages that count neither as allocated nor as reserved.
"""
# Compared with each other: the time and memory of the first over the second's.
RATIOS = (
    ("sd15, published code as released: edit", "sd15, cudagraph: edit"),
    ("sd15, published code with PyTorch's attention: edit", "sd15, cudagraph: edit"),
    ("sd15, published code as released: edit", "sd15, cudagraph: edit with a mask"),
    ("sd15, eager: edit", "sd15, cudagraph: edit"),
    ("sdxl, eager: edit", "sdxl, cudagraph: edit"),
)
IN_COMFYUI = re.compile(r"(\w+), (ComfyUI [^,]+)(, dynamic VRAM)?, (.+)")


def report(results: dict[str, Any]) -> str:
    """Return all tables, what was compared, and in capitals what went wrong."""
    measured = [row for row in results["rows"] if "seconds" in row]
    text = f"{results['machine']}\n\n"
    text += markdown_table(HEADER, [_cells(row) for row in measured]) + "\n" + NOTES + "\n"
    text += "".join(f"{line}\n" for line in (*_ratios(measured), *_remarks(results["rows"])))
    for name in ("gradients", "agreement"):
        if results.get(name):
            text += f"\n{name}\n\n" + _plain_table(results[name])
    warnings = [row["warning"] for row in results["rows"] if "warning" in row]
    return text + "".join(f"\nWRONG: {line}\n" for line in dict.fromkeys([*warnings, *results["failed"]]))


def _cells(row: dict[str, Any]) -> list[str]:
    seconds = row["seconds"]
    autoencoder = [seconds[name] for name in AUTOENCODER if name in seconds]
    return [
        row["run"],
        row["state"],
        *(_fixed(seconds.get(phase)) for phase in PHASES),
        _fixed(row["total"]),
        _fixed(sum(autoencoder) if autoencoder else None),
        *(_fixed(row[kind]) for kind in ("allocated", "allocated_without_autoencoder", "reserved")),
        str(row["iterations"]),
    ]


def _ratios(rows: Sequence[dict[str, Any]]) -> list[str]:
    later = {row["run"]: row for row in rows if row["state"] == "later"}
    lines = []
    for more, less in _compared(later):
        if more in later and less in later:
            time = later[more]["total"] / later[less]["total"]
            line = f"{more} / {less}: {time:.2f} times the time"
            if later[less]["allocated"] and "dynamic VRAM" not in more:
                allocated = later[more]["allocated"] / _largest(rows, less, "allocated")
                reserved = later[more]["reserved"] / _largest(rows, less, "reserved")
                line += f", {allocated:.2f} times the memory allocated, {reserved:.2f} times the reserved"
            lines.append(line)
    return lines


def _compared(runs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Give what is compared with what: in ComfyUI with in the package, dynamic VRAM with the same host without."""
    yield from RATIOS
    for run in runs:
        if found := IN_COMFYUI.fullmatch(run):
            shape, host, dynamic, what = found.groups()
            yield run, f"{shape}, {what}"
            if dynamic:
                yield run, f"{shape}, {host}, {what}"


def _largest(rows: Sequence[dict[str, Any]], run: str, kind: str) -> float:
    """Return a run's peak, GiB, its first edit included: there its graphs are captured."""
    return max(row[kind] for row in rows if row["run"] == run and row["state"] in ("first", "later"))


def _remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"{row['run']}: in use on the GPU afterwards {row['in_use']:.2f} GiB" for row in rows if row.get("in_use")]
    return lines + [f"{row['run']}, {row['state']}: {row['remark']}" for row in rows if "remark" in row]


def _plain_table(rows: Sequence[dict[str, Any]]) -> str:
    return markdown_table(list(rows[0]), [[_number(value) for value in row.values()] for row in rows])


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 10000 else f"{value:.2e}"
