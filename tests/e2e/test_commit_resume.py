"""What `veneer commit` finds where it is: things of others, other file systems, other layers. Of what is not its own
nothing is lost, above all when an unfinished commit goes on."""

import os
import subprocess
import time

import pytest

import commands
import contenders
import trees
from contenders import VENEER

FAULTY = os.path.abspath(os.environ.get("VENEER_FAULTS", VENEER + "-faults"))
MOST = 300  # changes that no commit here needs

pytestmark = pytest.mark.skipif(not os.access(FAULTY, os.X_OK), reason=f"{FAULTY} is not built")


@pytest.fixture
def make(union_factory):
    return lambda *lowers, **kw: union_factory(*lowers, opts=["redirect_dir=on"], guard=False, **kw).mount()


def commit(u, *words, fault=None, lowers=None):
    env = {**os.environ, **({"VENEER_FAULT": fault} if fault else {})}
    words = [u.upper, "--lower", ":".join(lowers or u.lowers), "--work", u.work, *words]
    return subprocess.run([FAULTY, "commit", *words], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=60)


def plan_of(u):
    return f"{u.work}/work/incompat/veneer-commit/plan"


def finish(u, *words, **kw):
    done = commit(u, *words, **kw)
    assert done.returncode == 0, done.stderr
    assert os.listdir(u.upper) == []


def refused(u, *words, **kw):
    upper, low = trees.snapshot(u.upper), trees.snapshot(u.low())
    done = commit(u, *words, **kw)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert trees.difference(upper, trees.snapshot(u.upper)) == []
    assert trees.difference(low, trees.snapshot(u.low())) == []
    return done.stderr


def run_until(u, path):
    """Stopped by the change that makes this file."""
    for n in range(1, MOST):
        assert commit(u, fault=f"{n}:killafter").returncode != 0
        if os.path.exists(path):
            return
    pytest.fail(f"{path} is never made")


def in_the_middle(u):
    """Stopped after the renamed directories were moved out of the way."""
    run_until(u, plan_of(u))
    run_until(u, os.path.join(os.path.dirname(plan_of(u)), "staged"))


# Names

def test_names_of_others(make):
    """What looks like the command's own is somebody else's."""
    u = make({"ld": {"f": "f"}})
    os.rename(u / "ld", u / "ren")
    u.umount()
    for name in (".veneer-commit-moved-0", ".veneer-commit-new"):
        os.mkdir(u.low(name))
        trees.write(u.low(f"{name}/file"), "precious")
    finish(u)
    assert trees.read(u.low("ren/f")) == b"f"
    for name in (".veneer-commit-moved-0", ".veneer-commit-new"):
        assert trees.read(u.low(f"{name}/file")) == b"precious"


def test_two_unfinished_over_one_lower(make):
    first = make({"da": {"f": "a"}, "db": {"f": "b"}})
    os.rename(first / "da", first / "da2")
    first.umount()
    second = make(first.low())
    os.rename(second / "db", second / "db2")
    second.umount()
    in_the_middle(first)
    assert not os.path.exists(first.low("da"))
    finish(second)
    finish(first)
    assert trees.read(first.low("da2/f")) == b"a" and trees.read(first.low("db2/f")) == b"b"
    assert sorted(os.listdir(first.low())) == ["da2", "db2"]


@pytest.mark.parametrize("what", ["stage", "place"])
def test_another_in_its_place(make, what):
    """Somebody exchanged what was moved: nothing of his is removed."""
    u = make({"ld": {"f": "f"}})
    os.rename(u / "ld", u / "ren")
    u.umount()
    in_the_middle(u)
    stage, = (name for name in os.listdir(u.low()) if name.startswith(".veneer-commit-"))
    aside = os.path.join(u.base, "aside")
    os.rename(u.low(stage), aside)
    os.mkdir(u.low(stage if what == "stage" else "ren"))
    trees.write(u.low(stage if what == "stage" else "ren") + "/g", "another")
    assert "ren" in refused(u, "--force")
    trees.remove(u.low(stage if what == "stage" else "ren"))
    os.rename(aside, u.low(stage))
    finish(u)
    assert trees.read(u.low("ren/f")) == b"f"


# File systems

class Image:
    """A file system whose device number can change."""

    def __init__(self, scratch):
        self.image, self.point = scratch.path("image"), scratch.path("point")
        with open(self.image, "wb") as file:
            file.truncate(4 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        os.mkdir(self.point)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.point], check=True)

    def umount(self):
        contenders.unmount(self.point)

    def renew(self):
        before = os.stat(self.point).st_dev
        loop = subprocess.run(["losetup", "--find", "--show", self.image], check=True, capture_output=True,
                              text=True).stdout.strip()
        self.umount()
        subprocess.run(["mount", loop, self.point], check=True)
        subprocess.run(["losetup", "-d", loop], check=True)  # when it is unmounted
        assert before != os.stat(self.point).st_dev

    def close(self):
        if os.path.ismount(self.point):
            contenders.unmount(self.point)
        os.rmdir(self.point)


@pytest.fixture
def image(scratch):
    made = Image(scratch)
    yield made
    made.close()


def test_another_device_number(make, image):
    """As after a reboot."""
    trees.build(f"{image.point}/low", {"ld": {"f": "f"}, "x": {"g": "g"}})
    u = make(f"{image.point}/low")
    os.rename(u / "ld", u / "ren")
    os.rename(u / "x", u / "ren/in")
    want = u.snapshot()
    u.umount()
    in_the_middle(u)
    image.renew()
    finish(u)
    assert trees.difference(want, trees.snapshot(f"{image.point}/low")) == []


