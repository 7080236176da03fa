"""The edit at work: a MODEL whose bottleneck is the optimised one, and sampling with it."""

from comfy_api.latest import io

from ..dragnoise_core.propagation import check_schedule
from .host.conversions import latent_samples
from .host.inputs import CATEGORY, DragEditType, acceleration_input, advanced, noisy_inputs
from .host.patches import apply_edit, with_free_steps
from .host.plain_unet import Speed
from .host.progress import NodeProgress
from .host.run import HostRun
from .host.sampling import check_kind, check_levels, check_model


class DragNoiseApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseApply",
            display_name="DragNoise Apply",
            category=CATEGORY,
            description="Puts an edit on a MODEL, for any sampler node: from the edit's noise level on, the U-Net's "
            "middle block gives the optimised output, for positive and negative prompts alike, and the corrections "
            "that keep background and look are added to the prediction.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the optimisation."),
                DragEditType.Input("edit", tooltip="From DragNoise Optimize or DragNoise Load Edit."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of the edit: 0 leaves the picture as it was, 1 is the whole edit.",
                ),
                io.Int.Input(
                    "more_free_steps",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="How many more of the last steps run without the edit, besides the edit's own free steps.",
                ),
            ],
            outputs=[
                io.Model.Output("patched_model", display_name="model", tooltip="The model that carries the edit.")
            ],
        )

    @classmethod
    def execute(cls, model, edit, strength=1.0, more_free_steps=0) -> io.NodeOutput:
        check_kind(model)
        return io.NodeOutput(apply_edit(model, with_free_steps(edit, more_free_steps), strength))


class DragNoiseSample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseSample",
            display_name="DragNoise Sample",
            category=CATEGORY,
            description="Samples the noisy latent to the edited picture with DDIM steps. Without an edit it returns "
            "the original picture, as well as the inversion can.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the optimisation."),
                io.Conditioning.Input("positive", tooltip="The same prompt as for the inversion."),
                *noisy_inputs(),
                DragEditType.Input("edit", optional=True, tooltip="The drag. Without it: the unedited picture."),
                io.Conditioning.Input("negative", optional=True, tooltip="For guidance above 1."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    optional=True,
                    tooltip="Guidance; needs a negative prompt. 1 keeps an inverted picture as it was.",
                ),
                *advanced(acceleration_input()),
            ],
            outputs=[
                io.Latent.Output(
                    "clean_latent",
                    display_name="latent",
                    tooltip="The edited picture, for VAE Decode. Sigmas that stop early leave it noisy, for a sampler "
                    "that continues there.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, latent, sigmas, edit=None, negative=None, cfg=1.0, acceleration="auto"
    ) -> io.NodeOutput:
        check_kind(model)
        check_levels(sigmas, model)
        if edit is not None:
            check_model(model)
            check_schedule(edit, sigmas)
        progress = NodeProgress(model, len(sigmas) - 1, edit.points if edit else None)
        run = HostRun(model, positive, sigmas, progress, Speed(acceleration))
        samples = run.sample(latent_samples(latent, model), edit, negative=negative, cfg=cfg)
        return io.NodeOutput({"samples": samples})
