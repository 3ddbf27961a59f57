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


# What the destination does not let be changed

def test_read_only_mount(make):
    u = make({"a": "a", "b": {"c": "c"}})
    u.write("a", "changed")
    u.write("b/c", "changed")
    u.umount()
    path = u.lowers[0]
    subprocess.run(["mount", "--bind", path, path], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        said = refuse(u)
    finally:
        subprocess.run(["umount", path], check=True)
    assert path in said and "read-only" in said
    commit(u)
    assert trees.read(u.low("b/c")) == b"changed"


def test_other_subvolume(make, scratch):
    """One mount, but no rename from one to the other."""
    low = os.path.join(scratch.make("btrfs", 128 << 20), "low")
    trees.build(low, {"a": {"d": {"f": "f"}}})
    subprocess.run(["btrfs", "-q", "subvolume", "create", f"{low}/sub"], check=True)
    trees.build(f"{low}/sub/x", {"d": {"f": "f"}})
    u = make(low, opts=["redirect_dir=on"])
    os.rename(u / "sub/x/d", u / "sub/e")
    want = u.snapshot()
    u.umount()
    commit(u)
    assert trees.difference(want, trees.snapshot(low)) == []
    u.mount()
    os.rename(u / "a/d", u / "sub/d")
    u.umount()
    said = refuse(u)
    assert f"{low}/a/d" in said and "subvolume" in said


def as_user(u):
    """All that the union consists of becomes the user's, and the commit is done as that user."""
    subprocess.run(["chown", "-Rh", f"{USER}:{USER}", u.upper, u.work], check=True)
    return {"user": USER, "group": USER, "extra_groups": []}


@pytest.fixture
def make_own(union_factory):
    """A union whose lower is the user's."""
    def make_union(spec, low=None):
        u = union_factory(low or {}, opts=["userxattr"], guard=False)
        trees.build(u.lowers[0], spec)
        subprocess.run(["chown", "-Rh", f"{USER}:{USER}", u.lowers[0], u.upper, u.work], check=True)
        return u
    return make_union


def test_somebody_elses_directory(make_own):
    u = make_own({"a": {"b": "b"}})
    os.chown(u.low("a"), 0, 0)
    u.mount()
    u.write("a/new", "n")
    u.umount()
    user = as_user(u)
    said = refuse(u, **user)
    assert u.low("a") in said and "as root" in said
    commit(u, "--force")
    assert trees.read(u.low("a/new")) == b"n"


def test_immutable_directory(make_own):
    u = make_own({"a": {"b": "b"}})
    u.mount()
    u.write("a/new", "n")
    u.umount()
    user = as_user(u)
    subprocess.run(["chattr", "+i", u.low("a")], check=True)
    try:
        said = refuse(u, "--force", **user)
    finally:
        subprocess.run(["chattr", "-i", u.low("a")], check=True)
    assert u.low("a") in said and "immutable" in said
    commit(u, "--force", **user)
    assert trees.read(u.low("a/new")) == b"n"


def test_unreadable_file_of_ones_own(make_own, scratch):
    """It is copied to another file system nevertheless."""
    low = os.path.join(scratch.make("ext4", 16 << 20), "low")
    u = make_own({"a": "a"}, low)
    u.mount()
    u.write("new", "secret")
    os.chmod(u / "new", 0)
    want = u.snapshot()["new"]
    u.umount()
    user = as_user(u)
    commit(u, "--force", **user)
    found = trees.snapshot(low)["new"]
    assert (found.content, found.mode, found.mtime) == (want.content, want.mode, want.mtime)
