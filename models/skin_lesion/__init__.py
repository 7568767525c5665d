"""Benign or malignant, on a picture of one skin lesion: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
