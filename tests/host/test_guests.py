"""Other nodes' work on the MODEL and the prompt takes part, with right gradients."""

import pytest
import torch
from comfy_extras import nodes_hypertile
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import drag_with
from model_guests import CONTROLS, MODELS, SIGMAS, noisy_latent, run_node, with_options
from testing_pack.tiny_models import tiny_conditioning, tiny_model


def epsilons(unet, x, levels):
    encoded = unet.encode(x, 3.0)
    with torch.inference_mode():
        denoised = unet.guider(x, x.new_full((1,), 3.0), **unet.extra_args)
    return unet.decode(encoded, encoded.bottleneck, to_tap=False).epsilon, (x - denoised) / 3.0


def gradient_and_difference(unet, x, levels):
    """Return a directional derivative of a function of the tap's feature, by autograd and by a finite difference."""
    encoded = unet.encode(x, 3.0)
    leaf = encoded.bottleneck.clone().requires_grad_(True)
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(2), dtype=leaf.dtype)

    def value(bottleneck):
        return torch.sin(unet.decode(encoded, bottleneck, to_tap=True).feature.double()).sum()

    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(value(leaf), [leaf])
    step = 1e-5
    difference = (value(leaf + step * direction) - value(leaf - step * direction)) / (2 * step)
    return float((gradient * direction).sum()), float(difference)


@pytest.fixture(params=[False, True], ids=["", "low memory"])
def speed(request):
    from dragnoise_pack.nodes.host.plain_unet import Speed

    return Speed(low_memory=request.param)


@pytest.mark.parametrize("guest", MODELS)
def test_gradients_through_patches_equal_finite_differences(guest, speed):
    model = MODELS[guest](tiny_model(dtype=torch.float64))
    positive = tiny_conditioning()
    gradient, difference = drag_with(model, positive, noisy_latent(), SIGMAS, gradient_and_difference, speed)
    assert abs(difference) > 0.1
    assert gradient == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("guest", CONTROLS)
def test_gradients_beside_controls_equal_finite_differences(guest):
    positive = with_options(CONTROLS[guest](torch.float64))
    model = tiny_model(dtype=torch.float64)
    gradient, difference = drag_with(model, positive, noisy_latent(), SIGMAS, gradient_and_difference)
    assert abs(difference) > 0.1
    assert gradient == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("guest", [name for name in MODELS if name != "ToMe"])
def test_a_patch_changes_the_prediction_as_it_does_in_the_host(guest):
    # ToMe draws at random, HyperTile where it may swap; so it may not here.
    kinds = {**MODELS, "HyperTile": lambda model: run_node(nodes_hypertile.HyperTile, model, 32, 2, 0, False)}
    model = kinds[guest](tiny_model(dtype=torch.float64))
    ours, host = drag_with(model, tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    _, without = drag_with(tiny_model(dtype=torch.float64), tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    assert (host - without).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guest", CONTROLS)
def test_a_control_changes_the_prediction_as_it_does_in_the_host(guest):
    ours, host = drag_with(tiny_model(), with_options(CONTROLS[guest](torch.float32)), noisy_latent(), SIGMAS, epsilons)
    _, without = drag_with(tiny_model(), tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    assert (host - without).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guest", MODELS)
def test_supported_guests_pass_the_check(guest):
    HostRun(MODELS[guest](tiny_model(dtype=torch.float64)), tiny_conditioning(), SIGMAS).check(noisy_latent())


def test_random_draws_of_a_decoding_leave_the_hosts_own_draws_alone():
    model = MODELS["ToMe"](tiny_model())

    def draws(unet, x, levels):
        encoded = unet.encode(x, 3.0)
        torch.manual_seed(5)
        first = unet.decode(encoded, encoded.bottleneck, to_tap=True).feature
        drawn = torch.rand(1)
        torch.manual_seed(6)
        second = unet.decode(encoded, encoded.bottleneck, to_tap=True).feature
        return torch.equal(first, second), drawn

    same, drawn = drag_with(model, tiny_conditioning(), noisy_latent(), SIGMAS, draws)
    torch.manual_seed(5)
    assert same and torch.equal(drawn, torch.rand(1))
