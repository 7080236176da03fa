"""Fingers, on a page in a phone's manner."""

import pytest
from picker_page import plain_page


@pytest.fixture
def picker(browser, files_url):
    phone = {"viewport": {"width": 480, "height": 640}, "has_touch": True, "is_mobile": True}
    with plain_page(browser, files_url, **phone) as picker:
        yield picker


class Fingers:
    """Touches through the browser's own input pipeline."""

    def __init__(self, picker):
        self.picker = picker
        self.session = picker.page.context.new_cdp_session(picker.page)

    def send(self, kind, *points):
        self.place(kind, *(self.picker.at(point) for point in points))

    def place(self, kind, *places):
        """Touches at places of the page, which zooming does not move."""
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def drag(self, start, end, steps=5):
        self.send("touchStart", start)
        for step in range(1, steps + 1):
            self.send("touchMove", [a + (b - a) * step / steps for a, b in zip(start, end, strict=True)])
        self.send("touchEnd")


@pytest.fixture
def fingers(picker):
    return Fingers(picker)


def test_taps_and_drags_place_pairs(picker, fingers):
    fingers.drag((200, 200), (400, 240))
    picker.page.touchscreen.tap(*picker.at((200, 400)))
    picker.page.touchscreen.tap(*picker.at((350, 400)))
    assert picker.pairs == [[[200, 200], [400, 240]], [[200, 400], [350, 400]]]


def test_a_fingers_reach_is_wide(picker, fingers):
    fingers.drag((200, 200), (500, 200))
    x, y = picker.at((500, 200))
    picker.page.touchscreen.tap(x, y + 20)
    assert picker.commits == 1
    assert "Target 1" in picker.message


def test_two_fingers_zoom_and_place_nothing(picker, fingers):
    before = picker.js("() => picker.stage.viewport.scale")
    middle, (ax, ay), (bx, by) = (picker.at((x, 256)) for x in (385, 350, 420))
    fingers.place("touchStart", (ax, ay))
    fingers.place("touchStart", (ax, ay), (bx, by))
    for spread in (10, 20, 30, 40):
        fingers.place("touchMove", (ax - spread, ay), (bx + spread, by))
    fingers.place("touchEnd")
    assert picker.js("() => picker.stage.viewport.scale") > 1.5 * before
    assert picker.at((385, 256)) == pytest.approx(middle, abs=1)
    assert picker.text == ""
    fingers.drag((370, 250), (400, 250))
    assert picker.pairs == [[[370, 250], [400, 250]]]


def test_a_finger_paints(picker, fingers):
    picker.button("Paint the mask: where the picture may change").tap()
    fingers.drag((100, 100), (300, 100))
    assert picker.mask_at((200, 100), (200, 300)) == [True, False]
