"""The picker on a plain page, without ComfyUI: mouse and keyboard, as a person uses them."""

import json

import pytest
from picker_page import PICTURE, plain_page


@pytest.fixture
def picker(browser, files_url):
    with plain_page(browser, files_url) as picker:
        yield picker


def test_one_press_and_drag_makes_a_pair(picker):
    picker.drag((200, 200), (320, 240))
    assert picker.pairs == [[[200, 200], [320, 240]]]
    assert picker.commits == 1
    stored = json.loads(picker.text)
    assert (stored["version"], stored["width"], stored["height"]) == (1, *PICTURE)


def test_two_clicks_make_a_pair_and_the_handle_waits_in_between(picker):
    picker.click(200, 200)
    assert picker.pairs == [[[200, 200], None]]
    assert "press its target" in picker.message
    picker.click(300, 210)
    assert picker.pairs == [[[200, 200], [300, 210]]]
    assert picker.commits == 2


def test_a_waiting_handle_can_be_dragged_out_to_its_target_and_escape_drops_it(picker):
    picker.click(200, 200)
    picker.drag((200, 200), (260, 200))
    assert picker.pairs == [[[200, 200], [260, 200]]]
    picker.click(500, 300)
    picker.press("Escape")
    assert picker.pairs == [[[200, 200], [260, 200]]]


def test_a_target_close_to_its_handle(picker):
    picker.click(200, 200)
    picker.click(214, 200)
    assert picker.pairs == [[[200, 200], [214, 200]]]


def test_ends_and_arrows_are_dragged(picker):
    picker.drag((200, 200), (320, 200))
    picker.drag((320, 200), (320, 300))
    assert picker.pairs == [[[200, 200], [320, 300]]]
    picker.drag((200, 200), (180, 220))
    assert picker.pairs == [[[180, 220], [320, 300]]]
    picker.drag((250, 260), (350, 360))
    assert picker.pairs == [[[280, 320], [420, 400]]]
    assert picker.commits == 4


def test_grabbing_a_marker_beside_its_middle_does_not_make_it_jump(picker):
    picker.drag((200, 200), (320, 200))
    picker.drag((208, 206), (258, 206))
    assert picker.pairs == [[[250, 200], [320, 200]]]


def test_a_press_without_a_move_selects_and_is_no_step(picker):
    picker.drag((200, 200), (320, 200))
    picker.click(321, 201)
    assert picker.commits == 1
    assert picker.message == "Target 1 at 320, 200"


def test_points_stop_at_the_border(picker):
    picker.drag((700, 400), (5000, 5000))
    assert picker.pairs == [[[700, 400], [768, 512]]]


def test_a_press_beside_the_picture_selects_nothing_and_places_nothing(picker):
    picker.drag((200, 200), (320, 200))
    picker.click(200, -60)
    assert picker.pairs == [[[200, 200], [320, 200]]]
    assert picker.message == "1 pair"
    picker.click(200, -10)
    assert picker.pairs[1] == [[200, 0], None], "just beside the border means the border"


@pytest.mark.parametrize("way", ["key", "button", "right click"])
def test_a_pair_is_removed(picker, way):
    picker.drag((200, 200), (320, 200))
    picker.drag((400, 400), (500, 400))
    if way == "right click":
        picker.click(320, 200, button="right")
    else:
        picker.click(320, 200)
        picker.press("Delete") if way == "key" else picker.button("Remove the selected pair or pin").click()
    assert picker.pairs == [[[400, 400], [500, 400]]]


def test_undo_and_redo_by_key_and_by_button(picker):
    picker.drag((200, 200), (320, 200))
    picker.drag((320, 200), (320, 300))
    picker.press("Control+z")
    assert picker.pairs == [[[200, 200], [320, 200]]]
    picker.button("Undo").click()
    assert picker.pairs == []
    picker.press("Control+Shift+z")
    picker.button("Redo").click()
    assert picker.pairs == [[[200, 200], [320, 300]]]


def test_escape_during_a_drag_takes_it_back(picker):
    picker.drag((200, 200), (320, 200))
    picker.mouse.move(*picker.at((320, 200)))
    picker.mouse.down()
    picker.mouse.move(*picker.at((400, 400)), steps=4)
    picker.press("Escape")
    picker.mouse.up()
    assert picker.pairs == [[[200, 200], [320, 200]]]
    assert picker.commits == 1


