"""What the first posting of an overlay file system promised, and what it was asked: one test each.

The numbers run through the promises of the posting (s) and the questions of its reviewers (c).
"""

import errno
import os
import resource
import shutil
import signal
import subprocess
import threading
import time

import pytest

import oscalls
import trees
from oscalls import DirStream
from trees import OLD, Dir, File, Hard, Node, Symlink, wait_until, whiteout
from union import dir_nlink

MIB = 1 << 20


def errno_of(function):
    with pytest.raises(OSError) as caught:
        function()
    return caught.value.errno


def test_s01_lower_layers_are_never_changed(union):
    u = union({"d": {"f": File(data="x", xattrs={"user.a": "1"}), "s": {}}, "l": Symlink()})
    before = trees.snapshot(u.low(), nlink=True)
    u.append("d/f", "y")
    os.setxattr(u / "d/f", "user.a", b"2")
    os.rmdir(u / "d/s")
    os.unlink(u / "l")
    os.utime(u / "d", ns=(1, 1))
    assert trees.snapshot(u.low(), nlink=True) == before


def test_s02_a_live_system(union_factory, scratch):
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


def test_s03_reading_and_writing_go_through(union):
    """Not a measurement: a hundred mebibytes must pass in a time that no copying explains."""
    u = union({"f": b"x" * (64 * MIB)}, guard=False)
    start = time.monotonic()
    with open(u / "f", "rb") as source, open(u / "g", "wb") as target:
        shutil.copyfileobj(source, target, MIB)
    assert time.monotonic() - start < 10
    assert os.stat(u / "g").st_size == 64 * MIB


def test_s04_works_for_ordinary_users(union, as_user):
    """One may write a file without rights on its directory; everything else stays forbidden."""
    u = union({"d": Dir(mode=0o755, children={"mine": File(data="x", owner=(1000, 1000)),
                                              "theirs": File(data="y", mode=0o600)})})
    as_user(1000, lambda: u.append("d/mine", "+"))
    assert u.read("d/mine") == b"x+"
    for forbidden in (lambda: u.read("d/theirs"), lambda: u.append("d/theirs", ""),
                      lambda: os.unlink(u / "d/mine"), lambda: u.write("d/new", "")):
        with pytest.raises(PermissionError):
            as_user(1000, forbidden)


def test_s05_a_union_below_a_union(union_factory):
    low = union_factory({"a": "1", "gone": "", "d": {"old": ""}}).mount()
    os.unlink(low / "gone")
    shutil.rmtree(low / "d")
    os.mkdir(low / "d")
    low.write("d/new", "")
    top = union_factory(low.mnt, guard=False).mount()
    assert (top.ls(), top.ls("d")) == (["a", "d"], ["new"])
    os.unlink(top / "a")
    top.write("d/more", "")
    assert (top.ls(), low.ls()) == (["d"], ["a", "d"])
    top.umount()


def test_s06_lower_without_xattrs(union, scratch):
    plain = scratch.mount("ramfs", "ramfs")
    trees.build(plain, {"f": "x", "g": "y", "d": {"h": "z"}})
    u = union(plain)
    u.append("f", "+")
    os.unlink(u / "g")
    os.unlink(u / "d/h")
    os.rename(u / "f", u / "h")
    u.remount()
    assert (u.ls(), u.read("h"), u.ls("d")) == (["d", "h"], b"x+", [])
    u.umount()


def test_s06_upper_without_xattrs(union, scratch):
    """What needs no xattr works and outlives a remount."""
    u = union({"f": "x", "g": "y", "d": {"h": "z"}}, where=scratch.mount("ramfs", "ramfs"))
    u.append("f", "+")
    os.unlink(u / "g")
    u.append("d/h", "+")
    os.mkdir(u / "new")
    u.remount()
    assert (u.ls(), u.read("f"), u.read("d/h")) == (["d", "f", "new"], b"x+", b"z+")
    u.umount()


def test_s07_mounts_are_held(union, scratch):
    lower = scratch.make("tmpfs", MIB)
    trees.write(os.path.join(lower, "f"), "x")
    u = union(lower, guard=False)
    oscalls.umount(lower, oscalls.MNT_DETACH)
    scratch.mounts.remove(lower)
    assert u.read("f") == b"x"


def test_s08_statfs(union):
    u = union({})
    assert os.statvfs(u.mnt).f_blocks == os.statvfs(u.upper).f_blocks
    assert os.statvfs(u.mnt).f_namemax == 255


def test_s09_remount_read_only_and_back(union):
    u = union({"f": "x"})
    subprocess.run(["mount", "-i", "-o", "remount,ro", u.mnt], check=True)
    assert errno_of(lambda: u.append("f", "y")) == errno.EROFS
    subprocess.run(["mount", "-i", "-o", "remount,rw", u.mnt], check=True)
    u.append("f", "y")
    assert u.read("f") == b"xy"


