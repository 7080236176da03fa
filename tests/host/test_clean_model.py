"""After any run, finished, cancelled, failed or out of memory, the shared model is what it was."""

import comfy.model_management
import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import MEMORY_FACTOR, denoise
from testing_pack.tiny_models import tiny_conditioning, tiny_model

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
POINTS = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def noisy_latent():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3


def portrait(model):
    """Return all that could betray that somebody was at work in `model`."""
    network = model.model
    parameters = {
        name: (id(p), p.data_ptr(), p.requires_grad, p.grad is None, p.is_inference(), p.dtype, p.double().sum().item())
        for name, p in network.named_parameters()
    }
    modules = {
        name: (
            id(module),
            module.training,
            [len(getattr(module, kind)) for kind in HOOKS],
            [id(p) for p in module._parameters.values()],
            "forward" in vars(module),
            getattr(module, "comfy_cast_weights", None),
            len(getattr(module, "weight_function", ())),
        )
        for name, module in network.named_modules()
    }
    patches = repr(model.model_options), repr(model.wrappers), repr(model.object_patches), sorted(model.patches)
    return parameters, modules, patches, list(network.state_dict())


class Failing:
    """A patch of the decoder that raises once it is called outside inference mode, in the middle of the drag."""

    def __init__(self, error):
        self.error = error
        self.calls = 0

    def __call__(self, hidden, skip, options):
        if not torch.is_inference_mode_enabled() and options["block"] == ("output", 3):
            self.calls += 1
            if self.calls == 3:
                raise self.error
        return hidden, skip


def cancelling(progress):
    if progress.step == 2:
        comfy.model_management.interrupt_current_processing()
    comfy.model_management.throw_exception_if_processing_interrupted()


CASES = {
    "finished": (None, None, None),
    "cancelled": (None, cancelling, comfy.model_management.InterruptProcessingException),
    "failed": (RuntimeError("a patch failed"), None, RuntimeError),
    "out of memory": (comfy.model_management.OOM_EXCEPTION("no memory"), None, comfy.model_management.OOM_EXCEPTION),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["paper", "default"])
def test_the_model_is_left_as_it_was_found(case, name):
    error, callback, expected = CASES[case]
    model = tiny_model()
    if error:
        model.set_model_output_block_patch(Failing(error))
    positive = tiny_conditioning()
    # The host itself changes a model when it first loads it.
    denoise(model, positive, noisy_latent(), SIGMAS)
    before = portrait(model)
    picture = denoise(model, positive, noisy_latent(), SIGMAS)
    config = preset(name, iterations=6, drag_steps={"paper": 1, "default": 2}[name])

    def drag():
        HostRun(model, positive, SIGMAS, callback).drag(noisy_latent(), POINTS, config=config)

    if expected:
        with pytest.raises(expected):
            drag()
    else:
        drag()
    assert portrait(model) == before
    assert torch.equal(denoise(model, positive, noisy_latent(), SIGMAS), picture)
    assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()


def test_the_model_is_loaded_once_with_room_for_the_backward_pass(monkeypatch):
    asked = []
    load = comfy.model_management.load_models_gpu

    def recording(models, memory_required=0, minimum_memory_required=None, **others):
        asked.append((memory_required, minimum_memory_required))
        load(models, memory_required, minimum_memory_required=minimum_memory_required, **others)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", recording)
    model, positive, noisy = tiny_model(), tiny_conditioning(), noisy_latent()
    denoise(model, positive, noisy, SIGMAS)
    HostRun(model, positive, SIGMAS).drag(noisy, POINTS, config=preset("paper", iterations=1))
    (sampling, sampling_minimum), (dragging, dragging_minimum) = asked
    assert sampling_minimum > 0
    assert dragging == pytest.approx(MEMORY_FACTOR * sampling)
    assert dragging_minimum == pytest.approx(MEMORY_FACTOR * sampling_minimum)
