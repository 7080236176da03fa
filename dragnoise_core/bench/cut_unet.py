"""A diffusers U-Net cut at another block than the middle one, and with another tap: for ablations."""

from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..errors import DragNoiseError
from ..split_unet import Decoded, Encoded
from ..standalone.diffusers_unet import DiffusersSplitUNet, cross_attention


class CutUNet(DiffusersSplitUNet):
    """A SplitUNet whose "bottleneck" is the output of a block of choice.

    cut: "encoder": what the last encoder block hands to the middle block (its skip connection stays as it is);
    "middle": the published cut; "decoder 0", "decoder 1", ...: the output of that decoder block.
    tap: the decoder block, from 0, whose output is the feature map; the last one that upsamples when left out.
    settings: as DiffusersSplitUNet takes them.
    Raises DragNoiseError for blocks that the U-Net lacks, and for a cut that leaves no block before the tap: then
    the drag would not go through the model at all.
    """

    def __init__(
        self, unet: UNet2DConditionModel, prompt_embedding: Tensor, cut: str, tap: int | None = None, **settings
    ) -> None:
        super().__init__(unet, prompt_embedding, **settings)
        cuts = cut_names(unet)
        if cut not in cuts:
            raise DragNoiseError(f"cut is {cut!r}; this U-Net can be cut at {', '.join(cuts)}.")
        self.cut = cut
        self.first = max(0, cuts.index(cut) - cuts.index("middle"))
        self.tap = self.tap if tap is None else tap
        if not 0 <= self.tap < len(unet.up_blocks):
            raise DragNoiseError(f"tap is {tap}; choose a decoder block from 0 to {len(unet.up_blocks) - 1}.")
        if self.tap < self.first:
            raise DragNoiseError(
                f"a cut at {cut} with the tap at decoder {self.tap} leaves no block between; choose a later tap."
            )

    def encode_with_gradients(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """See DiffusersSplitUNet; everything up to the cut."""
        encoded = super().encode_with_gradients(x, sigma, middle=middle)
        if self.cut == "encoder":
            hidden = encoded.state.skips[-1]
        else:
            hidden = encoded.bottleneck.to(self.unet.dtype)
            for index in range(self.first):
                hidden = self.run_decoder_block(index, hidden, encoded.state)
        return replace(encoded, bottleneck=hidden.to(torch.promote_types(hidden.dtype, torch.float32)))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet; everything behind the cut."""
        if self.cut == "encoder":
            middle = self.unet.mid_block
            state, hidden = encoded.state, bottleneck.to(self.unet.dtype)
            bottleneck = middle(hidden, state.embedding, **cross_attention(middle, state.context))
        return super().decode(encoded, bottleneck, to_tap=to_tap)


def cut_names(unet: UNet2DConditionModel) -> list[str]:
    """Return the names of a U-Net's cuts, in the order in which its blocks run."""
    # Behind the last decoder block no feature map is left to supervise.
    return ["encoder", "middle", *(f"decoder {index}" for index in range(len(unet.up_blocks) - 1))]
