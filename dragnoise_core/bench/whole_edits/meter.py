"""Seconds and peaks of memory by phase. Needs torch alone, so that any host's Python can use it."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

GIBIBYTE = 2**30
# The autoencoder's phases of an edit: their time and memory are reported apart.
AUTOENCODER = ("encode", "decode")


@dataclass
class Meter:
    """Measures one edit. seconds: by phase. allocated, reserved: by phase, the GPU's peak in GiB."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    allocated: dict[str, float] = field(default_factory=dict)
    reserved: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens in this context; the GPU is waited for before and after."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.allocated[name] = torch.cuda.max_memory_allocated(self.device) / GIBIBYTE
            self.reserved[name] = torch.cuda.max_memory_reserved(self.device) / GIBIBYTE
        self.seconds[name] = time.perf_counter() - start


def row(run: str, state: str, meters: Sequence[Meter], **facts: Any) -> dict[str, Any]:
    """Return one row of the table: medians of the seconds, largest peaks; the total leaves out the autoencoder."""
    seconds = {name: statistics.median(meter.seconds[name] for meter in meters) for name in meters[0].seconds}
    total = statistics.median(
        sum(s for name, s in meter.seconds.items() if name not in AUTOENCODER) for meter in meters
    )
    return {
        "run": run,
        "state": state,
        "seconds": seconds,
        "total": total,
        "allocated": peak(meters, "allocated"),
        "allocated_without_autoencoder": peak(meters, "allocated", without=AUTOENCODER),
        "reserved": peak(meters, "reserved"),
        "repeats": len(meters),
        **facts,
    }


def peak(meters: Sequence[Meter], kind: str, without: Sequence[str] = ()) -> float | None:
    """Return the largest peak of all phases but those of `without`, GiB; None where there is no GPU."""
    return max(
        (gib for meter in meters for name, gib in getattr(meter, kind).items() if name not in without), default=None
    )


def tell_iterations(run: str, iterations: int, wanted: int | None) -> dict[str, Any]:
    """Return a run's iterations for its row, with a warning if another number was wanted."""
    facts: dict[str, Any] = {"iterations": iterations}
    if wanted is not None and iterations != wanted:
        facts["warning"] = f"{run}: {iterations} iterations instead of {wanted}, so these figures cannot be compared"
    return facts
