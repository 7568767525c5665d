"""The original's networks as plain arithmetic on a table of weights, from its layer list; and random ones of ours."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ainode.models.ct_pneumonia.diffusion import Pneumonia

Table = Mapping[str, Tensor]


def random_pneumonia(seed: int) -> Pneumonia:
    """Return a network with random weights everywhere, the map's and the last layers' too."""
    torch.manual_seed(seed)
    network = Pneumonia()
    for module in network.dcg_model.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def norm_keys(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {f"{prefix}.{name}": (width,) for name in ("weight", "bias")}
    return (
        table
        | {f"{prefix}.running_{name}": (width,) for name in ("mean", "var")}
        | {f"{prefix}.num_batches_tracked": ()}
    )


def block_keys(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.conv.weight": (outputs, inputs, 3, 3, 3)} | norm_keys(f"{prefix}.bn", outputs)


def res_keys(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    table = block_keys(f"{prefix}.conv1", width, width) | {f"{prefix}.conv2.weight": (width, width, 3, 3, 3)}
    return table | norm_keys(f"{prefix}.bn2", width)


def linear_keys(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


def dcg_keys(base: int, stages: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Return key to shape of the DCG's checkpoint, small (16, 3, 64) or large (32, 4, 128)."""
    table: dict[str, tuple[int, ...]] = {}
    widths = [1, *(base * 2**stage for stage in range(stages))]
    for n in range(1, stages + 1):
        table |= block_keys(f"global_encoder.conv{n}", widths[n - 1], widths[n])
        table |= res_keys(f"global_encoder.res{n}", widths[n])
    table |= {
        "global_encoder.saliency_conv.weight": (1, widths[-1], 1, 1, 1),
        "global_encoder.saliency_conv.bias": (1,),
    }
    table |= linear_keys("global_encoder.fc.0", widths[-1], hidden) | linear_keys("global_encoder.fc.3", hidden, 2)
    for n in range(1, stages):
        table |= block_keys(f"local_encoder.encoder.{3 * n - 3}", widths[n - 1], widths[n])
        table |= res_keys(f"local_encoder.encoder.{3 * n - 2}", widths[n])
    table |= linear_keys("local_encoder.fc.0", widths[-2], hidden)
    for name in ("V", "U"):
        table |= linear_keys(f"gated_attention.attention_{name}", hidden, hidden // 2)
    table |= linear_keys("gated_attention.attention_w", hidden // 2, 1)
    return table | linear_keys("local_fc.0", hidden, hidden // 2) | linear_keys("local_fc.3", hidden // 2, 2)


def double_keys(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    for index, width in ((0, inputs), (3, outputs)):
        table[f"{prefix}.double_conv.{index}.weight"] = (outputs, width, 3, 3, 3)
        table |= {f"{prefix}.double_conv.{index + 1}.{name}": (outputs,) for name in ("weight", "bias")}
    return table


def point_keys(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outputs, inputs, 1, 1, 1), f"{prefix}.bias": (outputs,)}


def whole_keys() -> dict[str, tuple[int, ...]]:
    """Return key to shape of the whole small checkpoint."""
    table = {f"dcg_model.{key}": shape for key, shape in dcg_keys(16, 3, 64).items()}
    table["prior_gen.dense_map_gen.distance_matrix"] = (8, 8, 8)
    for encoder in ("global_encoder", "cnn_encoder"):
        for n, (inputs, outputs) in enumerate(((1, 16), (16, 32), (32, 64), (64, 128))):
            table |= block_keys(f"prior_gen.{encoder}.encoder.{n}", inputs, outputs)
    table["prior_gen.feature_fusion.query"] = (128, 4)
    table |= linear_keys("prior_gen.feature_fusion.proj", 128, 128)
    table |= point_keys("unet.time_embedding.time_mlp.1", 128, 24) | point_keys(
        "unet.time_embedding.time_mlp.3", 24, 24
    )
    table |= double_keys("unet.inc", 4, 24)
    table |= double_keys("unet.down1.maxpool_conv.1", 24, 48) | double_keys("unet.down2.maxpool_conv.1", 48, 96)
    table |= double_keys("unet.bottleneck.conv1", 96, 96) | double_keys("unet.bottleneck.conv2", 96, 96)
    table |= point_keys("unet.bottleneck.time_proj.0", 24, 96) | point_keys("unet.bottleneck.feature_proj.1", 128, 96)
    for name, width in (("up1", 96), ("up2", 48)):
        table |= {f"unet.{name}.up.weight": (width, width // 2, 2, 2, 2), f"unet.{name}.up.bias": (width // 2,)}
        table |= double_keys(f"unet.{name}.conv", width, width // 2)
    table |= point_keys("unet.outc", 24, 2)
    return table | linear_keys("classifier.0", 128, 64) | linear_keys("classifier.3", 64, 2)


def drawn(keys: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Return a checkpoint of these keys with random weights."""
    generator = torch.Generator().manual_seed(seed)
    table: dict[str, Tensor] = {}
    for key, shape in keys.items():
        if key.endswith("num_batches_tracked"):
            table[key] = torch.tensor(1)
        elif key.endswith("distance_matrix"):
            grid = torch.stack(torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij"))
            table[key] = grid.norm(dim=0) / grid.norm(dim=0).max()
        elif key.endswith("running_var"):
            table[key] = 0.5 + torch.rand(shape, generator=generator)
        else:
            fan = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 4
            table[key] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
    return table


def norm(table: Table, key: str, x: Tensor) -> Tensor:
    mean, var = table[f"{key}.running_mean"], table[f"{key}.running_var"]
    return F.batch_norm(x, mean, var, table[f"{key}.weight"], table[f"{key}.bias"], training=False)


def block(table: Table, key: str, x: Tensor, stride: int = 1) -> Tensor:
    return norm(table, f"{key}.bn", F.conv3d(x, table[f"{key}.conv.weight"], None, stride, 1)).relu()


def res(table: Table, key: str, x: Tensor) -> Tensor:
    inner = F.conv3d(block(table, f"{key}.conv1", x), table[f"{key}.conv2.weight"], None, 1, 1)
    return (norm(table, f"{key}.bn2", inner) + x).relu()


def linear(table: Table, key: str, x: Tensor) -> Tensor:
    return F.linear(x, table[f"{key}.weight"], table[f"{key}.bias"])


def dcg(table: Table, volume: Tensor, stages: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the original's global logits, local logits and regions (k, 1, 16, 16, 8) of one volume."""
    x = volume
    for n in range(1, stages + 1):
        x = res(table, f"global_encoder.res{n}", block(table, f"global_encoder.conv{n}", x, 2))
    key = "global_encoder.saliency_conv"
    saliency = torch.sigmoid(F.conv3d(x, table[f"{key}.weight"], table[f"{key}.bias"]))
    logits = linear(table, "global_encoder.fc.3", linear(table, "global_encoder.fc.0", x.mean((2, 3, 4))).relu())
    fine = F.interpolate(saliency, size=volume.shape[2:], mode="trilinear", align_corners=False)[0, 0]
    regions = []
    for flat in torch.topk(fine.flatten(), k).indices.tolist():
        a, b, c = (int(i) for i in torch.unravel_index(torch.tensor(flat), fine.shape))
        a, b, c = max(0, a - 8), max(0, b - 8), max(0, c - 4)
        padded = F.pad(volume[0], (0, 8, 0, 16, 0, 16))
        regions.append(padded[:, a : a + 16, b : b + 16, c : c + 8])
    parts = torch.stack(regions)
    x = parts
    for n in range(1, stages):
        x = block(table, f"local_encoder.encoder.{3 * n - 3}", x, 2)
        x = res(table, f"local_encoder.encoder.{3 * n - 2}", x)
    features = linear(table, "local_encoder.fc.0", x.mean((2, 3, 4))).relu()
    gate = linear(table, "gated_attention.attention_V", features).tanh()
    gate = gate * linear(table, "gated_attention.attention_U", features).sigmoid()
    share = linear(table, "gated_attention.attention_w", gate).softmax(0)
    fused = (share * features).sum(0, keepdim=True)
    return logits, linear(table, "local_fc.3", linear(table, "local_fc.0", fused).relu()), parts


def double(table: Table, key: str, x: Tensor) -> Tensor:
    for index in (0, 3):
        x = F.conv3d(x, table[f"{key}.double_conv.{index}.weight"], None, 1, 1)
        weight, bias = (table[f"{key}.double_conv.{index + 1}.{name}"] for name in ("weight", "bias"))
        x = F.silu(F.group_norm(x, 8, weight, bias))
    return x


def point(table: Table, key: str, x: Tensor) -> Tensor:
    return F.conv3d(x, table[f"{key}.weight"], table[f"{key}.bias"])


def unet(table: Table, maps: Tensor, time: float, features: Tensor) -> Tensor:
    """Return the original U-Net's noise for maps (1, 4, 8, 8, 8), one time step, features (1, 128)."""
    rates = torch.exp(torch.arange(64) * -(torch.log(torch.tensor(10000.0)) / 63))
    angles = (time * rates).view(1, 64, 1, 1, 1)
    embedded = torch.cat([angles.sin(), angles.cos()], 1)
    embedded = point(table, "unet.time_embedding.time_mlp.1", embedded)
    embedded = point(table, "unet.time_embedding.time_mlp.3", F.silu(embedded))
    one = double(table, "unet.inc", maps)
    two = double(table, "unet.down1.maxpool_conv.1", F.max_pool3d(one, 2))
    three = double(table, "unet.down2.maxpool_conv.1", F.max_pool3d(two, 2))
    inner = double(table, "unet.bottleneck.conv1", three) + point(table, "unet.bottleneck.time_proj.0", embedded)
    inner = inner + point(table, "unet.bottleneck.feature_proj.1", features.view(1, 128, 1, 1, 1))
    x = double(table, "unet.bottleneck.conv2", inner) + three
    for name, skipped in (("up1", two), ("up2", one)):
        up = F.conv_transpose3d(x, table[f"unet.{name}.up.weight"], table[f"unet.{name}.up.bias"], 2)
        x = double(table, f"unet.{name}.conv", torch.cat([skipped, up], 1))
    return point(table, "unet.outc", x)


def whole(table: Table, volume: Tensor, noise: Tensor) -> Tensor:
    """Return the original's answer (1, 2), from given noise."""
    inner = {key.removeprefix("dcg_model."): value for key, value in table.items() if key.startswith("dcg_model.")}
    logits, local, regions = dcg(inner, volume, 3, 3)
    near, far = (one.softmax(1).view(1, 2, 1, 1, 1) for one in (logits, local))
    distance = table["prior_gen.dense_map_gen.distance_matrix"]
    guidance = (1 - distance) * near + distance * far

    def encoded(name: str, x: Tensor) -> Tensor:
        for n in range(4):
            x = block(table, f"prior_gen.{name}.encoder.{n}", x, 2)
        return x.mean((2, 3, 4))

    features = torch.cat([encoded("global_encoder", volume), encoded("cnn_encoder", regions)])
    share = (features @ table["prior_gen.feature_fusion.query"]).softmax(0)
    fused = linear(table, "prior_gen.feature_fusion.proj", (share.T @ features).sum(0, keepdim=True))
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 200), 0)
    times = torch.linspace(199, 0, 25).long()
    current = noise
    for n, time in enumerate(times):
        found = unet(table, torch.cat([current, guidance], 1), float(time), fused)
        after = kept[times[n + 1]] if n < 24 else torch.tensor(1.0)
        clean = (current - (1 - kept[time]).sqrt() * found) / kept[time].sqrt()
        current = after.sqrt() * clean + (1 - after).sqrt() * found
    direct = linear(table, "classifier.3", linear(table, "classifier.0", fused).relu()).softmax(1)
    mixed = 0.5 * current.mean((2, 3, 4)) + 0.3 * direct + 0.2 * logits.softmax(1)
    return mixed if bool(((mixed.sum(1) - 1).abs() < 0.01).all()) else mixed.softmax(1)
