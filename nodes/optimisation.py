"""The drag itself: optimises the bottleneck until the points have moved."""

from comfy_api.latest import io

from ..dragnoise_core.configuration import PRESETS
from ..dragnoise_core.inversion import InversionPath
from .host.conversions import PATH, latent_samples
from .host.inputs import (
    CATEGORY,
    DragEditType,
    DragPointsType,
    acceleration_input,
    advanced,
    low_memory_input,
    noisy_inputs,
    settings_input,
)
from .host.origin import check_declared, model_files, with_notice
from .host.plain_unet import Speed
from .host.progress import NodeProgress, edit_ui
from .host.report import for_a_person, for_programs
from .host.run import HostRun
from .host.sampling import check_levels, check_model


class DragNoiseOptimize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseOptimize",
            display_name="DragNoise Optimize",
            category=CATEGORY,
            description="Drags: optimises the output of the U-Net's middle block until what is at the handles is at "
            "the targets (DragNoise, CVPR 2024). Give the edit to DragNoise Sample or DragNoise Apply.",
            inputs=[
                io.Model.Input("model", tooltip="The same model as for the inversion."),
                io.Conditioning.Input(
                    "positive", tooltip="The same prompt as for the inversion; one for the whole picture."
                ),
                *noisy_inputs(),
                DragPointsType.Input("points", tooltip="What moves where."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="1 where the picture may change; any size. Without a mask all of it may.",
                ),
                settings_input(),
                *advanced(acceleration_input(), low_memory_input()),
            ],
            outputs=[
                DragEditType.Output(
                    "edit", display_name="edit", tooltip="The optimised bottlenecks and how they came about."
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="How far each point moved and how far off it still is."
                ),
                io.String.Output("json", display_name="json", tooltip="Everything known about the drag, for programs."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        latent,
        sigmas,
        points,
        mask=None,
        settings=None,
        acceleration="auto",
        low_memory=False,
    ) -> io.NodeOutput:
        check_model(model)
        check_levels(sigmas, model)
        files = model_files(cls.hidden)
        check_declared(model, files)
        config = settings or PRESETS["default"]
        progress = NodeProgress(model, config.iterations, points, cls.hidden.unique_id)
        run = HostRun(model, positive, sigmas, progress, Speed(acceleration, low_memory))
        path = InversionPath(latent[PATH]) if PATH in latent else None
        run.check(samples := latent_samples(latent, model))
        edit = run.drag(samples, points, mask, config, path).edit
        progress.finish(points, edit.path)
        report = with_notice(for_a_person(edit, run.remark), files)
        return io.NodeOutput(edit, report, for_programs(edit), ui=edit_ui(edit, report, points))
