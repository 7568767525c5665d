"""Abnormal or not, and where, on a radiograph of the spine: `card` for what it is, `model` to run it.

Nothing is imported here: who asks for the card needs no network library.
"""
