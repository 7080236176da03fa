"""DragDiffusion on a tiny U-Net, its parts against finite differences, DDIM's formula and attention written by hand."""

import math

import pytest
import torch
from small_task import half_mask, small_task

from dragnoise_core.bench.methods import do_nothing, find_method
from dragnoise_core.bench.opponents.drag_diffusion import (
    DragDiffusionSettings,
    drag_diffusion,
    drag_latent,
)
from dragnoise_core.bench.opponents.dragged_latent import DraggedLatent
from dragnoise_core.bench.opponents.reference_attention import reference_attention, sample_with_reference
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.split_unet import evaluate
from dragnoise_core.supervision import motion_loss, sample_patches


@pytest.mark.parametrize("mask", [None, half_mask()], ids=["everywhere", "masked"])
def test_the_gradient_in_the_latent_is_the_losses_slope(mask):
    latent = DraggedLatent(small_task(mask=mask), learning_rate=0.01, mask_weight=0.1)
    with torch.no_grad():  # off the mask term's kink
        latent.z += 0.1 * torch.randn_like(latent.z)
    template = sample_patches(latent.decode().feature.detach(), latent.handles, 1, latent.grid)

    def loss(template):
        decoded = latent.decode()
        motion = motion_loss(
            decoded.feature, latent.handles, latent.targets, radius=1, grid=latent.grid, template=template
        )
        return motion if mask is None else motion + 0.1 * latent.mask_loss(decoded)

    (gradient,) = torch.autograd.grad(loss(None), [latent.z])
    direction, step = torch.randn_like(latent.z), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            latent.z += sign * step * direction
            values.append(loss(template).item())
            latent.z -= sign * step * direction
    slope = (values[0] - values[1]) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)


def test_the_mask_term_is_the_papers():
    task = small_task(mask=half_mask())
    latent = DraggedLatent(task, learning_rate=0.01, mask_weight=0.1)
    with torch.no_grad():
        latent.z += 0.1 * torch.randn_like(latent.z)
    alphas = [1 / (1 + float(sigma) ** 2) for sigma in task.sigmas[:2]]

    def denoised(z):
        epsilon = evaluate(task.unet, z / math.sqrt(alphas[0]), float(task.sigmas[0])).epsilon
        clean = (z - math.sqrt(1 - alphas[0]) * epsilon) / math.sqrt(alphas[0])
        return math.sqrt(alphas[1]) * clean + math.sqrt(1 - alphas[1]) * epsilon

    change = denoised(latent.z.detach()) - denoised(task.noisy * math.sqrt(alphas[0]))
    torch.testing.assert_close(latent.mask_loss(latent.decode()), change[..., 4:].abs().sum())


def attention_by_hand(layer, queries_from, rest_from):
    heads = layer.heads
    query, key, value = (
        projection(states).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection, states in ((layer.to_q, queries_from), (layer.to_k, rest_from), (layer.to_v, rest_from))
    )
    weight = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
    return layer.to_out[0]((weight @ value).transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("first_block", [0, 2])
def test_keys_and_values_are_the_sources(first_block):
    task = small_task()
    other, sigma = task.noisy + torch.randn_like(task.noisy), float(task.sigmas[0])
    layers = {
        name: module
        for name, module in task.unet.unet.named_modules()
        if name.startswith("up_blocks") and name.endswith("attn1") and int(name.split(".")[1]) >= first_block
    }
    assert len(layers) == {0: 4, 2: 2}[first_block]
    plain = evaluate(task.unet, other, sigma).epsilon
    with reference_attention(task.unet.unet, first_block):
        found = evaluate(task.unet, torch.cat([task.noisy, other]), sigma).epsilon
    seen, hooks = {}, []
    for name, layer in layers.items():
        hooks.append(layer.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]})))
    source = evaluate(task.unet, task.noisy, sigma).epsilon
    for name, layer in layers.items():
        hooks.append(
            layer.register_forward_hook(
                lambda layer, given, _, states=seen[name]: attention_by_hand(layer, given[0], states)
            )
        )
    wanted = evaluate(task.unet, other, sigma).epsilon
    for hook in hooks:
        hook.remove()
    assert (wanted - plain).abs().max() > 1e-4, "the control changed nothing: nothing was compared"
    torch.testing.assert_close(found, torch.cat([source, wanted]))


