"""The U-Net cut at its bottleneck: equal to the host's own forward pass, with right gradients, whatever the weights."""

import comfy.hooks
import pytest
import torch
from comfy.ldm.modules.attention import attention_basic
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_train
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_train import TrainLoraNode
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.nodes.host import sampling as host_sampling
from dragnoise_pack.nodes.host.sampling import check_levels, check_model, drag_with, noise_table
from fake_control import FakeControl
from testing_pack.tiny_models import FAMILIES, tiny_conditioning, tiny_model

SIGMAS = torch.tensor([3.0, 1.5, 0.5])


@pytest.fixture(params=["plain", "heard"], autouse=True)
def adapter(request, monkeypatch):
    """Every test runs on both adapters; a model or prompt with something more to it on the one that listens anyway."""
    if request.param == "heard":
        monkeypatch.setattr(host_sampling, "is_plain", lambda model, positive: False)
    return request.param


def inside(model, positive, function, latent=None, sigmas=SIGMAS):
    """Return function(unet, x) as run inside the host's sampling."""
    x = noisy_latent() if latent is None else latent
    return drag_with(model, positive, x, sigmas, lambda unet, x, levels: function(unet, x))


def noisy_latent(height=16, width=24):
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1)) * 10


def own_epsilon(unet, x, sigma=3.0):
    encoded = unet.encode(x, sigma)
    return unet.decode(encoded, encoded.bottleneck, to_tap=False).epsilon


def host_epsilon(unet, x, sigma=3.0):
    with torch.inference_mode():
        denoised = unet.guider(x, x.new_full((1,), sigma), **unet.extra_args)
    return (x - denoised) / sigma


def both_epsilons(unet, x):
    return own_epsilon(unet, x), host_epsilon(unet, x)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(16, 24), (13, 19)])
def test_decoder_continues_the_hosts_forward_pass(family, size):
    ours, host = inside(tiny_model(family), tiny_conditioning(), both_epsilons, noisy_latent(*size))
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


def test_other_nodes_patches_take_part():
    plain = tiny_model()
    patched = FreeU_V2().patch(plain, 1.3, 1.4, 0.9, 0.2)[0]
    patched.model_options["transformer_options"]["patches"]["output_block_patch"].append(scale_everything)
    ours, host = inside(patched, tiny_conditioning(), both_epsilons)
    unpatched = inside(plain, tiny_conditioning(), host_epsilon)
    assert (host - unpatched).norm() > 0.01 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)


def scale_everything(hidden, skip, options):
    hidden *= 1.1  # in place, as some nodes do
    return hidden, skip


def test_controlnet_takes_part_and_stays_out_of_the_bottleneck():
    positive = tiny_conditioning()
    plain = inside(tiny_model(), positive, lambda unet, x: unet.encode(x, 3.0).bottleneck)
    controlled = [[positive[0][0], {**positive[0][1], "control": FakeControl()}]]
    ours, host = inside(tiny_model(), controlled, both_epsilons)
    unguided = inside(tiny_model(), positive, host_epsilon)
    assert (host - unguided).norm() > 0.01 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)
    middle = [[positive[0][0], {**positive[0][1], "control": FakeControl(parts=("middle",))}]]
    bottleneck = inside(tiny_model(), middle, lambda unet, x: unet.encode(x, 3.0).bottleneck)
    torch.testing.assert_close(bottleneck, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_equals_a_finite_difference(family):
    def measure(unet, x):
        encoded = unet.encode(x, 3.0)
        generator = torch.Generator().manual_seed(2)
        leaf = encoded.bottleneck.clone().requires_grad_(True)
        direction = torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)

        def value(bottleneck):
            feature = unet.decode(encoded, bottleneck, to_tap=True).feature
            return torch.sin(feature.double()).sum()

        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(value(leaf), [leaf])
        step = 1e-4
        difference = (value(leaf + step * direction) - value(leaf - step * direction)) / (2 * step)
        return float((gradient * direction).sum()), float(difference)

    gradient, difference = inside(tiny_model(family, dtype=torch.float64), tiny_conditioning(), measure)
    assert abs(difference) > 0.1
    assert gradient == pytest.approx(difference, rel=1e-5)


def gradient_at_tap(unet, x, before_decoding=lambda unet: None):
    """Return the gradient in the bottleneck of a function of the tap's feature."""
    encoded = unet.encode(x, 3.0)
    before_decoding(unet.guider.inner_model.diffusion_model)
    leaf = encoded.bottleneck.clone().requires_grad_(True)
    with torch.enable_grad():
        feature = unet.decode(encoded, leaf, to_tap=True).feature
        (gradient,) = torch.autograd.grad(torch.sin(feature.float()).sum(), [leaf])
    return gradient


@pytest.fixture
def wanted_gradient():
    gradient = inside(tiny_model(), tiny_conditioning(), gradient_at_tap)
    assert gradient.norm() > 0.1
    return gradient


