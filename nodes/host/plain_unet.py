"""SplitUNet over ComfyUI's UNetModel where nothing but the model and one prompt take part in a step.

No guidance, hooks, ControlNet or patches: then the host's blocks are called directly, the decoder runs once a step,
and all is tensors, so that CUDA graphs can be captured. Everything else goes through ComfySplitUNet.
"""

import contextlib
import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor

from ...dragnoise_core.acceleration import GraphedUNet, Graphs, choose_graphs
from ...dragnoise_core.split_unet import Decoded, Encoded, SplitUNet
from .comfy_unet import KEY, DecoderInputs, decode_blocks, differentiable_attention, epsilon
from .frozen_weights import FrozenWeights, makes_weights
from .model_facts import STEP_WRAPPERS, inference_dtype, own_sampling, unet_of
from .resident_weights import PLAIN, is_dynamic, is_out_of_memory

# What a conditioning may hold that takes part in a step through the prompt's own tensors only.
PLAIN_KEYS = {
    "pooled_output", "width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score",
}  # fmt: skip
PLAIN_TENSORS = ({"c_crossattn"}, {"c_crossattn", "y"})


def is_plain(model, positive) -> bool:
    """Return whether a step of `model` under `positive` is the bare U-Net under one prompt."""
    options = dict(model.model_options)
    transformer_options = options.pop("transformer_options", {})
    patches = [value for kind in ("patches", "patches_replace") for value in transformer_options.get(kind, {}).values()]
    others = [value for key, value in transformer_options.items() if key not in ("patches", "patches_replace")]
    taking_part = (
        any(options.values())
        or any(patches)
        or any(others)
        or any(model.get_all_wrappers(kind) for kind in STEP_WRAPPERS)
        or bool(model.injections or model.hook_patches)
    )
    return not taking_part and len(positive) == 1 and positive[0][1].keys() <= PLAIN_KEYS


class State(NamedTuple):
    """What the decoder needs beside the bottleneck. x: the encoded latent; sigma: its noise level, [B]."""

    x: Tensor
    inputs: DecoderInputs
    sigma: Tensor


