"""Wherever the U-Net is cut, its parts put together are the whole."""

import math

import pytest
import torch
from small_unet import small_unet

from dragnoise_core.bench.cut_unet import CutUNet, cut_names
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.schedule import scaled_linear_sigmas
from dragnoise_core.split_unet import evaluate
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

PROMPT = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))
TIMESTEP = 681
SIGMA = float(scaled_linear_sigmas()[TIMESTEP])
CUTS = ("encoder", "middle", "decoder 0", "decoder 1")
UNET = small_unet(layers_per_block=2)


def noisy(rows=1, height=16, width=24):
    return torch.randn(rows, 4, height, width, generator=torch.Generator().manual_seed(2)) * SIGMA


def block_of(cut):
    return {"middle": UNET.mid_block, "encoder": UNET.down_blocks[-1]}.get(cut) or UNET.up_blocks[int(cut[-1])]


def whole(x, replaced=None, tap=None):
    """The U-Net as diffusers runs it: its epsilon, the output of every cut, and of decoder block `tap`."""
    seen, hooks = {}, []

    def watch(name):
        def hook(module, arguments, output):
            plain = output if torch.is_tensor(output) else output[0]
            seen[name] = plain = replaced[name] if replaced and name in replaced else plain
            return plain if torch.is_tensor(output) else (plain, *output[1:])

        return hook

    try:
        hooks += [block_of(cut).register_forward_hook(watch(cut)) for cut in CUTS]
        if tap is not None:
            hooks.append(UNET.up_blocks[tap].register_forward_hook(watch("tap")))
        prompt = PROMPT.expand(len(x), -1, -1)
        seen["epsilon"] = UNET(x / math.sqrt(1 + SIGMA**2), TIMESTEP, encoder_hidden_states=prompt).sample
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def test_the_cuts_have_names():
    assert tuple(cut_names(UNET)) == CUTS


@pytest.mark.parametrize("size", [(1, 16, 24), (2, 9, 15)])
@pytest.mark.parametrize("cut", CUTS)
def test_both_parts_are_the_whole_and_meet_at_the_block(cut, size):
    x = noisy(*size)
    unet, wanted = CutUNet(UNET, PROMPT, cut, tap=2), whole(x)
    torch.testing.assert_close(unet.encode(x, SIGMA).bottleneck, wanted[cut], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(evaluate(unet, x, SIGMA).epsilon, wanted["epsilon"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", CUTS)
def test_another_output_of_the_block_acts_as_in_the_whole(cut):
    x, tap = noisy(), 2
    unet = CutUNet(UNET, PROMPT, cut, tap)
    encoded = unet.encode(x, SIGMA)
    other = encoded.bottleneck + torch.randn_like(encoded.bottleneck)
    decoded, wanted = unet.decode(encoded, other, to_tap=False), whole(x, {cut: other}, tap)
    assert (wanted["epsilon"] - whole(x)["epsilon"]).abs().max() > 1e-3, "the block does not matter: nothing compared"
    torch.testing.assert_close(decoded.epsilon, wanted["epsilon"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoded.feature, wanted["tap"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tap", [0, 1, 2])
def test_the_middle_cut_is_exactly_the_published_one(tap):
    x, ours, published = noisy(), CutUNet(UNET, PROMPT, "middle", tap), DiffusersSplitUNet(UNET, PROMPT)
    published.tap = tap
    encoded = ours.encode(x, SIGMA)
    assert torch.equal(encoded.bottleneck, published.encode(x, SIGMA).bottleneck)
    for to_tap in (True, False):
        found, wanted = (unet.decode(encoded, encoded.bottleneck, to_tap=to_tap) for unet in (ours, published))
        assert torch.equal(found.feature, wanted.feature)
        assert (found.epsilon is None and to_tap) or torch.equal(found.epsilon, wanted.epsilon)


def test_the_tap_is_the_published_one_when_left_out():
    assert CutUNet(UNET, PROMPT, "middle").tap == DiffusersSplitUNet(UNET, PROMPT).tap


@pytest.mark.parametrize("cut", CUTS)
def test_gradients_reach_the_output_of_the_block(cut):
    unet = CutUNet(UNET, PROMPT, cut, tap=2)
    encoded = unet.encode(noisy(), SIGMA)
    leaf = encoded.bottleneck.clone().requires_grad_(True)
    unet.decode(encoded, leaf, to_tap=True).feature.square().sum().backward()
    assert leaf.grad.abs().sum() > 0 and all(weight.grad is None for weight in UNET.parameters())


@pytest.mark.parametrize(
    ("cut", "tap", "sentence"),
    [
        ("decoder 7", None, "encoder, middle, decoder 0, decoder 1"),
        ("middle", 3, "tap is 3"),
        ("middle", -1, "tap is -1"),
        ("decoder 1", 1, "no block between"),
    ],
)
def test_blocks_that_cannot_be_cut_or_tapped_are_refused(cut, tap, sentence):
    with pytest.raises(DragNoiseError, match=sentence):
        CutUNet(UNET, PROMPT, cut, tap)
