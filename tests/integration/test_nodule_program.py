"""A bundle in the layout of MONAI's RetinaNet for nodules, read by a program: the boxes of MONAI's own detector."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.node import ROOT
from support.programs import mr, read_by_program, write_program

from ainode.models.running.torchvision_compat import ensure_nms
from ainode.node.domain import Result
from ainode.node.reading import confinement
from ainode.node.reading.workplace import NOBODY

pytestmark = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))

SPACING_MM = (2.0, 0.9, 0.8)
SHAPE = (24, 48, 56)
PIXDIM = (0.703125, 0.703125, 1.25)
SELECTION = {"score_thresh": 0.02, "topk_candidates_per_level": 100, "nms_thresh": 0.22, "detections_per_img": 6}
BACKBONE = (
    "$monai.networks.nets.resnet.ResNet('basic', [1, 1, 1, 1], [8, 16, 32, 64], spatial_dims=3, n_input_channels=1, "
    "conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])"
)
CONFIGURATION = {
    "whether_raw_luna16": False,
    "whether_resampled_luna16": "$(not @whether_raw_luna16)",
    "bundle_root": "./",
    "device": "$torch.device('cpu')",
    "infer_patch_size": [64, 64, 32],
    "anchor_generator": {
        "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
        "feature_map_scales": [1, 2, 4],
        "base_anchor_shapes": [[6, 8, 4], [8, 6, 5], [10, 10, 6]],
    },
    "backbone": BACKBONE,
    "feature_extractor": "$monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor"
    "(@backbone, 3, False, [1, 2], None)",
    "network_def": {
        "_target_": "RetinaNet",
        "spatial_dims": 3,
        "num_classes": 1,
        "num_anchors": 3,
        "feature_extractor": "@feature_extractor",
        "size_divisible": [16, 16, 8],
    },
    "network": "$@network_def.to(@device)",
    "detector": {"_target_": "RetinaNetDetector", "network": "@network", "anchor_generator": "@anchor_generator"},
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        f"$@detector.set_box_selector_parameters(**{SELECTION})",
        "$@detector.set_sliding_window_inferer(roi_size=@infer_patch_size, overlap=0.25, sw_batch_size=1)",
    ],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "meta_key_postfix": "meta_dict"},
            {"_target_": "EnsureChannelFirstd", "keys": "image", "meta_key_postfix": "meta_dict"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": PIXDIM, "_disabled_": "@whether_resampled_luna16"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -1024.0,
                "a_max": 300.0,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
}


def the_detector() -> Any:  # noqa: ANN401 - MONAI has no types
    """Return MONAI's detector, made by hand, with random weights that find something everywhere."""
    from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
    from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
    from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
    from monai.networks.nets.resnet import ResNet

    torch.manual_seed(7)
    backbone = ResNet(
        *("basic", [1, 1, 1, 1], [8, 16, 32, 64]),
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=[2, 2, 1],
        conv1_t_size=[7, 7, 7],
    )
    features = resnet_fpn_feature_extractor(
        backbone, 3, pretrained_backbone=False, returned_layers=[1, 2], trainable_backbone_layers=None
    )
    network = RetinaNet(3, 1, 3, features, [16, 16, 8])
    torch.nn.init.normal_(network.classification_head.cls_logits.weight, std=0.5)
    torch.nn.init.constant_(network.classification_head.cls_logits.bias, 0.0)
    shapes = ((6, 8, 4), (8, 6, 5), (10, 10, 6))
    detector = RetinaNetDetector(network, AnchorGeneratorWithAnchorShape([1, 2, 4], shapes))
    detector.set_target_keys(box_key="box", label_key="label")
    detector.set_box_selector_parameters(**SELECTION)
    return detector.eval()


