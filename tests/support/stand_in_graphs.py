"""CUDA graphs without CUDA: a replay reads its arguments where they were at its capture and writes over its results."""

import torch
from torch.utils import _pytree as pytree

from dragnoise_core.acceleration import Graphs, Replay


class StandInGraphs(Graphs):
    """captures: how many functions were captured."""

    captures = 0

    def capture(self, function, arguments):
        self.captures += 1
        return StandInReplay(function, arguments)


class StandInReplay(Replay):
    def __init__(self, function, arguments):
        super().__init__(arguments)
        self.compute = lambda: function(*arguments)
        self.results = pytree.tree_map(torch.clone, self.compute())

    def replay(self):
        for place, result in zip(*map(pytree.tree_leaves, (self.results, self.compute())), strict=True):
            place.copy_(result)
