"""From a picture's latent back to the noise it could have come from."""

import math
from dataclasses import replace

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dragnoise_core.inversion import InversionPath, inversion_path
from ..dragnoise_core.schedule import ddim_sigmas
from .host.comfy_unet import WholeUNet
from .host.plain_unet import AUTOMATIC, Speed
from .host.progress import NodeProgress, show_text
from .host.sampling import check_model, denoise, invert_with, noise_table
from .host.types import CATEGORY, PATH, acceleration_input, advanced, latent_samples


class DragNoiseInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseInvert",
            display_name="DragNoise Invert",
            category=CATEGORY,
            description="DDIM inversion: finds the noise from which sampling returns to a given picture. "
            "Not needed for a generated picture: KSampler (Advanced) with leftover noise gives the same.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SD 1.x, SD 2.x or SDXL model, LoRAs included; use the same one later."
                ),
                io.Conditioning.Input("positive", tooltip="What the picture shows; use the same prompt later."),
                io.Latent.Input("latent", tooltip="The picture, from VAE Encode. One picture."),
                *schedule_inputs(),
                *advanced(
                    io.Int.Input(
                        "refinements",
                        default=0,
                        min=0,
                        max=10,
                        optional=True,
                        tooltip="Repeats every step this often, towards the exact inverse; each costs the time again.",
                    ),
                    io.Boolean.Input(
                        "check",
                        default=False,
                        optional=True,
                        tooltip="Also sample back without an edit and measure how much of the picture returns.",
                    ),
                    acceleration_input(),
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "noisy_latent", display_name="noisy latent", tooltip="The noise the picture came from."
                ),
                io.Sigmas.Output(
                    "sigmas", display_name="sigmas", tooltip="The noise levels left to sample, high to low."
                ),
                io.Float.Output(
                    "reconstruction",
                    display_name="reconstruction",
                    tooltip="How well sampling returns to the picture: decibels, in its latent; 0 if not checked.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, positive, latent, steps, strength, refinements=0, check=False, acceleration="auto"
    ) -> io.NodeOutput:
        check_model(model)
        clean = latent_samples(latent, model)
        sigmas = ddim_sigmas(noise_table(model), steps, strength)
        levels = len(sigmas) - 1
        progress = NodeProgress(model, levels * (1 + check))
        noisy, path = run_inversion(model, positive, clean, sigmas, refinements, progress, Speed(acceleration))
        reconstruction = 0.0
        if check:
            progress.next_phase(levels)
            back = denoise(model, positive, noisy, sigmas, callback=progress)
            reconstruction = signal_to_noise(clean.cpu(), back.cpu())
            show_text(cls.hidden.unique_id, f"reconstruction: {reconstruction:.1f} dB")
        return io.NodeOutput({"samples": noisy, PATH: path.latents}, sigmas, reconstruction)


def schedule_inputs() -> list[io.Input]:
    """The two inputs that choose the schedule, alike in every node that inverts."""
    return [
        io.Int.Input("steps", default=50, min=1, max=500, tooltip="DDIM steps of the whole schedule; 50 as published."),
        io.Float.Input(
            "strength",
            default=0.7,
            min=0.05,
            max=1.0,
            step=0.01,
            tooltip="How far back to go: the part of the steps inverted and sampled again. More can change more.",
        ),
    ]


def run_inversion(
    model,
    positive,
    samples: Tensor,
    sigmas: Tensor,
    refinements: int,
    progress,
    speed: Speed = AUTOMATIC,
    features: int = 0,
) -> tuple[Tensor, InversionPath]:
    """Return the noisy latent of `samples`, both as the host scales latents, [1, C, h, w], and the inversion's path.

    The path's latents: sigma space, model units, on the CPU, [k + 1, 1, C, h, w]. Its features: of so many steps, on
    the model's device; none where the model is only listened to.
    """
    found = []

    def body(unet, latent: Tensor, levels: Tensor) -> Tensor:
        kept = 0 if isinstance(unet, WholeUNet) else features
        path = inversion_path(unet, latent, levels, refinements=refinements, features=kept, callback=progress)
        found.append(replace(path, latents=torch.stack(list(path.latents)).float().cpu()))
        return path.latents[0]

    return invert_with(model, positive, samples, sigmas, body, speed), found[0]


def signal_to_noise(wanted: Tensor, got: Tensor) -> float:
    """Return how near `got` is to `wanted`, in decibels of the wanted one's variance; at most 120."""
    error = float((got - wanted).square().mean())
    signal = float(wanted.var(unbiased=False))
    return 120.0 if error <= signal * 1e-12 else 10 * math.log10(max(signal, 1e-12) / error)
