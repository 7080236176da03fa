"""Weights that stay on the GPU while a drag runs, made plain where the host's are not.

Autograd keeps the addresses of weights from the forward pass to the backward pass, a CUDA graph for longer. A host with
dynamic VRAM keeps a layer's loaded weights outside its parameters, in pages of 32 MiB (`module._v`), and takes back,
when it likes, the memory of every page that nobody has pinned. It pins a page for the time of one use: a fault pins, an
unpin releases. comfy-aimdo counts the pins of a page from 0.3 on; before, a pin was one flag, which a neighbour in the
same page would take away. Quantised weights are tensor subclasses without a gradient.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ...dragnoise_core.errors import DragNoiseError

with contextlib.suppress(ImportError):  # hosts without dynamic VRAM
    import comfy_aimdo.model_vbar as vbar

PAGE = 32 * 2**20
PLAIN = (Parameter, Tensor)
SHORT = (
    "not enough GPU memory for the drag: the weights that the gradient passes through and what they compute must stay "
    "in it together. Turn on low_memory, drag on a smaller picture, close what else uses the GPU, or load a smaller "
    "file of the model (fp8 does not help: its weights are made full size)."
)


def is_dynamic(network: Module) -> bool:
    """Return whether the host keeps loaded weights of a network outside its parameters."""
    return any(hasattr(module, "_v") for module in network.modules())


def is_special(module: Module) -> bool:
    """Return whether a layer's loaded weights are not its parameters, or are no plain tensors."""
    return hasattr(module, "_v") or any(
        type(weight) not in PLAIN for weight in module._parameters.values() if weight is not None
    )


