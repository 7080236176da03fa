"""MODELs that carry an edit or repeat a block's output, through the host's own patch points."""

from dataclasses import replace

from comfy.patcher_extension import WrappersMP
from torch import Tensor, cat

from ...dragnoise_core.edit import DragEdit
from ...dragnoise_core.errors import DragNoiseError, quoted
from ...dragnoise_core.propagation import active_optimisation, correct, propagate
from .comfy_unet import KEY, middle_residual
from .sampling import EDITED

RESIDUAL = "dragnoise_residual"


def apply_edit(model, edit: DragEdit, strength: float = 1.0):
    """Return a clone of `model` that decodes the edit's bottleneck at the noise levels where the edit acts.

    It works through the host's own patch points, together with any sampler, guidance and other patches. Every row of a
    batch gets the same, whatever its prompt; the edit's corrections are added after guidance.
    Raises DragNoiseError during sampling when the shapes do not fit.
    """
    clone = model.clone()

    def keep_residual(executor, x, timesteps, context, y, control, transformer_options, **others):
        options = {**transformer_options, RESIDUAL: middle_residual(control)}
        return executor(x, timesteps, context, y, control, options, **others)

    def replace_bottleneck(hidden: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
        if options["block"] != ("output", 0):
            return hidden, skip
        sigma = float(options["sigmas"].max())
        if active_optimisation(edit, sigma) is None:
            return hidden, skip
        residual = options.get(RESIDUAL)
        own = hidden if residual is None else hidden - residual
        edited = propagate(edit, own, sigma)
        if strength != 1:
            edited = own + strength * (edited - own)
        return (edited if residual is None else edited + residual), skip

    def correct_prediction(arguments: dict) -> Tensor:
        return correct(edit, arguments["denoised"], float(arguments["sigma"].max()), strength)

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, keep_residual)
    clone.set_model_output_block_patch(replace_bottleneck)
    if len(edit.corrections):
        clone.set_model_sampler_post_cfg_function(correct_prediction)
    clone.model_options["transformer_options"][EDITED] = True
    return clone


def with_free_steps(edit: DragEdit, more: int) -> DragEdit:
    """Return the edit with `more` additional free steps."""
    return replace(edit, config=replace(edit.config, free_steps=edit.config.free_steps + more))


def replace_block(model, block: str, index: int, start: float, stop: float):
    """Return a clone of `model` that repeats a block's output from `start` to `stop`, shares of the sampling, 0 to 1.

    Blocks are seen through the host's patches: an input block's output before it goes to skip and next block, the
    middle's and an output block's where the next output block receives it. The end of a run forgets all.
    """
    unet = model.get_model_object("diffusion_model")
    counts = {"middle": 1, "input": len(unet.input_blocks), "output": len(unet.output_blocks) - 1}
    if block not in counts:
        raise DragNoiseError(f"block is {quoted(block)}; choose one of {', '.join(counts)}.")
    count = counts[block]
    if index >= count:
        raise DragNoiseError(
            f"this model has {count} {block} blocks to replace; choose an index from 0 to {count - 1}."
        )
    sampling = model.get_model_object("model_sampling")
    first, last = sampling.percent_to_sigma(start), sampling.percent_to_sigma(stop)
    place = {"middle": ("output", 0), "input": ("input", index), "output": ("output", index + 1)}[block]
    remembered: dict[object, Tensor] = {}  # by prompt: a batch's rows come in any order and number
    clone = model.clone()

    def repeat(hidden: Tensor, options: dict) -> Tensor:
        sigma = float(options["sigmas"].max())
        if options["block"] != place or not last <= sigma <= first:
            return hidden
        rows = hidden.chunk(len(options["uuids"]))
        return cat([remembered.setdefault(prompt, row) for prompt, row in zip(options["uuids"], rows, strict=True)])

    def forget(executor, *arguments, **others):
        remembered.clear()
        try:
            return executor(*arguments, **others)
        finally:
            remembered.clear()

    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, forget)
    if block == "input":
        clone.set_model_input_block_patch(repeat)
    else:
        clone.set_model_output_block_patch(lambda hidden, skip, options: (repeat(hidden, options), skip))
    return clone
