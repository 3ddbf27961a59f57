"""What the first posting of an overlay file system promised, and what has to be seen where it is so."""

import errno
import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

import oscalls
import trees
from callers import drop_pages, errno_of, in_threads, quietly, start, write_at
from oscalls import DirStream
from trees import OLD, Dir, File, Hard, Node, Symlink, whiteout
from union import dir_nlink

MIB = 1 << 20
FEATURES = ["redirect_dir=on", "metacopy=on", "index=on"]


def change_everything(u):
    """Each kind of change once: of data, names and attributes, by descriptor and by mapping."""
    tail, rw = os.open(u / "d/f", os.O_RDONLY), os.open(u / "d/f", os.O_RDWR)
    with mmap.mmap(rw, 8192) as memory:
        os.pread(tail, 10, 0)
        memory[0:3] = b"new"
        memory.flush()
        os.pwrite(rw, b"+", 8192)
        assert os.pread(tail, 3, 0) == b"new"
    for fd in (tail, rw):
        os.close(fd)
    u.write("d/h", "through another name")
    os.truncate(u / "b", 1)
    os.setxattr(u / "d/f", "user.a", b"2")
    os.chown(u / "d/g", 5, 6)
    os.utime(u / "d/deep/z", ns=(1, 1))
    os.rename(u / "d/g", u / "e/g")
    os.link(u / "e/n", u / "d/n")
    oscalls.renameat2(u / "e/n", u / "b", oscalls.RENAME_EXCHANGE)
    os.rename(u / "d", u / "moved")
    os.rename(u / "e", u / "moved/e")
    os.unlink(u / "l")
    os.unlink(u / "p")
    shutil.rmtree(u / "moved/s")
    os.chmod(u.mnt, 0o711)


def test_lower_layers_are_never_changed(union):
    """Nor is any time of theirs but that of the last access."""
    u = union({"d": {"f": File(data="x" * 8192, xattrs={"user.a": "1"}), "s": {"t": ""}, "g": "g",
                     "h": Hard("d/f")}, "l": Symlink(), "p": Node(), "e": {"n": "n"}},
              {"d": {"deep": {"z": "z"}}, "b": "b"}, opts=FEATURES)

    def state():
        return [{path: (entry, os.lstat(os.path.join(root, path)).st_ctime_ns)
                 for path, entry in trees.snapshot(root, nlink=True).items()} for root in u.lowers]
    before = state()
    change_everything(u)
    assert state() == before
    u.remount()
    shutil.rmtree(u / "moved")
    u.umount()
    assert state() == before


def test_a_live_system(union_factory, scratch):
    """A squashfs root under a tmpfs: a shell runs in it after pivot_root, and writes."""
    if not shutil.which("mksquashfs"):
        pytest.skip("mksquashfs is not installed")
    source, image = scratch.path("root"), scratch.path("image")
    shell = os.path.realpath("/bin/sh")
    libraries = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    for path in [shell, *(word for word in libraries.split() if word.startswith("/"))]:
        os.makedirs(source + os.path.dirname(path), exist_ok=True)
        shutil.copy(path, source + path)
    os.makedirs(source + "/etc")
    os.makedirs(source + "/old")
    trees.write(source + "/etc/hostname", "before\n")
    subprocess.run(["mksquashfs", source, image, "-quiet", "-no-progress"], check=True,
                   capture_output=True)
    u = union_factory(scratch.mount(image, "squashfs", "ro"), where=scratch.make("tmpfs"), guard=False)
    u.mount()
    script = (f'cd {u.mnt} && pivot_root . old && cd / && exec {shell} -c \''
              'read a </etc/hostname; echo after >/etc/hostname; echo $a\'')
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True,
                          timeout=20, check=True)
    assert done.stdout == "before\n"
    assert u.read("etc/hostname") == b"after\n"
    u.umount()


