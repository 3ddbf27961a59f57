"""`veneer fsck`: the damaged layers of tests/fsck, and what any repair must hold to."""

import json
import os
import re

import pytest

import commands
import damaged
import trees
from contenders import CONTENDERS

pytestmark = [pytest.mark.veneer_only("a command of veneer"), pytest.mark.usefixtures("contender")]

REPAIRED, LEFT, ERROR, USAGE = 1, 4, 8, 16


def words_of(layers, namespace="trusted"):
    words = [layers.upper, "--lower", ":".join(layers.lowers), "--work", layers.work]
    return words + (["--userxattr"] if namespace == "user" else [])


def fsck(mode, layers, *args, namespace="trusted"):
    return commands.run("fsck", mode, *words_of(layers, namespace), *args)


def said(done, base):
    """What was printed, as `expect` files have it: nothing of it depends on where and when."""
    text = (done.stdout + done.stderr).replace(base + "/", "")
    return re.sub(r"[0-9a-f]{42,}", "IDENTITY", text) + f"exit {done.returncode}\n"


@pytest.fixture(params=damaged.names())
def case(request, base):
    """A damaged layer: its description, its layers, and where they are."""
    description = damaged.Description(request.param)
    return description, damaged.Builder(description, base).build(), base


def snapshot(layers, *, times=True):
    roots = layers.lowers + [layers.upper, layers.work]
    return {root: trees.snapshot(root, times=times, nlink=True) for root in roots}


def changes(before, after):
    return [line for root in before for line in trees.difference(before[root], after[root])]


def check_tree(description, layers, base):
    """Both contenders mount the repaired layer and show the tree that is expected."""
    options = description.options.get("mount", ["metacopy=on"])
    if description.namespace == "user":
        options = ["userxattr"]
    mnt = os.path.join(base, "mnt")
    os.makedirs(mnt, exist_ok=True)
    for name in description.options.get("contenders", CONTENDERS):
        mounted = CONTENDERS[name].mount(layers, mnt, options)
        try:
            assert damaged.show(mnt) == description.text("tree"), name
        finally:
            faults = mounted.unmount()
        assert not faults


# The damaged layers

def test_repairs_and_is_clean_then(case):
    description, layers, base = case
    lowers = {path: trees.snapshot(path, nlink=True) for path in layers.lowers}
    first = fsck("-y", layers, namespace=description.namespace)
    assert said(first, base) == description.text("expect.1")
    second = fsck("-y", layers, namespace=description.namespace)
    assert said(second, base) == description.text("expect.2")
    assert second.returncode == 0
    check_tree(description, layers, base)
    assert not changes(lowers, {path: trees.snapshot(path, nlink=True) for path in layers.lowers})


def test_looking_changes_nothing(case):
    description, layers, _base = case
    before = snapshot(layers)
    done = fsck("-n", layers, namespace=description.namespace)
    assert done.returncode == (0 if "exit 0" in description.text("expect.1") else LEFT)
    assert not changes(before, snapshot(layers))
    assert "? yes" not in done.stdout


def test_preening_leaves_what_only_yes_repairs(case):
    description, layers, _base = case
    first = fsck("-p", layers, "--json", namespace=description.namespace)
    left = [found["problem"] for found in json.loads(first.stdout)["findings"] if not found["repaired"]]
    again = fsck("-p", layers, "--json", namespace=description.namespace)
    assert [found["problem"] for found in json.loads(again.stdout)["findings"]] == left
    assert again.returncode == (LEFT if left else 0)
    assert fsck("-y", layers, namespace=description.namespace).returncode == (REPAIRED if left else 0)
    assert fsck("-n", layers, namespace=description.namespace).returncode == 0


def test_json_has_its_form(case):
    description, layers, _base = case
    done = fsck("-n", layers, "--json", namespace=description.namespace)
    commands.check_form("fsck", done.stdout)
    report = json.loads(done.stdout)
    assert report["found"] == len(report["findings"]) == report["left"]
    assert (done.returncode == 0) == (report["found"] == 0)
