"""Looking at how a drag comes about: its frames, and the paper's study of replaced blocks."""

from comfy_api.latest import io
from torch import cat, linspace

from ..dragnoise_core.propagation import check_schedule
from .host.conversions import decoded, latent_samples
from .host.inputs import CATEGORY, DragEditType, noisy_inputs
from .host.patches import apply_edit, replace_block
from .host.progress import NodeProgress
from .host.run import HostRun
from .host.sampling import check_kind, check_levels, check_model


class DragNoiseFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseFrames",
            display_name="DragNoise Frames",
            category=CATEGORY,
            description="Shows the drag happen: samples the picture with the edit's strength going from 0 to 1. "
            "The batch goes to any video or animation node.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the optimisation."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Conditioning.Input("positive", tooltip="The same prompt as for the inversion."),
                *noisy_inputs(),
                DragEditType.Input("edit", tooltip="The drag."),
                io.Int.Input(
                    "count",
                    default=8,
                    min=2,
                    max=256,
                    tooltip="Number of frames; the first is unedited, the last the edit.",
                ),
            ],
            outputs=[io.Image.Output("frames", display_name="frames", tooltip="The frames, in order, as a batch.")],
        )

    @classmethod
    def execute(cls, model, vae, positive, latent, sigmas, edit, count) -> io.NodeOutput:
        check_model(model)
        check_levels(sigmas, model)
        check_schedule(edit, sigmas)
        samples = latent_samples(latent, model)
        levels = len(sigmas) - 1
        progress = NodeProgress(model, count * levels, edit.points)
        latents = []
        for strength in linspace(0, 1, count).tolist():
            carried = apply_edit(model, edit, strength)
            latents.append(HostRun(carried, positive, sigmas, progress).sample(samples))
            progress.next_phase(levels)
        return io.NodeOutput(decoded(vae, cat(latents)))


class DragNoiseBlockReplace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseBlockReplace",
            display_name="DragNoise Block Replace",
            category=CATEGORY,
            description="The paper's study: remembers a block's output at one denoising step and uses it at the steps "
            "that follow. The middle block holds what the picture will be; other blocks do not.",
            inputs=[
                io.Model.Input("model", tooltip="Any model with a U-Net."),
                io.Combo.Input(
                    "block",
                    options=["middle", "input", "output"],
                    default="middle",
                    tooltip="The part of the U-Net: encoder (input), bottleneck (middle) or decoder (output).",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=11,
                    tooltip="Which block of that part, counted in the order they run; the middle has one.",
                ),
                io.Float.Input(
                    "start",
                    default=0.3,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where in the sampling the output is remembered: 0 is all noise, 1 the finished picture.",
                ),
                io.Float.Input(
                    "stop",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where the replacement ends; 1 goes to the end.",
                ),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The model with the block replaced.")
            ],
        )

    @classmethod
    def execute(cls, model, block, index, start, stop) -> io.NodeOutput:
        check_kind(model)
        return io.NodeOutput(replace_block(model, block, index, start, stop))
