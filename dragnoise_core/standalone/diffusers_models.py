"""Stable Diffusion models through diffusers' own loaders."""

import importlib.util
import logging as standard_logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.utils import logging
from torch import Tensor

from ..draggable import distilled_notice
from ..errors import DragNoiseError, printable, quoted
from ..schedule import TRAIN_STEPS, sigmas_from_betas
from .checkpoint_file import read_checkpoint
from .loaded_model import LoadedModel, freeze, freeze_autoencoder
from .model_folder import PARTS, WEIGHTY, check_folder, check_weights, variants_of
from .quick_layers import quicken

log = standard_logging.getLogger(__name__)
CONFIGURATION_FILES = ["model_index.json", "*/*.json", "*/*.txt"]
WEIGHT_FILES = [
    "unet/diffusion_pytorch_model*.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
]  # fmt: skip
# Copies of the same weights in other precisions, which a hub repository may hold beside the plain ones.
LEFT_OUT = ["*.fp16.safetensors", "*.non_ema.safetensors", "*.fp16-*.safetensors", "*.non_ema-*.safetensors"]


def load_folder(folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a folder that diffusers' `save_pretrained` wrote. No network. Raises DragNoiseError as `load_model`.

    Where a part's weights lie there in another variant only, such as fp16, that variant is loaded.
    """
    kind = check_folder(folder, name)
    check_weights(folder, kind, name)
    variants = [variant for part in PARTS if None not in (found := variants_of(folder / part)) for variant in found]

    def load(pipeline_class: Any) -> Any:
        return pipeline_class.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True,
            variant=variants[0] if variants else None, **_unused(kind),
        )  # fmt: skip

    return _loaded(name, kind, load, device, dtype)


def load_hub(name: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a model of the hub, from its cache when offline. Raises DragNoiseError as `load_model`."""
    folder = _from_hub(name, CONFIGURATION_FILES, f"no model {quoted(name)}: no folder of that name here")
    check_folder(folder, name)
    patterns, reason = CONFIGURATION_FILES + WEIGHT_FILES, f"no weights of {quoted(name)}"
    folder = _from_hub(name, patterns, reason)
    lacking = [part for part in WEIGHTY if (folder / part).is_dir() and not variants_of(folder / part)]
    if lacking:
        variant = [f"{part}/*.fp16*" for part in lacking]
        folder = _from_hub(name, patterns + variant, reason, left_out=())
    return load_folder(folder, name, device, dtype)


def load_checkpoint(path: Path, config: str | None, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """Load a .safetensors checkpoint with Stable Diffusion's original names. Raises DragNoiseError as `load_model`.

    config: a local diffusers folder with the configuration and the tokenizer; the hub's for this kind of checkpoint
    when left out, which needs the network once. What the file itself declares of its prediction takes precedence.
    """
    checkpoint = read_checkpoint(path)
    if config is None and checkpoint.hub_config.endswith("stable-diffusion-2-1") and not checkpoint.declared:
        raise DragNoiseError(
            f"{path} is a checkpoint of SD 2.x, which does not say whether it predicts epsilon or v; name a diffusers "
            "folder with its configuration (on the command line: --model-config)."
        )
    if config is None:
        reason = f"{path} holds weights only, its configuration and tokenizer come from {checkpoint.hub_config}"
        folder = _from_hub(checkpoint.hub_config, CONFIGURATION_FILES, reason)
    else:
        folder = Path(config)
    if check_folder(folder, str(folder)) != checkpoint.pipeline:
        raise DragNoiseError(
            f"{path} is for {checkpoint.pipeline}, the configuration in {folder} is not; give a matching one."
        )

    def load(pipeline_class: Any) -> Any:
        return pipeline_class.from_single_file(
            str(path), config=str(folder), dtype=dtype, local_files_only=True, **_unused(checkpoint.pipeline)
        )

    remedy = "give the configuration that fits the weights (on the command line: --model-config), or download it again"
    return _loaded(str(path), checkpoint.pipeline, load, device, dtype, checkpoint.declared, remedy)


def _from_hub(name: str, patterns: list[str], reason: str, left_out: Sequence[str] = LEFT_OUT) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=list(left_out)))
    except errors.LocalEntryNotFoundError as error:
        raise DragNoiseError(f"{reason}, and neither the hub nor its cache can give it; go online once.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DragNoiseError(f"{reason}, and the hub has no (public) model {quoted(name)}; check the name.") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise DragNoiseError(f"{reason}, and the hub refused ({_words_of(error)}); try again.") from error


def _loaded(
    name: str,
    kind: str,
    load: Callable[[Any], Any],
    device: torch.device,
    dtype: torch.dtype,
    declared: dict[str, Any] | None = None,
    remedy: str = "download it again",
) -> LoadedModel:
    """Return the model that `load` makes with the pipeline class `kind`; its errors become one sentence."""
    if importlib.util.find_spec("transformers") is None:
        raise DragNoiseError(f"{name} needs the package transformers for its text encoder; pip install transformers.")
    with _quiet():
        import diffusers

        try:
            model = _from_pipeline(name, load(getattr(diffusers, kind)), device, dtype, declared or {})
        except (DragNoiseError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever the libraries' readers make of a stranger's files
            raise DragNoiseError(f"{name} cannot be loaded ({_words_of(error)}); {remedy}.") from error
    if notice := distilled_notice(name, str(model.unet.config.get("_name_or_path") or "")):
        log.warning("%s", printable(notice))
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' bars, hints and deprecations from the user, who can do nothing about them."""
    import transformers

    loggers = (logging, transformers.logging)
    before = [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (verbosity, has_bar) in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
            if has_bar:
                logger.enable_progress_bar()


def _from_pipeline(
    name: str, pipeline: Any, device: torch.device, dtype: torch.dtype, declared: dict[str, Any]
) -> LoadedModel:
    unet, vae = quicken(freeze(pipeline.unet, device, dtype)), pipeline.vae
    is_xl = hasattr(pipeline, "text_encoder_2")
    # SDXL's autoencoder overflows in float16, and its settings say so; others say so by default and do not overflow.
    vae = freeze_autoencoder(vae, device, torch.float32 if is_xl and vae.config.force_upcast else dtype)
    encoders = [freeze(pipeline.text_encoder, device, dtype)]
    if is_xl:
        encoders.append(freeze(pipeline.text_encoder_2, device, dtype))
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0

    @torch.no_grad()
    def encode(picture: Tensor, generator: torch.Generator | None = None, draws: int = 1) -> Tensor:
        posterior = vae.encode((picture * 2 - 1).to(device, vae.dtype)).latent_dist
        latent = posterior.mean if generator is None else torch.cat([posterior.sample(generator) for _ in range(draws)])
        return (latent.float() - shift) * scale

    @torch.no_grad()
    def decode(latent: Tensor) -> Tensor:
        return vae.decode((latent / scale + shift).to(device, vae.dtype)).sample.float() / 2 + 0.5

    @torch.no_grad()
    def conditions(prompt: str, width: int, height: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        encoded = pipeline.encode_prompt(
            prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not is_xl:
            return encoded[0], None
        # Original size, crop and target size (SDXL, Podell et al. 2023, section 2.2), each height first.
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=device)
        return encoded[0], {"text_embeds": encoded[2], "time_ids": time_ids}

    given, taken = conditions("", 512, 512)[0].shape[-1], unet.config.cross_attention_dim
    if given != taken:
        raise DragNoiseError(
            f"{name} has a text encoder that gives {given} numbers a word, its U-Net takes {taken}; the parts are of "
            "different models, give one that is whole."
        )
    schedule = DDIMScheduler.from_config(pipeline.scheduler.config, **declared)
    table = sigmas_from_betas(schedule.betas)
    if len(table) != TRAIN_STEPS or not (table.isfinite().all() and (table.diff() > 0).all()):
        raise DragNoiseError(
            f"{name} has a scheduler whose betas give no {TRAIN_STEPS} rising noise levels; mend its settings in "
            "scheduler/scheduler_config.json, or download it again."
        )
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return LoadedModel(
        name=name,
        unet=unet,
        sigmas=table,
        prediction_type=schedule.config.prediction_type,
        native_side=_native_side(unet.config.sample_size, factor, is_xl),
        encode=encode,
        decode=decode,
        conditions=conditions,
    )


def _native_side(sample_size: Any, factor: int, is_xl: bool) -> int:
    """Return the side of the square that has the area of the pictures that the model was trained on, in pixels."""
    if sample_size is None:
        return 1024 if is_xl else 512
    height, width = (sample_size, sample_size) if isinstance(sample_size, int | float) else sample_size
    return round(math.sqrt(height * width)) * factor


def _unused(kind: str) -> dict[str, Any]:
    return {"safety_checker": None, "requires_safety_checker": False} if kind == "StableDiffusionPipeline" else {}


def _words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {printable(str(error), 200) or 'no reason given'}"
