"""ComfyUI nodes: thin glue between the host and dragnoise_core. Schemas and execute here, all else in host/."""

from comfy_api.latest import ComfyExtension, io

from .demo_model import DragNoiseDemoModel
from .edit import DragNoiseEdit, DragNoiseLoadEdit, DragNoiseSaveEdit
from .folder import DragNoiseLoadFolder
from .inspect import DragNoiseBlockReplace, DragNoiseFrames
from .inversion import DragNoiseInvert
from .optimisation import DragNoiseOptimize
from .points import DragNoiseOverlay, DragNoisePoints
from .propagation import DragNoiseApply, DragNoiseSample
from .settings import DragNoiseSettings


class DragNoiseExtension(ComfyExtension):
    """Everything this pack registers."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DragNoisePoints,
            DragNoiseInvert,
            DragNoiseSettings,
            DragNoiseOptimize,
            DragNoiseApply,
            DragNoiseSample,
            DragNoiseEdit,
            DragNoiseFrames,
            DragNoiseOverlay,
            DragNoiseSaveEdit,
            DragNoiseLoadEdit,
            DragNoiseLoadFolder,
            DragNoiseBlockReplace,
            DragNoiseDemoModel,
        ]
