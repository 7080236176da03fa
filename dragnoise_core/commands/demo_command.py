"""`dragnoise demo`: one drag of each scene kind, compared with the picture that the renderer draws for the change."""

from argparse import Namespace
from pathlib import Path

import torch
from PIL import Image

from ..demo.loader import load_keypoint_regressor
from ..demo.scenes.drags import Drag, drag_points, example_drags
from ..drawing import contact_sheet, draw_drag, save_gif, save_picture, to_picture, to_tensor
from ..errors import DragNoiseError
from ..metrics import mean_distance, psnr
from ..points import DragPoints
from ..progress import Progress
from ..standalone.loaded_model import LoadedModel
from ..standalone.models import load_model
from ..standalone.pipeline import edit_image
from .process import ProcessRecorder
from .streams import say
from .terminal import ProgressBars, check_output, describe


def run_demo(options: Namespace) -> None:
    """Drag the example of every scene kind; write before, after, truth, process and one contact sheet; report."""
    folder = Path(options.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DragNoiseError(f"the folder {folder} cannot be made ({error}); choose another one.") from error
    sheet = check_output(folder / "contact-sheet.png")
    model, regressor = load_model("demo", options.device), load_keypoint_regressor()
    rows = [_drag(model, regressor, kind, drag, folder) for kind, drag in example_drags().items()]
    save_picture(contact_sheet(rows, ("before", "points", "after", "truth")), sheet)
    say(f"All pictures are in {folder.resolve()}; {sheet.resolve()} shows them side by side.")


def _drag(
    model: LoadedModel, regressor: torch.nn.Module, kind: str, drag: Drag, folder: Path
) -> tuple[Image.Image, Image.Image, Image.Image, Image.Image]:
    before, truth = to_picture(drag.source_picture()), to_picture(drag.truth_picture())
    pairs = drag_points(drag)
    points = DragPoints.from_pairs(pairs, *before.size, [drag.reach] * len(pairs), drag.pins)
    recorder = ProcessRecorder(model, before, points)
    with ProgressBars(kind) as bars:

        def callback(progress: Progress) -> None:
            bars(progress)
            recorder(progress)

        result = edit_image(model, before, points, prompt=kind, callback=callback)
    after = result.picture
    for name, picture in (("before", before), ("after", after), ("truth", truth)):
        save_picture(picture, folder / f"{kind}-{name}.png")
    save_gif(recorder.finish(after), folder / f"{kind}-process.gif")
    say(f"{kind}: drag of {', '.join(drag.names)}" + (f"; {len(drag.pins)} pins" if drag.pins else ""))
    say(describe(result.report()))
    targets = torch.tensor(points.targets)
    for name, picture in (("before", before), ("after", after)):
        with torch.no_grad():
            found = regressor.locate(to_tensor(picture), kind)
        places = torch.stack([found[point][0] for point in drag.names]).cpu()
        where = "; ".join(f"{x:.1f}, {y:.1f}" for x, y in places.tolist())
        say(
            f"measured {name}: {where}, {mean_distance(places, targets):.1f} px from the target; "
            f"{psnr(to_tensor(picture), to_tensor(truth)):.1f} dB to the truth"
        )
    say("")
    return before, draw_drag(before, points), after, truth
