"""Puts the browser's picker into the wheel, where `dragnoise pick` finds it; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPicker(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "dragnoise_core" / "commands" / "point_picker"
            for part in ("model", "texts", "view"):
                shutil.copytree(Path("js/point_picker") / part, target / part, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPicker})
