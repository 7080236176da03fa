"""The ring around a handle and the pins, on a plain page: mouse, wheel, keyboard and fingers."""

import pytest
from picker_page import plain_page


@pytest.fixture
def picker(browser, files_url):
    with plain_page(browser, files_url) as picker:
        yield picker


@pytest.fixture
def pair(picker):
    """A page with a pair whose handle is at (300, 200) and selected."""
    picker.drag((300, 200), (420, 200))
    return picker


def grip(picker):
    """Where the selected pair's grip is, in pixels of the picture."""
    return picker.js(
        """async () => {
            const { reachGrip } = await import("/js/point_picker/model/geometry.js");
            const { model, stage } = picker;
            return stage.toPicture(reachGrip(model.state.pairs[model.selected.index], stage.viewport));
        }"""
    )


def test_the_grip_pulls_a_ring_out_and_the_ring_is_dragged(pair):
    assert pair.stored_points == ([None], []), "no ring, no reach"
    pair.drag(grip(pair), (300, 120))
    assert pair.stored_points[0] == pytest.approx([80], abs=1)
    assert pair.message == f"Handle 1 at 300, 200, ring of {pair.stored_points[0][0]:g} px"
    pair.drag((300, 280), (300, 330))
    assert pair.stored_points[0] == pytest.approx([130], abs=1)
    assert pair.pairs == [[[300, 200], [420, 200]]]
    assert pair.commits == 3
    pair.press("Control+z", "Control+z")
    assert pair.stored_points[0] == [None]
    pair.press("Control+Shift+z")
    assert pair.stored_points[0] == pytest.approx([80], abs=1)


def test_a_ring_grabbed_beside_its_line_does_not_jump(pair):
    pair.drag(grip(pair), (300, 120))
    before = pair.stored_points[0][0]
    pair.drag((300, 284), (300, 294))
    assert pair.stored_points[0][0] == pytest.approx(before + 10, abs=1)


@pytest.mark.parametrize("way", ["onto the handle", "right click", "key", "button", "escape"])
def test_a_ring_is_taken_away(pair, way):
    pair.drag(grip(pair), (300, 120))
    if way == "onto the handle":
        pair.drag((300, 280), (302, 201))
    elif way == "right click":
        pair.click(300, 280, button="right")
    elif way == "key":
        pair.press("r")
    elif way == "button":
        ring = pair.button("Ring around the handle: what moves with it")
        assert ring.get_attribute("aria-pressed") == "true"
        ring.click()
        assert ring.get_attribute("aria-pressed") == "false"
    else:
        pair.press("Control+z")
        pair.mouse.move(*pair.at(grip(pair)))
        pair.mouse.down()
        pair.mouse.move(*pair.at((300, 100)), steps=3)
        pair.press("Escape")
        pair.mouse.up()
    assert pair.stored_points == ([None], [])
    assert pair.pairs == [[[300, 200], [420, 200]]]


def test_keys_change_the_ring_and_held_down_they_are_one_step(pair):
    pair.press("r")
    assert pair.stored_points[0] == [51.2], "a tenth of the picture to begin with"
    commits = pair.commits
    pair.keyboard.down("]")
    for _ in range(3):
        pair.keyboard.down("]")
    pair.keyboard.up("]")
    assert pair.stored_points[0][0] == pytest.approx(51.2 * 1.1**4, abs=0.5)
    assert pair.commits == commits + 1
    pair.press("[")
    assert pair.stored_points[0][0] == pytest.approx(51.2 * 1.1**3, abs=0.5)


def test_the_wheel_turns_the_ring_under_it_and_zooms_elsewhere(pair):
    pair.drag(grip(pair), (300, 120))
    scale = "() => picker.stage.viewport.scale"
    fitted, commits = pair.js(scale), pair.commits
    pair.mouse.move(*pair.at((300, 281)))
    pair.mouse.wheel(0, -100)
    pair.page.wait_for_function("(before) => commits > before", arg=commits)
    assert pair.stored_points[0][0] == pytest.approx(80 * 2.718281828 ** (100 / 800), abs=2)
    assert pair.js(scale) == fitted
    pair.mouse.move(*pair.at((600, 400)))
    pair.mouse.wheel(0, -100)
    pair.page.wait_for_function("(fitted) => picker.stage.viewport.scale > fitted", arg=fitted)
    assert pair.commits == commits + 1


