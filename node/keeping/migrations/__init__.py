"""Alembic's folder: one version file per change of `schema.py`."""
