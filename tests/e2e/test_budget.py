"""max_nodes: how many objects the daemon keeps in mind, what it takes in memory, and that nobody notices.

VENEER_FULL=1 walks two million files, for which it takes some minutes and 2 GB of disk.
"""

import fcntl
import json
import os
import random
import re
import resource
import shutil
import subprocess
import tempfile
import time

import pytest

import contenders
import oscalls
import trees
from callers import FULL, in_processes, in_threads
from test_realtree import is_sanitized
from test_transport import SWITCH
from trees import Hard, wait_until

pytestmark = [pytest.mark.veneer_only("kernel overlayfs has no nodes but the kernel's"),
              pytest.mark.usefixtures("contender")]

DIRECTORIES, FILES = 30, 1000
BUDGET = 2000
TINY = 50
# What can come between one look of the daemon at its number and what it asked for.
LAG = 4 * FILES


def kernel_version():
    return tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())


# Protocol 7.45.
prunes = pytest.mark.skipif(kernel_version() < (6, 18), reason="the kernel cannot be asked to forget")


@pytest.fixture(params=["dev", "io_uring"])
def transport(request):
    """The option that asks for it."""
    if request.param == "dev":
        return "io_uring=off"
    if not os.path.exists(SWITCH) or trees.read(SWITCH)[:1] != b"Y":
        pytest.skip("this kernel has no FUSE over io_uring, or it is switched off")
    return "io_uring=on"


def caches(u):
    done = subprocess.run([contenders.VENEER, "status", "--json", u.mnt], capture_output=True,
                          timeout=30, check=True, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout)["mounts"][0]["caches"]


def nodes(u):
    return caches(u)["nodes"]


def memory_kib(u, what="VmRSS"):
    pid, = u.mounted.daemons()
    return int(re.search(rf"^{what}:\s*(\d+)", trees.read(f"/proc/{pid}/status").decode(), re.M).group(1))


def drop_caches():
    trees.write("/proc/sys/vm/drop_caches", "2")


@pytest.fixture(scope="module")
def large(ext4):
    """A lower layer of 30,000 files in 30 directories."""
    path = tempfile.mkdtemp(prefix="large", dir=ext4)
    trees.build(path, {f"d{i}": {f"f{k}": f"{i}.{k}" for k in range(FILES)} for i in range(DIRECTORIES)})
    yield path
    trees.remove(path)


def walk(u):
    """Each object once: how many there are."""
    done = subprocess.run(["find", u.mnt, "-printf", "%s\\n"], capture_output=True, timeout=900,
                          check=True, stdin=subprocess.DEVNULL)
    return done.stdout.count(b"\n")


def peak_during(u, call):
    """What the call gives, and the largest number of nodes seen meanwhile."""
    seen, done, results = [nodes(u)], [], []

    def watch():
        while not done:
            seen.append(nodes(u))
            time.sleep(0.02)

    def work():
        try:
            results.append(call())
        finally:
            done.append(True)
    in_threads(watch, work)
    return results[0], max(seen)


# The number

