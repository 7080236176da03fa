"""What other nodes put on a MODEL or a prompt, and whether a drag can go on from the U-Net's decoder with it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.finite import check_finite
from .model_facts import STEP_WRAPPERS, own_sampling

# Functions of a model's options that change what the U-Net has predicted, or take the place of its calls.
GUIDANCE = (
    "sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function", "sampler_calc_cond_batch_function",
)  # fmt: skip
PARTS = {"area": "Conditioning (Set Area)", "mask": "Conditioning (Set Mask)"}
DIFFERENT = 0.05  # of the prediction's norm; half precision and other attention stay below


def check_prompts(model, positive, sigmas: Tensor) -> None:
    """Raise DragNoiseError unless at every level exactly one prompt is active, and that for the whole picture."""
    sampling = own_sampling(model)
    for _, options in positive:
        for key, node in PARTS.items():
            if key in options:
                raise DragNoiseError(
                    f"a prompt covers only a part of the picture, {node}; drag with one for all of it."
                )
    ends = (("start_percent", 0.0), ("end_percent", 1.0))
    ranges = [[sampling.percent_to_sigma(options.get(*end)) for end in ends] for _, options in positive]
    for sigma in sigmas[:-1].tolist():
        active = sum(start >= sigma >= end for start, end in ranges)
        if active > 1:
            raise DragNoiseError(
                f"{active} prompts are active at once; join them into one, for instance with Conditioning (Concat)."
            )
        if not active:
            raise DragNoiseError(
                f"no conditioning is active at sigma {sigma:.3f}; give the prompt for the whole sampling range."
            )


def check_guidance(model) -> None:
    """Raise DragNoiseError, naming the node, where one changes the prediction after the U-Net."""
    found = [function for kind in GUIDANCE for function in _functions(model.model_options.get(kind))]
    if found:
        raise DragNoiseError(
            f"{names_of(found)} changes the prediction after the U-Net, as guidance does, and a drag has none; connect "
            "the model from before it, and put it after DragNoise Apply, for a sampler with a negative prompt."
        )


# What a guest may raise on a model that it was not made for.
MISPLACED = (TypeError, ValueError, LookupError, AttributeError, RuntimeError)


def check_decoder(unet, latent: Tensor, sigmas: Tensor) -> None:
    """Raise DragNoiseError, naming the guests, unless the decoder continues the host's own run of the U-Net.

    unet: a ComfySplitUNet. Tried at the first and the last level of `sigmas`: some guests act at some levels only.
    """
    try:
        _compare_decoder(unet, latent, sigmas)
    except (DragNoiseError, torch.OutOfMemoryError):
        raise
    except MISPLACED as error:
        raise DragNoiseError(
            f"{guests_of(unet.guider.model_patcher)} does not run on this model ({type(error).__name__}: {error}); "
            "connect the model from before it."
        ) from error


def _compare_decoder(unet, latent: Tensor, sigmas: Tensor) -> None:
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0)).to(latent)
    shapes = []
    for sigma in (float(sigmas[0]), float(sigmas[-2])):
        x = latent + sigma * noise
        encoded = unet.encode(x, sigma)
        shapes.append(tuple(encoded.bottleneck.shape[-2:]))
        if shapes[0] != shapes[-1]:
            raise DragNoiseError(
                f"{guests_of(unet.guider.model_patcher)} gives the bottleneck {_size(shapes[0])} cells at the first "
                f"noise level and {_size(shapes[-1])} at the last; connect the model from before it."
            )
        own = unet.decode(encoded, encoded.bottleneck, to_tap=False).epsilon
        whole = _epsilon(unet, x, sigma)
        allowed = DIFFERENT * whole.norm()
        if not (own - whole).norm() <= allowed:
            # Guests that draw at random differ from themselves.
            allowed = 2 * max((_epsilon(unet, x, sigma) - whole).norm() for _ in range(4))
        if not (own - whole).norm() <= allowed:
            raise DragNoiseError(
                f"{guests_of(unet.guider.model_patcher)} changes the prediction where a drag, which runs the U-Net's "
                "decoder alone, cannot follow; connect the model from before it."
            )


def _epsilon(unet, x: Tensor, sigma: float) -> Tensor:
    with torch.inference_mode():
        denoised = unet.guider(x, x.new_full((len(x),), sigma), **unet.extra_args)
        return check_finite((x - denoised) / sigma, "the U-Net")


def guests_of(model) -> str:
    """Return the names of the nodes that have put something on the MODEL."""
    options = model.model_options.get("transformer_options", {})
    found = list(_functions(model.model_options.get("model_function_wrapper")))
    for patches in options.get("patches", {}).values():
        found += patches
    for replacements in options.get("patches_replace", {}).values():
        found += replacements.values()
    for kind in STEP_WRAPPERS:
        found += model.get_all_wrappers(kind)
    return names_of(found) if found else "another node"


def _functions(value: Any) -> Iterator[Callable]:
    yield from value if isinstance(value, list) else [] if value is None else [value]


def names_of(functions: list[Any]) -> str:
    """Return whose the functions are: nodes patch with functions and classes of their own methods, or with objects."""
    paths = [getattr(function, "__qualname__", type(function).__qualname__) for function in functions]
    return " with ".join(dict.fromkeys(path.split(".")[0] for path in paths))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
