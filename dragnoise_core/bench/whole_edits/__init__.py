"""What whole edits cost: through the package, through ComfyUI's nodes, and with the published code."""
