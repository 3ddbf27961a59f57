# SPDX-License-Identifier: MIT
"""Rounds of measurements, the contenders taking turns, so that whatever else the machine does hits all."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import uuid

from . import figures, system
from .stage import Stage
from .trees import Scale, Trees

MARK = "veneer-bench"
# What a run leaves on the disk before it is cleared: see Bench._clear().
LEFTOVERS_MAX = 8 << 30


class Refused(Exception):
    """The run cannot start; str() says why."""


class Bench:
    """The work directory: trees that stay, and one directory for each measurement."""

    def __init__(self, work, ops, scale, who=None):
        self.work = os.path.abspath(work)
        self.ops = os.path.abspath(ops)
        self.scale = Scale(scale)
        self.who = who
        self.trees = Trees(self.work + "/trees", self.ops, self.scale, who)
        self.scratch = self.work + "/scratch"
        self.mnt = self.work + "/mnt"
        self._lock = None

    def __enter__(self):
        if not os.access(self.ops, os.X_OK):
            raise Refused(f"{self.ops} is missing: make it with ninja")
        self._lock = lock(self.work)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for path in (self.scratch, self.mnt):
            os.makedirs(path, exist_ok=True)
        if self.who:
            os.chown(self.mnt, self.who, self.who)
        # Each directory made there gets a place of its own on the disk, by its name, which
        # hence is never one of a run before: ext4 is slow to make files where many were
        # removed in the last minutes.
        subprocess.run(["chattr", "+T", self.scratch], check=False, capture_output=True)
        return self

    def __exit__(self, *_):
        system.unmount(self.mnt)
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._lock.close()

    def measure(self, contender, workload):
        """One number of one workload on one contender."""
        stage = Stage(self, contender, workload, f"{self.scratch}/{uuid.uuid4().hex}")
        if workload.before:
            workload.before(stage)
        system.sync(self.work)
        try:
            stage.mount()
            if workload.cold:
                stage.forget(workload.cold)
            value = workload.run(stage)
        except BaseException:
            # What went wrong, or Ctrl-C, is what counts; not what follows from it.
            with contextlib.suppress(system.Failed):
                stage.unmount()
            raise
        else:
            stage.unmount()
        finally:
            self._clear(stage)
        return value

    def _clear(self, stage):
        """Large files go at once; many small ones at the end, see above."""
        for where in (stage.upper, stage.home + "/copy"):
            for name in ("big", "new"):
                if os.path.isfile(f"{where}/{name}"):
                    os.unlink(f"{where}/{name}")
        usage = os.statvfs(self.scratch)
        if usage.f_bavail * usage.f_frsize < LEFTOVERS_MAX:
            shutil.rmtree(stage.home, ignore_errors=True)

    def rounds(self, contenders, workload, count):
        """Samples by contender; one that failed once does not take part any more."""
        samples = {each.name: [None] * count for each in contenders}
        failed = set()
        for number in range(min(count, workload.rounds_max or count)):
            first = number % len(contenders)
            for each in contenders[first:] + contenders[:first]:
                if each.name in failed or not takes_part(each, workload):
                    continue
                try:
                    samples[each.name][number] = self.measure(each, workload)
                except (system.Failed, OSError, ValueError) as error:
                    failed.add(each.name)
                    print(f"  {workload.name}: {each.name}: {error}", file=sys.stderr)
        return samples, failed

    def run(self, contenders, workloads, rounds, each_done=None):
        """Everything: a result (figures.py) and the (workload, contender) that failed.

        Other overlays do not count there: what they cannot do is their own affair.
        """
        result = {
            "format": figures.FORMAT, "scale": self.scale.name, "rounds": rounds,
            "user": self.who, "machine": system.describe(self.work),
            "contenders": [each.describe() for each in contenders], "workloads": {},
        }
        failures = []
        for workload in workloads:
            self.trees.get(workload.tree)
            samples, failed = self.rounds(contenders, workload, rounds)
            failures += [(workload.name, each.name) for each in contenders
                         if each.name in failed and each.kind != "peer"]
            result["workloads"][workload.name] = {
                "title": workload.title, "kind": workload.kind, "unit": workload.unit,
                "samples": samples}
            if each_done:
                each_done(figures.Result(result), workload.name)
        return result, failures


def takes_part(contender, workload):
    return workload.kinds is None or contender.kind in workload.kinds


def lock(work):
    """One run at a time in a work directory, which is made; the open lock."""
    os.makedirs(work, exist_ok=True)
    mark = os.path.join(work, MARK)
    if os.listdir(work) and not os.path.exists(mark):
        raise Refused(f"{work} is not empty, and not the work directory of a benchmark")
    file = open(mark, "wb")  # pylint: disable=consider-using-with
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Refused(f"another run is going on in {work}") from None
    return file


def clean(work):
    """Remove the work directory, if it is one."""
    if not os.path.exists(work):
        return
    with lock(work):
        shutil.rmtree(work)
