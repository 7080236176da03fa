"""Text from strangers in messages: one printable line, bounded, that every encoder takes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragnoise_core.errors import DragNoiseError, printable, quoted
from dragnoise_core.points import DragPoints, decode_points, parse_drag

STRANGE = ["\ud800", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "a\nb\rc", "\u202egnp.exe", "x" * 60000, "\x9b31m"]


@given(st.text(st.characters(), max_size=2000) | st.sampled_from(STRANGE))
def test_messages_are_one_printable_bounded_line(text):
    message = str(DragNoiseError(f"{text} is wrong; mend it."))
    assert message.isprintable() and len(message) <= 600
    message.encode("utf-8")
    assert message.endswith("is wrong; mend it.")


@pytest.mark.parametrize("text", ["picture.png", "日本語.png", "Größe 5 > 3"])
def test_what_can_be_printed_stays_as_it_is(text):
    assert printable(text) == text


def test_the_ends_of_a_long_message_stay():
    message = str(DragNoiseError("the thing " + "x" * 60000 + "; the remedy."))
    assert message.startswith("the thing x") and message.endswith("x; the remedy.") and len(message) < 700


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_quotes_are_bounded(value):
    assert len(quoted(value)) <= 83 and printable(quoted(value))


@pytest.mark.parametrize("strange", STRANGE)
def test_points_quote_what_they_refuse(strange):
    def refused(read, *arguments):
        with pytest.raises(DragNoiseError) as error:
            read(*arguments)
        assert str(error.value).isprintable() and len(str(error.value)) < 400

    for value in (strange, [strange], [[strange, strange]], [[[1, 2], {"x": strange, "y": 1}]]):
        refused(DragPoints.parse, json.dumps(value), 64, 64)
    refused(DragPoints.parse, strange, 64, 64)
    own = {"version": strange, "width": strange, "height": 4, "pairs": [{"handle": [1, 2], "target": [3, 4]}]}
    refused(DragPoints.parse, json.dumps(own))
    refused(DragPoints.parse, json.dumps({**own, "version": 1}))
    refused(parse_drag, strange)


TEXT = "[[38,48],[58,48]]"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_points_files_in_every_unicode_encoding(encoding):
    points = DragPoints.parse(decode_points(TEXT.encode(encoding)), 64, 64)
    assert points == DragPoints.from_pairs([((38, 48), (58, 48))], 64, 64)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[[1, 2], [3, 4\xe9]]", b"\xff" * 9])
def test_points_files_that_are_no_text(content):
    with pytest.raises(DragNoiseError, match="cannot be read as text in utf"):
        decode_points(content)


def test_points_written_as_shares_of_the_picture_are_refused():
    with pytest.raises(DragNoiseError, match="between 0 and 1"):
        DragPoints.from_pairs([((0.2, 0.3), (0.5, 0.3))], 512, 512).refuse_shares()
