"""Tumor or not on CT slices of the lung and of the pancreas: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
