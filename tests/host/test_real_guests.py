"""Guests that the host itself ships, on its real server: each takes part or is refused by its own name."""

import pytest
import torch
from comfy.t2i_adapter.adapter import Adapter
from model_guests import control_network
from safetensors.torch import save_file
from testing_pack.tiny_models import FOUR_LEVELS, randomise, tiny_model
from usual_graph import failing, graph, numbers

LEVELS = "sd15 of four levels"
USERS = "invert", "optimize", "sample"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The host's folder, with files of random weights for its loaders."""
    base = tmp_path_factory.mktemp("host")
    for kind, weights in (("controlnet", controlnet()), ("loras", lora())):
        (base / "models" / kind).mkdir(parents=True)
        save_file(weights, base / "models" / kind / "random.safetensors")
    save_file(t2i_adapter(), base / "models" / "controlnet" / "adapter.safetensors")
    return base


GUESTS = {
    "FreeU": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "HyperTile": {"tile_size": 32, "swap_size": 2, "max_depth": 0, "scale_depth": False},
    "TomePatchModel": {"ratio": 0.3},
    "UNetCrossAttentionMultiply": {"q": 1.1, "k": 1.0, "v": 0.9, "out": 1.0},
    "SelfAttentionGuidance": {"scale": 0.5, "blur_sigma": 2.0},
    "PerturbedAttentionGuidance": {"scale": 3.0},
    "RescaleCFG": {"multiplier": 0.7},
    "PatchModelAddDownscale": {
        "block_number": 2, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.6,
        "downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic",
    },
}  # fmt: skip
REFUSED = ("SelfAttentionGuidance", "PerturbedAttentionGuidance", "RescaleCFG", "PatchModelAddDownscale")


@pytest.mark.parametrize("name", GUESTS)
def test_a_real_guest_takes_part_or_is_refused_by_its_own_name(host, name):
    nodes = graph()
    nodes["guest"] = (name, {"model": ["model", 0], **GUESTS[name]})
    for user in ("invert", "optimize", "sample"):
        nodes[user][1]["model"] = ["guest", 0]
    if name in REFUSED:
        assert failing(host, nodes).startswith(name)
        return
    run = host.run(nodes)
    assert run.error is None
    assert numbers(run) != pytest.approx(numbers(host.run(graph())), rel=1e-3)


def controlnet():
    """A ControlNet's file for the model of four levels."""
    network = control_network(head_channels=64, **FOUR_LEVELS)
    return {f"control_model.{name}": weight for name, weight in network.state_dict().items()}


def t2i_adapter():
    """A T2I-Adapter's file for the same model."""
    width = FOUR_LEVELS["model_channels"]
    channels = [width * factor for factor in FOUR_LEVELS["channel_mult"]]
    network = Adapter(channels, nums_rb=2, cin=192, ksize=1, sk=True, use_conv=False, xl=False)
    randomise(network, 5)
    return network.state_dict()


def lora():
    """A LoRA's file for the usual model: on the values of every attention of the picture to itself."""
    generator, weights = torch.Generator().manual_seed(6), {}
    for name, weight in tiny_model().model.state_dict().items():
        if name.endswith("attn1.to_v.weight"):
            layer = name.removesuffix(".weight")
            weights[f"{layer}.lora_up.weight"] = torch.randn(len(weight), 4, generator=generator)
            weights[f"{layer}.lora_down.weight"] = torch.randn(4, weight.shape[1], generator=generator) * 0.1
    return weights


def under(positive, family="sd15", **more):
    """The usual graph under another prompt."""
    nodes = {**graph(family=family), **more}
    for user in USERS:
        nodes[user][1]["positive"] = positive
    return nodes


@pytest.mark.parametrize("file", ["random", "adapter"])
def test_a_controlnet_of_the_hosts_loader_takes_part(host, file):
    applied = {
        "positive": ["model", 2], "negative": ["model", 3], "control_net": ["loader", 0], "image": ["image", 0],
        "strength": 0.5, "start_percent": 0.0, "end_percent": 1.0,
    }  # fmt: skip
    loader = ("ControlNetLoader", {"control_net_name": f"{file}.safetensors"})
    controlled = host.run(under(["control", 0], LEVELS, loader=loader, control=("ControlNetApplyAdvanced", applied)))
    assert controlled.error is None
    assert numbers(controlled) != pytest.approx(numbers(host.run(graph(family=LEVELS))), rel=1e-3)
    assert "control could not be applied" not in host.log()


def test_a_lora_as_hook_on_the_prompt_takes_part(host):
    hook = ("CreateHookLoraModelOnly", {"lora_name": "random.safetensors", "strength_model": 0.7})
    props = {"cond_NEW": ["model", 2], "hooks": ["hook", 0], "strength": 1.0, "set_cond_area": "default"}
    hooked = host.run(under(["props", 0], hook=hook, props=("ConditioningSetProperties", props)))
    assert hooked.error is None
    without = numbers(host.run(graph()))
    assert numbers(hooked) != pytest.approx(without, rel=1e-3)
    # As the same LoRA does on the model.
    nodes = graph()
    inputs = {"model": ["model", 0], "lora_name": "random.safetensors", "strength_model": 0.7}
    nodes["lora"] = ("LoraLoaderModelOnly", inputs)
    for user in USERS:
        nodes[user][1]["model"] = ["lora", 0]
    assert numbers(hooked) == pytest.approx(numbers(host.run(nodes)), rel=1e-4)


def test_a_model_that_is_to_be_compiled_is_dragged_as_it_is(host):
    nodes = graph()
    nodes["compiled"] = ("TorchCompileModel", {"model": ["model", 0], "backend": "inductor"})
    for user in USERS:
        nodes[user][1]["model"] = ["compiled", 0]
    run = host.run(nodes)
    assert run.error is None
    assert numbers(run) == pytest.approx(numbers(host.run(graph())), rel=1e-5)
