"""The method over `diffusers` models: pipeline and command line."""
