"""The cut U-Net against the whole one, for the structures of SD 1.5, SD 2.1 and SDXL."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.schedule import scaled_linear_sigmas
from dragnoise_core.split_unet import evaluate
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

ATTENTION_DOWN = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "down_block_types": ATTENTION_DOWN}
SD21 = {
    "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True, "down_block_types": ATTENTION_DOWN,
}  # fmt: skip
SDXL = {
    "sample_size": 128, "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
# The same structures, a tenth as wide.
NARROW = {
    "sd15": {**SD15, "block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 24},
    "sd21": {**SD21, "block_out_channels": (32, 64, 128, 128), "attention_head_dim": (1, 2, 4, 4),
             "cross_attention_dim": 24},
    "sdxl": {**SDXL, "block_out_channels": (32, 64, 128), "attention_head_dim": (1, 2, 4), "cross_attention_dim": 24,
             "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 20 + 6 * 8},
}  # fmt: skip


def build(name):
    torch.manual_seed(0)
    return UNet2DConditionModel(**NARROW[name]).eval().requires_grad_(False)


def conditions(config, pooled):
    torch.manual_seed(1)
    embedding = torch.randn(1, 5, config["cross_attention_dim"])
    if "addition_embed_type" not in config:
        return embedding, None
    return embedding, {"text_embeds": torch.randn(1, pooled), "time_ids": torch.tensor([[512, 384, 0, 0, 512, 384]])}


def repeated(added, rows):
    return {name: value.float().expand(rows, -1) for name, value in added.items()} if added else None


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (35, 27), (9, 40)])
@pytest.mark.parametrize("name", NARROW)
def test_encoding_then_decoding_is_the_whole_unet(name, size, rows):
    unet = build(name)
    embedding, added = conditions(NARROW[name], 20)
    table, timestep = scaled_linear_sigmas(), 681
    sigma = float(table[timestep])
    x = torch.randn(rows, 4, *size) * sigma
    wanted = unet(
        x / math.sqrt(1 + sigma**2), timestep, encoder_hidden_states=embedding.expand(rows, -1, -1),
        added_cond_kwargs=repeated(added, rows),
    ).sample  # fmt: skip
    found = evaluate(DiffusersSplitUNet(unet, embedding, added_conditions=added), x, sigma).epsilon
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NARROW)
def test_to_the_tap_is_the_same_feature_and_no_more(name):
    unet = build(name)
    embedding, added = conditions(NARROW[name], 20)
    split = DiffusersSplitUNet(unet, embedding, added_conditions=added)
    encoded = split.encode(torch.randn(1, 4, 16, 24), 1.0)
    tap, full = (split.decode(encoded, encoded.bottleneck, to_tap=to_tap) for to_tap in (True, False))
    assert tap.epsilon is None and full.epsilon.shape == (1, 4, 16, 24)
    assert torch.equal(tap.feature, full.feature) and tap.feature.shape[-2:] == (16, 24)


@pytest.mark.parametrize("name", NARROW)
def test_without_the_middle_block_the_decoder_gets_the_same(name):
    unet, runs = build(name), []
    unet.mid_block.register_forward_hook(lambda *_: runs.append(name))
    embedding, added = conditions(NARROW[name], 20)
    split = DiffusersSplitUNet(unet, embedding, added_conditions=added)
    x = torch.randn(1, 4, 16, 24)
    without, whole = (split.encode(x, 1.0, middle=middle) for middle in (False, True))
    assert len(runs) == 1
    assert (without.bottleneck.shape, without.bottleneck.dtype) == (whole.bottleneck.shape, whole.bottleneck.dtype)
    found, wanted = (split.decode(encoded, whole.bottleneck, to_tap=False).epsilon for encoded in (without, whole))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("timestep", [1, 301, 681, 981])
def test_v_prediction_gives_the_epsilon_of_diffusers_scheduler(timestep):
    unet = build("sd21")
    embedding, _ = conditions(NARROW["sd21"], 0)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False,
    )  # fmt: skip
    scheduler.set_timesteps(50)
    sigma = float(scaled_linear_sigmas()[timestep])
    z = torch.randn(1, 4, 16, 16)
    output = unet(z, timestep, encoder_hidden_states=embedding).sample
    clean = scheduler.step(output, timestep, z).pred_original_sample
    x = z * math.sqrt(1 + sigma**2)
    found = evaluate(DiffusersSplitUNet(unet, embedding, prediction_type="v_prediction"), x, sigma).epsilon
    torch.testing.assert_close(x - sigma * found, clean, rtol=1e-4, atol=1e-4 * max(1, sigma))


@pytest.mark.parametrize(
    ("config", "pooled", "latent", "bottleneck", "feature"),
    [
        (SD15, 0, (64, 64), (1280, 8, 8), (640, 64, 64)),
        (SD15, 0, (60, 44), (1280, 8, 6), (640, 60, 44)),
        (SD21, 0, (96, 96), (1280, 12, 12), (640, 96, 96)),
        (SDXL, 1280, (128, 128), (1280, 32, 32), (640, 128, 128)),
    ],
)
def test_shapes_at_full_width(config, pooled, latent, bottleneck, feature):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).eval().requires_grad_(False)
        x = torch.randn(1, 4, *latent)
    embedding, added = conditions(config, pooled)
    split = DiffusersSplitUNet(unet, embedding, added_conditions=added)
    encoded = split.encode(x, 3.0)
    decoded = split.decode(encoded, encoded.bottleneck, to_tap=False)
    assert encoded.bottleneck.shape == (1, *bottleneck) and encoded.bottleneck.dtype == torch.float32
    assert decoded.feature.shape == (1, *feature) and decoded.epsilon.shape == x.shape


def test_gradients_reach_the_bottleneck_and_no_weight():
    unet = build("sdxl")
    embedding, added = conditions(NARROW["sdxl"], 20)
    split = DiffusersSplitUNet(unet, embedding, added_conditions=added)
    encoded = split.encode(torch.randn(1, 4, 16, 16), 1.0)
    leaf = encoded.bottleneck.clone().requires_grad_(True)
    split.decode(encoded, leaf, to_tap=True).feature.square().sum().backward()
    assert leaf.grad.abs().sum() > 0 and all(weight.grad is None for weight in unet.parameters())


def test_other_predictions_are_refused():
    with pytest.raises(DragNoiseError, match="predicts 'sample'"):
        DiffusersSplitUNet(build("sd15"), torch.zeros(1, 5, 24), prediction_type="sample")
