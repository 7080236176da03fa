"""Random models in the shapes of SD 1.5, SD 2.1 and SDXL, narrow enough for a CPU, in the host's own classes."""

import math

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import torch

CONTEXT = 16
# Two levels of one block each; SDXL has its attention at the lower levels, deeper, and a size embedding.
SHAPE = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2], "transformer_depth": [1, 1, 0], "transformer_depth_output": [1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1, "context_dim": CONTEXT, "use_spatial_transformer": True, "legacy": False,
    "use_checkpoint": False, "use_linear_in_transformer": False,
}  # fmt: skip
XL = {
    "transformer_depth": [0, 1, 2], "transformer_depth_output": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
    "adm_in_channels": 2816, "num_classes": "sequential", "use_linear_in_transformer": True,
}  # fmt: skip
# All four levels of SD 1.5, for what is made for them; wide enough for heads of 64 channels.
FOUR_LEVELS = {
    "model_channels": 64, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3,
}  # fmt: skip


class Velocity(comfy.supported_models.SD20):
    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION


FAMILIES = {
    "sd15": (comfy.supported_models.SD15, {}),
    "sd21": (Velocity, {"use_linear_in_transformer": True}),
    "sdxl": (comfy.supported_models.SDXL, XL),
}
MODELS = {**FAMILIES, "sd15 of four levels": (comfy.supported_models.SD15, FOUR_LEVELS)}


def tiny_model(family="sd15", seed=0, dtype=torch.float32, manual_cast=None, channels=SHAPE["model_channels"]):
    """Return a MODEL of random weights."""
    kind, changes = MODELS[family]
    config = kind({**SHAPE, "model_channels": channels, **changes})
    # Heads of 8 channels whatever the family's own.
    config.unet_config.update(num_heads=-1, num_head_channels=8)
    config.set_inference_dtype(dtype, manual_cast)
    model = config.get_model({}, "")
    randomise(model.diffusion_model, seed)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def tiny_vae(seed=0):
    """Return a VAE of random weights, 8 pixels to a latent cell."""
    network = comfy.taesd.taesd.TAESD()
    randomise(network.taesd_encoder, seed)
    randomise(network.taesd_decoder, seed)
    return comfy.sd.VAE(sd={name: value.clone() for name, value in network.state_dict().items()}, dtype=torch.float32)


def tiny_conditioning(seed=0):
    """Return a CONDITIONING that every family accepts."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 1280, generator=generator)
    return [[torch.randn(1, 7, CONTEXT, generator=generator), {"pooled_output": pooled}]]


def randomise(module, seed):
    """Fill a network, whose weights the host leaves as they come from memory, so that signals neither fade nor grow."""
    device = next(module.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                drawn = torch.randn(weight.shape, generator=generator, device=device) / math.sqrt(weight[0].numel())
            else:
                drawn = 0.1 * torch.randn(weight.shape, generator=generator, device=device)
                drawn += float(name.endswith("weight"))
            weight.copy_(drawn)
