"""DragNoise Apply under the host's samplers: the right steps get the right bottleneck and correction."""

from dataclasses import replace

import comfy.model_management
import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import OptimisationConfig, preset
from dragnoise_pack.dragnoise_core.edit import DragEdit
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.dragnoise_core.schedule import ddim_sigmas
from dragnoise_pack.nodes.host.patches import apply_edit, with_free_steps
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import denoise, noise_table
from dragnoise_pack.nodes.inspect import DragNoiseFrames
from dragnoise_pack.nodes.propagation import DragNoiseApply, DragNoiseSample
from fake_control import FakeControl
from testing_pack.tiny_models import FAMILIES, tiny_conditioning, tiny_model, tiny_vae

import nodes

POINTS = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)


def make_edit(schedule, levels=1, propagation="replace", free_steps=0, size=(4, 4), corrected=0):
    generator = torch.Generator().manual_seed(5)
    shape = (levels, 64, *size)
    return DragEdit(
        bottlenecks=torch.randn(shape, generator=generator) * 3,
        originals=torch.randn(shape, generator=generator),
        corrections=torch.randn((corrected, 4, 16, 16), generator=generator),
        sigmas=schedule[:levels].clone(),
        schedule=schedule,
        path=torch.tensor([[[30.0, 30.0]], [[60.0, 40.0]]]),
        losses=torch.ones(1),
        mask=torch.zeros(0, 16, 16),
        points=POINTS,
        config=OptimisationConfig(propagation=propagation, free_steps=free_steps, drag_steps=levels),
    )


class Witness:
    """Sees what the decoder gets: after the edit's patch when registered after it."""

    def __init__(self):
        self.seen = []

    def __deepcopy__(self, memory):
        return self

    def __call__(self, hidden, skip, options):
        if options["block"] == ("output", 0):
            self.seen.append((float(options["sigmas"].max()), list(options["cond_or_uncond"]), hidden.clone()))
        return hidden, skip


def witnessed(model, edit, strength=1.0):
    """Return a model with the edit, and witnesses before and after its patch."""
    own, final = Witness(), Witness()
    model = model.clone()
    model.set_model_output_block_patch(own)
    model = apply_edit(model, edit, strength)
    model.set_model_output_block_patch(final)
    return model, own, final


def schedule(steps=8, start=2):
    """Return sigmas as KSampler has them, from step `start`, where the edit begins."""
    sigmas = comfy.samplers.calculate_sigmas(tiny_model().get_model_object("model_sampling"), "normal", steps)
    return sigmas[start:].float()


def ksampler(model, cfg, sigmas):
    return nodes.common_ksampler(
        model, 1, 8, cfg, "euler", "normal", tiny_conditioning(), tiny_conditioning(1), latent(), denoise=1.0
    )


def ksampler_advanced(model, cfg, sigmas):
    sampler = nodes.KSamplerAdvanced()
    arguments = (model, "enable", 1, 8, cfg, "heun", "normal", tiny_conditioning(), tiny_conditioning(1), latent())
    return sampler.sample(*arguments, 1, 10000, "disable")


def sampler_custom_advanced(model, cfg, sigmas):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_conditioning(), tiny_conditioning(1))
    guider.set_cfg(cfg)
    noise = custom.Noise_RandomNoise(1)
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    everything = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 8)
    return custom.SamplerCustomAdvanced().sample(noise, guider, sampler, everything, latent())


def latent(count=1):
    return {"samples": torch.zeros(count, 4, 16, 16)}


def noisy_latent():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("sample", [ksampler, ksampler_advanced, sampler_custom_advanced])
def test_later_steps_get_the_edit_under_every_sampler(sample, cfg):
    edit = make_edit(schedule(), levels=2, free_steps=2)
    model, own, final = witnessed(tiny_model(), edit)
    sample(model, cfg, edit.schedule)
    levels, free = edit.sigmas.tolist(), float(edit.schedule[-3])
    kinds = set()
    for (sigma, rows, before), (_, _, after) in zip(own.seen, final.seen, strict=True):
        if sigma > levels[0] * 1.001 or sigma <= free * 1.0001:
            assert torch.equal(after, before)
            kinds.add("own")
        else:
            index = 1 if sigma <= levels[1] * 1.0001 else 0
            assert torch.equal(after, edit.bottlenecks[index].expand_as(after))
            kinds.add(index)
        assert len(rows) == (2 if cfg > 1 else 1)
    assert kinds == {"own", 0, 1}


def test_prompts_in_separate_calls_and_several_prompts(monkeypatch):
    edit = make_edit(schedule(), propagation="delta")
    model, own, final = witnessed(tiny_model(), edit)
    several = [*tiny_conditioning(), *tiny_conditioning(2)]

    # No free memory, as the host counts it: every prompt in a call of its own.
    def none_free(device=None, torch_free_too=False):
        return (0, 0) if torch_free_too else 0

    monkeypatch.setattr(comfy.model_management, "get_free_memory", none_free)
    nodes.common_ksampler(model, 1, 4, 4.0, "euler", "normal", several, tiny_conditioning(1), latent())
    assert {tuple(rows) for _, rows, _ in final.seen} == {(0,), (1,)}
    assert len(final.seen) == 4 * 3
    for (sigma, _, before), (_, _, after) in zip(own.seen, final.seen, strict=True):
        difference = edit.bottlenecks[0] - edit.originals[0] if sigma <= float(edit.sigmas[0]) * 1.0001 else 0
        torch.testing.assert_close(after, before + difference)


