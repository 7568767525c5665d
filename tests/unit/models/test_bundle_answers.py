"""A bundle read here answers as MONAI's own runner does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import monai_run
from support.monai_bundles import (
    NETWORK,
    bundle,
    classifier,
    configuration,
    network,
    oblique_volume,
    postprocessing,
    preprocessing,
    step,
    transforms,
)

from ainode.models.bundles import pipeline
from ainode.models.bundles.loading import loaded_image
from ainode.models.bundles.seen import seen_share
from ainode.models.errors import BundleFailed, CheckpointRefused, UnusablePicture

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AGREEMENT = 1e-4


def percentiles_and_a_threshold() -> dict[str, Any]:
    """Return a configuration of crop, pad, percentiles and masks that may overlap."""
    before = transforms(
        step("LoadImaged", keys="image", image_only=True, ensure_channel_first=True),
        step("monai.transforms.Orientationd", keys="image", axcodes="LPI"),
        step("Spacingd", keys=["image"], pixdim=[1.7, 1.9, -1], mode="bilinear"),
        step("ScaleIntensityRangePercentilesD", keys="image", lower=1, upper=99, b_min=-1.0, b_max=1.0, clip=True),
        step("CropForegroundd", keys="image", source_key="image", margin=2, k_divisible=4),
        step("NormalizeIntensityd", keys="image", nonzero=True, channel_wise=True),
        step("SpatialPadDict", keys="image", spatial_size=[40, 40, 24]),
    )
    after = transforms(
        step("Activationsd", keys="pred", sigmoid=True),
        step("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False),
        step("AsDiscreted", keys="pred", threshold=0.5),
        step("SaveImaged", keys="pred", output_dir="@output_dir", resample=False, separate_folder=False),
    )
    inferer = step("SlidingWindowInferer", roi_size=[24, 24, 16], overlap=0.25, padding_mode="replicate")
    return configuration(preprocessing=before, postprocessing=after, inferer=inferer)


CONFIGURATIONS = {
    "labels": configuration(),
    "probabilities": configuration(postprocessing=postprocessing(labels=False)),
    "masks": percentiles_and_a_threshold(),
}


@dataclass(frozen=True)
class Run:
    """A bundle's folder, and what MONAI's own runner answered: (channel, Z, Y, X)."""

    folder: Path
    answer: NDArray[Any]


@pytest.fixture(scope="module")
def monai_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return the run of each configuration by `monai.bundle` on the oblique volume as NIfTI."""
    nibabel = pytest.importorskip("nibabel")
    pytest.importorskip("skimage")
    if importlib.util.find_spec("ignite") is None:
        pytest.skip("ignite is not installed")
    values, affine = oblique_volume()
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), LPS_TO_RAS @ affine)
    folders = {name: bundle(tmp_path_factory.mktemp(name), content) for name, content in CONFIGURATIONS.items()}
    for folder in folders.values():
        nibabel.save(image, folder / "image.nii")
        torch.save(network().state_dict(), folder / "models/model.pt")
    subprocess.run([sys.executable, monai_run.__file__, *map(str, folders.values())], check=True)
    return {name: Run(folder, _written(nibabel, folder)) for name, folder in folders.items()}


def _written(nibabel: ModuleType, folder: Path) -> NDArray[Any]:
    (path,) = (folder / "eval").rglob("*.nii.gz")
    answer = np.asarray(nibabel.load(path).dataobj)
    return (answer if answer.ndim == 4 else answer[..., np.newaxis]).transpose(3, 2, 1, 0)


def test_labels_are_those_of_monai_s_own_run_on_an_oblique_volume(monai_runs: dict[str, Run]) -> None:
    run = monai_runs["labels"]
    answer = pipeline.reader(run.folder).answer(*oblique_volume())
    assert {1, 2} <= set(np.unique(answer).tolist())
    assert np.array_equal(answer, run.answer)


def test_torchscript_gives_the_same_labels(monai_runs: dict[str, Run], tmp_path: Path) -> None:
    answer = pipeline.reader(bundle(tmp_path, weights=".ts")).answer(*oblique_volume())
    assert np.array_equal(answer, monai_runs["labels"].answer)