@pytest.mark.deviation("D-13")
def test_s10_read_only_mounts_write_nothing(union):
    """The kernel makes its work directory anew even then."""
    u = union({"f": "x", "d": {"g": ""}})
    u.append("f", "y")
    u.umount()
    untouched = u.pick(kernel=u.upper, veneer=u.base)
    before = trees.snapshot(untouched)
    u.mount(["ro"])
    u.snapshot()
    u.umount()
    assert trees.difference(before, trees.snapshot(untouched)) == []


@pytest.fixture(scope="session")
def bulk(ext4):
    """A lower layer with one file of 200 MiB."""
    path = os.path.join(ext4, "bulk")
    os.makedirs(os.path.join(path, "big"))
    with open(os.path.join(path, "big/file"), "wb") as file:
        for i in range(50):
            file.write(bytes([i]) * (4 * MIB))
    trees.build(os.path.join(path, "other"), {f"n{i}": "" for i in range(50)})
    return path


def change_in_a_child(path):
    """A process that changes the first byte of a file."""
    pid = os.fork()
    if pid == 0:
        try:
            fd = os.open(path, os.O_WRONLY)
            os.pwrite(fd, b"!", 0)
        finally:
            os._exit(0)
    return pid


def test_s11_copy_up_can_be_killed(union, bulk):
    u = union(bulk, guard=False)
    pid = change_in_a_child(u / "big/file")
    time.sleep(0.05)
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert time.monotonic() - start < 1.5
    assert os.stat(u / "big/file").st_size == 200 * MIB
    with open(u / "big/file", "rb") as file:
        assert file.read(1) in (b"\0", b"!")
        file.seek(199 * MIB)
        assert file.read(3) == bytes([49]) * 3


def test_s12_failed_copy_up_leaves_the_old_file(union, scratch):
    u = union({"f": "x" * (3 * MIB)}, where=scratch.make("tmpfs", 4 * MIB))
    assert errno_of(lambda: u.append("f", "y")) == errno.ENOSPC
    assert not u.copied_up("f")
    assert os.stat(u / "f").st_size == 3 * MIB
    u.remount()
    assert u.read("f") == b"x" * (3 * MIB)


def test_s13_truncation_copies_nothing(union, bulk):
    u = union(bulk, guard=False)
    start = time.monotonic()
    u.write("big/file", "")
    assert time.monotonic() - start < 0.5
    assert (os.stat(u / "big/file").st_size, os.stat(u.up("big/file")).st_blocks <= 8) == (0, True)


def test_s14_private_xattrs_are_filtered(union):
    u = union({"d": {"f": "x"}})
    u.append("d/f", "y")
    assert os.listxattr(u / "d") == os.listxattr(u / "d/f") == []


def test_s15_directories_have_the_unions_device(union):
    u = union({"a": {"b": {}}}, {"a": {"c": {}}}, upper={"a": {"d": {}}})
    devices = {os.lstat(u / path).st_dev for path in ("", "a", "a/b", "a/c", "a/d")}
    assert len(devices) == 1
    out = subprocess.run(["find", u.mnt, "-xdev"], capture_output=True, text=True, check=True).stdout
    assert len(out.splitlines()) == 5


@pytest.mark.deviation("D-08")
def test_s16_link_count_of_merged_directories(union):
    """1 means "unknown" and is tolerated by find; the true number is better."""
    u = union({"d": {"a": {}}}, upper={"d": {"b": {}}})
    assert os.stat(u / "d").st_nlink == u.pick(kernel=1, veneer=dir_nlink(u / "d"))


def test_s17_merging_is_quick_and_seeks_are_exact(union):
    layers = [{"d": {f"{layer}{i:03}": "" for i in range(300)}} for layer in "abcdefgh"]
    u = union(*layers)
    with DirStream(u / "d") as stream:
        told = []
        while (name := stream.read()) is not None:
            told.append((stream.tell(), name))
        assert len(told) == 2402
        for at in (5, 1000, 2400):
            stream.seek(told[at][0])
            assert stream.read() == told[at + 1][1]


def test_s18_removal_of_a_directory_of_whiteouts(union):
    """One atomic step, whatever number of whiteouts."""
    u = union({"d": {f"f{i}": "" for i in range(1000)}})
    for i in range(1000):
        os.unlink(u / f"d/f{i}")
    start = time.monotonic()
    os.rmdir(u / "d")
    assert time.monotonic() - start < 1
    assert u.hidden("d")


