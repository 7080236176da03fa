"""The host's weights as autograd accepts them: no gradient, no trace of inference mode, no copy."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class FrozenWeights:
    """Stand-ins for the decoder's weights of one U-Net, over the same storage.

    channels_last: convolutions' are copies instead, laid out as they are fastest on a GPU: what would otherwise be
    done at every use. They are those of the time when they were first asked for.
    """

    def __init__(self, channels_last: bool = False) -> None:
        self.channels_last = channels_last
        self.stand_ins: dict[torch.nn.Parameter, tuple[int, torch.nn.Parameter]] = {}

    @contextlib.contextmanager
    def in_place(self, unet: UNetModel, foreign_tensors: bool) -> Iterator[None]:
        """Leave inference mode with the stand-ins in place; whatever happens, the weights come back.

        Gradients stay as the caller has them: leaving alone would turn them on. foreign_tensors: patches or weight
        functions bring inference tensors along.
        """
        gradient = torch.is_grad_enabled()
        tensors = _NormalTensors() if foreign_tensors else contextlib.nullcontext()
        with torch.inference_mode(False), torch.set_grad_enabled(gradient), self._without_gradient(unet), tensors:
            yield

    @contextlib.contextmanager
    def _without_gradient(self, unet: UNetModel) -> Iterator[None]:
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
        place, stand_in = self.stand_ins.get(weight, (None, None))
        if place != weight.data_ptr():
            alias = _alias(weight)
            if self.channels_last and alias.ndim == 4:
                alias = alias.contiguous(memory_format=torch.channels_last)
            stand_in = torch.nn.Parameter(alias, requires_grad=False)
            self.stand_ins[weight] = weight.data_ptr(), stand_in
        return stand_in


class _NormalTensors(TorchFunctionMode):
    """Shows every operation aliases in place of inference tensors: patches and weight functions bring theirs along.

    It makes an iteration about a third slower, so it is on only where there are such.
    """

    def __torch_function__(self, function, types, arguments=(), options=None):
        arguments, options = tree_map(_normal, (arguments, options or {}))
        return function(*arguments, **options)


def makes_weights(module: torch.nn.Module) -> bool:
    """Return whether a module of the host computes its weights at every use."""
    # `_v`: hosts with dynamic memory keep a module's loaded weights outside its parameters.
    return (
        bool(getattr(module, "weight_function", ()))
        or bool(getattr(module, "bias_function", ()))
        or hasattr(module, "_v")
    )


def normal_copy(tensor: Tensor | None) -> Tensor | None:
    """Return a copy that is no inference tensor."""
    with torch.inference_mode(False), torch.no_grad():
        return None if tensor is None else tensor.clone()


def _normal(value: Any) -> Any:
    return _alias(value) if isinstance(value, Tensor) and value.is_inference() else value


def _alias(tensor: Tensor) -> Tensor:
    """Return a normal tensor over the same storage, without gradient."""
    with torch.no_grad():
        alias = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return alias.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
