"""An inversion's path rides along in its LATENT, and the picture's own pixels stay where nothing changed."""

from types import SimpleNamespace

import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.inversion import InversionPath
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.demo_model import DragNoiseDemoModel
from dragnoise_pack.nodes.edit import DragNoiseEdit
from dragnoise_pack.nodes.host.conversions import PATH, fitting_path
from dragnoise_pack.nodes.inversion import DragNoiseInvert
from testing_pack.tiny_models import tiny_conditioning, tiny_model


def inverted():
    latent = {"samples": torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3}
    model = tiny_model()
    noisy, sigmas, _ = DragNoiseInvert.execute(model, tiny_conditioning(), latent, 20, 0.3).args
    own = model.get_model_object("latent_format").process_in
    return noisy, sigmas, own(noisy["samples"]), own(latent["samples"])


def test_the_latent_of_an_inversion_holds_its_path():
    noisy, sigmas, x, clean = inverted()
    path = fitting_path(InversionPath(noisy[PATH]), x, sigmas).latents
    assert len(path) == len(sigmas)
    torch.testing.assert_close(path[0], x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(path[-1] / (1 + sigmas[-1] ** 2).sqrt(), clean, rtol=1e-4, atol=1e-4)


def test_a_latent_that_was_worked_on_has_no_path_any_more():
    noisy, sigmas, x, _ = inverted()
    path = InversionPath(noisy[PATH])
    assert fitting_path(path, x + 0.1 * torch.randn_like(x), sigmas) is None
    assert fitting_path(path, x[..., :8], sigmas) is None
    assert fitting_path(path, x, sigmas[1:]) is None
    assert fitting_path(None, x, sigmas) is None


def test_pixels_outside_the_mask_are_the_pictures_own(monkeypatch):
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    model, vae, positive, picture = DragNoiseDemoModel.execute("face", 0).args[:4]
    height, width = picture.shape[1:3]
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    x, y = width * 0.4, height * 0.5
    points = DragPoints.from_pairs([((x, y), (x - 24, y))], width, height)
    settings = {"settings": preset("default", iterations=30), "steps": 20, "strength": 0.7, "mask": mask}
    edited = DragNoiseEdit.execute(model, vae, positive, picture, points, **settings).args[0]
    # Past the mask's edge the pictures fade into one another over what the decoder spreads and some pixels more.
    assert (edited[:, :, width // 2 + 48 :] - picture[:, :, width // 2 + 48 :]).abs().max() < 1e-3
    assert (edited[:, :, : width // 2] - picture[:, :, : width // 2]).abs().mean() > 0.01
