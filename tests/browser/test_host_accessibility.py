"""The picker in the real ComfyUI: an audit in every theme that comes with the host, and no mouse from load to queue."""

import pytest
from test_accessibility import audit

COLOURS_REST = "() => !document.getAnimations().some((animation) => animation instanceof CSSTransition)"


def test_an_audit_finds_nothing_in_any_of_the_hosts_themes(host):
    host.with_picture()
    host.drag((20, 20), (60, 30))
    themes = host.js("() => Object.keys(app.extensionManager.colorPalette?.palettesLookup ?? { dark: 0, light: 0 })")
    assert {"dark", "light"} <= set(themes)
    set_theme = "(theme) => app.extensionManager.setting.set('Comfy.ColorPalette', theme)"
    try:
        for theme in themes:
            host.js(set_theme, theme)
            host.frame()
            host.page.wait_for_function(COLOURS_REST)
            audit(host, theme)
    finally:
        host.js(set_theme, "dark")


def test_by_keyboard_alone_from_load_to_queue(host):
    _, points = host.with_picture()
    preview = host.add("PreviewImage", (950, 120))
    host.link(points, 2, preview, "images")
    host.js("() => document.activeElement?.blur()")
    for _ in range(150):
        host.press("Tab")
        if host.js("() => document.activeElement.classList.contains('dn-keys')"):
            break
    else:
        pytest.fail("Tab does not come to the picker")
    host.press("Enter", "ArrowLeft", "Enter", "ArrowDown", "r")
    (reach,), _ = host.stored_points
    assert reach > 0
    entry = host.run(start=lambda: host.press("Control+Enter"))
    assert entry["status"]["status_str"] == "success", entry["status"]
    (inputs,) = host.prompt_of("DragNoisePoints")
    assert inputs["points"] == host.text
