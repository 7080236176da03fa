import math

import pytest
import torch
from toy_unet import ToyUNet

from dragnoise_core.inversion import inversion_path, invert
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas, to_variance_exploding
from dragnoise_core.split_unet import Decoded, Encoded

TABLE = scaled_linear_sigmas()
DEVIATION = 0.8


class GaussianUNet:
    """The exact denoiser of pictures whose latents are independent normal values of one deviation.

    E[epsilon | x] = sigma x / (deviation^2 + sigma^2), and the noise-free path from x at sigma_0 is known in closed
    form: x(sigma) = x_0 sqrt((deviation^2 + sigma^2) / (deviation^2 + sigma_0^2)).
    """

    def encode(self, x, sigma, *, middle=True):
        return Encoded(x, (x, sigma))

    def decode(self, encoded, bottleneck, *, to_tap):
        x, sigma = encoded.state
        return Decoded(x, sigma * bottleneck / (DEVIATION**2 + sigma**2))


def test_inversion_follows_the_closed_form_path():
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * DEVIATION
    errors = []
    for steps in (50, 500):
        sigmas = ddim_sigmas(TABLE, steps, 0.7)
        start = to_variance_exploding(latent, sigmas[-1])
        exact = start * math.sqrt((DEVIATION**2 + sigmas[0] ** 2) / (DEVIATION**2 + sigmas[-1] ** 2))
        errors.append(float((invert(GaussianUNet(), latent, sigmas) / exact - 1).abs().max()))
    assert errors[0] < 0.05
    # A first-order method: a tenth of the step has about a tenth of the error.
    assert errors[1] < errors[0] / 5


def test_refinements_make_inversion_the_exact_inverse_of_sampling():
    unet = ToyUNet(dtype=torch.float64)
    latent = torch.randn(1, 4, 16, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sigmas = ddim_sigmas(TABLE, 30, 0.7)
    errors = [
        float((sample(unet, invert(unet, latent, sigmas, refinements=count), sigmas) - latent).abs().max())
        for count in (0, 1, 20)
    ]
    assert errors[1] < errors[0] / 2
    assert errors[2] < 1e-9


def test_inversion_without_refinement_returns_within_a_small_part_of_the_latent():
    unet = ToyUNet()
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    sigmas = ddim_sigmas(TABLE, 50, 0.7)
    returned = sample(unet, invert(unet, latent, sigmas), sigmas)
    # 30 dB below the latent's own power.
    assert (returned - latent).square().mean() < 1e-3 * latent.square().mean()


@pytest.mark.parametrize("shape", [(1, 4, 9, 14), (2, 4, 8, 8)])
def test_every_step_is_reported_and_the_prediction_is_the_latents_shape(shape):
    seen = []
    sigmas = ddim_sigmas(TABLE, 10)
    noisy = invert(ToyUNet(), torch.zeros(shape), sigmas, callback=seen.append)
    sample(ToyUNet(), noisy, sigmas, callback=seen.append)
    assert [(p.phase, p.step, p.total) for p in seen] == [
        (phase, step, 10) for phase in ("inversion", "sampling") for step in range(1, 11)
    ]
    assert all(p.denoised().shape == shape for p in seen)


def test_the_reported_prediction_becomes_the_result():
    seen = []
    unet, sigmas = ToyUNet(), ddim_sigmas(TABLE, 10)
    result = sample(
        unet, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4)), sigmas, callback=seen.append
    )
    # At the last level, sigma 0.04, what is left to remove is small.
    torch.testing.assert_close(seen[-1].denoised(), result, atol=0.1, rtol=0)


def test_the_path_leads_from_the_noise_to_the_picture_by_sampling_steps_of_its_own_epsilons():
    latent = torch.randn(1, 4, 16, 16)
    sigmas = ddim_sigmas(TABLE, 20, 0.7).float()
    unet, seen = ToyUNet(), []
    path = inversion_path(unet, latent, sigmas, callback=lambda progress: seen.append(progress.denoised())).latents
    assert len(path) == len(sigmas) and torch.equal(path[0], invert(unet, latent, sigmas))
    torch.testing.assert_close(path[-1], to_variance_exploding(latent, float(sigmas[-1])))
    for step, (before, after) in enumerate(zip(path, path[1:], strict=False)):
        epsilon = (after - before) / (sigmas[step + 1] - sigmas[step])
        torch.testing.assert_close(before - sigmas[step] * epsilon, seen[-1 - step], rtol=1e-3, atol=1e-3)
