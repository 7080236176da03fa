"""The group norm that stays channels last against PyTorch's own."""

import pytest
import torch
from small_unet import small_unet
from torch.nn import functional

from dragnoise_core import channels_last
from dragnoise_core.channels_last import ChannelsLastNorms, group_norm
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(1, 128, 96, 88), (1, 64, 9, 11), (2, 128, 96, 88), (1, 64, 50)])
@torch.no_grad()
def test_it_is_pytorchs_group_norm(shape, affine):
    generator = torch.Generator().manual_seed(0)
    # Channels of their own means and spreads, so that groups differ from their channels.
    scale, shift = (torch.randn(1, shape[1], *[1] * (len(shape) - 2), generator=generator) for _ in range(2))
    x = torch.randn(shape, generator=generator) * scale + 3 * shift
    weight, bias = torch.randn(2, shape[1], generator=generator) if affine else (None, None)
    found = group_norm(x, 32, weight, bias, 1e-3)
    wanted = functional.group_norm(x.double(), 32, *(v if v is None else v.double() for v in (weight, bias)), 1e-3)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)
    assert len(shape) != 4 or found.is_contiguous(memory_format=torch.channels_last)


def test_it_lets_gradients_through():
    x, direction = torch.randn(1, 128, 96, 88, requires_grad=True), torch.randn(1, 128, 96, 88)
    (found,) = torch.autograd.grad((group_norm(x, 32) * direction).sum(), [x])
    (wanted,) = torch.autograd.grad((functional.group_norm(x, 32) * direction).sum(), [x])
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_a_unet_gives_the_same_with_it(monkeypatch):
    monkeypatch.setattr(channels_last, "LARGE", 0)
    unet = small_unet().to(memory_format=torch.channels_last)
    arguments = torch.randn(1, 4, 16, 16), 500, torch.randn(1, 3, 16)
    wanted, outside = unet(*arguments).sample, functional.group_norm
    calls = []
    own = channels_last.group_norm
    monkeypatch.setattr(channels_last, "group_norm", lambda *a, **k: calls.append(a) or own(*a, **k))
    with ChannelsLastNorms():
        found = unet(*arguments).sample
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert len(calls) == sum(isinstance(module, torch.nn.GroupNorm) for module in unet.modules())
    assert functional.group_norm is outside


def test_activations_that_are_not_kept_are_computed_as_they_were():
    unet = small_unet().to(memory_format=torch.channels_last)
    prompt, x = torch.randn(1, 3, 16), torch.randn(1, 4, 16, 24)
    gradients = []
    for low_memory in (False, True):
        split = DiffusersSplitUNet(unet, prompt, low_memory=low_memory)
        with ChannelsLastNorms():
            encoded = split.encode(x, 3.0)
            bottleneck = encoded.bottleneck.requires_grad_(True)
            epsilon = split.decode(encoded, bottleneck, to_tap=False).epsilon
        # As on a GPU, whose gradients another thread computes: it knows nothing of this one's mode.
        gradients += torch.autograd.grad(epsilon.square().sum(), [bottleneck])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
