"""Constant identity: st_ino and st_dev of every object from first sight to its end, equal wherever
they are told, and never shared."""

import fcntl
import os
import re
import socket
import stat

import pytest

import oscalls
import trees
from contenders import CONTENDERS, Layers, unmount
from trees import Dir, File, Hard, Node, Symlink

KINDS = ["file", "link", "fifo", "socket", "device", "dir", "dir/in", "dir/l", "merged", "merged/low", "merged/both", "h1"]


def lower_tree():
    return {"file": "file", "link": Symlink(target="file"), "fifo": Node(type=stat.S_IFIFO),
            "socket": Node(type=stat.S_IFSOCK), "device": Node(type=stat.S_IFCHR, rdev=(1, 3)),
            "dir": {"in": "in", "l": Symlink(target="in"), "deep": {"er": "er"}},
            "merged": {"low": "low", "both": "low"}, "other": {}, "h1": "h", "h2": Hard("h1")}


def top_tree():
    return {"merged": {"top": "top", "both": "top"}}


class Layered:
    """How the layers lie: on which file systems, with which options."""

    def __init__(self, opts=(), lowers=("", ""), why=None):
        self.opts, self.lowers, self.why = list(opts), lowers, why


LAYERS = {
    "same": Layered(["index=on"]),
    "tmpfs": Layered(["index=on"], ("tmpfs", "tmpfs"), "the kernel tells the layers' own device numbers"),
    "three": Layered(["index=on"], ("xfs", "btrfs"), "the kernel tells the layers' own device numbers"),
    "user": Layered(["userxattr"], why="the kernel follows no origins with userxattr"),
    "user-xfs": Layered(["userxattr"], ("xfs", "tmpfs"), "the kernel follows no origins with userxattr"),
}


@pytest.fixture(params=LAYERS)
def layered(request, union_factory, scratch, contender):
    chosen = LAYERS[request.param]
    if chosen.why and contender.name == "kernel":
        pytest.skip(chosen.why)
    specs = []
    for fstype, spec in zip(chosen.lowers, (top_tree(), lower_tree())):
        if fstype:
            where = scratch.make(fstype, 400 << 20)
            trees.build(f"{where}/layer", spec)
            spec = f"{where}/layer"
        specs.append(spec)
    return union_factory(*specs, upper={"up": "up", "upper": {}}, opts=chosen.opts).mount()


def identity(path):
    st = os.lstat(path)
    return st.st_dev, st.st_ino


def numbers(u, names):
    """Number by name; every place that tells a number must tell the same one."""
    assert trees.dirent_faults(u.mnt) == []
    return {name: u.ino(name) for name in names}


def forget():
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")


def copy_up(u, names):
    for name in names:
        os.lchown(u / name, 12, 34)


def test_over_copy_up(layered):
    u = layered
    before = numbers(u, KINDS)
    copy_up(u, KINDS)
    assert [name for name in KINDS if not u.copied_up(name) and name != "h1"] == []
    assert numbers(u, KINDS) == before
    forget()
    assert numbers(u, KINDS) == before
    u.remount()
    assert numbers(u, KINDS) == before


def test_over_renames(layered):
    u = layered
    files = [name for name in KINDS if not os.path.isdir(u / name) and "/" not in name]
    before = numbers(u, files)
    for name in files:
        os.rename(u / name, u / f"other/{name}")
    moved = {f"other/{name}": number for name, number in before.items()}
    assert numbers(u, moved) == moved
    forget()
    assert numbers(u, moved) == moved
    u.remount()
    assert numbers(u, moved) == moved
    for name in files:
        os.rename(u / f"other/{name}", u / f"upper/{name}2")
    oscalls.renameat2(u / "upper/file2", u / "upper/link2", oscalls.RENAME_EXCHANGE)
    moved = {f"upper/{name}2": number for name, number in before.items()}
    moved["upper/file2"], moved["upper/link2"] = moved["upper/link2"], moved["upper/file2"]
    assert numbers(u, moved) == moved
    u.remount()
    assert numbers(u, moved) == moved


