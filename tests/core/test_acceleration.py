"""CUDA graphs: where there is no GPU, stand-ins that work in one memory as graphs do; where there is, the real ones."""

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_unet import small_unet
from stand_in_graphs import StandInGraphs
from torch import nn

from dragnoise_core import channels_last
from dragnoise_core.acceleration import GraphedUNet, Graphs, choose_graphs
from dragnoise_core.configuration import preset
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.inversion import inversion_path, invert
from dragnoise_core.optimisation import drag
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not GPU, reason="no CUDA GPU")
DEVICE = torch.device("cuda" if GPU else "cpu")
SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 20, 0.3).float()
POINTS = DragPoints.from_pairs([((40, 60), (80, 66)), ((90, 30), (90, 50))], 128, 128)


@pytest.fixture(autouse=True)
def whole_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def split_unet(seed=0):
    torch.manual_seed(seed)
    unet = small_unet(block_out_channels=(32, 64, 64)).to(DEVICE)
    return DiffusersSplitUNet(unet, torch.randn(1, 3, 16))


def latent(seed=0):
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def graphs():
    return Graphs(required=True) if GPU else StandInGraphs(required=True)


def whole_edit(unet, config, mask=None, seed=0):
    noisy = invert(unet, latent(seed), SIGMAS)
    dragged = drag(unet, noisy, SIGMAS, POINTS, mask=mask, config=config)
    return noisy, dragged.edit, sample(unet, dragged.latent, SIGMAS, edit=dragged.edit, start=dragged.level)


def assert_tracks_the_same(edit, wanted):
    """Whole cells are the same ones; places between cells move with rounding, by far less than a cell of 2 pixels."""
    pixels = 0.0 if wanted.config.supervision == "patches" else 0.02
    torch.testing.assert_close(edit.path, wanted.path, rtol=0.0, atol=pixels)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["paper", "default"])
def test_graphs_and_python_give_the_same_edit(name, masked):
    mask = torch.zeros(128, 128)
    mask[16:112, 16:112] = 1
    config = preset(name, iterations=13, learning_rate=0.02, gradient_steps=2, mask_weight=0.1)
    unet, kept = split_unet(), graphs()
    noisy, edit, clean = whole_edit(unet, config, mask if masked else None)
    for _ in range(2):  # captured, then replayed from the first call on
        captured = getattr(kept, "captures", None)
        fast_noisy, fast_edit, fast_clean = whole_edit(GraphedUNet(unet, kept), config, mask if masked else None)
        assert fast_edit.iterations == edit.iterations
        assert_tracks_the_same(fast_edit, edit)
        torch.testing.assert_close(fast_noisy, noisy, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(fast_edit.losses, edit.losses, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fast_edit.bottlenecks, edit.bottlenecks, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(fast_clean, clean, rtol=1e-2, atol=1e-2)
    assert not edit.config.background or len(fast_edit.corrections)
    assert captured is None or captured == kept.captures, "the second edit captured anew"


@pytest.mark.parametrize("supervision", ["patches", "dense"])
def test_the_default_preset_on_its_inversions_path_tracks_the_same_points(supervision):
    # At a rate of 0.2 this drag magnifies a millionth in the latent to a quarter of a pixel, at this one not.
    config = preset("default", iterations=12, drag_steps=4, supervision=supervision, learning_rate=0.05)
    unet = split_unet()
    path = inversion_path(unet, latent(), SIGMAS)
    edit = drag(unet, path.latents[0], SIGMAS, POINTS, config=config, path=path).edit
    fast = drag(GraphedUNet(unet, graphs()), path.latents[0], SIGMAS, POINTS, config=config, path=path).edit
    assert (edit.path != edit.path[0]).any(), "the points must move for this to say anything"
    assert_tracks_the_same(fast, edit)
    torch.testing.assert_close(fast.bottlenecks, edit.bottlenecks, rtol=1e-2, atol=1e-2)


def test_another_picture_prompt_and_number_of_points_go_through_the_same_graphs():
    config, kept = preset("paper", iterations=3), graphs()
    unet = split_unet()  # graphs hold no reference to the weights
    whole_edit(GraphedUNet(unet, kept), config)
    other = unet.under(unet.conditions._replace(context=torch.randn(1, 3, 16, device=DEVICE)))
    wanted = whole_edit(other, config, seed=7)
    found = whole_edit(GraphedUNet(other, kept), config, seed=7)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1].losses, wanted[1].losses, rtol=1e-3, atol=1e-4)


def test_graphs_outlive_the_table_of_noise_levels_that_they_were_captured_with():
    kept, network = graphs(), split_unet().unet
    tables = scaled_linear_sigmas(), 2 * scaled_linear_sigmas()
    for table in tables:
        unet = DiffusersSplitUNet(network, torch.ones(1, 3, 16), sigmas=table)
        wanted, found = unet.encode(latent(), 3.0), GraphedUNet(unet, kept).encode(latent(), 3.0)
        torch.testing.assert_close(found.bottleneck, wanted.bottleneck, rtol=1e-4, atol=1e-4)


def test_arrival_stops_at_the_same_step():
    config = preset("paper", iterations=60, learning_rate=0.05, stop_distance=12.0)
    unet = split_unet()
    _, edit, _ = whole_edit(unet, config)
    _, fast, _ = whole_edit(GraphedUNet(unet, graphs()), config)
    assert 0 < edit.iterations < 60, "the drag must end early for this to say anything"
    assert fast.iterations == edit.iterations and fast.path.tolist() == edit.path.tolist()


