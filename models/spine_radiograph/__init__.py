"""Abnormal or not, and where, on a radiograph of the spine: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
