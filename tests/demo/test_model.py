"""The shipped weights: what the demo model and the keypoint regressor can do on scenes they have not seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dragnoise_core.demo import loader
from dragnoise_core.demo.loader import load_demo_model, load_keypoint_regressor
from dragnoise_core.demo.scenes import KINDS, keypoints, render, sample_parameters
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.inversion import invert
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

kinds = pytest.mark.parametrize("kind", KINDS)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(two_threads):
    return load_demo_model()


@pytest.fixture(scope="module")
def held_out():
    """Two scenes of each kind from a seed of their own: kind to (pictures, keypoints)."""
    scenes = {kind: sample_parameters(kind, 2, torch.Generator().manual_seed(31)) for kind in KINDS}
    return {kind: (render(kind, scene), keypoints(kind, scene)) for kind, scene in scenes.items()}


@pytest.fixture(scope="module")
def latents(model, held_out):
    return {kind: model.encode(pictures) for kind, (pictures, _) in held_out.items()}


@pytest.fixture(scope="module")
def decoded(model, latents):
    return {kind: model.decode(latent) for kind, latent in latents.items()}


def psnr(a, b):
    return (-10 * (a - b).square().mean((1, 2, 3)).log10()).mean().item()


def test_the_weights_fit_the_budget_and_say_how_they_were_made():
    files = list(loader.WEIGHTS.iterdir())
    assert sum(file.stat().st_size for file in files) <= 20 * 2**20
    log = json.loads((loader.WEIGHTS / "training_log.json").read_text())
    for name in ("autoencoder", "keypoints", "unet"):
        with safe_open(loader.WEIGHTS / f"{name}.safetensors", "pt") as file:
            metadata = file.metadata()
            assert all(file.get_tensor(key).dtype in (torch.float16, torch.float32) for key in file.keys())  # noqa: SIM118
        assert {"script", "seconds", "steps", "seed", "gpu", "date"} <= metadata.keys()
        assert {key: str(value) for key, value in log[name].items()}.items() <= metadata.items()


def test_the_shipped_figures_reach_the_goals():
    figures = json.loads((loader.WEIGHTS / "evaluation.json").read_text())["mean"]
    assert figures["autoencoder_psnr"] >= 38
    assert figures["inversion_psnr"] >= 36 and figures["inversion_psnr_to_source"] >= 36
    assert max(figures["keypoint_error"], figures["keypoint_error_decoded"], figures["keypoint_error_inverted"]) < 2


@kinds
def test_inversion_and_sampling_without_an_edit_return_the_picture(model, latents, decoded, kind):
    unet = DiffusersSplitUNet(model.unet, model.prompt(kind))
    sigmas = ddim_sigmas(unet.conditions.sigmas, 50, 0.7)
    latent = latents[kind][:1]
    returned = sample(unet, invert(unet, latent, sigmas), sigmas)
    assert psnr(model.decode(returned), decoded[kind][:1]) >= 36


def test_latents_have_unit_deviation(latents):
    everything = torch.cat(list(latents.values()))
    assert everything.shape == (8, 4, 32, 32)
    assert everything.mean().abs() < 0.3 and 0.8 < everything.std() < 1.2


def test_the_autoencoder_returns_the_picture(held_out, decoded):
    values = [psnr(decoded[kind], pictures) for kind, (pictures, _) in held_out.items()]
    assert sum(values) / len(values) > 36.5 and min(values) > 34


@kinds
def test_the_regressor_finds_the_keypoints_also_in_decoded_pictures(held_out, decoded, kind):
    regressor, (pictures, truth) = load_keypoint_regressor(), held_out[kind]
    for seen in (pictures, decoded[kind]):
        found = regressor.locate(seen, kind)
        assert tuple(found) == KINDS[kind].keypoint_names
        errors = torch.stack([(found[name] - truth[name]).norm(dim=1) for name in truth])
        assert errors.mean() < 2


@kinds
def test_the_regressor_follows_a_change_of_the_scene(kind):
    """The difference of two answers is the true move: what the measurement of a drag rests on."""
    regressor = load_keypoint_regressor()
    scene = sample_parameters(kind, 2, torch.Generator().manual_seed(32))
    found, truth = regressor.locate(render(kind, scene), kind), keypoints(kind, scene)
    for name in truth:
        assert ((found[name][1] - found[name][0]) - (truth[name][1] - truth[name][0])).norm() < 3, name


def noisy(latents, timestep, seed):
    """Latents at a timestep of Stable Diffusion's schedule, and their noise."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = torch.cumprod(1 - betas, 0)[timestep]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    return signal.sqrt() * latents + (1 - signal).sqrt() * noise, noise


@kinds
def test_the_unet_predicts_the_noise(model, latents, kind):
    """A guess of zero has error 1; the more of the latent is noise, the nearer the answer must come to 0."""
    for timestep, bound in ((100, 0.15), (400, 0.05), (800, 0.02)):
        x, noise = noisy(latents[kind], timestep, timestep)
        epsilon = model.unet(x, timestep, model.prompt(kind).expand(2, -1, -1)).sample
        assert (epsilon - noise).square().mean() < bound


@kinds
def test_the_prompt_says_what_to_draw(model, latents, kind):
    """Where the noise hides the picture, the right prompt predicts it better than any other kind's."""
    x, noise = noisy(latents[kind], 850, 3)
    errors = {
        name: (model.unet(x, 850, model.prompt(name).expand(2, -1, -1)).sample - noise).square().mean().item()
        for name in KINDS
    }
    assert min(errors, key=errors.get) == kind


def test_the_empty_prompt_is_one_of_its_own(model):
    empty = model.prompt("")
    assert empty.shape == (1, 4, 128) and torch.equal(empty, model.prompt())
    assert all((empty - model.prompt(kind)).abs().max() > 0.05 for kind in KINDS)
    with pytest.raises(DragNoiseError, match="'dog'.*face, mountain, cat, boat"):
        model.prompt("dog")


def test_everything_is_frozen_and_of_the_asked_type():
    model = load_demo_model(dtype=torch.bfloat16)
    for network in (model.unet, model.autoencoder):
        assert not network.training
        assert all(weight.dtype == torch.bfloat16 and not weight.requires_grad for weight in network.parameters())
    assert model.prompt("face").dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in load_keypoint_regressor().parameters())


def test_missing_or_damaged_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "WEIGHTS", tmp_path)
    with pytest.raises(DragNoiseError, match="unet.safetensors are missing"):
        load_demo_model()
    (tmp_path / "keypoints.safetensors").write_bytes(b"no tensors at all")
    with pytest.raises(DragNoiseError, match="keypoints.safetensors are damaged"):
        load_keypoint_regressor()


@pytest.mark.parametrize("module", ["dragnoise_core.demo.scenes.drags", "dragnoise_core.demo.loader"])
def test_importing_needs_no_diffusers(module):
    code = f"import sys, {module}; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