def test_an_encoding_that_has_been_written_over_is_not_decoded():
    unet = GraphedUNet(split_unet(), graphs())
    first = unet.encode(latent(0), 2.0)
    unet.encode(latent(1), 2.0)
    with pytest.raises(RuntimeError, match="encode this one again"):
        unet.decode(first, first.bottleneck, to_tap=True)


def test_what_decode_gives_without_gradient_stays():
    unet, plain = GraphedUNet(split_unet(), graphs()), split_unet()
    decoded = []
    for seed in (0, 1):
        encoded = unet.encode(latent(seed), 2.0)
        decoded.append(unet.decode(encoded, encoded.bottleneck, to_tap=False))
    for seed in (0, 1):
        encoded = plain.encode(latent(seed), 2.0)
        wanted = plain.decode(encoded, encoded.bottleneck, to_tap=False)
        torch.testing.assert_close(decoded[seed].epsilon, wanted.epsilon, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(decoded[seed].feature, wanted.feature, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_a_failed_capture_is_one_sentence_and_no_harm(caplog, kind):
    class Refusing(StandInGraphs):
        def capture(self, function, arguments):
            raise kind("operation not permitted when stream is capturing\nand more")

    config, unet = preset("paper", iterations=4), split_unet()
    _, edit, clean = whole_edit(unet, config)
    with caplog.at_level(logging.WARNING):
        _, same, same_clean = whole_edit(GraphedUNet(unet, Refusing()), config)
    torch.testing.assert_close(same.bottlenecks, edit.bottlenecks, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(same_clean, clean, rtol=1e-3, atol=1e-3)
    assert [record.message for record in caplog.records] == [
        "No CUDA graph of this model can be captured (operation not permitted when stream is capturing): the drag "
        "runs without, slower."
    ]
    with pytest.raises(DragNoiseError, match="not permitted.*use auto"):
        whole_edit(GraphedUNet(unet, Refusing(required=True)), config)


def test_the_choice_names_what_is_in_the_way(caplog):
    network = nn.Linear(2, 2)
    assert choose_graphs("eager", network) is None
    with caplog.at_level(logging.INFO, logger="dragnoise_core"):
        assert choose_graphs("auto", network) is None
    assert [record.message for record in caplog.records] == [
        "The drag runs without CUDA graphs: the weights are on cpu."
    ]
    with pytest.raises(DragNoiseError, match="impossible here: the weights are on cpu"):
        choose_graphs("cudagraph", network)
    with pytest.raises(DragNoiseError, match="acceleration is 'fast'; choose one of auto, eager, cudagraph"):
        choose_graphs("fast", network)


ONLY_CAPTURING_FAILS = """
import torch
from dragnoise_core.acceleration import Graphs

def function(x):
    doubled = (x * 2).requires_grad_(True)
    loss = doubled.square().sum()
    if torch.cuda.is_current_stream_capturing():
        raise ValueError("not while capturing")
    return torch.autograd.grad(loss, [doubled])[0]

graphs = Graphs()
print([graphs.run("gradient", function, torch.ones(2, device="cuda")).tolist() for _ in range(2)], bool(graphs.failure))
"""


@needs_gpu
@pytest.mark.parametrize("allocator", ["native", "cudaMallocAsync"])
def test_what_only_fails_while_capturing_runs_without_a_graph(allocator):
    environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": f"backend:{allocator}"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", ONLY_CAPTURING_FAILS]
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout.strip()) == (0, "[[4.0, 4.0], [4.0, 4.0]] True"), run.stderr


@needs_gpu
def test_nothing_is_collected_during_a_capture():
    collecting = []

    def double(x):
        collecting.append(gc.isenabled())
        return x * 2

    Graphs().run("double", double, torch.ones(4, device=DEVICE))
    assert collecting == [True, False] and gc.isenabled()


@needs_gpu
def test_hooks_are_not_captured():
    network = nn.Linear(2, 2).to(DEVICE)
    assert isinstance(choose_graphs("auto", network), Graphs)
    network.register_forward_hook(lambda *_: None)
    with pytest.raises(DragNoiseError, match="a Linear has hooks"):
        choose_graphs("cudagraph", network)


@needs_gpu
def test_norms_that_stay_channels_last_give_the_same_edit(monkeypatch):
    config, unet = preset("paper", iterations=6, learning_rate=0.02), split_unet()
    noisy, edit, clean = whole_edit(unet, config)
    monkeypatch.setattr(channels_last, "LARGE", 0)
    fast_noisy, fast_edit, fast_clean = whole_edit(GraphedUNet(unet, graphs()), config)
    torch.testing.assert_close(fast_noisy, noisy, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fast_edit.losses, edit.losses, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(fast_clean, clean, rtol=1e-2, atol=1e-2)


@needs_gpu
def test_other_graphs_of_the_device_need_no_work_spaces_of_their_own():
    unet, allocated = split_unet(), []
    for _ in range(3):
        whole_edit(GraphedUNet(unet, graphs()), preset("paper", iterations=3))
        gc.collect()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[2] == allocated[1]


@needs_gpu
def test_cleared_graphs_give_their_memory_back():
    kept, unet = graphs(), split_unet()
    reserved = []
    for _ in range(2):  # libraries keep their work spaces from the first time on
        whole_edit(GraphedUNet(unet, kept), preset("paper", iterations=3))
        during = torch.cuda.memory_reserved()
        kept.clear()
        gc.collect()
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[1] == reserved[0] < during
