"""Which runs take the direct way, and how long their graphs live. Graphs themselves need a GPU: here they only run."""

from contextlib import ExitStack
from types import SimpleNamespace

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from dragnoise_pack.dragnoise_core.acceleration import Graphs
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.host import plain_unet
from dragnoise_pack.nodes.host.patches import apply_edit
from dragnoise_pack.nodes.host.plain_unet import AUTOMATIC, HeldGraphs, Speed
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import denoise, runs_plainly
from fake_control import FakeControl
from testing_pack.tiny_models import tiny_conditioning, tiny_model

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
POINTS = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)
WEIGHT = "diffusion_model.output_blocks.0.0.in_layers.2.weight"


class CountingGraphs(Graphs):
    """Runs every function as it is and remembers which would have been captured."""

    def __init__(self):
        super().__init__(required=True)
        self.keys = []

    def run(self, key, function, *arguments):
        self.keys.append(key)
        return function(*arguments)


@pytest.fixture
def made(monkeypatch):
    """All graphs that were made."""
    made = []

    def choose(acceleration, network, obstacle, device):
        made.append(CountingGraphs())
        return made[-1]

    monkeypatch.setattr(plain_unet, "choose_graphs", choose)
    return made


def noisy_latent():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3


def drag(model, speed=AUTOMATIC):
    config = preset("default", iterations=6, drag_steps=2, stop_distance=0.5)
    return HostRun(model, tiny_conditioning(), SIGMAS, speed=speed).drag(noisy_latent(), POINTS, config=config).edit


def with_wrapper(kind):
    model = tiny_model()
    model.add_wrapper_with_key(kind, "other", lambda executor, *arguments, **options: executor(*arguments, **options))
    return model


def test_one_prompt_and_nothing_else_is_plain():
    assert runs_plainly(tiny_model(), tiny_conditioning())
    lora = tiny_model()
    lora.add_patches({WEIGHT: ("diff", (torch.full(lora.model.state_dict()[WEIGHT].shape, 0.02),))}, 1.0)
    assert runs_plainly(lora, tiny_conditioning()), "a merged LoRA is but other weights"


@pytest.mark.parametrize("kind", [WrappersMP.DIFFUSION_MODEL, WrappersMP.APPLY_MODEL, WrappersMP.PREDICT_NOISE])
def test_a_wrapper_around_the_step_takes_part(kind):
    assert not runs_plainly(with_wrapper(kind), tiny_conditioning())


def test_what_other_nodes_put_on_a_model_takes_part():
    for model in (FreeU_V2().patch(tiny_model(), 1.3, 1.4, 0.9, 0.2)[0],
                  PerturbedAttentionGuidance.execute(tiny_model(), 3.0)[0]):  # fmt: skip
        assert not runs_plainly(model, tiny_conditioning())


@pytest.mark.parametrize(
    "more",
    [{"control": FakeControl()}, {"area": (8, 8, 0, 0)}, {"mask": torch.ones(1, 16, 16)}, {"start_percent": 0.2}],
)
def test_a_prompt_with_more_to_it_is_not_plain(more):
    positive = tiny_conditioning()
    assert not runs_plainly(tiny_model(), [[positive[0][0], {**positive[0][1], **more}]])
    assert not runs_plainly(tiny_model(), positive * 2)


def test_graphs_stay_with_the_model_and_give_the_same_edit(made):
    plain = drag(tiny_model())
    made.clear()
    model = tiny_model()
    first, second = drag(model), drag(model.clone())
    kinds = {getattr(key[0], "__name__", key[0]) for key in made[0].keys}
    assert len(made) == 1 and {"encode", "decode", "_track_and_supervise"} <= kinds
    for edit in (first, second):
        torch.testing.assert_close(edit.bottlenecks, plain.bottlenecks, rtol=1e-4, atol=1e-4)


def test_other_weights_or_another_way_to_run_make_other_graphs(made):
    model = tiny_model()
    plain = drag(model)
    drag(model, Speed(low_memory=True))
    lora = model.clone()
    lora.add_patches({WEIGHT: ("diff", (torch.full(model.model.state_dict()[WEIGHT].shape, 0.02),))}, 1.0)
    changed = drag(lora)
    assert len(made) == 3
    assert not torch.allclose(changed.bottlenecks, plain.bottlenecks, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(drag(model).bottlenecks, plain.bottlenecks, rtol=1e-4, atol=1e-4)


def test_unloading_the_model_drops_its_graphs(made):
    model = tiny_model()
    drag(model)
    held = HeldGraphs.of(model)
    assert held.graphs is made[0]
    comfy.model_management.unload_all_models()
    assert held.graphs is None and held.weights is None


def test_what_the_host_keeps_off_the_gpu_is_told():
    """As where a host without dynamic VRAM finds too little memory and moves some weights in and out."""
    model = SimpleNamespace(current_weight_patches_uuid=None, model_sampling=None)
    gpu = torch.device("cuda", 0)
    unet = SimpleNamespace(unet=torch.nn.Linear(2, 2), model=model, device=gpu, sampling=None)
    held = HeldGraphs()
    assert held.accelerate(unet, AUTOMATIC, ExitStack(), 0, gradient=False) is unet
    assert held.remark.startswith("2 of 2 weights are kept outside the GPU")
    held.accelerate(unet, Speed("eager"), ExitStack(), 0, gradient=False)
    assert held.remark is None
    with pytest.raises(DragNoiseError, match="2 of 2 weights"):
        held.accelerate(unet, Speed("cudagraph"), ExitStack(), 0, gradient=False)


def test_low_memory_gives_the_same_edit():
    torch.testing.assert_close(
        drag(tiny_model(), Speed(low_memory=True)).bottlenecks, drag(tiny_model()).bottlenecks, rtol=1e-5, atol=1e-5
    )


def test_a_bottleneck_that_is_replaced_is_not_computed():
    model, runs = tiny_model(), []
    config = preset("paper", iterations=2, stop_distance=0.5)
    run = HostRun(model, tiny_conditioning(), SIGMAS)
    edit = run.drag(noisy_latent(), POINTS, config=config).edit
    model.model.diffusion_model.middle_block[0].register_forward_hook(lambda *_: runs.append("middle"))
    found = run.sample(noisy_latent(), edit)
    assert not runs
    wanted = denoise(apply_edit(model, edit), tiny_conditioning(), noisy_latent(), SIGMAS)
    assert len(runs) == len(SIGMAS) - 1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_impossible_is_refused_when_asked_for():
    with pytest.raises(DragNoiseError, match="impossible here: the weights are on cpu"):
        drag(tiny_model(), Speed("cudagraph"))
