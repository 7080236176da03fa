"""Train the demo model: `python -m dragnoise_core.demo.training.train --out DIR`. About 20 minutes of one H100.

Everything it learns from is drawn here. It writes autoencoder.safetensors, keypoints.safetensors and unet.safetensors
in half precision with metadata, training_log.json, and pictures to judge them by. `--stop-after` ends a command early
and `--resume` continues from what is in DIR, so that the training may be split over several commands.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...schedule import BETA_END, BETA_START, TRAIN_STEPS
from ..networks import PROMPTS, KeypointRegressor, build_autoencoder, build_unet
from ..scenes import KINDS, SIZE, keypoints, render, sample_parameters
from .fitting import autocast, draw, fit_autoencoder, fit_regressor, fit_unet
from .grids import save_grid

SEED = 1
CHUNK = 128


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    started = time.monotonic()
    torch.manual_seed(SEED)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    options.out.mkdir(parents=True, exist_ok=True)
    log_file = options.out / "training_log.json"
    log = json.loads(log_file.read_text()) if options.resume and log_file.is_file() else {}

    latents_file = options.out / "latents.safetensors"
    if options.resume and latents_file.is_file():
        stored = load_file(latents_file, device=options.device)
    else:
        stored = prepare(options, log, started)
        save_file(stored, latents_file)
    say(started, f"{len(stored['latents'])} latents are ready")

    begin = float(read_metadata(options.out / "unet.safetensors").get("seconds", 0)) if options.resume else 0.0
    end = options.seconds_unet
    if options.stop_after is not None:
        end = min(end, begin + options.stop_after - (time.monotonic() - started))
    if begin < end:
        train_unet(options, stored["latents"], stored["labels"], begin, end, log)
        save_samples(options)
    log_file.write_text(json.dumps(log, indent=2) + "\n")
    say(started, json.dumps(log))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, log and pictures")
    parser.add_argument("--seconds-autoencoder", type=float, default=170)
    parser.add_argument("--seconds-regressor", type=float, default=60)
    parser.add_argument("--seconds-unet", type=float, default=780, help="whole length of the U-Net's schedule")
    parser.add_argument("--stop-after", type=float, help="seconds after which the U-Net's training stops early")
    parser.add_argument("--resume", action="store_true", help="continue from the files in the folder")
    parser.add_argument("--pool", type=int, default=40000, help="pictures drawn of each kind")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def say(started: float, text: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - started:6.1f} s] {text}\n")
    sys.stdout.flush()


def prepare(options: argparse.Namespace, log: dict, started: float) -> dict[str, Tensor]:
    """Train the autoencoder and the regressor and return normalised `latents` (half precision) with their `labels`."""
    pictures, labels, places = draw_pool(options.pool, options.device)
    say(started, f"drew {len(pictures)} pictures")
    file = options.out / "autoencoder.safetensors"
    if not (options.resume and file.is_file()):
        train_autoencoder(options, pictures, log)
    autoencoder = load_autoencoder(options)
    if not (options.resume and (options.out / "keypoints.safetensors").is_file()):
        train_regressor(options, pictures, places, autoencoder, log)
    return {"latents": normalised(encode_pool(autoencoder, pictures), load_file(file)), "labels": labels}


def draw_pool(count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return `count` pictures of each kind (uint8), the kinds, and keypoints in shares of the side (NaN if absent)."""
    generator = torch.Generator(device).manual_seed(SEED)
    slices = KeypointRegressor().slices
    pictures = torch.empty(count * len(KINDS), 3, SIZE, SIZE, dtype=torch.uint8, device=device)
    places = torch.full((len(pictures), slices[list(KINDS)[-1]].stop, 2), torch.nan, device=device)
    for row, kind in enumerate(KINDS):
        for first in range(0, count, CHUNK):
            chunk = min(CHUNK, count - first)
            parameters = sample_parameters(kind, chunk, generator)
            here = slice(row * count + first, row * count + first + chunk)
            pictures[here] = (render(kind, parameters) * 255).round().byte()
            places[here, slices[kind]] = torch.stack(list(keypoints(kind, parameters, 1).values()), 1)
    return pictures, torch.arange(len(KINDS), device=device).repeat_interleave(count), places


@torch.no_grad()
def encode_pool(autoencoder: nn.Module, pictures: Tensor) -> Tensor:
    """Return the raw latents of the pool in half precision."""
    latents = []
    for chunk in torch.arange(len(pictures), device=pictures.device).split(CHUNK):
        with autocast(pictures.device):
            latents.append(autoencoder.encode(draw(pictures, chunk) * 2 - 1).latents.half())
    return torch.cat(latents)


def normalised(raw: Tensor, autoencoder_file: dict[str, Tensor]) -> Tensor:
    scale, shift = autoencoder_file["scale"].item(), autoencoder_file["shift"].item()
    return ((raw.float() - shift) * scale).half().contiguous()


