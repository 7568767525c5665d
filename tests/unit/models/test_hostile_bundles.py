"""What of a bundle is not run is refused by its key and value, before anything is built."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from support.monai_bundles import (
    CHANNELS,
    bundle,
    configuration,
    metadata,
    network,
    postprocessing,
    preprocessing,
    step,
    transforms,
)

from ainode.models.bundles import pipeline, weights
from ainode.models.bundles.contents import Contents
from ainode.models.bundles.importing import imported
from ainode.models.errors import BundleRefused, CheckpointRefused


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def refusal(tmp_path: Path, content: dict[str, Any], **answer: object) -> str:
    """Return the refusal of a bundle with a configuration, whose import leaves no trace of its code."""
    with pytest.raises(BundleRefused) as refused:
        imported(bundle(tmp_path / "bundle", content, **answer), tmp_path / "target")
    assert not Path("trace").exists()
    return str(refused.value)


CODE = "$__import__('pathlib').Path('trace').touch()"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (configuration(initialize=[CODE]), "initialize#0"),
        (configuration(pixdim=CODE), "pixdim"),
        (configuration(imports=["$import subprocess"]), "imports#0"),
        (configuration(imports=["$from os import system"]), "imports#0"),
        (configuration(extra={"deep": [[{"a": [CODE]}]]}), "extra#deep#0#0#a#0"),
        (configuration(extra="$eval('1')"), "extra"),
        (configuration(extra="$[x for x in ().__class__.__base__.__subclasses__()]"), "extra"),
        (configuration(extra="$'a' if True else os.system('id')"), "extra"),
        (configuration(extra="$len(open('/etc/passwd'))"), "extra"),
        (configuration(extra="$@evaluator.run() or print(1)"), "extra"),
        (configuration(extra="$monai.data.load_decathlon_datalist(print('x'))"), "extra"),
        (configuration(extra="$@network_def.to(@device) "), "extra"),
        (configuration(extra="$lambda x: x"), "extra"),
        (configuration(extra="${1: 2}['a']"), "extra"),
        (configuration(inferer=step("SimpleInferer", _requires_=[CODE])), "inferer#_requires_#0"),
        (configuration(inferer=step("SimpleInferer", _disabled_=CODE)), "inferer#_disabled_"),
        (configuration(inferer=step("os.system", command="id")), "inferer#_target_"),
        (configuration(inferer=step("builtins.eval", source="1")), "inferer#_target_"),
        (configuration(inferer=step("monai.bundle.run", run_id="run")), "inferer#_target_"),
        (configuration(inferer=step("$@network.forward")), "inferer#_target_"),
        (configuration(inferer=step("scripts.inferer.Own")), "inferer#_target_"),
        (configuration(inferer=step("monai.inferers.utils.optional_import")), "inferer#_target_"),
        (configuration(inferer=step("monai.networks.nets.SlidingWindowInferer")), "inferer#_target_"),
        (configuration(inferer=step("\uff33impleInferer")), "inferer#_target_"),
        (configuration(inferer=step("SimpleInferer", _mode_="callable")), "inferer#_mode_"),
        (configuration(inferer=step("SimpleInferer", _debug_=True)), "inferer#_debug_"),
        (configuration(inferer={"_target_": ["SimpleInferer"]}), "inferer#_target_"),
        (configuration(network="$@network_def.to('cuda')"), "network"),
        (
            configuration(handlers=[step("CheckpointLoader", load_dict={"optimizer": "@network"})]),
            "handlers#0#load_dict",
        ),
        (configuration(evaluator=step("SupervisedEvaluator", network="@network", mode="train")), "evaluator#mode"),
        (configuration(evaluator=step("SupervisedEvaluator", prepare_batch="@x")), "evaluator#prepare_batch"),
        (
            configuration(dataloader=step("DataLoader", collate_fn="$monai.data.utils.no_collation")),
            "dataloader#collate_fn",
        ),
    ],
)
def test_code_in_a_configuration_is_refused_by_its_key(tmp_path: Path, content: dict[str, Any], key: str) -> None:
    message = refusal(tmp_path, content)
    assert f"inference.json, {key} = " in message
    assert "handlers/README.md" in message


@pytest.mark.parametrize(
    "name",
    [
        *("Lambdad", "monai.transforms.Lambda", "InvertibleLambda", "TorchVisiond", "CuCIMd", "ToCupyd", "DataStatsd"),
        *("RandLambdad", "SimulateDelayd", "WriteFileMappingd", "SaveClassificationd", "monai.transforms.utils.exec"),
        *("monai.data.load_net_with_metadata", "pickle.loads", "torch.load", "torch.hub.load"),
    ],
)
def test_a_transform_that_is_not_on_the_list_is_refused_by_name(tmp_path: Path, name: str) -> None:
    before = preprocessing()
    before["transforms"].insert(2, step(name, keys="image"))
    message = refusal(tmp_path, configuration(preprocessing=before))
    assert f"preprocessing#transforms#2#_target_ = '{name}'" in message


@pytest.mark.parametrize("sign", ["\uff04", "\ufe69", " $", "\u200b$", "\uff20", "\ufeff$"])
def test_text_that_only_looks_like_an_expression_is_refused(tmp_path: Path, sign: str) -> None:
    assert "looks like an expression" in refusal(tmp_path, configuration(extra=f"{sign}import os"))


def test_a_key_in_other_letters_is_refused(tmp_path: Path) -> None:
    assert "is no plain text" in refusal(tmp_path, configuration(extra={"_\uff54arget_": "os.system"}))


@pytest.mark.parametrize(
    ("transform", "key"),
    [
        (step("Resized", keys="image", spatial_size=[10**6] * 3), "spatial_size"),
        (step("SpatialPadd", keys="image", spatial_size=[2000] * 3), "spatial_size"),
        (step("Spacingd", keys="image", pixdim=[1e-6] * 3), "pixdim"),
        (step("RepeatChanneld", keys="image", repeats=10**6), "repeats"),
        (step("MedianSmoothd", keys="image", radius=500), "radius"),
        (step("ScaleIntensityd", keys="image", factor_of_mine=2), "factor_of_mine"),
        (step("Activationsd", keys="image", other="os.system"), "other"),
        (step("CropForegroundd", keys="image", source_key="image", select_fn="builtins.print"), "select_fn"),
    ],
)
def test_an_argument_that_asks_for_too_much_or_for_code_is_refused(
    tmp_path: Path, transform: dict[str, Any], key: str
) -> None:
    before = preprocessing()
    before["transforms"].append(transform)
    message = refusal(tmp_path, configuration(preprocessing=before))
    assert f"preprocessing#transforms#6#{key} = " in message


def test_a_network_of_a_terabyte_is_refused_without_memory_for_it(tmp_path: Path) -> None:
    wide = configuration()
    wide["network_def"]["channels"] = [4096, 4096, 4096]
    with pytest.raises(CheckpointRefused, match="not the weights of this network"):
        imported(bundle(tmp_path / "bundle", wide), tmp_path / "target")
    wide["network_def"]["channels"] = [10**9, 10**9, 10**9]
    assert "network_def#channels" in refusal(tmp_path / "wider", wide)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "@first", "first": "@second", "second": "@first"}, "references in a circle"),
        ({"pixdim": "@pixdim"}, "references in a circle"),
        ({"pixdim": "@nowhere#1"}, "nothing stands there"),
        ({"pixdim": "@datalist"}, "of MONAI's own runner"),
        ({"pixdim": "%other.json#pixdim"}, "copies another file"),
        ({"pixdim": "%/etc/passwd"}, "copies another file"),
        ({"pixdim": "%extra", "extra": "%pixdim"}, "copy of a copy"),
        ({"pixdim": "@####extra"}, "above the file's top"),
        ({"_meta_": {}}, "stands for metadata.json"),
    ],
)
def test_references_in_a_circle_or_to_elsewhere_are_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    assert words in refusal(tmp_path, configuration(**changes))


def test_a_long_chain_of_references_ends(tmp_path: Path) -> None:
    chain = {f"a{number}": f"@a{number + 1}" for number in range(3000)}
    assert "in a chain too long" in refusal(tmp_path, configuration(**chain, pixdim="@a0"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "too deeply|not read as data"),
        ('{"a": ' * 60 + "1" + "}" * 60, "more than 32 lists"),
        ('{"a": NaN}', "no finite number"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("[1, 2]", "holds no table"),
        ('{"a": "\xff"}', "not read as data"),
        ('{"a": "' + "x" * 10_000_000 + '"}', "bytes; 524288 are read"),
        ('{"a": [' + "0," * 30_000 + "0]}", "entries; 20000 are read"),
    ],
)
def test_a_file_that_is_no_plain_data_is_refused(tmp_path: Path, text: str, words: str) -> None:
    folder = bundle(tmp_path)
    (folder / "configs/inference.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleRefused, match=words):
        Contents.of(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system ['id']\n", "not read as data"),
        ("a: &x [1]\nb: *x\n", "an alias"),
        ("a: 1\na: 2\n", "stands twice"),
        ("a: .nan\n", "no finite number"),
        ("a: 2024-01-01\n", "a date"),
    ],
)
def test_yaml_is_read_as_data_alone(tmp_path: Path, text: str, words: str) -> None:
    folder = bundle(tmp_path)
    (folder / "configs/inference.json").unlink()
    (folder / "configs/inference.yaml").write_text(text)
    with pytest.raises(BundleRefused, match=words):
        Contents.of(folder)


def test_a_configuration_in_yaml_is_read_as_one_in_json(tmp_path: Path) -> None:
    import yaml

    folder = bundle(tmp_path)
    content = json.loads((folder / "configs/inference.json").read_text())
    (folder / "configs/inference.json").unlink()
    (folder / "configs/inference.yaml").write_text(yaml.safe_dump(content))
    description = imported(folder, tmp_path / "target").description
    assert [channel.name for channel in description.channels] == ["spleen", "liver"]


PLAIN_LOGGING = """[loggers]
keys=root
[handlers]
keys=consoleHandler
[formatters]
keys=fullFormatter
[logger_root]
level=INFO
handlers=consoleHandler
[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)
[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        ("args=(sys.stdout,)", "args=(__import__('os').system('id'),)"),
        ("class=StreamHandler", "class=FileHandler"),
        ("class=StreamHandler", "class=scripts.Handler"),
        ("level=INFO\nformatter", "level=INFO\nkwargs={'a': open('x')}\nformatter"),
        ("[loggers]", "loggers"),
    ],
)
def test_code_in_a_logging_conf_is_refused_by_its_line(tmp_path: Path, plain: str, code: str) -> None:
    folder = bundle(tmp_path / "bundle")
    (folder / "configs/logging.conf").write_text(PLAIN_LOGGING.replace(plain, code))
    with pytest.raises(BundleRefused, match=r"configs/logging\.conf"):
        imported(folder, tmp_path / "target")


