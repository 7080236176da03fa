"""SplitUNet over ComfyUI's UNetModel. The gradient recipe lives here alone.

The host runs a prompt in inference mode, and its weights are inference tensors, which autograd refuses to save. So the
host's own forward pass (loading, hooks, ControlNet, LoRA) runs as it always does and is only listened to; then the
decoder runs from what was heard, outside inference mode, with every weight replaced by a stand-in over the same
storage that needs no gradient. The shared model gets its own weights back before anybody else sees it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, Upsample, forward_timestep_embed
from comfy.model_sampling import EPS
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ..dragnoise_core.errors import DragNoiseError
from ..dragnoise_core.split_unet import Decoded, Encoded

KEY = "dragnoise"


def tap_index(unet: UNetModel) -> int:
    """Return the index of the last output block that upsamples. Raises DragNoiseError when none does."""
    upsampling = [
        index for index, block in enumerate(unet.output_blocks) if any(isinstance(layer, Upsample) for layer in block)
    ]
    if not upsampling:
        raise DragNoiseError("this U-Net never upsamples, so it has no bottleneck to drag; use SD 1.x, SD 2.x or SDXL.")
    return upsampling[-1]


def middle_residual(control: dict[str, list] | None) -> Tensor | None:
    """Return what ControlNet is about to add to the middle block's output, or None."""
    residuals = (control or {}).get("middle")
    return residuals[-1] if residuals else None


class ComfySplitUNet:
    """A loaded model's U-Net cut at its middle block, as the host's guider runs it with the positive conditioning.

    guider: inside its `sample` call. extra_args: what the host gave the sampler. The bottleneck is the middle
    block's own output: a ControlNet's middle residual is taken off it and added again when decoding.
    """

    def __init__(self, guider, extra_args: dict[str, Any]) -> None:
        self.guider = guider
        self.extra_args = extra_args
        self.model_sampling = guider.inner_model.model_sampling
        self.stand_ins: dict[torch.nn.Parameter, torch.nn.Parameter] = {}

    def encode(self, x: Tensor, sigma: float) -> Encoded:
        """See SplitUNet. Runs the host's whole model once, in inference mode, and keeps what the decoder needs.

        Raises DragNoiseError when several conditionings or a part of the picture only are active at `sigma`.
        """
        heard = _Heard(x)
        options = comfy.model_patcher.create_model_options_clone(self.extra_args["model_options"])
        add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, heard.listen, options, is_model_options=True)
        with torch.inference_mode():
            self.guider(x, x.new_full((len(x),), sigma), model_options=options, seed=self.extra_args.get("seed"))
        if heard.unet is None:
            raise DragNoiseError(
                f"no conditioning is active at sigma {sigma:.3f}; give the prompt for the whole sampling range."
            )
        bottleneck = heard.bottleneck.to(torch.promote_types(heard.bottleneck.dtype, torch.float32))
        if heard.residual is not None:
            bottleneck = bottleneck - heard.residual
        return Encoded(bottleneck, _State(x, sigma, heard))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet. Runs the host's output blocks on copies of what `encode` kept."""
        heard = encoded.state.heard
        unet = heard.unet
        options = dict(heard.options)
        with self._differentiable(heard):
            hidden = bottleneck.to(heard.bottleneck.dtype).clone()
            if heard.residual is not None:
                hidden = hidden + heard.residual
            feature = None
            last = tap_index(unet)
            for index, block in enumerate(unet.output_blocks):
                options["block"] = ("output", index)
                hidden, skip = heard.patched(hidden, heard.skips[index], options)
                following = heard.skips[index + 1].shape if index + 1 < len(heard.skips) else None
                joined = torch.cat([hidden, skip], dim=1)
                hidden = forward_timestep_embed(block, joined, heard.embedding, heard.context, options, following)
                if index == last:
                    feature = hidden
                    if to_tap:
                        return Decoded(feature, None)
            return Decoded(feature, self._epsilon(unet.out(hidden.to(heard.dtype)).float(), encoded.state))

    def _epsilon(self, output: Tensor, state: "_State") -> Tensor:
        sampling = self.model_sampling
        if type(sampling).calculate_denoised is EPS.calculate_denoised:
            return output
        sigma = state.x.new_full((len(state.x),), state.sigma)
        return (state.x - sampling.calculate_denoised(sigma, output, state.x)) / state.sigma

    @contextlib.contextmanager
    def _differentiable(self, heard: "_Heard") -> Iterator[None]:
        """Leave inference mode, gradients as the caller has them: leaving alone would turn them on."""
        gradient = torch.is_grad_enabled()
        tensors = _NormalTensors() if heard.foreign_tensors else contextlib.nullcontext()
        with torch.inference_mode(False), torch.set_grad_enabled(gradient), self._without_gradient(heard.unet), tensors:
            yield

    @contextlib.contextmanager
    def _without_gradient(self, unet: UNetModel) -> Iterator[None]:
        """Put gradient-free stand-ins in place of the decoder's weights; whatever happens, the weights come back."""
        replaced = []
        try:
            for root in (unet.output_blocks, unet.out):
                for module in root.modules():
                    for name, weight in module._parameters.items():
                        # Quantised tensor subclasses make a new tensor on every use and need no stand-in.
                        if type(weight) in (torch.nn.Parameter, Tensor):
                            replaced.append((module, name, weight))
                            module._parameters[name] = self._stand_in(weight)
            yield
        finally:
            for module, name, weight in replaced:
                module._parameters[name] = weight

    def _stand_in(self, weight: Tensor) -> torch.nn.Parameter:
        """Return a normal tensor over the weight's own storage: no copy, no gradient, no trace of inference mode."""
        known = self.stand_ins.get(weight)
        if known is None or known.data_ptr() != weight.data_ptr():
            known = self.stand_ins[weight] = torch.nn.Parameter(_alias(weight), requires_grad=False)
        return known


