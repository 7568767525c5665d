#!/usr/bin/python3
"""A program that finds nodules by a bundle in the layout of MONAI's lung_nodule_ct_detection, its companion files.

It runs in isolation, so MONAI's own parser may follow the expressions of the configuration.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from monai.apps.detection.transforms.box_ops import apply_affine_to_boxes
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged

BUNDLE = Path(__file__).parent / "bundle"
_LPS = np.diag((-1.0, -1.0, 1.0, 1.0))
# What MONAI 1.6 has no longer.
_GONE = "meta_key_postfix"


def _configured() -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    parser.read_meta(BUNDLE / "configs" / "metadata.json")
    parser["bundle_root"] = str(BUNDLE)
    parser["whether_raw_luna16"] = True  # a scan with its own spacing
    return parser


def main() -> None:
    """Read the image, and write the boxes in millimeters of the patient."""
    parser = _configured()
    steps = parser["preprocessing"]["transforms"]
    used = [number for number, step in enumerate(steps) if step["_target_"] != "LoadImaged"]
    for number in used:
        steps[number].pop(_GONE, None)
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(BUNDLE / "models" / "model.pt", weights_only=True))
    detector = parser.get_parsed_content("detector")
    parser.get_parsed_content("detector_ops")
    detector.eval()
    transforms = [parser.get_parsed_content(f"preprocessing::transforms::{number}") for number in used]
    prepared = Compose([LoadImaged("image"), *transforms])({"image": Path(os.environ["AINODE_IN_DIR"], "image.nii")})
    image = prepared["image"]
    with torch.no_grad():
        (found,) = detector([image.as_tensor()])
    boxes = apply_affine_to_boxes(found["box"].numpy(), _LPS @ image.affine.numpy())
    findings = [
        {"class": "nodule", "probability": float(score), "box_mm": [float(number) for number in box]}
        for box, score in zip(boxes, found["label_scores"], strict=True)
    ]
    answer = {"findings": findings, "summary": f"{len(findings)} candidates"}
    Path(os.environ["AINODE_OUT_DIR"], "result.json").write_text(json.dumps(answer), encoding="ascii")


if __name__ == "__main__":
    main()
