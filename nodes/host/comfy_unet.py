"""SplitUNet over ComfyUI's UNetModel. The gradient recipe lives here alone.

The host runs a prompt in inference mode, and its weights are inference tensors, which autograd refuses to save. So the
host's own forward pass (loading, hooks, ControlNet, LoRA) runs as it always does and is only listened to; then the
decoder runs from what was heard, outside inference mode, with every weight replaced by a stand-in over the same
storage that needs no gradient. The shared model gets its own weights back before anybody else sees it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import comfy.model_patcher
import torch
from comfy.ldm.modules.attention import SpatialTransformer, attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, Upsample, forward_timestep_embed
from comfy.model_sampling import EPS
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...dragnoise_core.errors import DragNoiseError
from ...dragnoise_core.split_unet import Decoded, Encoded
from .frozen_weights import FrozenWeights, makes_weights, normal_copy
from .guests import guests_of
from .model_facts import inference_dtype, own_sampling, unet_of

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

    guider: inside its `sample` call. extra_args: what the host gave the sampler. low_memory: compute activations again
    for the gradient instead of keeping them. stay: keeps the decoder's weights where they are until it is closed, as
    gradients need; None where nobody asks for one. The bottleneck is the middle block's own output: a ControlNet's
    middle residual is taken off it and added again when decoding.
    """

    def __init__(
        self, guider, extra_args: dict[str, Any], stay: ExitStack | None = None, low_memory: bool = False
    ) -> None:
        self.guider = guider
        self.extra_args = extra_args
        self.low_memory = low_memory
        self.model_sampling = own_sampling(guider.model_patcher)
        self.weights = FrozenWeights()
        if stay is not None:
            model = guider.inner_model
            held = self.weights.held(
                unet_of(model.diffusion_model), guider.model_patcher.load_device, inference_dtype(model)
            )
            stay.enter_context(held)

    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """See SplitUNet. Runs the host's whole model once, in inference mode, and keeps what the decoder needs.

        Raises DragNoiseError when several conditionings or a part of the picture only are active at `sigma`.
        """
        heard = _Heard(x, guests_of(self.guider.model_patcher))
        self.weights.pause()
        options = comfy.model_patcher.create_model_options_clone(self.extra_args["model_options"])
        add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, heard.listen, options, is_model_options=True)
        levels = x.new_full((len(x),), sigma)
        with torch.inference_mode():
            self.guider(x, levels, model_options=options, seed=self.extra_args.get("seed"))
        if heard.unet is None:
            raise DragNoiseError(
                f"{guests_of(self.guider.model_patcher)} takes the place of the U-Net's own run at sigma {sigma:.3f}; "
                "connect the model from before it."
            )
        bottleneck = heard.bottleneck.to(torch.promote_types(heard.bottleneck.dtype, torch.float32))
        if heard.residual is not None:
            bottleneck = bottleneck - heard.residual
        return Encoded(bottleneck, _State(x, levels, heard))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet. Runs the host's output blocks on copies of what `encode` kept."""
        state, heard = encoded.state, encoded.state.heard
        frozen = partial(self.weights.in_place, heard.unet, heard.foreign_tensors)
        with frozen(), heard.same_draws():
            hidden = bottleneck.to(heard.bottleneck.dtype).clone()
            if heard.residual is not None:
                hidden = hidden + heard.residual
            inputs = DecoderInputs(tuple(heard.skips), heard.embedding, heard.context)
            again = frozen if self.low_memory else None
            feature, output = decode_blocks(heard.unet, hidden, inputs, heard.options, to_tap, heard.patched, again)
            if to_tap:
                return Decoded(feature, None)
            return Decoded(feature, epsilon(self.model_sampling, output.to(heard.dtype), state.x, state.sigma))


class DecoderInputs(NamedTuple):
    """What the output blocks need beside the bottleneck. skips: in the order in which they are used."""

    skips: tuple[Tensor, ...]
    embedding: Tensor
    context: Tensor | None