def test_with_alt_the_wheel_turns_the_selected_pairs_ring_from_anywhere(pair):
    commits = pair.commits
    pair.mouse.move(*pair.at((600, 400)))
    pair.keyboard.down("Alt")
    pair.mouse.wheel(0, -100)
    pair.keyboard.up("Alt")
    pair.press("Control+z")
    assert pair.commits == commits + 2, "undo takes back the whole turn, also one that has not rested yet"
    assert pair.stored_points == ([None], [])
    assert pair.pairs == [[[300, 200], [420, 200]]]


def test_the_ring_keeps_its_size_when_its_handle_moves_and_goes_with_its_pair(pair):
    pair.press("r")
    pair.drag((300, 200), (250, 260))
    assert pair.stored_points[0] == [51.2]
    pair.press("Delete")
    assert pair.text == ""


def test_shift_and_a_press_place_a_pin(pair):
    pair.keyboard.down("Shift")
    pair.drag((100, 100), (130, 140))
    pair.click(600, 400)
    pair.keyboard.up("Shift")
    assert pair.stored_points == ([None], [[130, 140], [600, 400]])
    assert pair.commits == 3
    pair.drag((130, 140), (90, 90))
    assert pair.stored_points[1] == [[90, 90], [600, 400]], "without Shift it can be dragged"
    pair.click(600, 400, button="right")
    assert pair.stored_points[1] == [[90, 90]]
    pair.press("Control+z", "Control+z")
    assert pair.stored_points[1] == [[130, 140], [600, 400]]


def test_the_pins_tool_places_pins_only(picker):
    picker.button("Place pins: points that stay").click()
    picker.click(100, 100)
    picker.drag((100, 100), (200, 150))
    assert picker.pairs == [] and picker.stored_points == ([], [[200, 150]])
    assert picker.message == "Pin 1 at 200, 150"
    picker.press("v")
    picker.drag((300, 200), (420, 200))
    picker.press("Escape")
    assert picker.message == "1 pair, 1 pin"


def test_pins_by_keyboard_alone(picker):
    picker.press("Tab", "Tab", "p", "Enter", "ArrowLeft", "Shift+ArrowUp")
    assert picker.stored_points[1] == [[383, 246]]
    assert picker.message == "Pin 1 at 383, 246"
    picker.press("v", "Enter", "Enter", "Tab")
    assert picker.message == "Pin 1 at 383, 246"
    picker.press("Delete")
    assert picker.stored_points == ([None], [])


def test_a_65th_pin_is_refused_in_words(picker):
    picker.press("Tab", "Tab", "p")
    for _ in range(65):
        picker.press("Enter")
    assert len(picker.stored_points[1]) == 64
    assert "64 pins are the most" in picker.message


def test_a_stored_text_brings_ring_and_pins_back(pair):
    pair.press("r")
    pair.keyboard.down("Shift")
    pair.click(100, 100)
    pair.keyboard.up("Shift")
    text = pair.text
    pair.press("Control+z", "Control+z", "Control+z")
    pair.js("(text) => picker.model.load(text)", text)
    assert pair.text == text and pair.stored_points == ([51.2], [[100, 100]])
    pair.set_picture(1536, 1024)
    assert pair.js("() => [picker.model.state.pairs[0].reach, picker.model.state.pins[0]]") == [102.4, [200, 200]]


def test_fingers_pull_the_ring_and_place_pins(browser, files_url):
    phone = {"viewport": {"width": 480, "height": 640}, "has_touch": True, "is_mobile": True}
    with plain_page(browser, files_url, **phone) as picker:
        tap = lambda *point: picker.page.touchscreen.tap(*picker.at(point))  # noqa: E731
        tap(300, 200)
        tap(500, 200)
        picker.button("Ring around the handle: what moves with it").tap()
        assert picker.stored_points[0] == [51.2]
        picker.button("Place pins: points that stay").tap()
        tap(600, 400)
        assert picker.stored_points[1] == [[600, 400]]