def test_s19_fsync_of_a_directory_after_copy_up(union):
    u = union({"d": {"f": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    u.write("d/new", "")
    os.fsync(fd)
    os.close(fd)
    assert u.copied_up("d/new")


def test_s20_rename_to_self(union):
    u = union({"a": "x"})
    os.rename(u / "a", u / "a")
    assert u.read("a") == b"x"
    u.remount()
    assert u.read("a") == b"x"


def test_s20_whiteout_after_rename(union):
    u = union({"a": "x"})
    os.rename(u / "a", u / "b")
    u.remount()
    assert u.ls() == ["b"]


def test_s21_rm_rf_of_a_directory_copied_up_between_open_and_read(union):
    u = union({"d": {f"f{i}": "" for i in range(30)}})
    with DirStream(u / "d") as stream:
        os.chmod(u / "d/f3", 0o600)
        u.write("d/new", "")
        for name in stream.rest():
            if name not in (".", ".."):
                os.unlink(os.path.join(u / "d", name))
    os.rmdir(u / "d")
    assert u.ls() == []


def test_s21_seek_before_the_first_read(union):
    u = union({"d": {f"f{i}": "" for i in range(30)}}, upper={"d": {"x": ""}})
    fd = os.open(u / "d", os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_SET)
    assert len(oscalls.getdents64(fd, MIB)) == 33
    os.close(fd)


def test_s21_concurrent_reset_and_read(union):
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
    os.close(fd)
    assert wrong == []


def test_s22_readlink_during_copy_up(union):
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
def test_s23_upper_changed_underneath(union, operation):
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
    except OSError:
        pass
    os.close(directory)
    os.close(file)
    assert trees.snapshot(outside) == before
    assert "d" in os.listdir(u.mnt)
    os.unlink(u.up("d"))
    os.rename(os.path.join(u.base, "moved"), u.up("d"))


def test_s24_nothing_dies_of_odd_input(union):
    """Special files in odd places; names the format itself uses."""
    u = union({"#0": "", "work": {"x": ""}, "index": {}, "d": {"#1": ""}, "p": Node()},
              upper={"#2": {}, "work": {"x": whiteout()}})
    for path in list(u.snapshot()):
        os.utime(u / path, ns=(OLD, OLD), follow_symlinks=False)
    os.stat(u.mnt)


def test_s25_metadata_storm(union):
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


def test_s26_names_of_one_file_are_one_inode(union):
    u = union({}, upper={"a": "x", "b": Hard("a")})
    one, two = os.stat(u / "a"), os.stat(u / "b")
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)


# What reviewers asked

def test_c1_inode_number_does_not_change_by_copy_up(union):
    u = union({"f": "x"})
    before = os.stat(u / "f")
    u.append("f", "y")
    after = os.stat(u / "f")
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)


def test_c3_no_obsolete_data(union):
    u = union({"f": "x"})
    with open(u / "f", "rb") as file:
        u.write("f", "new")
        assert file.read() == b"new"
        assert os.fstat(file.fileno()).st_size == 3


@pytest.mark.deviation("D-03")
def test_c5_no_needless_copy_up(union):
    u = union({"f": "x"})
    os.close(os.open(u / "f", os.O_RDWR))
    assert u.copied_up("f") == u.pick(kernel=True, veneer=False)


@pytest.mark.deviation("D-14")
def test_c6_copy_up_is_not_bound_by_the_callers_limits(union, child):
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


def test_c6_the_callers_limit_still_holds(union, child):
    u = union({})

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        fd = os.open(u / "f", os.O_CREAT | os.O_WRONLY)
        os.pwrite(fd, b"!", 2 * MIB)
    assert errno_of(lambda: child(limited)) == errno.EFBIG


def test_c7_copy_up_against_rename_and_unlink(union):
    """A decides to copy up; B copies up, renames, unlinks in the new place; A must not resurrect it."""
    count = 150
    u = union({"d": {f"f{i}": "x" * 5000 for i in range(count)}, "e": {}})
    gate = threading.Barrier(2)

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
    threads = [threading.Thread(target=call) for call in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (u.ls("d"), u.ls("e")) == ([], [])
    u.remount()
    assert (u.ls("d"), u.ls("e")) == ([], [])


def test_c9_edits_of_the_upper_underneath_do_no_harm(union):
    u = union({"d": {"f": "x"}}, upper={"d": {}}, guard=False)
    assert wait_until(lambda: u.ls("d") == ["f"])
    shutil.rmtree(u.up("d"))
    for call in (lambda: u.ls("d"), lambda: u.read("d/f"), lambda: u.append("d/f", "y"),
                 lambda: os.mkdir(u / "d/n"), lambda: os.rmdir(u / "d")):
        try:
            call()
        except OSError:
            pass
    assert isinstance(os.listdir(u.mnt), list)


@pytest.mark.parametrize("redirect", [False, True])
def test_c11_rename_of_a_lower_directory(union, redirect):
    """EXDEV where redirects are off, which mv answers by copying; else it just works."""
    u = union({"d": {"f": "x"}}, opts=[f"redirect_dir={'on' if redirect else 'off'}"])
    if redirect:
        os.rename(u / "d", u / "e")
    else:
        assert errno_of(lambda: os.rename(u / "d", u / "e")) == errno.EXDEV
        subprocess.run(["mv", u / "d", u / "e"], check=True)
    assert u.read("e/f") == b"x"
