"""Malignancy of an outlined lung nodule: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
