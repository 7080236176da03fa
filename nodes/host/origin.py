"""Where a node's MODEL comes from: the files that the nodes above it name, and what those say of themselves."""

from collections.abc import Iterator
from typing import Any

import folder_paths
from comfy.model_sampling import EPS

from ...dragnoise_core.declared import declared, read_header
from ...dragnoise_core.draggable import distilled_notice
from ...dragnoise_core.errors import DragNoiseError, quoted
from .model_facts import own_sampling

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
FOLDERS = ("checkpoints", "diffusion_models")  # of whole models: LoRAs declare what they were trained beside


def model_files(hidden: Any) -> list[str]:
    """Return the names of the weights' files above the running node's input "model", nearest first.

    hidden: the node's, with prompt and unique_id; where the host gives none, there are no files.
    """
    prompt, node = getattr(hidden, "prompt", None) or {}, getattr(hidden, "unique_id", None)
    above = prompt.get(node, {}).get("inputs", {}).get("model")
    return list(dict.fromkeys(_files(prompt, above, set())))


def _files(prompt: dict, link: Any, seen: set) -> Iterator[str]:
    if not isinstance(link, list) or not link or not isinstance(link[0], str) or link[0] in seen:
        return
    seen.add(link[0])
    inputs = prompt.get(link[0], {}).get("inputs", {}).values()
    yield from (value for value in inputs if isinstance(value, str) and value.lower().endswith(SUFFIXES))
    for value in inputs:
        yield from _files(prompt, value, seen)


def check_declared(model, files: list[str]) -> None:
    """Raise DragNoiseError, naming the file, where the host runs a checkpoint for epsilon that declares something else.

    The host reads such declarations in some kinds of checkpoints only.
    """
    if type(own_sampling(model)).calculate_denoised is not EPS.calculate_denoised:
        return
    paths = (folder_paths.get_full_path(folder, name) for name in files for folder in FOLDERS)
    path = next((path for path in paths if path and path.lower().endswith((".safetensors", ".sft"))), None)
    if path is not None and declared(path, *read_header(path)).get("prediction_type") == "v_prediction":
        raise DragNoiseError(
            f"{quoted(path)} declares that it predicts v, and it is run as if it predicted epsilon; put the node "
            "ModelSamplingDiscrete, set to v_prediction, between it and all others."
        )


def with_notice(report: str, files: list[str]) -> str:
    """Return a report with what to expect of a model whose files say by their names that it is distilled."""
    return "\n".join(filter(None, [report, distilled_notice(*files)]))
