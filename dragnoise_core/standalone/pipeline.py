"""From a picture and points to the dragged picture: inversion, optimisation, sampling."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..background import keep_pixels
from ..configuration import PRESETS, OptimisationConfig
from ..drawing import to_picture, to_tensor
from ..edit import DragEdit
from ..errors import DragNoiseError
from ..finite import check_finite
from ..images import fit, unfit
from ..inversion import InversionPath, inversion_path
from ..optimisation import Dragged, drag
from ..originals import Original, kept_originals
from ..points import DragPoints
from ..progress import Callback
from ..sampling import sample
from ..schedule import ddim_sigmas, to_variance_preserving
from ..supervision import latent_mask
from ..warping import warped_picture
from .loaded_model import LoadedModel

MIN_SIDE = 16  # pixels; smaller pictures show nothing once they are scaled up to the model's size


@dataclass(frozen=True, eq=False)
class EditResult:
    """What `edit_image` and `apply_edit` give.

    picture: the result, at the size that came in. reconstruction: the same without the edit, when asked for.
    noisy_latent: the inverted picture, sigma space at sigmas[0], [1, 4, h, w]. seconds: of every phase.
    """

    picture: Image.Image
    edit: DragEdit
    noisy_latent: Tensor
    sigmas: Tensor
    seconds: dict[str, float]
    reconstruction: Image.Image | None = None

    def report(self) -> dict[str, Any]:
        """Return what happened, ready for JSON. Points in the original picture's pixels, by the method's tracking."""
        return {**self.edit.report(), "seconds": self.seconds}


def edit_image(
    model: LoadedModel,
    picture: Image.Image,
    points: DragPoints,
    *,
    mask: Tensor | None = None,
    prompt: str = "",
    config: OptimisationConfig = PRESETS["default"],
    steps: int = 50,
    strength: float = 0.7,
    reconstruct: bool = False,
    callback: Callback | None = None,
) -> EditResult:
    """Drag every handle of a picture to its target (DragNoise, Liu et al. 2024).

    picture: RGB, any size. points: in its pixels. mask: [H, W], any size, 1 = may change. prompt: what the picture
    shows; a scene kind for the demo model, or nothing. steps, strength: of the DDIM schedule, see `ddim_sigmas`.
    reconstruct: also sample without the edit. callback: called after every step, raising in it cancels.
    When all points are on their targets already nothing is edited and the result is the reconstruction.
    Raises DragNoiseError when something does not fit.
    """
    sigmas = ddim_sigmas(model.sigmas, steps, strength).float()
    points = points.scaled(*picture.size)
    run = PictureRun(model, picture, prompt, sigmas, callback)
    if mask is not None:
        latent_mask(mask, torch.empty(1, 1, run.fitted.height // 8, run.fitted.width // 8))  # refuse it before the work
    with run.phase("inversion"):
        latent = run.encode()
        path = run.invert(latent, config.compared_steps)
    with run.phase("optimisation"):
        warped = run.warp(latent, points, mask) if config.warp else None
        dragged = drag(
            run.unet, path.latents[0], sigmas, points,
            mask=mask, config=config, path=path, warped=warped and warped[1], callback=callback,
        )  # fmt: skip
    return run.finish(path, dragged, warped, reconstruct)


def apply_edit(
    model: LoadedModel, picture: Image.Image, edit: DragEdit, *, prompt: str = "", callback: Callback | None = None
) -> EditResult:
    """Repeat a saved edit on its picture; with the same model, picture and prompt the result is the same.

    Raises DragNoiseError when the edit was made for another size of bottleneck.
    """
    run = PictureRun(model, picture, prompt, edit.schedule, callback)
    with run.phase("inversion"):
        latent = run.encode()
        path = run.invert(latent)
        warped = run.warp(latent, edit.points, edit.mask if len(edit.mask) else None) if edit.config.warp else None
    return run.finish(path, Dragged(edit, path.latents[0], 0), warped)


@dataclass(eq=False)
class PictureRun:
    """One picture, RGB, any size, on its way through one model under one prompt.

    sigmas: the schedule, descending, [k + 1]. callback: see `edit_image`. seconds: of every phase so far.
    Raises DragNoiseError when picture or prompt do not fit the model.
    """

    model: LoadedModel
    picture: Image.Image
    prompt: str
    sigmas: Tensor
    callback: Callback | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.picture.size) < MIN_SIDE:
            raise DragNoiseError(
                f"the picture is too small to drag, {self.picture.width} x {self.picture.height} pixels; give at least "
                f"{MIN_SIDE} x {MIN_SIDE}, best about {self.model.native_side} x {self.model.native_side}."
            )
        self.fitted = fit(self.picture.convert("RGB"), self.model.native_side)
        self.unet = self.model.accelerated(self.model.split_unet(self.prompt, *self.fitted.size))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens in this context."""
        start = time.perf_counter()
        yield
        if self.model.unet.device.type == "cuda":
            torch.cuda.synchronize(self.model.unet.device)
        self.seconds[name] = time.perf_counter() - start

    def encode(self, picture: Tensor | None = None) -> Tensor:
        """Return the latent of a picture, [1, 3, H, W], or of the one to edit, model units, [1, 4, h, w]."""
        picture = to_tensor(self.fitted) if picture is None else picture
        return check_finite(self.model.encode(picture), "the VAE's encoder")

    def warp(self, latent: Tensor, points: DragPoints, mask: Tensor | None) -> Original:
        """Return the picture as the motion alone would leave it, and its latent. latent: its own, [1, 4, h, w]."""
        moved = warped_picture(to_tensor(self.fitted), latent, points, mask)
        return moved, self.encode(moved)

    def invert(self, latent: Tensor, features: int = 0) -> InversionPath:
        """Return the inversion's path, with the features of that many of its noisiest steps unless memory is low."""
        if self.model.low_memory:
            features = 0
        return inversion_path(self.unet, latent, self.sigmas, features=features, callback=self.callback)

    def decode(self, latent: Tensor, originals: Sequence[Original] = ()) -> Image.Image:
        """Return a latent in model units as a picture of the size that came in. Raises DragNoiseError if not finite.

        originals: pictures whose own pixels are to be kept, each with its latent: see `keep_pixels`.
        """
        pixels = self._pixels(latent)
        pixels = keep_pixels(pixels, *((picture, self._pixels(latent)) for picture, latent in originals))
        result = unfit(to_picture(pixels), self.picture.size)
        # The model saw the picture's own numbers, so its numbers stand for the same colours.
        result.info = {name: value for name, value in self.picture.info.items() if name == "icc_profile"}
        return result

    def _pixels(self, latent: Tensor) -> Tensor:
        return check_finite(self.model.decode(latent), "the VAE's decoder")

    def finish(
        self, path: InversionPath, dragged: Dragged, warped: Original | None, reconstruct: bool = False
    ) -> EditResult:
        """Return the picture sampled from where the drag ended. reconstruct: with one sampled without the edit too.

        path, warped: as `invert` and `warp` give them.
        """
        noisy, edit = path.latents[0], dragged.edit
        with self.phase("sampling"):
            latent = sample(
                self.unet, dragged.latent, self.sigmas, edit=edit, start=dragged.level, callback=self.callback
            )
            source = to_variance_preserving(path.latents[-1], float(self.sigmas[-1]))
            picture = self.decode(latent, kept_originals(edit, (to_tensor(self.fitted), source), warped))
        reconstruction = None
        if reconstruct:
            with self.phase("reconstruction"):
                reconstruction = self.decode(sample(self.unet, noisy, self.sigmas))
        return EditResult(picture, dragged.edit, noisy, self.sigmas, self.seconds, reconstruction)