class _Counting(torch.nn.Module):
    """A network that marks the first window that it ever saw, and nothing later."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = [0]

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the channels of a window, background first."""
        self.windows.append(1)
        known = 1.0 if len(self.windows) == 2 else -1.0
        return torch.cat([-known * torch.ones_like(picture), known * torch.ones_like(picture)], 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script
def test_a_torchscript_that_counts_windows_answers_each_volume_as_if_it_were_the_first(tmp_path: Path) -> None:
    folder = bundle(tmp_path, weights=".ts")
    torch.jit.script(_Counting()).save(str(folder / "models/model.ts"))  # type: ignore[no-untyped-call]
    reader = pipeline.reader(folder)
    first, second = (reader.answer(*oblique_volume()) for _ in range(2))
    assert first.any()
    assert np.array_equal(first, second)


class _Infinite(torch.nn.Module):
    """A network that is sure without an end of each voxel."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the channels of a window, background first."""
        return torch.cat([torch.zeros_like(picture), torch.full_like(picture, float("inf"))], 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_answer_that_is_not_finite_says_nothing_of_a_volume(tmp_path: Path) -> None:
    after = transforms(
        step("Activationsd", keys="pred", sigmoid=True),
        step("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False),
        step("AsDiscreted", keys="pred", argmax=True),
    )
    content = configuration(inferer=step("SimpleInferer"), postprocessing=after)
    folder = bundle(tmp_path, content, weights=".ts")
    torch.jit.script(_Infinite()).save(str(folder / "models/model.ts"))  # type: ignore[no-untyped-call]
    with pytest.raises(UnusablePicture, match="not finite"):
        pipeline.reader(folder).answer(*oblique_volume())


def test_probabilities_are_those_of_monai_s_own_run(monai_runs: dict[str, Run]) -> None:
    run = monai_runs["probabilities"]
    answer = pipeline.reader(run.folder).answer(*oblique_volume())
    assert np.ptp(answer[1]) > 0.1
    assert np.abs(answer - run.answer).max() <= AGREEMENT


def test_masks_after_crop_pad_and_percentiles_are_those_of_monai_s_own_run(monai_runs: dict[str, Run]) -> None:
    run = monai_runs["masks"]
    answer = pipeline.reader(run.folder).answer(*oblique_volume())
    assert answer.shape[0] == 3
    assert set(np.unique(answer).tolist()) == {0, 1}
    assert np.array_equal(answer, run.answer)


def test_a_volume_stored_in_another_order_gets_the_same_labels(tmp_path: Path) -> None:
    reader = pipeline.reader(bundle(tmp_path, configuration(postprocessing=postprocessing(labels=False))))
    values, affine = oblique_volume()
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 2] * (values.shape[0] - 1)
    turned[:3, 2] *= -1
    straight, back = reader.answer(values, affine), reader.answer(np.ascontiguousarray(values[::-1]), turned)
    assert np.abs(straight - back[:, ::-1]).max() <= AGREEMENT


def test_an_answer_that_is_left_on_the_network_s_grid_is_refused_and_not_placed(tmp_path: Path) -> None:
    flip = transforms(
        step("LoadImaged", keys="image"),
        step("EnsureChannelFirstd", keys="image"),
        step("Orientationd", keys="image", axcodes="LPS"),
    )
    labels = transforms(step("AsDiscreted", keys="pred", argmax=True))
    folder = bundle(tmp_path, configuration(preprocessing=flip, postprocessing=labels))
    values, _ = oblique_volume()
    with pytest.raises(BundleFailed, match="does not lie on the grid of the image"):
        pipeline.reader(folder).answer(values, np.diag([-1.0, 1.0, 2.0, 1.0]))


def test_a_spacing_that_makes_too_many_voxels_of_a_volume_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    folder = bundle(tmp_path, configuration(pixdim=[0.1, 0.1, 0.1]))
    values, _ = oblique_volume()
    with pytest.raises(UnusablePicture, match="at a spacing of"):
        pipeline.reader(folder).answer(values, np.diag([3.0, 3.0, 5.0, 1.0]))


def test_a_volume_of_one_value_is_no_image(tmp_path: Path) -> None:
    values, affine = oblique_volume()
    with pytest.raises(UnusablePicture, match="one value"):
        pipeline.reader(bundle(tmp_path)).labels(np.full_like(values, 40), affine)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = step("UNet", **NETWORK | {"channels": [4, 8, 12]})
    folder = bundle(tmp_path, configuration(network_def=other))
    with pytest.raises(CheckpointRefused, match="not the weights of this network"):
        pipeline.reader(folder)


def test_a_disabled_transform_and_a_copied_part_are_as_monai_has_them(tmp_path: Path) -> None:
    before = preprocessing()
    before["transforms"].append(step("Flipd", keys="image", spatial_axis=0, _disabled_="$not @highres"))
    before["transforms"].append(step("Flipd", keys="image", spatial_axis=0, _disabled_="True"))
    before["transforms"][3]["mode"] = "%modes#0"
    folder = bundle(tmp_path, configuration(preprocessing=before, modes=["bilinear"], highres=True))
    parts = pipeline.reader(folder).parts
    assert [type(t).__name__ for t in parts.preprocessing.transforms].count("Flipd") == 1
    assert parts.preprocessing.transforms[3].mode == ("bilinear",)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPL", "ARI"])
def test_a_bundle_that_does_not_turn_its_image_gets_it_as_it_was_trained_and_labels_come_back(
    tmp_path: Path, orientation: str
) -> None:
    nibabel = pytest.importorskip("nibabel")
    plain = transforms(step("LoadImaged", keys="image"), step("EnsureChannelFirstd", keys="image"))
    after = transforms(step("AsDiscreted", keys="pred", argmax=True))
    inferer = step("SlidingWindowInferer", roi_size=[16, 16, 16])
    reader = pipeline.reader(
        bundle(tmp_path, configuration(preprocessing=plain, postprocessing=after, inferer=inferer))
    )
    volume, affine = oblique_volume()
    values = volume[:, :28, :24]
    labels, _ = reader.labels(values, affine, orientation)
    assert len(np.unique(labels)) > 1
    # nibabel turns the same volume: its own answer, turned back, is the same.
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), LPS_TO_RAS @ affine)
    turning = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(tuple(orientation))
    )
    turned = image.as_reoriented(turning)
    expected, _ = reader.labels(np.asarray(turned.dataobj).transpose(2, 1, 0), LPS_TO_RAS @ turned.affine)
    labels_image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), image.affine).as_reoriented(turning)
    assert np.array_equal(np.asarray(labels_image.dataobj).transpose(2, 1, 0), expected)


