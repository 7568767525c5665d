"""Candidates for lung nodules on a chest CT: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
