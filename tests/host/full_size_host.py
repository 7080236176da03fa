"""The host in this process, its dynamic VRAM on or off, and networks of random weights in their real sizes.

Import it before anything else of the host's. `--dynamic-vram` on the command line: as the host's main switches it on
for NVIDIA cards; on a CPU it is played.
"""

import cuda_malloc  # noqa: F401, I001  (first of all, as the host's main does: it chooses the allocator)

import importlib.util
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

DYNAMIC = "--dynamic-vram" in sys.argv
PACK = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(PACK))  # last: the pack's own folder would hide the host's `nodes`

from testing_pack.tiny_models import randomise, tiny_vae  # noqa: E402

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
    if device.type == "cpu":
        import pytest
        from dynamic_vram import play

        play(pytest.MonkeyPatch())
        return
    if not comfy_aimdo.control.init_devices([(device.index, 0)]):
        raise RuntimeError(f"comfy-aimdo gives no dynamic VRAM on {device}")
    comfy_aimdo.control.set_log_warning()
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def random_model(family: str, narrow: bool):
    """Return a MODEL: float16 on a GPU, else float32."""
    kind, shape, _ = SHAPES[family]
    config = kind({**shape, **({"model_channels": 64} if narrow else {})})
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float16 if device.type == "cuda" else torch.float32, None)
    network = config.get_model({}, "")
    randomise(network.diffusion_model.to(device), 0)
    if not DYNAMIC:
        return comfy.model_patcher.ModelPatcher(network, load_device=device, offload_device=torch.device("cpu"))
    # Not before: linear layers that the host builds with it on have no weights to fill.
    switch_on_dynamic_vram()
    played = torch.device("cpu", 0)  # is not torch.device("cpu"), by which the host knows a model without GPU
    device = played if device.type == "cpu" else device
    return comfy.model_patcher.ModelPatcherDynamic(network.cpu(), device, torch.device("cpu"))


def random_vae(narrow: bool):
    if narrow:
        return tiny_vae()
    network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)
    randomise(network, 1)
    return comfy.sd.VAE(sd=network.state_dict())


class Task:
    """One model, one VAE, one prompt and one picture, and the nodes."""

    def __init__(self, family: str, narrow: bool) -> None:
        self.nodes = load_pack()
        self.side = 64 if narrow else SHAPES[family][2]
        self.device = comfy.model_management.get_torch_device()
        self.model, self.vae = random_model(family, narrow), random_vae(narrow)
        generator = torch.Generator().manual_seed(0)
        prompt = torch.randn(1, 77, self.model.model.model_config.unet_config["context_dim"], generator=generator)
        self.positive = [[prompt, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]
        self.image = torch.rand(1, self.side, self.side, 3, generator=generator)

    def points(self, drag: int = 0):
        from dragnoise_pack.dragnoise_core.points import DragPoints

        pair = tuple((x * self.side, y * self.side) for x, y in DRAGS[drag])
        return DragPoints.from_pairs([pair], self.side, self.side)
