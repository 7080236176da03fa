"""CUDA graphs: a model's step launched as one piece, where it would spend most of its time being launched."""

import contextlib
import gc
import logging
import math
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .channels_last import ChannelsLastNorms
from .errors import DragNoiseError, quoted
from .split_unet import Decoded, Encoded, SplitUNet

logger = logging.getLogger(__name__)

ACCELERATIONS = ("auto", "eager", "cudagraph")
# Every combination of settings and number of points has graphs of its own; trying many must not fill the memory.
MOST_GRAPHS = 32
# How many steps a GPU may be given before the answer to an earlier one is waited for.
LAG = 2


class Graphs:
    """Functions of tensors, captured as CUDA graphs when first called and replayed from then on.

    A graph reads the weights where they were when it was captured and holds no reference to them: call `clear` before
    they move. required: raise DragNoiseError when a capture fails, instead of logging one sentence and running as
    Python.
    """

    def __init__(self, required: bool = False) -> None:
        self.required = required
        self.failure: str | None = None
        self.clear()

    def clear(self) -> None:
        """Drop all graphs and the memory they hold."""
        self.replays: dict[Hashable, Callable] = {}
        self.pool: Any = None
        self.places: set[int] = set()

    def run(self, key: Hashable, function: Callable, *arguments: Any) -> Any:
        """Return function(*arguments); arguments and results are tensors in nests of tuples and dictionaries.

        key: identifies the function and everything it closes over. The results keep their place in memory; the next
        call with this key overwrites them.
        """
        if self.failure:
            return function(*arguments)
        key = (key, torch.is_grad_enabled(), *((leaf.shape, leaf.dtype) for leaf in pytree.tree_leaves(arguments)))
        if key not in self.replays:
            if len(self.replays) == MOST_GRAPHS:
                self.clear()
            # Results of other graphs are read in place; anything else is copied to memory that stays.
            own = pytree.tree_map(lambda leaf: leaf if leaf.data_ptr() in self.places else leaf.clone(), arguments)
            try:
                self.replays[key] = self.capture(function, own)
            except Exception as error:  # the function's own errors come up again without a graph
                self._fail(error)
                return function(*arguments)
            self.places.update(leaf.data_ptr() for leaf in pytree.tree_leaves(self.replays[key].results))
        return self.replays[key](*arguments)

    def capture(self, function: Callable, arguments: tuple) -> "Replay":
        """Return the function's replay over these arguments."""
        device = pytree.tree_leaves(arguments)[0].device
        with torch.cuda.device(device):
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            return GraphReplay(function, arguments, _capture_stream(device), self.pool)

    def _fail(self, error: Exception) -> None:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if self.required:
            raise DragNoiseError(f"no CUDA graph of this model can be captured ({reason}); use auto.") from error
        logger.warning("No CUDA graph of this model can be captured (%s): the drag runs without, slower.", reason)
        self.clear()
        self.failure = reason


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that all graphs of a device are captured on: cuBLAS keeps 64 MiB a stream."""
    return torch.cuda.Stream(device)


class Replay:
    """A function over arguments and results that keep their places in memory."""

    def __init__(self, arguments: Any) -> None:
        self.arguments = pytree.tree_leaves(arguments)
        self.results: Any = None

    def __call__(self, *arguments: Any) -> Any:
        for place, argument in zip(self.arguments, pytree.tree_leaves(arguments), strict=True):
            if place.data_ptr() != argument.data_ptr():
                place.copy_(argument)
        self.replay()
        return self.results

    def replay(self) -> None:
        """Compute the results of what is in the arguments' places."""
        raise NotImplementedError


class GraphReplay(Replay):
    """A CUDA graph that leaves nothing of its own memory in use: its results are copied out of it.

    So no graph depends on another's memory, which the allocator that ComfyUI chooses (cudaMallocAsync) could not
    guarantee, and all of them share one pool. The function first runs once without a capture, on the same stream:
    libraries allocate their work spaces then, and what fails, fails harmlessly. An exception during the capture is
    harmless too, but the function must not wait for the GPU: CUDA then ends the capture, and cudaMallocAsync the
    process.
    """

    def __init__(self, function: Callable, arguments: tuple, stream: torch.cuda.Stream, pool: Any) -> None:
        super().__init__(arguments)
        self.graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), ChannelsLastNorms(), warnings.catch_warnings():
            # It says that the arguments come from another stream; that one has been waited for.
            warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream", category=UserWarning)
            found = function(*arguments)
        stream.synchronize()
        self.results = pytree.tree_map(torch.clone, found)
        del found
        torch.cuda.current_stream().synchronize()
        with no_collection(), torch.cuda.graph(self.graph, pool=pool, stream=stream), ChannelsLastNorms():
            try:
                found = function(*arguments)
            except Exception as error:
                # What was captured must be freed during the capture: cudaMallocAsync ends the process at a later free.
                traceback.clear_frames(error.__traceback__)
                raise
            for place, result in zip(*map(pytree.tree_leaves, (self.results, found)), strict=True):
                place.copy_(result)
            del found, result
        self.replay = self.graph.replay


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Put the garbage collector off: what it would free during a capture, cudaMallocAsync would make part of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class CapturableUNet(SplitUNet, Protocol):
    """A SplitUNet whose states, and the conditions that `under` exchanges, are nests of tensors and nothing else.

    `encode` also takes sigma as a scalar tensor.
    """

    conditions: Any

    def under(self, conditions: Any) -> "CapturableUNet":
        """Return the same U-Net under other conditions of the same shapes."""


