"""The whole U-Net as a function of the latent, differentiable, where the split one starts at the bottleneck."""

from torch import Tensor

from ....split_unet import Decoded
from ...diffusers_unet import DiffusersSplitUNet


class WholeUNet:
    """A diffusers U-Net under one prompt, up to the same tap as `DiffusersSplitUNet`'s."""

    def __init__(self, split: DiffusersSplitUNet) -> None:
        self.split = split

    def __call__(self, x: Tensor, sigma: float, *, to_tap: bool) -> Decoded:
        """Return the tap's feature, [B, C, h, w], and epsilon, [B, 4, H, W], unless `to_tap`.

        x: sigma space, [B, 4, H, W]; gradients of what is returned reach it.
        """
        # The split U-Net encodes under no_grad, for its variable is the bottleneck; the function inside has none.
        encoded = DiffusersSplitUNet.encode.__wrapped__(self.split, x, sigma)
        return self.split.decode(encoded, encoded.bottleneck, to_tap=to_tap)
