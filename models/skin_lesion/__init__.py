"""Benign or malignant, on a picture of one skin lesion: `card` for what it is, `model` to run it.

Nothing is imported here: who asks for the card needs no network library.
"""
