"""DragNoise for ComfyUI: drag points on a picture and the picture follows."""

WEB_DIRECTORY = "./js"


async def comfy_entrypoint():
    """Return the extension; the host calls this, so that importing the folder needs no host."""
    from .nodes import DragNoiseExtension

    return DragNoiseExtension()
