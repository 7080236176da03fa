"""Whole edits at full size through the real nodes in the host's process, with random weights: seconds and memory.

`python tests/host/run_full_size.py [sd15] [sd21] [sdxl]`; with --narrow it only tries itself. `make bench` runs it as
well. Prints JSON, in the form of the rows of dragnoise_core/bench/whole_edits. --dynamic-vram: with the host's dynamic
VRAM, as its main switches it on for NVIDIA cards.
"""

import cuda_malloc  # noqa: F401, I001  (first of all, as the host's main does: it chooses the allocator)

import argparse
import importlib.util
import json
import sys
import types
from pathlib import Path

if "--dynamic-vram" in sys.argv:  # before anything of the host's, whose modules take the library as they find it
    import comfy_aimdo.control

    comfy_aimdo.control.init()

import comfy.cli_args
import torch

comfy.cli_args.args.cpu = not torch.cuda.is_available()

import comfy.ldm.models.autoencoder  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402

PACK = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(PACK))  # last: the pack's own folder would hide the host's `nodes`

from testing_pack.tiny_models import randomise, tiny_vae  # noqa: E402

from dragnoise_core.bench.whole_edits.meter import Meter, row, tell_iterations  # noqa: E402
from dragnoise_core.configuration import preset  # noqa: E402

LEVELS = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True,
    "legacy": False, "use_checkpoint": False,
}  # fmt: skip
SD = {
    **LEVELS, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1,
}  # fmt: skip
SHAPES = {
    "sd15": (comfy.supported_models.SD15, {**SD, "context_dim": 768, "use_linear_in_transformer": False}, 512),
    "sd21": (comfy.supported_models.SD20, {**SD, "context_dim": 1024, "use_linear_in_transformer": True}, 768),
    "sdxl": (
        comfy.supported_models.SDXL,
        {
            **LEVELS,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4],
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "context_dim": 2048,
            "adm_in_channels": 2816,
            "num_classes": "sequential",
            "use_linear_in_transformer": True,
        },  # fmt: skip
        1024,
    ),
}
# The size that the host builds for every SD 1.x, SD 2.x and SDXL autoencoder.
AUTOENCODER = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
# So small a learning rate moves no point, and so none arrives before the last iteration.
PAPER = {"learning_rate": 1e-6, "iterations": 60}
# As fractions of the picture: handle and target of the first drag, and of a second one on the same picture.
DRAGS = ((0.4, 0.5), (0.6, 0.5)), ((0.5, 0.4), (0.5, 0.65))


def load_pack():
    """Import the pack's nodes beside ComfyUI's packages only: the server is not needed. Return the nodes by name."""
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    sys.modules.setdefault("server", server)
    spec = importlib.util.spec_from_file_location("dragnoise_pack", PACK / "__init__.py")
    sys.modules["dragnoise_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["dragnoise_pack"])
    from dragnoise_pack.nodes.edit import DragNoiseEdit
    from dragnoise_pack.nodes.inversion import DragNoiseInvert
    from dragnoise_pack.nodes.optimisation import DragNoiseOptimize
    from dragnoise_pack.nodes.propagation import DragNoiseSample

    nodes = types.SimpleNamespace(
        edit=DragNoiseEdit, invert=DragNoiseInvert, optimise=DragNoiseOptimize, sample=DragNoiseSample
    )
    for node in vars(nodes).values():
        # What the host sets before it runs a node.
        node.hidden = types.SimpleNamespace(unique_id="1")
    return nodes


def switch_on_dynamic_vram() -> None:
    """Do what the host's main does, in its order. Raises RuntimeError where its library does not take the device."""
    import comfy.memory_management
    import comfy_aimdo.control

    device = comfy.model_management.get_torch_device()
    if not comfy_aimdo.control.init_devices([(device.index, 0)]):
        raise RuntimeError(f"comfy-aimdo gives no dynamic VRAM on {device}")
    comfy_aimdo.control.set_log_warning()
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def random_model(family: str, dtype: torch.dtype, narrow: bool):
    kind, shape, _ = SHAPES[family]
    config = kind({**shape, **({"model_channels": 64} if narrow else {})})
    config.set_inference_dtype(dtype, None)
    device = comfy.model_management.get_torch_device()
    network = config.get_model({}, "")
    randomise(network.diffusion_model.to(device), 0)
    return comfy.model_patcher.ModelPatcher(network, load_device=device, offload_device=torch.device("cpu"))


def random_vae(narrow: bool):
    if narrow:
        return tiny_vae()
    network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)
    randomise(network, 1)
    return comfy.sd.VAE(sd=network.state_dict())


