"""Weights that are no plain tensors: the drag is that of their plain equals, or refused by name before anything runs."""

import pytest
import torch
from dragnoise_pack.dragnoise_core.configuration import preset
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.dragnoise_core.points import DragPoints
from dragnoise_pack.nodes.host import sampling
from dragnoise_pack.nodes.host.run import HostRun
from dragnoise_pack.nodes.host.sampling import check_model
from packed_weights import Packed, Stubborn, pack, packed_linear, unpack
from testing_pack.tiny_models import tiny_conditioning, tiny_model

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
POINTS = DragPoints.from_pairs([((30, 30), (60, 40))], 128, 128)


@pytest.fixture(params=["plain", "heard"])
def adapter(request, monkeypatch):
    if request.param == "heard":
        monkeypatch.setattr(sampling, "is_plain", lambda model, positive: False)


def change(model):
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 3
    config = preset("paper", iterations=4, stop_distance=0.5)
    edit = HostRun(model, tiny_conditioning(), SIGMAS).drag(noisy, POINTS, config=config).edit
    return edit.bottlenecks - edit.originals


def with_linear_layers(replace):
    """Return a model of which `replace` has put another in the place of every linear layer."""
    model = tiny_model()
    for parent in list(model.model.diffusion_model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, torch.nn.Linear):
                setattr(parent, name, replace(layer))
    return model


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_packed_weights_drag_as_what_they_stand_for(adapter, kind):
    def plain(layer):
        layer.weight = torch.nn.Parameter(unpack(pack(layer.weight, kind), torch.float32), requires_grad=False)
        return layer

    wanted = change(with_linear_layers(plain))
    model = with_linear_layers(lambda layer: packed_linear(layer, kind))
    check_model(model)
    before = [(id(weight), type(weight)) for weight in model.model.parameters()]
    assert Packed in {kind for _, kind in before}
    torch.testing.assert_close(change(model), wanted, rtol=1e-3, atol=1e-5)
    assert [(id(weight), type(weight)) for weight in model.model.parameters()] == before


def test_a_kind_that_nobody_unpacks_is_refused_by_name():
    model = tiny_model()
    layer = next(
        layer for layer in model.model.diffusion_model.output_blocks.modules() if hasattr(layer, "in_features")
    )
    layer._parameters["weight"] = layer.weight.as_subclass(Stubborn)
    with pytest.raises(DragNoiseError, match="weights of the kind Stubborn .*only its own kernels"):
        check_model(model)
