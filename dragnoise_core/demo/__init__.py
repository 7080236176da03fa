"""The demo: procedural scenes with known truth, a small diffusion model of them, and its training.

`scenes` needs torch alone. `loader` gives the trained model; it imports `diffusers` when a model is loaded.
"""