class PlainComfyUNet:
    """A loaded model's U-Net cut at its middle block, under the guider's one positive prompt.

    guider: inside its `sample` call. extra_args: what the host gave the sampler. low_memory: as in
    ComfySplitUNet. conditions: the prompt's tensors. sampling: the model's own kind of prediction and noise levels.
    """

    def __init__(self, guider, extra_args: dict[str, Any], low_memory: bool = False) -> None:
        self.guider = guider
        self.extra_args = extra_args
        self.model = guider.inner_model
        self.unet = unet_of(self.model.diffusion_model)
        self.device = guider.model_patcher.load_device
        self.dtype = inference_dtype(self.model)
        self.sampling = own_sampling(guider.model_patcher).to(self.device)
        self.low_memory = low_memory
        self.weights = FrozenWeights()
        self.foreign_tensors = any(map(makes_weights, self.unet.output_blocks.modules()))
        (condition,) = guider.conds["positive"]
        tensors = condition["model_conds"]
        self.conditions = tuple(
            tensors[name].process_cond(batch_size=1, area=None).cond.to(self.device, self.dtype)
            for name in ("c_crossattn", "y")
            if name in tensors
        )

    @staticmethod
    def fits(guider) -> bool:
        """Return whether the prompt is tensors that a plain step knows."""
        return [set(condition["model_conds"]) for condition in guider.conds["positive"]][0] in PLAIN_TENSORS

    def under(self, conditions: tuple[Tensor, ...]) -> "PlainComfyUNet":
        """Return the same U-Net under another prompt."""
        other = copy.copy(self)
        other.conditions = conditions
        return other

    @torch.no_grad()
    def encode(self, x: Tensor, sigma: float | Tensor, *, middle: bool = True) -> Encoded:
        """See SplitUNet. Runs the host's U-Net as far as its first output block, or middle block."""
        if not isinstance(sigma, Tensor):
            sigma = x.new_full((), sigma)
        sigma = sigma.expand(len(x))
        kept = _Kept(None if middle else len(self.unet.input_blocks))
        seen = self.sampling.calculate_input(sigma, x).to(self.dtype)
        if x.is_cuda:
            # Convolutions are faster this way, although the weights are laid out anew at every use.
            seen = seen.contiguous(memory_format=torch.channels_last)
        times = self.sampling.timestep(sigma).float()
        context, *label = (condition.expand(len(x), *condition.shape[1:]) for condition in self.conditions)
        held = self.weights.in_place(self.unet, False) if self.weights.whole else contextlib.nullcontext()
        with held:
            with contextlib.suppress(_Reached):
                self.unet(seen, times, context, *label or [None], None, {"patches": kept.patches()})
            embedding = kept.embedding + self.unet.label_emb(*label) if label else kept.embedding
        inputs = DecoderInputs(tuple(reversed(kept.skips)), embedding, context)
        bottleneck = kept.bottleneck.to(torch.promote_types(kept.bottleneck.dtype, torch.float32))
        return Encoded(bottleneck, State(x, inputs, sigma))

    def decode(self, encoded: Encoded, bottleneck: Tensor, *, to_tap: bool) -> Decoded:
        """See SplitUNet."""
        state = encoded.state
        options = {"optimized_attention_override": differentiable_attention}
        frozen = partial(self.weights.in_place, self.unet, self.foreign_tensors)
        again = frozen if self.low_memory else None
        with frozen():
            hidden = bottleneck.to(self.dtype)
            feature, output = decode_blocks(self.unet, hidden, state.inputs, options, to_tap, again=again)
            if to_tap:
                return Decoded(feature, None)
            return Decoded(feature, epsilon(self.sampling, output, state.x, state.sigma))


class _Reached(Exception):
    """The host's forward pass is where the decoder begins."""


