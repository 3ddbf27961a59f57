# SPDX-License-Identifier: MIT
"""One measurement: a contender freshly mounted, with an empty upper, and means to time work on it."""

import json
import os
import time
import uuid

from . import system, trees


class Stage:
    """`top` is where the union is seen, `own` where its topmost layer is, past the union."""

    def __init__(self, bench, contender, workload, home):
        self.contender = contender
        self.workload = workload
        self.scale = bench.scale
        self.who = bench.who
        self.ops_path = bench.ops
        self.home = home
        self.tag = uuid.uuid4().hex
        self.tree = bench.trees.get(workload.tree)
        self.mnt = bench.mnt
        # `out` is for what a workload makes beside the union.
        self.upper, self.work, self.out = (home + part for part in ("/upper", "/work", "/out"))
        for path in (self.upper, self.work, self.out):
            os.makedirs(path)
        self._own(home, self.upper, self.work, self.out)
        self.top, self.own = self.mnt, self.upper
        if contender.kind == "native":
            self.top = self.own = self._plain()

    def _own(self, *paths):
        for path in paths:
            if self.who:
                os.chown(path, self.who, self.who)

    def _plain(self):
        """The directory itself, or a copy of it for those who change it."""
        if not self.workload.changes:
            return self.tree.plain
        copy = self.home + "/copy"
        system.run(["cp", "-a", self.tree.plain, copy])
        return copy

    def count(self, full, short):
        return self.scale.pick(full, short)

    def mount(self):
        self.contender.mount(self, self.workload.options.get(self.contender.kind, ""))

    def unmount(self):
        self.contender.unmount(self)

    def daemons(self):
        return system.tagged(self.tag)

    def forget(self, what):
        """Names of the whole machine; for "data" also what is in the files of the tree."""
        system.sync(self.home)
        system.forget_names()
        if what == "data":
            for number in range(len(self.tree.layers)):
                system.forget_data(self.tree.layer(number))
            system.forget_data(self.own)

    def ops(self, operation, path="", **options):
        """An operation of bench-ops below the top: what it says it took."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        at = path if path.startswith("/") else os.path.join(self.top, path)
        return json.loads(system.run([self.ops_path, *words, operation, at], who=self.who))

    def median(self, operation, path="", **options):
        return self.ops(operation, path, **options)["median_ns"]

    def total(self, operation, path="", **options):
        return self.ops(operation, path, **options)["total_ns"]

    def job(self, *argv, cwd=None):
        """A whole command, below the top unless told otherwise: ns until it had ended."""
        env = trees.git_environment(self.home)
        cwd = os.path.join(self.top, cwd or "")
        start = time.monotonic_ns()
        system.run(list(argv), who=self.who, cwd=cwd, env=env)
        return time.monotonic_ns() - start
