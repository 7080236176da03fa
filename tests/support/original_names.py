"""A diffusers folder of Stable Diffusion 1.x or XL as one checkpoint with the original project's parameter names."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "text_model.": "", "embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final",
    "embeddings.position_embedding.weight": "positional_embedding", "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_", "self_attn": "attn", "fc1": "c_fc", "fc2": "c_proj",
    "text_projection.weight": "text_projection",
}  # fmt: skip


def save_original_checkpoint(folder: Path, path: Path) -> None:
    """Write unet, vae and text encoders of a diffusers folder to one .safetensors file."""
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder/model.safetensors")
    layers = 1 + max(int(name.split(".")[3]) for name in unet if re.match(r"down_blocks\.\d+\.resnets", name))
    levels = 1 + max(int(name.split(".")[2]) for name in vae if name.startswith("encoder.down_blocks"))
    tensors = {f"model.diffusion_model.{_unet_name(name, layers)}": value for name, value in unet.items()}
    for name, value in vae.items():
        original = _vae_name(name, levels)
        # Its attention was written with 1 x 1 convolutions.
        is_attention = ".attn_1." in original and "norm" not in original and value.ndim == 2
        tensors[f"first_stage_model.{original}"] = value[:, :, None, None] if is_attention else value
    second = folder / "text_encoder_2/model.safetensors"
    first = "conditioner.embedders.0.transformer" if second.exists() else "cond_stage_model.transformer"
    tensors |= {f"{first}.text_model.{name.removeprefix('text_model.')}": value for name, value in text.items()}
    if second.exists():
        tensors |= {f"conditioner.embedders.1.model.{name}": value for name, value in _open_clip(load_file(second))}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)


def _open_clip(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """SDXL's second text encoder came from another project, which keeps query, key and value in one tensor."""
    for name, value in tensors.items():
        if match := re.match(r"(.*)\.q_proj\.(weight|bias)", name):
            value = torch.cat([tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = f"{match[1]}.in_proj_{match[2]}"
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        for theirs, original in OPEN_CLIP.items():
            name = name.replace(theirs, original)
        yield name, value.T if name == "text_projection" else value


def _resnet(rest: str) -> str:
    part, _, end = rest.partition(".")
    return f"{RESNET[part]}.{end}"


def _unet_name(name: str, layers: int) -> str:
    stem, _, end = name.rpartition(".")
    if stem in ENDS:
        return f"{ENDS[stem]}.{end}"
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, index, rest = match.groups()
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(index)}.{_resnet(rest)}"
    side, level, kind, index, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    level, index = int(level), int(index)
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
        block = f"input_blocks.{level * (layers + 1) + index + 1}"
    else:
        block = f"output_blocks.{level * (layers + 1) + (layers if kind == 'upsamplers' else index)}"
        if kind == "upsamplers":
            # After the attention where the block has one.
            return f"{block}.{1 if level == 0 else 2}.{rest}"
    return f"{block}.1.{rest}" if kind == "attentions" else f"{block}.0.{_resnet(rest)}"


def _vae_name(name: str, levels: int) -> str:
    if match := re.match(r"(encoder|decoder)\.(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name):
        half, side, level, kind, index, rest = match.groups()
        level = int(level) if side == "down" else levels - 1 - int(level)
        if kind != "resnets":
            return f"{half}.{side}.{level}.{side}sample.{rest}"
        return f"{half}.{side}.{level}.block.{index}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
    if match := re.match(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        half, kind, index, rest = match.groups()
        if kind == "resnets":
            return f"{half}.mid.block_{int(index) + 1}.{rest}"
        stem, _, end = rest.rpartition(".")
        return f"{half}.mid.attn_1.{ATTENTION[stem]}.{end}"
    return name.replace("conv_norm_out", "norm_out")
