"""The core inside the host's own sampling: its guider, loading, hooks and conditioning around our loop."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.ops
import comfy.samplers
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...dragnoise_core.draggable import check_conditions, check_not_refiner, check_unet_kind
from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.progress import Callback, Progress
from ...dragnoise_core.schedule import TRAIN_STEPS, check_sigmas, to_variance_preserving
from .comfy_unet import KEY, ComfySplitUNet, WholeUNet, tap_index
from .guests import names_of
from .model_facts import own_sampling, unet_of
from .plain_unet import AUTOMATIC, HeldGraphs, PlainComfyUNet, Speed, is_plain
from .resident_weights import check_weights, told_what_to_do

# Set in a model's transformer options by DragNoise Apply.
EDITED = "dragnoise_edited"
# Wrappers of other nodes that skip or compile the U-Net: to be listened to, it must run, and as Python.
SKIPPED_WRAPPERS = ("torch.compile", "easycache", "lazycache")
# The decoder's activations stay in memory until the backward pass; the host's estimate is for inference.
MEMORY_FACTOR = 3

Body = Callable[[Any, Tensor, Tensor], Any]
# Makes a SplitUNet from the guider and what the host gives a sampler; what must outlive it goes onto the stack.
Adapter = Callable[[Any, dict, ExitStack], Any]


class Entry(NamedTuple):
    """The host's sampling under way: its guider, with the model loaded and the prompt prepared, and what it gave."""

    guider: Any
    extra_args: dict


def check_model(model) -> None:
    """Raise DragNoiseError, naming the reason, for a model that cannot be dragged or carries an edit already."""
    check_kind(model)
    if model.model_options.get("transformer_options", {}).get(EDITED):
        raise DragNoiseError("the model carries an edit already; connect the model from before DragNoise Apply.")


def check_kind(model) -> None:
    """Raise DragNoiseError, naming the reason, for a kind of model that cannot be dragged."""
    name = type(model.model).__name__
    unet = unet_of(model.get_model_object("diffusion_model"))
    if not isinstance(unet, UNetModel) or unet.use_temporal_resblocks:
        raise DragNoiseError(
            f"{name} runs {type(unet).__name__}, which is no picture U-Net with a bottleneck; "
            "use a model of the kind SD 1.x, SD 2.x or SDXL."
        )
    tap_index(unet)
    check_unet_kind(name, in_channels=unet.in_channels, has_middle=unet.middle_block is not None)
    check_not_refiner(name, isinstance(model.model, comfy.model_base.SDXLRefiner))
    check_conditions(name, only_prompts=unet.num_classes is None or isinstance(model.model, comfy.model_base.SDXL))
    sampling = own_sampling(model)
    who, remedy = name, f"use a model with {TRAIN_STEPS} timesteps: SD 1.x, 2.x or SDXL"
    if "model_sampling" in model.object_patches:
        who, remedy = names_of([sampling]), "connect the model from before it"
    if not isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete):
        raise DragNoiseError(f"{who} samples with a continuous schedule; {remedy}.")
    if len(sampling.sigmas) != TRAIN_STEPS:
        raise DragNoiseError(
            f"{who} has a table of {len(sampling.sigmas)} noise levels, and {TRAIN_STEPS} are needed; {remedy}."
        )
    config = model.model.model_config
    # Not getattr: newer hosts lack this setting and log that somebody asked for it.
    scaled = vars(config).get("scaled_fp8") is not None and config.optimizations.get("fp8")
    if scaled or any(map(_multiplies_in_fp8, unet.modules())):
        raise DragNoiseError(f"{name} multiplies in fp8, which has no gradient; load it without the fp8 matrix option.")
    check_weights(unet, name)


def _multiplies_in_fp8(layer: torch.nn.Module) -> bool:
    return isinstance(layer, comfy.ops.fp8_ops.Linear) and layer.weight.dtype == torch.float8_e4m3fn


def noise_table(model) -> Tensor:
    """Return the model's noise levels, ascending, [1000], on the CPU."""
    return own_sampling(model).sigmas.detach().float().cpu().clone()


def check_levels(sigmas: Tensor, model) -> None:
    """Raise DragNoiseError when `sigmas` do not descend or have levels that this model was not trained for."""
    check_sigmas(sigmas)
    table = noise_table(model)
    low, high = float(table[0]), float(table[-1])
    levels = sigmas[sigmas > 0]
    if levels.max() > high * 1.001 or levels.min() < low * 0.5:
        raise DragNoiseError(
            f"the sigmas go from {float(sigmas.max()):.3f} to {float(sigmas.min()):.3f}, this model's levels from "
            f"{high:.3f} to {low:.3f}; take the sigmas from DragNoise Invert or a scheduler of the same model."
        )


def enter_with(model, positive, samples: Tensor, sigmas: Tensor, work: Callable[[Entry], Any]) -> Any:
    """Run `work(entry)` inside the host's sampling; return what it returns.

    What is run with that entry there shares it: the host prepares the model once, with room for the backward pass.
    """

    def adapter(guider, extra_args: dict, stay: ExitStack) -> Entry:
        return Entry(guider, extra_args)

    sampler = CoreSampler(adapter, lambda entry, latent, sigmas: work(entry))
    _run(_with_room(_listenable(model)), positive, samples, sigmas, sampler)
    return sampler.result


