"""`veneer commit` stopped at every change it makes, by a kill or an error, and run again: the result is that
of a commit that was left alone, in data, attributes, times and links.

The layers lie in file system images, which are copied for each try: so all objects are what they were, down to
their inode numbers.  `apart` is the upper on another file system than the lower, where files are copied."""

import os
import shutil
import subprocess
import tempfile

import pytest

import commit_scenarios as scenarios
import contenders
import oscalls
import trees
from contenders import VENEER, Layers

FAULTY = os.path.abspath(os.environ.get("VENEER_FAULTS", VENEER + "-faults"))
IMAGE_SIZE = 6 << 20
MOST = 1500  # changes that no commit here needs

pytestmark = pytest.mark.skipif(not os.access(FAULTY, os.X_OK), reason=f"{FAULTY} is not built")


def small_lower():
    return trees.Dir(mtime=scenarios.OLD, children={
        "a": trees.Dir(mtime=scenarios.OLD, children={"one": "1", "two": "2", "sub": {"x": "x", "y": {"z": "z"}}}),
        "b": trees.Dir(mtime=scenarios.OLD + 1, children={"one": "b"}),
        "file": trees.File(data="file", xattrs={"user.k": "v"}, mode=0o640),
        "h1": "linked", "h": trees.Dir(mtime=scenarios.OLD, children={"h2": trees.Hard("h1")}),
    })


def simple(root):
    """Contents, attributes, removals, types."""
    trees.write(f"{root}/a/one", "changed")
    os.chmod(f"{root}/file", 0o600)
    os.setxattr(f"{root}/file", "user.n", b"n")
    os.unlink(f"{root}/a/two")
    subprocess.run(["rm", "-r", f"{root}/a/sub"], check=True)
    os.mkdir(f"{root}/a/sub")
    trees.write(f"{root}/a/sub/x", "new x")
    os.link(f"{root}/a/sub/x", f"{root}/b/linked")
    subprocess.run(["rm", "-r", f"{root}/h"], check=True)
    trees.write(f"{root}/h", "a file now")
    os.utime(f"{root}/b", ns=(1, 2))


def moves(root):
    """A swap, one into another, files whose data moves."""
    os.rename(f"{root}/a/sub", f"{root}/out")
    oscalls.renameat2(f"{root}/a", f"{root}/b", oscalls.RENAME_EXCHANGE)
    os.rename(f"{root}/file", f"{root}/b/file")
    os.rename(f"{root}/b", f"{root}/a/in")
    os.mkdir(f"{root}/b")
    trees.write(f"{root}/b/new", "n")


def links(root):
    """Through an index: a name that only the lower has stays one file with it."""
    os.chmod(f"{root}/h1", 0o600)
    trees.write(f"{root}/h1", " changed", "ab")
    os.rename(f"{root}/b", f"{root}/c")


CASES = {"simple": (simple, ()), "moves": (moves, ("redirect_dir=on", "metacopy=on")),
         "links": (links, ("redirect_dir=on", "index=on"))}


class Images:
    """A lower and an upper in images: one for both, or one each."""

    def __init__(self, home, apart):
        self.home, self.mounted = home, []
        self.names = ["low", "up"] if apart else ["both"]
        for name in self.names:
            os.mkdir(f"{home}/{name}")
            with open(f"{home}/{name}.master", "wb") as file:
                file.truncate(IMAGE_SIZE)
            subprocess.run(["mkfs.ext4", "-q", "-I", "256", "-N", "256", "-O", "^has_journal",
                            f"{home}/{name}.master"], check=True)
        low, up = f"{home}/{self.names[0]}", f"{home}/{self.names[-1]}"
        self.lower, self.upper, self.work = f"{low}/lower", f"{up}/upper", f"{up}/work"

    def mount(self, which="try"):
        for name in self.names:
            subprocess.run(["mount", "-o", "loop,noinit_itable", f"{self.home}/{name}.{which}",
                            f"{self.home}/{name}"], check=True)
            self.mounted.append(f"{self.home}/{name}")

    def umount(self):
        while self.mounted:
            contenders.unmount(self.mounted.pop())

    def build(self, scenario, opts, contender):
        self.mount("master")
        trees.build(self.lower, small_lower())
        for path in (self.upper, self.work, f"{self.home}/mnt"):
            os.mkdir(path)
        mount = contender.mount(Layers([self.lower], self.upper, self.work), f"{self.home}/mnt", opts)
        scenario(f"{self.home}/mnt")
        shown = trees.snapshot(f"{self.home}/mnt")
        assert not mount.unmount()
        self.umount()
        return shown

    def renew(self):
        self.umount()
        for name in self.names:
            shutil.copyfile(f"{self.home}/{name}.master", f"{self.home}/{name}.try")
        self.mount()

    def commit(self, fault=None):
        env = {**os.environ, **({"VENEER_FAULT": fault} if fault else {})}
        return subprocess.run([FAULTY, "commit", self.upper, "--lower", self.lower, "--work", self.work], env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)

    def result(self):
        assert os.listdir(self.upper) == []
        assert os.listdir(f"{self.work}/work/incompat") == []
        return (trees.snapshot(self.lower, nlink=True), scenarios.names_of_one_file(self.lower),
                trees.entry(self.upper))


@pytest.fixture
def images(request, scratch):
    home = tempfile.mkdtemp(prefix="images", dir=os.path.dirname(scratch.directory))
    made = Images(home, request.param)
    yield made
    made.umount()
    shutil.rmtree(home)


def assert_old_or_new(images, old, new):
    """No name below is anything but what it was, or what it will be."""
    for path, entry in trees.snapshot(images.lower).items():
        if ".veneer-commit-" in path or entry.type == "d":
            continue
        known = [tree[path] for tree in (old, new) if path in tree]
        assert any((entry.type, entry.content) == (each.type, each.content) for each in known), (path, entry)


@pytest.mark.parametrize("images", [False, True], ids=["together", "apart"], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_stopped(images, case, contender):
    scenario, opts = CASES[case]
    new = images.build(scenario, opts, contender)
    images.renew()
    old = trees.snapshot(images.lower)
    done = images.commit()
    assert done.returncode == 0, done.stderr
    want = images.result()
    assert trees.difference(new, trees.snapshot(images.lower)) == []
    for n in range(1, MOST):
        images.renew()
        fault = f"{n}:{'kill' if n % 3 else 'ENOSPC'}"
        stopped = images.commit(fault)
        if stopped.returncode == 0 and "fault:" not in stopped.stderr:
            break
        assert_old_or_new(images, old, new)
        if os.path.exists(f"{images.work}/work/incompat/veneer-commit/plan"):
            with pytest.raises(contenders.MountError):
                contender.mount(Layers([images.lower], images.upper, images.work),
                                            f"{images.home}/mnt")
        done = images.commit()
        assert done.returncode == 0, (fault, done.stderr)
        found = images.result()
        assert trees.difference(want[0], found[0]) == [], fault
        assert want[1:] == found[1:], fault
    else:
        pytest.fail("no end")
    assert n > 20
