"""`dragnoise bench speed`: our optimisation against the naive loop, in one process on this machine."""

import copy
import json
import platform
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ..configuration import preset
from ..errors import DragNoiseError
from ..optimisation import optimise
from ..points import DragPoints
from ..schedule import ddim_sigmas, nearest_timestep, scaled_linear_sigmas
from ..standalone.diffusers_unet import DiffusersSplitUNet
from ..standalone.loaded_model import freeze
from ..standalone.models import load_model, usable_device

SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
# So low that no point ever moves: every run takes all its iterations.
LEARNING_RATE = 1e-6


def run_bench_speed(options: Namespace) -> None:
    """Time both loops alternately, print medians, their ratio and the peak memory of each."""
    for name in ("iterations", "repeats"):
        if not 1 <= getattr(options, name) <= 1000:
            raise DragNoiseError(f"--{name} is {getattr(options, name)}; choose a number from 1 to 1000.")
    device = usable_device(options.device)
    unet = _unet(options.model).to("cpu", memory_format=torch.contiguous_format)
    torch.manual_seed(0)
    side = unet.config.sample_size
    latent = torch.randn(1, 4, side, side, device=device)
    prompt = torch.randn(1, 77, unet.config.cross_attention_dim, device=device)
    # On a GPU our frozen copy computes in half precision; the released code keeps float32 weights and uses autocast.
    half = torch.float16 if device.type == "cuda" else torch.float32
    loops = {
        "ours": (our_loop, freeze(copy.deepcopy(unet), device, half).to("cpu")),
        "naive": (naive_loop, unet.eval().requires_grad_(True)),
    }
    seconds, memory = {name: [] for name in loops}, dict.fromkeys(loops, 0)
    before = _process_peak()
    with tqdm(total=(options.repeats + 1) * len(loops), desc="bench", file=sys.stderr) as bar:
        for repeat in range(options.repeats + 1):
            # Ours first: the peak of a process only grows, so the hungrier loop must come second.
            for name, (loop, module) in loops.items():
                module.to(device)
                taken, peak = _measure(lambda: loop(module, latent, prompt, options.iterations), device)  # noqa: B023
                module.to("cpu")
                # The first, cold run of each gives the memory only.
                if repeat:
                    seconds[name].append(taken / options.iterations)
                else:
                    memory[name] = peak - (0 if device.type == "cuda" else before)
                bar.update()
    _report(options, device, {name: statistics.median(values) for name, values in seconds.items()}, memory)


def our_loop(
    unet: UNet2DConditionModel, latent: Tensor, prompt: Tensor, iterations: int, learning_rate: float = LEARNING_RATE
) -> Tensor:
    """Return the bottleneck, [1, C, h, w], that preset `paper` finds without a mask."""
    sigmas = ddim_sigmas(scaled_linear_sigmas(), 50, 0.7)
    config = preset("paper", iterations=iterations, learning_rate=learning_rate)
    x = latent * float((1 + sigmas[0] ** 2).sqrt())
    return optimise(DiffusersSplitUNet(unet, prompt), x, sigmas, _points(latent), config=config).bottlenecks


def naive_loop(
    unet: UNet2DConditionModel, latent: Tensor, prompt: Tensor, iterations: int, learning_rate: float = LEARNING_RATE
) -> Tensor:
    """Return the same, [1, C, h, w], by the optimisation as it is usually written.

    The whole U-Net in every iteration, its weights collecting gradients; the whole feature map resized to half the
    picture's resolution, patches sliced from it; a synchronisation for each point.
    """
    table = scaled_linear_sigmas()
    timestep = int(nearest_timestep(table, ddim_sigmas(table, 50, 0.7)[0]))
    height, width = latent.shape[-2] * 4, latent.shape[-1] * 4
    handles, targets = _points(latent).on_grid(width, height)
    points = handles.long().tolist()
    leaf, seen = None, {}

    def middle(module: torch.nn.Module, arguments: Any, output: Tensor) -> Tensor:
        seen["bottleneck"] = output
        return output if leaf is None else leaf.to(output.dtype)

    def tap(module: torch.nn.Module, arguments: Any, output: Tensor) -> None:
        seen["feature"] = functional.interpolate(output, (height, width), mode="bilinear")

    upsampling = [block for block in unet.up_blocks if block.upsamplers]
    hooks = [unet.mid_block.register_forward_hook(middle), upsampling[-1].register_forward_hook(tap)]
    try:
        with torch.autocast(latent.device.type, torch.float16, enabled=latent.device.type == "cuda"):
            with torch.no_grad():
                unet(latent, timestep, encoder_hidden_states=prompt)
            original = seen["feature"]
            leaf = seen["bottleneck"].float().clone().requires_grad_(True)
            optimiser = torch.optim.Adam([leaf], lr=learning_rate)
            for iteration in range(iterations):
                unet(latent, timestep, encoder_hidden_states=prompt)
                if iteration:
                    points = [_nearest(seen["feature"], original, h, p) for h, p in zip(handles, points, strict=True)]
                loss = sum(_loss(seen["feature"], p, t) for p, t in zip(points, targets.tolist(), strict=True))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    finally:
        for hook in hooks:
            hook.remove()
        unet.zero_grad(set_to_none=True)
    return leaf.detach()