def test_a_batch_of_pictures_gets_it_in_every_row():
    edit = make_edit(schedule())
    model, _, final = witnessed(tiny_model(), edit)
    nodes.common_ksampler(model, 1, 8, 4.0, "euler", "normal", tiny_conditioning(), tiny_conditioning(1), latent(3))
    assert torch.equal(final.seen[-1][2], edit.bottlenecks.expand(6, -1, -1, -1))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_strength_blends(strength):
    edit = make_edit(schedule())
    model, own, final = witnessed(tiny_model(), edit, strength)
    ksampler(model, 1.0, None)
    before, after = own.seen[-1][2], final.seen[-1][2]
    torch.testing.assert_close(after, before + strength * (edit.bottlenecks - before))


def test_controlnets_residual_is_added_to_the_edit():
    edit = make_edit(schedule())
    model, own, final = witnessed(tiny_model(), edit)
    prompt, options = tiny_conditioning()[0]
    plain, _, expected = witnessed(tiny_model(), edit)
    control = [[prompt, {**options, "control": FakeControl(parts=("middle",))}]]
    sigmas = edit.schedule
    noisy = noisy_latent()
    denoise(model, control, noisy, sigmas)
    denoise(plain, [[prompt, options]], noisy, sigmas)
    residual = FakeControl().get_control(noisy, None, None, 1, {})["middle"][0]
    torch.testing.assert_close(final.seen[0][2], expected.seen[0][2] + residual)
    assert not torch.equal(own.seen[0][2], final.seen[0][2])


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_gets_the_same():
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    edit = make_edit(schedule(), propagation="delta")
    plain = ksampler(apply_edit(tiny_model(), edit), 3.0, None)[0]["samples"]
    compiled = tiny_model()
    set_torch_compile_wrapper(compiled, backend="eager")
    torch.testing.assert_close(ksampler(apply_edit(compiled, edit), 3.0, None)[0]["samples"], plain)


class PredictionWitness:
    """Sees the clean prediction after guidance: what the edit made of it when registered after it."""

    def __init__(self):
        self.seen = []

    def __deepcopy__(self, memory):
        return self

    def __call__(self, arguments):
        self.seen.append((float(arguments["sigma"].max()), arguments["denoised"].clone()))
        return arguments["denoised"]


def predictions(model, edit, strength=1.0):
    """Return a model with the edit, and witnesses before and after its correction."""
    own, final = PredictionWitness(), PredictionWitness()
    model = model.clone()
    model.set_model_sampler_post_cfg_function(own)
    model = apply_edit(model, edit, strength)
    model.set_model_sampler_post_cfg_function(final)
    return model, own, final


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("sample", [ksampler, ksampler_advanced, sampler_custom_advanced])
def test_predictions_are_corrected_once_under_every_sampler(sample, cfg):
    edit = make_edit(schedule(), free_steps=2, corrected=4)
    model, own, final = predictions(tiny_model(), edit, strength=0.5)
    sample(model, cfg, edit.schedule)
    levels, free = edit.schedule[:4].tolist(), float(edit.schedule[-3])
    acted = set()
    for (sigma, before), (_, after) in zip(own.seen, final.seen, strict=True):
        if sigma > levels[0] * 1.001 or sigma <= free * 1.0001:
            assert torch.equal(after, before)
            acted.add("none")
        else:
            index = sum(sigma <= level * 1.0001 for level in levels) - 1
            torch.testing.assert_close(after - before, 0.5 * edit.corrections[index : index + 1], atol=1e-5, rtol=1e-4)
            acted.add(index)
    assert acted == {"none", 0, 1, 2, 3}


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_correction_of_the_last_step_is_seen_in_every_picture_in_model_units(family, cfg):
    edit = make_edit(schedule(), propagation="delta", corrected=6)
    edit.originals.copy_(edit.bottlenecks)
    edit.corrections[:-1] = 0
    model = tiny_model(family)
    conditioning = tiny_conditioning(), tiny_conditioning(1)

    def sampled(model):
        return nodes.common_ksampler(model, 1, 8, cfg, "euler", "normal", *conditioning, latent(3))[0]["samples"]

    # The last step goes to sigma 0, where the latent is the prediction.
    change = sampled(apply_edit(model, edit)) - sampled(model)
    expected = edit.corrections[-1:] / model.get_model_object("latent_format").scale_factor
    torch.testing.assert_close(change, expected.expand(3, -1, -1, -1), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="module")
def dragged():
    """A model and its edit by the default preset, of the left half, from the third level of KSampler's schedule."""
    with torch.inference_mode():
        model, positive = tiny_model(), tiny_conditioning()
        mask = torch.zeros(16, 16)
        mask[:, :8] = 1
        # Random weights move little in six iterations; the preset's background would take all of it for noise.
        config = preset("default", iterations=6, drag_steps=3, background=0.03)
        return model, HostRun(model, positive, schedule()).drag(noisy_latent(), POINTS, mask, config).edit


