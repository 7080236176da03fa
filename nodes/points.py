"""Points: picking them on a picture, and showing them over one."""

import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..dragnoise_core.drawing import draw_drag, to_picture, to_tensor
from ..dragnoise_core.points import MAX_SIDE
from .host.conversions import first_mask, following, read_mask, read_points, to_core_image, to_host_image
from .host.files import content_hash, stored_file
from .host.inputs import CATEGORY, DragEditType, DragPointsType, answer, picker_input

MAX_STAGE = 8192  # pixels of a blank stage's side; it is drawn in memory


class DragNoisePoints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoisePoints",
            display_name="DragNoise Points",
            category=CATEGORY,
            description="Place red handles and blue targets on a picture: what is at a handle moves to its "
            "target. A mask painted on the same picture says where the picture may change.",
            inputs=[
                picker_input(
                    "points",
                    "DRAGNOISE_POINTS",
                    False,
                    "The point pairs as JSON, written by the picker. A linked string may also come from track and "
                    "spline nodes: one list for each track (first point = handle, last = target).",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="The picture to place points on. Without it the stage is blank."
                ),
                picker_input(
                    "mask_image",
                    "DRAGNOISE_MASK",
                    True,
                    "The mask's file in the input folder, written by the picker. What is transparent may change, as in "
                    "the host's mask editor; in an opaque file, what is white. Empty: everything may change.",
                ),
                io.Int.Input(
                    "width",
                    default=512,
                    min=1,
                    max=MAX_STAGE,
                    optional=True,
                    tooltip="Width of the blank stage in pixels, while no image is linked.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=1,
                    max=MAX_STAGE,
                    optional=True,
                    tooltip="Height of the blank stage in pixels, while no image is linked.",
                ),
                DragEditType.Input(
                    "follow",
                    optional=True,
                    tooltip="The drag before this one: pair 1 begins where its pair 1 ended, and so on, and the "
                    "targets move along. Pairs without a match there stay as placed. The picker shows where they went.",
                ),
            ],
            outputs=[
                DragPointsType.Output("drag_points", display_name="points", tooltip="The point pairs."),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="1 where the picture may change; all 1 when none was painted."
                ),
                io.Image.Output(
                    "overlay", display_name="overlay", tooltip="The picture with points, arrows and mask over it."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, points: str | None = None, mask_image: str | None = None) -> bool | str:
        """Refuse malformed points and missing masks before anything runs; linked values are not known yet."""
        # Only the points' form: the size of a linked picture is not known yet.
        said = points is None or answer(read_points, points, MAX_SIDE, MAX_SIDE)
        return answer(stored_file, mask_image, "mask") if said is True and mask_image else said

    @classmethod
    def fingerprint_inputs(cls, mask_image: str | None = None, **others) -> str:
        """The painted mask's content, so that painting over the same file runs the node again."""
        return content_hash(stored_file(mask_image, "mask")) if mask_image else ""

    @classmethod
    def execute(cls, points, image=None, mask_image="", width=512, height=512, follow=None) -> io.NodeOutput:
        if image is None:
            picture = Image.new("RGB", (width, height), (127, 127, 127))
        else:
            picture = to_picture(to_core_image(image[:1]))
        shown = {}
        drag_points = read_points(points, *picture.size)
        if follow is not None:
            drag_points = following(drag_points, follow)
            # For the picker: the text that these were, and what it has become.
            shown["dragnoise_points"] = (points, drag_points.to_json())
        mask = read_mask(mask_image) if mask_image else torch.ones(picture.height, picture.width)
        overlay = draw_drag(picture, drag_points, mask=mask if mask_image else None)
        if image is not None:
            # For a picker whose picture no node upstream shows.
            shown["dragnoise_picture"] = ui.ImageSaveHelper.save_images(
                image[:1], "dragnoise_picture", io.FolderType.temp, cls=None, compress_level=1
            )
        return io.NodeOutput(drag_points, mask[None], to_host_image(to_tensor(overlay)), ui=shown)


class DragNoiseOverlay(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseOverlay",
            display_name="DragNoise Overlay",
            category=CATEGORY,
            description="Draw handles, targets, arrows and the mask over pictures.",
            inputs=[
                io.Image.Input("image", tooltip="One picture or several; the points are scaled to its size."),
                DragPointsType.Input("points", tooltip="The point pairs to draw."),
                io.Mask.Input("mask", optional=True, tooltip="Tinted where the picture may change."),
            ],
            outputs=[
                io.Image.Output("overlay", display_name="image", tooltip="The pictures with the points over them.")
            ],
        )

    @classmethod
    def execute(cls, image, points, mask=None) -> io.NodeOutput:
        cover = None if mask is None else first_mask(mask)
        drawn = [to_tensor(draw_drag(to_picture(frame), points, mask=cover)) for frame in to_core_image(image)]
        return io.NodeOutput(to_host_image(torch.cat(drawn)))
