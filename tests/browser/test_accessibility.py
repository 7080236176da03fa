"""The picker under axe, an automated audit of names, roles and contrast, and as contrast that axe does not measure."""

import json

import pytest
from picker_page import plain_page

axe_playwright_python = pytest.importorskip("axe_playwright_python.sync_playwright")

PAIRS = [{"handle": [200, 200], "target": [320, 200], "reach": 60}]
POINTS = json.dumps({"version": 2, "width": 768, "height": 512, "pairs": PAIRS, "pins": [[500, 400]]})


@pytest.fixture(params=["dark", "light"])
def picker(request, browser, files_url):
    with plain_page(browser, files_url) as picker:
        picker.js("(theme) => document.body.classList.add(theme)", request.param)
        yield picker


def audit(picker, where=""):
    """Fail with axe's own words where the picker breaks a rule; return the rules that it was held to."""
    found = axe_playwright_python.Axe().run(picker.page, ".dragnoise-picker").response
    assert not found["violations"], where + json.dumps(found["violations"], indent=1)
    return {rule["id"] for rule in found["passes"]}


def bring_to(picker, state):
    if state == "nothing placed":
        return
    picker.js("(text) => picker.model.load(text)", POINTS)
    if state == "a handle selected":
        picker.click(200, 200)
    elif state == "painting":
        picker.press("Tab", "Tab", "b")
    elif state == "a mistake said":
        picker.js('() => picker.model.load("{}")')
    elif state == "read only":
        picker.js('() => picker.setReadOnly("The points come from the link.")')


@pytest.mark.parametrize("state", ["nothing placed", "a handle selected", "painting", "a mistake said", "read only"])
def test_an_audit_finds_nothing(picker, state):
    bring_to(picker, state)
    assert {"button-name", "color-contrast", "aria-allowed-attr", "label"} <= audit(picker)


def luminance(colour):
    channels = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    """WCAG 2's contrast ratio of two colours, (red, green, blue) from 0 to 255."""
    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_as_wcag_says():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("variable", ["--dn-text", "--dn-accent"])
def test_icons_and_the_mark_of_the_focus_stand_out(picker, variable):
    """At least 3:1 against the surface (WCAG 2, 1.4.11)."""
    colours = picker.js(
        """(variable) => [variable, "--dn-surface"].map((name) => {
            const canvas = new OffscreenCanvas(1, 1).getContext("2d");
            canvas.fillStyle = getComputedStyle(picker.root).getPropertyValue(name);
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        })""",
        variable,
    )
    assert contrast(*colours) >= 3


def test_every_button_can_be_reached_by_keyboard_and_is_told_from_the_others(picker):
    bring_to(picker, "a handle selected")
    names = picker.js("() => [...document.querySelectorAll('button')].map((each) => each.getAttribute('aria-label'))")
    assert all(names) and len(set(names)) == len(names)
    for first in ("Place and move points", "Zoom out"):
        picker.button(first).focus()
        bar = picker.js("() => [...document.activeElement.closest('[role=toolbar]').querySelectorAll('button')]"
                        ".filter((each) => !each.disabled && !each.closest('[hidden]')).length")  # fmt: skip
        reached = set()
        for _ in range(bar):
            reached.add(picker.js("() => document.activeElement.getAttribute('aria-label')"))
            picker.press("ArrowRight")
        assert len(reached) == bar, "the arrows walk over all that can be pressed"
        assert picker.js("() => document.activeElement.getAttribute('aria-label')") == first, "and come round"
