"""SplitUNet over `diffusers.UNet2DConditionModel`: SD 1.x, SD 2.x, SDXL and the demo model."""

import math
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..errors import DragNoiseError
from ..schedule import nearest_timestep, scaled_linear_sigmas
from ..split_unet import Decoded, Encoded

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True, eq=False)
class _State:
    sample: Tensor
    skips: tuple[Tensor, ...]
    embedding: Tensor
    sigma: float


class DiffusersSplitUNet:
    """A diffusers U-Net cut at its middle block, under one prompt.

    unet: its weights should be frozen; their dtype is the computation's. prompt_embedding: [1, tokens, D].
    sigmas: the training schedule's noise levels, ascending, [T]; Stable Diffusion's when left out.
    prediction_type: "epsilon" or "v_prediction". added_conditions: SDXL's {"text_embeds", "time_ids"}.
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
    ) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise DragNoiseError(
                f"the model predicts {prediction_type!r}; only {' and '.join(PREDICTION_TYPES)} models can be dragged."
            )
        upsampling = [index for index, block in enumerate(unet.up_blocks) if block.upsamplers]
        if unet.mid_block is None or not upsampling:
            raise DragNoiseError(f"{type(unet).__name__} has no middle block or never upsamples; use an SD-like U-Net.")
        self.unet = unet
        self.sigmas = scaled_linear_sigmas() if sigmas is None else sigmas
        self.prediction_type = prediction_type
        self.first, self.tap = 0, upsampling[-1]  # decoder blocks: the first one that `decode` runs, and the tap
        self.context = prompt_embedding.to(unet.device, unet.dtype)
        self.added_conditions = {
            name: value.to(unet.device, unet.dtype) for name, value in (added_conditions or {}).items()
        }

    @torch.no_grad()
    def encode(self, x: Tensor, sigma: float) -> Encoded:
        """See SplitUNet. x: [B, 4, H, W], any dtype; the bottleneck comes back as float32 or wider."""
        return self.encode_with_gradients(x, sigma)

    def encode_with_gradients(self, x: Tensor, sigma: float) -> Encoded:
        """Return the same as `encode`, differentiable in x: for methods whose variable is the latent itself."""
        unet = self.unet
        sample = (x / math.sqrt(1 + sigma**2)).to(unet.dtype)
        timestep = torch.tensor([nearest_timestep(self.sigmas, sigma)], device=x.device)
        context = self.context.expand(len(x), -1, -1)
        embedding = unet.time_embedding(unet.get_time_embed(sample, timestep))
        added = unet.get_aug_embed(embedding, context, self._added_conditions(len(x)))
        embedding = (embedding if added is None else embedding + added).expand(len(x), -1)
        hidden = unet.conv_in(sample)
        skips = (hidden,)
        for block in unet.down_blocks:
            hidden, block_skips = block(hidden_states=hidden, temb=embedding, **cross_attention(block, context))
            skips += block_skips
        hidden = unet.mid_block(hidden, embedding, **cross_attention(unet.mid_block, context))
        return Encoded(hidden.to(torch.promote_types(hidden.dtype, torch.float32)), _State(x, skips, embedding, sigma))

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

    def run_decoder_block(self, index: int, hidden: Tensor, state: _State) -> Tensor:
        """Return the output of decoder block `index`, [B, C', h', w'], for its input, [B, C, h, w]."""
        blocks, skips = self.unet.up_blocks, state.skips
        end = len(skips) - sum(len(block.resnets) for block in blocks[:index])
        begin = end - len(blocks[index].resnets)
        return blocks[index](
            hidden_states=hidden,
            res_hidden_states_tuple=skips[begin:end],
            temb=state.embedding,
            # The next skip's size, so that sizes which do not halve evenly come back right.
            upsample_size=skips[begin - 1].shape[-2:] if begin else None,
            **cross_attention(blocks[index], self.context.expand(len(hidden), -1, -1)),
        )

    def _epsilon(self, output: Tensor, state: _State) -> Tensor:
        if self.prediction_type == "epsilon":
            return output
        # v = a epsilon - s x0 with a = 1 / scale and s = sigma / scale (Salimans and Ho 2022), solved for epsilon.
        scale = math.sqrt(1 + state.sigma**2)
        return output / scale + state.sample * (state.sigma / scale**2)

    def _added_conditions(self, rows: int) -> dict[str, Tensor]:
        return {name: value.expand(rows, -1) for name, value in self.added_conditions.items()}


def cross_attention(block: torch.nn.Module, context: Tensor) -> dict[str, Tensor]:
    """Return the prompt as the arguments that a block takes, or none where it has no cross-attention."""
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
