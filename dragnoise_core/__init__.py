"""Drag editing of pictures through the bottleneck of a diffusion U-Net (DragNoise, Liu et al., CVPR 2024).

Pure torch: the core knows a model only through `dragnoise_core.split_unet.SplitUNet`.
"""
