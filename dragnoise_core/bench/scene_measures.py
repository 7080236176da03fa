"""What is measured on a method's result for a drag whose truth can be rendered."""

import torch
from torch import Tensor

from ..demo.networks import KeypointRegressor
from ..demo.scenes import SIZE, keypoints
from ..metrics import colour_difference, mean_distance, psnr, sharpness, ssim
from .scene_drags import BenchDrag, dilated

UNCHANGED = 0.02  # of the range of a pixel: under this the truth is the source
MARGIN = 4  # pixels around the change that do not count as outside
EQUAL = 60.0  # dB: an 8-bit picture comes no nearer than this to one that is not rounded
STILL = 1.0  # pixels: a keypoint that the truth moves less than this should stay


class SceneMeasures:
    """Source, truth and keypoints of one drag, against which pictures are measured."""

    def __init__(self, item: BenchDrag, regressor: KeypointRegressor) -> None:
        drag = item.drag
        self.kind, self.regressor = drag.kind, regressor
        self.source, self.truth = drag.source_picture(), drag.truth_picture()
        self.changed = item.changed(UNCHANGED)
        self.outside = 1 - dilated(self.changed, MARGIN)
        self.places = {name: place[0] for name, place in keypoints(drag.kind, drag.target, SIZE).items()}
        before = keypoints(drag.kind, drag.source, SIZE)
        self.dragged = list(drag.names)
        self.others = [name for name in self.places if name not in drag.names]
        self.still = [name for name in self.others if (self.places[name] - before[name][0]).norm() < STILL]

    @torch.no_grad()
    def of(self, picture: Tensor) -> dict[str, float | None]:
        """Measure a picture, [1, 3, 256, 256] in [0, 1], on the regressor's device. None where nothing can be measured.

        distance: mean over the dragged keypoints, in pixels, from where the regressor finds them to their targets.
        still_moved: the same for the keypoints that should have stayed. others: for all keypoints not dragged.
        truth_psnr, truth_ssim: to the rendered truth. outside_psnr: to the source, where the truth does not change it.
        changed_sharpness, changed_ssim, changed_colour: where it does, beside the truth's: see `sharpness`, as a
        ratio, `ssim` and `colour_difference`.
        """
        found = self.regressor.locate(picture, self.kind)
        picture = picture.float().cpu()

        def distance(names: list[str]) -> float | None:
            if not names:
                return None
            places = torch.stack([found[name][0].float().cpu() for name in names])
            return mean_distance(places, torch.stack([self.places[name] for name in names]))

        return {
            "distance": distance(self.dragged),
            "truth_psnr": psnr(picture, self.truth),
            "truth_ssim": ssim(picture, self.truth),
            "outside_psnr": min(psnr(picture, self.source, self.outside), EQUAL) if self.outside.any() else None,
            "changed_sharpness": sharpness(picture, self.changed) / max(sharpness(self.truth, self.changed), 1e-6),
            "changed_ssim": ssim(picture, self.truth, self.changed),
            "changed_colour": colour_difference(picture, self.truth, self.changed),
            "still_moved": distance(self.still),
            "others": distance(self.others),
        }