def _loss(feature: Tensor, point: list[int], target: list[float]) -> Tensor:
    (x, y), (u, v) = point, target
    length = ((u - x) ** 2 + (v - y) ** 2) ** 0.5
    left, top = int(x + (u - x) / length), int(y + (v - y) / length)
    ahead = feature[:, :, top - 1 : top + 2, left - 1 : left + 2]
    return 9 * functional.l1_loss(ahead, feature[:, :, y - 1 : y + 2, x - 1 : x + 2].detach())


def _nearest(feature: Tensor, original: Tensor, handle: Tensor, point: list[int]) -> list[int]:
    x, y = point
    window = feature[0, :, y - 3 : y + 4, x - 3 : x + 4]
    wanted = original[0, :, int(handle[1]), int(handle[0])]
    best = (window - wanted[:, None, None]).abs().sum(0).argmin().item()
    return [x - 3 + best % 7, y - 3 + best // 7]


def _points(latent: Tensor) -> DragPoints:
    width, height = latent.shape[-1] * 8, latent.shape[-2] * 8
    return DragPoints.from_pairs([((width / 2, height / 2), (width * 0.75, height / 2))], width, height)


def _unet(name: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    if name == "demo":
        return load_model("demo", "cpu").unet
    if name == "demo-random":
        from ..demo.networks import build_unet

        return build_unet()
    if name == "sd15-random":
        return UNet2DConditionModel(**SD15)
    raise DragNoiseError(f"--model is {name!r}; choose demo, demo-random or sd15-random.")


def _measure(run: Callable[[], Tensor], device: torch.device) -> tuple[float, int]:
    """Return seconds and, in bytes, the peak of the GPU's memory or, on a CPU, of the process's so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - start
    return taken, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _process_peak()


def _process_peak() -> int:
    import resource  # not on Windows

    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine(device: torch.device) -> str:
    """Return what the figures were measured on: GPU, processor, threads and torch's version."""
    information = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines()
             if line.startswith("model name")] if information.is_file() else []  # fmt: skip
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.type == "cuda" else ""
    cpu = names[0] if names else platform.machine()
    return f"{gpu}{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _report(options: Namespace, device: torch.device, seconds: dict[str, float], memory: dict[str, int]) -> None:
    ratio = seconds["naive"] / seconds["ours"]
    if options.json:
        figures = {name: {"seconds_per_iteration": seconds[name], "peak_bytes": memory[name]} for name in seconds}
        run = {"model": options.model, "iterations": options.iterations, "repeats": options.repeats}
        sys.stdout.write(json.dumps({"machine": machine(device), **run, **figures, "ratio": ratio}, indent=2) + "\n")
        return
    kind = "GPU memory at its peak" if device.type == "cuda" else "growth of the process's peak memory"
    sys.stdout.write(f"{machine(device)}; model {options.model}; medians of {options.repeats} runs\n")
    for name in seconds:
        milliseconds, mebibytes = 1000 * seconds[name], memory[name] / 2**20
        sys.stdout.write(f"{name:>6}: {milliseconds:8.1f} ms an iteration, {mebibytes:8.0f} MiB ({kind})\n")
    sys.stdout.write(f"ratio: {ratio:.2f}\n")
