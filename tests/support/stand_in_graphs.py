"""CUDA graphs without CUDA: a replay works in the memory of its capture, and writes over its last results."""

import torch
from torch.utils import _pytree as pytree

from dragnoise_core.acceleration import Graphs


class StandInGraphs(Graphs):
    """captures: how many functions were captured."""

    captures = 0

    def capture(self, function, arguments, pool):
        self.captures += 1
        return _Replay(function, arguments)


class _Replay:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments
        self.places = pytree.tree_leaves(arguments)
        self.results = None

    def __call__(self, *given):
        results = _Replayed.apply(self, *pytree.tree_leaves(given))
        return pytree.tree_unflatten(results, self.nest)

    def run(self, leaves):
        for place, leaf in zip(self.places, leaves, strict=True):
            place.detach().copy_(leaf)
        found, self.nest = pytree.tree_flatten(self.function(*self.arguments))
        if self.results is None:
            self.results = [result.detach() for result in found]
        for last, result in zip(self.results, found, strict=True):
            last.copy_(result.detach())
        return found


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(context, replay, *leaves):
        context.replay = replay
        with torch.set_grad_enabled(any(leaf.requires_grad for leaf in replay.places)):
            context.found = replay.run(leaves)
        return tuple(result.detach() for result in replay.results)

    @staticmethod
    def backward(context, *gradients):
        places = context.replay.places
        found = torch.autograd.grad(context.found, [place for place in places if place.requires_grad], gradients)
        found = iter(found)
        return None, *(next(found) if place.requires_grad else None for place in places)
