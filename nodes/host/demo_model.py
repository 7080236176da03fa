"""The demo model in the host's own classes: a first drag without any download."""

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor

from ...dragnoise_core.demo.loader import read_weights
from ...dragnoise_core.demo.networks import PROMPTS
from ...dragnoise_core.demo.scenes import KINDS, render, sample_parameters
from ...dragnoise_core.demo.scenes.drags import example_drags
from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.schedule import BETA_END, BETA_START, TRAIN_STEPS
from .conversions import to_host_image

PREVIEW_SCENES = 16  # pictures from which the preview's colours are fitted


def scene_picture(kind: str, seed: int) -> Tensor:
    """Return the picture of a scene, [1, 3, 256, 256] in [0, 1]; seed 0 is the kind's example drag's source."""
    if seed == 0:
        return example_drags()[kind].source_picture()
    return render(kind, sample_parameters(kind, 1, torch.Generator().manual_seed(seed)))


def load_demo_model():
    """Return (MODEL, VAE, prompts: scene kind to [1, tokens, width]) from the weights that ship with the pack.

    Raises DragNoiseError when a file is missing or does not hold what the model needs.
    """
    unet = read_weights("unet", "cpu")
    table = unet.pop("prompt_embeddings")
    prompts = {kind: table[index : index + 1] for index, kind in enumerate(PROMPTS)}
    vae = demo_vae(read_weights("autoencoder", "cpu"))
    colours = preview_colours(vae)
    model = demo_unet(unet, colours)
    # Newer hosts build the model anew from this where its weights must not be shared, as to train a LoRA.
    model.cached_patcher_init = (_unet_again, (colours,))
    return model, vae, prompts


def _unet_again(colours: tuple[list, list], disable_dynamic: bool = False):
    weights = read_weights("unet", "cpu")
    del weights["prompt_embeddings"]
    return demo_unet(weights, colours, disable_dynamic)


def demo_unet(weights: dict[str, Tensor], colours: tuple[list, list], disable_dynamic: bool = False):
    """Return a MODEL from a diffusers state dict of the demo U-Net's shape.

    colours: (factors [4][3], bias [3]) of the linear preview. disable_dynamic: never with dynamic
    VRAM.
    """
    config = _DemoConfig(_unet_config(weights))
    config.latent_format.latent_rgb_factors, config.latent_format.latent_rgb_factors_bias = colours
    management = comfy.model_management
    device, offload = management.get_torch_device(), management.unet_offload_device()
    dtype = management.unet_dtype(
        model_params=sum(weight.numel() for weight in weights.values()),
        supported_dtypes=config.supported_inference_dtypes,
        weight_dtype=torch.float32,
    )
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, config.supported_inference_dtypes))
    model = config.get_model(weights, "")
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    unknown = sorted(weights.keys() - names.keys())
    mapped = {names[name]: weight for name, weight in weights.items() if name in names}
    given = set(mapped)
    model.load_model_weights(mapped, "")
    # Not before: with dynamic VRAM the host's linear layers have no weights until then.
    expected = set(model.diffusion_model.state_dict())
    wrong = sorted(given ^ expected) or unknown or _of_another_shape(model.diffusion_model)
    if wrong:
        raise DragNoiseError(f"the demo weights do not fit, first at {wrong[0]}; install the pack's files again.")
    # The host's own loaders take the patcher of that name where there is one.
    plain = comfy.model_patcher.ModelPatcher
    patcher = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    return patcher(model.to(offload), load_device=device, offload_device=offload)


def _of_another_shape(network: torch.nn.Module) -> list[str]:
    """Return the linear layers whose weights have not the shape of the layer: with dynamic VRAM the host takes any."""
    linear = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    return [
        name
        for name, module in linear.items()
        if module.weight.shape != (module.out_features, module.in_features)
        or (module.bias is not None and module.bias.shape != (module.out_features,))
    ]


def demo_vae(weights: dict[str, Tensor]) -> comfy.sd.VAE:
    """Return a VAE from a diffusers AutoencoderTiny's state dict with its `scale` and `shift`.

    A model latent is (raw - shift) * scale; the host's class has raw / vae_scale + vae_shift.
    """
    scale, shift = weights["scale"], weights["shift"]
    mapped = {"vae_scale": 1 / scale, "vae_shift": -shift * scale}
    for name, weight in weights.items():
        part, _, rest = name.partition(".layers.")
        number, _, parameter = rest.partition(".")
        if parameter:
            # The host's decoder counts its clamp as layer 0.
            mapped[f"taesd_{part}.{int(number) + (part == 'decoder')}.{parameter}"] = weight
    return comfy.sd.VAE(sd=mapped, dtype=torch.float32)


def preview_colours(vae: comfy.sd.VAE) -> tuple[list, list]:
    """Return the factors [4][3] and bias [3] that turn a latent into a small picture in [-1, 1], by least squares."""
    generator = torch.Generator().manual_seed(0)
    count = PREVIEW_SCENES // len(KINDS)
    pictures = torch.cat([render(kind, sample_parameters(kind, count, generator)) for kind in KINDS])
    latents = vae.encode(to_host_image(pictures))
    small = torch.nn.functional.adaptive_avg_pool2d(pictures, latents.shape[-2:]) * 2 - 1
    cells = latents.movedim(1, -1).reshape(-1, latents.shape[1]).cpu().float()
    known = torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
    solution = torch.linalg.lstsq(known, small.movedim(1, -1).reshape(-1, 3)).solution
    return solution[:-1].tolist(), solution[-1].tolist()


class _DemoLatent(comfy.latent_formats.LatentFormat):
    scale_factor = 1.0
    latent_channels = 4


class _DemoConfig(comfy.supported_models_base.BASE):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 32}
    latent_format = _DemoLatent
    # The host's "linear" is linear in the square root, Stable Diffusion's own.
    sampling_settings = {
        "beta_schedule": "linear", "linear_start": BETA_START, "linear_end": BETA_END, "timesteps": TRAIN_STEPS
    }  # fmt: skip
    memory_usage_factor = 1.0
    supported_inference_dtypes = [torch.float32]


class _Multiple:
    """A level's channels as a multiple of the first level's; the host multiplies, and needs whole numbers."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def __mul__(self, _: int) -> int:
        return self.channels

    __rmul__ = __mul__


def _unet_config(weights: dict[str, Tensor]) -> dict:
    """Return the host's U-Net configuration, read off a diffusers state dict's names and shapes."""
    levels = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("down_blocks."))
    widths = [weights[f"down_blocks.{level}.resnets.0.conv2.weight"].shape[0] for level in range(levels)]
    layers = 1 + max(int(name.split(".")[3]) for name in weights if name.startswith("down_blocks.0.resnets."))
    attention = [int(f"down_blocks.{level}.attentions.0.norm.weight" in weights) for level in range(levels)]
    context = weights["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    return {
        "image_size": 32,
        "in_channels": weights["conv_in.weight"].shape[1],
        "out_channels": weights["conv_out.weight"].shape[0],
        "model_channels": widths[0],
        "num_res_blocks": [layers] * levels,
        "channel_mult": [_Multiple(width) for width in widths],
        "transformer_depth": [depth for depth in attention for _ in range(layers)],
        "transformer_depth_output": [depth for depth in attention for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": context,
        "use_spatial_transformer": True,
        "legacy": False,
        "use_checkpoint": False,
    }