def test_an_image_that_a_step_of_the_bundle_cannot_take_is_told_as_the_bundle_s_fault(tmp_path: Path) -> None:
    before = preprocessing()
    before["transforms"].insert(2, step("SqueezeDimd", keys="image", dim=1))
    values, affine = oblique_volume()
    with pytest.raises(BundleFailed, match="preprocessing cannot take the image: ValueError"):
        pipeline.reader(bundle(tmp_path, configuration(preprocessing=before))).answer(values, affine)


def test_probabilities_of_a_classification_are_those_before_the_bundle_judges_them(tmp_path: Path) -> None:
    reader = pipeline.reader(classifier(tmp_path))
    values, affine = oblique_volume()
    probabilities, _ = reader.probabilities(values, affine)
    image = np.clip((values.transpose(2, 1, 0) + 57) / 221, 0, 1).astype(np.float32)
    with torch.no_grad():
        expected = reader.network(torch.from_numpy(image[None, None].copy())).softmax(dim=1)[0].numpy()
    assert np.abs(probabilities - expected).max() <= AGREEMENT
    turned, _ = reader.probabilities(values, affine, "RAS")
    assert np.abs(turned - probabilities).max() > 1e-7


def test_every_slice_by_itself_is_read_by_a_slice_inferer_as_monai_does(tmp_path: Path) -> None:
    flat = step("UNet", **NETWORK | {"spatial_dims": 2})
    before = transforms(step("LoadImaged", keys="image"), step("EnsureChannelFirstd", keys="image"))
    after = transforms(step("AsDiscreted", keys="pred", argmax=True))
    inferer = step("SliceInferer", roi_size=[32, 32], spatial_dim=2, sw_batch_size=2)
    folder = bundle(
        tmp_path, configuration(network_def=flat, preprocessing=before, postprocessing=after, inferer=inferer)
    )
    torch.manual_seed(0)
    from monai.networks.nets import UNet
    from safetensors.torch import save_file

    network_2d = UNet(**NETWORK | {"spatial_dims": 2}).eval()
    save_file(network_2d.state_dict(), folder / "models/model.safetensors")
    volume, affine = oblique_volume()
    values = volume[:6, :48]
    labels, _ = pipeline.reader(folder).labels(values, affine, "LPS")
    from monai.inferers import SliceInferer

    turn = pipeline.Turn.to("SPL", affine)
    image = torch.from_numpy(turn.turned(values).transpose(2, 1, 0)[None, None].copy())
    with torch.no_grad():
        expected = SliceInferer(roi_size=[32, 32], spatial_dim=2)(image, network_2d)[0].argmax(dim=0).numpy()
    assert np.array_equal(turn.turned(labels), expected.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("steps", "share"),
    [
        ((), 1.0),
        ((step("CenterSpatialCropd", keys="image", roi_size=[10, 30, 20]),), 10 / 40 * 30 / 50 * 20 / 30),
        ((step("ResizeWithPadOrCropd", keys="image", spatial_size=[80, 25, 30]),), 25 / 50),
        ((step("ResizeWithPadOrCropd", keys="image", spatial_size=[80, 80, 80]),), 1.0),
        ((step("SpatialPadd", keys="image", spatial_size=[80, 80, 80]),), 1.0),
        (
            (
                step("Spacingd", keys="image", pixdim=[2.0, 2.0, 2.0]),
                step("CenterSpatialCropd", keys="image", roi_size=[10, 25, 15]),
            ),
            0.5,
        ),
        (
            (
                step("Orientationd", keys="image", axcodes="PIR"),
                step("SpatialCropd", keys="image", roi_start=[0, 0, 0], roi_end=[25, 30, 40]),
                step("Resized", keys="image", spatial_size=[8, 8, 8]),
            ),
            0.5,
        ),
        (
            (
                step("CenterSpatialCropd", keys="image", roi_size=[10, 30, 20]),
                step("EnsureTyped", keys="image", track_meta=False),
            ),
            None,
        ),
        (
            (
                step("Transposed", keys="image", indices=[0, 3, 2, 1]),
                step("CenterSpatialCropd", keys="image", roi_size=[20, 20, 20]),
            ),
            None,
        ),
    ],
)
def test_the_share_of_a_volume_that_a_bundle_leaves_in_its_input_is_known(
    tmp_path: Path, steps: tuple[dict[str, Any], ...], share: float | None
) -> None:
    before = transforms(step("LoadImaged", keys="image"), step("EnsureChannelFirstd", keys="image"), *steps)
    built = pipeline.reader(bundle(tmp_path, configuration(preprocessing=before))).parts
    values = torch.arange(40 * 50 * 30, dtype=torch.float32).reshape(40, 50, 30)
    image = loaded_image(values.numpy(), np.diag([-1.0, -1.0, 1.0, 1.0]))
    prepared = built.preprocessing({"image": image})["image"]
    seen = seen_share(prepared, image, built.before)
    assert np.isnan(seen) if share is None else seen == pytest.approx(share, abs=0.02)
    assert (seen == 1) == (share == 1)


