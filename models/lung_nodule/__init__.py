"""Malignancy of a lung nodule on one to three CTs: `card` describes the model, `model` runs it.

Nothing is imported here: a caller of `card` needs no network library.
"""
