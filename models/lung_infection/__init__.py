"""Lung and infection on a chest CT: a network outlines both, and the share of each lung is counted."""
