"""SplitUNet over `diffusers.UNet2DConditionModel`: SD 1.x, SD 2.x, SDXL and the demo model."""

import copy
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..draggable import check_unet_kind
from ..errors import DragNoiseError, quoted
from ..schedule import nearest_timestep, scaled_linear_sigmas
from ..split_unet import Decoded, Encoded

PREDICTION_TYPES = ("epsilon", "v_prediction")


class State(NamedTuple):
    """What the decoder needs beside the bottleneck: tensors alone, so that a graph can be captured over them.

    sample: the encoded latent. skips: the encoder's outputs. embedding: of timestep and size. context: the prompt's.
    sigma: the noise level, a scalar.
    """

    sample: Tensor
    skips: tuple[Tensor, ...]
    embedding: Tensor
    context: Tensor
    sigma: Tensor


class Conditions(NamedTuple):
    """What a step depends on beside its latent and the weights: so graphs outlive the U-Net they were captured of.

    context: the prompt embedding, [1, tokens, D]. added: the added conditions (SDXL), each [1, D'], by name. sigmas:
    the training schedule's noise levels, [T].
    """

    context: Tensor
    added: dict[str, Tensor]
    sigmas: Tensor


class DiffusersSplitUNet:
    """A diffusers U-Net cut at its middle block, under one prompt.

    unet: its weights should be frozen; their dtype is the computation's. prompt_embedding: [1, tokens, D].
    sigmas: the training schedule's noise levels, ascending, [T]; Stable Diffusion's when left out.
    prediction_type: "epsilon" or "v_prediction". added_conditions: SDXL's {"text_embeds", "time_ids"}.
    low_memory: recompute the activations of the decoder's blocks for the gradient instead of keeping them: slower.
    Raises DragNoiseError for a U-Net without the expected blocks and for other prediction types.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        prompt_embedding: Tensor,
        *,
        sigmas: Tensor | None = None,
        prediction_type: str = "epsilon",
        added_conditions: dict[str, Tensor] | None = None,
        low_memory: bool = False,
    ) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise DragNoiseError(
                f"the model predicts {quoted(prediction_type)}; "
                f"only {' and '.join(PREDICTION_TYPES)} models can be dragged."
            )
        upsampling = [index for index, block in enumerate(unet.up_blocks) if block.upsamplers]
        check_unet_kind(
            type(unet).__name__, in_channels=unet.config.in_channels,
            has_middle=unet.mid_block is not None, upsamples=bool(upsampling),
        )  # fmt: skip
        self.unet = unet
        self.prediction_type = prediction_type
        self.low_memory = low_memory
        self.first, self.tap = 0, upsampling[-1]  # decoder blocks: the first one that `decode` runs, and the tap
        added = {name: value.to(unet.device, unet.dtype) for name, value in (added_conditions or {}).items()}
        table = (scaled_linear_sigmas() if sigmas is None else sigmas).to(unet.device, torch.float32)
        self.conditions = Conditions(prompt_embedding.to(unet.device, unet.dtype), added, table)

    def under(self, conditions: Conditions) -> "DiffusersSplitUNet":
        """Return the same U-Net under other conditions."""
        other = copy.copy(self)
        other.conditions = conditions
        return other

    @torch.no_grad()
    def encode(self, x: Tensor, sigma: float | Tensor, *, middle: bool = True) -> Encoded:
        """See SplitUNet. x: [B, 4, H, W], any dtype; the bottleneck comes back as float32 or wider."""
        return self.encode_with_gradients(x, sigma, middle=middle)

    def encode_with_gradients(self, x: Tensor, sigma: float | Tensor, *, middle: bool = True) -> Encoded:
        """Do as `encode`, but differentiable in x: for methods whose variable is the latent itself."""
        unet = self.unet
        if not isinstance(sigma, Tensor):
            # Filled in on the device: copying a number there would make the host wait.
            sigma = torch.full((), sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        sample = (x / (1 + sigma**2).sqrt()).to(unet.dtype)
        context = self.conditions.context.expand(len(x), -1, -1)
        embedding = unet.time_embedding(unet.get_time_embed(sample, nearest_timestep(self.conditions.sigmas, sigma)))
        added = {name: value.expand(len(x), -1) for name, value in self.conditions.added.items()}
        augmentation = unet.get_aug_embed(embedding, context, added)
        embedding = (embedding if augmentation is None else embedding + augmentation).expand(len(x), -1)
        hidden = unet.conv_in(sample)
        skips = (hidden,)
        for block in unet.down_blocks:
            hidden, block_skips = block(hidden_states=hidden, temb=embedding, **cross_attention(block, context))
            skips += block_skips
        if middle:
            hidden = unet.mid_block(hidden, embedding, **cross_attention(unet.mid_block, context))
        bottleneck = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        return Encoded(bottleneck, State(x, skips, embedding, context, sigma))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet. bottleneck: [B, C, h, w], any dtype."""
        unet, state = self.unet, encoded.state
        hidden = bottleneck.to(unet.dtype)
        feature = None
        for index in range(self.first, len(unet.up_blocks)):
            hidden = self.run_decoder_block(index, hidden, state)
            if index == self.tap:
                feature = hidden
                if to_tap:
                    return Decoded(feature, None)
        output = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))).to(state.sample.dtype)
        return Decoded(feature, self._epsilon(output, state))

    def run_decoder_block(self, index: int, hidden: Tensor, state: State) -> Tensor:
        """Return the output of decoder block `index`, [B, C', h', w'], for its input, [B, C, h, w]."""
        block, skips = self.unet.up_blocks[index], state.skips
        end = len(skips) - sum(len(earlier.resnets) for earlier in self.unet.up_blocks[:index])
        begin = end - len(block.resnets)

        def run(hidden: Tensor) -> Tensor:
            return block(
                hidden_states=hidden,
                res_hidden_states_tuple=skips[begin:end],
                temb=state.embedding,
                # Upsample to the next skip's size: odd sizes do not halve and double back to themselves.
                upsample_size=skips[begin - 1].shape[-2:] if begin else None,
                **cross_attention(block, state.context),
            )

        if self.low_memory and torch.is_grad_enabled():
            return checkpoint(run, hidden, use_reentrant=False, preserve_rng_state=False)
        return run(hidden)

    def _epsilon(self, output: Tensor, state: State) -> Tensor:
        if self.prediction_type == "epsilon":
            return output
        # v = a epsilon - s x0 with a = 1 / scale and s = sigma / scale (Salimans and Ho 2022), solved for epsilon.
        scale = (1 + state.sigma**2).sqrt()
        return output / scale + state.sample * (state.sigma / scale**2)


def cross_attention(block: torch.nn.Module, context: Tensor) -> dict[str, Tensor]:
    """Return the prompt as the arguments that a block takes, or none where it has no cross-attention."""
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
