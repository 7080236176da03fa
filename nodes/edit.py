"""Everything in one node, and edits on disk."""

import os
from dataclasses import replace

import folder_paths
from comfy_api.latest import io

from ..dragnoise_core.background import keep_pixels
from ..dragnoise_core.configuration import PRESETS
from ..dragnoise_core.drawing import to_picture
from ..dragnoise_core.edit import load_edit, save_edit
from ..dragnoise_core.errors import DragNoiseError
from ..dragnoise_core.originals import kept_originals
from ..dragnoise_core.schedule import ddim_sigmas
from ..dragnoise_core.warping import warped_picture
from .host.conversions import decoded, encoded, fitted_mask, one_mask, padded, to_core_image, to_host_image
from .host.files import content_hash, inside, stored_edits, stored_file
from .host.inputs import (
    CATEGORY,
    DragEditType,
    DragPointsType,
    acceleration_input,
    advanced,
    answer,
    low_memory_input,
    schedule_inputs,
    settings_input,
)
from .host.origin import check_declared, model_files, with_notice
from .host.plain_unet import Speed
from .host.progress import NodeProgress, edit_ui
from .host.report import for_a_person, for_programs
from .host.run import HostRun
from .host.sampling import check_model, noise_table


class DragNoiseEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseEdit",
            display_name="DragNoise Edit",
            category=CATEGORY,
            description="A drag in one node: inverts the picture, drags the points, and samples the edited picture. "
            "The separate nodes do the same and leave the inversion in the cache while points are moved.",
            inputs=[
                io.Model.Input("model", tooltip="An SD 1.x, SD 2.x or SDXL model, with its LoRAs."),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Conditioning.Input("positive", tooltip="What the picture shows."),
                io.Image.Input("image", tooltip="The picture to edit; any size, best near the model's own."),
                DragPointsType.Input("points", tooltip="What moves where."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="1 where the picture may change; any size. Without a mask all of it may.",
                ),
                settings_input(),
                *schedule_inputs(),
                *advanced(acceleration_input(), low_memory_input()),
            ],
            outputs=[
                io.Image.Output(
                    "edited_image", display_name="image", tooltip="The edited picture, at the size that came in."
                ),
                DragEditType.Output(
                    "edit", display_name="edit", tooltip="The optimised bottlenecks and how they came about."
                ),
                io.String.Output("json", display_name="json", tooltip="Everything known about the drag, for programs."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        positive,
        image,
        points,
        steps,
        strength,
        mask=None,
        settings=None,
        acceleration="auto",
        low_memory=False,
    ) -> io.NodeOutput:
        check_model(model)
        files = model_files(cls.hidden)
        check_declared(model, files)
        config = settings or PRESETS["default"]
        sigmas = ddim_sigmas(noise_table(model), steps, strength)
        if len(image) != 1:
            raise DragNoiseError(
                f"the batch holds {len(image)} pictures; edit one at a time, Image From Batch picks one."
            )
        picture = to_core_image(image)
        height, width = picture.shape[-2:]
        points = points.scaled(width, height)
        multiple = vae.spacial_compression_encode()
        whole = padded(picture, multiple)
        on_whole = replace(points, width=whole.shape[-1], height=whole.shape[-2])
        mask = None if mask is None else fitted_mask(mask, height, width, multiple)

        levels = len(sigmas) - 1
        total = 2 * levels + config.iterations
        progress = NodeProgress(model, total, on_whole, cls.hidden.unique_id, (width, height))
        clean, warped = encoded(vae, to_host_image(whole)), None
        if config.warp:
            moved = warped_picture(whole.cpu(), clean.cpu(), on_whole, one_mask(mask))
            warped = moved, encoded(vae, to_host_image(moved))
        run = HostRun(model, positive, sigmas, progress, Speed(acceleration, low_memory))
        run.check(clean)

        def edited(run: HostRun) -> tuple:
            noisy, path = run.invert(clean, features=0 if low_memory else config.compared_steps)
            progress.next_phase(levels)
            dragged = run.drag(noisy, on_whole, mask, config, path, warped and warped[1])
            report = for_a_person(dragged.edit, run.remark)
            progress.next_phase(config.iterations)
            return dragged.edit, report, run.sample(noisy, dragged.edit, walked=dragged)

        edit, report, latent = run.at_once(clean, edited)
        originals = kept_originals(edit, (whole, clean), warped)
        again = [(picture.cpu(), to_core_image(decoded(vae, latent)).cpu()) for picture, latent in originals]
        result = keep_pixels(to_core_image(decoded(vae, latent)).cpu(), *again)[..., :height, :width]
        progress.finish(points, edit.path, to_picture(result))
        shown = edit_ui(edit, with_notice(report, files), points)
        return io.NodeOutput(to_host_image(result), edit, for_programs(edit), ui=shown)


class DragNoiseSaveEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseSaveEdit",
            display_name="DragNoise Save Edit",
            category=CATEGORY,
            description="Saves an edit to the output folder, as safetensors, for DragNoise Load Edit.",
            inputs=[
                DragEditType.Input("edit", tooltip="The edit to save."),
                io.String.Input(
                    "filename_prefix",
                    default="dragnoise/edit",
                    tooltip="Folder and beginning of the file's name, inside the output folder.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, edit, filename_prefix) -> io.NodeOutput:
        output = folder_paths.get_output_directory()
        inside(output, filename_prefix, "edit file")
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, output)
        file = f"{name}_{counter:05}_.safetensors"
        save_edit(edit, os.path.join(folder, file))
        return io.NodeOutput(ui={"text": (f"saved as {os.path.join(subfolder, file)} [output]",)})


class DragNoiseLoadEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseLoadEdit",
            display_name="DragNoise Load Edit",
            category=CATEGORY,
            description="Loads an edit that DragNoise Save Edit wrote. Nothing in the file is run.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=stored_edits(),
                    tooltip="A .safetensors file in the output or input folder, or one folder below.",
                )
            ],
            outputs=[
                DragEditType.Output("edit", display_name="edit", tooltip="The edit, for DragNoise Apply or Sample.")
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Refuse a file that is missing or outside the host's folders before anything runs."""
        return file is None or answer(stored_file, file, "edit file")

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """The file's content, so that a file written again is loaded again."""
        return content_hash(stored_file(file, "edit file"))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(load_edit(stored_file(file, "edit file")))
