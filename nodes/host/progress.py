"""What a person sees while a long node runs: a bar and the current picture with the points over it; then a report."""

import json
import time

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from ...dragnoise_core.drawing import draw_drag
from ...dragnoise_core.edit import DragEdit
from ...dragnoise_core.points import DragPoints
from ...dragnoise_core.progress import Progress

PREVIEW_SECONDS = 0.7  # A preview of the optimisation runs the rest of the decoder as well: not at every step.


class NodeProgress:
    """A core callback that moves the node's bar at every step and cancels when the host is told to stop.

    total: steps of all phases that will report. points: drawn over the preview with the path tracked so far, which
    also goes to the point picker. node_id: the node's, for the picker. picker_size: width and height of the
    picture that the picker shows, where the points are on one that was padded at its right and bottom.
    """

    def __init__(
        self,
        model,
        total: int,
        points: DragPoints | None = None,
        node_id: str | None = None,
        picker_size: tuple[int, int] | None = None,
    ) -> None:
        self.bar = comfy.utils.ProgressBar(total)
        self.node_id = node_id
        self.picker_size = picker_size or (points and (points.width, points.height))
        self.previewer = _previewer(model)
        self.points = points
        self.path: list[Tensor] = []
        self.before = self.done = 0
        self.last_preview = 0.0
        self.last_denoised: Tensor | None = None

    def next_phase(self, steps: int) -> None:
        """Count the following phase's steps after the `steps` of the one that ended."""
        self.before += steps

    def finish(self, points: DragPoints, path: Tensor, picture: Image.Image | None = None) -> None:
        """Fill the bar, in case phases ended early, and leave the finished picture in the node.

        picture: shown with `points` and `path` over it; without one, the last step's picture is.
        """
        if picture is None and self.previewer and self.last_denoised is not None:
            picture = self._picture(self.last_denoised)
        preview = picture and ("PNG", draw_drag(picture, points, path=path), max(picture.size))
        if preview or self.done < self.bar.total:
            self.bar.update_absolute(self.bar.total, preview=preview)

    def __call__(self, progress: Progress) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if progress.points is not None:
            self.path.append(progress.points)  # stays on its device: fetching it would wait for the step
        if progress.phase == "sampling":
            self.last_denoised = progress.denoised()
        preview = None
        if self.previewer and time.monotonic() - self.last_preview > PREVIEW_SECONDS:
            preview = ("JPEG", self._drawn(progress), latent_preview.MAX_PREVIEW_RESOLUTION)
            self.last_preview = time.monotonic()
            if progress.points is not None:
                path = path_text(torch.stack(self.path), *self.picker_size)
                send(self.node_id, "dragnoise_path", {"node": self.node_id, "path": path})
        # Sampling that follows the last gradient step of an optimisation counts from the schedule's beginning.
        self.done = max(self.done, self.before + progress.step)
        self.bar.update_absolute(self.done, preview=preview)

    def _drawn(self, progress: Progress) -> Image.Image:
        picture = self._picture(progress.denoised())
        if self.points is None:
            return picture
        return draw_drag(picture, self.points, path=torch.stack(self.path) if self.path else None)

    def _picture(self, denoised: Tensor) -> Image.Image:
        picture = self.previewer.decode_latent_to_preview(denoised.detach())
        return picture.resize((denoised.shape[-1] * 8, denoised.shape[-2] * 8), Image.BILINEAR)


def send(node_id: str | None, event: str, data: dict) -> None:
    """Tell the browser something about the node, where a server is there to tell it."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_sync(event, data, server.client_id)


def path_text(path: Tensor, width: int, height: int) -> str:
    """Return a tracked path, [T, N, 2] in pixels of a `width` x `height` picture, as the picker reads it."""
    return json.dumps({"width": width, "height": height, "path": path.tolist()})


def edit_ui(edit: DragEdit, report: str, points: DragPoints) -> dict[str, tuple[str, ...]]:
    """Return what the browser shows: the report and, in the picker, the path over the picture of `points`."""
    path = path_text(edit.path, points.width, points.height)
    return {"text": (report,), "dragnoise_path": (path,)}


def _previewer(model):
    """Return the host's previewer; the linear one even when previews are switched off: seeing the drag is the point."""
    latent_format = model.get_model_object("latent_format")
    chosen = latent_preview.get_previewer(model.load_device, latent_format)
    if chosen is None and latent_format.latent_rgb_factors is not None:
        return latent_preview.Latent2RGBPreviewer(
            latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
        )
    return chosen
