"""The quick layers against diffusers' own."""

import copy

import pytest
import torch
from small_unet import small_unet

from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet
from dragnoise_core.standalone.quick_layers import QUICKER, quicken


def pair(**overrides):
    plain = small_unet(**overrides).to(memory_format=torch.channels_last)
    return plain, quicken(copy.deepcopy(plain))


@pytest.mark.parametrize("linear", [False, True])
def test_they_give_the_same_prediction_and_gradient(linear):
    results = []
    for unet in pair(use_linear_projection=linear):
        split = DiffusersSplitUNet(unet, torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1)))
        encoded = split.encode(torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(2)), 3.0)
        bottleneck = encoded.bottleneck.requires_grad_(True)
        epsilon = split.decode(encoded, bottleneck, to_tap=False).epsilon
        results.append((epsilon, *torch.autograd.grad(epsilon.square().sum(), [bottleneck])))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_every_layer_with_a_quicker_form_has_it_over_the_same_weights():
    plain, quick = pair()
    kinds = {type(module) for module in quick.modules()}
    assert kinds >= set(QUICKER.values()) and not kinds & set(QUICKER)
    assert plain.state_dict().keys() == quick.state_dict().keys()


def test_what_a_transformer_is_asked_beyond_the_prompt_is_not_forgotten():
    plain, quick = pair()
    arguments = torch.randn(1, 4, 16, 16), 500, torch.randn(1, 3, 16)
    mask = torch.tensor([[1, 0, 0]])  # only the first word may be attended to
    with torch.no_grad():
        wanted, unmasked = (plain(*arguments, encoder_attention_mask=one).sample for one in (mask, None))
        found = quick(*arguments, encoder_attention_mask=mask).sample
    assert not torch.allclose(wanted, unmasked, atol=1e-3), "the mask must matter for this to say anything"
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
