"""A drag for the benches on a tiny random U-Net."""

import torch
from small_unet import small_unet

from dragnoise_core.bench.tasks import Task
from dragnoise_core.points import DragPoints
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

SIDE = 64  # pixels; 8 latent cells, 32 cells of the supervision grid


def small_task(dtype=torch.float64, pairs=(((16.0, 32.0), (40.0, 32.0)),), mask=None, seed=0):
    """One drag, by default of 12 grid cells to the right, at the published step, with three steps to sample."""
    torch.manual_seed(seed)
    unet = small_unet(seed, block_out_channels=(32, 32, 32)).to(dtype)
    split = DiffusersSplitUNet(unet, torch.randn(1, 3, 16, dtype=dtype))
    sigmas = ddim_sigmas(scaled_linear_sigmas(), 5, 0.6).to(dtype)
    latent = torch.randn(1, 4, SIDE // 8, SIDE // 8, dtype=dtype)
    noisy = latent + sigmas[0] * torch.randn_like(latent)
    return Task(split, latent, noisy, sigmas, DragPoints.from_pairs(pairs, SIDE, SIDE), mask)


def half_mask():
    """The left half of the picture may change."""
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    return mask