def test_a_logging_conf_of_public_bundles_and_pickles_beside_the_weights_are_left_out_by_name(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", weights=".pt")
    bundle(folder)
    (folder / "configs/logging.conf").write_text(PLAIN_LOGGING)
    left_out = imported(folder, tmp_path / "target").left_out
    assert sorted(map(str, left_out)) == ["configs/logging.conf", "models/model.pt"]
    assert not (tmp_path / "target/models/model.pt").exists()


@pytest.mark.parametrize("suffix", [".pt", ".ts", ".safetensors"])
def test_a_pickle_is_refused_under_every_name_and_not_opened(tmp_path: Path, suffix: str) -> None:
    folder, trace = bundle(tmp_path / "bundle"), tmp_path / "trace"
    (folder / "models/model.safetensors").unlink()
    (folder / f"models/model{suffix}").write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises((BundleRefused, CheckpointRefused), match=f"model{suffix}"):
        imported(folder, tmp_path / "target")
    assert not trace.exists()


def test_pickled_weights_of_torch_named_as_torchscript_are_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", weights=".pt")
    (folder / "models/model.pt").rename(folder / "models/model.ts")
    with pytest.raises(CheckpointRefused, match="not a TorchScript file"):
        imported(folder, tmp_path / "target")


def test_a_state_dict_is_converted_without_running_any_of_it(tmp_path: Path) -> None:
    source = bundle(tmp_path / "bundle", weights=".pt")
    with pytest.raises(BundleRefused, match=r"python -m ainode\.models\.bundles\.weights"):
        imported(source, tmp_path / "refused")
    target = tmp_path / "model.safetensors"
    assert weights.converted(source / "models/model.pt", target) == len(network().state_dict())
    intake = imported(source, tmp_path / "taken", target)
    assert str(intake.weights) == "models/model.safetensors"
    loaded = pipeline.reader(tmp_path / "taken").network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network().state_dict().items())