def test_over_renames_of_directories(layered):
    u = layered
    if "userxattr" not in u.opts:
        u.remount([*u.opts, "redirect_dir=on"])
    elif not u.is_veneer:
        pytest.skip("the kernel has no redirects there")
    names = ["dir", "dir/in", "dir/l", "dir/deep/er", "merged", "merged/both"]
    before = numbers(u, names)
    os.rename(u / "dir", u / "upper/d")
    os.rename(u / "merged", u / "m")
    after = {re.sub("^merged", "m", re.sub("^dir", "upper/d", name)): number for name, number in before.items()}
    for step in (u.remount, lambda: copy_up(u, after), u.remount, forget):
        assert numbers(u, after) == after
        step()
    assert numbers(u, after) == after


def test_over_links_and_removal(layered):
    u = layered
    names = [name for name in ("file", "link", "fifo", "socket") if not os.path.isdir(u / name)]
    before = numbers(u, names)
    for name in names:
        os.link(u / name, u / f"upper/{name}", follow_symlinks=False)
        os.unlink(u / name)
    after = {f"upper/{name}": number for name, number in before.items()}
    assert numbers(u, after) == after
    u.remount()
    assert numbers(u, after) == after
    # A new object under the old name is another one.
    for name in names:
        u.write(name, "new")
    assert not set(numbers(u, names).values()) & set(before.values())
    for name in after:
        os.unlink(u / name)
    u.remount()
    assert not set(numbers(u, names).values()) & set(before.values())


def test_of_an_open_file(layered):
    u = layered
    number = u.ino("file")
    fd = os.open(u / "file", os.O_RDWR)
    os.write(fd, b"x")
    assert os.fstat(fd).st_ino == number
    os.rename(u / "file", u / "other/f")
    assert os.fstat(fd).st_ino == number
    os.unlink(u / "other/f")
    assert os.fstat(fd).st_ino == number
    os.close(fd)


def fdinfo(fd, field):
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return re.findall(rf"{field}:([0-9a-f]+)", file.read())


def test_inotify_tells_the_number(layered):
    u = layered
    for name in ("file", "dir", "up"):
        fd = oscalls.inotify_init()
        oscalls.inotify_add_watch(fd, u / name, 0x2)
        told = fdinfo(fd, "ino")
        os.chmod(u / name, 0o700)
        assert fdinfo(fd, "ino") == told == [f"{u.ino(name):x}"]
        os.close(fd)


def locks_of(st):
    """The kinds of the locks that /proc/locks tells of."""
    where = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}:{st.st_ino}"
    # While others lock, a reader may be told of one lock twice.
    with open("/proc/locks", encoding="ascii") as file:
        locks = {tuple(line.split()[1:]) for line in file}
    return sorted(lock[0] for lock in locks if lock[4] == where)


