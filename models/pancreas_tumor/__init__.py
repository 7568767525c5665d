"""Tumor of the pancreas on portal venous CT: a network marks where it may be on each slice, and how large."""
