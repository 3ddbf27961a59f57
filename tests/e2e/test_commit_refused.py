"""What `veneer commit` foresees, and refuses while nothing is changed; what it leaves alone."""

import fcntl
import os
import subprocess

import pytest

import commands
import trees

FEATURES = ["redirect_dir=on", "metacopy=on"]
USER = 4321


@pytest.fixture
def make(union_factory):
    return lambda *lowers, opts=FEATURES, **kw: union_factory(*lowers, opts=opts, guard=False, **kw).mount()


def commit(u, *words, **kwargs):
    return commands.ask("commit", *words, *commands.layers_of(u), **kwargs)


def refuse(u, *words, **kwargs):
    """Refused, before a journal is written and anything is changed; says why."""
    before = [trees.snapshot(path) for path in (*u.lowers, u.upper)]
    done = commands.run("commit", *words, *commands.layers_of(u), **kwargs)
    assert done.returncode == 1, done.stdout
    assert [trees.snapshot(path) for path in (*u.lowers, u.upper)] == before
    assert not os.path.exists(f"{u.work}/work/incompat/veneer-commit")
    return done.stderr


# Who else uses the destination

def test_another_commit(make):
    u = make({"a": "a"})
    u.write("a", "changed")
    u.umount()
    fd = os.open(u.low(), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    said = refuse(u)
    assert u.lowers[0] in said and "in use" in said
    os.close(fd)
    commit(u)
    assert trees.read(u.low("a")) == b"changed"


def test_upper_of_a_mount(make, union_factory):
    """What is below is the upper of another union that is mounted."""
    other = make({"a": "a", "b": "b"})
    other.write("a", "in the other")
    u = make(other.upper)
    u.write("a", "changed")
    u.umount()
    assert other.upper in refuse(u)
    other.umount()
    commit(u)
    assert trees.read(other.up("a")) == b"changed"
