"""Numbers that are not finite are named by the place where they came up."""

from types import SimpleNamespace

import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.edit import DragNoiseEdit
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.inversion import DragNoiseInvert
from model_guests import SIGMAS, noisy_latent, patched_output
from testing_pack.tiny_models import tiny_conditioning, tiny_model, tiny_vae


def broken(part):
    with torch.inference_mode():  # as the weights were made
        next(part.parameters()).fill_(float("nan"))


PLACES = {
    "the VAE's encoder": lambda model, vae, run: broken(vae.first_stage_model.taesd_encoder),
    "the inversion": lambda model, vae, run: broken(model.model.diffusion_model.input_blocks[0]),
    "sampling": lambda model, vae, run: run.after_drag(lambda: broken(model.model.diffusion_model.input_blocks[0])),
    "the VAE's decoder": lambda model, vae, run: broken(vae.first_stage_model.taesd_decoder),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("heard", [False, True], ids=["plain", "heard"])
def test_numbers_that_are_not_finite_are_named_by_their_place(place, heard, monkeypatch):
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    drag = HostRun.drag

    def after_drag(function):
        monkeypatch.setattr(HostRun, "drag", lambda *values: (drag(*values), function())[0])

    model, vae = tiny_model(), tiny_vae()
    if heard:
        patched_output(model)
    # Guests are tried before the inversion.
    said = "the U-Net" if heard and place == "the inversion" else place
    PLACES[place](model, vae, SimpleNamespace(after_drag=after_drag))
    points = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
    image = torch.rand(1, 128, 128, 3)
    settings = preset("paper", iterations=2)
    with pytest.raises(DragNoiseError, match=f"^{said} gave numbers that are not finite; use another"):
        DragNoiseEdit.execute(model, vae, tiny_conditioning(), image, points, steps=4, strength=0.7, settings=settings)


def test_a_drag_whose_gradient_is_not_finite_says_so():
    def spoil(hidden, skip, options):
        return (hidden * float("nan"), skip) if torch.is_grad_enabled() else (hidden, skip)

    model = tiny_model()
    model.set_model_output_block_patch(spoil)
    points = DragPoints.from_pairs([((30, 30), (60, 40))], 192, 128)
    with pytest.raises(DragNoiseError, match="the optimisation diverged"):
        HostRun(model, tiny_conditioning(), SIGMAS).drag(noisy_latent(), points, config=preset("paper", iterations=2))


def test_a_latent_that_is_not_finite_is_refused():
    latent = {"samples": noisy_latent() * float("nan")}
    with pytest.raises(DragNoiseError, match="what made the latent gave numbers that are not finite"):
        DragNoiseInvert.execute(tiny_model(), tiny_conditioning(), latent, 10, 0.7)
