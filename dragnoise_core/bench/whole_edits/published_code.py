"""The published code on the same random weights: its modules are imported from a checkout and called, not copied."""

import contextlib
import functools
import importlib.util
import io
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from .meter import Meter, row
from .package import FIRST_DRAG, SCENARIOS, STRENGTH, free, middle_mask
from .random_models import TOKENS, Shape, find_shape, random_autoencoder, random_prompt, random_unet

# The attention that its `run_drag` sets where there is no LoRA, and PyTorch's, which makes it faster and smaller.
ATTENTIONS = {"as released": True, "with PyTorch's attention": False}


def measure_published(folder: Path, repeats: int, narrow: bool, device: torch.device) -> list[dict]:
    """Return the rows of the published code in `folder`, on the shape of SD 1.5."""
    shape = find_shape("sd15", narrow)
    rows = []
    for name, plain_attention in ATTENTIONS.items():
        label = f"sd15, published code {name}: edit"
        released = PublishedCode(folder, shape, device, plain_attention)
        first, iterations = released.edit()
        facts = SCENARIOS[0].facts(label, shape, iterations)
        rows.append(row(label, "first", [first], **facts))
        rows.append(row(label, "later", [released.edit()[0] for _ in range(repeats)], **facts))
        del released
        free()
    return rows


class PublishedCode:
    """The published pipeline around random weights, float32 as its `from_pretrained` loads them."""

    def __init__(self, folder: Path, shape: Shape, device: torch.device, plain_attention: bool) -> None:
        self.device, self.side = device, shape.side
        pipeline_class, self.update = _import_modules(folder)
        self.pipeline = pipeline_class(
            vae=random_autoencoder(shape, device),
            text_encoder=_TextEncoder(random_prompt(shape, device)[0]),
            tokenizer=_Tokenizer(),
            unet=random_unet(shape, device),
            scheduler=DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                set_alpha_to_one=False, steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )  # fmt: skip
        self.pipeline.modify_unet_forward()
        if plain_attention:
            self.pipeline.unet.set_default_attn_processor()
        grid = shape.side // 2
        self.grid_mask = middle_mask(grid)[None, None].to(device)
        # Rows first, as its points are.
        self.handle, self.target = (torch.tensor([round(y * grid), round(x * grid)]).float() for x, y in FIRST_DRAG)
        self.settings = SimpleNamespace(
            prompt="", points=[], n_inference_step=shape.steps, n_actual_inference_step=round(STRENGTH * shape.steps),
            guidance_scale=1.0, unet_feature_idx=[3], r_m=1, r_p=3, lam=0.1, end_step=0, lr=0.01,
            n_pix_step=SCENARIOS[0].config(shape).iterations, sup_res_h=grid, sup_res_w=grid,
        )  # fmt: skip

    def edit(self) -> tuple[Meter, int]:
        """Invert, drag and sample as its `run_drag` does; return the figures and the iterations."""
        meter, settings = Meter(self.device), self.settings
        picture = torch.rand(1, 3, self.side, self.side, generator=torch.Generator().manual_seed(0)) * 2 - 1
        schedule = {
            "guidance_scale": settings.guidance_scale,
            "num_inference_steps": settings.n_inference_step,
            "num_actual_inference_steps": settings.n_actual_inference_step,
        }
        pipeline = self.pipeline
        with _quiet():
            with meter.phase("encode"):
                latent = pipeline.image2latent(picture.to(self.device))
            # The pipeline calls its autoencoder itself; here it gets what was measured apart.
            with mock.patch.object(pipeline, "image2latent", lambda picture: latent), meter.phase("inversion"):
                noisy = pipeline.invert(picture, settings.prompt, **schedule)
            with meter.phase("optimisation"):
                pipeline.scheduler.set_timesteps(settings.n_inference_step)
                timestep = pipeline.scheduler.timesteps[settings.n_inference_step - settings.n_actual_inference_step]
                points = [self.handle.clone()], [self.target.clone()]
                moved, bottleneck, steps = self.update(pipeline, noisy, timestep, *points, self.grid_mask, settings)
            with mock.patch.object(pipeline, "latent2image", lambda latents, **_: latents), meter.phase("sampling"):
                # Two rows, the unedited and the edited picture.
                clean = pipeline(
                    prompt=settings.prompt, h_feature=bottleneck, end_step=settings.end_step, batch_size=2,
                    latents=torch.cat([noisy, moved]), **schedule,
                )  # fmt: skip
            with meter.phase("decode"):
                pipeline.latent2image(clean, return_type="pt")
        return meter, len(steps)


@functools.cache
def _import_modules(folder: Path) -> tuple[type, Callable]:
    """Return its pipeline and its optimisation; the points are kept where they are, so that none arrives early."""
    if importlib.util.find_spec("tensorboard") is None:
        # It imports this writer and never uses it.
        sys.modules["torch.utils.tensorboard"] = types.ModuleType("torch.utils.tensorboard")
        sys.modules["torch.utils.tensorboard"].SummaryWriter = None
    sys.path.insert(0, str(folder))
    from drag_pipeline import DragPipeline
    from utils import drag_utils

    track = drag_utils.point_tracking

    def track_and_stay(before, after, handles, first_handles, settings):
        track(before, after, [handle.clone() for handle in handles], first_handles, settings)
        return handles

    drag_utils.point_tracking = track_and_stay
    drag_utils.check_handle_reach_target = lambda handles, targets: torch.tensor(False)
    return DragPipeline, drag_utils.drag_diffusion_update


class _TokenIds:
    """Token numbers that nobody reads; moving them to a GPU works even where there is none."""

    def __init__(self, rows: int) -> None:
        self.shape = (rows, TOKENS)

    def to(self, device: Any) -> "_TokenIds":
        return self

    def cuda(self) -> "_TokenIds":
        return self


class _Tokenizer:
    def __call__(self, prompt: str | list[str], **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=_TokenIds(len(prompt) if isinstance(prompt, list) else 1))


class _TextEncoder(torch.nn.Module):
    """Answers every prompt with the same embedding."""

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.register_buffer("embedding", embedding)

    def forward(self, tokens: _TokenIds) -> list[Tensor]:
        return [self.embedding.expand(tokens.shape[0], -1, -1)]


@contextlib.contextmanager
def _quiet():
    """Silence what it prints at every step and what newer libraries warn of."""
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