def sampled_by_the_host(model, sampler="euler"):
    arguments = (tiny_conditioning(), tiny_conditioning(1), {"samples": noisy_latent()}, 2, 10000, "disable")
    return nodes.KSamplerAdvanced().sample(model, "disable", 1, 8, 1.0, sampler, "normal", *arguments)[0]["samples"]


def test_apply_and_the_hosts_euler_equal_our_sampler_on_the_default_preset(dragged):
    model, edit = dragged
    arguments = (model, tiny_conditioning(), {"samples": noisy_latent()}, edit.schedule)
    ours, unedited = DragNoiseSample.execute(*arguments, edit)[0], DragNoiseSample.execute(*arguments)[0]
    ours, unedited = ours["samples"], unedited["samples"]
    theirs = sampled_by_the_host(DragNoiseApply.execute(model, edit)[0])
    assert len(edit.corrections) == len(edit.schedule) - 1
    assert (ours - unedited).norm() > 1e-3 * unedited.norm()
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    bottlenecks_only = apply_edit(model, replace(edit, corrections=edit.corrections[:0]))
    assert (sampled_by_the_host(bottlenecks_only) - ours).norm() > 0.1 * (ours - unedited).norm()
    # The mask is hard.
    torch.testing.assert_close(ours[..., 8:], unedited[..., 8:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_strength_zero_is_the_unedited_picture(dragged, sampler):
    model, edit = dragged
    edited = sampled_by_the_host(DragNoiseApply.execute(model, edit, strength=0.0)[0], sampler)
    assert torch.equal(edited, sampled_by_the_host(model, sampler))


def test_frames_go_from_the_unedited_picture_to_the_edit(dragged):
    model, edit = dragged
    vae, arguments = tiny_vae(), (tiny_conditioning(), {"samples": noisy_latent()}, edit.schedule)
    frames = DragNoiseFrames.execute(model, vae, *arguments, edit, 3)[0]
    for frame, carried in ((frames[:1], None), (frames[-1:], edit)):
        picture = vae.decode(DragNoiseSample.execute(model, *arguments, carried)[0]["samples"])
        torch.testing.assert_close(frame, picture, rtol=1e-4, atol=1e-4)
    assert not torch.equal(frames[0], frames[1]) and not torch.equal(frames[1], frames[2])


def test_free_steps_can_be_changed():
    edit = make_edit(schedule())
    assert with_free_steps(edit, 0).config == edit.config
    assert with_free_steps(with_free_steps(edit, 3), 2).config == replace(edit.config, free_steps=5)


def test_another_bottleneck_shape_is_refused_with_both_shapes():
    edit = make_edit(schedule(), size=(8, 8))
    with pytest.raises(DragNoiseError, match=r"64 x 8 x 8.*64 x 4 x 4"):
        ksampler(apply_edit(tiny_model(), edit), 1.0, None)


def test_another_latent_size_is_refused_with_both_shapes():
    edit = make_edit(schedule(), corrected=2)
    # Sizes that are halved to the same bottleneck.
    edit = replace(edit, corrections=torch.zeros(2, 4, 15, 16))
    with pytest.raises(DragNoiseError, match=r"4 x 15 x 16.*4 x 16 x 16"):
        ksampler(apply_edit(tiny_model(), edit), 1.0, None)


def test_a_prompt_for_an_area_is_refused_with_both_shapes():
    edit = make_edit(schedule())
    prompt, options = tiny_conditioning()[0]
    area = [[prompt, {**options, "area": (8, 8, 0, 0)}]]
    with pytest.raises(DragNoiseError, match=r"64 x 4 x 4.*64 x 2 x 2"):
        nodes.common_ksampler(apply_edit(tiny_model(), edit), 1, 8, 1.0, "euler", "normal", area, area, latent())


def test_the_original_model_samples_as_before():
    model = tiny_model()
    before = ksampler(model, 3.0, None)[0]["samples"]
    edited = ksampler(apply_edit(model, make_edit(schedule())), 3.0, None)[0]["samples"]
    assert (edited - before).norm() > 0.01 * before.norm()
    assert torch.equal(ksampler(model, 3.0, None)[0]["samples"], before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("to_zero", [False, True])
def test_a_schedule_in_two_halves_samples_the_same(family, to_zero):
    model, positive = tiny_model(family), tiny_conditioning()
    sigmas = ddim_sigmas(noise_table(model), 10, 0.7)
    if to_zero:  # as the host's schedulers end
        sigmas[-1] = 0
    noisy = noisy_latent() * 3
    edited = apply_edit(model, make_edit(sigmas, corrected=len(sigmas) - 1))
    whole = denoise(edited, positive, noisy, sigmas)
    halfway = denoise(edited, positive, noisy, sigmas[:4])
    torch.testing.assert_close(denoise(edited, positive, halfway, sigmas[3:]), whole, rtol=1e-4, atol=1e-4)
