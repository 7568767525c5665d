"""MONAI bundles that the tests build: a small network with random weights, configured as public bundles are."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NETWORK = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
CHANNELS = {"0": "background", "1": "spleen", "2": "liver"}


def step(target: str, **arguments: object) -> dict[str, Any]:
    """Return a component of a configuration."""
    return {"_target_": target, **arguments}


def transforms(*steps: dict[str, Any]) -> dict[str, Any]:
    """Return a row of transforms of a configuration."""
    return step("Compose", transforms=list(steps))


def preprocessing() -> dict[str, Any]:
    """Return the preprocessing of most public bundles of CT."""
    return transforms(
        step("LoadImaged", keys="@image_key"),
        step("EnsureChannelFirstd", keys="image"),
        step("Orientationd", keys="image", axcodes="RAS"),
        step("Spacingd", keys="image", pixdim="@pixdim", mode="bilinear"),
        step("ScaleIntensityRanged", keys="image", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
        step("EnsureTyped", keys="image", device="@device"),
    )


def postprocessing(*, labels: bool = True) -> dict[str, Any]:
    """Return a postprocessing to labels, or to probabilities, on the grid of the image."""
    rows = [
        step("Activationsd", keys="pred", softmax=True),
        step(
            "Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False, to_tensor=True
        ),
    ]
    if labels:
        rows += [
            step("AsDiscreted", keys="pred", argmax=True),
            step("KeepLargestConnectedComponentd", keys="pred", applied_labels=[1, 2]),
        ]
    save = step("SaveImaged", keys="pred", output_dir="@output_dir", resample=False, separate_folder=False)
    return transforms(*rows, save | {"output_dtype": "$numpy.float32"})


def configuration(**changes: object) -> dict[str, Any]:
    """Return an inference.json with all that public bundles have in theirs; `changes` replace its keys."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "highres": True,
        "pixdim": "$[2.0, 2.0, 2.5] if @highres else [3.0, 3.0, 3.0]",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": step("UNet", **NETWORK),
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing(),
        "dataset": step("Dataset", data="$[{'image': i} for i in @datalist]", transform="@preprocessing"),
        "dataloader": step("DataLoader", dataset="@dataset", batch_size=1, shuffle=False, num_workers=0),
        "inferer": step(
            "SlidingWindowInferer",
            roi_size=[32, 32, 16],
            sw_batch_size=2,
            overlap=0.5,
            mode="gaussian",
            device="@device",
        ),
        "postprocessing": postprocessing(),
        "handlers": [step("StatsHandler", iteration_log=False)],
        "evaluator": step(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
            val_handlers="@handlers",
            amp=False,
        ),
        "checkpointloader": step(
            "CheckpointLoader", load_path="$@bundle_root + '/models/model.pt'", load_dict={"model": "@network"}
        ),
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    } | changes


def metadata(**answer: object) -> dict[str, Any]:
    """Return a metadata.json of a segmentation; `answer` replaces keys of what it says of the network's answer."""
    described = {"type": "image", "format": "segmentation", "num_channels": len(CHANNELS), "channel_def": CHANNELS}
    image = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "channel_def": {"0": "image"},
    }
    return {
        "version": "0.5.1",
        "monai_version": "1.6.1",
        "task": "Segmentation of drawn organs",
        "description": "A network with random weights",
        "data_source": "nothing: random weights",
        "intended_use": "tests",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": described | answer}},
    }


@cache
def network() -> torch.nn.Module:
    """Return the bundle's network with random weights whose answer differs from place to place."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    built = UNet(**NETWORK)
    # Random weights answer nearly the same everywhere: the last layer's are made larger, and no class is preferred.
    *_, weight, bias = built.eval().parameters()
    values, _ = oblique_volume()
    image = torch.from_numpy(np.clip((values[:, :48] + 57) / 221, 0, 1).transpose(2, 1, 0)[:40, :, :20].copy())
    with torch.no_grad():
        weight.mul_(8)
        bias.sub_(built(image[None, None]).mean(dim=(0, 2, 3, 4)))
    return built


def bundle(
    folder: Path, content: dict[str, Any] | None = None, *, weights: str = ".safetensors", **answer: object
) -> Path:
    """Write a bundle into a folder and return the folder; `weights` is the kind of its file of weights."""
    from safetensors.torch import save_file

    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "configs/inference.json").write_text(json.dumps(content or configuration()))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata(**answer)))
    built, file = network(), folder / f"models/model{weights}"
    match weights:
        case ".safetensors":
            save_file(built.state_dict(), file)
        case ".ts":
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have other formats
                torch.jit.trace(built, torch.zeros(1, 1, 32, 32, 16)).save(str(file))
        case ".pt":
            torch.save(built.state_dict(), file)
    return folder


def oblique_volume() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return an uneven, oblique, flipped volume of smooth noise in Hounsfield units (Z, Y, X) and its affine in LPS."""
    from scipy.ndimage import gaussian_filter
    from scipy.spatial.transform import Rotation

    noise = np.random.default_rng(3).normal(size=(20, 50, 44))
    values = gaussian_filter(noise, 2).astype(np.float32) * 2000 + 50
    axes = Rotation.from_euler("xyz", [10, -7, 23], degrees=True).as_matrix() @ np.diag([-1, 1, -1])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes @ np.diag([1.1, 1.3, 3.1]), [30, -40, 55]
    return values, affine


def classifier(folder: Path) -> Path:
    """Write a bundle that gives a volume a probability for each of two classes, and return its folder."""
    from monai.networks.nets import DenseNet
    from safetensors.torch import save_file

    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "init_features": 8, "growth_rate": 4}
    arguments["block_config"] = [2, 2]  # type: ignore[assignment]
    before = transforms(
        step("LoadImaged", keys="image"),
        step("EnsureChannelFirstd", keys="image"),
        step("ScaleIntensityRanged", keys="image", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
    )
    after = transforms(
        step("Activationsd", keys="pred", softmax=True), step("AsDiscreted", keys="pred", argmax=True, to_onehot=2)
    )
    content = configuration(
        network_def=step("DenseNet", **arguments),
        preprocessing=before,
        postprocessing=after,
        inferer=step("SimpleInferer"),
    )
    classes = {"type": "probabilities", "format": "classes", "num_channels": 2}
    bundle(folder, content, **classes, channel_def={"0": "normal", "1": "nodule"})
    torch.manual_seed(1)
    save_file(DenseNet(**arguments).eval().state_dict(), folder / "models/model.safetensors")
    return folder
