"""The host's weights as autograd accepts them: no gradient, no trace of inference mode, no copy."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from .resident_weights import PLAIN, ResidentWeights, alias, is_special

# Of a layer that is given its weights made: the host must not work on them again.
AS_THEY_ARE = {"weight_function": [], "bias_function": [], "comfy_force_cast_weights": True}
ABSENT = object()


class FrozenWeights:
    """Stand-ins for the weights of one U-Net: its decoder's, or all of them while they are held whole.

    They share the weights' storage where that stays where it is. channels_last: those of the decoder's convolutions are
    copies instead, in the layout that is fastest on a GPU and would otherwise be made at every use. A copy keeps the
    values that the weight had when it was made.
    """

    def __init__(self, channels_last: bool = False) -> None:
        self.channels_last = channels_last
        self.stand_ins: dict[torch.nn.Parameter, tuple[int, torch.nn.Parameter]] = {}
        self.resident: ResidentWeights | None = None
        self.whole = False
        self.paused: list[torch.nn.Module] = []

    @contextlib.contextmanager
    def held(self, unet: UNetModel, device: torch.device, dtype: torch.dtype, whole: bool = False) -> Iterator[None]:
        """Keep on the GPU, while this lasts, what the host makes anew at every use or might take away.

        whole: of all the U-Net, every weight, also those that the host loads elsewhere each time; else the decoder's.
        May run out of memory.
        """
        if self.resident is None:
            self.resident = ResidentWeights(device, dtype)
        self.whole = whole
        decoder = [module for root in (unet.output_blocks, unet.out) for module in root.modules()]
        try:
            if whole:
                relaid = {module for module in decoder if self.channels_last and isinstance(module, torch.nn.Conv2d)}
                for module in unet.modules():
                    if module in relaid or not is_special(module):
                        self.resident.copy(module, channels_last=module in relaid)
            self.resident.take(unet.modules() if whole else decoder)
            yield
        finally:
            self.whole, self.paused = False, []
            self.resident.release()

    def pause(self) -> None:
        """Give the pages back until the stand-ins are next in place: the host warns of pins that others hold."""
        if self.resident is not None and self.resident.pinned:
            self.paused = list(self.resident.pinned)
            self.resident.release()

    @contextlib.contextmanager
    def in_place(self, unet: UNetModel, foreign_tensors: bool) -> Iterator[None]:
        """Leave inference mode with the stand-ins in place; whatever happens, the weights come back.

        Gradients stay as the caller has them: leaving alone would turn them on. foreign_tensors: patches or weight
        functions hold inference tensors.
        """
        if self.paused:
            self.resident.take(self.paused)
            self.paused = []
        gradient = torch.is_grad_enabled()
        tensors = _NormalTensors() if foreign_tensors else contextlib.nullcontext()
        with torch.inference_mode(False), torch.set_grad_enabled(gradient), self._without_gradient(unet), tensors:
            yield

    def places(self) -> tuple[int, ...]:
        """Return the addresses of all held weights."""
        weights = {**self.resident.made, **self.resident.pinned}
        return tuple(weight.data_ptr() for module in weights for weight in weights[module].values())

    @contextlib.contextmanager
    def _without_gradient(self, unet: UNetModel) -> Iterator[None]:
        replaced: list[tuple[dict, str, Any]] = []

        def put(place: dict, name: str, value: Any) -> None:
            replaced.append((place, name, place.get(name, ABSENT)))
            place[name] = value

        try:
            for root in (unet,) if self.whole else (unet.output_blocks, unet.out):
                for module in root.modules():
                    for name, stand_in in self._stand_ins_of(module).items():
                        put(module._parameters, name, stand_in)
                    if self.resident is not None and module in self.resident.made:
                        for name, value in AS_THEY_ARE.items():
                            put(vars(module), name, value)
            yield
        finally:
            for place, name, value in reversed(replaced):
                if value is ABSENT:
                    del place[name]
                else:
                    place[name] = value

    def _stand_ins_of(self, module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
        """Return a layer's stand-ins; none where the host itself makes its weights and nobody holds them."""
        held = None if self.resident is None else self.resident.of(module)
        if held is not None:
            return held
        if hasattr(module, "_v"):
            return {}
        return {name: self._stand_in(weight) for name, weight in module._parameters.items() if type(weight) in PLAIN}

    def _stand_in(self, weight: Tensor) -> torch.nn.Parameter:
        place, stand_in = self.stand_ins.get(weight, (None, None))
        if place != weight.data_ptr():
            normal = alias(weight)
            if self.channels_last and normal.ndim == 4:
                normal = normal.contiguous(memory_format=torch.channels_last)
            stand_in = torch.nn.Parameter(normal, requires_grad=False)
            self.stand_ins[weight] = weight.data_ptr(), stand_in
        return stand_in


class _NormalTensors(TorchFunctionMode):
    """Shows every operation aliases in place of inference tensors: patches and weight functions hold some.

    It makes an iteration about a third slower, so it is on only where there are such.
    """

    def __torch_function__(self, function, types, arguments=(), options=None):
        arguments, options = tree_map(_normal, (arguments, options or {}))
        return function(*arguments, **options)


def makes_weights(module: torch.nn.Module) -> bool:
    """Return whether a module of the host computes its weights at every use."""
    return bool(getattr(module, "weight_function", ())) or bool(getattr(module, "bias_function", ()))


def normal_copy(tensor: Tensor | None) -> Tensor | None:
    """Return a copy that is no inference tensor."""
    with torch.inference_mode(False), torch.no_grad():
        return None if tensor is None else tensor.clone()


def _normal(value: Any) -> Any:
    return alias(value) if isinstance(value, Tensor) and value.is_inference() else value
