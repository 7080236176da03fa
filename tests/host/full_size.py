"""Runs a whole edit at full size on this machine's GPU with random weights, and prints times and memory.

`PYTHONPATH=path/to/ComfyUI python tests/host/full_size.py [sd15] [sd21] [sdxl]`; with --narrow it only tries itself.
"""

import importlib.util
import json
import sys
import time
import types
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch

PACK = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
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


def load_pack():
    """Import the pack's nodes beside ComfyUI's packages only: the server is not needed."""
    server = types.ModuleType("server")
    server.PromptServer = type("PromptServer", (), {})
    sys.modules.setdefault("server", server)
    spec = importlib.util.spec_from_file_location("dragnoise_pack", PACK / "__init__.py")
    sys.modules["dragnoise_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["dragnoise_pack"])


def random_model(family: str, dtype: torch.dtype, narrow: bool):
    from testing_pack.tiny_models import randomise

    kind, shape, _ = SHAPES[family]
    config = kind({**shape, **({"model_channels": 64} if narrow else {})})
    config.set_inference_dtype(dtype, None)
    device = comfy.model_management.get_torch_device()
    network = config.get_model({}, "")
    randomise(network.diffusion_model.to(device), 0)
    return comfy.model_patcher.ModelPatcher(network, load_device=device, offload_device=torch.device("cpu"))


def edit(family: str, narrow: bool) -> dict:
    from dragnoise_pack.dragnoise_core.configuration import preset
    from dragnoise_pack.dragnoise_core.points import DragPoints
    from dragnoise_pack.dragnoise_core.schedule import ddim_sigmas
    from dragnoise_pack.nodes.host_sampling import check_model, denoise, noise_table
    from dragnoise_pack.nodes.inversion import run_inversion
    from dragnoise_pack.nodes.optimisation import run_optimisation
    from dragnoise_pack.nodes.propagation import apply_edit

    gpu = torch.cuda.is_available()
    side = 64 if narrow else SHAPES[family][2]
    model = random_model(family, torch.float16 if gpu else torch.float32, narrow)
    check_model(model)
    generator = torch.Generator().manual_seed(0)
    width = model.model.model_config.unet_config["context_dim"]
    prompt = torch.randn(1, 77, width, generator=generator)
    positive = [[prompt, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]
    latent = torch.randn(1, 4, side // 8, side // 8, generator=generator)
    sigmas = ddim_sigmas(noise_table(model), 50, 0.7)
    points = DragPoints.from_pairs([((side / 4, side / 4), (side * 3 / 4, side / 2))], side, side)
    before = [(id(p), p.requires_grad, p.grad is None) for p in model.model.parameters()]
    report = {"family": family, "side": side, "device": torch.cuda.get_device_name() if gpu else "cpu"}
    for name in ("warm up", "paper", "default"):
        config = preset("paper" if name == "warm up" else name)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        marks = [time.perf_counter()]
        noisy = run_inversion(model, positive, latent, sigmas, 0, None)
        marks.append(time.perf_counter())
        found = run_optimisation(model, positive, noisy, sigmas, points, None, config, None)
        marks.append(time.perf_counter())
        clean = denoise(apply_edit(model, found), positive, noisy, sigmas)
        marks.append(time.perf_counter())
        phases = [round(end - start, 2) for start, end in zip(marks, marks[1:], strict=False)]
        memory = round(torch.cuda.max_memory_allocated() / 2**30, 2) if gpu else None
        changed = float((found.bottlenecks - found.originals).abs().max())
        report[name] = {
            "seconds": phases, "iterations": found.iterations, "GiB": memory, "changed": round(changed, 3),
            "finite": bool(clean.isfinite().all()),
        }  # fmt: skip
    report["clean"] = before == [(id(p), p.requires_grad, p.grad is None) for p in model.model.parameters()]
    return report


def main() -> None:
    load_pack()
    narrow = "--narrow" in sys.argv
    for family in [name for name in sys.argv[1:] if name in SHAPES] or SHAPES:
        with torch.inference_mode():
            sys.stdout.write(json.dumps(edit(family, narrow)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