class ResidentWeights:
    """Stand-ins for the weights of layers, from `take` to `release`: normal tensors on the GPU, without gradient.

    pinned: over the host's own pages. made: tensors of our own, where a page cannot be pinned or the host makes the
    weights at every use; they outlast `release`, for graphs that read them.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self.pinned: dict[Module, dict[str, Parameter]] = {}
        self.made: dict[Module, dict[str, Parameter]] = {}
        self.pages: dict[Module, tuple[tuple, dict[str, Parameter]]] = {}  # pinned before, and where
        self.pins: list[tuple[Module, Callable[[], None]]] = []
        self.counted: bool | None = None

    def of(self, module: Module) -> dict[str, Parameter] | None:
        """Return the stand-ins of a layer by parameter name, or None where it has none."""
        return self.pinned.get(module, self.made.get(module))

    def take(self, modules: Iterable[Module]) -> None:
        """Fault in and pin, or make, the weights of all special layers among `modules`. May run out of memory."""
        for module in modules:
            if self.of(module) is None and is_special(module):
                self._take(module)

    def copy(self, module: Module, channels_last: bool = False) -> None:
        """Make the weights of a layer, so that they need no page and stay where they are."""
        if module in self.made:
            return
        self.take([module])
        found = self.of(module) or module._parameters
        copies = {name: weight.detach().clone() for name, weight in found.items() if weight is not None}
        if channels_last:
            copies = {name: w.to(memory_format=torch.channels_last) if w.ndim == 4 else w for name, w in copies.items()}
        self.made[module] = {name: _parameter(weight) for name, weight in copies.items()}
        self.pinned.pop(module, None)
        self._release(lambda pinned: pinned is module)

    def release(self) -> None:
        """Unpin every page."""
        self.pinned.clear()
        self._release(lambda pinned: True)

    def _release(self, wanted: Callable[[Module], bool]) -> None:
        kept = []
        for module, unpin in self.pins:
            if wanted(module):
                unpin()
            else:
                kept.append((module, unpin))
        self.pins = kept

    def _take(self, module: Module) -> None:
        if self._take_again(module):
            return
        weights, state = self._cast(module)
        if state is None:
            self.made[module] = {name: _parameter(_plain(weight)) for name, weight in weights.items()}
            return
        # Before anything else can fail, so that no pin is left behind.
        self.pins.append((module, partial(comfy.ops.uncast_bias_weight, module, None, None, state)))
        if not self._in_page(module, weights) and _is_pin(state):
            # The host answers a fault with what it has just computed, and keeps that in the page, as its rounding
            # is there: the second answer is the page, unless the weights are made at every use.
            weights, second = self._cast(module)
            comfy.ops.uncast_bias_weight(module, None, None, second)
        if self._in_page(module, weights) and _is_pin(state) and self._counts_pins(module):
            self.pinned[module] = {name: _parameter(weight) for name, weight in weights.items()}
            self.pages[module] = module._v, self.pinned[module]
            return
        # Nothing of it may be in a page or in a buffer that the next layer writes over.
        self.made[module] = {name: _parameter(_plain(weight).clone()) for name, weight in weights.items()}
        self._release(lambda pinned: pinned is module)

    def _take_again(self, module: Module) -> bool:
        """Pin a page that was pinned before, if it still holds what the host has put there for this layer."""
        place, stand_ins = self.pages.get(module, (None, None))
        if place is None or place is not getattr(module, "_v", None):
            return False
        signature = vbar.vbar_fault(place)
        if signature is None:
            return False
        if not vbar.vbar_signature_compare(signature, module._v_signature):
            vbar.vbar_unpin(place)
            return False
        self.pins.append((module, partial(vbar.vbar_unpin, place)))
        self.pinned[module] = stand_ins
        return True

    def _cast(self, module: Module) -> tuple[dict[str, Tensor], tuple | None]:
        """Return a layer's weights as it would use them, and what the host wants back after the use, if anything."""
        weight, bias, state = cast(module, self.device, self.dtype)
        return {name: value for name, value in (("weight", weight), ("bias", bias)) if value is not None}, state

    def _in_page(self, module: Module, weights: dict[str, Tensor]) -> bool:
        if not hasattr(module, "_v"):
            return False
        _, start, size = module._v
        return all(type(weight) in PLAIN and start <= weight.data_ptr() < start + size for weight in weights.values())

    def _counts_pins(self, module: Module) -> bool:
        """Return whether a pin outlasts that somebody else pins and releases the same page. `module` is pinned."""
        if self.counted is None:
            pages, start, _ = module._v
            if vbar.vbar_fault(module._v) is None:
                return False
            vbar.vbar_unpin(module._v)
            self.counted = bool(pages.get_residency()[(start - pages.base_addr) // PAGE] & 2)
        return self.counted


def cast(module: Module, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, tuple | None]:
    """Return (weight, bias, state) as the layer itself would use them. state: for the host's `uncast_bias_weight`."""
    own = getattr(module, "cast_bias_weight", None)
    if own is not None:  # GGUF layers bring theirs
        return (*own(dtype=dtype, device=device, bias_dtype=dtype)[:2], None)
    if "offloadable" not in inspect.signature(comfy.ops.cast_bias_weight).parameters:  # an older host lends nothing
        return (*comfy.ops.cast_bias_weight(module, dtype=dtype, device=device, bias_dtype=dtype), None)
    return comfy.ops.cast_bias_weight(module, dtype=dtype, device=device, bias_dtype=dtype, offloadable=True)


def check_weights(network: Module, name: str) -> None:
    """Raise DragNoiseError, naming the kind, where weights cannot be made plain. Tries one layer of each kind."""
    tried = set()
    for place, module in network.named_modules():
        weights = [weight for weight in module._parameters.values() if weight is not None]
        kinds = sorted({type(weight).__name__ for weight in weights if type(weight) not in PLAIN})
        if not kinds or (type(module), *kinds) in tried:
            continue
        tried.add((type(module), *kinds))
        try:
            _try_cast(module, weights[0].device)
        except (TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise DragNoiseError(
                f"{name} has weights of the kind {' and '.join(kinds)} (first at {place}), which have no gradient here "
                f"({error}); load the model from a float16, fp8 or GGUF file."
            ) from error


def _try_cast(module: Module, device: torch.device) -> None:
    """Raise what stands against making the weights of a layer plain."""
    if not hasattr(module, "comfy_cast_weights"):
        raise TypeError(f"{type(module).__name__} is no layer of the host's")
    with torch.inference_mode(False), torch.no_grad():
        weight, _, state = cast(module, device, torch.float32)
        shape = tuple(_plain(weight).shape)
        if state is not None:
            comfy.ops.uncast_bias_weight(module, None, None, state)
    if hasattr(module, "in_features") and shape != (module.out_features, module.in_features):
        raise TypeError(f"they come in the shape {shape}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the host, or its memory manager, found no GPU memory."""
    known = getattr(comfy.model_management, "is_oom", None)
    oom = known(error) if known else isinstance(error, comfy.model_management.OOM_EXCEPTION)
    # The host's own words for a fault and for a buffer.
    return oom or any(words in str(error) for words in ("Fault failed", "VRAM grow failed"))


@contextlib.contextmanager
def told_what_to_do() -> Iterator[None]:
    """Have an exception for want of GPU memory say what to do; it stays the host's own kind, so that it unloads."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise comfy.model_management.OOM_EXCEPTION(f"{SHORT} ({error})") from error
        raise


def _is_pin(state: tuple) -> bool:
    """Return whether the host pinned a page for these weights: then it notes a device where else a tensor stands."""
    return isinstance(state, tuple) and isinstance(state[1], torch.device)


def _plain(weight: Tensor) -> Tensor:
    """Return the weight as a plain tensor. Raises TypeError where there is no way to it."""
    if type(weight) not in PLAIN:
        weight = weight.dequantize()
    if type(weight) not in PLAIN:
        raise TypeError(f"{type(weight).__name__} stays what it is")
    return weight


def _parameter(weight: Tensor) -> Parameter:
    return Parameter(alias(weight), requires_grad=False)


def alias(tensor: Tensor) -> Tensor:
    """Return a normal tensor over the same storage, without gradient."""
    with torch.no_grad():
        normal = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return normal.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
