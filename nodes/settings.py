"""The settings of the drag, and their presets."""

from comfy_api.latest import io

from .host.inputs import CATEGORY, SETTINGS, DragSettingsType, answer, preset_input, read_settings, setting_input


class DragNoiseSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DragNoiseSettings",
            display_name="DragNoise Settings",
            category=CATEGORY,
            description="How a drag is done, for DragNoise Edit and DragNoise Optimize. The values shown here are the "
            "values used; without this node they use the preset default.",
            inputs=[preset_input(), *(setting_input(name) for name in SETTINGS)],
            outputs=[
                DragSettingsType.Output(
                    "drag_settings", display_name="settings", tooltip="For DragNoise Edit and DragNoise Optimize."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, preset: str | None = None, **settings) -> bool | str:
        """Refuse what no drag can be done with before anything runs; linked values are not known yet."""
        return preset is None or answer(read_settings, preset, settings)

    @classmethod
    def execute(cls, preset, **settings) -> io.NodeOutput:
        return io.NodeOutput(read_settings(preset, settings))