def test_a_pickle_that_asks_for_code_is_not_converted(tmp_path: Path) -> None:
    source, trace = tmp_path / "model.pt", tmp_path / "trace"
    torch.save({"state_dict": Bomb(trace)}, source)
    with pytest.raises(CheckpointRefused, match="not a plain table of weights"):
        weights.converted(source, tmp_path / "model.safetensors")
    assert not trace.exists()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network_data_format": None}, "inputs: 0 are described"),
        ({"num_channels": 0}, "num_channels = 0"),
        ({"channel_def": {"0": "background"}}, "a name for each of 3 channels"),
        ({"channel_def": CHANNELS | {"0": "spleen"}}, "label 0 is background"),
        ({"format": "boxes"}, "format 'boxes'"),
    ],
)
def test_metadata_that_leaves_the_answer_open_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    folder = bundle(tmp_path / "bundle", **change)
    if "network_data_format" in change:
        (folder / "configs/metadata.json").write_text(json.dumps(metadata() | change))
    with pytest.raises(BundleRefused, match=words):
        imported(folder, tmp_path / "target")


def test_labels_that_an_inversion_would_mix_or_leave_elsewhere_are_refused(tmp_path: Path) -> None:
    after = postprocessing()
    argmax = after["transforms"].pop(2)
    after["transforms"].insert(1, argmax)
    assert "mixes labels of neighbors" in refusal(tmp_path / "mixed", configuration(postprocessing=after))
    del after["transforms"][2]
    assert "no Invertd of 'pred'" in refusal(tmp_path / "elsewhere", configuration(postprocessing=after))
    unlabeled = configuration(postprocessing=postprocessing(labels=False))
    assert "no AsDiscreted of 'pred'" in refusal(tmp_path / "unlabeled", unlabeled)


