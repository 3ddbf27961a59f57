"""`veneer commit`: afterwards what is below shows by itself what the union showed."""

import os

import pytest

import commands
import trees
from commit_scenarios import (INDEX_SCENARIOS, SCENARIOS, hard_links, lower, moved_files, names_of_one_file,
                              rich)

FEATURES = ["redirect_dir=on", "metacopy=on"]
INDEXED = [*FEATURES, "index=on"]


def commit(u, *words):
    return commands.ask("commit", *words, *commands.layers_of(u))


def look(path):
    return trees.snapshot(path, nlink=True)


def same(left, right):
    assert trees.difference(left, right) == []


def assert_empty(u):
    assert os.listdir(u.upper) == []
    assert not os.listdir(os.path.join(u.work, "index")) if os.path.isdir(os.path.join(u.work, "index")) else True


@pytest.fixture
def make(union_factory):
    return lambda *lowers, opts=FEATURES, **kw: union_factory(*lowers, opts=opts, guard=False, **kw).mount()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_plain(make, scenario):
    u = make(lower())
    scenario(u.mnt)
    want, links = u.snapshot(), names_of_one_file(u.mnt)
    u.umount()
    commit(u)
    same(want, trees.snapshot(u.low()))
    assert names_of_one_file(u.low()) == links or scenario not in (hard_links, moved_files)
    assert_empty(u)
    # A layer that is empty shows the same, and can be used again.
    u.mount()
    if scenario is not rich:
        same(want, u.snapshot())


@pytest.mark.parametrize("scenario", INDEX_SCENARIOS, ids=lambda s: s.__name__)
def test_index(make, scenario):
    u = make(lower(), opts=INDEXED)
    scenario(u.mnt)
    want, links = u.snapshot(nlink=True), names_of_one_file(u.mnt)
    u.umount()
    commit(u)
    same(want, look(u.low()))
    assert names_of_one_file(u.low()) == links
    assert_empty(u)
    u.mount()
    same(want, u.snapshot(nlink=True))