class WholeUNet:
    """The host's model as a SplitUNet that is asked for its own epsilon only, as DDIM inversion does.

    Every part of the host's prediction counts: several conditionings, areas, guidance functions.
    """

    def __init__(self, guider, extra_args: dict[str, Any]) -> None:
        self.guider = guider
        self.extra_args = extra_args

    def encode(self, x: Tensor, sigma: float) -> Encoded:
        """Keep epsilon as the state; no bottleneck is cut out."""
        with torch.inference_mode():
            denoised = self.guider(x, x.new_full((len(x),), sigma), **self.extra_args)
        return Encoded(x.new_empty(0), (x - denoised) / sigma)

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """Return the epsilon that `encode` found."""
        return Decoded(bottleneck, encoded.state)


@dataclass(frozen=True, eq=False)
class _State:
    x: Tensor
    sigma: float
    heard: "_Heard"


class _Heard:
    """What one run of the host's U-Net tells about its decoder's inputs, as copies that autograd accepts."""

    def __init__(self, latent: Tensor) -> None:
        self.latent = latent
        self.unet: UNetModel | None = None
        self.skips: list[Tensor] = []

    def listen(self, executor, x, timesteps, context, y, control, transformer_options, **others) -> Tensor:
        """Wrap the host's U-Net call: the same call, with our two listeners among the model patches."""
        if x.shape[-2:] != self.latent.shape[-2:]:
            raise DragNoiseError(
                f"the prompt covers {tuple(x.shape[-2:])} of the latent's {tuple(self.latent.shape[-2:])} cells; "
                "drag with a prompt for the whole picture."
            )
        if self.unet is not None and transformer_options["uuids"] == self.prompts:
            return executor(x, timesteps, context, y, control, transformer_options, **others)  # guidance, once more
        if self.unet is not None or len(x) != len(self.latent):
            raise DragNoiseError(
                "several prompts are active at once; join them into one, for instance with Conditioning (Concat)."
            )
        self.unet = executor.class_obj
        self.prompts = transformer_options["uuids"]
        self.dtype = x.dtype
        self.context = _copy(context)
        self.residual = _copy(middle_residual(control))
        patches = dict(transformer_options.get("patches", {}))
        # Ours comes first: the decoder is given what the other patches get to see, and runs them itself.
        self.foreign_tensors = (
            any(patches.values())
            or any(transformer_options.get("patches_replace", {}).values())
            or any(map(_makes_weights, self.unet.output_blocks.modules()))
        )
        self.patches = patches.get("output_block_patch", [])
        patches["output_block_patch"] = [self._keep_block, *self.patches]
        patches["emb_patch"] = [*patches.get("emb_patch", []), self._keep_embedding]
        options = {**transformer_options, "patches": patches}
        output = executor(x, timesteps, context, y, control, options, **others)
        if self.unet.num_classes is not None:
            self.embedding = _copy(self.embedding + self.unet.label_emb(y))
        return output

    def _keep_embedding(self, embedding: Tensor, channels: int, options: dict) -> Tensor:
        self.embedding = _copy(embedding)
        return embedding

    def _keep_block(self, hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        if options["block"] == ("output", 0):
            self.bottleneck = _copy(hidden)
            patches = {**options["patches"], "output_block_patch": self.patches}
            # Not every backend of attention has a backward pass; PyTorch's has, everywhere.
            self.options = {**options, "patches": patches, "optimized_attention_override": _differentiable_attention}
        self.skips.append(_copy(skip))
        return hidden, skip

    def patched(self, hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        """Return what the other nodes' patches make of a block's inputs; they may write into what they get."""
        if self.patches:
            hidden, skip = hidden.clone(), skip.clone()
        for patch in self.patches:
            hidden, skip = patch(hidden, skip, options)
        return hidden, skip


class _NormalTensors(TorchFunctionMode):
    """Shows every operation aliases in place of inference tensors: patches and weight functions bring theirs along.

    It makes an iteration about a third slower, so it is on only where there are such.
    """

    def __torch_function__(self, function, types, arguments=(), options=None):
        arguments, options = tree_map(_normal, (arguments, options or {}))
        return function(*arguments, **options)


def _makes_weights(module: torch.nn.Module) -> bool:
    # `_v`: hosts with dynamic memory keep a module's loaded weights outside its parameters.
    return (
        bool(getattr(module, "weight_function", ()))
        or bool(getattr(module, "bias_function", ()))
        or hasattr(module, "_v")
    )


def _normal(value: Any) -> Any:
    return _alias(value) if isinstance(value, Tensor) and value.is_inference() else value


def _alias(tensor: Tensor) -> Tensor:
    """Return a normal tensor over the same storage, without gradient."""
    with torch.no_grad():
        alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def _copy(tensor: Tensor | None) -> Tensor | None:
    """Return a copy that is no inference tensor."""
    with torch.inference_mode(False), torch.no_grad():
        return None if tensor is None else tensor.clone()


def _differentiable_attention(attention, *arguments, **options):
    return attention_pytorch(*arguments, **options)
