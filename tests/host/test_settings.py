"""Every setting of the core can be reached from the node, and "as the preset" means just that."""

from dataclasses import fields

import pytest
from dragnoise_pack.dragnoise_core.configuration import CHOICES, PRESETS, RANGES, OptimisationConfig
from dragnoise_pack.nodes.host.inputs import AS_PRESET, SETTINGS, preset_input, read_config
from dragnoise_pack.nodes.optimisation import DragNoiseOptimize


def defaults():
    schema = DragNoiseOptimize.define_schema()
    return {entry.id: entry.default for entry in schema.inputs if entry.id in SETTINGS}


def test_every_setting_has_an_input():
    assert set(defaults()) == {field.name for field in fields(OptimisationConfig)}
    assert set(preset_input().options) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_untouched_inputs_leave_the_preset_as_it_is(name):
    assert read_config(name, defaults()) == PRESETS[name]


@pytest.mark.parametrize("name", [field.name for field in fields(OptimisationConfig)])
def test_a_value_replaces_the_presets(name):
    other = RANGES[name][1] if name in RANGES else CHOICES[name][-1]
    assert getattr(read_config("paper", {**defaults(), name: other}), name) == other != getattr(PRESETS["paper"], name)
    assert AS_PRESET != other != -1
