"""Pneumonia on a chest CT: global and local networks guide a small diffusion that gives the probability."""
