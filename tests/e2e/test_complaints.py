"""What reviewers of the first overlay file system found wrong with it, and asked for."""

import errno
import fcntl
import itertools
import mmap
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest

import contenders
import oscalls
import trees
from callers import drop_pages, errno_of, in_processes, in_threads, quietly
from test_locks import ofd, posix, refused
from trees import Dir, File, Hard, Node, Symlink

MIB = 1 << 20
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


# The number of an inode silently changes by copy-up

OBJECTS = {"f": "x", "d": {"n": "n", "s": {}}, "l": Symlink(), "p": Node(), "a": "linked",
           "b": Hard("a")}
CHANGES = {"f": lambda p: trees.write(p, "+", "ab"), "d": lambda p: os.chmod(p, 0o700),
           "l": lambda p: os.lchown(p, 5, 6), "p": lambda p: os.chmod(p, 0o600),
           "a": lambda p: trees.write(p, "+", "ab")}


def identities(u, names):
    """Number and device of each, the same from whatever says them."""
    found = {}
    for name in names:
        path = u / name
        st = os.lstat(path)
        assert {entry.ino for entry in oscalls.read_directory(os.path.dirname(path))
                if entry.name == os.path.basename(name)} == {st.st_ino}, name
        found[name] = (st.st_ino, st.st_dev)
    assert len({ino for ino, _dev in found.values()}) == len(found) - ("b" in found)
    return found


def numbers_stay(u):
    names = list(OBJECTS) + ["d/n", "d/s"]
    before = identities(u, names)
    for name, change in CHANGES.items():
        fd = os.open(u / name, os.O_PATH | os.O_NOFOLLOW)
        change(u / name)
        assert identities(u, names) == before, name
        assert (os.fstat(fd).st_ino, os.fstat(fd).st_dev) == before[name]
        os.close(fd)
    os.rename(u / "d", u / "e")
    os.rename(u / "f", u / "e/f")
    moved = {name: name.replace("d", "e", 1) for name in names}
    moved["f"] = "e/f"
    after = identities(u, moved.values())
    assert [after[moved[name]] for name in names] == [before[name] for name in names]
    u.remount()
    after = identities(u, moved.values())
    # The device is another mount's.
    assert [after[moved[name]][0] for name in names] == [before[name][0] for name in names]


def test_identity_does_not_change_by_copy_up(union):
    """Nor by renaming, nor from one mount to the next."""
    numbers_stay(union(OBJECTS, opts=FEATURES))


@pytest.mark.veneer_only("the kernel's numbers are the layers' own where there are several file systems")
@pytest.mark.parametrize("fstype", ["tmpfs", "xfs", "btrfs", "ext4"])
def test_identity_does_not_change_by_copy_up_to_another_file_system(union_factory, scratch, fstype):
    where = scratch.make(fstype)
    trees.build(os.path.join(where, "lower"), OBJECTS)
    u = union_factory({"other": "", "d": {"o": ""}}, os.path.join(where, "lower")).mount()
    numbers_stay(u)
    u.umount()


# Names of one file fall apart when it is copied up

@pytest.mark.parametrize("change", ["write", "truncate", "chmod", "mmap"])
def test_hard_links_stay_together(union, change):
    u = union({"a": "x" * 4096, "d": {"b": Hard("a"), "c": Hard("a")}}, opts=FEATURES)
    fd = os.open(u / "d/b", os.O_RDWR)
    if change == "write":
        os.pwrite(fd, b"new", 0)
    elif change == "truncate":
        os.ftruncate(fd, 3)
    elif change == "chmod":
        os.fchmod(fd, 0o600)
    else:
        with mmap.mmap(fd, 4096) as memory:
            memory[0:3] = b"new"
    os.close(fd)
    os.link(u / "a", u / "e")
    os.unlink(u / "d/c")
    for _ in range(2):
        stats = [os.stat(u / name) for name in ("a", "d/b", "e")]
        assert len({(st.st_ino, st.st_mode, st.st_size) for st in stats}) == 1
        assert [st.st_nlink for st in stats] == [3] * 3
        assert len({u.read(name) for name in ("a", "d/b", "e")}) == 1
        u.remount()
    u.append("e", "+")
    assert u.read("a")[-1:] == u.read("d/b")[-1:] == b"+"


