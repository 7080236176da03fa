"""Facts about a MODEL of the host that it does not simply state."""

import torch
from comfy.patcher_extension import WrappersMP

# The kinds of wrappers around a step and around the U-Net in it.
STEP_WRAPPERS = (
    WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL,
)  # fmt: skip


def unet_of(network: torch.nn.Module) -> torch.nn.Module:
    """Return the U-Net itself where `torch.compile` has been around it."""
    return getattr(network, "_orig_mod", network)


def inference_dtype(model) -> torch.dtype:
    """Return the dtype that a BaseModel computes in."""
    return model.manual_cast_dtype or model.get_dtype()


def own_sampling(model) -> torch.nn.Module:
    """Return a MODEL's kind of prediction with its own noise levels, made anew from its settings where needed.

    A host with dynamic VRAM may restore saved buffers into another object than they came from: once a model has
    sampled with a ModelSamplingDiscrete node and then without, the noise levels of one are in the other.
    """
    sampling = model.get_model_object("model_sampling")
    if not (hasattr(model, "is_dynamic") and model.is_dynamic()):
        return sampling
    return type(sampling)(model.model.model_config, zsnr=sampling.zsnr)
