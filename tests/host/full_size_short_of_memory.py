"""Drags at full size while GPU memory is short, in one process of the host's: see run_full_size.py, which starts it.

First with room; then in so many GiB, and with every page taken back before each backward pass. Adds a line of JSON to
a file after each course: where the process dies the others are kept.
"""

from full_size_host import DYNAMIC, SHAPES, Task, torch  # noqa: I001  (before anything of the host's)

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as management

from dragnoise_core.configuration import preset

GIBIBYTE = 2**30
# What is free on the GPU before anything of the model is on it, GiB; 7 and 11: of cards of 8 and 12 GB.
ROOMS = {"sd15": (7, 2.2, 1.6, 1.2), "sd21": (7, 2.2, 1.6), "sdxl": (11, 7, 4, 2.2)}
# What of its change two drags alike may differ in: attention's gradient is not repeatable on CUDA, and steps of Adam on
# random weights make it grow, between graphs and eager to 0.1 in ten. A wrong gradient gives about 1.
ALIKE = 0.2


class Courses:
    """Drags of one task, each compared with the one that had room."""

    def __init__(self, family: str, narrow: bool) -> None:
        self.task = Task(family, narrow)
        self.settings = preset("paper", iterations=3 if narrow else 10)
        self.schedule = {"steps": 5 if narrow else 20, "strength": 0.7}
        self.start = self.inverted()
        self.right = self.drag()

    def inverted(self, **speed) -> tuple:
        task = self.task
        latent = {"samples": task.vae.encode(task.image)}
        return task.nodes.invert.execute(task.model, task.positive, latent, **self.schedule, **speed).args[:2]

    def drag(self, low_memory: bool = False, **speed) -> torch.Tensor:
        """Return what a drag makes of the bottleneck, from the same noise every time, in a whole edit.

        Keeps in `remark` why it went without graphs, where that was for want of memory.
        """
        from dragnoise_pack.nodes.host.plain_unet import HeldGraphs

        task = self.task
        if not self.inverted(**speed)[0]["samples"].isfinite().all():
            raise ArithmeticError("the noise is not finite")
        arguments = task.model, task.positive, *self.start
        optimise = task.nodes.optimise.execute
        edit = optimise(*arguments, task.points(), settings=self.settings, low_memory=low_memory, **speed).args[0]
        self.remark = HeldGraphs.of(task.model).remark
        clean = task.nodes.sample.execute(*arguments, edit, **speed).args[0]
        if not task.vae.decode(clean["samples"]).isfinite().all():
            raise ArithmeticError("the picture is not finite")
        return edit.bottlenecks - edit.originals

    def course(self, name: str, **speed) -> dict:
        """Return how a drag went: right, wrong, or the error."""
        self.remark, start = None, time.perf_counter()
        try:
            change = self.drag(**speed)
        except Exception as error:  # any at all is a result here
            result = f"{type(error).__name__}: {str(error)[:90]}"
        else:
            off = float((change - self.right).norm() / self.right.norm())
            result = f"{'right' if off <= ALIKE else 'WRONG'} ({off:.3f} off)"
        return {"course": name, "result": result, "seconds": time.perf_counter() - start, "remark": self.remark}

    def in_room(self, gibibytes: float, **speed) -> dict:
        ballast = take_all_but(gibibytes) if self.task.device.type == "cuda" else []
        low = ", low_memory" if speed else ""
        found = self.course(f"{gibibytes:g} GiB left{low}", **speed)
        ballast.clear()
        return found

    def evicted(self) -> dict:
        """Take everything that nobody has pinned away between every forward pass and its backward pass."""
        grad = torch.autograd.grad
        vbars = getattr(self.task.model.model, "dynamic_vbars", {})

        def disturbed(*arguments, **options):
            for vbar in vbars.values():
                vbar.free_memory(1 << 40)
                vbar.prioritize()
            return grad(*arguments, **options)

        torch.autograd.grad = disturbed
        try:
            return self.course("evicted before each backward pass", acceleration="eager")
        finally:
            torch.autograd.grad = grad


def take_all_but(gibibytes: float) -> list[torch.Tensor]:
    """Unload all models and take the GPU's free memory but for so much."""
    management.unload_all_models()
    management.soft_empty_cache()
    kept = []
    while (more := torch.cuda.mem_get_info()[0] - int(gibibytes * GIBIBYTE)) > 2**26:
        kept.append(torch.empty(min(more, 4 * GIBIBYTE), dtype=torch.uint8, device="cuda"))
        torch.cuda.synchronize()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=SHAPES)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--dynamic-vram", action="store_true")
    options = parser.parse_args()

    def keep(course: Callable[..., dict], *arguments, **speed) -> None:
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(course(*arguments, **speed)) + "\n")

    with torch.inference_mode():
        courses = Courses(options.family, options.narrow)
        keep(courses.course, "with room")
        if DYNAMIC:
            keep(courses.evicted)
        for room in ROOMS[options.family]:
            keep(courses.in_room, room)
        keep(courses.in_room, ROOMS[options.family][-1], low_memory=True, acceleration="eager")


if __name__ == "__main__":
    sys.exit(main())
