"""An installation under `veneer run`: its diff is exactly what was installed."""

import json
import os
import shutil
import subprocess

import pytest

import commands
from contenders import VENEER

BUILD = os.path.dirname(VENEER)

pytestmark = [pytest.mark.veneer_only("the kernel runs no commands"), pytest.mark.usefixtures("contender")]


@pytest.mark.skipif(not os.path.exists(f"{BUILD}/build.ninja") or not shutil.which("meson"),
                    reason="veneer is not in the directory it was built in")
def test_diff_of_an_installation(base):
    """Files, and the directories that had to be made for them; nothing of it is really there."""
    told = subprocess.run(["meson", "introspect", "--installed", BUILD], capture_output=True, text=True, check=True)
    installed = set(json.loads(told.stdout).values())
    there = {path for path in installed if os.path.lexists(path)}
    kept = os.path.join(base, "kept")
    # The log of the installation goes to the build directory.
    commands.ask("run", "--keep", kept, "--write", BUILD, "--", "meson", "install", "--no-rebuild", "-C", BUILD,
                 timeout=120)
    changes = json.loads(commands.ask("diff", "--json", kept))["changes"]
    files = {each["path"] for each in changes if each["after"] and each["after"]["type"] != "directory"}
    # What was there before and is the same is no change.
    assert installed - there <= files <= installed
    parents = {os.path.dirname(path) for path in installed}
    for each in changes:
        if each["path"] not in files:
            assert each["kind"] == "added" and any(path == each["path"] or path.startswith(each["path"] + "/")
                                                   for path in parents)
    assert {path for path in installed if os.path.lexists(path)} == there
