"""SplitUNet over ComfyUI's UNetModel where nothing but the model and one prompt take part in a step.

No guidance, hooks, ControlNet or patches: then the host's blocks are called directly, the decoder runs once a step,
and all is tensors, so that CUDA graphs can be captured. Everything else goes through ComfySplitUNet.
"""

import contextlib
import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...dragnoise_core.acceleration import GraphedUNet, Graphs, choose_graphs
from ...dragnoise_core.split_unet import Decoded, Encoded, SplitUNet
from .comfy_unet import KEY, DecoderInputs, decode_blocks, differentiable_attention, epsilon
from .frozen_weights import FrozenWeights, makes_weights

# What a conditioning may hold without taking part in a step otherwise than through the prompt's own tensors.
PLAIN_KEYS = {
    "pooled_output", "width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score",
}  # fmt: skip
PLAIN_TENSORS = ({"c_crossattn"}, {"c_crossattn", "y"})
STEP_WRAPPERS = (
    WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL,
)  # fmt: skip


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
    ComfySplitUNet. conditions: the prompt's tensors.
    """

    def __init__(self, guider, extra_args: dict[str, Any], low_memory: bool = False) -> None:
        self.guider = guider
        self.extra_args = extra_args
        self.model = guider.inner_model
        self.unet = getattr(self.model.diffusion_model, "_orig_mod", self.model.diffusion_model)
        self.dtype = self.model.manual_cast_dtype or self.model.get_dtype()
        self.low_memory = low_memory
        self.weights = FrozenWeights()
        self.foreign_tensors = any(map(makes_weights, self.unet.output_blocks.modules()))
        (condition,) = guider.conds["positive"]
        tensors = condition["model_conds"]
        self.conditions = tuple(
            tensors[name].process_cond(batch_size=1, area=None).cond.to(guider.model_patcher.load_device, self.dtype)
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
        sampling, kept = self.model.model_sampling, _Kept(None if middle else len(self.unet.input_blocks))
        seen = sampling.calculate_input(sigma, x).to(self.dtype)
        if x.is_cuda:
            # Convolutions are faster so, though the weights are turned around at every use.
            seen = seen.contiguous(memory_format=torch.channels_last)
        times = sampling.timestep(sigma).float()
        context, *label = (condition.expand(len(x), *condition.shape[1:]) for condition in self.conditions)
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
            return Decoded(feature, epsilon(self.model.model_sampling, output, state.x, state.sigma))


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
    """The CUDA graphs of a MODEL, from one node to the next, as long as the host keeps its weights where they are."""

    def __init__(self) -> None:
        self.graphs: Graphs | None = None
        self.weights: FrozenWeights | None = None
        self.captured: tuple | None = None

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
            self.graphs = self.weights = self.captured = None

    def accelerate(self, unet: PlainComfyUNet, speed: Speed) -> SplitUNet:
        """Return the faster form of `unet` where there is one. Raises DragNoiseError as `choose_graphs` does."""
        patched = unet.model.current_weight_patches_uuid
        captured = (speed, patched, *(weight.data_ptr() for weight in unet.unet.parameters()))
        if captured != self.captured:
            self.drop()
            obstacle = "weights are made at every use" if any(map(makes_weights, unet.unet.modules())) else None
            self.graphs = choose_graphs(speed.acceleration, unet.unet, obstacle)
            # Graphs read the stand-ins, so these stay as long.
            self.weights = FrozenWeights(channels_last=not speed.low_memory)
            self.captured = captured
        if self.graphs is None:
            return unet
        unet.weights = self.weights
        return GraphedUNet(unet, self.graphs)