def load_autoencoder(options: argparse.Namespace) -> nn.Module:
    weights = load_file(options.out / "autoencoder.safetensors")
    model = build_autoencoder()
    model.load_state_dict({name: value.float() for name, value in weights.items() if value.ndim})
    return model.to(options.device, memory_format=torch.channels_last).eval().requires_grad_(False)


def train_autoencoder(options: argparse.Namespace, pictures: Tensor, log: dict) -> None:
    model, figures = fit_autoencoder(pictures, options.seconds_autoencoder)
    some = pictures[torch.randint(len(pictures), (min(len(pictures), 4096),), device=pictures.device)]
    latents = encode_pool(model, some).float()
    extra = {"scale": 1 / latents.std(), "shift": latents.mean()}
    held_out = held_out_pictures(options.device)
    with torch.no_grad():
        decoded = (model.decode(model.encode(held_out * 2 - 1).latents).sample * 0.5 + 0.5).clamp(0, 1)
    psnr = -10 * (decoded - held_out).square().mean((1, 2, 3)).log10()
    figures |= {"seconds": options.seconds_autoencoder, "held_out_psnr": round(psnr.mean().item(), 3)}
    figures |= {name: round(value.item(), 6) for name, value in extra.items()}
    save_grid(torch.cat([held_out[::8], decoded[::8]]), options.out / "autoencoder.png", 8)
    save(options.out / "autoencoder.safetensors", {**model.state_dict(), **extra}, log, "autoencoder", figures)


def held_out_pictures(device: str, per_kind: int = 16) -> Tensor:
    """Return scenes of a seed that is not used for training."""
    pictures = []
    for row, kind in enumerate(KINDS):
        generator = torch.Generator().manual_seed(9000 + row)
        pictures.append(render(kind, sample_parameters(kind, per_kind, generator)))
    return torch.cat(pictures).to(device)


def train_regressor(options: argparse.Namespace, pictures: Tensor, places: Tensor, autoencoder, log: dict) -> None:
    model, figures = fit_regressor(pictures, places, autoencoder, options.seconds_regressor)
    for row, kind in enumerate(KINDS):
        parameters = sample_parameters(kind, 64, torch.Generator().manual_seed(9000 + row))
        found = model.locate(render(kind, parameters).to(options.device), kind)
        truth = keypoints(kind, parameters)
        errors = [(found[name].cpu() - truth[name]).norm(dim=1).mean().item() for name in truth]
        figures[f"held_out_error_pixels_{kind}"] = round(sum(errors) / len(errors), 3)
    figures["seconds"] = options.seconds_regressor
    save(options.out / "keypoints.safetensors", model.state_dict(), log, "keypoints", figures)


def train_unet(options, latents: Tensor, labels: Tensor, begin: float, end: float, log: dict) -> None:
    file = options.out / "unet.safetensors"
    start, steps = None, 0
    if begin > 0:
        start, steps = load_file(file, device=options.device), int(read_metadata(file)["steps"])
    weights, figures = fit_unet(latents, labels, options.seconds_unet, begin, end, start)
    figures |= {"steps": steps + figures["steps"], "seconds": round(end, 1), "pool": len(latents)}
    save(file, weights, log, "unet", figures)


def save(file: Path, weights: dict[str, Tensor], log: dict, name: str, figures: dict) -> None:
    """Write half-precision weights (scalars stay single) whose metadata and log entry say how they were made."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    log[name] = figures | {
        "seed": SEED,
        "gpu": gpu,
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    metadata = {"script": "dragnoise_core.demo.training", **{key: str(value) for key, value in log[name].items()}}
    halves = {key: (v.half() if v.ndim else v.float()).cpu().contiguous() for key, v in weights.items()}
    save_file(halves, file, metadata)


def read_metadata(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    with safe_open(file, "pt") as handle:
        return handle.metadata()


@torch.no_grad()
def save_samples(options: argparse.Namespace) -> None:
    """Write a grid of eight samples of each kind, 50 DDIM steps, by diffusers' own scheduler."""
    from diffusers import DDIMScheduler

    weights = {name: v.float() for name, v in load_file(options.out / "unet.safetensors").items()}
    prompts = weights.pop("prompt_embeddings")
    unet = build_unet()
    unet.load_state_dict(weights)
    unet = unet.to(options.device).eval()
    scheduler = DDIMScheduler(
        TRAIN_STEPS, BETA_START, BETA_END, "scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    scheduler.set_timesteps(50)
    x = torch.randn(8 * len(KINDS), 4, 32, 32, generator=torch.Generator().manual_seed(7)).to(options.device)
    prompt = prompts[: len(PROMPTS) - 1].repeat_interleave(8, 0).to(options.device)
    for timestep in scheduler.timesteps:
        x = scheduler.step(unet(x, timestep, prompt).sample, timestep, x).prev_sample
    stored = load_file(options.out / "autoencoder.safetensors")
    raw = x / stored["scale"].item() + stored["shift"].item()
    pictures = (load_autoencoder(options).decode(raw).sample * 0.5 + 0.5).clamp(0, 1)
    save_grid(pictures, options.out / "samples.png", 8)


if __name__ == "__main__":
    main()