class _Kept:
    """What the host's forward pass shows on its way to the decoder. most: skips after which it ends, if not there."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.skips: list[Tensor] = []

    def patches(self) -> dict[str, list]:
        return {
            "emb_patch": [self._keep_embedding],
            "input_block_patch": [self._keep_skip],
            "output_block_patch": [self._stop],
        }

    def _keep_embedding(self, embedding: Tensor, channels: int, options: dict) -> Tensor:
        self.embedding = embedding
        return embedding

    def _keep_skip(self, hidden: Tensor, options: dict) -> Tensor:
        self.skips.append(hidden)
        if len(self.skips) == self.most:
            self._stop(hidden, hidden, options)
        return hidden

    def _stop(self, hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        self.bottleneck = hidden
        raise _Reached


class Speed(NamedTuple):
    """How a drag is to run. acceleration: see `choose_graphs`. low_memory: see ComfySplitUNet."""

    acceleration: str = "auto"
    low_memory: bool = False


AUTOMATIC = Speed()


class HeldGraphs:
    """The CUDA graphs of a MODEL, from one node to the next, as long as the host keeps its weights where they are.

    shortage: what the GPU's memory was too small for in the last run.
    """

    def __init__(self) -> None:
        self.shortage: str | None = None
        self.drop()

    @property
    def remark(self) -> str | None:
        """Return why the last run went without graphs, where they were to be, for the report."""
        return self.shortage or (self.graphs and self.graphs.failure)

    @classmethod
    def of(cls, model) -> "HeldGraphs":
        """Return those of a MODEL; its clones share them, and tell when the host unloads it."""
        held = model.get_attachment(KEY)
        if held is None:
            held = cls()
            model.set_attachments(KEY, held)
            model.add_callback_with_key(CallbacksMP.ON_DETACH, KEY, held.drop)
        return held

    def drop(self, patcher=None, unpatch_all: bool = True) -> None:
        """Give their memory back. Called by the host, too, when it unloads the model: with `unpatch_all`."""
        if unpatch_all:
            self.graphs: Graphs | None = None
            self.weights: FrozenWeights | None = None
            self.sampling: torch.nn.Module | None = None
            self.captured: tuple | None = None
            self.places: tuple[int, ...] | None = None

    def accelerate(
        self, unet: PlainComfyUNet, speed: Speed, stay: contextlib.ExitStack, room: float, gradient: bool
    ) -> SplitUNet:
        """Return the faster form of `unet` where there is one; its weights stay as long as `stay`.

        room: bytes of GPU memory that the run needs beside the weights. gradient: the run needs one. Raises
        DragNoiseError as `choose_graphs` does.
        """
        self.shortage = None
        dynamic = is_dynamic(unet.unet)
        weights = () if dynamic else (weight.data_ptr() for weight in unet.unet.parameters())
        captured = (speed, unet.model.current_weight_patches_uuid, unet.model.model_sampling, *weights)
        if captured != self.captured:
            self.drop()
            obstacle = _obstacle(unet.unet)
            if obstacle is None and speed.acceleration != "eager":
                obstacle = self.shortage = _shortage(unet, room) if dynamic else _elsewhere(unet)
            self.graphs = choose_graphs(
                speed.acceleration, unet.unet, obstacle, device=unet.device if dynamic else None
            )
            # Graphs read the stand-ins and the table of noise levels, so these stay as long.
            self.weights, self.sampling = FrozenWeights(channels_last=not speed.low_memory), unet.sampling
            self.captured = captured if self.shortage is None else None
        if self.graphs is not None and dynamic:
            self._hold_whole(unet, speed, stay)
        if self.graphs is None:
            if gradient:
                stay.enter_context(unet.weights.held(unet.unet, unet.device, unet.dtype))
            return unet
        unet.weights, unet.sampling = self.weights, self.sampling
        return GraphedUNet(unet, self.graphs)

    def _hold_whole(self, unet: PlainComfyUNet, speed: Speed, stay: contextlib.ExitStack) -> None:
        """Keep all weights where the graphs read them, or do without graphs."""
        try:
            stay.enter_context(self.weights.held(unet.unet, unet.device, unet.dtype, whole=True))
        except Exception as error:
            self.drop()
            if not is_out_of_memory(error) or speed.acceleration == "cudagraph":
                raise
            self.shortage = "the weights do not all fit into the GPU's memory"
            return
        places = self.weights.places()
        if places != self.places:
            self.graphs.clear()
            self.places = places


def _obstacle(network: torch.nn.Module) -> str | None:
    if any(map(makes_weights, network.modules())):
        return "weights are made at every use"
    kinds = {type(weight).__name__ for weight in network.parameters() if type(weight) not in PLAIN}
    return f"weights are of the kind {', '.join(sorted(kinds))}" if kinds else None


def _elsewhere(unet: PlainComfyUNet) -> str | None:
    """Return what to say where the host has put only a part of the weights onto the GPU."""
    weights = list(unet.unet.parameters())
    away = sum(weight.device.type != unet.device.type for weight in weights)
    if not away:
        return None
    return f"{away} of {len(weights)} weights are kept outside the GPU, whose memory is too small for all"


def _shortage(unet: PlainComfyUNet, room: float) -> str | None:
    """Return what to say where a dynamic host's memory does not hold all weights and what the run computes."""
    weights = sum(weight.numel() for weight in unet.unet.parameters()) * unet.dtype.itemsize
    free = unet.guider.model_patcher.get_free_memory(unet.device)
    if weights + room <= free:
        return None
    gib = 2**30
    return (
        f"{free / gib:.1f} GiB of GPU memory are free, and all weights ({weights / gib:.1f} GiB) would have to stay "
        f"beside what is computed (about {room / gib:.1f} GiB)"
    )
