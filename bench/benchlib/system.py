# SPDX-License-Identifier: MIT
"""Processes, mounts and caches of the machine, and what the machine is.

Nothing that is started here outlives the run: commands have a session of their own
that is ended with them, and daemons carry a tag by which they are found.
"""

import ctypes
import errno
import os
import platform
import signal
import subprocess
import time

TAG = "VENEER_BENCH_TAG"
TIMEOUT = 600

_libc = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2


class Failed(Exception):
    """A command failed or took too long; str() is what it said."""


def run(argv, who=None, cwd=None, env=None, timeout=TIMEOUT):
    """Run a command to its end, as another user if one is given; its standard output."""
    as_user = {"user": who, "group": who, "extra_groups": []} if who else {}
    if who and cwd:
        # Python changes directory before it changes user: root is not let into a user's mount.
        argv, cwd = ["env", "-C", cwd, *argv], None
    with subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, **as_user) as process:
        try:
            out, complaint = process.communicate(timeout=timeout)
        except BaseException as error:
            end_session(process.pid)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"{argv[0]}: took more than {timeout} s") from error
            raise
        if process.returncode:
            words = complaint.strip()[-300:].replace("\n", " | ") or f"{argv[0]}: status {process.returncode}"
            raise Failed(words)
        return out


def end_session(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def tagged(tag):
    """Processes that were started with this tag in their environment."""
    wanted, found = f"{TAG}={tag}".encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def end_tagged(tag, mnt, patience=10.0):
    """Wait for the tagged processes to end, and end them if they do not; whether they did.

    One whose start was interrupted may mount only now: that is unmounted as well.
    """
    deadline = time.monotonic() + patience
    while tagged(tag):
        if time.monotonic() > deadline:
            for pid in tagged(tag):
                os.kill(pid, signal.SIGKILL)
            return False
        _libc.umount2(os.fsencode(mnt), 0)
        time.sleep(0.005)
    return True


def unmount(path, patience=5.0):
    """Patient with a short EBUSY, and forceful in the end; whether force was needed."""
    deadline = time.monotonic() + patience
    while _libc.umount2(os.fsencode(path), 0) < 0:
        if ctypes.get_errno() == errno.EINVAL:
            return False
        if time.monotonic() > deadline:
            _libc.umount2(os.fsencode(path), _MNT_DETACH)
            return True
        time.sleep(0.01)
    return False


def sync(path):
    subprocess.run(["sync", "-f", path], check=True)


def forget_names():
    """Directory entries and inodes that nobody uses, of the whole machine."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")


def forget_data(directory):
    """The cached pages of the files right in a directory, which must be on disk already."""
    for entry in os.scandir(directory):
        if entry.is_file(follow_symlinks=False):
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def resident_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return total


def descriptors(pids):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def effort(pids):
    """Processor time in ns and context switches of all threads so far."""
    cpu = switches = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                cpu += int(file.read().split()[0])
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii",
                      errors="replace") as file:
                switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return cpu, switches


def _first(path, prefix="", default="?"):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(prefix):
                    return line[len(prefix):].lstrip("\t :").strip()
    except OSError:
        pass
    return default


def describe(work):
    """What a reader of the figures wants to know of the machine."""
    filesystem = run(["findmnt", "-n", "-o", "FSTYPE", "-T", work]).strip()
    memory = int(_first("/proc/meminfo", "MemTotal", "0 kB").split()[0])
    return {
        "kernel": platform.release(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count(),
        "memory_mib": memory // 1024,
        "filesystem": filesystem,
        "io_uring": _first("/sys/module/fuse/parameters/enable_uring", default="not there"),
        "date": time.strftime("%Y-%m-%d"),
    }
