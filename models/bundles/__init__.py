"""MONAI bundles: configuration read as data, built from an allow list alone, run as MONAI itself runs it.

`importing.py` takes a bundle in, `review.py` refuses what is not run, `pipeline.py` reads a volume or a picture. No
expression of a bundle is evaluated and no module that a bundle names is imported.
"""

from ainode.models.running.torchvision_compat import ensure_nms

ensure_nms()  # MONAI looks for torchvision once, when it is imported