class Edits:
    """One model, one VAE and one picture, and edits of it through the nodes."""

    def __init__(self, nodes, family: str, acceleration: str, narrow: bool, dynamic: bool) -> None:
        memory = ", dynamic VRAM" if dynamic else ""
        self.nodes, self.label = nodes, f"{family}, ComfyUI, {acceleration}{memory}"
        self.accelerated = {"acceleration": acceleration}
        # On a CPU a short edit on a small picture is enough to see whether this runs.
        self.schedule = {"steps": 5 if narrow else 50, "strength": 0.7, **self.accelerated}
        shorter = {"iterations": 3} if narrow else {}
        self.paper = {"settings": preset("paper", **{**PAPER, **shorter})}
        self.side = 64 if narrow else SHAPES[family][2]
        self.device = comfy.model_management.get_torch_device()
        half = torch.float16 if self.device.type == "cuda" else torch.float32
        self.model, self.vae = random_model(family, half, narrow), random_vae(narrow)
        if dynamic:  # not before: what the host builds with it on has no weights to fill
            switch_on_dynamic_vram()
            self.model = comfy.model_patcher.ModelPatcherDynamic(
                self.model.model.cpu(), self.device, torch.device("cpu")
            )
        generator = torch.Generator().manual_seed(0)
        prompt = torch.randn(1, 77, self.model.model.model_config.unet_config["context_dim"], generator=generator)
        self.positive = [[prompt, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]
        self.image = torch.rand(1, self.side, self.side, 3, generator=generator)
        mask = torch.zeros(1, self.side, self.side)
        mask[:, self.side // 4 : self.side * 3 // 4, self.side // 4 : self.side * 3 // 4] = 1
        self.scenarios = {"edit": self.paper, "edit with a mask": {**self.paper, "mask": mask}}
        if acceleration != "eager" or narrow:
            self.scenarios["edit, preset default"] = {"settings": preset("default", **shorter)}

    def rows(self, repeats: int) -> list[dict]:
        """Return the rows of all scenarios, with a warning where the model is not left as it was found."""
        before, rows = None, []
        for name, settings in self.scenarios.items():
            label = f"{self.label}: {name}"
            first, iterations, _ = self.edit(settings)
            before = before or self.portrait()  # the host itself changes a model when it first loads it
            wanted = settings["settings"].iterations if "default" not in name else None
            facts = tell_iterations(label, iterations, wanted)
            rows.append(row(label, "first" if rows else "first in the process", [first], **facts))
            later, again = [], []
            for _ in range(repeats):
                meter, _, kept = self.edit(settings)
                later.append(meter)
                again.append(Meter(self.device))
                self.drag(again[-1], *kept, 1, settings)
            rows += [row(label, "later", later, **facts), row(f"{label}: second drag", "later", again, **facts)]
        label = f"{self.label}: DragNoise Edit, autoencoder included"
        rows.append(row(label, "later", [self.one_node() for _ in range(repeats)], iterations=rows[0]["iterations"]))
        backend = torch.cuda.get_allocator_backend() if self.device.type == "cuda" else "none"
        rows[0]["remark"] = f"torch {torch.__version__}, CUDA allocator: {backend}"
        if self.portrait() != before:
            rows[0]["warning"] = f"{self.label}: the model was not left as it was found"
        return rows

    def edit(self, settings: dict):
        """Run the separate nodes; return the figures, the iterations, and what a second drag needs."""
        meter = Meter(self.device)
        with meter.phase("encode"):
            latent = {"samples": self.vae.encode(self.image)}
        with meter.phase("inversion"):
            noisy, sigmas = self.nodes.invert.execute(self.model, self.positive, latent, **self.schedule).args[:2]
        edit, clean = self.drag(meter, noisy, sigmas, 0, settings)
        with meter.phase("decode"):
            picture = self.vae.decode(clean["samples"])
        if not picture.isfinite().all():
            raise ArithmeticError(f"{self.label}: the picture is not finite")
        return meter, edit.iterations, (noisy, sigmas)

    def drag(self, meter: Meter, noisy: dict, sigmas: torch.Tensor, drag: int, settings: dict):
        """Optimise and sample; return the edit and its latent."""
        arguments = self.model, self.positive, noisy, sigmas
        with meter.phase("optimisation"):
            edit = self.nodes.optimise.execute(*arguments, self.points(drag), **settings, **self.accelerated).args[0]
        with meter.phase("sampling"):
            clean = self.nodes.sample.execute(*arguments, edit, **self.accelerated).args[0]
        return edit, clean

    def one_node(self) -> Meter:
        """Run the node that does it all."""
        meter = Meter(self.device)
        settings = {**self.paper, **self.schedule}
        with meter.phase("all"):
            self.nodes.edit.execute(self.model, self.vae, self.positive, self.image, self.points(0), **settings)
        return meter

    def points(self, drag: int):
        from dragnoise_pack.dragnoise_core.points import DragPoints

        pair = tuple((x * self.side, y * self.side) for x, y in DRAGS[drag])
        return DragPoints.from_pairs([pair], self.side, self.side)

    def portrait(self) -> list[tuple]:
        """Return what would betray that somebody was at work in the model."""
        modules = [module for module in self.model.model.modules() if module._parameters]
        if any(hasattr(module, "_v") for module in modules):  # the host loads small layers' weights anew every time
            modules = [module for module in modules if hasattr(module, "_v")]
        weights = [weight for module in modules for weight in module._parameters.values() if weight is not None]
        return [(id(weight), weight.requires_grad, weight.grad is None) for weight in weights]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(SHAPES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there instead of printing them")
    parser.add_argument("--repeats", type=int, default=3, help="later runs, for the median (default: %(default)s)")
    parser.add_argument("--acceleration", default="auto", help="eager, cudagraph or auto (default: %(default)s)")
    parser.add_argument("--narrow", action="store_true", help="tiny networks: only to try the script, also on a CPU")
    parser.add_argument("--dynamic-vram", action="store_true", help="with the host's dynamic VRAM; one family a run")
    options = parser.parse_args()
    nodes = load_pack()
    rows = []
    for family in options.families or SHAPES:
        # The host runs every prompt in inference mode.
        with torch.inference_mode():
            edits = Edits(nodes, family, options.acceleration, options.narrow, options.dynamic_vram)
            rows += edits.rows(options.repeats)
        comfy.model_management.unload_all_models()
    text = json.dumps({"rows": rows}, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
