"""What `veneer commit` foresees, and refuses while nothing is changed; what it leaves alone."""

import fcntl
import os
import subprocess

import pytest

import commands
import oscalls
import trees
from contenders import VENEER

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


@pytest.mark.parametrize("is_moved", [False, True], ids=["removed", "moved"])
def test_what_a_user_cannot_empty(make_own, is_moved):
    u = make_own({"a": {"b": {"c": "c"}}})
    os.chown(u.low("a/b"), 0, 0)
    u.mount(["userxattr", "redirect_dir=on"] if u.is_veneer and is_moved else None)
    if is_moved and not u.is_veneer:
        pytest.skip("the kernel has no redirects that a user may set")
    if is_moved:
        os.rename(u / "a", u / "moved")
    else:
        subprocess.run(["rm", "-r", u / "a"], check=True)
    u.umount()
    user = as_user(u)
    if is_moved:
        commit(u, "--force", **user)
        assert trees.read(u.low("moved/b/c")) == b"c"
    else:
        said = refuse(u, "--force", **user)
        assert u.low("a/b") in said and "as root" in said


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


# What is left as it was, and what is not

def test_names_that_look_like_ours(make):
    """In what the layer has replaced nothing of the old is left."""
    u = make({"a": {".veneer-commit-mine": "x", ".veneer-commit-dir": {"f": ""}, "b": "b"}})
    subprocess.run(["rm", "-r", u / "a"], check=True)
    os.mkdir(u / "a")
    u.write("a/new", "n")
    u.umount()
    commit(u)
    assert os.listdir(u.low("a")) == ["new"]


def test_protected_directory_of_a_link(make):
    """A directory that only gets a name anew keeps its flags and times."""
    u = make({"one": "1", "h": trees.Dir(children={"two": trees.Hard("one")}, mtime=1000)}, opts=["index=on"])
    path = u.low("h")
    u.umount()
    oscalls.change_flags(path, add=oscalls.FS_APPEND)
    u.mount()
    before = os.stat(path)
    os.chmod(u / "one", 0o600)
    u.write("one", "changed")
    u.umount()
    commit(u)
    after, flags = os.stat(path), oscalls.get_flags(path)
    oscalls.change_flags(path, drop=oscalls.FS_APPEND)
    assert flags & oscalls.FS_APPEND
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert os.path.samefile(u.low("one"), f"{path}/two") and trees.read(f"{path}/two") == b"changed"


@pytest.mark.veneer_only("the kernel's lowers end at mount points")
def test_links_on_two_file_systems(union_factory):
    """On each all names are one file."""
    u = union_factory({"m": {}, "a": "a"}, guard=False)
    point = u.low("m")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    try:
        u.mount(["cross_mounts"])
        u.write("first", "data")
        for name in ("m/two", "m/three", "z"):
            os.link(u / "first", u / name)
        commands.ask("commit", u.mnt)
        u.umount()
        assert os.path.samefile(f"{point}/two", f"{point}/three") and os.stat(f"{point}/two").st_nlink == 2
        assert os.path.samefile(u.low("first"), u.low("z")) and trees.read(f"{point}/two") == b"data"
    finally:
        oscalls.umount(point)


# What is unfinished

def test_rest_of_an_unfinished_commit(make):
    faulty = os.environ.get("VENEER_FAULTS", VENEER + "-faults")
    if not os.access(faulty, os.X_OK):
        pytest.skip(f"{faulty} is not built")
    u = make({"a": {"one": "1"}})
    os.rename(u / "a", u / "b")
    u.write("b/one", "changed")
    u.umount()
    stopped = subprocess.run([faulty, "commit", *commands.layers_of(u)], check=False, capture_output=True, text=True,
                             env={**os.environ, "VENEER_FAULT": "14:EIO"}, stdin=subprocess.DEVNULL)
    assert stopped.returncode == 1 and "when the cause is gone" in stopped.stderr
    said = commit(u, "--dry-run")
    assert "would be finished: what " in said and said.endswith("the layer to be emptied\n")
    commit(u)
    assert trees.read(u.low("b/one")) == b"changed" and os.listdir(u.upper) == []
