"""The outline of a lung nodule at a point: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
