"""Other nodes' work that no drag can go on with is refused, by its own name, before the inversion."""

from types import SimpleNamespace

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_cfg, nodes_model_advanced
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.edit import DragNoiseEdit
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import denoise
from dragnoise_pack.nodes.inversion import DragNoiseInvert
from model_guests import SIGMAS, noisy_latent, run_node
from testing_pack.tiny_models import tiny_conditioning, tiny_model, tiny_vae

import nodes


def own_forward(model):
    """As DeepCache does: from some step on, a wrapper answers without the U-Net."""

    def cached(executor, x, *arguments, **options):
        return x * 0.5

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cache", cached)
    return model


class Tiles:
    """As TiledDiffusion does: an object in the place of the U-Net's call, which runs it on parts of the latent."""

    def __call__(self, apply_model, call):
        left, right = call["input"].chunk(2, dim=-1)
        return torch.cat([apply_model(part, call["timestep"], **call["c"]) for part in (left, right)], dim=-1)


def tiled(model):
    model.set_model_unet_function_wrapper(Tiles())
    return model


def stretched(model):
    def stretch(executor, *arguments, **options):
        return executor(*arguments, **options) * 1.5

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "stretch", stretch)
    return model


def for_another_model(model):
    """As patches for transformers do on a U-Net: what they are given is not what they unpack."""

    def unpack(hidden, skip, options):
        first, second, third = hidden.shape[:2]
        return hidden, skip

    model.set_model_output_block_patch(unpack)
    return model


REFUSED = {
    "for_another_model": for_another_model,
    "SelfAttentionGuidance": lambda model: run_node(SelfAttentionGuidance, model, 0.5, 2.0),
    "PerturbedAttentionGuidance": lambda model: run_node(PerturbedAttentionGuidance, model, 3.0),
    "RescaleCFG": lambda model: run_node(nodes_model_advanced.RescaleCFG, model, 0.7),
    "CFGZeroStar": lambda model: run_node(nodes_cfg.CFGZeroStar, model),
    # Shrinks at the first of the levels only.
    "PatchModelAddDownscale": lambda model: run_node(
        PatchModelAddDownscale, model, 2, 2.0, 0.0, 0.5, True, "bicubic", "bicubic"
    ),
    "own_forward": own_forward,
    "Tiles": tiled,
    "stretched": stretched,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_guest_is_refused_by_name_before_the_inversion(name, monkeypatch):
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    monkeypatch.setattr(HostRun, "invert", lambda *_: pytest.fail("the inversion began"))
    model, positive, image = REFUSED[name](tiny_model()), tiny_conditioning(), torch.rand(1, 128, 128, 3)
    points = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
    with pytest.raises(DragNoiseError, match=f"^{name} .*connect the model from before it"):
        DragNoiseEdit.execute(model, tiny_vae(), positive, image, points, steps=10, strength=0.7)
    with pytest.raises(DragNoiseError, match=f"^{name} .*connect the model from before it"):
        DragNoiseInvert.execute(model, positive, {"samples": noisy_latent()}, 10, 0.7)


PROMPTS = {
    "a part of the picture, Conditioning .Set Area.": lambda prompt: run_node(
        nodes.ConditioningSetArea, prompt, 64, 64, 0, 0, 1.0
    ),
    "a part of the picture, Conditioning .Set Mask.": lambda prompt: run_node(
        nodes.ConditioningSetMask, prompt, torch.ones(1, 16, 24), "default", 1.0
    ),
    "2 prompts are active at once": lambda prompt: [*prompt, *tiny_conditioning(1)],
    "no conditioning is active at sigma 1.5": lambda prompt: run_node(
        nodes.ConditioningSetTimestepRange, prompt, 0.0, 0.4
    ),
}


@pytest.mark.parametrize("reason", PROMPTS)
def test_a_prompt_is_refused_before_the_inversion(reason):
    run = HostRun(tiny_model(), PROMPTS[reason](tiny_conditioning()), SIGMAS)
    with pytest.raises(DragNoiseError, match=reason):
        run.check(noisy_latent())


def test_prompts_that_take_turns_are_accepted():
    turns = [
        *run_node(nodes.ConditioningSetTimestepRange, tiny_conditioning(), 0.0, 0.4),
        *run_node(nodes.ConditioningSetTimestepRange, tiny_conditioning(1), 0.4001, 1.0),
    ]
    HostRun(tiny_model(), turns, SIGMAS).check(noisy_latent())
    assert denoise(tiny_model(), turns, noisy_latent(), SIGMAS).isfinite().all()