# Who has a file open reads what it was, and is told what it was

@pytest.mark.deviation("D-12")
def test_no_obsolete_data_nor_attributes(union):
    """Through a descriptor and a mapping from before the copy-up, also after the pages were dropped."""
    u = union({"f": File(data="o" * 8192, mode=0o644)})
    fd = os.open(u / "f", os.O_RDONLY)
    with mmap.mmap(fd, 8192, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        assert memory[:3] == os.pread(fd, 3, 0) == b"ooo"
        for turn in range(3):
            new = b"%d" % turn * 8192
            with open(u / "f", "r+b") as file:
                file.write(new)
                file.truncate(8193 + turn)
            os.chmod(u / "f", 0o600 + turn)
            st = os.fstat(fd)
            assert (st.st_size, st.st_mode & 0o777) == (8193 + turn, 0o600 + turn)
            assert os.pread(fd, 8192, 0) == new
            assert memory[4096:4100] == u.pick(kernel=b"oooo", veneer=new[:4])
            drop_pages(u / "f")
    os.close(fd)


# A lock that was taken before is not seen by those who come after

@pytest.mark.parametrize("how", ["flock", "posix", "ofd"])
def test_locks_outlive_copy_up(union, child, how):
    u = union({"f": "0123456789"})
    fd = os.open(u / "f", os.O_RDWR)
    lock = {"flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            "posix": lambda fd: posix(fd, fcntl.F_WRLCK), "ofd": lambda fd: ofd(fd, fcntl.F_WRLCK)}[how]
    lock(fd)

    def is_refused():
        other = os.open(u / "f", os.O_RDWR)
        try:
            return refused(lambda: lock(other))
        finally:
            os.close(other)
    assert child(is_refused)
    os.pwrite(fd, b"!", 0)
    os.chmod(u / "f", 0o600)
    assert child(is_refused)
    os.rename(u / "f", u / "g")
    os.rename(u / "g", u / "f")
    assert child(is_refused)
    os.close(fd)
    assert not child(is_refused)


# What changes nothing copies all the same

def map_privately(path):
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 4096, mmap.MAP_PRIVATE) as memory:
        memory[0:3] = b"new"
        os.close(fd)
        assert memory[0:4] == b"newx"


def map_shared_and_read(path):
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 4096) as memory:
        os.close(fd)
        assert memory[0:4] == b"xxxx"


def lock_for_writing(path):
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.fsync(fd)
    os.close(fd)


NO_CHANGES = {
    "open-rdwr": lambda p: os.close(os.open(p, os.O_RDWR)),
    "open-wronly": lambda p: os.close(os.open(p, os.O_WRONLY)),
    "open-append": lambda p: os.close(os.open(p, os.O_WRONLY | os.O_APPEND)),
    "open-create": lambda p: os.close(os.open(p, os.O_RDWR | os.O_CREAT, 0o600)),
    "map-private": map_privately,
    "map-shared": map_shared_and_read,
    "lock": lock_for_writing,
    "write-nothing": lambda p: trees.write(p, b"", "r+b"),
}


@pytest.mark.deviation("D-03")
@pytest.mark.parametrize("call", NO_CHANGES.values(), ids=NO_CHANGES)
def test_no_needless_copy_up(union, call):
    """Only what can be a change copies: an open for writing is none yet."""
    u = union({"d": {"f": "x" * 4096}})
    call(u / "d/f")
    assert os.listdir(u.upper) == u.pick(kernel=["d"], veneer=[])
    assert u.read("d/f") == b"x" * 4096