def test_weights_whose_data_was_replaced_outside_inference_mode(wanted_gradient):
    def make_hybrid(unet):
        unet.to(torch.float64).to(torch.float32)
        weight = unet.out[2].weight
        assert not weight.is_inference()
        with pytest.raises(RuntimeError, match="version counter"):
            _ = weight._version

    found = inside(tiny_model(), tiny_conditioning(), lambda unet, x: gradient_at_tap(unet, x, make_hybrid))
    torch.testing.assert_close(found, wanted_gradient, rtol=1e-4, atol=1e-6)


def test_weights_made_outside_inference_mode(wanted_gradient):
    with torch.inference_mode(False):
        model = tiny_model()
    found = inside(model, tiny_conditioning(), gradient_at_tap)
    torch.testing.assert_close(found, wanted_gradient, rtol=1e-4, atol=1e-6)


def test_a_partly_unloaded_model_with_a_lora(wanted_gradient):
    key = "diffusion_model.output_blocks.0.0.in_layers.2.weight"

    def with_lora():
        model = tiny_model()
        model.add_patches({key: ("diff", (torch.full(model.model.state_dict()[key].shape, 0.02),))}, 1.0)
        return model

    def partly_unloaded(unet, x):
        with torch.inference_mode():
            unet.guider.model_patcher.partially_unload(torch.device("cpu"), 10**12)
        module = unet.guider.inner_model.diffusion_model.output_blocks[0][0].in_layers[2]
        assert module.comfy_cast_weights and module.weight_function
        return gradient_at_tap(unet, x)

    found = inside(with_lora(), tiny_conditioning(), partly_unloaded)
    merged = inside(with_lora(), tiny_conditioning(), gradient_at_tap)
    assert (merged - wanted_gradient).norm() > 0.01 * merged.norm()
    torch.testing.assert_close(found, merged, rtol=1e-4, atol=1e-5)


def test_weights_that_a_function_keeps():
    """A weight function may return what it made earlier, in inference mode."""
    model = tiny_model()
    kept = model.model.diffusion_model.output_blocks[1][0].in_layers[2].weight.data * 1.5
    key = "diffusion_model.output_blocks.1.0.in_layers.2.weight"
    model.add_weight_wrapper(key, lambda weight: kept)
    scaled = tiny_model()
    scaled.add_patches({key: ("set", (kept,))}, 1.0)
    found = inside(model, tiny_conditioning(), gradient_at_tap)
    torch.testing.assert_close(found, inside(scaled, tiny_conditioning(), gradient_at_tap), rtol=1e-4, atol=1e-5)


def test_weights_stored_in_eight_bits():
    small = tiny_model(dtype=torch.float8_e4m3fn, manual_cast=torch.float32)
    large = tiny_model()
    with torch.no_grad():
        for here, there in zip(large.model.parameters(), small.model.parameters(), strict=True):
            here.copy_(there.float())
    found = inside(small, tiny_conditioning(), gradient_at_tap)
    wanted = inside(large, tiny_conditioning(), gradient_at_tap)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_attention_without_a_backward_pass_is_overridden(wanted_gradient):
    def no_gradient(attention, *arguments, **options):
        return attention(*arguments, **options).detach()

    model = tiny_model()
    model.model_options["transformer_options"]["optimized_attention_override"] = no_gradient
    found = inside(model, tiny_conditioning(), gradient_at_tap)
    torch.testing.assert_close(found, wanted_gradient, rtol=1e-4, atol=1e-6)


def test_compiled_and_cached_models(wanted_gradient):
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_easycache import EasyCacheNode

    compiled = tiny_model()
    set_torch_compile_wrapper(compiled, backend="eager")
    cached = EasyCacheNode.execute(tiny_model(), 0.2, 0.15, 0.95, False)[0]
    for model in (compiled, cached):
        wrappers = {kind: {key: len(found) for key, found in keys.items()} for kind, keys in model.wrappers.items()}
        torch.testing.assert_close(inside(model, tiny_conditioning(), gradient_at_tap), wanted_gradient)
        after = {kind: {key: len(found) for key, found in keys.items()} for kind, keys in model.wrappers.items()}
        assert wrappers == after
        assert any(wrappers[kind] for kind in (WrappersMP.APPLY_MODEL, WrappersMP.OUTER_SAMPLE) if kind in wrappers)


def test_patches_that_bring_tensors_of_their_own():
    """As IP-Adapter does: a projection made in inference mode, weights that ask for gradients, and a mask."""
    projection = torch.nn.Linear(64, 64)
    mask = torch.rand(1)

    def replacement(q, k, v, options):
        return attention_basic(q, k, v, options["n_heads"]) + projection(q) * mask

    def patched(adapted):
        model = tiny_model()
        if adapted:
            for number in (0, 1, 2):
                model.set_model_attn2_replace(replacement, "output", number, 0)
        return model

    ours, host = inside(patched(True), tiny_conditioning(), both_epsilons)
    assert (host - inside(patched(False), tiny_conditioning(), host_epsilon)).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)
    assert inside(patched(True), tiny_conditioning(), gradient_at_tap).norm() > 0.1
    assert projection.weight.grad is None


