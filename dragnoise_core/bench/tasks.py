"""What every method of the benches gets and gives."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..inversion import InversionPath
from ..originals import Original
from ..points import DragPoints
from ..standalone.diffusers_unet import DiffusersSplitUNet


@dataclass(frozen=True, eq=False)
class Task:
    """One drag of one inverted picture.

    latent: the picture, model units, [1, 4, h, w]. noisy: its inversion, sigma space at sigmas[0], [1, 4, h, w].
    sigmas: descending, [k + 1]. points: on the picture. mask: [H, W], 1 = may change; None = everything may.
    path: of the inversion, see `inversion_path`; None where there is none. picture, encode: the picture itself,
    [1, 3, H, W] in [0, 1], and the function that encodes pictures; None where only the latent is known.
    """

    unet: DiffusersSplitUNet
    latent: Tensor
    noisy: Tensor
    sigmas: Tensor
    points: DragPoints
    mask: Tensor | None = None
    path: InversionPath | None = None
    picture: Tensor | None = None
    encode: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method made of a task: the clean latent, [1, 4, h, w], and the gradient steps it took.

    ends: where the method believes the handles to be, [N, 2], picture pixels; None when it has no belief.
    originals: whose own pixels are kept where no difference is seen, see `keep_pixels`.
    """

    latent: Tensor
    iterations: int
    ends: Tensor | None = None
    originals: tuple[Original, ...] = ()


Method = Callable[[Task], Outcome]
