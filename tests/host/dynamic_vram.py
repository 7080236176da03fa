"""The host's dynamic VRAM played on a CPU: its own patcher, loading and layers, over a memory that forgets.

What is played is what comfy-aimdo does on a GPU. A model's loaded weights lie in pages outside its parameters. A page
that nobody has pinned can be taken back at any time; its content is then NaN, where on a GPU the process would end. The
pages together have a capacity: a fault that finds no room fails, and the weights of that layer go through one of two
buffers that the layers after it write over.
"""

import inspect
import itertools
import textwrap
from collections.abc import Callable
from contextlib import nullcontext

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import numpy as np
import pytest
import torch

PAGE = 64 * 2**10  # small, so that a small model has many and several of its layers share one
GPU = torch.device("cpu", 0)  # is not torch.device("cpu"), by which the host knows a model that has no GPU


class Memory:
    """Bytes at an address that lasts, each view of them a tensor with a storage of its own, as over a raw pointer."""

    def __init__(self, size: int) -> None:
        self.bytes = np.empty(size, dtype=np.uint8)
        self.base_addr = self.bytes.ctypes.data

    def forget(self, start: int, size: int) -> None:
        self.bytes[start : start + size] = 0xFF  # NaN in every kind of float

    def tensor(self, address: int, size: int) -> torch.Tensor:
        start = address - self.base_addr
        return torch.from_numpy(self.bytes[start : start + size])


class PlayedVRAM:
    """The memory, and what a test may do with it and ask of it.

    capacity: pages that fit. counted: pins are counted, else one flag a page, as in older versions.
    """

    def __init__(self) -> None:
        self.capacity = 1 << 40
        self.counted = True
        self.vbars: list[Pages] = []
        self.serial = itertools.count(1)
        self.failed_faults = 0
        self.warnings = 0

    def analyze(self, device=None) -> int:
        """vbars_analyze: how much is loaded. Warns, on a GPU, of every page that is pinned just now."""
        self.warnings += self.pinned
        return self.resident * PAGE

    def evict(self) -> int:
        """Take back every page that nobody has pinned; return how many."""
        return sum(vbar.free_memory(1 << 60) for vbar in self.vbars) // PAGE

    @property
    def resident(self) -> int:
        return sum(len(vbar.resident) for vbar in self.vbars)

    @property
    def pinned(self) -> int:
        """How many pages are pinned."""
        return sum(pins > 0 for vbar in self.vbars for pins in vbar.pins.values())


