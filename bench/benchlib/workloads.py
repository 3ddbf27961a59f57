# SPDX-License-Identifier: MIT
"""The workloads: each on a fresh mount, giving one number.

A workload of kind "time" gives ns, which become ratios to kernel overlayfs; one of
kind "figure" gives a number that means something by itself. criteria.toml says by
name what is to be reached.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from . import contenders, system

HERE = os.path.dirname(os.path.abspath(__file__))
# How long a daemon may take to come to rest, and is then watched.
REST, WATCHED = 3.0, 2.0
# How often what takes some milliseconds is done for one number.
RUNS = 10


@dataclass
class Workload:
    name: str
    title: str
    tree: str
    run: callable
    # What is forgotten after mounting: None, "names", or "data" as well.
    cold: str | None = None
    # Whether it changes the tree.
    changes: bool = False
    # Part of a short run, or of any in which it is not asked for by name.
    is_short: bool = True
    is_usual: bool = True
    # Mount options by kind of contender.
    options: dict = field(default_factory=dict)
    # What is done to the upper before it is mounted.
    before: callable = None
    kind: str = "time"
    unit: str = "ns"
    # Of what needs no repeating: as many rounds as this; 0 for all.
    rounds_max: int = 0
    # RLIMIT_NOFILE of the daemon; 0: as it is here.
    descriptors_max: int = 0
    # Which kinds of contender it means anything for; all if None.
    kinds: tuple | None = None


WORKLOADS = {}


def workload(name, title, tree, **more):
    def register(function):
        WORKLOADS[name] = Workload(name, title, tree, function, **more)
        return function
    return register


def small_tree(stage):
    return stage.count(20000, 2000)


# Looking.

@workload("walk-cold", "walk of a large tree, cold", "files", cold="names")
def walk_cold(stage):
    return stage.total("walk", "t")


@workload("walk-warm", "walk of a large tree, warm", "files")
def walk_warm(stage):
    stage.ops("walk", "t")
    return stage.total("walk", "t")


def by_path(name, what, operation, is_cold_too=True):
    """An operation on many files, for the first time and once more."""
    def cold(stage):
        return stage.median(operation, "t", count=small_tree(stage))

    def warm(stage):
        stage.ops(operation, "t", count=small_tree(stage))
        return stage.median(operation, "t", count=small_tree(stage))
    if is_cold_too:
        workload(f"{name}-cold", f"{what}, cold", "files", cold="names")(cold)
    workload(f"{name}-warm", f"{what}, warm", "files")(warm)


by_path("stat", "stat", "stat")
by_path("missing", "missing name", "missing")
by_path("open", "open + close", "open")
by_path("open-read", "open + read 4k + close", "read", is_cold_too=False)


def add_listing(entries, layers, is_short, is_cold_too=True):
    name, tree = f"{entries // 1000}k-{layers}", f"names-{entries}-{layers}"
    title = f"readdir, {entries // 1000}k names in {layers} layers"

    def cold(stage):
        return stage.median("list", "dir")

    def warm(stage):
        stage.ops("list", "dir")
        return stage.median("list", "dir", count=stage.count(20, 5))
    if is_cold_too:
        workload(f"readdir-{name}-cold", f"{title}, cold", tree, cold="names",
                 is_short=is_short)(cold)
    workload(f"readdir-{name}-warm", f"{title}, warm", tree, is_short=is_short)(warm)


add_listing(1000, 2, is_short=True)
add_listing(1000, 8, is_short=False)
add_listing(1000, 64, is_short=True)
add_listing(100000, 2, is_short=True, is_cold_too=False)


def add_missing(layers, is_short):
    @workload(f"missing-{layers}", f"missing name under {layers} layers", f"stack-{layers}",
              is_short=is_short)
    def missing(stage):
        stage.ops("list", "dir")
        return stage.median("missing-in", "dir", count=stage.count(2000, 400))


add_missing(8, is_short=True)
add_missing(64, is_short=False)
add_missing(128, is_short=True)


# Data.

def big_size(stage):
    return stage.count(1 << 30, 1 << 27)


def fill_upper(stage):
    stage.ops("fill", stage.own + "/big", size=big_size(stage))


def read_cold(stage):
    return stage.total("read-all", "big")


def read_warm(stage):
    stage.ops("read-all", "big")
    return stage.total("read-all", "big")


workload("read-lower-cold", "sequential read of a lower file, cold", "big", cold="data")(read_cold)
workload("read-lower-warm", "sequential read of a lower file, warm", "big")(read_warm)
workload("read-upper-cold", "sequential read of an upper file, cold", "empty", cold="data",
         changes=True, before=fill_upper, is_short=False)(read_cold)
workload("read-upper-warm", "sequential read of an upper file, warm", "empty", changes=True,
         before=fill_upper, is_short=False)(read_warm)


@workload("random-read", "random read of a lower file, warm", "big")
def random_read(stage):
    stage.ops("read-all", "big")
    return stage.median("read-random", "big", count=stage.count(50000, 10000))


@workload("mmap", "mmap faults of a lower file, warm", "big")
def mmap_faults(stage):
    stage.ops("read-all", "big")
    return stage.median("fault", "big", count=stage.count(500, 100))


@workload("write", "sequential write", "empty", changes=True)
def write(stage):
    return stage.total("write-all", "new", size=big_size(stage))


@workload("random-write", "random write", "empty", changes=True)
def random_write(stage):
    stage.ops("write-all", "new", size=stage.count(1 << 28, 1 << 26))
    return stage.median("write-random", "new", count=stage.count(20000, 4000))


@workload("append-fsync", "append + fsync", "empty", changes=True)
def append_fsync(stage):
    return stage.median("append-sync", "log", count=stage.count(500, 100))


# Changes.

def on_new(name, title, operation, full, short, prepare="create", **more):
    """An operation on files, or in directories, that were just made."""
    @workload(name, title, "empty", changes=True, **more)
    def run(stage):
        count = stage.count(full, short)
        stage.ops("directories", "new", count=count)
        if prepare:
            stage.ops(prepare, "new", count=count)
        return stage.median(operation, "new", count=count)


def on_lower(name, title, operation, **more):
    """An operation on files of a lower layer."""
    @workload(name, title, "some", changes=True, **more)
    def run(stage):
        return stage.median(operation, "t", count=stage.count(3000, 800))


on_new("create", "create + write 4k + close", "create", 10000, 1000, prepare=None)
on_new("mkdir", "mkdir", "mkdir", 5000, 800, prepare=None)
on_new("symlink", "symlink", "symlink", 5000, 800, prepare=None)
on_new("link", "link", "link", 5000, 800)
on_new("unlink-upper", "unlink of an upper file", "unlink", 5000, 800)
on_new("rename-upper", "rename of an upper file", "rename", 5000, 800)
on_new("chmod-upper", "chmod of an upper file", "chmod", 5000, 800)
on_lower("unlink-lower", "unlink of a lower file", "unlink")
on_lower("rename-lower", "rename of a lower file", "rename")
on_lower("first-write", "first write to a 4k lower file, same durability", "write")
on_lower("first-write-volatile", "first write to a 4k lower file, volatile", "write",
         options={"veneer": "fsync=volatile"})


# Whole jobs.

@workload("rm-rf", "rm -rf of a merged tree", "pair", changes=True)
def remove_tree(stage):
    return stage.job("rm", "-rf", "t")


@workload("copy-out", "copying a merged tree out", "pair", cold="names")
def copy_out(stage):
    return stage.job("cp", "-r", "t", stage.out)


@workload("untar", "untar", "archive", changes=True)
def untar(stage):
    return stage.job("tar", "-xf", stage.tree.home + "/sources.tar", cwd="dir")


GIT_STATUS = ("git", "--no-optional-locks", "status", "--porcelain")


@workload("git-checkout", "git checkout", "repository", changes=True)
def git_checkout(stage):
    stage.job("git", "update-index", "-q", "--refresh", cwd="repo")
    return stage.job("git", "checkout", "-q", "two", cwd="repo")


@workload("git-status", "git status, warm", "repository", changes=True)
def git_status(stage):
    stage.job("git", "update-index", "-q", "--refresh", cwd="repo")
    stage.job(*GIT_STATUS, cwd="repo")
    return stage.job(*GIT_STATUS, cwd="repo")


@workload("sqlite", "sqlite transactions", "empty", changes=True)
def sqlite(stage):
    return int(system.run([sys.executable, HERE + "/sqlite_job.py", stage.top + "/database",
                           str(stage.count(300, 60))], who=stage.who))


@workload("c-build", "C build, make -j2", "project", changes=True)
def c_build(stage):
    return stage.job("make", "-s", "-j2", cwd="project")


# Two processes at once: their throughput together, relative to one's.

def in_parallel(name, title, operation, tree, **more):
    @workload(f"parallel-{name}", f"two processes in parallel, {title}", tree, kind="figure",
              unit="times", **more)
    def run(stage):
        count, top = stage.count(10000, 1000), "t"
        if tree == "empty":
            top = "new"
            stage.ops("directories", top, count=3 * count)
        one = stage.total(operation, top, count=count, jobs=1)
        two = stage.total(operation, top, first=count, count=count, jobs=2)
        return 2 * one / two


in_parallel("stat", "stat", "stat", "files", cold="names")
in_parallel("create", "create", "create", "empty", changes=True)
in_parallel("read", "open + read 4k + close", "read", "files", cold="names")


# The daemon itself.

def of_daemon(name, title, unit, tree="files", **more):
    return workload(name, title, tree, kind="figure", unit=unit, kinds=("veneer", "peer"), **more)


@of_daemon("ready", "mount ready", "ms", tree="empty")
def ready(stage):
    stage.unmount()
    return contenders.mount_seconds(stage.contender, stage) * 1e3


@workload("run-true", "veneer run -- true, beyond true alone", "empty", kind="figure", unit="ms", kinds=("veneer",))
def run_true(stage):
    """All of it: the command begins about halfway. The quickest of some, as nothing is to be warmed up but the cache."""
    def seconds(*command):
        begin = time.perf_counter()
        system.run([*command, "true"], who=stage.who, env={**os.environ, "HOME": stage.out, "XDG_STATE_HOME": ""})
        return time.perf_counter() - begin
    run = [stage.contender.path, "run", "--discard", "--"]
    return (min(seconds(*run) for _ in range(RUNS)) - min(seconds() for _ in range(RUNS))) * 1e3


@of_daemon("memory-idle", "resident memory, idle", "KiB", tree="empty")
def memory_idle(stage):
    return system.resident_kib(stage.daemons())


@of_daemon("memory-walk", "resident memory after the walk", "KiB")
def memory_walk(stage):
    stage.ops("walk", "t")
    return system.resident_kib(stage.daemons())


def descriptors_used(stage):
    stage.ops("walk", "t")
    stage.ops("read", "t", count=small_tree(stage))
    return system.descriptors(stage.daemons())


of_daemon("descriptors", "descriptors after the walk, files read", "count")(descriptors_used)
of_daemon("descriptors-1024", "the same where 1024 are allowed", "count",
          descriptors_max=1024)(descriptors_used)


@of_daemon("memory-2m", "resident memory after a walk of 2 million files", "KiB", tree="millions",
           rounds_max=1, is_usual=False)
def memory_2m(stage):
    stage.ops("walk", "t")
    return system.resident_kib(stage.daemons())


@of_daemon("memory-2m-later", "the same when the kernel has forgotten them", "KiB",
           tree="millions", rounds_max=1, is_usual=False)
def memory_2m_later(stage):
    stage.ops("walk", "t")
    system.forget_names()
    time.sleep(REST)
    return system.resident_kib(stage.daemons())


@of_daemon("descriptors-2m", "descriptors after a walk of 2 million files, of 1024", "count",
           tree="millions", rounds_max=1, is_usual=False, descriptors_max=1024)
def descriptors_2m(stage):
    stage.ops("walk", "t")
    return system.descriptors(stage.daemons())


def idle_effort(stage):
    """Processor time and context switches while nobody asks anything, after some work.

    What the kernel may forget is forgotten before: else anyone who is short of memory, or
    drops the machine's caches, sends requests.
    """
    stage.ops("walk", "t")
    system.forget_names()
    time.sleep(REST)
    pids = stage.daemons()
    before = system.effort(pids)
    time.sleep(WATCHED)
    return [after - then for after, then in zip(system.effort(pids), before)]


@of_daemon("idle-cpu", f"processor time in {WATCHED:g} idle seconds", "us", tree="pair",
           rounds_max=1)
def idle_cpu(stage):
    return idle_effort(stage)[0] / 1e3


@of_daemon("idle-switches", f"context switches in {WATCHED:g} idle seconds", "count", tree="pair",
           rounds_max=1, is_short=False)
def idle_switches(stage):
    return idle_effort(stage)[1]


def matches(each, pattern):
    """By prefix, but for what takes so long that nobody should get it by accident."""
    return fnmatchcase(each.name, pattern) or (each.is_usual and each.name.startswith(pattern))


def choose(only, is_short):
    """Those of --only, which are prefixes or shell patterns; else all there is, or is short."""
    patterns = [pattern for pattern in (only or "").split(",") if pattern]
    if not patterns:
        return [each for each in WORKLOADS.values()
                if each.is_usual and (each.is_short or not is_short)]
    unknown = [pattern for pattern in patterns
               if not any(matches(each, pattern) for each in WORKLOADS.values())]
    if unknown:
        raise KeyError(", ".join(unknown))
    return [each for each in WORKLOADS.values()
            if any(matches(each, pattern) for pattern in patterns)]
