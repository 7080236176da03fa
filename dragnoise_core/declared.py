"""What a single-file checkpoint says of itself in its header: what it predicts, and with which noise levels."""

import os
from collections.abc import Iterable
from typing import Any

from safetensors import SafetensorError, safe_open

from .errors import DragNoiseError, quoted

# Tensors without other use by which files declare what they predict, as ComfyUI reads and writes them.
V_KEY, ZERO_TERMINAL_KEY, EDM_PREFIXES = "v_pred", "ztsnr", ("edm_vpred.", "edm_mean", "edm_std")
# The entry of the model metadata standard of stability.ai, and its words.
METADATA_KEY = "modelspec.prediction_type"
METADATA_WORDS = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}

Shapes = dict[str, tuple[int, ...]]


def read_header(path: str | os.PathLike) -> tuple[Shapes, dict[str, str]]:
    """Return the shapes of a safetensors file's tensors by their names, and its metadata. Raises DragNoiseError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DragNoiseError(f"{path} is no safetensors file ({error}); download or convert it again.") from error


def declared(name: str, keys: Iterable[str], metadata: dict[str, str]) -> dict[str, Any]:
    """Return settings of a scheduler by which a file says what it predicts and with which noise levels; maybe none.

    keys: its tensors' names. Raises DragNoiseError, naming the file, for what cannot be dragged.
    """
    keys = set(keys)
    for key in sorted(keys):
        if key.startswith(EDM_PREFIXES):
            raise DragNoiseError(
                f"{name} was trained on a continuous schedule (it holds {quoted(key)}); give a model of 1000 "
                "timesteps: SD 1.x, SD 2.x or SDXL."
            )
    found: dict[str, Any] = {}
    word = metadata.get(METADATA_KEY)
    if word is not None and word not in METADATA_WORDS:
        raise DragNoiseError(f"{name} predicts {quoted(word)}; give a model of epsilon or v.")
    if word is not None:
        found["prediction_type"] = METADATA_WORDS[word]
    if V_KEY in keys:
        found["prediction_type"] = "v_prediction"
    # No signal at the last step leaves nothing to predict epsilon from; ComfyUI passes it over there, too.
    if ZERO_TERMINAL_KEY in keys and found.get("prediction_type") == "v_prediction":
        found["rescale_betas_zero_snr"] = True
    return found
