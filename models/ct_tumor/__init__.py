"""Tumor or not on CT slices of the lung and of the pancreas: `card` for what it is, `model` to run it.

Nothing is imported here: who asks for the card needs no network library.
"""