def test_locks_tell_the_number(layered):
    u = layered
    fd = os.open(u / "file", os.O_RDWR)
    st = os.fstat(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    assert locks_of(st) == ["FLOCK", "POSIX"]
    os.write(fd, b"copied up")
    os.rename(u / "file", u / "other/f")
    assert identity(u / "other/f") == (st.st_dev, st.st_ino)
    assert locks_of(st) == ["FLOCK", "POSIX"]
    os.close(fd)
    assert locks_of(st) == []


def test_unique(layered):
    """Through all changes: two names have one number if, and only if, they are one object."""
    u = layered
    copy_up(u, ["file", "link", "merged/low"])
    for i in range(50):
        u.write(f"other/new{i}", "")
        os.symlink("x", u / f"other/link{i}")
    os.unlink(u / "fifo")
    os.mkfifo(u / "fifo")
    for _ in range(2):
        seen = {}
        for directory, dirs, files in os.walk(u.mnt):
            for name in dirs + files:
                seen.setdefault(identity(os.path.join(directory, name)), []).append(name)
        assert len({dev for dev, _ in seen}) == 1
        shared = [sorted(names) for names in seen.values() if len(names) > 1]
        assert shared in ([["h1", "h2"]], [])
        u.remount()


def test_device_number_is_one(layered):
    u = layered
    copy_up(u, ["file", "merged/low"])
    assert len({identity(u / name)[0] for name in [*KINDS, "up", ""]}) == 1


# Where numbers do not fit beside the number of their file system


@pytest.fixture
def nested(request, base, scratch):
    """An overlay whose own inode numbers fill all 64 bits."""
    parts = [scratch.make("tmpfs"), scratch.make("tmpfs")]
    trees.build(f"{parts[0]}/l", lower_tree())
    trees.build(f"{parts[1]}/l", top_tree())
    where = os.path.join(base, "nested")
    os.mkdir(where)
    CONTENDERS["kernel"].mount(Layers([f"{parts[1]}/l", f"{parts[0]}/l"]), where, getattr(request, "param", ["xino=on"]))
    yield where
    unmount(where)


@pytest.mark.veneer_only("the kernel tells the layers' own device numbers")
@pytest.mark.parametrize("opts", [[], ["userxattr"]], ids=["trusted", "user"])
@pytest.mark.parametrize("nested", [["xino=on"], ["xino=off"]], indirect=True, ids=["xino", "no-xino"])
def test_lower_without_handles(nested, union_factory, opts):
    """An overlay has none: then the number itself is what is remembered."""
    u = union_factory({"x": "x"}, nested, opts=["index=off", *opts]).mount()
    # Without xino the overlay's own numbers of directories last only for a moment.
    names = [name for name in KINDS if name != "h1" and not os.path.isdir(u / name)]
    before = numbers(u, names)
    u.remount()
    assert {name: u.ino(name) for name in reversed(names)} == before
    copy_up(u, names)
    u.append("merged/low", "more")
    u.remount()
    assert numbers(u, names) == before
    files = [name for name in names if "/" not in name]
    for name in files:
        os.rename(u / name, u / f"other/{name}")
    os.truncate(u / "other/file", 2)
    moved = {f"other/{name}": before[name] for name in files}
    assert numbers(u, moved) == moved
    u.remount()
    assert numbers(u, moved) == moved
    os.rename(u / "other/file", u / "other/fifo")
    u.remount()
    assert u.ino("other/fifo") == before["file"]
    for name in files[1:]:
        os.unlink(u / f"other/{name}")
    left = len(os.listdir(os.path.join(u.work, "origin")))
    assert left == len(names) - len(files)


@pytest.mark.veneer_only("the kernel tells the layers' own device numbers")
def test_numbers_that_do_not_fit(nested, union_factory):
    u = union_factory({"x": "x"}, nested, opts=["index=off"]).mount()
    assert any(os.lstat(os.path.join(nested, name)).st_ino >> 52 for name in KINDS)
    names = [name for name in KINDS if name != "h1"]
    before = numbers(u, names)
    u.remount()
    assert numbers(u, names) == before
    u.remount()
    assert numbers(u, reversed(names)) == before
    assert len(set(before.values())) == len(names)


@pytest.mark.veneer_only("the kernel follows no origins with userxattr")
def test_origins_go_with_their_objects(union):
    """What is remembered of symbolic links and special files in the work directory."""
    u = union(lower_tree(), opts=["userxattr"])
    kept = os.path.join(u.work, "origin")
    copy_up(u, ["file", "dir"])
    assert not os.path.exists(kept)
    copy_up(u, ["link", "fifo", "socket", "dir/l"])
    assert len(os.listdir(kept)) == 4
    before = numbers(u, ["link", "socket"])
    os.unlink(u / "fifo")
    os.rename(u / "socket", u / "link")
    u.write("up", "")
    os.link(u / "dir/l", u / "l2", follow_symlinks=False)
    os.unlink(u / "dir/l")
    assert len(os.listdir(kept)) == 2
    u.remount()
    assert u.ino("link") == before["socket"]
    os.rename(u / "up", u / "l2")
    os.unlink(u / "link")
    assert os.listdir(kept) == []


@pytest.mark.veneer_only("the kernel follows no origins with userxattr")
def test_kernel_takes_the_layers(union, contender):
    u = union({"link": Symlink(target="a"), "fifo": Node(type=stat.S_IFIFO)}, opts=["userxattr", "compat=kernel"])
    copy_up(u, ["link", "fifo"])
    number = u.ino("link")
    u.remount(["userxattr"], "kernel")
    assert u.ls() == ["fifo", "link"]
    os.rename(u / "link", u / "moved")
    os.unlink(u / "fifo")
    u.remount(["userxattr"], "veneer")
    assert u.ls() == ["moved"]
    assert u.ino("moved") == number
