"""The step of the publishing workflow that decides whether there is a new version, run as GitHub runs it."""

import os
import subprocess

import pytest
import yaml
from find_host import PACK

WORKFLOW = PACK / ".github" / "workflows" / "publish.yml"
NEVER = "0" * 40  # What GitHub names as the commit before a branch's first push.


@pytest.mark.parametrize(
    ("before", "event", "publishes"),
    [
        ("HEAD~2", "push", True),  # the version rose in the first of two commits
        ("HEAD~1", "push", False),
        (NEVER, "push", True),
        ("", "workflow_dispatch", True),
    ],
)
def test_a_push_publishes_when_its_version_is_new(tmp_path, before, event, publishes):
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["publish"]
    checkout, decision, *publication = job["steps"]
    assert checkout["with"]["fetch-depth"] == 0
    assert all(step["if"] == "steps.version.outputs.changed == 'yes'" for step in publication)
    commands = [step.get("run", "") for step in publication]
    refusal, publish = (
        next(i for i, c in enumerate(commands) if word in c) for word in (".ci/release.py", "node publish")
    )
    assert refusal < publish, "what is missing is found before anything is published"
    assert decision["env"] == {"BEFORE": "${{ github.event.before }}"}

    def git(*arguments):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    for version, text in (("1.0.0", "one"), ("1.1.0", "one"), ("1.1.0", "two")):
        (tmp_path / "pyproject.toml").write_text(f'version = "{version}"\ndescription = "{text}"\n')
        git("add", "-A")
        git("commit", "-q", "-m", version)
    found = tmp_path / "output"
    found.touch()
    if before.startswith("HEAD"):
        before = git("rev-parse", before)
    environment = {**os.environ, "BEFORE": before, "GITHUB_EVENT_NAME": event, "GITHUB_OUTPUT": str(found)}
    # GitHub's own shell for `run`.
    subprocess.run(["bash", "-e", "-c", decision["run"]], cwd=tmp_path, env=environment, check=True)
    assert (found.read_text() == "changed=yes\n") == publishes
