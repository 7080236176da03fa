"""Everything in one node, and edits on disk."""

import os
from dataclasses import replace
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn import functional

from ..dragnoise_core.edit import load_edit, save_edit
from ..dragnoise_core.errors import DragNoiseError
from ..dragnoise_core.identity import keep_pixels
from ..dragnoise_core.schedule import ddim_sigmas
from .host.plain_unet import Speed
from .host.progress import NodeProgress, describe, show_text
from .host.sampling import check_model, noise_table
from .host.types import (
    CATEGORY,
    DragEditType,
    DragPointsType,
    acceleration_input,
    advanced,
    content_hash,
    inside,
    low_memory_input,
    stored_file,
    to_core_image,
    to_host_image,
)
from .inversion import run_inversion, schedule_inputs
from .optimisation import SHOWN_FIRST, edit_ui, preset_input, read_config, setting_input
from .propagation import run_drag


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
                DragPointsType.Input("points", tooltip="What shall move where."),
                io.Mask.Input(
                    "mask", optional=True, tooltip="1 where the picture may change; any size. Without it all of it may."
                ),
                preset_input(),
                *schedule_inputs(),
                *(setting_input(name) for name in SHOWN_FIRST),
                *advanced(acceleration_input(), low_memory_input()),
            ],
            outputs=[
                io.Image.Output(
                    "edited_image", display_name="image", tooltip="The edited picture, at the size that came in."
                ),
                DragEditType.Output(
                    "edit", display_name="edit", tooltip="The optimised bottlenecks and how they came about."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        positive,
        image,
        points,
        preset,
        steps,
        strength,
        mask=None,
        acceleration="auto",
        low_memory=False,
        **settings,
    ) -> io.NodeOutput:
        check_model(model)
        config = read_config(preset, settings)
        sigmas = ddim_sigmas(noise_table(model), steps, strength)
        if len(image) != 1:
            raise DragNoiseError(
                f"the batch holds {len(image)} pictures; edit one at a time, Image From Batch picks one."
            )
        picture = to_core_image(image)
        height, width = picture.shape[-2:]
        points = points.scaled(width, height)
        multiple = vae.spacial_compression_encode()
        padded = _padded(picture, multiple)
        on_padded = replace(points, width=padded.shape[-1], height=padded.shape[-2])
        if mask is not None:
            mask = mask.reshape(-1, 1, *mask.shape[-2:])[:1].float()
            mask = _padded(functional.interpolate(mask, (height, width), mode="nearest"), multiple)[0]

        levels = len(sigmas) - 1
        total = 2 * levels + config.iterations
        progress = NodeProgress(model, total, on_padded, cls.hidden.unique_id, (width, height))
        clean = vae.encode(to_host_image(padded))
        speed = Speed(acceleration, low_memory)
        features = 0 if low_memory else config.compared_steps
        noisy, path = run_inversion(model, positive, clean, sigmas, 0, progress, speed, features)
        progress.next_phase(levels)
        edit, edited = run_drag(model, positive, noisy, sigmas, on_padded, mask, config, progress, speed, path)
        progress.finish()
        result = vae.decode(edited)
        if edit.iterations and config.background:
            reconstruction = to_core_image(vae.decode(clean)).cpu()
            result = to_host_image(keep_pixels(to_core_image(result).cpu(), padded.cpu(), reconstruction))
        result = result[:, :height, :width]
        report = describe(edit)
        show_text(cls.hidden.unique_id, report)
        return io.NodeOutput(result.cpu(), edit, ui=edit_ui(edit, report, points))


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
                    options=_stored_edits(),
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
        try:
            if file is not None:
                stored_file(file, "edit file")
        except DragNoiseError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """The file's content, so that a file written again is loaded again."""
        return content_hash(stored_file(file, "edit file"))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(load_edit(stored_file(file, "edit file")))


def _stored_edits() -> list[str]:
    found = []
    folders = (("output", folder_paths.get_output_directory()), ("input", folder_paths.get_input_directory()))
    for kind, folder in folders:
        for pattern in ("*.safetensors", "*/*.safetensors"):
            names = (path.relative_to(folder).as_posix() for path in Path(folder).glob(pattern))
            found.extend(f"{name} [{kind}]" for name in sorted(names))
    return found


def _padded(picture: Tensor, multiple: int) -> Tensor:
    """Return [1, C, H, W] with its last column and row repeated until both sides are multiples of `multiple`."""
    height, width = picture.shape[-2:]
    rows = torch.arange(-(-height // multiple) * multiple).clamp(max=height - 1)
    columns = torch.arange(-(-width // multiple) * multiple).clamp(max=width - 1)
    return picture[..., rows, :][..., columns]