def test_guidance_that_runs_the_model_again(wanted_gradient):
    model = PerturbedAttentionGuidance.execute(tiny_model(), 3.0)[0]
    found = inside(model, tiny_conditioning(), gradient_at_tap)
    torch.testing.assert_close(found, wanted_gradient)


def test_a_lora_that_hangs_on_the_prompt():
    model = tiny_model()
    key = "diffusion_model.output_blocks.0.0.in_layers.2.weight"
    before = model.model.state_dict()[key].clone()
    lora = {"lora_unet_output_blocks_0_0_in_layers_2.diff": torch.full(before.shape, 0.05)}
    prompt, options = tiny_conditioning()[0]
    hooked = [[prompt, {**options, "hooks": comfy.hooks.create_hook_lora(lora, 1.0, 1.0)}]]
    ours, host = inside(model, hooked, both_epsilons)
    plain = inside(model, [[prompt, options]], host_epsilon)
    assert (host - plain).norm() > 1e-3 * host.norm()
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)
    assert inside(model, hooked, gradient_at_tap).norm() > 0.1
    assert torch.equal(model.model.state_dict()[key], before)


def test_a_model_from_the_hosts_training_node():
    trained = train_lora(tiny_model(), {"samples": torch.randn(1, 4, 16, 16)}, tiny_conditioning())
    ours, host = inside(trained, tiny_conditioning(), both_epsilons)
    torch.testing.assert_close(ours, host, rtol=1e-4, atol=1e-5)
    assert inside(trained, tiny_conditioning(), gradient_at_tap).norm() > 0.1


def train_lora(model, latents, positive):
    """Return `model` with a LoRA that the host's node has trained."""
    options = {"optimizer": "SGD", "loss_function": "MSE", "seed": 0, "existing_lora": "[None]", "rank": 2}
    options |= {"training_dtype": "fp32", "lora_dtype": "fp32", "algorithm": "LoRA", "gradient_checkpointing": False}
    options |= {"batch_size": 1, "steps": 2, "grad_accumulation_steps": 1, "learning_rate": 0.01}
    if hasattr(TrainLoraNode, "train"):  # older hosts return a model, in which the LoRA's own modules are at work
        return TrainLoraNode().train(model, latents, positive, **options)[0]
    options |= {"quantized_backward": False, "checkpoint_depth": 1, "offloading": False}
    options |= {"bucket_mode": False, "bypass_mode": False}
    # Newer ones load the model once more for it, and return the LoRA.
    model.cached_patcher_init = (lambda disable_dynamic=False: tiny_model(), ())
    inputs = {"model": model, "latents": latents, "positive": positive, **options}
    lora = TrainLoraNode.execute(**{name: [value] for name, value in inputs.items()}).args[0]
    return nodes_train.LoraModelLoader.execute(model, lora, 1.0).args[0]


def test_several_prompts_at_once_are_refused():
    positive = tiny_conditioning() + tiny_conditioning(1)
    with pytest.raises(DragNoiseError, match="several prompts"):
        inside(tiny_model(), positive, gradient_at_tap)


def test_prompts_for_an_area_or_another_time_are_refused():
    prompt = tiny_conditioning()[0]
    area = [[prompt[0], {**prompt[1], "area": (8, 8, 0, 0)}]]
    with pytest.raises(DragNoiseError, match="of the latent's"):
        inside(tiny_model(), area, gradient_at_tap)
    late = [[prompt[0], {**prompt[1], "start_percent": 0.9, "end_percent": 1.0}]]
    with pytest.raises(DragNoiseError, match="the U-Net's own run at sigma 3.0"):
        inside(tiny_model(), late, gradient_at_tap)


def test_the_noise_table_is_stable_diffusions():
    from dragnoise_pack.dragnoise_core.schedule import scaled_linear_sigmas

    torch.testing.assert_close(noise_table(tiny_model()).double(), scaled_linear_sigmas(), rtol=1e-5, atol=0)


def test_models_of_all_families_are_accepted():
    for family in FAMILIES:
        check_model(tiny_model(family))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "at least two"),
        ([3.0], "at least two"),
        ([0.5, 3.0], "does not descend"),
        ([700.0, 3.0], "700.000 to 3.000"),
    ],
)
def test_noise_levels_that_cannot_be_sampled_are_refused(levels, message):
    with pytest.raises(DragNoiseError, match=message):
        check_levels(torch.tensor(levels), tiny_model())
