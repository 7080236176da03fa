"""CUDA graphs under dynamic VRAM, played on the CPU: their weights stay where they are, or there are no graphs."""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import pytest
import torch
from dragnoise_pack.nodes.host import plain_unet
from dragnoise_pack.nodes.host.plain_unet import HeldGraphs
from dynamic_vram import GPU, dynamic, host_has_dynamic_vram
from test_dynamic_vram import change, drag, lasting
from test_plain_unet import CountingGraphs
from testing_pack.tiny_models import tiny_model

pytestmark = pytest.mark.skipif(not host_has_dynamic_vram(), reason="this host has no dynamic VRAM")


@pytest.fixture
def graphs(monkeypatch):
    """All that would be captured as CUDA graphs, as it would be on a GPU."""
    made = []

    def choose(acceleration, network, obstacle, device):
        made.append(None if obstacle else CountingGraphs())
        return made[-1]

    monkeypatch.setattr(plain_unet, "choose_graphs", choose)
    return made


def test_graphs_read_weights_that_stay_where_they_are(vram, graphs):
    model = dynamic(tiny_model)
    right = change(drag(model, acceleration="eager"))
    graphs.clear()
    first = drag(model)
    held = HeldGraphs.of(model)
    places = held.places
    assert held.graphs is graphs[0]
    vram.evict()
    second = drag(model)
    assert HeldGraphs.of(model).places == places and len(graphs) == 1
    for edit in (first, second):
        torch.testing.assert_close(change(edit), right, rtol=1e-4, atol=1e-5)


def test_graphs_go_when_the_host_unloads_the_model(vram, graphs):
    model = dynamic(tiny_model)
    drag(model)
    assert HeldGraphs.of(model).graphs is graphs[0]
    comfy.model_management.free_memory(1e30, GPU)
    assert HeldGraphs.of(model).graphs is None


def test_graphs_are_captured_anew_where_a_weight_finds_no_page(vram, graphs):
    model = dynamic(tiny_model)
    right = change(drag(model))
    cleared = []
    graphs[0].clear = lambda: cleared.append(1)
    vram.evict()
    vram.capacity = 6
    torch.testing.assert_close(change(drag(model)), right, rtol=1e-4, atol=1e-5)
    assert cleared


def test_without_room_the_drag_runs_without_graphs_and_says_so(vram, graphs, monkeypatch):
    model = dynamic(tiny_model)
    monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 2**30)
    monkeypatch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 2**30)
    edit = drag(model)
    assert graphs == [None] and edit.bottlenecks.isfinite().all()
    assert "1.0 GiB of GPU memory are free" in HeldGraphs.of(model).remark


def test_weights_that_are_copied_leave_their_pages_to_the_host(vram, graphs, monkeypatch):
    """The decoder's convolutions, laid out anew: of a large one, the inner pages are nobody else's."""
    model, pins = dynamic(tiny_model), []

    def look():
        for layer in model.model.diffusion_model.output_blocks.modules():
            if isinstance(layer, torch.nn.Conv2d) and hasattr(layer, "_v"):
                pages, *place = layer._v
                pins.extend(pages.pins.get(page, 0) for page in pages.pages_of(*place)[1:-1])

    lasting(monkeypatch, look)
    drag(model)
    assert pins and not any(pins)


def test_graphs_pin_the_encoder_as_well(vram, graphs, monkeypatch):
    """They read its weights between one drag's steps, and a page that nobody pins may be another's by then."""
    model, pins = dynamic(tiny_model), []

    def look():
        made = HeldGraphs.of(model).weights.resident.made
        for layer in model.model.diffusion_model.input_blocks.modules():
            if hasattr(layer, "_v") and layer not in made:
                pages, *place = layer._v
                pins.extend(pages.pins.get(page, 0) for page in pages.pages_of(*place))

    lasting(monkeypatch, look)
    drag(model)
    assert pins and all(pins)
