# SPDX-License-Identifier: MIT
"""What is compared: a plain directory, the kernel's overlayfs, veneer, and other FUSE overlays."""

import contextlib
import os
import shutil
import time

from . import system


class Contender:
    """Mounts the layers of a stage. `kind` is what it is, `mode` which criteria hold for it."""

    kind = "peer"
    mode = None
    # Whether it is an ordinary user who mounts, in a run for one.
    is_by_user = False

    def __init__(self, name):
        self.name = name

    def command(self, stage, options):
        raise NotImplementedError

    def mount(self, stage, options=""):
        who = stage.who if self.is_by_user else None
        command, limit = self.command(stage, options), stage.workload.descriptors_max
        if limit:
            command = ["prlimit", f"--nofile={limit}:{limit}", *command]
        # Layers are named relative to the tree: 128 full paths are more than mount(2) takes.
        system.run(command, who=who, cwd=stage.tree.home, timeout=60,
                   env={**os.environ, system.TAG: stage.tag})

    def unmount(self, stage):
        was_forced = system.unmount(stage.mnt)
        has_ended = system.end_tagged(stage.tag, stage.mnt)
        if was_forced or not has_ended:
            raise system.Failed(f"{self.name}: could not be unmounted in peace")

    def describe(self):
        return {"name": self.name, "kind": self.kind, "mode": self.mode}


def overlay_options(stage, *more):
    words = [f"lowerdir={':'.join(stage.tree.layers)}", f"upperdir={stage.upper}",
             f"workdir={stage.work}"]
    return ",".join(words + [word for word in more if word])


class Native(Contender):
    """No overlay at all."""

    kind = "native"

    def mount(self, stage, options=""):
        pass

    def unmount(self, stage):
        pass


class Kernel(Contender):
    kind = "kernel"

    def command(self, stage, options):
        return ["mount", "-t", "overlay", "overlay", "-o", overlay_options(stage, options),
                stage.mnt]


class Veneer(Contender):
    """`spec` is PATH[,OPTION...]: a binary and mount options for it."""

    kind = "veneer"
    is_by_user = True

    def __init__(self, spec, is_user, name=None):
        path, *self.options = spec.split(",")
        self.path = os.path.abspath(path)
        super().__init__(name or self._name())
        data = [word[5:] for word in self.options if word.startswith("data=")]
        # What data=auto comes to (veneer(5)).
        self.mode = data[-1] if data and data[-1] != "auto" else (
            "served" if is_user else "passthrough")

    def _name(self):
        return "+".join(word.removeprefix("data=") for word in self.options) or "veneer"

    def missing(self):
        return None if os.access(self.path, os.X_OK) else f"no program {self.path}"

    def command(self, stage, options):
        return [self.path, "-o", overlay_options(stage, *self.options, options), stage.mnt]

    def describe(self):
        return {**super().describe(), "options": self.options}


class FuseOverlayfs(Contender):
    is_by_user = True

    def command(self, stage, options):
        return ["fuse-overlayfs", "-o", overlay_options(stage, options), stage.mnt]


class Branches(Contender):
    """unionfs-fuse and mergerfs: a list of branches, the first of which can be written."""

    is_by_user = True

    def __init__(self, name, program, mark, *words):
        super().__init__(name)
        self.program, self.mark, self.words = program, mark, words

    def mount(self, stage, options=""):
        # What they call read-only is still written to in place.
        for layer in self.layers(stage):
            system.run(["mount", "--bind", layer, layer])
            system.run(["mount", "-o", "remount,bind,ro", layer])
        super().mount(stage, options)

    def unmount(self, stage):
        super().unmount(stage)
        for layer in self.layers(stage):
            system.unmount(layer)

    @staticmethod
    def layers(stage):
        return [os.path.join(stage.tree.home, layer) for layer in stage.tree.layers]

    def command(self, stage, options):
        branches = [f"{stage.upper}{self.mark}RW"]
        branches += [f"{layer}{self.mark}RO" for layer in self.layers(stage)]
        return [self.program, *self.words, ":".join(branches), stage.mnt]


def peers():
    """Those that are installed here."""
    found = [
        (FuseOverlayfs("fuse-overlayfs"), "fuse-overlayfs"),
        (Branches("unionfs-fuse", "unionfs", "=", "-o", "cow"), "unionfs"),
        (Branches("mergerfs", "mergerfs", "=", "-o", "category.create=ff"), "mergerfs"),
    ]
    return [peer for peer, program in found if shutil.which(program)]


def distinct(contenders):
    """Give those a number whose name another has already."""
    seen = {}
    for contender in contenders:
        seen[contender.name] = seen.get(contender.name, 0) + 1
        if seen[contender.name] > 1:
            contender.name += f"#{seen[contender.name]}"
    return contenders


def mount_seconds(contender, stage):
    """How long it takes until a new mount can be used."""
    start = time.monotonic()
    contender.mount(stage)
    with contextlib.suppress(PermissionError):  # an ordinary user's is for nobody else
        os.stat(stage.mnt)
    return time.monotonic() - start
