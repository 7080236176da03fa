"""The Settings node: every setting of the core can be reached, and what stands in a widget is what is used."""

import math
from dataclasses import asdict, fields, replace

import pytest
from dragnoise_pack.dragnoise_core.configuration import CHOICES, PRESETS, RANGES, OptimisationConfig, preset
from dragnoise_pack.dragnoise_core.errors import DragNoiseError
from dragnoise_pack.nodes.host.inputs import SETTINGS
from dragnoise_pack.nodes.settings import DragNoiseSettings

NAMES = [field.name for field in fields(OptimisationConfig)]
INPUTS = {entry.id: entry for entry in DragNoiseSettings.define_schema().inputs}


def settings(name, **values):
    return DragNoiseSettings.execute(name, **values).args[0]


def another(name, value):
    """Return a legal value of the setting that is not `value`."""
    choices = CHOICES.get(name) or RANGES[name]
    return next(choice for choice in choices if choice != value)


def test_every_setting_has_a_widget():
    assert set(SETTINGS) == set(NAMES)
    assert set(INPUTS) == {"preset", *NAMES}
    assert INPUTS["preset"].options == ["default", "paper", "custom"]


def test_a_new_node_shows_the_default_preset():
    shown = {name: INPUTS[name].default for name in NAMES}
    assert settings(INPUTS["preset"].default, **shown) == PRESETS["default"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_browser_is_told_what_a_preset_holds(name):
    told = INPUTS["preset"].as_dict()["presets"][name]
    assert settings(name, **told) == settings("custom", **told) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_alone_is_whole(name):
    assert settings(name) == PRESETS[name]


@pytest.mark.parametrize("setting", NAMES)
def test_under_custom_a_value_is_used(setting):
    value = another(setting, getattr(PRESETS["paper"], setting))
    shown = {**asdict(PRESETS["paper"]), setting: value}
    assert settings("custom", **shown) == replace(PRESETS["paper"], **{setting: value})


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("setting", NAMES)
def test_under_a_preset_another_value_is_refused(name, setting):
    own = getattr(PRESETS[name], setting)
    value = another(setting, own)
    with pytest.raises(DragNoiseError, match=f"{setting} is {value}.* it is {own}; set preset to 'custom'"):
        settings(name, **{setting: value})
    assert "set preset to 'custom'" in DragNoiseSettings.validate_inputs(name, **{setting: value})


def test_a_number_that_the_browser_rounded_is_the_presets():
    rounded = math.nextafter(PRESETS["default"].learning_rate, 1)
    assert settings("default", learning_rate=rounded) == PRESETS["default"]


def test_what_is_out_of_range_is_refused_before_anything_runs():
    assert "choose a value from" in DragNoiseSettings.validate_inputs("custom", stop_distance=0.1)
    assert "preset is 'fast'" in DragNoiseSettings.validate_inputs("fast")
    assert DragNoiseSettings.validate_inputs() is True, "a linked preset is not known yet"
    assert settings("custom", iterations=7) == preset("default", iterations=7)