def test_several_images_or_none_are_refused(tmp_path: Path) -> None:
    before = preprocessing()
    before["transforms"][0]["keys"] = ["image", "label"]
    assert "one image is brought" in refusal(tmp_path / "two", configuration(preprocessing=before))
    del before["transforms"][0]
    assert "LoadImaged, once, comes first" in refusal(tmp_path / "none", configuration(preprocessing=before))


def archive(path: Path, folder: Path, top: str = "spleen/") -> Path:
    """Return a ZIP archive of a bundle's folder below `top`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for part in sorted(folder.rglob("*")):
            if part.is_file():
                file.write(part, top + part.relative_to(folder).as_posix())
    return path


def test_an_archive_is_read_as_its_folder_and_only_what_is_read_is_copied(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    (folder / "scripts").mkdir()
    (folder / "scripts/__init__.py").write_text("raise SystemExit")
    (folder / "LICENSE").write_text("Apache-2.0")
    for top in ("", "spleen/"):
        target = tmp_path / f"target{len(top)}"
        intake = imported(archive(tmp_path / "bundle.zip", folder, top), target)
        copied = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
        assert copied == {"LICENSE", "configs/inference.json", "configs/metadata.json", "models/model.safetensors"}
        assert intake.description.kind == "segment"
        assert intake.description.is_turning


@pytest.mark.parametrize("name", ["../../trace", "/trace", "spleen/../../trace", "a\\..\\trace", "C:/trace"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "bundle.zip", bundle(tmp_path / "bundle"))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(BundleRefused, match="leads out of its folder"):
        imported(path, tmp_path / "target")


def test_links_are_refused_in_archives_and_folders(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    path = archive(tmp_path / "bundle.zip", folder)
    link = zipfile.ZipInfo("spleen/models/other.ts")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(BundleRefused, match="is a link"):
        imported(path, tmp_path / "target")
    (folder / "configs/inference.json").rename(tmp_path / "inference.json")
    (folder / "configs/inference.json").symlink_to(tmp_path / "inference.json")
    with pytest.raises(BundleRefused, match=r"configs/inference\.json: a link"):
        imported(folder, tmp_path / "target2")


def test_an_archive_with_a_name_twice_a_bomb_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    twice = archive(tmp_path / "twice.zip", folder)
    with zipfile.ZipFile(twice, "a") as file:
        file.writestr("spleen/CONFIGS/inference.json", b"{}")
    with pytest.raises(BundleRefused, match="twice"):
        imported(twice, tmp_path / "target1")
    bomb = archive(tmp_path / "bomb.zip", folder)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("spleen/models/model.ts", bytes(80 * 1024**2))
    with pytest.raises(BundleRefused, match="times its size"):
        imported(bomb, tmp_path / "target2")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(Random(0).randbytes(1000))
    with pytest.raises(BundleRefused, match="no ZIP archive that is whole"):
        imported(broken, tmp_path / "target3")


def test_every_listed_name_is_the_component_that_monai_itself_takes_for_it() -> None:
    from monai.bundle import ComponentLocator, ConfigComponent

    from ainode.models.bundles import allowed

    locator = ComponentLocator()
    for name in allowed.NAMES:
        component = allowed.component(name)
        assert component is not None, name
        module, _, attribute = (
            ConfigComponent({"_target_": name}, locator=locator).resolve_module_name().rpartition(".")
        )
        if module:
            assert component.build is getattr(__import__(module, fromlist=[attribute]), attribute), name


def test_a_row_of_steps_is_named_in_full(tmp_path: Path) -> None:
    many = transforms(*[step("os.system", command=str(number)) for number in range(30)])
    message = refusal(tmp_path, configuration(preprocessing=many))
    assert "preprocessing#transforms#0#_target_" in message
    assert "and 10 more" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("initialize", ["$@checkpointloader(@evaluator) if @load_pretrain else None"]),
        ("initialize", ["$setattr(torch.backends.cudnn, 'benchmark', True)"]),
        ("datalist", "$monai.data.load_decathlon_datalist(@list_file, data_list_key='testing', base_dir=@dataset_dir)"),
        ("datalist", "$list(@dataset_dir + pd.read_csv(@dataset_dir + 'test.csv').t2)"),
        ("datalist", "$sorted(glob.glob(@dataset_dir + '/*.nii*'))"),
        ("imports", ["$import pandas as pd", "$import torch"]),
        ("modelname", "$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'"),
        ("spatial_dims", "$len(@spatial_size)"),
        ("whether_resampled", "$(not @whether_raw)"),
        ("output_dtype", "$numpy.float32"),
        ("checkpoint", "$@bundle_root + '/models/' + @modelname"),
    ],
)
def test_what_public_bundles_say_to_monai_s_runner_is_known_and_not_evaluated(
    tmp_path: Path, key: str, value: object
) -> None:
    content = configuration(**{key: value, "load_pretrain": True})
    assert imported(bundle(tmp_path / "bundle", content), tmp_path / "target").description.kind == "segment"


def test_weights_that_monai_would_not_load_are_no_answer(tmp_path: Path) -> None:
    assert "load_pretrain = False" in refusal(tmp_path, configuration(load_pretrain=False))


def test_a_network_of_pictures_over_volumes_is_refused(tmp_path: Path) -> None:
    flat = configuration()
    flat["network_def"]["spatial_dims"] = 2
    with pytest.raises((BundleRefused, CheckpointRefused)):
        imported(bundle(tmp_path / "bundle", flat), tmp_path / "target")
    torchscript = bundle(tmp_path / "script", flat, weights=".ts")
    with pytest.raises(BundleRefused, match=r"network_def#spatial_dims = 2: volumes are read"):
        imported(torchscript, tmp_path / "target2")


def test_a_classification_needs_probabilities(tmp_path: Path) -> None:
    after = transforms(step("AsDiscreted", keys="pred", argmax=True))
    classes = {"type": "probabilities", "format": "classes"}
    assert "no Activationsd of 'pred'" in refusal(tmp_path, configuration(postprocessing=after), **classes)


def test_the_old_size_of_a_swin_network_has_no_effect_and_is_taken(tmp_path: Path) -> None:
    swin = step("SwinUNETR", in_channels=1, out_channels=3, feature_size=12, depths=[1] * 4, img_size=96)
    folder = bundle(tmp_path / "bundle", configuration(network_def=swin))
    # The weights of a Swin network are held against it when they are loaded: it cannot be described without memory.
    assert imported(folder, tmp_path / "target").description.kind == "segment"
    with pytest.raises(CheckpointRefused, match="not the weights of this network"):
        pipeline.reader(tmp_path / "target")


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle")
    (folder / "models/model.safetensors").unlink()
    os.mkfifo(folder / "models/model.safetensors")
    with pytest.raises(BundleRefused, match=r"models/model\.safetensors: a link, or no file"):
        imported(folder, tmp_path / "target")


@pytest.mark.parametrize("shape", [[10**30], [-1], ["x"], [10**9] * 9])
def test_weights_with_impossible_sizes_are_refused(tmp_path: Path, shape: list[object]) -> None:
    folder = bundle(tmp_path / "bundle")
    header = json.dumps({"model.0.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (folder / "models/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointRefused, match=r"model\.safetensors"):
        imported(folder, tmp_path / "target")


@pytest.mark.parametrize("value", [5, None, {"a": 1}, [["image"]]])
def test_values_of_another_kind_are_refused_with_words(tmp_path: Path, value: object) -> None:
    before = preprocessing()
    before["transforms"][0]["keys"] = value
    assert "the name of one image is needed" in refusal(tmp_path / "keys", configuration(preprocessing=before))
    assert "format" in refusal(tmp_path / "format", configuration(), format=value)


def test_weights_other_than_those_that_the_bundle_loads_are_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", weights=".pt")
    for name in ("model_lowres", "model"):
        weights.converted(folder / "models/model.pt", tmp_path / f"{name}.safetensors")
    with pytest.raises(BundleRefused, match=r"loads \./models/model\.pt, the weights are model_lowres"):
        imported(folder, tmp_path / "lowres", tmp_path / "model_lowres.safetensors")
    assert imported(folder, tmp_path / "right", tmp_path / "model.safetensors").description.kind == "segment"


_SOFTMAX, _ARGMAX = {"softmax": True}, {"argmax": True}


@pytest.mark.parametrize(
    ("activation", "discrete", "count", "words"),
    [
        (_SOFTMAX, {"threshold": 0.5}, 1, "Activationsd: softmax or argmax over one channel"),
        ({"sigmoid": True}, _ARGMAX, 1, "AsDiscreted: softmax or argmax over one channel"),
        (_SOFTMAX | {"dim": 2}, _ARGMAX, 3, "Activationsd, dim = 2: channels are chosen from along axis 0"),
        (_SOFTMAX, _ARGMAX | {"dim": 1}, 3, "AsDiscreted, dim = 1: channels are chosen from along axis 0"),
    ],
)
def test_a_choice_among_one_channel_or_along_another_axis_is_refused(
    tmp_path: Path, activation: dict[str, Any], discrete: dict[str, Any], count: int, words: str
) -> None:
    after = transforms(
        step("Activationsd", keys="pred", **activation),
        step("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False),
        step("AsDiscreted", keys="pred", **discrete),
    )
    names = {str(number): name for number, name in enumerate(("background", "spleen", "liver")[-count:])}
    assert words in refusal(tmp_path, configuration(postprocessing=after), num_channels=count, channel_def=names)


def test_a_softmax_over_one_class_of_a_volume_is_refused(tmp_path: Path) -> None:
    after = transforms(step("Activationsd", keys="pred", softmax=True), step("AsDiscreted", keys="pred", threshold=0.5))
    answer = {"type": "probabilities", "format": "classes", "num_channels": 1, "channel_def": {"0": "nodule"}}
    content = configuration(postprocessing=after)
    assert "softmax or argmax over one channel" in refusal(tmp_path, content, **answer)
