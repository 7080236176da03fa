"""The demo model takes its own weights and no others, also where the host makes a layer's weights late."""

import pytest
import torch
from dragnoise_pack.dragnoise_core.demo.loader import read_weights
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.nodes.host.demo_model import demo_unet, load_demo_model

COLOURS = [[0.0] * 3] * 4, [0.0] * 3
LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(params=["at once", "late"], autouse=True)
def weights_of_linear_layers(request, monkeypatch):
    """late: as with dynamic VRAM, a linear layer has none until they are loaded."""
    if request.param == "late":
        memory = pytest.importorskip("comfy.memory_management", reason="this host has no dynamic VRAM")
        monkeypatch.setattr(memory, "aimdo_enabled", True)


def test_every_weight_of_the_file_is_in_the_network():
    file = read_weights("unet", "cpu")
    file.pop("prompt_embeddings")
    loaded = load_demo_model()[0].model.diffusion_model.state_dict()
    assert len(loaded) == len(file)
    assert sorted(float(w.double().sum()) for w in loaded.values()) == pytest.approx(
        sorted(float(w.double().sum()) for w in file.values())
    )


def missing(weights):
    del weights[LINEAR]


def unknown(weights):
    weights["mid_block.another.weight"] = torch.zeros(1)


def turned(weights):
    weights[LINEAR] = weights[LINEAR][:, :-8].contiguous()


@pytest.mark.parametrize("spoil", [missing, unknown, turned])
def test_other_weights_are_refused(spoil, no_warning_of_the_hosts):
    weights = read_weights("unet", "cpu")
    weights.pop("prompt_embeddings")
    spoil(weights)
    with pytest.raises((DragNoiseError, RuntimeError), match="do not fit|size mismatch"):
        demo_unet(weights, COLOURS)
    no_warning_of_the_hosts.found.clear()  # here the host rightly names what is missing
