"""The picker on a plain page when something comes in between: a tool goes, a pair goes, a key comes during a drag."""

import pytest
from picker_page import plain_page


@pytest.fixture
def picker(browser, files_url):
    with plain_page(browser, files_url) as picker:
        yield picker


def test_after_a_right_click_on_one_pair_delete_removes_the_selected_other(picker):
    for y in (100, 200, 300):
        picker.drag((200, y), (320, y))
    picker.click(320, 200)
    picker.click(320, 100, button="right")
    assert picker.message == "Target 1 at 320, 200"
    picker.press("Delete")
    assert picker.pairs == [[[200, 300], [320, 300]]]


@pytest.mark.parametrize(
    ("key", "left"),
    [("Control+z", [[[200, 200], [320, 200]]]), ("Delete", [[[200, 200], [320, 200]]]), ("Enter", None)],
)
def test_a_key_during_a_drag_ends_the_drag_and_is_one_step(picker, key, left):
    picker.drag((200, 200), (320, 200))
    picker.drag((200, 300), (320, 300))
    picker.mouse.move(*picker.at((320, 300)))
    picker.mouse.down()
    picker.mouse.move(*picker.at((400, 400)), steps=4)
    picker.press(key)
    picker.mouse.move(*picker.at((500, 450)), steps=4)
    picker.mouse.up()
    if left is None:
        assert picker.pairs == [[[200, 200], [320, 200]], [[200, 300], [500, 450]]], "Enter leaves a drag alone"
        return
    assert picker.pairs == left
    picker.press("Control+Shift+z" if key == "Control+z" else "Control+z")
    assert picker.pairs == [[[200, 200], [320, 200]], [[200, 300], [320, 300]]]


@pytest.mark.parametrize("way", ["disabled", "hidden"])
def test_the_toolbar_is_reached_by_tab_after_its_tab_stop_went_away(picker, way):
    picker.drag((200, 200), (320, 200))
    picker.button("Remove all points").focus()
    if way == "disabled":
        picker.press("Enter")
        picker.js("() => picker.focus()")
    else:
        picker.js("() => picker.focus()")
        picker.press("b", "Shift+Tab")
    picker.press("Shift+Tab")
    assert "Place and move points" in picker.js("() => document.activeElement.title")