def test_not_mounted(make, image):
    """The lower is a mount point, and nothing is mounted there."""
    trees.build(f"{image.point}/ld", {"f": "f"})
    os.rmdir(f"{image.point}/lost+found")
    u = make(image.point)
    os.rename(u / "ld", u / "ren")
    u.write("ren/new", "new")
    want = u.snapshot()
    u.umount()
    in_the_middle(u)
    image.umount()
    said = refused(u)
    assert image.point in said and "inode 2 of the file system" in said and "mount" in said
    assert os.listdir(image.point) == []
    image.mount()
    finish(u)
    assert trees.difference(want, trees.snapshot(image.point)) == []


def test_mounted_in_what_goes(make, image):
    """Mounted after the plan was made, in a directory that is to be removed."""
    trees.build(f"{image.point}/data", {"f": "precious"})
    u = make({"a": {"b": {"c": {}}, "z": {"f": "f"}}, "ld": {"f": "f"}, "sub": {"k": {"f": "f"}}})
    subprocess.run(["rm", "-r", u / "a"], check=True)
    os.rename(u / "ld", u / "ren")
    want = u.snapshot()
    u.umount()
    in_the_middle(u)
    subprocess.run(["mount", "--bind", image.point, u.low("a/b/c")], check=True)
    done = commit(u)
    mounted = [path for path in contenders.mounts_below(u.low())]
    assert done.returncode == 1 and "unmount it first" in done.stderr, done.stderr
    assert trees.read(f"{image.point}/data/f") == b"precious"
    for path in mounted:
        contenders.unmount(path)
    assert trees.read(f"{image.point}/data/f") == b"precious"
    finish(u)
    assert trees.difference(want, trees.snapshot(u.low())) == []


# Layers

def test_other_lowers(make):
    """What has to stay hidden depends on the layers further below."""
    u = make({"top": "t"}, {"gone": {"f": "f"}, "ld": {"f": "f"}})
    subprocess.run(["rm", "-r", u / "gone"], check=True)
    os.rename(u / "ld", u / "ren")
    u.write("top", "changed")
    want = u.snapshot()
    u.umount()
    run_until(u, plan_of(u))
    other = os.path.join(u.base, "other")
    os.mkdir(other)
    bottom = u.low(layer=1)
    for lowers in ([u.low()], [u.low(), other], [u.low(), bottom, other]):
        said = refused(u, lowers=lowers)
        assert "begun with" in said and "--lower" in said, said
    done = commands.run("commit", u.upper, "--work", u.work, "--to", u.low())
    assert done.returncode == 1 and "begun with" in done.stderr, (done.returncode, done.stderr)
    done = commands.run("commit", u.upper, "--work", u.work, "--to", u.low(), "--lower", u.low())
    assert done.returncode == 1 and "begun with" in done.stderr, (done.returncode, done.stderr)
    finish(u)
    u.mount()
    assert trees.difference(want, u.snapshot()) == []


# What others do meanwhile

OTHERS = {
    "file": ("/file", lambda low: trees.write(f"{low}/file", "by others")),
    "new": ("/new", lambda low: trees.write(f"{low}/new", "by others")),
    "removed": ("/gone", lambda low: trees.write(f"{low}/gone/f2", "by others")),
    "removed_file": ("/a/two", lambda low: trees.write(f"{low}/a/two", "by others")),
    "dir": ("/newdir/x", lambda low: trees.build(f"{low}/newdir", {"x": "by others"})),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("until", ["plan", "staged"])
def test_changed_meanwhile(make, case, until):
    """Nobody looked at it when the plan was made: it is not overwritten unasked."""
    u = make({"a": {"one": "1", "two": "2"}, "file": "old", "gone": {"f": "f"}, "ld": {"f": "f"}})
    trees.write(f"{u.mnt}/file", "by the union")
    u.write("new", "by the union")
    os.unlink(u / "a/two")
    subprocess.run(["rm", "-r", u / "gone"], check=True)
    os.mkdir(u / "newdir")
    u.write("newdir/n", "n")
    os.rename(u / "ld", u / "ren")
    u.write("ren/n", "n")
    want = u.snapshot()
    u.umount()
    run_until(u, plan_of(u))
    if until == "staged":
        run_until(u, os.path.join(os.path.dirname(plan_of(u)), "staged"))
    time.sleep(0.02)
    path, change = OTHERS[case]
    change(u.low())
    said = refused(u)
    assert f"{path} was " in said, said
    assert path in refused(u, "--dry-run")
    finish(u, "--force")
    assert trees.difference(want, trees.snapshot(u.low())) == []


def test_beside_is_no_conflict(make):
    """Also in what was renamed, wherever that is just now."""
    u = make({"a": {"one": "1"}, "ld": {"f": "f"}})
    u.write("a/one", "by the union")
    os.rename(u / "ld", u / "ren")
    u.write("ren/n", "n")
    u.umount()
    run_until(u, plan_of(u))
    time.sleep(0.02)
    moved, = (name for name in os.listdir(u.low()) if name == "ld" or name.startswith(".veneer-commit-"))
    for path in ("a/other", f"{moved}/other", "other"):
        trees.write(u.low(path), "by others")
    finish(u)
    for path in ("a/other", "ren/other", "other"):
        assert trees.read(u.low(path)) == b"by others"