def test_a_latent_that_is_its_own_reference_is_sampled_as_without_one():
    task = small_task()
    found = sample_with_reference(task.unet, task.noisy, task.noisy, task.sigmas)
    torch.testing.assert_close(found, do_nothing(task).latent)


def test_the_processors_come_back_after_an_error():
    unet = small_task().unet.unet
    before = dict(unet.attn_processors)
    with pytest.raises(KeyboardInterrupt), reference_attention(unet):
        assert dict(unet.attn_processors) != before
        raise KeyboardInterrupt
    assert dict(unet.attn_processors) == before


def test_without_a_step_it_does_nothing():
    task = small_task()
    outcome = drag_diffusion(DragDiffusionSettings(iterations=0))(task)
    assert outcome.iterations == 0
    torch.testing.assert_close(outcome.latent, do_nothing(task).latent)


def test_points_that_have_arrived_are_left_alone():
    task = small_task(pairs=[((16.0, 32.0), (18.0, 32.0))])
    outcome = drag_diffusion()(task)
    assert outcome.iterations == 0
    torch.testing.assert_close(outcome.latent, do_nothing(task).latent)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_step_moves_the_handles_patch_on(seed):
    task = small_task(seed=seed)
    latent = DraggedLatent(task, learning_rate=0.01, mask_weight=0.1)
    handles_patch = sample_patches(latent.source.feature, latent.handles, 1, latent.grid)
    ahead = latent.handles + torch.tensor([1.0, 0.0])
    _, iterations = drag_latent(latent, DragDiffusionSettings(iterations=1))
    encoded = task.unet.encode(latent.x.detach(), float(task.sigmas[0]))
    feature = task.unet.decode(encoded, encoded.bottleneck, to_tap=True).feature
    before, after = (
        (sample_patches(map_, ahead, 1, latent.grid) - handles_patch).abs().sum()
        for map_ in (latent.source.feature, feature)
    )
    assert iterations == 1 and after < before


def test_the_mask_term_holds_what_may_not_change():
    def change_outside(weight):
        task = small_task(mask=half_mask())
        latent = DraggedLatent(task, 0.01, weight)
        drag_latent(latent, DragDiffusionSettings(iterations=10, mask_weight=weight))
        return (latent.x.detach() - task.noisy)[..., 4:].abs().mean()

    assert change_outside(10.0) < 0.7 * change_outside(0.0)


def test_the_bench_finds_it_with_the_papers_settings():
    assert DragDiffusionSettings() == DragDiffusionSettings(0.01, 80, 1, 3, 0.1, 0, 2.0)
    task = small_task(torch.float32, pairs=[((16.0, 32.0), (24.0, 32.0)), ((48.0, 16.0), (48.0, 24.0))])
    outcome = find_method("drag-diffusion")(task)
    assert outcome.latent.shape == task.latent.shape and torch.isfinite(outcome.latent).all()
    assert 0 < outcome.iterations <= 80 and outcome.ends.shape == (2, 2)


def test_a_step_too_long_is_said():
    with pytest.raises(DragNoiseError, match="diverged at learning rate inf"):
        drag_diffusion(DragDiffusionSettings(learning_rate=math.inf, iterations=1))(small_task())


@torch.no_grad()
def test_a_model_in_half_precision_is_dragged_under_a_callers_no_grad():
    task = small_task(torch.float32, mask=half_mask())
    task.unet.unet.half()
    task.unet.conditions = task.unet.conditions._replace(context=task.unet.conditions.context.half())
    outcome = drag_diffusion(DragDiffusionSettings(iterations=2))(task)
    assert outcome.iterations == 2 and torch.isfinite(outcome.latent).all()
