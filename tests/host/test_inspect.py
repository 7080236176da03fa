"""The middle-block study: which steps repeat a block's output, and that nothing is left from run to run."""

import pytest
import torch
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.nodes.host.patches import replace_block
from test_propagation import Witness, ksampler
from testing_pack.tiny_models import tiny_model


def run(block="middle", start=0.3, stop=0.9, cfg=3.0):
    """Return sigmas, outputs of the middle block and what the decoder got, of a run with the middle block replaced."""
    own, final = Witness(), Witness()
    model = tiny_model()
    model.set_model_output_block_patch(own)
    model = replace_block(model, block, 0, start, stop)
    model.set_model_output_block_patch(final)
    ksampler(model, cfg, None)
    return model, own, final


def test_the_block_is_repeated_between_start_and_stop():
    model, own, final = run()
    sampling = model.get_model_object("model_sampling")
    first, last = sampling.percent_to_sigma(0.3), sampling.percent_to_sigma(0.9)
    remembered, repeats = None, 0
    for (sigma, _, before), (_, _, after) in zip(own.seen, final.seen, strict=True):
        if last <= sigma <= first:
            remembered = before if remembered is None else remembered
            assert torch.equal(after, remembered)
            repeats += not torch.equal(after, before)
        else:
            assert torch.equal(after, before)
    assert repeats >= 2


def test_nothing_is_remembered_from_one_run_to_the_next():
    model, own, final = run()
    count = len(own.seen)
    ksampler(model, 1.0, None)
    inside = [pair for pair in zip(own.seen[count:], final.seen[count:], strict=True)]
    changed = [not torch.equal(before, after) for (_, _, before), (_, _, after) in inside]
    # The first step in reach keeps its own output, of this run's batch of one row.
    assert changed.index(True) >= 1 and all(len(after) == 1 for _, (_, _, after) in inside)


def test_blocks_that_do_not_exist_are_refused():
    for block, index, message in (
        ("middle", 1, "1 middle block"),
        ("output", 5, "5 output"),
        ("attention", 0, "'attention'"),
    ):
        with pytest.raises(DragNoiseError, match=message):
            replace_block(tiny_model(), block, index, 0.3, 1.0)
