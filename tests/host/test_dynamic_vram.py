"""A drag under dynamic VRAM, played on the CPU: right whatever the host evicts, and nothing of it stays pinned."""

import json

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.host import resident_weights, sampling
from dragnoise_pack.nodes.host.demo_model import load_demo_model
from dragnoise_pack.nodes.host.plain_unet import Speed
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import check_model, denoise, noise_table
from dynamic_vram import PAGE, dynamic, host_has_dynamic_vram
from test_clean_model import CASES, Failing
from testing_pack.tiny_models import tiny_conditioning, tiny_model

pytestmark = pytest.mark.skipif(not host_has_dynamic_vram(), reason="this host has no dynamic VRAM")

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
POINTS = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
WEIGHT = "diffusion_model.output_blocks.0.0.in_layers.2.weight"


@pytest.fixture(params=["plain", "heard"])
def adapter(request, monkeypatch):
    if request.param == "heard":
        monkeypatch.setattr(sampling, "is_plain", lambda model, positive: False)
    return request.param


def noisy_latent():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3


def drag(model, callback=None, name="paper", iterations=4, mask=None, **speed):
    config = preset(name, iterations=iterations, drag_steps={"paper": 1, "default": 2}[name], stop_distance=0.5)
    run = HostRun(model, tiny_conditioning(), SIGMAS, callback, Speed(**speed))
    return run.drag(noisy_latent(), POINTS, mask, config).edit


def change(edit):
    """What an edit made of the bottleneck: the part that gradients decide."""
    return edit.bottlenecks - edit.originals


def with_lora(model):
    model = model.clone()
    shape = model.model.state_dict()[WEIGHT].shape
    model.add_patches({WEIGHT: ("diff", (torch.full(shape, 0.02),))}, 1.0)
    return model


def lasting(monkeypatch, before):
    """Have `before` happen between every forward pass and its backward pass."""
    grad = torch.autograd.grad

    def disturbed(*arguments, **options):
        before()
        return grad(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", disturbed)


def test_what_is_done_at_once_is_the_same_and_prepared_once(vram, adapter, monkeypatch):
    loads, load = [], comfy.model_patcher.ModelPatcherDynamic.load

    def counted(patcher, *arguments, **options):
        loads.append(patcher)
        return load(patcher, *arguments, **options)

    def edited(run):
        noisy, path = run.invert(noisy_latent())
        dragged = run.drag(noisy, POINTS, config=preset("default", iterations=4, drag_steps=2), path=path)
        return change(dragged.edit), run.sample(noisy, dragged.edit, walked=dragged)

    monkeypatch.setattr(comfy.model_patcher.ModelPatcherDynamic, "load", counted)
    run = HostRun(dynamic(tiny_model), tiny_conditioning(), SIGMAS)
    apart = edited(run)
    assert len(loads) == 3
    at_once = run.at_once(noisy_latent(), edited)
    # What takes part in a step is the host's to call, each time anew.
    assert len(loads) == 3 + {"plain": 1, "heard": 3}[adapter]
    torch.testing.assert_close(at_once, apart)


# How many pages fit, and whether all that is not pinned goes between a forward pass and its backward pass.
ROOMS = {"room": (1 << 40, False), "evicted": (1 << 40, True), "some": (12, True), "none": (0, True)}


def press(vram, monkeypatch, room):
    vram.evict()
    vram.capacity, evicted = ROOMS[room]
    if evicted:
        lasting(monkeypatch, vram.evict)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("name", ["paper", "default"])
@pytest.mark.parametrize("lora", [False, True])
def test_the_edit_is_the_same(vram, adapter, monkeypatch, room, name, lora):
    prepare = with_lora if lora else lambda model: model
    right = drag(prepare(tiny_model_at_once()), name=name)
    assert change(right).norm() > 0.01 * right.originals.norm()
    model = dynamic(tiny_model)
    press(vram, monkeypatch, room)
    torch.testing.assert_close(change(drag(prepare(model), name=name)), change(right), rtol=1e-4, atol=1e-5)
    assert (vram.failed_faults > 0) == (room in ("some", "none"))


def tiny_model_at_once(**options):
    """The same model without dynamic VRAM."""
    with pytest.MonkeyPatch.context() as aside:
        aside.setattr("comfy.memory_management.aimdo_enabled", False)
        return tiny_model(**options)


def test_a_mask_takes_the_gradient_through_the_last_layers_too(vram, adapter, monkeypatch):
    wide = {"channels": 128}  # so that the last convolution is large enough for a page
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    right = drag(tiny_model_at_once(**wide), mask=mask)
    model = dynamic(tiny_model, **wide)
    press(vram, monkeypatch, "evicted")
    torch.testing.assert_close(change(drag(model, mask=mask)), change(right), rtol=1e-4, atol=1e-5)
    assert hasattr(model.model.diffusion_model.out[2], "_v")


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_gradient_needs_is_pinned_or_copied(vram, adapter, monkeypatch, room):
    seen = []
    press(vram, monkeypatch, room)
    lasting(monkeypatch, lambda: seen.append((vram.evict(), vram.pinned)))
    drag(dynamic(tiny_model))
    assert all(pinned > 0 for _, pinned in seen) == (room != "none")
    assert vram.pinned == 0


def test_pins_that_are_no_counts_are_not_relied_on(vram, adapter, monkeypatch):
    right = change(drag(dynamic(tiny_model)))
    vram.counted = False
    seen = []
    lasting(monkeypatch, lambda: seen.append((vram.evict(), vram.pinned)))
    torch.testing.assert_close(change(drag(dynamic(tiny_model))), right, rtol=1e-4, atol=1e-5)
    assert {pinned for _, pinned in seen} == {0}


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("case", CASES)
def test_nothing_stays_pinned_or_in_place(vram, adapter, monkeypatch, case, room):
    error, callback, expected = CASES[case]
    model = dynamic(tiny_model)
    if error:
        model.set_model_output_block_patch(Failing(error))
    picture = denoise(model, tiny_conditioning(), noisy_latent(), SIGMAS)
    press(vram, monkeypatch, room)
    before = portrait(model)
    if expected:
        with pytest.raises(expected):
            drag(model, callback, iterations=6)
    else:
        drag(model, iterations=6)
    assert vram.pinned == 0
    assert portrait(model) == before
    assert torch.equal(denoise(model, tiny_conditioning(), noisy_latent(), SIGMAS), picture)


def portrait(model):
    """What could betray that somebody was at work in `model`; the host loads small weights anew every time."""
    return {
        name: (
            id(module),
            sorted(vars(module).keys() - {"_prefetch", "_v_weight", "_v_bias", "_pins"}),
            {name: type(weight) for name, weight in module._parameters.items()},
            [id(weight) for weight in module._parameters.values() if hasattr(module, "_v")],
            module.__dict__.get("weight_function"),
        )
        for name, module in model.model.named_modules()
    }


def in_another_dtype(dtype=torch.float64):
    """A model whose file is of another kind of number than it computes in."""
    model = tiny_model()
    for module in model.model.diffusion_model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    return model


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("first", ["drag", "host"])
def test_a_file_of_another_dtype(vram, adapter, monkeypatch, room, first):
    right = change(drag(tiny_model_at_once()))
    model = dynamic(in_another_dtype)
    if first == "host":
        denoise(model, tiny_conditioning(), noisy_latent(), SIGMAS)
    press(vram, monkeypatch, room)
    check_model(model)
    torch.testing.assert_close(change(drag(model)), right, rtol=1e-4, atol=1e-5)


def in_fp8(plain=False):
    """A model of which the large linear layers are fp8, as comfy_quant says in a file; plain: of the same numbers."""
    model = tiny_model()
    operations = comfy.ops.mixed_precision_ops(compute_dtype=torch.float32, full_precision_mm=True)
    for parent in list(model.model.diffusion_model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, torch.nn.Linear) and layer.weight.numel() > 2**10:
                scale = layer.weight.detach().abs().max() / 448
                stored = (layer.weight.detach() / scale).to(torch.float8_e4m3fn)
                if plain:
                    layer.weight = torch.nn.Parameter(stored.float() * scale, requires_grad=False)
                    continue
                file = {"weight": stored, "weight_scale": scale.reshape(()), "comfy_quant": FP8}
                if layer.bias is not None:
                    file["bias"] = layer.bias.detach()
                fp8 = operations.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
                fp8.load_state_dict(file, strict=False)
                setattr(parent, name, fp8)
    return model


FP8 = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)


