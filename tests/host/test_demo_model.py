"""The demo model in the host's own classes gives what it gives in diffusers."""

import comfy.model_base
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD
from dragnoise_pack.dragnoise_core.demo.scenes import KINDS
from dragnoise_pack.nodes.host.conversions import to_core_image, to_host_image
from dragnoise_pack.nodes.host.demo_model import load_demo_model, preview_colours, scene_picture

pytest.importorskip("diffusers", reason="SKIPPED: diffusers is not installed beside ComfyUI")


@pytest.fixture(scope="module")
def both():
    from dragnoise_pack.dragnoise_core.demo.loader import load_demo_model as load_in_diffusers

    with torch.inference_mode():
        return load_demo_model(), load_in_diffusers()


def test_the_networks_are_the_hosts_own(both):
    (model, vae, _), _ = both
    assert type(model.model) is comfy.model_base.BaseModel
    assert type(model.model.diffusion_model) is UNetModel
    assert type(vae.first_stage_model) is TAESD


@pytest.mark.parametrize("kind", KINDS)
def test_epsilon_equals_diffusers(both, kind):
    (model, _, prompts), theirs = both
    x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    for timestep in (1, 321, 681, 999):
        sigma = model.get_model_object("model_sampling").sigmas[timestep].reshape(1)
        noisy = x * (1 + sigma**2).sqrt()
        denoised = model.model.apply_model(noisy, sigma, c_crossattn=prompts[kind])
        epsilon = theirs.unet(x, timestep, encoder_hidden_states=theirs.prompt(kind)).sample
        torch.testing.assert_close((noisy - denoised) / sigma, epsilon, rtol=1e-3, atol=1e-4)


def test_the_autoencoder_equals_diffusers(both):
    (_, vae, _), theirs = both
    picture = scene_picture("face", 1)
    latent = vae.encode(to_host_image(picture))
    torch.testing.assert_close(latent, theirs.encode(picture), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(to_core_image(vae.decode(latent)), theirs.decode(latent), rtol=1e-4, atol=1e-4)


def test_latents_have_about_unit_deviation(both):
    (_, vae, _), _ = both
    latents = torch.cat([vae.encode(to_host_image(scene_picture(kind, seed))) for kind in KINDS for seed in (1, 2)])
    assert 0.6 < float(latents.std()) < 1.6


def test_the_preview_resembles_the_picture(both):
    (_, vae, _), _ = both
    factors, bias = (torch.tensor(part) for part in preview_colours(vae))
    picture = scene_picture("boat", 3)
    seen = (vae.encode(to_host_image(picture)).movedim(1, -1) @ factors + bias + 1) / 2
    small = torch.nn.functional.adaptive_avg_pool2d(picture, (32, 32)).movedim(1, -1)
    assert float((seen - small).abs().mean()) < 0.5 * float((small.mean((1, 2), keepdim=True) - small).abs().mean())


def test_seeds_choose_pictures():
    assert torch.equal(scene_picture("cat", 3), scene_picture("cat", 3))
    assert not torch.equal(scene_picture("cat", 3), scene_picture("cat", 4))
    assert scene_picture("cat", 0).shape == (1, 3, 256, 256)
