"""Points: picking them on a picture, and showing them over one."""

import node_helpers
import numpy
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageOps
from torch import Tensor

from ..dragnoise_core.drawing import draw_drag, to_picture, to_tensor
from ..dragnoise_core.errors import DragNoiseError
from ..dragnoise_core.points import MAX_SIDE, DragPoints
from .host.types import CATEGORY, DragPointsType, content_hash, stored_file, to_core_image, to_host_image

MAX_STAGE = 8192  # pixels of a blank stage's side; it is drawn in memory


def _picker(name: str, widget: str, optional: bool, tooltip: str) -> io.String.Input:
    entry = io.String.Input(name, default="", optional=optional, tooltip=tooltip)
    # Not `widget_type`: that would change the socket's type, and links from other nodes' strings would be refused.
    entry.extra_dict = {"widgetType": widget}
    return entry


class DragNoisePoints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoisePoints",
            display_name="DragNoise Points",
            category=CATEGORY,
            description="Place red handles and blue targets on a picture: what is at a handle shall move to its "
            "target. A mask painted on the same picture says where the picture may change.",
            inputs=[
                _picker(
                    "points",
                    "DRAGNOISE_POINTS",
                    False,
                    "The point pairs as JSON, written by the picker. A linked string may also come from track and "
                    "spline nodes (first point = handle, last = target).",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="The picture to place points on. Without it the stage is blank."
                ),
                _picker(
                    "mask_image",
                    "DRAGNOISE_MASK",
                    True,
                    "The painted mask's file in the input folder, written by the picker. Empty: everything may change.",
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
        try:
            if points is not None:
                # Only the form: the size of a linked picture is not known yet.
                read_points(points, MAX_SIDE, MAX_SIDE)
            if mask_image:
                stored_file(mask_image, "mask")
        except DragNoiseError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, mask_image: str | None = None, **others) -> str:
        """The painted mask's content, so that painting over the same file runs the node again."""
        return content_hash(stored_file(mask_image, "mask")) if mask_image else ""

    @classmethod
    def execute(cls, points, image=None, mask_image="", width=512, height=512) -> io.NodeOutput:
        if image is None:
            picture = Image.new("RGB", (width, height), (127, 127, 127))
        else:
            picture = to_picture(to_core_image(image[:1]))
        drag_points = read_points(points, *picture.size)
        mask = read_mask(mask_image) if mask_image else torch.ones(picture.height, picture.width)
        overlay = draw_drag(picture, drag_points, mask=mask if mask_image else None)
        shown = {} if image is None else {"dragnoise_picture": _saved(image[:1])}
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
        cover = None if mask is None else mask.reshape(-1, *mask.shape[-2:])[0]
        drawn = [to_tensor(draw_drag(to_picture(frame), points, mask=cover)) for frame in to_core_image(image)]
        return io.NodeOutput(to_host_image(torch.cat(drawn)))


def _saved(image: Tensor) -> list:
    """Return where the browser finds the picture, for a picker whose picture no node upstream shows."""
    return ui.ImageSaveHelper.save_images(image, "dragnoise_picture", io.FolderType.temp, cls=None, compress_level=1)


def read_points(text: str, width: int, height: int) -> DragPoints:
    """Return the points that `text` holds, scaled to a picture of `width` x `height` pixels."""
    if not text.strip():
        raise DragNoiseError("no point pair; place at least one handle and its target.")
    return DragPoints.parse(text, width, height)


def read_mask(name: str) -> Tensor:
    """Return the painted mask, [H, W] in [0, 1], 1 = may change.

    Where the file has transparency, what is transparent may change, as in the host's Load Image; an opaque file is
    read by its red channel.
    """
    path = stored_file(name, "mask")
    picture = node_helpers.pillow(Image.open, path)
    picture = node_helpers.pillow(ImageOps.exif_transpose, picture).convert("RGBA")
    red, _, _, alpha = (torch.from_numpy(channel.copy()) for channel in numpy.moveaxis(numpy.array(picture), -1, 0))
    painted = red if alpha.min() == 255 else 255 - alpha
    return painted.float() / 255