def test_nothing_is_copied_by_what_finds_nothing(union, as_user):
    u = union({"d": {"f": "x"}})
    subprocess.run(["touch", "-c", u / "d/missing"], check=True)
    subprocess.run(["touch", "-c", u / "missing/missing"], check=True)
    assert errno_of(lambda: os.unlink(u / "d/missing")) == errno.ENOENT
    assert errno_of(lambda: os.rename(u / "d/missing", u / "d/f")) == errno.ENOENT
    assert errno_of(lambda: os.mkdir(u / "d/f")) == errno.EEXIST
    assert errno_of(lambda: os.link(u / "d/f", u / "d/f")) == errno.EEXIST
    assert errno_of(lambda: os.rmdir(u / "d")) == errno.ENOTEMPTY
    for refused_call in (lambda: os.chmod(u / "d/f", 0o777), lambda: os.truncate(u / "d/f", 0),
                         lambda: os.utime(u / "d/f"), lambda: os.unlink(u / "d/f")):
        with pytest.raises(PermissionError):
            as_user(1000, refused_call)
    oscalls.utimensat(u / "d/f", oscalls.UTIME_OMIT, oscalls.UTIME_OMIT)
    assert os.listdir(u.upper) == []


# Another thread, or a signal handler, uses the rights that were raised for the copy-up

@pytest.mark.deviation("D-14")
def test_copy_up_is_not_bound_by_the_callers_limits(union, child):
    """RLIMIT_FSIZE is about what the caller writes, which is one byte."""
    u = union({"f": "x" * (4 * MIB)})

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        fd = os.open(u / "f", os.O_WRONLY)
        return os.pwrite(fd, b"!", 5)
    if u.pick(kernel=True, veneer=False):
        assert errno_of(lambda: child(limited)) == errno.EFBIG
    else:
        assert child(limited) == 1
        assert u.read("f")[:7] == b"xxxxx!x"


def test_the_callers_limit_still_holds(union, child):
    u = union({})

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        fd = os.open(u / "f", os.O_CREAT | os.O_WRONLY)
        os.pwrite(fd, b"!", 2 * MIB)
    assert errno_of(lambda: child(limited)) == errno.EFBIG


def test_no_thread_of_the_caller_gets_rights_of_a_copy_up(union, as_user):
    """One thread copies up and makes whiteouts, another tries what only root may, all the time."""
    count = 150
    u = union({"mine": Dir(owner=(1000, 1000), children={
        f"f{i}": File(data="x" * 5000, owner=(1000, 1000)) for i in range(count)}),
        "secret": File(data="s", mode=0o600), "theirs": Dir(mode=0o755, children={"f": "x"})})

    def hammer():
        done, got = threading.Event(), []
        forbidden = [lambda: u.read("secret"), lambda: os.unlink(u / "theirs/f"),
                     lambda: u.write("theirs/n", ""), lambda: os.chmod(u / "secret", 0o666),
                     lambda: os.mknod(u / "mine/dev", 0o20666, os.makedev(1, 3)),
                     lambda: os.chown(u / "mine/f0", 0, 0), os.getuid() and (lambda: os.setuid(0))]

        def change():
            for i in range(count):
                u.append(f"mine/f{i}", "+")
                if i:
                    os.unlink(u / f"mine/f{i}")
            done.set()

        def attempt():
            for call in itertools.cycle(forbidden):
                if done.is_set():
                    return
                if quietly(call):
                    got.append(forbidden.index(call))
        in_threads(change, attempt)
        return got
    assert as_user(1000, hammer) == []
    assert (u.read("secret"), u.ls("mine"), u.ls("theirs")) == (b"s", ["f0"], ["f"])


# One decides to copy up; another copies up, renames, unlinks; the first one copies to the new place

