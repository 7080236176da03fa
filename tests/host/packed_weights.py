"""Weights as GGUF files bring them: a tensor subclass of packed blocks, and layers that unpack it at every use.

Of the same behaviour as the layers of ComfyUI-GGUF towards a host: the subclass stays itself through `detach` and
`clone`, says the shape of what it stands for, and only its layer's own cast knows how to unpack it.
"""

import comfy.ops
import torch

BLOCK = 32  # weights that share a scale


class Packed(torch.Tensor):
    """Bytes of blocks, or plain numbers. kind: F32, F16, Q8_0 or Q4_0. stands_for: the shape of the weight."""

    @staticmethod
    def of(data: torch.Tensor, kind: str, stands_for: torch.Size) -> "Packed":
        packed = data.as_subclass(Packed)
        packed.kind, packed.stands_for = kind, stands_for
        return packed

    def to(self, *arguments, **options):
        return Packed.of(super().to(*arguments, **options).as_subclass(torch.Tensor), self.kind, self.stands_for)

    def clone(self, *arguments, **options):
        return self

    def detach(self, *arguments, **options):
        return self

    @property
    def shape(self):
        return getattr(self, "stands_for", None) or self.size()


def pack(weight: torch.Tensor, kind: str) -> Packed:
    """Return a weight, [..., a multiple of 32], packed: a half-precision scale and 32 numbers of 8 or 4 bits a block."""
    shape = weight.shape
    if kind in ("F32", "F16"):
        return Packed.of(weight.detach().to(torch.float16 if kind == "F16" else torch.float32).clone(), kind, shape)
    blocks = weight.detach().float().reshape(-1, BLOCK)
    most = 127 if kind == "Q8_0" else 7
    scale = (blocks.abs().amax(1, keepdim=True) / most).half()
    numbers = (blocks / scale.float().clamp_min(1e-12)).round().clamp(-most - 1, most).to(torch.int8)
    if kind == "Q4_0":
        nibbles = (numbers + 8).to(torch.uint8)
        numbers = nibbles[:, : BLOCK // 2] | nibbles[:, BLOCK // 2 :] << 4
    data = torch.cat([scale.view(torch.uint8), numbers.view(torch.uint8)], dim=1).reshape(shape[0], -1)
    return Packed.of(data, kind, shape)


def unpack(packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the weight that was packed, as a plain tensor."""
    if not isinstance(packed, Packed):
        return packed.to(dtype)
    data = packed.as_subclass(torch.Tensor)
    if packed.kind in ("F32", "F16"):
        return data.to(dtype)
    blocks = data.reshape(-1, 2 + (BLOCK if packed.kind == "Q8_0" else BLOCK // 2))
    scale, numbers = blocks[:, :2].contiguous().view(torch.float16).to(dtype), blocks[:, 2:]
    if packed.kind == "Q8_0":
        numbers = numbers.contiguous().view(torch.int8)
    else:
        numbers = torch.cat([numbers & 15, numbers >> 4], dim=1).to(torch.int8) - 8
    return (scale * numbers).reshape(packed.stands_for)


class PackedLinear(comfy.ops.manual_cast.Linear):
    """Unpacks its weight at every use; plain weights it leaves to the host's layer."""

    def cast_bias_weight(self, input=None, dtype=None, device=None, bias_dtype=None):
        device = device or input.device
        dtype = dtype or input.dtype
        bias = None if self.bias is None else unpack(self.bias.to(device), bias_dtype or dtype)
        return unpack(self.weight.to(device), dtype), bias

    def forward_comfy_cast_weights(self, input):
        if not isinstance(self.weight, Packed) or self.weight.kind in ("F32", "F16"):
            return super().forward_comfy_cast_weights(input).as_subclass(torch.Tensor)
        weight, bias = self.cast_bias_weight(input)
        return torch.nn.functional.linear(input, weight, bias)


class Stubborn(torch.Tensor):
    """A kind of weight that nobody knows how to unpack."""

    def dequantize(self):
        raise NotImplementedError("only its own kernels read it")


def packed_linear(layer: torch.nn.Linear, kind: str) -> PackedLinear:
    """Return a linear layer's equal with its weight packed, as it is after loading in inference mode."""
    packed = PackedLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    packed._parameters["weight"] = torch.nn.Parameter(pack(layer.weight, kind), requires_grad=False)
    packed._parameters["bias"] = layer.bias
    return packed