def boxes_of(detector: Any, values: np.ndarray[Any, np.dtype[np.float32]]) -> list[tuple[float, list[float]]]:  # noqa: ANN401
    """Return probabilities and corners (LPS mm) of what MONAI finds in a volume (z, y, x)."""
    from monai.data import MetaTensor
    from monai.transforms import Orientation, ScaleIntensityRange, Spacing

    z, y, x = (-(count - 1) / 2 * step for count, step in zip(SHAPE, SPACING_MM, strict=True))
    to_ras = np.diag((-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0))
    to_ras[:3, 3] = -x, -y, z
    image = MetaTensor(torch.from_numpy(values.transpose(2, 1, 0).copy())[None], affine=torch.from_numpy(to_ras))
    image = Spacing(PIXDIM)(Orientation("RAS")(image))
    image = ScaleIntensityRange(-1024.0, 300.0, 0.0, 1.0, clip=True)(image)
    with torch.no_grad():
        (detections,) = detector([image.as_tensor()])
    flip = np.diag((-1.0, -1.0, 1.0, 1.0)) @ image.affine.numpy()
    answers = []
    for box, score in zip(detections["box"].numpy(), detections["label_scores"].numpy(), strict=True):
        low, high = (flip @ (*corner, 1.0) for corner in (box[:3], box[3:]))
        answers.append((float(score), [*np.minimum(low, high)[:3], *np.maximum(low, high)[:3]]))
    return answers


def packages_for_nobody() -> str:
    """Return where Python of the system finds torch and MONAI, for a program of another user."""
    folder = Path(torch.__file__).parent.parent
    trial = subprocess.run(
        ["/usr/bin/python3", "-c", "import torch, monai, nibabel"],
        env={"PYTHONPATH": str(folder), "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        user=NOBODY if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if trial.returncode:
        pytest.skip(f"Python of the system cannot import torch, monai and nibabel of {folder} as another user")
    return str(folder)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python")
def test_a_bundle_of_the_retinanet_layout_reads_nodules_as_monai_does(tmp_path: Path) -> None:
    ensure_nms()  # before MONAI looks for it
    pytest.importorskip("monai", reason="monai is missing")
    packages = packages_for_nobody()
    values = np.random.default_rng(3).integers(-900, 200, SHAPE).astype(np.float32)
    values[10:14, 20:26, 20:26] = 80
    detector = the_detector()
    expected = boxes_of(detector, values)
    path = write_program(
        tmp_path / "models",
        (ROOT / "tests" / "support" / "nodule_program.py").read_text("utf-8"),
        program='input = "nifti"',
    )
    companions = {
        "bundle/configs/inference.json": json.dumps(CONFIGURATION).encode(),
        "bundle/configs/metadata.json": json.dumps({"version": "0.1.0"}).encode(),
        # torch without its compiled torchvision misses an operator that MONAI asks for.
        "shim/sitecustomize.py": (ROOT / "models/running/torchvision_compat.py").read_bytes() + b"\nensure_nms()\n",
    }
    folder = path.parent
    for name, content in companions.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "bundle" / "models").mkdir()
    torch.save(detector.network.state_dict(), folder / "bundle" / "models" / "model.pt")
    described = (folder / "model.toml").read_text("utf-8")
    listed = "\n".join(
        f'[[file.companions]]\npath = "{name}"\nsha256 = "{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"\n'
        for name in (*companions, "bundle/models/model.pt")
    )
    described = described.replace("[takes]", f"{listed}\n[takes]")
    described = described.replace("time_limit_s = 20", "time_limit_s = 110").replace("536870912", "4294967296")
    environment = f'environment = {{PYTHONPATH = "program/shim:{packages}", OMP_NUM_THREADS = "1"}}'
    described = described.replace('input = "nifti"', f'input = "nifti"\n{environment}')
    (folder / "model.toml").write_text(described, encoding="utf-8")
    result = read_by_program(tmp_path, mr(values, SPACING_MM)).answer
    assert isinstance(result, Result)
    assert len(expected) == 6
    assert [finding.verdict and finding.verdict.probability for finding in result.findings] == pytest.approx(
        [score for score, _ in expected], abs=1e-4
    )
    for finding, (_, box) in zip(result.findings, expected, strict=True):
        assert finding.region is not None
        left, top = ((low / step + (count - 1) / 2 + 0.5) for low, step, count in in_plane(box[:2]))
        right, bottom = ((high / step + (count - 1) / 2 + 0.5) for high, step, count in in_plane(box[3:5]))
        shown = np.clip([(left, top), (right, bottom)], 0, (SHAPE[2], SHAPE[1]))
        np.testing.assert_allclose([finding.region.points[0], finding.region.points[2]], shown, atol=0.01)


def in_plane(corner: list[float]) -> list[tuple[float, float, int]]:
    """Return x and y of a corner, each with the size and the number of the pixels."""
    return [(corner[0], SPACING_MM[2], SHAPE[2]), (corner[1], SPACING_MM[1], SHAPE[1])]
