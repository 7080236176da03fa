"""The drag as it happens, as frames of a GIF."""

import torch
from PIL import Image
from torch import Tensor

from ..drawing import draw_drag, to_picture
from ..images import fit
from ..points import DragPoints
from ..progress import Progress
from ..standalone.loaded_model import LoadedModel


class ProcessRecorder:
    """A callback that keeps about `count` frames of an edit, a quarter of them of sampling; fewer if it ends early.

    frames: RGB pictures of the model's own size, with targets, handles and their path drawn over. Each frame costs one
    decoding of the latent.
    """

    def __init__(self, model: LoadedModel, picture: Image.Image, points: DragPoints, count: int = 36) -> None:
        self.model, self.points = model, points.scaled(*picture.size)
        self.shares = {"optimisation": max(1, count * 3 // 4), "sampling": max(1, count // 4)}
        self.size = fit(picture, model.native_side).size
        self.path: list[Tensor] = []
        self.frames = [draw_drag(picture.resize(self.size, Image.LANCZOS), self.points)]

    def __call__(self, progress: Progress) -> None:
        """See `progress.Callback`."""
        if progress.points is not None:
            self.path.append(progress.points)
        stride = -(-progress.total // self.shares.get(progress.phase, 1))
        if progress.phase in self.shares and progress.step % stride == 0:
            picture = to_picture(self.model.decode(progress.denoised()))
            self.frames.append(draw_drag(picture, self.points, path=torch.stack(self.path) if self.path else None))

    def finish(self, result: Image.Image) -> list[Image.Image]:
        """Return all frames, with the result last and without marks."""
        return [*self.frames, result.resize(self.size, Image.LANCZOS)]
