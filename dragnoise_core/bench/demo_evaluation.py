"""Judge the demo model on scenes it was not trained on: `python -m dragnoise_core.bench.demo_evaluation --out DIR`.

Writes evaluation.json, samples.png and reconstructions.png. Minutes on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..demo.loader import DemoModel, load_demo_model, load_keypoint_regressor
from ..demo.networks import LATENT_SIZE, KeypointRegressor
from ..demo.scenes import KINDS, keypoints, render, sample_parameters
from ..demo.training.grids import save_grid
from ..inversion import invert
from ..sampling import sample
from ..schedule import ddim_sigmas, scaled_linear_sigmas
from ..standalone.diffusers_unet import DiffusersSplitUNet

STEPS, STRENGTH = 50, 0.7
HELD_OUT_SEED = 9000  # training draws its scenes on another device's generator, from seed 1
BATCH = 8


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures and the pictures")
    parser.add_argument("--per-kind", type=int, default=16, help="scenes of each kind (a multiple of 8)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    model, regressor = load_demo_model(options.device), load_keypoint_regressor(options.device)
    figures, rows = {}, []
    for kind in KINDS:
        pictures, decoded, sampled, figures[kind] = evaluate_kind(model, regressor, kind, options.per_kind)
        rows += [pictures[:8], decoded[:8], sampled[:8]]
        sys.stdout.write(f"{kind}: {json.dumps(figures[kind])}\n")
        sys.stdout.flush()
    names = figures["face"].keys()
    figures["mean"] = {name: round(sum(figures[kind][name] for kind in KINDS) / len(KINDS), 3) for name in names}
    (options.out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    save_grid(torch.cat(rows), options.out / "reconstructions.png", 8)
    save_grid(torch.cat([draw_samples(model, kind, 8) for kind in KINDS]), options.out / "samples.png", 8)
    sys.stdout.write(f"mean: {json.dumps(figures['mean'])}\n")


def held_out(kind: str, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pictures, [count, 3, 256, 256], of scenes that were not trained on, and their keypoints in pixels."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED + list(KINDS).index(kind))
    parameters = sample_parameters(kind, count, generator)
    return render(kind, parameters), keypoints(kind, parameters)


def evaluate_kind(
    model: DemoModel, regressor: KeypointRegressor, kind: str, count: int
) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
    """Return pictures, their autoencoder round trips, their inversions sampled again, and figures (dB and pixels)."""
    pictures, truth = held_out(kind, count)
    device = model.unet.device
    unet = DiffusersSplitUNet(model.unet, model.prompt(kind))
    sigmas = ddim_sigmas(scaled_linear_sigmas(), STEPS, STRENGTH)
    decoded, sampled = [], []
    for batch in pictures.to(device).split(BATCH):
        latent = model.encode(batch)
        decoded.append(model.decode(latent).cpu())
        sampled.append(model.decode(sample(unet, invert(unet, latent, sigmas), sigmas)).cpu())
    decoded, sampled = torch.cat(decoded), torch.cat(sampled)
    figures = {
        "autoencoder_psnr": mean_psnr(decoded, pictures),
        "inversion_psnr": mean_psnr(sampled, decoded),
        "inversion_psnr_to_source": mean_psnr(sampled, pictures),
        "keypoint_error": keypoint_error(regressor, pictures.to(device), kind, truth),
        "keypoint_error_decoded": keypoint_error(regressor, decoded.to(device), kind, truth),
        "keypoint_error_inverted": keypoint_error(regressor, sampled.to(device), kind, truth),
    }
    return pictures, decoded, sampled, {name: round(value, 3) for name, value in figures.items()}


def mean_psnr(pictures: Tensor, reference: Tensor) -> float:
    """Return the mean of every picture's PSNR in dB."""
    return (-10 * (pictures - reference).square().mean((1, 2, 3)).log10()).mean().item()


@torch.no_grad()
def keypoint_error(regressor: KeypointRegressor, pictures: Tensor, kind: str, truth: dict[str, Tensor]) -> float:
    """Return the mean distance in pixels between found and true keypoints."""
    found = regressor.locate(pictures, kind)
    return torch.stack([(found[name].cpu() - truth[name]).norm(dim=1) for name in truth]).mean().item()


def draw_samples(model: DemoModel, kind: str, count: int) -> Tensor:
    """Return pictures that the model draws from noise, over the whole schedule of 50 steps."""
    sigmas = ddim_sigmas(scaled_linear_sigmas(), STEPS)
    noise = torch.randn(count, 4, LATENT_SIZE, LATENT_SIZE, generator=torch.Generator().manual_seed(7))
    # At the last training step the signal has not quite vanished: the model saw variance-preserving noise, scaled up.
    start = noise.to(model.unet.device) * (1 + float(sigmas[0]) ** 2) ** 0.5
    return model.decode(sample(DiffusersSplitUNet(model.unet, model.prompt(kind)), start, sigmas)).cpu()


if __name__ == "__main__":
    main()
