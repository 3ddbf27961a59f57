"""Fixtures: a private mount namespace, a scratch file system, and unions on both contenders.

Every test that asks for `union` runs once on kernel overlayfs and once on
veneer.  `@pytest.mark.veneer_only(reason)` limits a test to veneer; a test in
which the two legitimately differ carries `@pytest.mark.deviation("D-nn")`, an
entry of docs/deviations.md.
"""

import os
import pickle
import subprocess
import tempfile
import traceback

import pytest

import contenders
import oscalls
import trees
from union import Union

IMAGE_SIZE = 12 << 30


def pytest_configure(config):
    config.addinivalue_line("markers", "deviation(id): veneer and the kernel differ as documented")
    config.addinivalue_line("markers", "veneer_only(reason): there is no kernel counterpart")


def pytest_generate_tests(metafunc):
    if "contender" not in metafunc.fixturenames:
        return
    names = ["kernel", "veneer"]
    if metafunc.definition.get_closest_marker("veneer_only"):
        names = ["veneer"]
    metafunc.parametrize("contender", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def private_namespace():
    """Mounts made by the tests are in a namespace of our own: nothing can outlive us."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts are made")
    oscalls.unshare(oscalls.CLONE_NEWNS)
    oscalls.mount("none", "/", "none", oscalls.MS_REC | oscalls.MS_PRIVATE)


@pytest.fixture(scope="session")
def contender(request, private_namespace):
    chosen = contenders.CONTENDERS[request.param]
    reason = chosen.missing()
    if reason:
        pytest.skip(reason)
    return chosen


class Scratch:
    """Loop-mounted file systems in image files, all below one directory."""

    def __init__(self, directory):
        self.directory = directory
        self.mounts = []
        self._count = 0

    def path(self, stem):
        self._count += 1
        return os.path.join(self.directory, f"{stem}{self._count}")

    def mount(self, source, fstype, options=""):
        target = self.path("fs")
        os.mkdir(target)
        options = ",".join(filter(None, ["loop" if os.path.isfile(source) else "", options]))
        subprocess.run(["mount", "-t", fstype, *(["-o", options] if options else []), source,
                        target], check=True, capture_output=True)
        self.mounts.append(target)
        return target

    def make(self, fstype, size=400 << 20, mkfs=(), options=""):
        """A new file system of this type, mounted."""
        if fstype == "tmpfs":
            return self.mount("tmpfs", "tmpfs", f"size={size}")
        image = self.path("image")
        with open(image, "wb") as file:
            file.truncate(size)
        subprocess.run([f"mkfs.{fstype}", "-q", *mkfs, image], check=True, capture_output=True)
        return self.mount(image, fstype, options)

    def close(self):
        for target in reversed(self.mounts):
            contenders.unmount(target)
            os.rmdir(target)
        self.mounts = []


def _scratch_home():
    """Memory where there is plenty of it: the tests fsync often."""
    shm = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    return "/dev/shm" if shm and shm.f_bavail * shm.f_bsize > 4 << 30 else "/var/tmp"


@pytest.fixture(scope="session")
def session_scratch(private_namespace):
    """File systems for the whole session."""
    with tempfile.TemporaryDirectory(prefix="veneer-e2e-", dir=_scratch_home()) as home:
        os.chmod(home, 0o755)
        made = Scratch(home)
        yield made
        made.close()


@pytest.fixture(scope="session")
def ext4(session_scratch):
    """The file system most layers live on."""
    return session_scratch.make("ext4", IMAGE_SIZE, ["-N", "600000", "-m", "0", "-O", "^has_journal"],
                                "noinit_itable")


@pytest.fixture(scope="session")
def bulk(ext4):
    """A lower layer with one file of 200 MiB, whose copy-up takes a while, and small ones elsewhere."""
    path = os.path.join(ext4, "bulk")
    trees.build(path, {"big": {}, "other": {f"n{i}": "" for i in range(50)}})
    with open(os.path.join(path, "big/file"), "wb") as file:
        for i in range(50):
            file.write(bytes([i]) * (4 << 20))
    return path


@pytest.fixture
def scratch(ext4, request):
    """Further file systems for one test."""
    with tempfile.TemporaryDirectory(prefix="veneer-fs-", dir=_scratch_home()) as home:
        os.chmod(home, 0o755)
        made = Scratch(home)
        yield made
        made.close()


@pytest.fixture
def base(ext4):
    """An empty directory on the scratch file system, removed afterwards."""
    path = tempfile.mkdtemp(prefix="t", dir=ext4)
    os.chmod(path, 0o755)
    yield path
    for left in reversed(contenders.mounts_below(path)):
        oscalls.umount(left, oscalls.MNT_DETACH)
    trees.remove(path)


@pytest.fixture
def union_factory(request, base, scratch, contender):
    """make(lowers..., upper=, opts=, ...) -> Union, not yet mounted; checked at teardown."""
    made = []
    may_differ = request.node.get_closest_marker("deviation") is not None

    def make(*lowers, upper=None, data=(), opts=(), readonly=False, guard=True, where=None):
        home = os.path.join(where or base, f"u{len(made)}")
        os.makedirs(home, exist_ok=True)
        union = Union(home, contender, opts, may_differ)
        union.declare(lowers, upper, data, readonly)
        if guard:
            union.guard_lowers()
        made.append(union)
        return union

    yield make
    faults = [fault for union in reversed(made) for fault in union.check()]
    assert not faults, "\n".join(faults)


@pytest.fixture
def union(union_factory):
    """make(lowers..., upper=, opts=, ...) -> Union, mounted."""
    return lambda *lowers, **kwargs: union_factory(*lowers, **kwargs).mount()


@pytest.fixture
def as_user():
    """as_user(uid, function, gid=, groups=): run function in a child without privileges."""
    return run_as


def run_as(uid, function, gid=None, groups=(), umask=0o022):
    """Run function as a user in a forked child; its result, or its exception raised here."""
    gid = uid if gid is None else gid

    def change():
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        os.umask(umask)
        return function()
    return in_child(change)


def in_child(function):
    """Run function in a forked child; its result, or its exception raised here."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            try:
                answer = (True, function())
            except BaseException as error:  # pylint: disable=broad-except
                answer = (False, _portable(error))
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    if not raw:
        raise RuntimeError("the child died")
    good, value = pickle.loads(raw)
    if not good:
        raise value
    return value


def _portable(error):
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename)
    return AssertionError("in the child:\n" + "".join(traceback.format_exception(error)))


@pytest.fixture
def child():
    """child(function): run function in a forked child and return its result."""
    return in_child


def pytest_collection_modifyitems(items):
    """Keep the contenders' runs of a test next to each other: a difference is seen at once."""
    items.sort(key=lambda item: (str(item.path), _line(item)))


def _line(item):
    function = getattr(item, "function", None)
    return function.__code__.co_firstlineno if function else 0
