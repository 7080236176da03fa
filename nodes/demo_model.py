"""The demo model: a first drag without any download."""

from comfy_api.latest import io

from ..dragnoise_core.demo.scenes import KINDS, find_kind
from .host.conversions import to_host_image
from .host.demo_model import load_demo_model, scene_picture
from .host.inputs import CATEGORY


class DragNoiseDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseDemoModel",
            display_name="DragNoise Demo Model",
            category=CATEGORY,
            description="A small diffusion model of our own that draws faces, mountains, cats and boats, with a "
            "picture to drag. It runs on a CPU, without any download. For real pictures, load a checkpoint instead.",
            inputs=[
                io.Combo.Input("scene", options=list(KINDS), default="face", tooltip="What the picture shows."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,
                    tooltip="Which picture of that kind; 0 is the one of the example workflows.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The demo U-Net."),
                io.Vae.Output("vae", display_name="vae", tooltip="The demo autoencoder."),
                io.Conditioning.Output("positive", display_name="positive", tooltip="The scene's kind, as a prompt."),
                io.Image.Output("image", display_name="image", tooltip="A picture of that kind, 256 x 256."),
            ],
        )

    @classmethod
    def execute(cls, scene, seed) -> io.NodeOutput:
        find_kind(scene)
        model, vae, prompts = load_demo_model()
        return io.NodeOutput(model, vae, [[prompts[scene], {}]], to_host_image(scene_picture(scene, seed)))
