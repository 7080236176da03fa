"""Our GroupNorm against PyTorch's in double precision. Needs a GPU, or Triton with TRITON_INTERPRET=1."""

import os

import pytest
import torch
from torch.nn import functional

kernels = pytest.importorskip("dragnoise_core.norm_kernels", reason="no Triton", exc_type=ImportError)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GPU = torch.cuda.is_available()
pytestmark = pytest.mark.skipif(not (GPU or INTERPRETED), reason="no CUDA GPU")
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")


def random(shape, dtype=torch.float32):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 2 + 3
    return values.to(DEVICE, dtype)


@pytest.mark.parametrize("shape, groups", [((1, 60, 7, 9), 6), ((2, 320, 24, 40), 32), ((1, 32, 80, 160), 32)])
def test_result_and_gradient_are_those_of_group_norm(shape, groups):
    weight, bias = random(shape[1:2]), -random(shape[1:2])
    x = random(shape).to(memory_format=torch.channels_last).requires_grad_(True)
    exact = x.detach().double().requires_grad_(True)
    found = kernels.group_norm(x, groups, weight, bias, 1e-5)
    wanted = functional.group_norm(exact, groups, weight.double(), bias.double(), 1e-5)
    outer = random((*shape, 1))[..., 0]
    gradient, wanted_gradient = torch.autograd.grad(found, x, outer)[0], torch.autograd.grad(wanted, exact, outer)[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient.double(), wanted_gradient, rtol=1e-4, atol=1e-4)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (found, gradient))


def test_pytorchs_own_is_back_afterwards_whatever_happens():
    own = functional.group_norm
    with pytest.raises(ZeroDivisionError), kernels.channels_last_norms():
        assert functional.group_norm is not own
        raise ZeroDivisionError
    assert functional.group_norm is own


@pytest.mark.skipif(not GPU or INTERPRETED, reason="no CUDA GPU")
def test_only_what_fits_is_taken_from_pytorch(monkeypatch):
    norm, taken = torch.nn.GroupNorm(4, 16).to(DEVICE).requires_grad_(False), []
    monkeypatch.setattr(kernels, "group_norm", lambda x, *_: taken.append(x.stride()) or x)
    x = random((1, 16, 8, 8))
    with kernels.channels_last_norms():
        norm(x), norm(x[0, :, :, 0].T), norm.requires_grad_(True)(x.to(memory_format=torch.channels_last))
        assert not taken
        norm.requires_grad_(False)(x.to(memory_format=torch.channels_last))
    assert taken == [(1024, 1, 128, 16)]