class GraphedUNet:
    """A SplitUNet that replays CUDA graphs of another. What `encode` returns is valid until the next `encode`."""

    def __init__(self, unet: CapturableUNet, graphs: Graphs) -> None:
        self.unet = unet
        self.graphs = graphs
        self.encodings = 0

    @torch.no_grad()
    def encode(self, x: Tensor, sigma: float, *, middle: bool = True) -> Encoded:
        """See SplitUNet."""
        level = torch.full((), sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        bottleneck, state = self.graphs.run(
            ("encode", middle), partial(self._encode, middle), x, level, self.unet.conditions
        )
        self.encodings += 1
        return Encoded(bottleneck.clone(), (self.encodings, state))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet. With a gradient it runs as Python; `replay` captures whatever needs one as a whole."""
        if bottleneck.requires_grad:
            return self.unet.decode(replace(encoded, state=encoded.state[1]), bottleneck, to_tap=to_tap)
        outputs = self.replay(("decode", to_tap), partial(_decode, to_tap), encoded, bottleneck)
        return Decoded(*(output.clone() for output in outputs), *[None] * to_tap)

    def replay(self, key: Hashable, function: Callable, encoded: Encoded, *arguments: Any) -> Any:
        """Return function(unet, encoded, *arguments) as `Graphs.run` does, for what `encode` returned last."""
        number, state = encoded.state
        if number != self.encodings:
            raise RuntimeError("another latent has been encoded since, in the same memory; encode this one again.")

        def run(state: Any, *arguments: Any) -> Any:
            return function(self.unet, replace(encoded, state=state), *arguments)

        return self.graphs.run(key, run, state, *arguments)

    def _encode(self, middle: bool, x: Tensor, sigma: Tensor, conditions: Any) -> tuple[Tensor, Any]:
        encoded = self.unet.under(conditions).encode(x, sigma, middle=middle)
        return encoded.bottleneck, encoded.state


def _decode(to_tap: bool, unet: SplitUNet, encoded: Encoded, bottleneck: Tensor) -> tuple[Tensor, ...]:
    decoded = unet.decode(encoded, bottleneck, to_tap=to_tap)
    return (decoded.feature,) if to_tap else (decoded.feature, decoded.epsilon)


def replayed(unet: SplitUNet, function: partial, encoded: Encoded, *arguments: Any) -> Any:
    """Return function(unet, encoded, *arguments), replayed as a CUDA graph where the U-Net is a GraphedUNet.

    function: a partial whose own arguments are hashable and, with its function, identify everything it closes over.
    arguments: nests of tensors. The next call with an equal function overwrites the results.
    """
    if isinstance(unet, GraphedUNet):
        return unet.replay((function.func, *function.args), function, encoded, *arguments)
    return function(unet, encoded, *arguments)


class Answers:
    """Whether to stop: asked on the device and answered a few steps later, so that no step waits.

    moment: once `heard` has returned True, what was passed with the first question that was answered yes.
    """

    def __init__(self, device: torch.device) -> None:
        self.lag = LAG if device.type == "cuda" else 0
        self.asked: deque[tuple[int, Tensor, torch.cuda.Event | None, Any]] = deque()
        self.moment: Any = None

    def ask(self, stops: Tensor, step: int, moment: Any) -> None:
        """Ask at a step. stops: a scalar on the device."""
        event = None
        if stops.is_cuda:
            stops = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(stops, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self.asked.append((step, stops, event, moment))

    def heard(self, step: float = math.inf) -> bool:
        """Return whether a question asked long enough before `step`, or ever if left out, was answered yes."""
        while self.moment is None and self.asked and self.asked[0][0] <= step - self.lag:
            _, stops, event, moment = self.asked.popleft()
            if event:
                event.synchronize()
            if stops:
                self.moment = moment
        return self.moment is not None


def choose_graphs(
    acceleration: str, network: torch.nn.Module, obstacle: str | None = None, device: torch.device | None = None
) -> Graphs | None:
    """Return the Graphs for a network, or None where it is to run as Python.

    acceleration: "auto" (graphs where they can be captured), "eager" or "cudagraph". obstacle: why they cannot, if
    the caller knows a reason. device: where the weights will be, if they are not there yet. Raises DragNoiseError for
    any other word, and where "cudagraph" is impossible.
    """
    if acceleration not in ACCELERATIONS:
        raise DragNoiseError(f"acceleration is {quoted(acceleration)}; choose one of {', '.join(ACCELERATIONS)}.")
    if acceleration == "eager":
        return None
    reason = obstacle or _obstacle(network, {device} if device else {weight.device for weight in network.parameters()})
    if reason is None:
        return Graphs(required=acceleration == "cudagraph")
    if acceleration == "cudagraph":
        raise DragNoiseError(f"CUDA graphs are impossible here: {reason}; use auto or eager.")
    logger.info("The drag runs without CUDA graphs: %s.", reason)
    return None


def _obstacle(network: torch.nn.Module, devices: set[torch.device]) -> str | None:
    if {device.type for device in devices} != {"cuda"}:
        return f"the weights are on {', '.join(sorted(map(str, devices)))}"
    if torch.version.hip:
        return "the GPU is driven by ROCm"
    if len(devices) > 1:
        return "the weights are on several GPUs"
    for module in network.modules():
        if module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook"):
            return f"a {type(module).__name__} has hooks, which a graph would not call"
    return None
