"""Synthetic studies: seeded generators of pictures whose findings are known."""
