"""Denoising under the eye of the source: DragDiffusion's reference-latent-control (section 3.4)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from ...sampling import sample
from ...standalone.diffusers_unet import DiffusersSplitUNet


@contextmanager
def reference_attention(unet: UNet2DConditionModel, first_block: int = 0) -> Iterator[None]:
    """While active, every row of a batch takes the decoder's self-attention keys and values from the first row.

    first_block: the first of `unet.up_blocks` that is controlled. The processors are put back however it ends.
    """
    layers = [
        module.attn1
        for block in unet.up_blocks[first_block:]
        for module in block.modules()
        if isinstance(module, BasicTransformerBlock)
    ]
    processors = [layer.processor for layer in layers]
    try:
        for layer, processor in zip(layers, processors, strict=True):
            layer.set_processor(_KeysAndValuesOfFirstRow(processor))
        yield
    finally:
        for layer, processor in zip(layers, processors, strict=True):
            layer.set_processor(processor)


@torch.no_grad()
def sample_with_reference(
    split: DiffusersSplitUNet, x: Tensor, source: Tensor, sigmas: Tensor, first_block: int = 0
) -> Tensor:
    """Denoise `x` beside `source`, whose self-attention keys and values it takes; return its clean latent.

    x, source: sigma space at sigmas[0], [1, 4, h, w]. sigmas: descending, [k + 1]. All steps are controlled.
    """
    with reference_attention(split.unet, first_block):
        return sample(split, torch.cat([source, x]), sigmas)[1:]


class _KeysAndValuesOfFirstRow:
    def __init__(self, processor: Callable[..., Tensor]) -> None:
        self.processor = processor

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **others: Any,
    ) -> Tensor:
        # diffusers computes keys and values from the encoder's states; self-attention has none of its own.
        source = hidden_states[:1].expand_as(hidden_states)
        return self.processor(
            attn, hidden_states, encoder_hidden_states=source, attention_mask=attention_mask, **others
        )
