"""The method over `diffusers` models."""