def decode_blocks(
    unet: UNetModel,
    hidden: Tensor,
    inputs: DecoderInputs,
    options: dict,
    to_tap: bool,
    patched=lambda hidden, skip, options: (hidden, skip),
    again: Callable[[], AbstractContextManager] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the feature at the tap and, unless `to_tap`, the U-Net's output, from the host's output blocks.

    patched: what becomes of a block's two inputs. again: keep no activations of a block for the gradient but compute
    them again, in such a context.
    """
    options, feature, last = dict(options), None, tap_index(unet)
    for index, block in enumerate(unet.output_blocks):
        options["block"] = ("output", index)
        hidden, skip = patched(hidden, inputs.skips[index], options)
        following = inputs.skips[index + 1].shape if index + 1 < len(inputs.skips) else None
        joined = hidden if skip is None else torch.cat([hidden, skip], dim=1)
        run = partial(
            _run_block, again or nullcontext, block, inputs.embedding, inputs.context, dict(options), following
        )
        if again and torch.is_grad_enabled():
            hidden = checkpoint(run, joined, use_reentrant=False, preserve_rng_state=bool(options.get("patches")))
        else:
            hidden = run(joined)
        if "transformer_index" in options:
            # The host counts on in the options that it hands to a block; a block that is run again must not.
            options["transformer_index"] += sum(isinstance(layer, SpatialTransformer) for layer in block)
        if index == last:
            feature = hidden
            if to_tap:
                return feature, None
    return feature, unet.out(hidden)


def _run_block(around, block, embedding, context, options: dict, following, joined: Tensor) -> Tensor:
    with around():
        return forward_timestep_embed(block, joined, embedding, context, dict(options), following)


def epsilon(sampling, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Return epsilon, [B, 4, H, W], whatever the model predicts. x: the latent at `sigma`, [B]."""
    output = output.float()
    if type(sampling).calculate_denoised is EPS.calculate_denoised:
        return output
    return (x - sampling.calculate_denoised(sigma, output, x)) / sigma.view(-1, 1, 1, 1)


class WholeUNet:
    """The host's model as a SplitUNet that is asked for its own epsilon only, as DDIM inversion does.

    Every part of the host's prediction counts: several conditionings, areas, guidance functions.
    """

    def __init__(self, guider, extra_args: dict[str, Any]) -> None:
        self.guider = guider
        self.extra_args = extra_args

    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
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
    sigma: Tensor
    heard: "_Heard"


class _Heard:
    """What one run of the host's U-Net tells about its decoder's inputs, as copies that autograd accepts."""

    def __init__(self, latent: Tensor, guests: str) -> None:
        self.latent = latent
        self.guests = guests
        self.unet: UNetModel | None = None
        self.skips: list[Tensor] = []

    def listen(self, executor, x, timesteps, context, y, control, transformer_options, **others) -> Tensor:
        """Wrap the host's U-Net call: the same call, with our two listeners among the model patches."""
        if x.shape[-2:] != self.latent.shape[-2:]:
            raise DragNoiseError(
                f"{self.guests} runs the U-Net on {tuple(x.shape[-2:])} of the latent's "
                f"{tuple(self.latent.shape[-2:])} cells; connect the model from before it."
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
        self.context = normal_copy(context)
        self.residual = normal_copy(middle_residual(control))
        patches = dict(transformer_options.get("patches", {}))
        # Ours comes first: the decoder is given what the other patches get to see, and runs them itself.
        self.foreign_tensors = (
            any(patches.values())
            or any(transformer_options.get("patches_replace", {}).values())
            or any(map(makes_weights, self.unet.output_blocks.modules()))
        )
        self.patches = patches.get("output_block_patch", [])
        patches["output_block_patch"] = [self._keep_block, *self.patches]
        patches["emb_patch"] = [*patches.get("emb_patch", []), self._keep_embedding]
        options = {**transformer_options, "patches": patches}
        output = executor(x, timesteps, context, y, control, options, **others)
        if self.unet.num_classes is not None:
            self.embedding = normal_copy(self.embedding + self.unet.label_emb(y))
        return output

    def _keep_embedding(self, embedding: Tensor, channels: int, options: dict) -> Tensor:
        self.embedding = normal_copy(embedding)
        return embedding

    def _keep_block(self, hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        if options["block"] == ("output", 0):
            self.bottleneck = normal_copy(hidden)
            patches = {kind: [may_write(patch) for patch in found] for kind, found in options["patches"].items()}
            self.writing = patches["output_block_patch"] = [may_write(patch) for patch in self.patches]
            # Not every backend of attention has a backward pass; PyTorch's has, everywhere.
            self.options = {**options, "patches": patches, "optimized_attention_override": differentiable_attention}
        self.skips.append(normal_copy(skip))
        return hidden, skip

    @contextmanager
    def same_draws(self) -> Iterator[None]:
        """Let patches that draw at random draw the same at every decoding; afterwards all is as if none had drawn."""
        if not self.foreign_tensors:
            yield
            return
        with torch.random.fork_rng([self.latent.device] if self.latent.is_cuda else []):
            torch.manual_seed(0)
            yield

    def patched(self, hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        """Return what the other nodes' patches make of a block's inputs; they may write into what they get."""
        if self.writing:
            hidden, skip = hidden.clone(), skip.clone()
        for patch in self.writing:
            hidden, skip = patch(hidden, skip, options)
        return hidden, skip


def may_write(patch: Callable | tuple[type, Callable]) -> Callable | tuple[type, Callable]:
    """Return a patch that may write into what autograd has kept of it: copies are kept. Some name a kind of layer."""
    if isinstance(patch, tuple):
        kind, handler = patch
        return kind, may_write(handler)

    def patched(*arguments, **options):
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda tensor: tensor):
            return patch(*arguments, **options)

    return patched


def differentiable_attention(attention, *arguments, **options):
    return attention_pytorch(*arguments, **options)
