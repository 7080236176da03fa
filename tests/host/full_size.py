"""Seconds and memory of whole edits at full size, in one process of the host's: see run_full_size.py, which starts it.

Writes lines of JSON as it goes, each a row of dragnoise_core/bench/whole_edits.
"""

from full_size_host import DYNAMIC, SHAPES, Task, torch  # noqa: I001  (before anything of the host's)

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import comfy.sample
import comfyui_version

from dragnoise_core.bench.whole_edits.meter import Meter, row, tell_iterations
from dragnoise_core.configuration import preset

# So small a learning rate moves no point, and so none arrives before the last iteration.
PAPER = {"learning_rate": 1e-6, "iterations": 60}


class Edits:
    """Edits of one task through the nodes."""

    def __init__(self, family: str, acceleration: str, narrow: bool) -> None:
        self.task = Task(family, narrow)
        memory = ", dynamic VRAM" if DYNAMIC else ""
        self.label = f"{family}, ComfyUI {comfyui_version.__version__}{memory}, {acceleration}"
        self.accelerated = {"acceleration": acceleration}
        # On a CPU a short edit on a small picture is enough to see whether this runs.
        self.schedule = {"steps": 5 if narrow else 50, "strength": 0.7, **self.accelerated}
        shorter = {"iterations": 3} if narrow else {}
        self.paper = {"settings": preset("paper", **{**PAPER, **shorter})}
        side = self.task.side
        mask = torch.zeros(1, side, side)
        mask[:, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
        self.scenarios = {"edit": self.paper}
        if acceleration != "eager" or narrow:
            self.scenarios["edit, preset default"] = {"settings": preset("default", **shorter)}
        if family != "sdxl":  # it would take the time of all else together
            self.scenarios["edit with a mask"] = {**self.paper, "mask": mask}

    def rows(self, repeats: int) -> Iterator[dict]:
        """Give the rows of all scenarios, one by one, the last with a warning where the model is not left as found."""
        backend = torch.cuda.get_allocator_backend() if self.task.device.type == "cuda" else "none"
        remark = {"remark": f"torch {torch.__version__}, CUDA allocator: {backend}"}
        before = None
        for name, settings in self.scenarios.items():
            label = f"{self.label}: {name}"
            first, iterations, _ = self.edit(settings)
            wanted = settings["settings"].iterations if "default" not in name else None
            facts = tell_iterations(label, iterations, wanted)
            yield row(label, "first" if before else "first in the process", [first], **facts, **remark)
            before, remark = before or self.portrait(), {}  # the host itself changes a model when it first loads it
            later, again = [], []
            for _ in range(repeats):
                meter, _, kept = self.edit(settings)
                later.append(meter)
                again.append(Meter(self.task.device))
                self.drag(again[-1], *kept, 1, settings)
            yield row(label, "later", later, **facts)
            yield row(f"{label}: second drag", "later", again, **facts)
        left = {} if self.portrait() == before else {"warning": f"{self.label}: the model was not left as it was found"}
        label = f"{self.label}: DragNoise Edit, autoencoder included"
        iterations = self.paper["settings"].iterations
        yield row(label, "later", [self.one_node() for _ in range(repeats)], iterations=iterations, **left)

    def edit(self, settings: dict):
        """Run the separate nodes; return the figures, the iterations, and what a second drag needs."""
        task = self.task
        meter = Meter(task.device)
        with meter.phase("encode"):
            latent = {"samples": task.vae.encode(task.image)}
        with meter.phase("inversion"):
            noisy, sigmas = task.nodes.invert.execute(task.model, task.positive, latent, **self.schedule).args[:2]
        edit, clean = self.drag(meter, noisy, sigmas, 0, settings)
        with meter.phase("decode"):
            picture = task.vae.decode(clean["samples"])
        if not picture.isfinite().all():
            raise ArithmeticError(f"{self.label}: the picture is not finite")
        return meter, edit.iterations, (noisy, sigmas)

    def drag(self, meter: Meter, noisy: dict, sigmas: torch.Tensor, drag: int, settings: dict):
        """Optimise and sample; return the edit and its latent."""
        task = self.task
        arguments = task.model, task.positive, noisy, sigmas
        with meter.phase("optimisation"):
            found = task.nodes.optimise.execute(*arguments, task.points(drag), **settings, **self.accelerated)
        edit = found.args[0]
        with meter.phase("sampling"):
            clean = task.nodes.sample.execute(*arguments, edit, **self.accelerated).args[0]
        return edit, clean

    def one_node(self) -> Meter:
        """Run the node that does it all."""
        task, settings = self.task, {**self.paper, **self.schedule}
        meter = Meter(task.device)
        with meter.phase("all"):
            task.nodes.edit.execute(task.model, task.vae, task.positive, task.image, task.points(), **settings)
        return meter

    def portrait(self) -> list[tuple]:
        """Return what would betray that somebody was at work in the model, the host's own picture among it."""
        modules = [module for module in self.task.model.model.modules() if module._parameters]
        if DYNAMIC:  # the host loads small layers' weights anew every time
            modules = [module for module in modules if hasattr(module, "_v")]
        weights = [weight for module in modules for weight in module._parameters.values() if weight is not None]
        facts = [(id(weight), weight.requires_grad, weight.grad is None) for weight in weights]
        return [*facts, self.hosts_picture().tolist()]

    def hosts_picture(self) -> torch.Tensor:
        """Return what the host's own sampler makes of some noise, its second time in this process.

        The first differs by a thousandth on a GPU: PyTorch's first attention in a process has another kernel than the
        host asks for, and than all later ones.
        """
        task = self.task
        noise = torch.randn(1, 4, task.side // 8, task.side // 8, generator=torch.Generator().manual_seed(1))
        prompts = task.positive, task.positive
        arguments = noise, 2, 1.0, "euler", "normal", *prompts, torch.zeros_like(noise)
        return [comfy.sample.sample(task.model, *arguments, seed=1, disable_pbar=True) for _ in range(2)][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=SHAPES)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--acceleration", default="auto")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--dynamic-vram", action="store_true")
    options = parser.parse_args()
    # The host runs every prompt in inference mode.
    with torch.inference_mode(), options.json.open("w", encoding="utf-8") as file:
        for measured in Edits(options.family, options.acceleration, options.narrow).rows(options.repeats):
            file.write(json.dumps(measured) + "\n")
            file.flush()


if __name__ == "__main__":
    sys.exit(main())
