"""Hypothesis without time limits: a busy machine must not fail a test that is right."""

from hypothesis import settings

settings.register_profile("ainode", deadline=None)
settings.load_profile("ainode")
