"""Nodes that only the tests use: small random models, and hosts' objects that must be refused."""

import comfy.model_sampling
import torch

from .tiny_models import MODELS, tiny_conditioning, tiny_model, tiny_vae


class TestModel:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(MODELS),), "seed": ("INT", {"default": 0})}}

    RETURN_TYPES = ("MODEL", "VAE", "CONDITIONING", "CONDITIONING")
    FUNCTION = "make"
    CATEGORY = "tests"

    def make(self, family, seed):
        return tiny_model(family, seed), tiny_vae(seed), tiny_conditioning(seed), tiny_conditioning(seed + 1)


class TestImage:
    @classmethod
    def INPUT_TYPES(cls):
        sides = {"default": 64, "min": 1}
        return {"required": {"width": ("INT", sides), "height": ("INT", sides), "count": ("INT", {"default": 1})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"
    CATEGORY = "tests"

    def make(self, width, height, count):
        return (torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0)),)


class TestRefused:
    """The tiny model, turned into one of the kinds that cannot be dragged."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "how": (["transformer", "continuous", "lcm", "scaled fp8"],)}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "make"
    CATEGORY = "tests"

    def make(self, model, how):
        model = model.clone()
        if how == "transformer":
            model.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
        elif how == "continuous":
            model.add_object_patch("model_sampling", comfy.model_sampling.ModelSamplingContinuousEDM())
        elif how == "lcm":
            sampling = comfy.model_sampling.ModelSamplingDiscrete()
            sampling.set_sigmas(sampling.sigmas[19::20])
            model.add_object_patch("model_sampling", sampling)
        else:
            model.model.model_config.scaled_fp8 = torch.float8_e4m3fn
            model.model.model_config.optimizations["fp8"] = True
        return (model,)


class TestMeasure:
    """Reports a picture's or latent's shape and sum as text, so that results can be compared over the network."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"image": ("IMAGE",), "latent": ("LATENT",), "mask": ("MASK",)}}

    RETURN_TYPES = ()
    FUNCTION = "measure"
    OUTPUT_NODE = True
    CATEGORY = "tests"

    def measure(self, image=None, latent=None, mask=None):
        tensors = [t for t in (image, mask, latent and latent["samples"]) if t is not None]
        values = [f"{tuple(t.shape)} {float(t.double().mean()):.9f} {float(t.double().std()):.9f}" for t in tensors]
        extra = sorted(latent) if latent else []
        return {"ui": {"text": values, "keys": extra}}


NODE_CLASS_MAPPINGS = {
    f"DragNoiseTesting{name}": kind
    for name, kind in {"Model": TestModel, "Image": TestImage, "Refused": TestRefused, "Measure": TestMeasure}.items()
}
