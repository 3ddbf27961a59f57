"""The two implementations every test runs on: veneer and the kernel's overlayfs.

A contender mounts a set of layers at a directory and gives back a Mount.
Nothing here knows about pytest.
"""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

import oscalls
import trees

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
VENEER = os.path.abspath(os.environ.get("VENEER", os.path.join(CHECKOUT, "build", "veneer")))
EXTRA = [opt for opt in os.environ.get("VENEER_OPTS", "").split(",") if opt]
TAG = "VENEER_TEST_TAG"
TIMEOUT = 30


class MountError(Exception):
    """The mount was refused; str() is the reason given."""


@dataclass
class Layers:
    lowers: list
    upper: str | None = None
    work: str | None = None
    data: list = field(default_factory=list)

    def option(self):
        """The layers in the kernel's option spelling."""
        lowerdir = ":".join(map(escape, self.lowers))
        lowerdir += "".join("::" + escape(path) for path in self.data)
        options = [f"lowerdir={lowerdir}"]
        if self.upper:
            options += [f"upperdir={escape(self.upper, colon=False)}",
                        f"workdir={escape(self.work, colon=False)}"]
        return options


def escape(path, colon=True):
    """Escape what separates layers and options."""
    for char in "\\:," if colon else "\\,":
        path = path.replace(char, "\\" + char)
    return path


def requests(mnt, *kinds):
    """How many requests of these kinds the daemon of a mount has had."""
    done = subprocess.run([VENEER, "status", "--json", mnt], capture_output=True, check=True)
    (mount,) = json.loads(done.stdout)["mounts"]
    return sum(entry["count"] for entry in mount["requests"] if entry["kind"] in kinds)


def is_mounted(path):
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(unoctal(line.split()[4]) == path for line in file)


def mounts_below(path):
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [unoctal(line.split()[4]) for line in file]
    return [point for point in points if point == path or point.startswith(path + "/")]


def unoctal(text):
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def tagged_processes(tag):
    """Processes started with this tag in their environment, zombies excluded."""
    wanted, found = f"{TAG}={tag}".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in trees.read(f"/proc/{pid}/environ").split(b"\0"):
                found.append(int(pid))
        except OSError:
            continue
    return found


def unmount(path, seconds=5.0):
    """umount, patient with a short EBUSY (a worker thread may still drop its last reference)."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return oscalls.umount(path)
        except OSError as error:
            if error.errno != 16 or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Mount:
    """A live mount; daemons() are the processes that serve it."""

    def __init__(self, path, tag=None):
        self.path = path
        self.tag = tag

    def daemons(self):
        return tagged_processes(self.tag) if self.tag else []

    def unmount(self):
        """Unmount and wait for the daemon to have ended; the complaints."""
        faults = []
        try:
            unmount(self.path)
        except OSError as error:
            faults.append(f"umount: {error}")
            oscalls.umount(self.path, oscalls.MNT_DETACH)
        if self.tag and not trees.wait_until(lambda: not self.daemons(), 30):
            faults.append(f"daemon still runs after umount: {self.daemons()}")
            for pid in self.daemons():
                os.kill(pid, 9)
        return faults


class Kernel:
    name = "kernel"

    def missing(self):
        """Why this contender cannot run here, or None."""
        with open("/proc/filesystems", encoding="ascii") as file:
            if "overlay" not in file.read():
                return "the kernel has no overlayfs"
        return None

    def mount(self, layers, path, opts=()):
        flags = oscalls.MS_RDONLY if "ro" in opts else 0
        data = ",".join(layers.option() + [opt for opt in opts if opt != "ro"])
        try:
            oscalls.mount("overlay", path, "overlay", flags, data)
        except OSError as error:
            raise MountError(str(error)) from error
        return Mount(path)


class Veneer:
    name = "veneer"
    like_kernel = False   # write as a kernel mount with the same options does
    _count = 0

    def missing(self):
        if not os.access(VENEER, os.X_OK):
            return f"no veneer program at {VENEER} (build it, or set VENEER)"
        if not os.path.exists("/dev/fuse"):
            return "no /dev/fuse"
        return None

    def mount(self, layers, path, opts=()):
        opts = list(opts)
        if self.like_kernel:
            if not any(opt.startswith("redirect_dir") or opt == "metacopy=on" for opt in opts):
                opts.insert(0, "redirect_dir=follow")
            opts.insert(0, "compat=kernel")
        options = ",".join(layers.option() + opts + EXTRA)
        return self.run(["-o", options, path], path)

    def run(self, args, path, **popen):
        """Run veneer with these arguments, which mount at path."""
        Veneer._count += 1
        tag = f"{os.getpid()}.{Veneer._count}"
        env = {**popen.pop("env", os.environ), TAG: tag}
        mount = Mount(path, tag)
        with tempfile.TemporaryFile() as output:
            # A file, not a pipe: a daemon that kept it open must not hang the test.
            try:
                done = subprocess.run([VENEER, *args], env=env, stdin=subprocess.DEVNULL,
                                      stdout=output, stderr=output, timeout=TIMEOUT, check=False,
                                      **popen)
            except subprocess.TimeoutExpired:
                self._abandon(mount)
                raise
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        mount.output = text
        if done.returncode != 0:
            if is_mounted(path):
                self._abandon(mount)
                raise AssertionError(f"veneer failed ({text}) but left a mount")
            raise MountError(text or f"exit status {done.returncode} without a reason")
        if not is_mounted(path):
            raise AssertionError("veneer returned 0 but nothing is mounted")
        return mount

    def _abandon(self, mount):
        try:
            oscalls.umount(mount.path, oscalls.MNT_DETACH)
        except OSError:
            pass
        for pid in mount.daemons():
            os.kill(pid, 9)


CONTENDERS = {contender.name: contender for contender in (Kernel(), Veneer())}


def other(contender):
    return CONTENDERS["veneer" if contender.name == "kernel" else "kernel"]
