"""Driving one picker on a page, in picture pixels, whatever its zoom."""

import json
from contextlib import contextmanager

PICTURE = (768, 512)


class PickerPage:
    """A page with one picker that JavaScript reaches as `handle`, a JSHandle or "picker"."""

    def __init__(self, page):
        self.page = page
        self.mouse, self.keyboard = page.mouse, page.keyboard
        self.errors = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def open(self, url, picture=PICTURE):
        self.page.goto(url)
        self.page.wait_for_function("window.picker?.stage.view.width > 0")
        if picture:
            self.set_picture(*picture)

    def set_picture(self, width, height):
        self.js("([w, h]) => picker.setPicture(drawPicture(w, h), { width: w, height: h })", [width, height])

    def js(self, expression, argument=None):
        return self.page.evaluate(expression, argument)

    def frame(self):
        """Wait until what was asked for is drawn."""
        self.js("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @property
    def text(self):
        return self.js("() => picker.model.text")

    @property
    def pairs(self):
        """The stored pairs as [handle, target], rounded to whole pixels."""
        text = self.text
        stored = json.loads(text)["pairs"] if text else []
        return [[point and [round(value) for value in point] for point in (p["handle"], p["target"])] for p in stored]

    @property
    def stored_points(self):
        """Every pair's reach, None where it has none, and all pins, as stored; pins to the pixel."""
        stored = json.loads(self.text or '{"pairs": []}')
        reaches = [pair.get("reach") for pair in stored["pairs"]]
        return reaches, [[round(value) for value in pin] for pin in stored.get("pins", [])]

    @property
    def message(self):
        return self.js("() => picker.stage.surface.parentElement.querySelector('[role=status]').textContent")

    @property
    def commits(self):
        return self.js("() => commits")

    def at(self, point):
        """Where a picture's pixel is on the page."""
        return self.js(
            """(point) => {
                const rect = picker.stage.surface.getBoundingClientRect();
                const [x, y] = picker.stage.toView(point);
                const scale = rect.width / picker.stage.surface.clientWidth;
                return [rect.left + x * scale, rect.top + y * scale];
            }""",
            list(point),
        )

    def click(self, *point, **options):
        self.mouse.click(*self.at(point), **options)

    def drag(self, start, end, steps=5, **options):
        self.mouse.move(*self.at(start))
        self.mouse.down(**options)
        self.mouse.move(*self.at(end), steps=steps)
        self.mouse.up(**options)

    def press(self, *keys):
        for key in keys:
            self.keyboard.press(key)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def mask_at(self, *points):
        """Whether the mask that would be stored is painted at these pixels; None when there is none at all."""
        return self.js(
            """async (points) => {
                const blob = await picker.mask.toBlob(picker.model.maskToStore);
                if (!blob) return null;
                const picture = await createImageBitmap(blob);
                const canvas = new OffscreenCanvas(picture.width, picture.height);
                const context = canvas.getContext("2d");
                context.drawImage(picture, 0, 0);
                const scale = picture.width / picker.model.maskToStore.width;
                return points.map(([x, y]) => context.getImageData(x * scale, y * scale, 1, 1).data[0] > 127);
            }""",
            [list(point) for point in points],
        )


@contextmanager
def plain_page(browser, files_url, picture=PICTURE, **context_options):
    """A picker on a plain page, as PickerPage; fails when the page reported an error."""
    options = {"viewport": {"width": 900, "height": 560}, **context_options}
    context = browser.new_context(**options)
    picker = PickerPage(context.new_page())
    picker.open(f"{files_url}/tests/browser/page.html", picture)
    yield picker
    errors = picker.errors
    context.close()
    assert not errors, errors