def test_by_keyboard_alone(picker):
    picker.press("Tab")
    assert "Place and move points" in picker.js("() => document.activeElement.title")
    picker.press("Tab")
    assert picker.js("() => document.activeElement === picker.keys")
    picker.press("Enter")
    assert picker.pairs == [[[384, 256], None]]
    picker.press("ArrowLeft", "Shift+ArrowUp", "Enter", "Shift+ArrowRight", "ArrowDown")
    assert picker.pairs == [[[383, 246], [470, 247]]]
    assert picker.message == "Target 1 at 469.8, 247"
    picker.press("Shift+Tab")
    assert picker.message == "Handle 1 at 383, 246"
    picker.press("Tab", "Tab")
    assert picker.js("() => document.activeElement !== picker.keys"), "Tab after the last point goes on"
    picker.press("Shift+Tab", "Shift+Tab", "Delete")
    assert picker.pairs == []


def test_arrow_keys_held_down_are_one_step(picker):
    picker.drag((200, 200), (320, 200))
    picker.keyboard.down("ArrowRight")
    for _ in range(5):
        picker.keyboard.down("ArrowRight")
    picker.keyboard.up("ArrowRight")
    assert picker.pairs == [[[200, 200], [326, 200]]]
    assert picker.commits == 2


def test_delete_on_a_toolbar_button_stays_in_the_picker(picker):
    picker.js("() => addEventListener('keydown', (event) => (window.escaped = event.key))")
    picker.drag((200, 200), (320, 200))
    picker.button("Paint the mask: where the picture may change").focus()
    picker.press("Delete")
    assert picker.pairs == []
    assert picker.js("() => window.escaped") is None


def test_after_a_click_on_a_button_keys_go_to_the_stage(picker):
    picker.button("Zoom in").click()
    assert picker.js("() => document.activeElement === picker.keys")


def test_the_wheel_is_the_pages_until_the_picker_is_focused(picker):
    picker.js("() => addEventListener('wheel', (event) => (window.prevented = event.defaultPrevented))")
    scale = "() => picker.stage.viewport.scale"
    fitted = picker.js(scale)
    picker.mouse.move(*picker.at((600, 400)))
    picker.mouse.wheel(0, -300)
    picker.page.wait_for_function("() => window.prevented === false")
    assert picker.js(scale) == fitted
    picker.click(100, 100)
    picker.press("Escape")
    before = picker.at((600, 400))
    picker.mouse.move(*before)
    picker.mouse.wheel(0, -300)
    picker.page.wait_for_function("(fitted) => picker.stage.viewport.scale > 1.5 * fitted", arg=fitted)
    assert picker.at((600, 400)) == pytest.approx(before, abs=1.5), "what is under the pointer stays there"
    picker.press("0")
    assert picker.js(scale) == fitted


def test_points_are_placed_right_when_zoomed_and_panned(picker):
    picker.button("Zoom in").click()
    picker.press("+", "+", "+", "+")
    picker.keyboard.down("Space")
    picker.drag((384, 256), (420, 290))
    picker.keyboard.up("Space")
    assert picker.pairs == []
    picker.drag((350, 220), (371, 243))
    assert picker.pairs == [[[350, 220], [371, 243]]]


def test_the_middle_button_pans_only_a_focused_picker(picker):
    picker.js("() => addEventListener('pointerdown', (event) => (window.seen = event.button))")
    picker.js("() => picker.stage.zoom(3)")
    viewport = "() => [picker.stage.viewport.x, picker.stage.viewport.y]"
    before = picker.js(viewport)
    picker.drag((380, 250), (400, 270), button="middle")
    assert picker.js("() => window.seen") == 1
    assert picker.js(viewport) == before
    picker.js("() => picker.focus()")
    picker.drag((380, 250), (400, 270), button="middle")
    assert picker.js(viewport) != before
    assert picker.pairs == []


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_hit_areas_and_places_hold_under_the_graphs_zoom(picker, scale):
    picker.js("(scale) => (document.getElementById('node').style.transform = `scale(${scale})`)", scale)
    picker.js("() => (document.body.style.margin = 0)")
    picker.drag((300, 200), (340, 200))
    assert picker.pairs == [[[300, 200], [340, 200]]]
    x, y = picker.at((340, 200))
    picker.mouse.click(x, y + 10)
    assert picker.commits == 1 and "Target 1" in picker.message, "ten pixels of the screen beside it is a hit"


