"""A folder of pictures, each with its points, for dragging all of them in one run."""

import folder_paths
from comfy_api.latest import io

from ..dragnoise_core.drawing import to_tensor
from ..dragnoise_core.errors import DragNoiseError
from ..dragnoise_core.images import load_image, to_srgb
from ..dragnoise_core.points import decode_points
from .host.conversions import read_points, to_host_image
from .host.files import content_hash, stored_pictures
from .host.inputs import CATEGORY, DragPointsType, answer


class DragNoiseLoadFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseLoadFolder",
            display_name="DragNoise Load Folder",
            category=CATEGORY,
            description="Loads every picture of a folder with its points: photo.png has them in photo.json beside it. "
            "What is linked after it runs once for each picture.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folder_paths.get_input_subfolders(),
                    tooltip="A folder in the input folder. Pictures come in the order of their names.",
                )
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="image", is_output_list=True, tooltip="The pictures, one by one."
                ),
                DragPointsType.Output(
                    "points", display_name="points", is_output_list=True, tooltip="The points of each picture."
                ),
                io.String.Output(
                    "name",
                    display_name="name",
                    is_output_list=True,
                    tooltip="The folder and the name of each picture, for Save Image.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        """Refuse a folder without pictures, and pictures without points, before anything runs."""
        return folder is None or answer(stored_pictures, folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str) -> str:
        """The files' names and contents, so that changed ones are loaded again."""
        return " ".join(f"{file.name} {content_hash(file)}" for pair in stored_pictures(folder) for file in pair)

    @classmethod
    def execute(cls, folder) -> io.NodeOutput:
        images, points, names = [], [], []
        for file, points_file in stored_pictures(folder):
            picture = to_srgb(load_image(file))
            try:
                points.append(read_points(decode_points(points_file.read_bytes()), *picture.size))
            except DragNoiseError as error:
                raise DragNoiseError(f"{points_file.name}: {error}") from error
            images.append(to_host_image(to_tensor(picture)))
            names.append(f"{folder}/{file.stem}")
        return io.NodeOutput(images, points, names)
