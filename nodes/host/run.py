"""A model under a prompt on a schedule: inversion, drag and sampling inside the host's own sampling path."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...dragnoise_core.configuration import PRESETS, OptimisationConfig
from ...dragnoise_core.edit import DragEdit
from ...dragnoise_core.finite import check_finite
from ...dragnoise_core.grid import check_latent_size
from ...dragnoise_core.inversion import InversionPath, inversion_path
from ...dragnoise_core.optimisation import Dragged, drag
from ...dragnoise_core.points import DragPoints
from ...dragnoise_core.progress import Callback
from ...dragnoise_core.sampling import sample
from ...dragnoise_core.schedule import to_variance_exploding
from .comfy_unet import WholeUNet
from .conversions import fitting_path, one_mask
from .guests import check_decoder, check_guidance, check_prompts
from .patches import apply_edit
from .plain_unet import AUTOMATIC, HeldGraphs, Speed
from .sampling import Entry, denoise, drag_with, enter_with, invert_with, noise_table, runs_plainly


@dataclass(frozen=True)
class HostRun:
    """What inversion, drag and sampling of one picture have in common.

    model: a MODEL. positive: its CONDITIONING. sigmas: the noise levels, descending, [k + 1]. progress: called after
    every step. entry: the host's sampling that all of this shares, see `at_once`; None where each part has its own.
    Latents go in and come out as the host scales them, [1, C, h, w].
    """

    model: Any
    positive: list
    sigmas: Tensor
    progress: Callback | None = None
    speed: Speed = AUTOMATIC
    entry: Entry | None = None

    def at_once(self, latent: Tensor, work: Callable[["HostRun"], Any]) -> Any:
        """Return `work(run)`. The host prepares the model once for all of it where nothing but one prompt takes part.

        latent: of the size of those in `work`, which loads no other model meanwhile.
        """
        if not runs_plainly(self.model, self.positive):
            return work(self)
        return enter_with(
            self.model, self.positive, latent, self.sigmas, lambda entry: work(replace(self, entry=entry))
        )

    def check(self, latent: Tensor) -> None:
        """Raise DragNoiseError, naming the reason, for a picture, prompt or guest that no drag works with.

        The model itself is `check_model`'s.
        """
        check_latent_size(latent)
        check_prompts(self.model, self.positive, self.sigmas)
        check_guidance(self.model)
        if not runs_plainly(self.model, self.positive):
            drag_with(self.model, self.positive, latent, self.sigmas, check_decoder, self.speed, gradient=False)

    def invert(self, clean: Tensor, refinements: int = 0, features: int = 0) -> tuple[Tensor, InversionPath]:
        """Return the noisy latent at the first of the sigmas, and the path to it.

        The path's latents: sigma space, model units, on the CPU, [k + 1, 1, C, h, w]. Its features: of so many steps,
        on the model's device; none where the model is only listened to.
        """

        def body(unet, latent: Tensor, sigmas: Tensor) -> InversionPath:
            kept = 0 if isinstance(unet, WholeUNet) else features
            return inversion_path(unet, latent, sigmas, refinements=refinements, features=kept, callback=self.progress)

        path = invert_with(self.model, self.positive, clean, self.sigmas, body, self.speed, self.entry)
        return self._host_latent(path.latents[0]), replace(path, latents=torch.stack(list(path.latents)).float().cpu())

    def drag(
        self,
        noisy: Tensor,
        points: DragPoints,
        mask: Tensor | None = None,
        config: OptimisationConfig = PRESETS["default"],
        path: InversionPath | None = None,
        warped: Tensor | None = None,
    ) -> Dragged:
        """Return the edit that drags `points` on the picture of `noisy`, and where the optimisation has walked to.

        mask: the host's MASK. path: of the inversion; ignored where it is another picture's. warped: the latent of
        the `warped_picture`; None where there is no picture.
        """
        if warped is not None:
            warped = self.model.get_model_object("latent_format").process_in(warped)

        def body(unet, latent: Tensor, sigmas: Tensor) -> Dragged:
            own = fitting_path(path, latent, sigmas)
            look = None if warped is None else warped.to(latent)
            return drag(
                unet, latent, sigmas, points,
                mask=one_mask(mask), config=config, path=own, warped=look, callback=self.progress,
            )  # fmt: skip

        return drag_with(self.model, self.positive, noisy, self.sigmas, body, self.speed, self.entry)

    def sample(
        self, noisy: Tensor, edit: DragEdit | None = None, *, walked: Dragged | None = None, negative=None, cfg=1.0
    ) -> Tensor:
        """Return the picture's latent, with the edit: noisy where the sigmas stop before the model's lowest level.

        walked: what `drag` returned with the edit; sampling goes on from there where nothing but one prompt takes part.
        """
        if negative is not None or not runs_plainly(self.model, self.positive):
            model = self.model if edit is None else apply_edit(self.model, edit)
            end = denoise(model, self.positive, noisy, self.sigmas, negative=negative, cfg=cfg, callback=self.progress)
            return check_finite(end, "sampling")

        def body(unet, latent: Tensor, sigmas: Tensor) -> Tensor:
            x, level = (latent, 0) if walked is None else (walked.latent, walked.level)
            clean, last = sample(unet, x, sigmas, edit=edit, start=level, callback=self.progress), float(sigmas[-1])
            return to_variance_exploding(clean, last) if last > noise_table(self.model)[0] * 1.001 else clean

        end = drag_with(self.model, self.positive, noisy, self.sigmas, body, self.speed, self.entry, gradient=False)
        return self._host_latent(end)

    @property
    def remark(self) -> str | None:
        """Return why the last run went without CUDA graphs where it was to have them, else None."""
        return HeldGraphs.of(self.model).remark

    def _host_latent(self, latent: Tensor) -> Tensor:
        scaled = self.model.get_model_object("latent_format").process_out(latent.float())
        return scaled.to(comfy.model_management.intermediate_device())
