"""Editing through the whole pipeline with tiny random models."""

import hashlib
from dataclasses import replace

import pytest
import torch
from icc_profiles import DISPLAY_P3, rgb_profile
from PIL import Image, ImageChops

from dragnoise_core.commands.process import ProcessRecorder
from dragnoise_core.configuration import preset
from dragnoise_core.drawing import save_picture
from dragnoise_core.edit import load_edit, save_edit
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.images import load_image
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.standalone.models import load_model
from dragnoise_core.standalone.pipeline import apply_edit, edit_image

FAST = {"steps": 10, "strength": 0.7}


@pytest.fixture(scope="module")
def model(model_folders):
    # A tiny model of 64 x 64 pictures: the tests are about the way through, not the result.
    loaded = load_model(str(model_folders["sd"]), "cpu")
    return replace(loaded, native_side=64)


def picture(width=64, height=64):
    return Image.radial_gradient("L").resize((width, height)).convert("RGB")


def one_pair(width=64, height=64):
    return DragPoints.from_pairs([((width * 0.3, height * 0.3), (width * 0.7, height * 0.6))], width, height)


@pytest.mark.parametrize("size", [(333, 217), (64, 64), (50, 199), (1000, 90)])
def test_the_result_has_the_size_that_came_in_and_reports_its_pixels(model, size):
    pairs = [((size[0] * 0.5, size[1] * 0.5), (size[0] * 0.9, size[1] * 0.5)), ((0.0, 0.0), size)]
    points = DragPoints.from_pairs(pairs, *size)
    result = edit_image(model, picture(*size), points, config=preset("paper", iterations=3), **FAST)
    report = result.report()
    assert result.picture.size == size
    # At most one cell of the supervision grid, half the fitted picture's resolution, from where it was put.
    cell = [2 * side / round(side * 64 / (size[0] * size[1]) ** 0.5 / 8) / 8 for side in size]
    start = result.edit.path[0, 0].tolist()
    assert all(abs(a - b) <= c for a, b, c in zip(start, pairs[0][0], cell, strict=True))
    for point, (handle, target) in zip(report["points"], pairs, strict=True):
        assert point["start"] == list(handle) and point["target"] == list(target)
        distance = ((point["end"][0] - target[0]) ** 2 + (point["end"][1] - target[1]) ** 2) ** 0.5
        assert point["distance"] == pytest.approx(distance, rel=1e-4)
    assert report["iterations"] == 3 and set(report["seconds"]) == {"inversion", "optimisation", "sampling"}


@pytest.mark.parametrize(
    "settings", [{"name": "paper"}, {"name": "default", "drag_steps": 3}, {"name": "paper", "free_steps": 2}]
)
def test_a_saved_edit_gives_the_same_picture(model, tmp_path, settings):
    name = settings["name"]
    config = preset(name, iterations=6, **{key: value for key, value in settings.items() if key != "name"})
    mask = torch.zeros(64, 64)
    mask[8:56, 8:60] = 1
    result = edit_image(model, picture(), one_pair(), mask=mask, prompt="ab", config=config, reconstruct=True, **FAST)
    assert result.picture != result.reconstruction, "the edit changed nothing: nothing was compared"
    save_edit(result.edit, tmp_path / "edit.safetensors")
    edit = load_edit(tmp_path / "edit.safetensors")
    again = apply_edit(model, picture(), edit, prompt="ab")
    # The last bit may differ: the first run goes on where the optimisation ended, the second adds the edit anew.
    assert max(high for _, high in ImageChops.difference(again.picture, result.picture).getextrema()) <= 1
    unet = model.split_unet("ab", 64, 64)
    from_latent = [sample(unet, result.noisy_latent, result.sigmas, edit=e) for e in (result.edit, edit)]
    assert torch.equal(*from_latent)


def test_points_on_their_targets_change_nothing(model):
    points = DragPoints.from_pairs([((20.0, 20.0), (20.0, 20.0))], 64, 64)
    for name in ("paper", "default"):
        result = edit_image(model, picture(), points, config=preset(name), reconstruct=True, **FAST)
        assert result.report()["changed"] is False and result.picture == result.reconstruction


def test_a_full_mask_is_no_mask_and_an_empty_one_is_refused_before_the_work(model):
    config = preset("paper", iterations=2)
    plain = edit_image(model, picture(), one_pair(), config=config, **FAST)
    full = edit_image(model, picture(), one_pair(), config=config, mask=torch.ones(100, 37), **FAST)
    assert plain.picture == full.picture
    calls = []
    with pytest.raises(DragNoiseError, match="mask is empty"):
        edit_image(model, picture(), one_pair(), mask=torch.zeros(9, 9), callback=calls.append, **FAST)
    assert not calls


