"""Painting the mask on a plain page."""

import pytest
from picker_page import plain_page


@pytest.fixture
def picker(browser, files_url):
    with plain_page(browser, files_url) as picker:
        yield picker


def test_without_a_stroke_there_is_no_mask(picker):
    assert picker.mask_at((100, 100)) is None
    assert picker.js("() => [picker.model.maskName, picker.model.maskIsDirty]") == ["", False]


def test_paint_erase_undo(picker):
    picker.press("Tab", "Tab", "b")
    picker.drag((100, 100), (300, 100), steps=8)
    assert picker.mask_at((100, 100), (200, 100), (200, 115), (200, 160)) == [True, True, True, False]
    picker.press("e")
    picker.drag((200, 60), (200, 140), steps=4)
    assert picker.mask_at((100, 100), (200, 100), (300, 100)) == [True, False, True]
    picker.press("Control+z")
    assert picker.mask_at((200, 100)) == [True]
    picker.press("Control+z")
    assert picker.mask_at((100, 100)) is None
    assert picker.commits == 4
    assert picker.pairs == []


def test_what_is_shown_is_what_is_stored(picker):
    """The strokes as painted live and the same strokes painted again from history cover the same pixels."""
    picker.press("Tab", "Tab", "b")
    picker.drag((100, 100), (300, 180), steps=7)
    picker.press("e")
    picker.drag((150, 60), (220, 200), steps=5)
    picker.press("i")
    picker.frame()
    differing = picker.js(
        """async () => {
            const pixels = (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const live = pixels(picker.mask.canvas).slice();
            picker.mask.revert();
            const again = pixels(picker.mask.canvas);
            return live.reduce((count, value, index) => count + (Math.abs(value - again[index]) > 64), 0) / live.length;
        }"""
    )
    assert differing < 0.001


def test_invert_and_clear(picker):
    picker.press("Tab", "Tab", "b")
    picker.click(100, 100)
    picker.button("Invert the mask").click()
    assert picker.mask_at((100, 100), (400, 400)) == [False, True]
    picker.button("Clear the mask: everything may change").click()
    assert picker.mask_at((100, 100)) is None
    picker.press("i")
    assert picker.mask_at((100, 100), (767, 511)) == [True, True]


def test_erasing_everything_is_no_mask(picker):
    picker.press("Tab", "Tab", "b")
    picker.click(100, 100)
    picker.press("]", "]", "]", "e")
    picker.click(100, 100)
    assert picker.mask_at((100, 100)) is None


def test_brush_size_by_key_and_slider(picker):
    picker.press("Tab", "Tab", "b", "]")
    assert picker.js("() => picker.settings.brush") == 60
    picker.press("[", "[")
    assert picker.js("() => picker.settings.brush") == pytest.approx(38.4)
    picker.page.get_by_label("Brush size").fill("100")
    picker.click(300, 256)
    assert picker.mask_at((300, 256), (540, 256), (560, 256), (300, 10)) == [True, True, False, True]


def test_hiding_leaves_the_mask_and_painting_shows_it_again(picker):
    picker.press("Tab", "Tab", "b")
    picker.click(100, 100)
    picker.press("h")
    assert picker.js("() => picker.settings.maskVisible") is False
    assert picker.mask_at((100, 100)) == [True]
    picker.click(200, 200)
    assert picker.js("() => picker.settings.maskVisible") is True


def test_a_stroke_that_is_cancelled_leaves_nothing(picker):
    picker.press("Tab", "Tab", "b")
    picker.mouse.move(*picker.at((100, 100)))
    picker.mouse.down()
    picker.mouse.move(*picker.at((300, 100)), steps=3)
    picker.press("Escape")
    picker.mouse.up()
    assert picker.mask_at((100, 100)) is None
    assert picker.js("() => picker.mask.canvas.getContext('2d').getImageData(100, 100, 1, 1).data[3]") == 0


def test_a_stored_mask_comes_back_and_is_painted_on(picker):
    picker.press("Tab", "Tab", "b")
    picker.drag((100, 100), (300, 100))
    picker.js(
        """async () => {
            files["stored.png [input]"] = await picker.mask.toBlob(picker.model.maskToStore);
            picker.model.loadMask("");
            picker.model.loadMask("stored.png [input]");
        }"""
    )
    assert picker.mask_at((200, 100), (200, 300)) == [True, False]
    assert picker.js("() => picker.model.maskIsDirty") is False
    picker.click(200, 300)
    assert picker.mask_at((200, 100), (200, 300)) == [True, True]
    assert picker.js("() => picker.model.maskIsDirty") is True
    picker.press("Control+z")
    assert picker.js("() => [picker.model.maskName, picker.model.maskIsDirty]") == ["stored.png [input]", False]


def test_a_mask_that_is_gone_is_said(picker):
    picker.js("() => picker.model.loadMask('gone.png [input]')")
    picker.page.wait_for_function("() => document.querySelector('[role=status]').textContent.includes('gone.png')")
    assert picker.js("() => picker.model.maskName") == "gone.png [input]", "the stored value is not lost"


def test_a_mask_on_another_picture_stays_on_its_pixels_or_scales_with_it(picker):
    picker.press("Tab", "Tab", "b")
    picker.click(100, 100)
    picker.set_picture(1536, 1024)
    assert picker.mask_at((200, 200), (100, 100)) == [True, False]
    picker.set_picture(300, 900)
    assert picker.mask_at((200, 200), (100, 100)) == [True, False]