def test_copy_up_against_rename_and_unlink(union):
    count = 150
    u = union({"d": {f"f{i}": "x" * 5000 for i in range(count)}, "e": {}})
    gate = threading.Barrier(2, timeout=20)

    def first():
        for i in range(count):
            gate.wait()
            try:
                fd = os.open(u / f"d/f{i}", os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:
                continue
            os.write(fd, b"y")
            os.close(fd)

    def second():
        for i in range(count):
            gate.wait()
            os.rename(u / f"d/f{i}", u / f"e/g{i}")
            os.unlink(u / f"e/g{i}")
    in_threads(first, second)
    for _ in range(2):
        assert (u.ls("d"), u.ls("e")) == ([], [])
        u.remount()


def test_many_write_rename_and_unlink_a_few_names(union):
    """None comes back, none is of two files, and whatever is read was written by somebody."""
    names = [f"{d}/{f}" for d in "de" for f in ("f", "g", "h")]
    u = union({"d": {"f": "old" * 1000, "g": "old" * 1000}, "e": {"h": "old" * 1000}}, opts=FEATURES)
    calls = [lambda p, q: trees.write(p, "new", "r+b"), lambda p, q: os.rename(p, q),
             lambda p, q: os.unlink(p), lambda p, q: trees.write(p, "", "ab"),
             lambda p, q: os.truncate(p, 3), lambda p, q: os.chmod(p, 0o640)]

    def work(seed):
        rand = random.Random(seed)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            quietly(rand.choice(calls), u / rand.choice(names), u / rand.choice(names))
    in_processes(*(lambda seed=seed: work(seed) for seed in range(4)))
    live = u.snapshot(nlink=True)
    for path, entry in live.items():
        if entry.type == "-":
            data = u.read(path)
            assert data in (b"", b"\0\0\0", b"old", b"new", b"old" * 1000, b"new" + b"old" * 999), path
    u.remount()
    assert trees.difference(live, u.snapshot(nlink=True)) == []


# Attributes are set under locks that a copy-up takes as well, in another order

def test_attribute_changes_and_copy_ups_do_not_wait_for_each_other(union):
    """Everything that locks a file or its directory, at once, on the same few: all of it ends."""
    u = union({f"d{i}": {"s": {f"f{j}": "x" * 10_000 for j in range(8)}} for i in range(12)},
              opts=FEATURES)

    def over(call):
        for i in range(12):
            for j in range(8):
                quietly(call, u / f"d{i}/s/f{j}")
    in_threads(*(lambda call=call: over(call) for call in (
        lambda p: os.chmod(p, 0o600), lambda p: os.truncate(p, 5000), lambda p: os.utime(p, ns=(1, 1)),
        lambda p: trees.write(p, "+", "r+b"), lambda p: os.setxattr(p, "user.x", b"y"),
        lambda p: os.link(p, p + ".2"), lambda p: os.rename(p, os.path.dirname(p) + "/../" + p[-2:]),
        lambda p: os.chmod(os.path.dirname(p), 0o711))))
    assert sorted(u.ls()) == sorted(f"d{i}" for i in range(12))
    live = u.snapshot(nlink=True)
    u.remount()
    assert trees.difference(live, u.snapshot(nlink=True)) == []


# How is the upper kept from being changed through another mount?

def test_edits_of_the_upper_underneath_do_no_harm(union):
    u = union({"d": {"f": "x"}}, upper={"d": {}}, guard=False)
    assert u.ls("d") == ["f"]
    shutil.rmtree(u.up("d"))
    for call in (lambda: u.ls("d"), lambda: u.read("d/f"), lambda: u.append("d/f", "y"),
                 lambda: os.mkdir(u / "d/n"), lambda: os.rmdir(u / "d")):
        quietly(call)
    assert isinstance(os.listdir(u.mnt), list)


def test_edits_of_both_layers_at_any_time_do_no_harm(union):
    """Somebody who moves directories into each other below, as deep as it gets, while they are in use."""
    u = union({"low": {f"l{i}": {"f": "x"} for i in range(6)}},
              upper={"up": {f"u{i}": {"f": "x"} for i in range(6)}}, guard=False)
    outside = os.path.join(u.base, "outside")
    trees.build(outside, {"f": "precious", "d": {"f": "precious"}})
    before, end = trees.snapshot(outside), time.monotonic() + 1.5

    def move(root):
        rand = random.Random(root)
        while time.monotonic() < end:
            places = [root] + [path for path, _dirs, _files in os.walk(root)]
            quietly(os.rename, rand.choice(places), rand.choice(places) + f"/m{rand.randrange(4)}")
            quietly(os.symlink, outside, rand.choice(places) + f"/m{rand.randrange(4)}")

    def use(top):
        rand = random.Random(top)
        os.chroot(u.mnt)  # where a symbolic link of a layer leads a caller is the caller's affair
        while time.monotonic() < end:
            for path, _dirs, files in os.walk("/" + top):
                for name in files[:2]:
                    quietly(trees.read, f"{path}/{name}")
                    quietly(trees.write, f"{path}/{name}", "y", "r+b")
                call = rand.choice([lambda p: os.mkdir(p + "/n"), lambda p: os.rename(p, p + "r"),
                                    lambda p: os.chmod(p, 0o700), lambda p: os.unlink(p + "/f"),
                                    lambda p: trees.write(p + "/f", "z")])
                quietly(call, path)
    movers = [threading.Thread(target=move, args=(root,)) for root in (u.low("low"), u.up("up"))]
    for mover in movers:
        mover.start()
    in_processes(lambda: use("low"), lambda: use("up"))
    for mover in movers:
        mover.join(20)
    assert not any(mover.is_alive() for mover in movers)
    assert trees.snapshot(outside) == before
    u.write("still", "alive")
    assert u.read("still") == b"alive"


# The upper cannot be on a network file system

def test_upper_that_cannot_hold_whiteouts_is_refused(union_factory):
    """As many servers' file systems are: with a reason, at the mount, and leaving nothing there."""
    below = union_factory({"old": ""}).mount()
    os.mkdir(below / "layers")
    u = union_factory({"f": "x", "g": "g"}, where=below / "layers")
    with pytest.raises(contenders.MountError):
        u.mount()
    assert os.listdir(u.upper) == []
    assert not [name for _path, _dirs, files in os.walk(u.work) for name in files]
    below.write("f", "of use still")


# A directory of a lower cannot be renamed

@pytest.mark.parametrize("redirect", [False, True])
def test_rename_of_a_lower_directory(union, redirect):
    """EXDEV where redirects are off, which mv answers by copying; else it just works."""
    u = union({"d": {"f": "x"}}, opts=[f"redirect_dir={'on' if redirect else 'off'}"])
    if redirect:
        os.rename(u / "d", u / "e")
    else:
        assert errno_of(lambda: os.rename(u / "d", u / "e")) == errno.EXDEV
        subprocess.run(["mv", u / "d", u / "e"], check=True)
    assert u.read("e/f") == b"x"


def test_rename_of_a_merged_directory_takes_no_time(union):
    """Whatever is in it: nothing of that is looked at, let alone copied."""
    u = union({"d": {f"f{i}": "" for i in range(3000)}, "e": {}}, {"d": {"below": {"g": "y"}}},
              upper={"d": {"up": "z"}}, opts=FEATURES, guard=False)
    begin = time.monotonic()
    for i in range(10):
        os.rename(u / ("e/d" if i % 2 else "d"), u / ("d" if i % 2 else "e/d"))
    assert time.monotonic() - begin < 0.5
    os.rename(u / "d", u / "e/d")
    assert len(list(os.scandir(u.upper))) == 2 and os.listdir(u.up("e/d")) == ["up"]
    u.remount()
    assert (len(u.ls("e/d")), u.read("e/d/below/g"), u.ls()) == (3002, b"y", ["e"])
