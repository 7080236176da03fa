"""Before a release: `python .ci/release.py` names what is missing, or makes the READMEs' links absolute and says so.

Relative links lead nowhere on the registry's page, and in an installed pack those to files that its archive leaves out.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import tomllib

PACK = Path(__file__).resolve().parents[1]
PLACEHOLDER = "your-publisher-id"
READMES = ("README.md", "README.zh-CN.md")
MOST_BYTES = 25_000_000
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?://|#)[^)\s]+)\)")


def main() -> int:
    found = problems(PACK)
    for problem in found:
        sys.stderr.write(f"release: {problem}\n")
    if found:
        return 1
    for name in READMES:
        page = PACK / name
        if page.is_file():
            page.write_text(absolute_links(page.read_text(encoding="utf-8"), repository(PACK)), encoding="utf-8")
    sys.stdout.write("Nothing is missing; the READMEs' links are absolute now.\n")
    return 0


def problems(pack: Path) -> list[str]:
    """Return a sentence for everything that stands in the way of publishing what is checked out in `pack`."""
    text = (pack / "pyproject.toml").read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    found = [
        f"pyproject.toml, line {number}: replace {PLACEHOLDER}."
        for number, line in enumerate(text.splitlines(), 1)
        if PLACEHOLDER in line and not line.startswith("#")
    ]
    newest = re.search(r"^## (.+)$", (pack / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if newest is None or newest[1] != version:
        found.append(f"CHANGELOG.md begins with {newest and newest[1]}, pyproject.toml has version {version}.")
    here, everywhere = git(pack, "tag", "--points-at", "HEAD"), git(pack, "tag")
    found += [
        f"this commit has the tag {tag}; version {version} needs v{version}." for tag in here if tag != f"v{version}"
    ]
    if f"v{version}" in set(everywhere) - set(here):
        found.append(f"the tag v{version} is on another commit; raise the version.")
    size = sum((pack / name).stat().st_size for name in archive_files(pack))
    if size > MOST_BYTES:
        found.append(f"the archive holds {size / 1e6:.1f} MB; {MOST_BYTES / 1e6:.0f} MB are the most.")
    return found


def archive_files(pack: Path) -> list[str]:
    """Return what the registry's archive holds: what git tracks, less .comfyignore's patterns, plus `includes`."""
    includes = tuple(tomllib.loads((pack / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]["includes"])
    ignored = set(git(pack, "ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [name for name in git(pack, "ls-files") if name not in ignored or name.startswith(includes)]


def build_archive(pack: Path, folder: Path) -> None:
    """Write what the registry's archive holds to `folder`, as it is installed."""
    for name in archive_files(pack):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name in READMES:
            text = absolute_links((pack / name).read_text(encoding="utf-8"), repository(pack))
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copyfile(pack / name, target)


def repository(pack: Path) -> str:
    """Return the repository's address."""
    return tomllib.loads((pack / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def absolute_links(text: str, address: str) -> str:
    """Return a page with its links into the repository as addresses there; those of pictures give the files."""
    raw = address.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def absolute(link: re.Match) -> str:
        start = f"{raw}/main" if link["image"] else f"{address}/blob/main"
        return f"{link['image']}[{link['text']}]({start}/{link['target']})"

    return LINK.sub(absolute, text)


def git(pack: Path, *arguments: str) -> list[str]:
    """Return the lines that a git command prints."""
    done = subprocess.run(["git", *arguments], cwd=pack, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
