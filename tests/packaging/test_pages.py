"""README and docs: every link leads somewhere, and the Chinese README keeps in step with the English one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def headings(text):
    """Return the anchors that GitHub gives a page's headings."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", without_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target.read_text(encoding="utf-8")), link


README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
ADVICE = "README.md and README.zh-CN.md differ here: bring the change into the other one"


def blocks(text):
    """Return the code blocks of a page, without the comments of shell commands."""
    return [re.sub(r"\s+# .*", "", block) for block in re.findall(r"^```\w*\n.*?^```", text, re.MULTILINE | re.DOTALL)]


def sections(text):
    """Return a page in parts that begin with a heading, without its code blocks and addresses."""
    plain = re.sub(r"^```.*?^```|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.split(r"^(?=#+ )", plain, flags=re.MULTILINE)[1:]


def test_the_readmes_link_to_each_other_at_their_top():
    assert "](README.zh-CN.md)" in README[:200] and "](README.md)" in CHINESE[:200]


def test_the_readmes_have_the_same_headings_and_commands():
    levels = [[section.split(" ")[0] for section in sections(text)] for text in (README, CHINESE)]
    assert levels[0] == levels[1], ADVICE
    assert blocks(README) == blocks(CHINESE), ADVICE


def test_the_readmes_link_to_the_same_places():
    english, chinese = (
        [link for link in LINK.findall(text) if not link.startswith(("#", "README"))] for text in (README, CHINESE)
    )
    assert english == chinese, ADVICE


def test_the_readmes_tables_and_figures_are_the_same():
    for english, chinese in zip(sections(README), sections(CHINESE), strict=True):
        rows = [re.findall(r"^\|.*", section, re.MULTILINE) for section in (english, chinese)]
        assert len(rows[0]) == len(rows[1]), f"{ADVICE}: {english.splitlines()[0]}"
        for left, right in zip(*rows, strict=True):
            assert re.findall(r"[\d.]*\d", left) == re.findall(r"[\d.]*\d", right), f"{ADVICE}: {left}"
        names, figures = (
            [set(re.findall(pattern, section)) for section in (english, chinese)]
            for pattern in (r"`[^`\n]+`", r"[\d.]*\d")
        )
        assert names[0] == names[1] and figures[0] == figures[1], f"{ADVICE}: {english.splitlines()[0]}"
