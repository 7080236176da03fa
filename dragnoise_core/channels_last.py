"""Group norms that keep feature maps channels last, as convolutions on a GPU want them; PyTorch's do not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Feature maps of so many values or more gain more from fewer bytes than they lose to more kernels, on an H100.
LARGE = 2**20


class ChannelsLastNorms(TorchFunctionMode):
    """While it is active, `group_norm` below takes the place of PyTorch's in this thread, and in no other."""

    def __torch_function__(self, function: Callable, types: Any, arguments: tuple = (), options: Any = None) -> Any:
        if function is functional.group_norm:
            function = group_norm
        return function(*arguments, **(options or {}))


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Return what `torch.nn.functional.group_norm` does (Wu and He 2018); maps, [B, C, H, W], come out channels last.

    A large map in a batch of one, without gradient, never leaves that layout: batch norm's kernels work in it and take
    any statistics. They compute those of single channels; a group's variance is the mean of its channels' variances
    plus the variance of their means.
    """
    if x.ndim != 4:
        return functional.group_norm(x, num_groups, weight, bias, eps)
    if torch.is_grad_enabled() or len(x) > 1 or x.numel() < LARGE:
        normed = functional.group_norm(x, num_groups, weight, bias, eps)
        return normed.contiguous(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    means, variances = torch.batch_norm_update_stats(x, None, None, 0.0)
    means, variances = means.view(num_groups, -1), variances.view(num_groups, -1)
    spread, mean = torch.var_mean(means, 1, correction=0, keepdim=True)
    variance = variances.mean(1, keepdim=True) + spread
    mean, variance = mean.expand_as(means).flatten(), variance.expand_as(means).flatten()
    return functional.batch_norm(x, mean, variance, weight, bias, eps=eps)