def test_labels_come_with_the_share_that_was_seen(tmp_path: Path) -> None:
    values, affine = oblique_volume()
    before = preprocessing()
    before["transforms"].insert(4, step("CenterSpatialCropd", keys="image", roi_size=[24, 24, 16]))
    labels, share = pipeline.reader(bundle(tmp_path, configuration(preprocessing=before))).labels(values, affine)
    assert 0 < share < 0.5
    assert (labels > 0).mean() <= share
    _, whole = pipeline.reader(bundle(tmp_path / "whole")).labels(values, affine)
    assert whole == 1


@dataclass(frozen=True)
class Answering(pipeline.Reader):
    """A reader whose bundle answers with these channels."""

    channels: NDArray[np.float32]

    def answer_and_share(
        self, values: NDArray[np.float32], affine_lps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float]:
        """Return the channels, of the whole volume."""
        del values, affine_lps
        return self.channels, 1.0


@pytest.mark.parametrize("channels", [[0.2, 0.3, 0.0], [0.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
def test_channels_that_are_no_single_label_of_a_voxel_are_refused(channels: list[float]) -> None:
    answer = np.zeros((3, 2, 2, 2), np.float32)
    answer[1] = 1
    answer[:, 0, 0, 0] = channels
    reader = Answering(None, None, "cpu", answer)  # type: ignore[arg-type]
    with pytest.raises(BundleFailed, match="voxels of several classes, or of shares"):
        reader.labels(np.zeros((2, 2, 2), np.float32), np.eye(4))
