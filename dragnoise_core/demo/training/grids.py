"""Pictures side by side in one file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor


def save_grid(pictures: Tensor, file: Path, columns: int) -> None:
    """Write pictures [N, 3, H, W] in [0, 1], N a multiple of `columns`, as one PNG, row by row."""
    count, channels, height, width = pictures.shape
    rows = pictures.view(count // columns, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    grid = rows.reshape(count // columns * height, columns * width, channels)
    Image.fromarray((grid.clamp(0, 1) * 255).round().byte().cpu().numpy()).save(file)
