"""From a picture's latent back to the noise it could have come from."""

from comfy_api.latest import io

from ..dragnoise_core.schedule import ddim_sigmas
from .host.conversions import PATH, latent_samples, signal_to_noise
from .host.inputs import CATEGORY, acceleration_input, advanced, schedule_inputs
from .host.origin import check_declared, model_files, with_notice
from .host.plain_unet import Speed
from .host.progress import NodeProgress
from .host.run import HostRun
from .host.sampling import check_model, noise_table


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
                        tooltip="Repeats every step this many times, towards the exact inverse; each repetition takes "
                        "the whole time again.",
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
                    "noisy_latent",
                    display_name="noisy latent",
                    tooltip="The noise that the picture could have come from.",
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
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, model, positive, latent, steps, strength, refinements=0, check=False, acceleration="auto"
    ) -> io.NodeOutput:
        check_model(model)
        files = model_files(cls.hidden)
        check_declared(model, files)
        clean = latent_samples(latent, model)
        sigmas = ddim_sigmas(noise_table(model), steps, strength)
        levels = len(sigmas) - 1
        progress = NodeProgress(model, levels * (1 + check))
        run = HostRun(model, positive, sigmas, progress, Speed(acceleration))
        run.check(clean)
        noisy, path = run.invert(clean, refinements)
        reconstruction = 0.0
        if check:
            progress.next_phase(levels)
            reconstruction = signal_to_noise(clean.cpu(), run.sample(noisy).cpu())
        said = with_notice(f"reconstruction: {reconstruction:.1f} dB" if check else "", files)
        shown = {"text": (said,)} if said else {}
        return io.NodeOutput({"samples": noisy, PATH: path.latents}, sigmas, reconstruction, ui=shown)