def test_more_than_64_pairs_are_refused_in_words(picker):
    pairs = [{"handle": [10 * i + 5, 100], "target": [10 * i + 5, 200]} for i in range(64)]
    stored = {"version": 1, "width": 768, "height": 512, "pairs": pairs}
    picker.js("(text) => picker.model.load(text)", json.dumps(stored))
    picker.click(400, 400)
    assert len(picker.pairs) == 64
    assert "64 pairs are the most" in picker.message


def test_another_picture_says_what_does_not_fit(picker):
    picker.drag((100, 100), (200, 150))
    picker.drag((600, 100), (700, 150))
    picker.set_picture(400, 400)
    assert picker.pairs == [[[100, 100], [200, 150]]]
    assert "1 pair or pin lies outside" in picker.message
    picker.press("Control+z")
    assert picker.pairs == [[[100, 100], [200, 150]], [[600, 100], [700, 150]]]


def test_an_unreadable_text_is_explained(picker):
    picker.js('() => picker.model.load(\'{"version": 9, "pairs": []}\')')
    assert "version 9" in picker.message


def test_read_only_points_are_seen_and_not_changed(picker):
    picker.drag((200, 200), (320, 200))
    picker.js("() => picker.setReadOnly('Points come from the link.')")
    picker.drag((320, 200), (400, 400))
    picker.press("Delete")
    assert picker.pairs == [[[200, 200], [320, 200]]]
    assert picker.message == "Points come from the link."


def test_a_text_from_a_workflow_is_never_markup(picker):
    picker.js("""() => picker.model.load('{"version": "<img src=x onerror=alert(1)>", "pairs": []}')""")
    assert picker.page.locator(".dragnoise-picker img").count() == 0
    assert "<img" in picker.message


def test_the_widget_survives_being_moved_and_released(picker):
    picker.drag((200, 200), (320, 200))
    picker.js(
        """() => {
            const other = document.createElement("main");
            other.style.cssText = "position: fixed; top: 0; left: 460px; width: 300px; height: 400px";
            document.body.append(other);
            other.append(picker.root);
        }"""
    )
    picker.frame()
    picker.drag((320, 200), (320, 300))
    assert picker.pairs == [[[200, 200], [320, 300]]]
    picker.js(
        "() => { picker.disconnect(); picker.root.remove(); picker.connect();"
        " document.getElementById('node').append(picker.root); }"
    )
    picker.frame()
    picker.drag((320, 300), (320, 200))
    assert picker.pairs == [[[200, 200], [320, 200]]]


def test_size_never_feeds_back_to_the_parent(picker):
    """A picture of any size leaves the widget's box as the parent gives it, also where the parent fits its children."""
    picker.js(
        "() => (document.getElementById('node').style.cssText = 'display: grid; width: 420px; min-height: 300px')"
    )
    size = "() => Object.values(document.getElementById('node').getBoundingClientRect().toJSON())"
    picker.frame()
    before = picker.js(size)
    for picture in [(4000, 100), (100, 4000), (64, 64)]:
        picker.set_picture(*picture)
        picker.frame()
        assert picker.js(size) == before


def test_points_are_copied_as_text_and_a_text_is_put_in_their_place(picker):
    picker.drag((200, 200), (320, 240))
    picker.keyboard.down("Shift")
    picker.click(400, 400)
    picker.keyboard.up("Shift")
    text = picker.text
    picker.press("Control+c")
    assert picker.message == "Points copied, as text."
    picker.button("Remove all points").click()
    assert picker.text == ""
    picker.press("Control+v")
    assert picker.text == text
    picker.press("Control+z")
    assert picker.text == ""


def test_a_text_that_holds_no_points_is_refused_and_changes_nothing(picker):
    picker.drag((200, 200), (320, 240))
    before = picker.text
    picker.js("() => navigator.clipboard.writeText('[[[1, 2]]]')")
    picker.press("Control+v")
    assert "pair 1 has no target" in picker.message
    assert picker.text == before
