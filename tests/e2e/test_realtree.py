"""Whole programs at work on a union over this machine's own root file system."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest

import contenders
import trees

TREEHASH = os.path.join(contenders.CHECKOUT, "scripts", "treehash")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY_FILES = 50_000


class RootUnion:
    """A union over `/`, and a way to run programs in it as their root."""

    def __init__(self, contender, home):
        self.contender = contender
        self.upper, self.work, self.path = (os.path.join(home, name) for name in ("u", "w", "m"))
        for name in (self.upper, self.work, self.path):
            os.mkdir(name)
        self.mounted = None

    def mount(self, *tops):
        layers = contenders.Layers([*tops, "/"], self.upper, self.work)
        self.mounted = self.contender.mount(layers, self.path, ["redirect_dir=on"])
        return self

    def unmount(self):
        faults, self.mounted = self.mounted.unmount(), None
        assert not faults, "\n".join(faults)

    def inside(self, script, timeout=240):
        """Run a shell script in a chroot with namespaces of its own; its output."""
        enter = ('cd "$0"; mount -t proc proc proc; mount --rbind /dev dev; '
                 'exec chroot . bash -euc "$1"')
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", enter,
             self.path, script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False,
            env={"PATH": PATH, "HOME": "/root", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"})
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def at(self, *parts):
        return os.path.join(self.path, *(part.lstrip("/") for part in parts))


@pytest.fixture
def root_union(contender, base):
    made = RootUnion(contender, base)
    yield made
    if made.mounted:
        made.unmount()


def snapshot(root, output):
    with open(output, "wb") as file:
        subprocess.run([sys.executable, TREEHASH, "snap", root], stdout=file, check=True,
                       stderr=subprocess.DEVNULL)
    return output


def assert_same_trees(one, two, base):
    first, second = snapshot(one, f"{base}/one"), snapshot(two, f"{base}/two")
    done = subprocess.run([sys.executable, TREEHASH, "diff", first, second], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def require(*programs):
    for program in programs:
        if not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is not installed")


def copy_sources(target):
    """The sources as committed (an edit half done is no fault of the union), or as they are."""
    if not os.path.isdir(os.path.join(contenders.CHECKOUT, ".git")):
        shutil.copytree(contenders.CHECKOUT, target, symlinks=True,
                        ignore=shutil.ignore_patterns("build*", "__pycache__"))
        return
    os.mkdir(target)
    with subprocess.Popen(["git", "-c", "safe.directory=*", "-C", contenders.CHECKOUT, "archive",
                           "HEAD"], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-C", target, "-xf", "-"], stdin=archive.stdout, check=True)
    assert archive.returncode == 0


def test_builds_veneer(root_union):
    require("meson", "ninja", "gcc")
    root_union.mount()
    source = root_union.at("/usr/src/veneer")
    copy_sources(source)
    out = root_union.inside("cd /usr/src/veneer; meson setup b; ninja -C b; b/veneer --version; "
                            "meson install -C b >/dev/null; /usr/local/bin/veneer --version; "
                            "ninja -C b | tail -n 1")
    assert out.count("veneer 0") + out.count("veneer version 0") >= 2
    assert "no work to do" in out, "timestamps changed under the build"


def test_git(root_union):
    require("git")
    if not os.path.isdir(os.path.join(contenders.CHECKOUT, ".git")):
        pytest.skip("not a git checkout")
    root_union.mount()
    shutil.copytree(os.path.join(contenders.CHECKOUT, ".git"), root_union.at("/root/origin.git"))
    root_union.inside("""
        export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
        git config --global --add safe.directory '*'
        cd /root
        git clone -q --no-local origin.git clone
        cd clone
        [[ -z $(git status --porcelain) ]]
        for n in 1 2 3 4 5 6 7 8; do
            for file in $(git ls-files 'src/*.c'); do echo "/* $n */" >>"$file"; done
            git commit -qam "change $n"
        done
        git mv src moved
        git commit -qm moved
        [[ -z $(git status --porcelain) ]]
        git gc -q --aggressive --prune=now
        git fsck --full --strict
        git checkout -q HEAD~5
        git checkout -q -
        [[ -z $(git status --porcelain) ]]
        git fsck --full --strict
    """)


def fill_database(path, rows):
    with sqlite3.connect(path) as db:
        db.execute("create table t (id integer primary key, n integer, data blob)")
        db.execute("create index t_n on t (n)")
        db.executemany("insert into t (n, data) values (?, randomblob(400))",
                       ((n % 97,) for n in range(rows)))
    db.close()


# Updates from two processes; each transaction keeps the sum of n.
UPDATES = """
import random, sqlite3, sys
random.seed(int(sys.argv[2]))
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("pragma synchronous=off")
top = db.execute("select max(id) from t").fetchone()[0]
for _ in range(150):
    db.execute("begin immediate")
    for _ in range(20):
        a, b = random.randint(1, top), random.randint(1, top)
        size = random.randint(1, 900)
        db.execute("update t set n = n + 1, data = randomblob(?) where id = ?", (size, a))
        db.execute("update t set n = n - 1 where id = ?", (b,))
    db.execute("commit")
