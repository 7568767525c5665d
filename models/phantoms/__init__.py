"""Synthetic studies: seeded generators of pictures with known findings."""