def test_a_mask_of_another_size_keeps_what_is_outside_nearer_to_the_source(model):
    mask = torch.zeros(13, 40)
    mask[:, :20] = 1
    config = preset("paper", iterations=20, learning_rate=0.05, mask_weight=100.0)
    results = [edit_image(model, picture(), one_pair(), config=config, mask=m, reconstruct=True, **FAST)
               for m in (None, mask)]  # fmt: skip
    unet = model.split_unet("", 64, 64)

    def change_outside(result):
        sigmas = result.sigmas[:2]
        edited, source = (sample(unet, result.noisy_latent, sigmas, edit=e) for e in (result.edit, None))
        return (edited - source)[..., 4:].abs().sum()

    assert change_outside(results[1]) < 0.9 * change_outside(results[0])


def test_an_edit_for_another_size_is_refused_with_both_shapes(model):
    edit = edit_image(model, picture(), one_pair(), config=preset("paper", iterations=1), **FAST).edit
    with pytest.raises(DragNoiseError, match="64 x 2 x 2.* 64 x 1 x 6"):
        apply_edit(model, picture(256, 32), edit)


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("phase", ["inversion", "optimisation", "sampling"])
def test_cancelling_leaves_the_model_as_it_was(model, phase):
    def state():
        weights = b"".join(weight.numpy().tobytes() for weight in model.unet.state_dict().values())
        hooks = sum(len(module._forward_hooks) + len(module._backward_hooks) for module in model.unet.modules())
        flags = [weight.requires_grad or weight.grad is not None for weight in model.unet.parameters()]
        return hashlib.sha256(weights).hexdigest(), hooks, flags, model.unet.training, torch.is_grad_enabled()

    def cancel(progress):
        if progress.phase == phase and progress.step == 2:
            raise Cancelled

    before = state()
    with pytest.raises(Cancelled):
        edit_image(model, picture(), one_pair(), config=preset("paper", iterations=4), callback=cancel, **FAST)
    assert state() == before


def test_the_process_is_recorded_in_about_the_number_of_frames_asked_for(model):
    size = (100, 60)
    recorder = ProcessRecorder(model, picture(*size), one_pair(*size), count=8)
    config = preset("paper", iterations=24)
    result = edit_image(model, picture(*size), one_pair(*size), config=config, callback=recorder, steps=20)
    frames = recorder.finish(result.picture)
    assert 8 <= len(frames) <= 12 and len({frame.size for frame in frames}) == 1
    assert abs(frames[0].width / frames[0].height - 100 / 60) < 0.2


def test_sdxl_and_v_prediction_edit_as_well(model_folders):
    for name in ("sd_v", "sdxl"):
        loaded = load_model(str(model_folders[name]), "cpu")
        small = replace(loaded, native_side=64)
        result = edit_image(small, picture(70, 60), one_pair(70, 60), config=preset("default", iterations=6, background=0.01),
                            reconstruct=True, **FAST)  # fmt: skip
        assert result.picture.size == (70, 60) and result.picture != result.reconstruction


@pytest.mark.parametrize(
    ("part", "result", "place"),
    [("decode", (1, 3, 64, 64), "the VAE's decoder gave"), ("encode", (1, 4, 8, 8), "the VAE's encoder gave")],
)
def test_an_autoencoder_that_overflows_is_named(model, part, result, place):
    broken = replace(model, **{part: lambda *arguments: torch.full(result, torch.nan)})
    points = DragPoints.from_pairs([((20.0, 20.0), (20.0, 20.0))], 64, 64)
    with pytest.raises(DragNoiseError, match=f"{place} numbers that are not finite"):
        edit_image(broken, picture(), points, **FAST)


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (40, 8)])
def test_a_very_small_picture_is_said_to_be_too_small(model, size):
    with pytest.raises(DragNoiseError, match=f"too small to drag, {size[0]} x {size[1]} pixels"):
        edit_image(model, picture(*size), one_pair(*size), **FAST)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_the_colour_profile_goes_from_picture_to_result(model, tmp_path, name):
    profile = rgb_profile(DISPLAY_P3)
    source = picture()
    source.save(tmp_path / "source.png", icc_profile=profile)
    still = DragPoints.from_pairs([((20.0, 20.0), (20.0, 20.0))], 64, 64)
    save_picture(edit_image(model, load_image(tmp_path / "source.png"), still, **FAST).picture, tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert written.info["icc_profile"] == profile
