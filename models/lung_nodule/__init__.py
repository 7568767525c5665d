"""Malignancy of a lung nodule on one to three CTs: `card` for what it is, `model` to run it.

Nothing is imported here: who asks for the card needs no network library.
"""
