"""The pictures whose own pixels an edited one keeps where nobody would see a difference."""

from torch import Tensor

from .edit import DragEdit

Original = tuple[Tensor, Tensor]  # a picture, [1, 3, H, W] in [0, 1], and its latent, [1, 4, h, w]


def kept_originals(edit: DragEdit, source: Original, warped: Original | None = None) -> tuple[Original, ...]:
    """Return the originals for `keep_pixels`, in its order; none where nothing was edited or background is 0.

    warped: the picture as the motion alone would leave it; None where the edit took nothing from it.
    """
    if not (edit.iterations and edit.config.background):
        return ()
    return (source,) if warped is None else (warped, source)
