"""Layers of a diffusers U-Net with less to copy: the same weights, and but for rounding the same results."""

from typing import Any

from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.activations import GEGLU
from torch import Tensor, nn
from torch.nn import functional


def quicken(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Turn the layers of a U-Net that have a quicker form into it, in place, and return it.

    They read the weights without calling the layers: whatever adds to a layer (a LoRA) must have been merged before.
    """
    for module in unet.modules():
        module.__class__ = QUICKER.get(type(module), type(module))
    return unet


class TokenTransformer(Transformer2DModel):
    """A feature map that lies channels last is a row of tokens already, and a 1x1 convolution a product with them."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *,
        return_dict: bool = True,
        **options: Any,
    ) -> Any:
        """See Transformer2DModel, which still does whatever only it can."""
        if return_dict or any(option is not None for option in options.values()):
            return super().forward(hidden_states, encoder_hidden_states, return_dict=return_dict, **options)
        tokens = self.norm(hidden_states).permute(0, 2, 3, 1).flatten(1, 2)
        tokens = _project(tokens, self.proj_in)
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states=encoder_hidden_states)
        tokens = _project(tokens, self.proj_out)
        return (tokens.unflatten(1, hidden_states.shape[2:]).permute(0, 3, 1, 2) + hidden_states,)


class HalvedGEGLU(GEGLU):
    """Values and gates from a product each: as halves of one their rows lie far apart, which is slow to read."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """See GEGLU."""
        weight, gate_weight = self.proj.weight.chunk(2)
        bias, gate_bias = self.proj.bias.chunk(2)
        gates = functional.linear(hidden_states, gate_weight, gate_bias)
        return functional.linear(hidden_states, weight, bias) * functional.gelu(gates)


def _project(tokens: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
    return functional.linear(tokens, layer.weight.flatten(1), layer.bias)


QUICKER = {Transformer2DModel: TokenTransformer, GEGLU: HalvedGEGLU}
