"""Tiny random Stable Diffusion pipelines, built without any download."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from small_unet import small_unet
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer that knows single letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def tiny_text_encoder(kind: type, tokenizer: CLIPTokenizer, width: int = 16, layers: int = 2):
    torch.manual_seed(1)
    return kind(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, projection_dim=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip


def tiny_autoencoder(**overrides) -> AutoencoderKL:
    """Four levels, 8x, like Stable Diffusion's."""
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **overrides,
    )  # fmt: skip


def tiny_pipeline(folder: Path, *, xl: bool = False, prediction_type: str = "epsilon", **unet):
    """A Stable Diffusion (XL) pipeline of random weights; `folder` is for the tokenizer's files."""
    tokenizer = tiny_tokenizer(folder)
    parts = {
        "vae": tiny_autoencoder(force_upcast=xl),
        "text_encoder": tiny_text_encoder(CLIPTextModel, tokenizer),
        "tokenizer": tokenizer,
        "scheduler": DDIMScheduler(prediction_type=prediction_type, steps_offset=1, **SCHEDULE),
    }
    if not xl:
        return StableDiffusionPipeline(
            unet=small_unet(**unet), safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts
        )
    # Text encoders of 16 and 24 beside each other; 16 pooled numbers and six sizes of 8 each.
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 40}
    return StableDiffusionXLPipeline(
        unet=small_unet(projection_class_embeddings_input_dim=64, **added, **unet),
        # SDXL checkpoints are recognised by the tenth layer.
        text_encoder_2=tiny_text_encoder(CLIPTextModelWithProjection, tokenizer, width=24, layers=10),
        tokenizer_2=tokenizer,
        **parts,
    )