@prunes
def test_walk_stays_near_the_budget(union, large, transport):
    u = union(large, opts=[f"max_nodes={BUDGET}", transport], guard=False)
    assert caches(u)["nodes_max"] == BUDGET
    for _ in range(2):
        found, peak = peak_during(u, lambda: walk(u))
        assert found == 1 + DIRECTORIES * (FILES + 1)
        assert peak < BUDGET + LAG
        assert wait_until(lambda: nodes(u) <= BUDGET + BUDGET // 8, 5), nodes(u)
    assert u.read("d7/f77") == b"7.77"


def test_without_a_limit(union, large):
    u = union(large, opts=["max_nodes=0"], guard=False)
    assert caches(u)["nodes_max"] == 0
    count = walk(u)
    # Others may make the kernel forget meanwhile.
    assert nodes(u) > count // 2


@prunes
def test_what_is_in_use_is_kept_and_asked_for_seldom(union, large):
    """Far more files are open than there may be nodes; the daemon does not turn round and round."""
    u = union(large, opts=[f"max_nodes={TINY}"], guard=False)
    count = 600
    fds = [os.open(u / f"d0/f{i}", os.O_RDONLY) for i in range(count)]
    pid, = u.mounted.daemons()

    def cpu():
        return sum(map(int, trees.read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[11:13]))
    before = cpu()
    time.sleep(1)
    assert cpu() - before <= 2
    assert nodes(u) >= count
    for i, fd in enumerate(fds):
        assert os.read(fd, 100) == f"0.{i}".encode()
        os.close(fd)
    for i in range(FILES):
        os.stat(u / f"d1/f{i}")
    assert wait_until(lambda: nodes(u) < count, 5), nodes(u)


# What must not change

@prunes
def test_users_do_not_notice(union, large, transport):
    u = union(large, upper={"up": {"file": "up", "dir": {"in": "in"}, "lock": "", "watched": {}}},
              opts=[f"max_nodes={TINY}", transport], guard=False)
    held = os.open(u / "up/file", os.O_RDWR)
    lower = os.open(u / "d3/f3", os.O_RDONLY)
    lock = os.open(u / "up/lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    oscalls.mount("none", u / "up/dir", "tmpfs")
    trees.write(u / "up/dir/over", "over")
    notify = oscalls.inotify_init()
    oscalls.inotify_add_watch(notify, u / "up/watched", 0x100)  # IN_CREATE
    cwd = os.getcwd()
    os.chdir(u / "d5")
    try:
        inodes = {path: u.ino(path) for path in ("up", "up/file", "d3/f3", "d5", "d9/f9")}
        walk(u)
        assert os.getcwd() == u / "d5"
        assert trees.read("f5") == b"5.5"
        assert os.readlink(f"/proc/self/fd/{held}") == u / "up/file"
        assert os.pwrite(held, b"UP", 0) == 2
        assert u.read("up/file") == b"UP"
        assert os.pread(lower, 10, 0) == b"3.3"
        assert trees.read(u / "up/dir/over") == b"over"
        other = os.open(u / "up/lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        u.write("up/watched/new", "")
        assert b"new" in os.read(notify, 1000)
        assert {path: u.ino(path) for path in inodes} == inodes
    finally:
        os.chdir(cwd)
        for fd in (held, lower, lock, notify):
            os.close(fd)
        oscalls.umount(u / "up/dir")


@prunes
def test_removed_files_in_use(union, large):
    u = union(large, opts=[f"max_nodes={TINY}"], guard=False)
    fds = {}
    for i in range(20):
        fds[i] = os.open(u / f"d2/f{i}", os.O_RDWR)
        os.unlink(u / f"d2/f{i}")
    walk(u)
    for i, fd in fds.items():
        assert os.pread(fd, 10, 0) == f"2.{i}".encode()
        os.pwrite(fd, b"x", 0)
        assert os.pread(fd, 1, 0) == b"x"
        os.close(fd)


@prunes
def test_hard_links_keep_their_number(union, large):
    u = union({"links": {"a": "x", **{f"l{i}": Hard("links/a") for i in range(20)}}}, large,
              opts=[f"max_nodes={TINY}", "index=on"])
    first = u.ino("links/a")
    walk(u)
    assert {u.ino(f"links/l{i}") for i in range(20)} == {first}
    u.append("links/l3", "y")
    walk(u)
    assert u.ino("links/l7") == first
    assert u.read("links/l19") == b"xy"


@prunes
def test_changes_while_the_kernel_forgets(union, transport):
    """Several callers rename, write, read and remove, each below a directory of his own, while others walk."""
    u = union({f"p{k}": {f"f{i}": "old" for i in range(200)} for k in range(3)},
              opts=[f"max_nodes={TINY}", transport])

    def change(k):
        rng = random.Random(k)
        content = {f"f{i}": "old" for i in range(200)}
        for step in range(600):
            name = rng.choice(sorted(content))
            path = u / f"p{k}/{name}"
            what = rng.randrange(5)
            if what == 0:
                new = f"n{step}"
                os.rename(path, u / f"p{k}/{new}")
                content[new] = content.pop(name)
            elif what == 1:
                trees.write(path, str(step))
                content[name] = str(step)
            elif what == 2 and len(content) > 50:
                os.unlink(path)
                del content[name]
            elif what == 3:
                trees.write(u / f"p{k}/c{step}", "new")
                content[f"c{step}"] = "new"
            else:
                assert trees.read(path).decode() == content[name]
        assert sorted(os.listdir(u / f"p{k}")) == sorted(content)
        for name, text in content.items():
            assert trees.read(u / f"p{k}/{name}").decode() == text

    def look():
        for _ in range(15):
            for _top, _dirs, names in os.walk(u.mnt):
                assert len(set(names)) == len(names)
    in_processes(*(lambda k=k: change(k) for k in range(3)), look)
    assert wait_until(lambda: nodes(u) <= 2 * TINY, 5), nodes(u)
    before = u.snapshot()
    u.remount()
    assert not trees.difference(before, u.snapshot())


# Memory

@pytest.fixture
def measured():
    if is_sanitized(contenders.VENEER):
        pytest.skip("a sanitizer's memory counts as the daemon's")


def switches(u):
    pid, = u.mounted.daemons()
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += sum(map(int, re.findall(rb"ctxt_switches:\s*(\d+)", trees.read(f"/proc/{pid}/task/{task}/status"))))
    return total


IDLE_KIB, FORGOTTEN_KIB = 1000, 1600  # with the records of what was forgotten


def private_kib(u):
    """Memory of the daemon alone; how much of its program is mapped is the page cache's affair."""
    return memory_kib(u, "RssAnon") + memory_kib(u, "RssShmem")


@pytest.mark.usefixtures("measured")
def test_idle_daemon(union, large, transport):
    """Small after the mount, small again after a walk once the kernel has forgotten, and asleep."""
    u = union(large, opts=[transport], guard=False)
    assert wait_until(lambda: private_kib(u) < IDLE_KIB, 3), private_kib(u)
    walk(u)
    drop_caches()
    assert wait_until(lambda: private_kib(u) < FORGOTTEN_KIB, 10), private_kib(u)

    def sleeps():
        before = switches(u)
        time.sleep(3)
        return switches(u) == before
    assert wait_until(sleeps, 20)


@pytest.mark.usefixtures("measured")
def test_merged_listings_are_bounded(union):
    """The daemon keeps the listing of merged directories, but not of any number of them."""
    count, names, length = 40, 4000, 200
    u = union(*({f"d{i}": {} for i in range(count)} for _ in range(2)), guard=False)
    for i in range(count):
        fd = os.open(u.low(f"d{i}"), os.O_RDONLY)
        for k in range(names):
            os.symlink("x", f"{k:0{length}}", dir_fd=fd)
        os.close(fd)
    u.remount()
    for i in range(count):
        assert len(os.listdir(u / f"d{i}")) == names
    # All of them would be 40 * 4000 * 216 bytes.
    assert memory_kib(u) < 26 << 10
    assert len(u.ls("d0")) == names


@pytest.mark.skipif(not FULL, reason="VENEER_FULL=1")
@pytest.mark.usefixtures("measured")
@prunes
def test_two_million_files(union_factory, transport):
    """Memory and descriptors over the walk, and afterwards."""
    count = 2000
    with tempfile.TemporaryDirectory(prefix="veneer-2m-", dir="/var/tmp") as home:
        lower = os.path.join(home, "lower")
        for i in range(count):
            path = os.path.join(lower, f"d{i // 50}", f"s{i % 50}")
            os.makedirs(path)
            fd = os.open(path, os.O_RDONLY)
            for k in range(1000):
                os.close(os.open(f"file-{k:04}.txt", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.close(fd)
        u = union_factory(lower, opts=[transport], guard=False)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, limits[1]))
        u.mount()
        pid, = u.mounted.daemons()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        subprocess.run(["prlimit", "--pid", str(pid), "--nofile=1024:1024"], check=True)
        started = time.monotonic()
        assert walk(u) == 1 + 40 + count * 1001
        print(f"walk {time.monotonic() - started:.1f} s, {memory_kib(u, 'VmHWM')} KiB")
        assert memory_kib(u, "VmHWM") < 80 << 10
        assert len(os.listdir(f"/proc/{pid}/fd")) < 1024
        drop_caches()
        assert wait_until(lambda: private_kib(u) < FORGOTTEN_KIB, 20), private_kib(u)
        u.umount()
        shutil.rmtree(lower)