@pytest.mark.parametrize("room", ROOMS)
def test_fp8(vram, adapter, monkeypatch, room):
    with pytest.MonkeyPatch.context() as aside:
        aside.setattr("comfy.memory_management.aimdo_enabled", False)
        right = change(drag(in_fp8(plain=True)))
    model = dynamic(in_fp8)
    kinds = {
        type(layer.weight).__name__ for layer in model.model.diffusion_model.modules() if hasattr(layer, "_orig_shape")
    }
    assert kinds == {"QuantizedTensor"}
    press(vram, monkeypatch, room)
    check_model(model)
    torch.testing.assert_close(change(drag(model)), right, rtol=1e-3, atol=1e-4)


def test_the_demo_model(vram, monkeypatch):
    model, _, prompts = load_demo_model()
    assert model.is_dynamic()
    positive = [[prompts["face"], {}]]
    noisy = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1)) * 3
    lasting(monkeypatch, vram.evict)
    points = DragPoints.from_pairs([((112, 132), (144, 132))], 256, 256)
    edit = HostRun(model, positive, SIGMAS).drag(noisy, points, config=preset("paper", iterations=3)).edit
    assert edit.losses.isfinite().all() and edit.bottlenecks.isfinite().all()


@pytest.mark.parametrize("with_other_first", [False, True])
def test_another_nodes_noise_levels_stay_with_it(vram, with_other_first):
    model = dynamic(tiny_model)
    other = ModelSamplingDiscrete().patch(model, "v_prediction", True)[0]
    own, others = noise_table(model), noise_table(other)
    assert not torch.allclose(own, others)
    for each in (other, model, other) if with_other_first else (model, other, model):
        denoise(each, tiny_conditioning(), noisy_latent(), SIGMAS)
        assert torch.equal(noise_table(model), own) and torch.equal(noise_table(other), others)


def test_memory_that_is_short_is_named_with_a_remedy(vram, monkeypatch):
    model = dynamic(tiny_model)
    vram.capacity = 0

    def no_room(tensor, *arguments, **options):
        raise comfy.model_management.OOM_EXCEPTION("Allocation on device")

    monkeypatch.setattr(resident_weights, "alias", no_room)
    with pytest.raises(comfy.model_management.OOM_EXCEPTION, match="not enough GPU memory for the drag.*low_memory"):
        drag(model)


def test_the_pages_are_small_enough_to_be_shared(vram):
    model = dynamic(tiny_model)
    denoise(model, tiny_conditioning(), noisy_latent(), SIGMAS)
    sizes = [module._v[2] for module in model.model.modules() if hasattr(module, "_v")]
    assert min(sizes) < PAGE < max(sizes)
