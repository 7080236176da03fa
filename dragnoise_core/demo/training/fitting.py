"""The three training loops of the demo model. Each runs for a given time and returns its network with final figures."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...schedule import TRAIN_STEPS, scaled_linear_sigmas
from ..networks import PROMPT_TOKENS, PROMPT_WIDTH, PROMPTS, KeypointRegressor, build_autoencoder, build_unet

AUTOENCODER_BATCH = 32
REGRESSOR_BATCH = 96
UNET_BATCH = 256
EMPTY_PROMPT_RATE = 0.1
EMA_DECAY = 0.9995


def report(stage: str, step: int, seconds: float, text: str) -> None:
    sys.stdout.write(f"{stage:12s} step {step:6d} {seconds:6.1f} s  {text}\n")
    sys.stdout.flush()


def steps_for(seconds: float, device: torch.device) -> Iterator[tuple[int, float]]:
    """Yield (step, fraction of the time used) until the time is up; a short GPU queue keeps the time true."""
    start, step = time.monotonic(), 0
    while (fraction := (time.monotonic() - start) / seconds) < 1 or step == 0:
        yield step, min(fraction, 1.0)
        step += 1
        if device.type == "cuda" and step % 20 == 0:
            torch.cuda.synchronize()


def learning_rate(peak: float, step: int, fraction: float, floor: float = 0.0, warmup: int = 200) -> float:
    """Return the learning rate: linear warm-up, then a cosine from `peak` to `floor` times it."""
    cosine = 0.5 * (1 + math.cos(math.pi * fraction))
    return peak * min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False)


def draw(pictures: Tensor, index: Tensor) -> Tensor:
    """Return rows of the uint8 pool as float pictures in [0, 1]."""
    return (pictures[index].float() / 255).contiguous(memory_format=torch.channels_last)


def fit_autoencoder(pictures: Tensor, seconds: float) -> tuple[nn.Module, dict[str, float]]:
    """Train an autoencoder on pictures (uint8 [N, 3, 256, 256]); raw latents get zero mean and unit deviation."""
    device = pictures.device
    model = build_autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    for step, fraction in steps_for(seconds, device):
        optimizer.param_groups[0]["lr"] = learning_rate(6e-4, step, fraction)
        picture = draw(pictures, torch.randint(len(pictures), (AUTOENCODER_BATCH,), device=device))
        with autocast(device):
            latent = model.encode(picture * 2 - 1).latents
            # A little noise on the latent teaches the decoder to bear the small errors of a sampled one.
            decoded = model.decode(latent + 0.04 * torch.randn_like(latent)).sample
        decoded, latent = decoded.float() * 0.5 + 0.5, latent.float()
        difference = decoded - picture
        edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        centre, spread = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
        regular = centre.square().mean() + (spread - 1).square().mean()
        square = difference.square().mean()
        loss = difference.abs().mean() + edges + 5 * square + 0.05 * regular
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0:
            report("autoencoder", step, fraction * seconds, f"PSNR {-10 * math.log10(square.item()):.2f} dB")
    figures = {"steps": step + 1, "loss": loss.item(), "batch_psnr": -10 * math.log10(square.item())}
    return model.eval().requires_grad_(False), figures


def spoil(pictures: Tensor, autoencoder: nn.Module) -> Tensor:
    """Return pictures as imperfect samples may look: coded, blurred, tinted and noisy."""
    if torch.rand(()) < 0.6:
        with torch.no_grad():
            latent = autoencoder.encode(pictures * 2 - 1).latents
            noise = torch.rand(len(latent), 1, 1, 1, device=latent.device) * 0.25
            pictures = autoencoder.decode(latent + noise * torch.randn_like(latent)).sample.float() * 0.5 + 0.5
    if torch.rand(()) < 0.4:
        small = F.avg_pool2d(pictures, 2)
        pictures = F.interpolate(small, scale_factor=2, mode="bilinear")
    gain = 1 + 0.08 * torch.randn(len(pictures), 3, 1, 1, device=pictures.device)
    return (pictures * gain + 0.02 * torch.randn_like(pictures)).clamp(0, 1)


def fit_regressor(
    pictures: Tensor, places: Tensor, autoencoder: nn.Module, seconds: float
) -> tuple[KeypointRegressor, dict[str, float]]:
    """Train a keypoint regressor on pictures and places [N, K, 2] in fractions of the side, NaN where absent."""
    device = pictures.device
    model = KeypointRegressor().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=device.type == "cuda")
    for step, fraction in steps_for(seconds, device):
        optimizer.param_groups[0]["lr"] = learning_rate(2.5e-3, step, fraction)
        index = torch.randint(len(pictures), (REGRESSOR_BATCH,), device=device)
        truth = places[index]
        # Only points well inside the picture count: a heat map cannot point outside it.
        known = ((truth > 0.02) & (truth < 0.98)).all(-1)
        with autocast(device):
            found, spread = model(spoil(draw(pictures, index), autoencoder))
        distance = (found.float() - truth.nan_to_num())[known].square().sum(-1).add(1e-8).sqrt()
        loss = distance.mean() + 0.1 * spread.float()[known].mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        error = distance.mean() * pictures.shape[-1]
        if step % 250 == 0:
            report("regressor", step, fraction * seconds, f"error {error.item():.2f} px")
    return model.eval().requires_grad_(False), {"steps": step + 1, "batch_error_pixels": error.item()}


class UNetTrainer:
    """Epsilon prediction on latents with prompt dropout; holds the trained weights and their moving average.

    Unlike the other two networks it is not put into channels_last: with its many group norms that made a step slower.
    """

    def __init__(self, latents: Tensor, labels: Tensor, start: dict[str, Tensor] | None):
        self.latents, self.labels, self.device = latents, labels, latents.device
        self.prompts = nn.Parameter(0.5 * torch.randn(len(PROMPTS), PROMPT_TOKENS, PROMPT_WIDTH, device=self.device))
        self.unet = build_unet().to(self.device)
        if start is not None:
            weights = {name: value.float() for name, value in start.items()}
            self.prompts.data.copy_(weights.pop("prompt_embeddings"))
            self.unet.load_state_dict(weights)
        self.average, self.average_prompts = copy.deepcopy(self.unet), self.prompts.detach().clone()
        alpha_bar = 1 / (1 + scaled_linear_sigmas().square())
        self.signal = alpha_bar.float().to(self.device)
        self.parameters = [*self.unet.parameters(), self.prompts]
        on_gpu = self.device.type == "cuda"
        self.rate = torch.tensor(1e-6, device=self.device)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=self.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=on_gpu, capturable=on_gpu
        )
        self.loss = torch.zeros((), device=self.device)

    def step(self) -> None:
        """Take one optimiser step on a fresh batch."""
        index = torch.randint(len(self.latents), (UNET_BATCH,), device=self.device)
        clean = self.latents[index].float()
        dropped = torch.rand(UNET_BATCH, device=self.device) < EMPTY_PROMPT_RATE
        label = torch.where(dropped, len(PROMPTS) - 1, self.labels[index])
        timestep = torch.randint(TRAIN_STEPS, (UNET_BATCH,), device=self.device)
        noise = torch.randn_like(clean)
        signal = self.signal[timestep].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        with autocast(self.device):
            predicted = self.unet(noisy, timestep, self.prompts[label]).sample
        loss = F.mse_loss(predicted.float(), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.loss.copy_(loss.detach())

    def captured_step(self) -> Callable[[], None]:
        """Return the step as one CUDA graph: launched one by one, its thousands of small kernels leave the GPU idle."""
        if self.device.type != "cuda":
            return self.step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        return graph.replay

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_([*self.average.parameters(), self.average_prompts], self.parameters, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged weights, with the prompt table under `prompt_embeddings`."""
        return {**self.average.state_dict(), "prompt_embeddings": self.average_prompts}


def fit_unet(
    latents: Tensor, labels: Tensor, seconds: float, begin: float, end: float, start: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train over the part [begin, end] (in seconds) of a schedule of `seconds`, from `start` when it is resumed.

    `latents` are normalised model latents [N, 4, 32, 32], `labels` rows of the prompt table.
    """
    trainer = UNetTrainer(latents, labels, start)
    advance = trainer.captured_step()
    losses = []
    for step, fraction in steps_for(end - begin, latents.device):
        done = begin + fraction * (end - begin)
        trainer.rate.fill_(learning_rate(8e-4, step, done / seconds, floor=0.01, warmup=500))
        advance()
        trainer.update_average(step)
        if step % 50 == 0:
            losses.append(trainer.loss.clone())
        if step % 1000 == 0:
            recent = torch.stack(losses[-20:]).mean().item()
            report("unet", step, done, f"loss {recent:.4f}")
    return trainer.weights(), {"steps": step + 1, "loss": torch.stack(losses[-200:]).mean().item()}
