"""The picker in the real ComfyUI speaks the language that the host is set to."""

import pytest
from host_page import post


@pytest.fixture(params=[("zh", "DragNoise 点选", "拖拽点", "放置固定点：保持不动的点"),
                        ("ja", "DragNoise 点の指定", "ドラッグ点", "ピンを配置する：動かさない点")],
                ids=lambda param: param[0])  # fmt: skip
def spoken(request, host):
    """The page in another language, and what stands there in it: the node's title, the picker's name, a button's."""
    post(host.url, "/settings", {"Comfy.Locale": request.param[0]})
    host.load_page()
    host.clear()
    yield request.param[1:]
    post(host.url, "/settings", {"Comfy.Locale": "en"})
    host.load_page()


def test_picker_and_node_speak_the_hosts_language(host, spoken):
    title, name, button = spoken
    _, points = host.with_picture()
    assert host.page.get_by_role("group", name=name).count() == 1
    host.button(button).click()
    host.click(20, 20)
    assert host.stored_points[1] == [[20, 20]]
    assert host.js("(id) => app.graph.getNodeById(id).title", points) == title