def invert_with(
    model, positive, samples: Tensor, sigmas: Tensor, body: Body, speed: Speed = AUTOMATIC, entry: Entry | None = None
) -> Any:
    """Run `body(unet, latent, sigmas)` inside the host's sampling; return what it returns.

    unet: a WholeUNet, or a PlainComfyUNet where that is the same. samples: as the host scales latents; the body gets
    model units. entry: of `enter_with`, with this model and prompt.
    """

    def adapter(guider, extra_args: dict, stay: ExitStack) -> WholeUNet:
        return WholeUNet(guider, extra_args)

    return _run_core(_listenable(model), positive, samples, sigmas, adapter, body, speed, entry)


def drag_with(
    model,
    positive,
    samples: Tensor,
    sigmas: Tensor,
    body: Body,
    speed: Speed = AUTOMATIC,
    entry: Entry | None = None,
    gradient: bool = True,
) -> Any:
    """As `invert_with`, on a ComfySplitUNet, with room in memory for the backward pass.

    gradient: the body needs one, so the decoder's weights stay in GPU memory throughout.
    """

    def adapter(guider, extra_args: dict, stay: ExitStack) -> ComfySplitUNet:
        return ComfySplitUNet(guider, extra_args, stay if gradient else None, speed.low_memory)

    model = _with_room(_listenable(model))
    return _run_core(model, positive, samples, sigmas, adapter, body, speed, entry, gradient)


def runs_plainly(model, positive) -> bool:
    """Return whether `drag_with` may run the model without the host's guider, as nothing but one prompt takes part."""
    return is_plain(_listenable(model), positive)


def _with_room(model):
    """Have a clone loaded with room for the backward pass; return it."""
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _reserve_for_backward)
    return model


def _reserve_for_backward(executor, model, noise_shape, *arguments, **others):
    """Let the host load the model once, with room for a batch MEMORY_FACTOR times as large.

    For that it unloads other models and keeps some of this one's weights off the GPU. With dynamic VRAM, all weights
    but the pinned ones make room for whatever is computed anyway.
    """
    return executor(model, [MEMORY_FACTOR * noise_shape[0], *noise_shape[1:]], *arguments, **others)


def denoise(
    model,
    positive,
    samples: Tensor,
    sigmas: Tensor,
    *,
    negative=None,
    cfg: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Return the latent at the last of `sigmas` by DDIM steps of the host's own Euler sampler.

    [1, C, h, w] as the host scales it: clean where the sigmas go down to the model's lowest level, else noisy.
    """
    total = len(sigmas) - 1

    def report(step: int, clean: Tensor, x: Tensor, _: int) -> None:
        callback(Progress("sampling", step + 1, total, lambda: clean))

    sampler = comfy.samplers.sampler_object("euler")
    end = _run(model, positive, samples, sigmas, sampler, negative, cfg, report if callback else None)
    if sigmas[-1] > noise_table(model)[0] * 1.001:
        return end
    latent_format = model.get_model_object("latent_format")
    clean = to_variance_preserving(latent_format.process_in(end), float(sigmas[-1]))
    return latent_format.process_out(clean)


class CoreSampler(comfy.samplers.Sampler):
    """Runs a function of the core where the host expects a sampler, and keeps what it returns as `result`.

    Outside inference mode, so that the function may use gradients; the host's model calls go back into it.
    """

    def __init__(self, adapter: Adapter, body: Body) -> None:
        self.adapter = adapter
        self.body = body

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ) -> Tensor:
        """Called by the host's guider with the model loaded; latent_image is in model units."""
        with torch.inference_mode(False), torch.no_grad(), told_what_to_do(), ExitStack() as stay:
            unet = self.adapter(model_wrap, extra_args, stay)
            self.result = self.body(unet, latent_image.clone(), sigmas.clone())
        return latent_image


def _listenable(model):
    """Return a clone whose U-Net always runs, and as Python. Both hold the same graphs."""
    HeldGraphs.of(model)
    clone = model.clone()
    for wrappers in clone.wrappers.values():
        for key in SKIPPED_WRAPPERS:
            wrappers.pop(key, None)
    clone.model_options.pop("torch_compile_kwargs", None)
    return clone


def _run_core(
    model, positive, samples, sigmas, adapter: Adapter, body: Body, speed: Speed, entry: Entry | None, gradient=False
) -> Any:
    """Run the body on a PlainComfyUNet, as fast as possible, where that does the same; else on the adapter."""
    held, plain = HeldGraphs.of(model), is_plain(model, positive)
    shape = list(samples.shape)
    room = model.model.memory_required([(MEMORY_FACTOR if gradient else 1) * shape[0], *shape[1:]])
    room += comfy.model_management.minimum_inference_memory()

    def choose(guider, extra_args: dict, stay: ExitStack) -> Any:
        if not plain or not PlainComfyUNet.fits(guider):
            return adapter(guider, extra_args, stay)
        unet = PlainComfyUNet(guider, extra_args, speed.low_memory)
        return held.accelerate(unet, speed, stay, room, gradient)

    sampler = CoreSampler(choose, body)
    if entry is None:
        _run(model, positive, samples, sigmas, sampler)
    else:
        there = samples.to(model.load_device, torch.float32)
        latent = model.get_model_object("latent_format").process_in(there)
        sampler.sample(entry.guider, sigmas.to(there.device), entry.extra_args, None, None, latent)
    return sampler.result


def _run(model, positive, samples, sigmas, sampler, negative=None, cfg=1.0, callback=None) -> Tensor:
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive} if negative is None else {"positive": positive, "negative": negative})
    guider.set_cfg(1.0 if negative is None else cfg)
    noise = torch.zeros_like(samples)
    quiet = not comfy.utils.PROGRESS_BAR_ENABLED
    result = guider.sample(noise, samples, sampler, sigmas, callback=callback, disable_pbar=quiet)
    return result.to(comfy.model_management.intermediate_device())