def test_reading_and_writing_go_through(union):
    """Not a measurement: so much must pass in a time that no copying about explains."""
    u = union({"f": b"x" * (64 * MIB)}, guard=False)
    begin = time.monotonic()
    with open(u / "f", "rb") as source, open(u / "g", "wb") as target:
        shutil.copyfileobj(source, target, MIB)
    with open(u / "g", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        assert memory.find(b"y") == -1
    assert time.monotonic() - begin < 10
    assert os.stat(u / "g").st_size == 64 * MIB


def test_works_for_ordinary_users(union, as_user):
    """One may write a file without rights on its directory; everything else stays forbidden."""
    u = union({"d": Dir(mode=0o755, children={"mine": File(data="x", owner=(1000, 1000)),
                                              "theirs": File(data="y", mode=0o600)})})
    as_user(1000, lambda: u.append("d/mine", "+"))
    assert u.read("d/mine") == b"x+"
    for forbidden in (lambda: u.read("d/theirs"), lambda: u.append("d/theirs", ""),
                      lambda: os.unlink(u / "d/mine"), lambda: u.write("d/new", "")):
        with pytest.raises(PermissionError):
            as_user(1000, forbidden)


def test_ordinary_users_make_whiteouts_and_opaque_directories(union, as_user):
    """Which are a device and an attribute that only root can make."""
    u = union({"home": Dir(owner=(1000, 1000), children={
        "f": "root's", "d": Dir(owner=(1000, 1000), children={"old": File(owner=(1000, 1000))})})})

    def change():
        os.unlink(u / "home/f")
        shutil.rmtree(u / "home/d")
        os.mkdir(u / "home/d")
        u.write("home/d/new", "")
    as_user(1000, change)
    assert u.hidden("home/f")
    u.remount()
    assert (u.ls("home"), u.ls("home/d")) == (["d"], ["new"])


def test_a_union_below_a_union(union_factory):
    """Two levels, each with whiteouts and opaque directories of its own."""
    low = union_factory({"a": "1", "gone": "", "d": {"old": ""}, "e": {"old": ""}}).mount()
    os.unlink(low / "gone")
    for name in ("d", "e"):
        shutil.rmtree(low / name)
        os.mkdir(low / name)
        low.write(f"{name}/new", "")
    top = union_factory(low.mnt, guard=False).mount()
    assert (top.ls(), top.ls("d")) == (["a", "d", "e"], ["new"])
    os.unlink(top / "a")
    top.write("d/more", "")
    shutil.rmtree(top / "e")
    os.mkdir(top / "e")
    for _ in range(2):
        assert (top.ls(), top.ls("d"), top.ls("e")) == (["d", "e"], ["more", "new"], [])
        assert (low.ls(), low.ls("e")) == (["a", "d", "e"], ["new"])
        top.remount()
    top.umount()


@pytest.mark.parametrize("fstype", ["ramfs", "squashfs"])
def test_lower_without_xattrs(union, scratch, fstype):
    tree = {"f": "x", "g": "y", "d": {"h": "z"}, "e": {"i": "i"}}
    if fstype == "ramfs":
        plain = scratch.mount("ramfs", "ramfs")
        trees.build(plain, tree)
    else:
        if not shutil.which("mksquashfs"):
            pytest.skip("mksquashfs is not installed")
        source, image = scratch.path("tree"), scratch.path("image")
        trees.build(source, tree)
        subprocess.run(["mksquashfs", source, image, "-no-xattrs", "-quiet", "-no-progress"],
                       check=True, capture_output=True)
        plain = scratch.mount(image, "squashfs", "ro")
    u = union(plain, guard=False)
    u.append("f", "+")
    os.unlink(u / "g")
    os.unlink(u / "d/h")
    os.rename(u / "f", u / "h")
    shutil.rmtree(u / "e")
    os.mkdir(u / "e")
    u.remount()
    assert (u.ls(), u.read("h"), u.ls("d"), u.ls("e")) == (["d", "e", "h"], b"x+", [], [])
    u.umount()


@pytest.mark.deviation("D-18")
def test_upper_without_xattrs(union, scratch):
    """What needs no xattr works and outlives a remount."""
    u = union({"f": "x", "g": "y", "d": {"h": "z", "j": "j"}}, where=scratch.mount("ramfs", "ramfs"))
    u.append("f", "+")
    os.unlink(u / "g")
    u.append("d/h", "+")
    moved = u.pick(kernel="h", veneer="i")
    if moved == "i":
        os.rename(u / "d/h", u / "d/i")
        assert errno_of(lambda: os.rename(u / "d/j", u / "d/i")) == errno.EXDEV
    os.unlink(u / "d/j")
    os.mkdir(u / "new")
    u.remount()
    assert (u.ls(), u.read("f"), u.ls("d")) == (["d", "f", "new"], b"x+", [moved])
    assert u.read(f"d/{moved}") == b"z+"
    u.umount()


@pytest.mark.parametrize("how", ["covered", "lazily unmounted"])
def test_layers_are_held(union, scratch, how):
    """What becomes of the paths of layers after the mount is nothing to it."""
    lower = scratch.make("tmpfs", MIB)
    trees.build(lower, {"f": "x", "d": {"g": "y"}})
    u = union(lower, guard=False)
    if how == "covered":
        for path in (lower, u.upper, u.work):
            oscalls.mount("tmpfs", path, "tmpfs")
    else:
        oscalls.umount(lower, oscalls.MNT_DETACH)
        scratch.mounts.remove(lower)
    assert u.read("f") == b"x"
    u.append("d/g", "+")
    os.unlink(u / "f")
    assert (u.ls(), u.read("d/g")) == (["d"], b"y+")
    if how == "covered":
        for path in (lower, u.upper, u.work):
            oscalls.umount(path)
    assert u.hidden("f") and trees.read(u.up("d/g")) == b"y+"


def test_statfs_tells_of_the_upper(union, scratch):
    """Its numbers, as df shows them, though the lower's are others; names may be as long as anywhere."""
    lower = scratch.make("tmpfs", 8 * MIB)
    trees.write(os.path.join(lower, "f"), b"x" * MIB)
    u = union(lower, where=scratch.make("tmpfs", 16 * MIB), guard=False)
    u.write("new", b"y" * (3 * MIB))
    os.sync()
    shown = [subprocess.run(["df", "--output=size,used,avail,itotal", path], capture_output=True,
                            text=True, check=True).stdout.splitlines()[1].split()
             for path in (u.mnt, u.upper)]
    assert shown[0] == shown[1]
    assert int(shown[0][0]) == 16 << 10 and int(shown[0][1]) >= 3 << 10
    longest = max(os.statvfs(path).f_namemax for path in (lower, u.upper))
    assert os.statvfs(u.mnt).f_namemax == longest
    u.umount()


def remount(path, how):
    subprocess.run(["mount", "-i", "-o", f"remount,{how}", path], check=True)


def can_remount(path, how):
    try:
        remount(path, how)
    except subprocess.CalledProcessError:
        return False
    return True


def test_remount_read_only_and_back(union, scratch):
    """Read-only, it holds the upper's file system no more than a reader does."""
    where = scratch.make("tmpfs", MIB)
    u = union({"f": "x", "g": "y"}, where=where)
    u.append("f", "+")
    fd = os.open(u / "f", os.O_RDONLY)

    remount(u.mnt, "ro")
    for change in (lambda: u.append("f", "y"), lambda: os.chmod(u / "g", 0o600),
                   lambda: os.unlink(u / "g"), lambda: os.mkdir(u / "d")):
        assert errno_of(change) == errno.EROFS
    # A file that was written may be kept open for a moment.
    assert trees.wait_until(lambda: can_remount(where, "ro"), 3)
    assert (u.read("g"), os.read(fd, 9)) == (b"y", b"x+")
    os.close(fd)
    remount(where, "rw")
    remount(u.mnt, "rw")
    u.append("f", "y")
    os.unlink(u / "g")
    assert (u.read("f"), u.ls()) == (b"x+y", ["f"])
    u.umount()


@pytest.mark.deviation("D-13")
def test_read_only_mounts_write_nothing(union):
    """The kernel makes its work directory anew even then."""
    u = union({"f": "x", "d": {"g": ""}})
    u.append("f", "y")
    u.umount()
    untouched = u.pick(kernel=u.upper, veneer=u.base)
    before = trees.snapshot(untouched)
    u.mount(["ro"])
    u.snapshot()
    assert errno_of(lambda: u.append("f", "z")) == errno.EROFS
    u.umount()
    assert trees.difference(before, trees.snapshot(untouched)) == []


@pytest.mark.deviation("D-13")
def test_read_only_mounts_need_no_writable_upper(union, scratch):
    """The kernel wants to write to it, although to nothing that lasts."""
    where = scratch.make("tmpfs", MIB)
    u = union({"f": "x", "g": "y"}, where=where)
    u.append("f", "+")
    u.umount()
    remount(where, "ro")
    if u.pick(kernel=False, veneer=True):
        u.mount(["ro"])
        assert (u.read("f"), u.read("g")) == (b"x+", b"y")
        u.umount()
    remount(where, "rw")
    u.mount(["ro"])
    remount(where, "ro")
    assert (u.read("f"), u.read("g")) == (b"x+", b"y")
    u.umount()
    remount(where, "rw")


def test_copy_up_of_more_than_four_gibibytes(union):
    u = union({"big": File(data="begin", size=5 << 30)}, guard=False)
    for at in (5 << 30) - 3, (4 << 30) + 1:
        write_at(u.low("big"), b"low", at)
    assert write_at(u / "big", b"+", 4 << 30) == 1
    with open(u.up("big"), "rb") as file:
        assert file.read(6) == b"begin\0"
        for at, data in ((4 << 30, b"+low\0"), ((5 << 30) - 4, b"\0low")):
            assert os.pread(file.fileno(), 9, at)[:len(data)] == data
    assert os.stat(u.up("big")).st_size == 5 << 30


def test_copy_up_can_be_killed(union, bulk):
    """At once, and nothing is left of it: the file is the old one or the new one."""
    u = union(bulk, guard=False)
    pid = start(lambda: write_at(u / "big/file", b"!", 0))
    time.sleep(0.05)
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert time.monotonic() - begin < 1.5
    assert trees.wait_until(lambda: u.leftovers() == [])
    for path in [u / "big/file"] + [u.up("big/file")] * u.copied_up("big/file"):
        with open(path, "rb") as file:
            assert file.read(2) in (b"\0\0", b"!\0")
            for i in range(1, 50):
                assert os.pread(file.fileno(), 3, (4 * i + 3) * MIB) == bytes([i]) * 3
            assert os.fstat(file.fileno()).st_size == 200 * MIB


def test_failed_copy_up_leaves_the_old_file(union, scratch):
    """And takes no room any more, long before the next mount."""
    lower, where = scratch.make("tmpfs", 9 * MIB), scratch.make("tmpfs", 4 * MIB)
    trees.write(os.path.join(lower, "f"), b"x" * (5 * MIB))
    u = union(lower, where=where)
    free = os.statvfs(where).f_bfree
    for call in (lambda: u.append("f", "y"), lambda: write_at(u / "f", b"y", 3),
                 lambda: os.truncate(u / "f", 6 * MIB)):
        assert errno_of(call) == errno.ENOSPC
    assert not u.copied_up("f") or u.is_metadata_only("f")
    assert u.leftovers() == []
    assert os.statvfs(where).f_bfree >= free - 4
    for _ in range(2):
        assert u.read("f") == b"x" * (5 * MIB)
        u.remount()
    u.umount()


@pytest.mark.parametrize("how", ["open", "truncate", "ftruncate"])
def test_truncation_copies_nothing(union, bulk, how):
    u = union(bulk, guard=False)
    free, begin = os.statvfs(u.upper).f_bfree, time.monotonic()
    if how == "open":
        os.close(os.open(u / "big/file", os.O_WRONLY | os.O_TRUNC))
    elif how == "truncate":
        os.truncate(u / "big/file", 0)
    else:
        fd = os.open(u / "big/file", os.O_WRONLY | os.O_TRUNC)
        os.ftruncate(fd, 0)
        os.close(fd)
    assert time.monotonic() - begin < 3
    assert free - os.statvfs(u.upper).f_bfree < 64
    assert (os.stat(u / "big/file").st_size, os.stat(u.up("big/file")).st_blocks <= 8) == (0, True)


def test_private_xattrs_are_filtered(union):
    """Nobody sees them, and who sets one of such a name gets another attribute than the union's."""
    u = union({"d": {"f": "x"}, "e": {"g": "y"}})
    u.append("d/f", "y")
    shutil.rmtree(u / "e")
    os.mkdir(u / "e")
    for path in ("d", "d/f", "e"):
        assert "trusted.overlay" in " ".join(os.listxattr(u.up(path)))
        assert os.listxattr(u / path) == []
        for name in os.listxattr(u.up(path)):
            assert errno_of(lambda path=path, name=name: os.getxattr(u / path, name)) in (
                errno.ENODATA, errno.EOPNOTSUPP)
    quietly(os.setxattr, u / "d", "trusted.overlay.opaque", b"y")
    quietly(os.removexattr, u / "e", "trusted.overlay.opaque")
    u.remount()
    assert (u.ls("d"), u.ls("e")) == (["f"], [])


def test_directories_have_the_unions_device(union, scratch):
    """Wherever they lie, so that nothing that stays on one file system stops half-way."""
    elsewhere = scratch.make("tmpfs", MIB)
    trees.build(elsewhere, {"a": {"e": {"f": {}}}})
    u = union({"a": {"b": {}}}, {"a": {"c": {}}}, elsewhere, upper={"a": {"d": {}}}, guard=False)
    paths = ["", "a", "a/b", "a/c", "a/d", "a/e", "a/e/f"]
    assert {os.lstat(u / path).st_dev for path in paths} == {os.lstat(u.mnt).st_dev}
    out = subprocess.run(["find", u.mnt, "-xdev"], capture_output=True, text=True, check=True).stdout
    assert len(out.splitlines()) == len(paths)
    u.umount()


@pytest.mark.deviation("D-08")
def test_link_count_of_merged_directories(union):
    """1 means "unknown" and is tolerated by those who walk trees; the true number is better."""
    u = union({"d": {"a": {"x": {}}, "f": ""}}, {"d": {"c": {}}}, upper={"d": {"b": {}}})
    assert os.stat(u / "d").st_nlink == u.pick(kernel=1, veneer=dir_nlink(u / "d"))
    for command, count in ((["find", u.mnt, "-type", "d"], 6), (["find", u.mnt], 7),
                           (["du", "-a", u.mnt], 7)):
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert len(out.splitlines()) == count, command


def test_merging_is_quick_and_seeks_are_exact(union):
    """Ten layers of two thousand names, of which each has half in common with the next."""
    u = union(*[{"d": {f"f{i:05}": "" for i in range(1000 * layer, 1000 * layer + 2000)}}
                for layer in range(10)], guard=False)
    begin = time.monotonic()
    with DirStream(u / "d") as stream:
        told = []
        while (name := stream.read()) is not None:
            told.append((stream.tell(), name))
        assert time.monotonic() - begin < 3
        assert len({name for _at, name in told}) == len(told) == 11002
        for at in (5, 1000, 7777, 11000):
            stream.seek(told[at][0])
            assert stream.read() == told[at + 1][1]


def test_removal_of_a_directory_of_whiteouts(union):
    """One step, whatever number of whiteouts: the directory is there, empty, or it is not."""
    u = union({"d": {f"f{i}": "" for i in range(1000)}})
    for i in range(1000):
        os.unlink(u / f"d/f{i}")
    seen, removed = [], threading.Event()

    def look():
        while not removed.is_set():
            quietly(lambda: seen.extend(os.listdir(u / "d")))

    def remove():
        begin = time.monotonic()
        os.rmdir(u / "d")
        removed.set()
        assert time.monotonic() - begin < 1
    in_threads(look, remove)
    assert seen == []
    assert u.hidden("d")
    u.remount()
    assert u.ls() == []


def test_fsync_of_a_directory_after_copy_up(union):
    u = union({"d": {"f": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    u.write("d/new", "")
    os.fsync(fd)
    os.close(fd)
    assert u.copied_up("d/new")


@pytest.mark.veneer_only("the kernel's calls cannot be watched")
def test_fsync_of_a_directory_after_copy_up_is_of_the_copy(union, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    u = union({"d": {"f": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    u.write("d/new", "")
    pid, = u.mounted.daemons()
    log = tmp_path / "log"
    with subprocess.Popen(["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", log, "-p", str(pid)],
                          stderr=subprocess.PIPE) as tracer:
        tracer.stderr.readline()  # attached
        os.fsync(fd)
        tracer.send_signal(signal.SIGINT)
    os.close(fd)
    assert "upper/d>" in log.read_text()


def test_rename_to_self(union):
    u = union({"a": "x"})
    os.rename(u / "a", u / "a")
    assert u.read("a") == b"x"
    u.remount()
    assert u.read("a") == b"x"


def test_whiteout_after_rename(union):
    u = union({"a": "x"})
    os.rename(u / "a", u / "b")
    u.remount()
    assert u.ls() == ["b"]


def test_rm_rf_of_a_directory_copied_up_between_open_and_read(union):
    u = union({"d": {f"f{i}": "" for i in range(30)}})
    with DirStream(u / "d") as stream:
        os.chmod(u / "d/f3", 0o600)
        u.write("d/new", "")
        names = [name for name in stream.rest() if name not in (".", "..")]
    assert sorted(set(names) - {"new"}) == sorted(f"f{i}" for i in range(30))
    assert len(set(names)) == len(names)
    for name in {*names, "new"}:
        os.unlink(os.path.join(u / "d", name))
    os.rmdir(u / "d")
    assert u.ls() == []


def test_seek_before_the_first_read(union):
    u = union({"d": {f"f{i}": "" for i in range(30)}}, upper={"d": {"x": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_SET)
    names = []
    while chunk := oscalls.getdents64(fd, MIB):
        names += [entry.name for entry in chunk]
    os.close(fd)
    assert sorted(names) == sorted([".", "..", "x"] + [f"f{i}" for i in range(30)])


def test_concurrent_reset_and_read(union):
    """One descriptor, two threads: one rewinds, one reads; every chunk is of real names."""
    u = union({"d": {f"f{i}": "" for i in range(500)}}, upper={"d": {}})
    fd, stop, wrong = os.open(u / "d", os.O_RDONLY), threading.Event(), []

    def reader():
        while not stop.is_set():
            for entry in oscalls.getdents64(fd, 4096):
                if not (entry.name[0] == "f" or entry.name in (".", "..")):
                    wrong.append(entry.name)
    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(200):
        os.lseek(fd, 0, os.SEEK_SET)
        if i % 50 == 0:
            os.close(os.open(u / f"d/f{1000 + i}", os.O_CREAT | os.O_WRONLY))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    os.lseek(fd, 0, os.SEEK_SET)
    names = [entry.name for entry in oscalls.read_directory(fd)]
    os.close(fd)
    assert len(set(names)) == len(names) == 506


def test_readlink_during_copy_up(union):
    u = union({f"l{i}": Symlink(target=f"target{i}") for i in range(50)})
    failed = []

    def reader():
        for _ in range(20):
            for i in range(50):
                if os.readlink(u / f"l{i}") != f"target{i}":
                    failed.append(i)
    thread = threading.Thread(target=reader)
    thread.start()
    for i in range(50):
        os.lchown(u / f"l{i}", 1, 1)
    thread.join()
    assert failed == []


@pytest.mark.parametrize("operation", ["unlink", "rmdir", "rename", "create", "write"])
def test_upper_changed_underneath(union, operation):
    """The parent was replaced in the upper: nothing outside the union is touched, nothing dies."""
    u = union({"d": {"f": "x", "e": {}}}, upper={"d": {"g": "y"}}, guard=False)
    assert (u.ls("d"), u.read("d/g")) == (["e", "f", "g"], b"y")
    outside = os.path.join(u.base, "outside")
    trees.build(outside, {"f": "precious", "g": "precious", "e": {}})
    directory, file = os.open(u / "d", os.O_RDONLY), os.open(u / "d/f", os.O_RDWR)
    os.rename(u.up("d"), os.path.join(u.base, "moved"))
    os.symlink(outside, u.up("d"))
    # By descriptor: a lookup of "d" may rightly find the symbolic link, which anyone may follow.
    calls = {"unlink": lambda: os.unlink("g", dir_fd=directory),
             "rmdir": lambda: os.rmdir("e", dir_fd=directory),
             "rename": lambda: os.rename("g", "h", src_dir_fd=directory, dst_dir_fd=directory),
             "create": lambda: os.close(os.open("n", os.O_CREAT | os.O_WRONLY, dir_fd=directory)),
             "write": lambda: os.pwrite(file, b"z", 0)}
    before = trees.snapshot(outside)
    try:
        calls[operation]()
    except OSError as error:
        assert error.errno in (errno.ESTALE, errno.EIO, errno.ENOENT)
    os.close(directory)
    os.close(file)
    assert trees.snapshot(outside) == before
    assert "d" in os.listdir(u.mnt)
    os.unlink(u.up("d"))
    os.rename(os.path.join(u.base, "moved"), u.up("d"))


def test_nothing_dies_of_odd_input(union):
    """Special files in odd places; names the format itself uses."""
    u = union({"#0": "", "work": {"x": ""}, "index": {}, "d": {"#1": ""}, "p": Node()},
              upper={"#2": {}, "work": {"x": whiteout()}})
    for path in list(u.snapshot()):
        os.utime(u / path, ns=(OLD, OLD), follow_symlinks=False)
    os.stat(u.mnt)


def test_metadata_storm(union):
    u = union({f"d{i}": {f"f{j}": "" for j in range(20)} for i in range(10)})
    threads = [threading.Thread(target=_storm, args=(u, i)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert all(len(u.ls(f"d{i}")) == 10 for i in range(10))


def _storm(u, i):
    for j in range(20):
        os.chmod(u / f"d{i}/f{j}", 0o600)
        os.rename(u / f"d{i}/f{j}", u / f"d{i}/g{j}")
        if j % 2:
            os.unlink(u / f"d{i}/g{j}")


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_names_of_one_file_are_one_inode(union, layer):
    """One number, one link count, one page cache, one set of locks; in a lower also after copy-up."""
    tree = {"a": "x" * 4096, "d": {"b": Hard("a")}}
    u = union(*[tree if layer == "lower" else {}], upper=tree if layer == "upper" else None,
              opts=FEATURES)
    before = os.stat(u / "a")
    one, two = os.open(u / "a", os.O_RDWR), os.open(u / "d/b", os.O_RDWR)
    fcntl.flock(one, fcntl.LOCK_EX)
    assert errno_of(lambda: fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)) == errno.EAGAIN
    os.pwrite(one, b"new", 0)
    assert os.pread(two, 4, 0) == b"newx"
    assert errno_of(lambda: fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)) == errno.EAGAIN
    with mmap.mmap(one, 4096) as memory, mmap.mmap(two, 4096) as other:
        memory[0:3] = b"map"
        assert other[:4] == b"mapx"
    for fd in (one, two):
        os.close(fd)
    drop_pages(u / "a")
    for _ in range(2):
        for name in ("a", "d/b"):
            st = os.stat(u / name)
            assert (st.st_ino, st.st_nlink, st.st_size) == (before.st_ino, 2, 4096)
            assert u.read(name)[:4] == b"mapx"
        u.remount()