"""


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite(root_union, base, journal):
    """A database that starts in a lower, changed heavily by two processes."""
    top = os.path.join(base, "top")
    os.mkdir(top)
    fill_database(os.path.join(top, "db"), 20_000)
    root_union.mount(top)
    path = root_union.at("db")
    db = sqlite3.connect(path)
    total = db.execute("select sum(n) from t").fetchone()
    assert db.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    db.close()
    writers = [subprocess.Popen([sys.executable, "-c", UPDATES, path, str(seed)])
               for seed in (1, 2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    for _ in range(2):
        db = sqlite3.connect(path)
        assert db.execute("select sum(n) from t").fetchone() == total
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        db.execute("vacuum")
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        db.close()
        root_union.unmount()
        root_union.mount(top)


def test_removes_usr_share(root_union):
    before = os.lstat("/usr/share").st_mtime_ns
    root_union.mount()
    subprocess.run(["rm", "-rf", root_union.at("/usr/share")], check=True, timeout=200)
    for _ in range(2):
        assert not os.path.lexists(root_union.at("/usr/share"))
        assert "share" not in os.listdir(root_union.at("/usr"))
        root_union.unmount()
        root_union.mount()
    assert os.lstat("/usr/share").st_mtime_ns == before
    assert os.listdir(os.path.join(root_union.upper, "usr")) == ["share"]
    os.mkdir(root_union.at("/usr/share"))
    assert os.listdir(root_union.at("/usr/share")) == []


@pytest.mark.parametrize("tree", ["usr/include", "etc", "usr/sbin"])
def test_tar(root_union, base, tree):
    """A tar of the union is the host's byte for byte, and unpacks there to the same tree."""
    root_union.mount()
    pack = ["tar", "--sort=name", "--xattrs", "--acls",
            "--pax-option=delete=atime,delete=ctime", "-cf"]
    archives = []
    for number, root in enumerate(("/", root_union.path)):
        archives.append(f"{base}/{number}.tar")
        subprocess.run([*pack, archives[-1], "-C", root, tree], check=True,
                       stderr=subprocess.DEVNULL)
    assert subprocess.run(["cmp", *archives], check=False).returncode == 0
    copy = root_union.at("/root/copy")
    os.mkdir(copy)
    subprocess.run(["tar", "--xattrs", "--acls", "-C", copy, "-xpf", archives[0]], check=True)
    assert_same_trees(os.path.join("/", tree), os.path.join(copy, tree), base)


def walk(root, limit):
    """lstat up to LIMIT files; how many there were."""
    seen, pending = 0, [root]
    while pending and seen < limit:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return seen


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1))


def is_sanitized(program):
    """True if the program carries a sanitizer, whose memory is not its own."""
    return any(name in trees.read(program) for name in (b"libasan", b"libtsan", b"__asan_init",
                                                        b"__tsan_init"))


@pytest.mark.veneer_only("the kernel's overlayfs has no process to measure")
def test_daemon_memory(root_union):
    if is_sanitized(contenders.VENEER):
        pytest.skip("a sanitizer's memory counts as the daemon's")
    root_union.mount()
    daemon, = root_union.mounted.daemons()
    if walk(root_union.at("/usr"), MEMORY_FILES) < MEMORY_FILES:
        pytest.skip(f"/usr has fewer than {MEMORY_FILES} files")
    assert resident_kib(daemon) < 16 << 10
    deadline = time.monotonic() + 15
    while True:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("2")
        if resident_kib(daemon) < 8 << 10:
            break
        assert time.monotonic() < deadline, f"{resident_kib(daemon)} KiB after drop_caches"
        time.sleep(0.5)
    assert trees.read(root_union.at("/etc/hostname")) == trees.read("/etc/hostname")