class Pages(Memory):
    """The pages of one model: comfy_aimdo.model_vbar.ModelVBAR."""

    vram: PlayedVRAM

    def __init__(self, size: int, device: int) -> None:
        super().__init__((size // PAGE + 2) * PAGE)
        self.offset = 0
        self.resident: dict[int, int] = {}  # page: serial number of its content
        self.pins: dict[int, int] = {}
        self.forget(0, len(self.bytes))
        self.vram.vbars.append(self)

    def prioritize(self, *_) -> None: ...

    def alloc(self, size: int) -> tuple:
        self.offset = -(-self.offset // 512) * 512
        allocated = self, self.base_addr + self.offset, size
        self.offset += size
        return allocated

    def loaded_size(self) -> int:
        return len(self.resident) * PAGE

    def free_memory(self, size: int) -> int:
        free = [page for page in sorted(self.resident, reverse=True) if not self.pins.get(page)][
            : int(-(-size // PAGE))
        ]
        for page in free:
            del self.resident[page]
            self.forget(page * PAGE, PAGE)
        return len(free) * PAGE

    def get_residency(self) -> list[int]:
        pages = range(len(self.bytes) // PAGE)
        return [(page in self.resident) | 2 * (self.pins.get(page, 0) > 0) for page in pages]

    def pages_of(self, address: int, size: int) -> range:
        start = address - self.base_addr
        return range(start // PAGE, -(-(start + size) // PAGE))


def vbar_fault(allocated: tuple) -> list[int] | None:
    vbar, *place = allocated
    pages = vbar.pages_of(*place)
    absent = [page for page in pages if page not in vbar.resident]
    if vbar.vram.resident + len(absent) > vbar.vram.capacity:
        vbar.vram.failed_faults += 1
        return None
    for page in absent:
        vbar.resident[page] = next(vbar.vram.serial)
    for page in pages:
        vbar.pins[page] = vbar.pins.get(page, 0) + 1 if vbar.vram.counted else 1
    return [vbar.resident[page] for page in pages]


def vbar_unpin(allocated: tuple | None) -> None:
    if allocated is not None:
        vbar, *place = allocated
        for page in vbar.pages_of(*place):
            vbar.pins[page] = max(0, vbar.pins.get(page, 0) - 1) if vbar.vram.counted else 0


def vbar_signature_compare(one, other) -> bool:
    return one is not None and one == other


class CastBuffer(Memory):
    """comfy_aimdo.vram_buffer.VRAMBuffer: the layers of one stream all use it from its beginning."""

    def __init__(self, size: int, device: int) -> None:
        super().__init__(4 * 2**20)
        self.forget(0, len(self.bytes))

    def size(self) -> int:
        return len(self.bytes)

    def get(self, size: int, offset: int = 0) -> tuple:
        return self, self.base_addr + offset, size


class Stream:
    """A stream that is never behind."""

    cuda_stream = 0
    as_context = staticmethod(lambda stream: nullcontext())

    def wait_stream(self, other) -> None: ...

    def synchronize(self) -> None: ...


class HostBuffer:
    """comfy_aimdo.host_buffer.HostBuffer, of which none is used without pinned memory."""

    size = 0

    def __init__(self, *_) -> None: ...

    def truncate(self, *_, **__) -> None: ...


def aimdo_to_tensor(allocated: tuple, device) -> torch.Tensor:
    memory, address, size = allocated
    return memory.tensor(address, size)


def host_has_dynamic_vram() -> bool:
    return hasattr(comfy.model_patcher, "ModelPatcherDynamic")


def play(monkeypatch: pytest.MonkeyPatch) -> PlayedVRAM:
    """Switch the host in this process to dynamic VRAM until `monkeypatch` is undone."""
    import comfy.cli_args
    import comfy.memory_management
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    import comfy_aimdo.vram_buffer
    from dragnoise_pack.nodes.host import resident_weights

    vram = PlayedVRAM()
    vbar = comfy_aimdo.model_vbar
    monkeypatch.setattr(vbar, "ModelVBAR", type("ModelVBAR", (Pages,), {"vram": vram}))
    for function in (vbar_fault, vbar_unpin, vbar_signature_compare):
        monkeypatch.setattr(vbar, function.__name__, function)
    monkeypatch.setattr(vbar, "vbars_analyze", vram.analyze)
    monkeypatch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", aimdo_to_tensor)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", HostBuffer)
    monkeypatch.setattr(comfy_aimdo.vram_buffer, "VRAMBuffer", CastBuffer)
    monkeypatch.setattr(comfy.cli_args.args, "disable_pinned_memory", True)
    monkeypatch.setattr(resident_weights, "PAGE", PAGE)

    management = comfy.model_management
    streams = itertools.cycle([Stream(), Stream()])
    monkeypatch.setattr(management, "get_offload_stream", lambda device: next(streams))
    monkeypatch.setattr(management, "STREAM_AIMDO_CAST_BUFFERS", {})
    monkeypatch.setattr(management, "pinned_hostbuf_size", lambda size: 0)
    monkeypatch.setattr(management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(comfy.ops, "cast_bias_weight", _casting_by_owner())
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    return vram


def _casting_by_owner():
    """Return the host's own cast, which knows a weight outside the GPU by its device, by whose it is instead."""
    source = textwrap.dedent(inspect.getsource(comfy.ops.cast_bias_weight))
    by_device = 'hasattr(s, "_v") and s.weight.device != device'
    assert source.count(by_device) == 1, "the host casts in another way now; play it anew"
    names = dict(vars(comfy.ops), is_the_hosts=_is_the_hosts)
    exec(source.replace(by_device, 'hasattr(s, "_v") and is_the_hosts(s.weight)'), names)  # noqa: S102
    return names["cast_bias_weight"]


def _is_the_hosts(weight: torch.Tensor) -> bool:
    """Return whether a weight is the parameter that the host has noted its own dtype on, or a quantised one."""
    return hasattr(weight, "_model_dtype") or type(weight) is comfy.ops.QuantizedTensor


def dynamic(build: Callable, *arguments, **options) -> comfy.model_patcher.ModelPatcher:
    """Return a MODEL that is loaded dynamically, of the network of build(*arguments, **options)."""
    import comfy.memory_management

    with pytest.MonkeyPatch.context() as aside:
        # What the host builds while it is on has linear layers without weights, for a checkpoint to fill.
        aside.setattr(comfy.memory_management, "aimdo_enabled", False)
        network = build(*arguments, **options).model
    return comfy.model_patcher.ModelPatcherDynamic(network, GPU, torch.device("cpu"))
