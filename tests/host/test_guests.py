"""Other nodes' work on the MODEL and the prompt: it takes part with right gradients, or is refused by its own name."""

import tempfile
from types import SimpleNamespace

import comfy.cldm.cldm
import comfy.controlnet
import comfy.gligen
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_basic
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_attention_multiply, nodes_cfg, nodes_freelunch, nodes_hypertile, nodes_model_advanced
from comfy_extras.nodes_hypernetwork import load_hypernetwork_patch
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from comfy_extras.nodes_tomesd import TomePatchModel
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.edit import DragNoiseEdit
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import denoise, drag_with
from dragnoise_pack.nodes.inversion import DragNoiseInvert
from fake_control import FakeControl
from testing_pack.tiny_models import SHAPE, randomise, tiny_conditioning, tiny_model, tiny_vae

import nodes

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
SIDES = 16, 24


def noisy_latent():
    return torch.randn(1, 4, *SIDES, generator=torch.Generator().manual_seed(1)) * 10


def run_node(kind, *values):
    """Return a node's first output, of the host's old or new kind."""
    function = kind.execute if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)
    return function(*values)[0]


def with_options(more):
    text, options = tiny_conditioning()[0]
    return [[text, {**options, **more}]]


def write_everywhere(hidden, skip, options):
    """Write into what is given, and into what autograd has kept of it."""
    first = hidden[:, : hidden.shape[1] // 2]
    hidden[:, : hidden.shape[1] // 2] = first * torch.sigmoid(first)
    skip *= 0.9
    return hidden, skip


def patched_output(model):
    model.set_model_output_block_patch(write_everywhere)
    return model


def adapted(model):
    """As IP-Adapter does: more attention beside the prompt's, by tensors of its own."""
    projection = torch.nn.Linear(64, 64).double()

    def replacement(q, k, v, options):
        return attention_basic(q, k, v, options["n_heads"]) + projection(q)

    for number in (0, 1, 2):
        model.set_model_attn2_replace(replacement, "output", number, 0)
    return model


def with_hypernetwork(model):
    """A file of two layers for prompts of the tiny models' width, as the host's loader reads it."""
    width, generator = tiny_conditioning()[0][0].shape[-1], torch.Generator().manual_seed(8)
    layers = {}
    for number, (rows, columns) in enumerate([(2 * width, width), (width, 2 * width)]):
        layers[f"linear.{number}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        layers[f"linear.{number}.bias"] = torch.zeros(rows)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save({width: [layers, layers], "activation_func": "swish"}, file.name)
        patch = load_hypernetwork_patch(file.name, 0.7)
    for networks in patch.hypernet.values():
        networks.to(model.model.get_dtype())
    model.set_model_attn1_patch(patch)
    model.set_model_attn2_patch(patch)
    return model


MODELS = {
    "hypernetwork": with_hypernetwork,
    "FreeU": lambda model: run_node(nodes_freelunch.FreeU, model, 1.3, 1.4, 0.9, 0.2),
    "FreeU_V2": lambda model: run_node(nodes_freelunch.FreeU_V2, model, 1.3, 1.4, 0.9, 0.2),
    "HyperTile": lambda model: run_node(nodes_hypertile.HyperTile, model, 32, 3, 0, False),
    "ToMe": lambda model: run_node(TomePatchModel, model, 0.3),
    "attention multiply": lambda model: run_node(
        nodes_attention_multiply.UNetSelfAttentionMultiply, model, 1.2, 1.0, 0.9, 1.1
    ),
    "Deep Shrink at every level": lambda model: run_node(
        PatchModelAddDownscale, model, 2, 2.0, 0.0, 1.0, True, "bicubic", "bicubic"
    ),
    "written in place": patched_output,
    "IP-Adapter": adapted,
}


def real_controlnet():
    shape = {name: value for name, value in SHAPE.items() if name not in ("out_channels", "transformer_depth_output")}
    network = comfy.cldm.cldm.ControlNet(
        **shape,
        hint_channels=3,
        num_heads=-1,
        num_head_channels=8,
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )
    randomise(network, 4)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    return control.set_cond_hint(torch.rand(1, 3, SIDES[0] * 8, SIDES[1] * 8), 0.5, (0.0, 1.0))


class AdapterNetwork(torch.nn.Module):
    """Features for the fourth and the first block of the encoder, in the order in which the host takes them off."""

    unshuffle_amount = 8

    def forward(self, picture):
        rows, columns = SIDES
        below = torch.ones(1, 64, rows // 2, columns // 2)
        return {"input": [below * picture.mean(), None, None, torch.ones(1, 32, rows, columns) * picture.mean()]}


def real_adapter():
    control = comfy.controlnet.T2IAdapter(AdapterNetwork(), 3, 8, "nearest-exact", torch.device("cpu"))
    return control.set_cond_hint(torch.rand(1, 3, SIDES[0] * 8, SIDES[1] * 8), 0.5, (0.0, 1.0))


def real_gligen(dtype):
    """A box with words of its own, as GLIGEN Textbox Apply puts them into a prompt."""
    blocks = [m for m in tiny_model().model.diffusion_model.modules() if isinstance(m, BasicTransformerBlock)]
    widths = [block.norm1.normalized_shape[0] for block in blocks]
    network = comfy.gligen.Gligen(
        [comfy.gligen.GatedSelfAttentionDense(width, 16, 4, 8) for width in widths],
        comfy.gligen.PositionNet(16, 16),
        16,
    )
    randomise(network, 6)
    network.module_list.to(dtype)
    words = torch.randn(1, 16, generator=torch.Generator().manual_seed(7))
    patcher = comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
    return ("position", patcher, [(words, 8, 8, 2, 2)])


CONTROLS = {
    "ControlNet": lambda dtype: {"control": real_controlnet()},
    "T2I-Adapter": lambda dtype: {"control": real_adapter()},
    "middle and output": lambda dtype: {"control": FakeControl()},
    "GLIGEN": lambda dtype: {"gligen": real_gligen(dtype)},
}


def epsilons(unet, x, levels):
    encoded = unet.encode(x, 3.0)
    with torch.inference_mode():
        denoised = unet.guider(x, x.new_full((1,), 3.0), **unet.extra_args)
    return unet.decode(encoded, encoded.bottleneck, to_tap=False).epsilon, (x - denoised) / 3.0


def gradient_and_difference(unet, x, levels):
    """Return a directional derivative of a function of the tap's feature, by autograd and by a finite difference."""
    encoded = unet.encode(x, 3.0)
    leaf = encoded.bottleneck.clone().requires_grad_(True)
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(2), dtype=leaf.dtype)

    def value(bottleneck):
        return torch.sin(unet.decode(encoded, bottleneck, to_tap=True).feature.double()).sum()

    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(value(leaf), [leaf])
    step = 1e-5
    difference = (value(leaf + step * direction) - value(leaf - step * direction)) / (2 * step)
    return float((gradient * direction).sum()), float(difference)


@pytest.fixture(params=[False, True], ids=["", "low memory"])
def speed(request):
    from dragnoise_pack.nodes.host.plain_unet import Speed

    return Speed(low_memory=request.param)


@pytest.mark.parametrize("guest", MODELS)
def test_gradients_through_patches_equal_finite_differences(guest, speed):
    model = MODELS[guest](tiny_model(dtype=torch.float64))
    positive = tiny_conditioning()
    gradient, difference = drag_with(model, positive, noisy_latent(), SIGMAS, gradient_and_difference, speed)
    assert abs(difference) > 0.1
    assert gradient == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("guest", CONTROLS)
def test_gradients_beside_controls_equal_finite_differences(guest):
    positive = with_options(CONTROLS[guest](torch.float64))
    model = tiny_model(dtype=torch.float64)
    gradient, difference = drag_with(model, positive, noisy_latent(), SIGMAS, gradient_and_difference)
    assert abs(difference) > 0.1
    assert gradient == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("guest", [name for name in MODELS if name != "ToMe"])
def test_a_patch_changes_the_prediction_as_it_does_in_the_host(guest):
    # ToMe draws at random, HyperTile where it may swap; so it may not here.
    kinds = {**MODELS, "HyperTile": lambda model: run_node(nodes_hypertile.HyperTile, model, 32, 2, 0, False)}
    model = kinds[guest](tiny_model(dtype=torch.float64))
    ours, host = drag_with(model, tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    _, without = drag_with(tiny_model(dtype=torch.float64), tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    assert (host - without).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guest", CONTROLS)
def test_a_control_changes_the_prediction_as_it_does_in_the_host(guest):
    ours, host = drag_with(tiny_model(), with_options(CONTROLS[guest](torch.float32)), noisy_latent(), SIGMAS, epsilons)
    _, without = drag_with(tiny_model(), tiny_conditioning(), noisy_latent(), SIGMAS, epsilons)
    assert (host - without).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guest", MODELS)
def test_supported_guests_pass_the_check(guest):
    HostRun(MODELS[guest](tiny_model(dtype=torch.float64)), tiny_conditioning(), SIGMAS).check(noisy_latent())


def test_random_draws_of_a_decoding_leave_the_hosts_own_draws_alone():
    model = MODELS["ToMe"](tiny_model())

    def draws(unet, x, levels):
        encoded = unet.encode(x, 3.0)
        torch.manual_seed(5)
        first = unet.decode(encoded, encoded.bottleneck, to_tap=True).feature
        drawn = torch.rand(1)
        torch.manual_seed(6)
        second = unet.decode(encoded, encoded.bottleneck, to_tap=True).feature
        return torch.equal(first, second), drawn

    same, drawn = drag_with(model, tiny_conditioning(), noisy_latent(), SIGMAS, draws)
    torch.manual_seed(5)
    assert same and torch.equal(drawn, torch.rand(1))


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


def broken(part):
    with torch.inference_mode():  # as the weights were made
        next(part.parameters()).fill_(float("nan"))


PLACES = {
    "the VAE's encoder": lambda model, vae, run: broken(vae.first_stage_model.taesd_encoder),
    "the inversion": lambda model, vae, run: broken(model.model.diffusion_model.input_blocks[0]),
    "sampling": lambda model, vae, run: run.after_drag(lambda: broken(model.model.diffusion_model.input_blocks[0])),
    "the VAE's decoder": lambda model, vae, run: broken(vae.first_stage_model.taesd_decoder),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("heard", [False, True], ids=["plain", "heard"])
def test_numbers_that_are_not_finite_are_named_by_their_place(place, heard, monkeypatch):
    monkeypatch.setattr(DragNoiseEdit, "hidden", SimpleNamespace(unique_id="7"))
    drag = HostRun.drag

    def after_drag(function):
        monkeypatch.setattr(HostRun, "drag", lambda *values: (drag(*values), function())[0])

    model, vae = tiny_model(), tiny_vae()
    if heard:
        patched_output(model)
    # Guests are tried before the inversion.
    said = "the U-Net" if heard and place == "the inversion" else place
    PLACES[place](model, vae, SimpleNamespace(after_drag=after_drag))
    points = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
    image = torch.rand(1, 128, 128, 3)
    settings = preset("paper", iterations=2)
    with pytest.raises(DragNoiseError, match=f"^{said} gave numbers that are not finite; use another"):
        DragNoiseEdit.execute(model, vae, tiny_conditioning(), image, points, steps=4, strength=0.7, settings=settings)


def test_a_drag_whose_gradient_is_not_finite_says_so():
    def spoil(hidden, skip, options):
        return (hidden * float("nan"), skip) if torch.is_grad_enabled() else (hidden, skip)

    model = tiny_model()
    model.set_model_output_block_patch(spoil)
    points = DragPoints.from_pairs([((30, 30), (60, 40))], 192, 128)
    with pytest.raises(DragNoiseError, match="the optimisation diverged"):
        HostRun(model, tiny_conditioning(), SIGMAS).drag(noisy_latent(), points, config=preset("paper", iterations=2))


def test_a_latent_that_is_not_finite_is_refused():
    latent = {"samples": noisy_latent() * float("nan")}
    with pytest.raises(DragNoiseError, match="what made the latent gave numbers that are not finite"):
        DragNoiseInvert.execute(tiny_model(), tiny_conditioning(), latent, 10, 0.7)
