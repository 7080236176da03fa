"""All that knows ComfyUI: adapters over its U-Net, its sampling path, patches, files, conversions, progress."""
