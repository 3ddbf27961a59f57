"""A mounted union as a test sees it: its layers, its mount, and what must be true afterwards."""

import os
import stat

import trees
from contenders import CONTENDERS, Layers, mounts_below


class Union:
    """Layers in a directory of their own, mounted at `mnt` by one contender."""

    def __init__(self, base, contender, opts=(), may_differ=False):
        self.base = base
        self.contender = contender
        self.opts = tuple(opts)
        self.mnt = os.path.join(base, "mnt")
        self.layers = None
        self.mounted = None
        self._before = []
        self._may_differ = may_differ

    # Building

    def declare(self, lowers, upper=None, data=(), readonly=False):
        """Build the layers; each is a declaration, or the path of a tree that exists."""
        os.mkdir(self.mnt)
        low = [self._layer(f"lower{i}", spec) for i, spec in enumerate(lowers)]
        dat = [self._layer(f"data{i}", spec) for i, spec in enumerate(data)]
        self.layers = Layers(low, data=dat)
        if not readonly:
            self.layers.upper = self._layer("upper", upper or {})
            self.layers.work = self._layer("work", {})

    def _layer(self, name, spec):
        if isinstance(spec, str):
            return spec
        path = os.path.join(self.base, name)
        trees.build(path, spec)
        return path

    def guard_lowers(self):
        """Remember what the lower layers hold; check() compares."""
        self._before = [(path, trees.snapshot(path, nlink=True))
                        for path in self.layers.lowers + self.layers.data]

    # Mounting

    def mount(self, opts=None, contender=None):
        if opts is not None:
            self.opts = tuple(opts)
        if contender:
            contender = CONTENDERS.get(contender, contender)
        self.mounted = (contender or self.contender).mount(self.layers, self.mnt, self.opts)
        return self

    def umount(self):
        """Unmount; everything that must hold of an unmounted union is asserted."""
        mounted, self.mounted = self.mounted, None
        faults = mounted.unmount() if mounted else []
        faults += self._work_faults()
        assert not faults, faults

    def remount(self, opts=None, contender=None):
        self.umount()
        return self.mount(opts, contender)

    # Paths

    @property
    def upper(self):
        return self.layers.upper

    @property
    def work(self):
        return self.layers.work

    @property
    def lowers(self):
        return self.layers.lowers

    def __truediv__(self, path):
        """A path in the union, or the mount point itself for the empty path."""
        return os.path.join(self.mnt, path) if path else self.mnt

    def up(self, path=""):
        return os.path.join(self.upper, path)

    def low(self, path="", layer=0):
        return os.path.join(self.lowers[layer], path)

    # Looking

    @property
    def is_veneer(self):
        return self.contender.name == "veneer"

    def ls(self, path=""):
        return sorted(os.listdir(self / path))

    def read(self, path):
        return trees.read(self / path)

    def write(self, path, data):
        trees.write(self / path, data)

    def append(self, path, data):
        trees.write(self / path, data, "ab")

    def ino(self, path):
        return os.lstat(self / path).st_ino

    def snapshot(self, **kwargs):
        return trees.snapshot(self.mnt, **kwargs)

    def copied_up(self, path):
        """Whether the upper holds this name itself (not a whiteout)."""
        return os.path.lexists(self.up(path)) and not trees.is_whiteout(self.up(path))

    def hidden(self, path):
        return trees.is_whiteout(self.up(path))

    def is_metadata_only(self, path):
        """Whether the upper has this file without its data."""
        return any(name.endswith(".overlay.metacopy") for name in os.listxattr(self.up(path)))

    def leftovers(self):
        """What lies in the work directory and is of no use any more; of a live mount, too."""
        return self._work_faults()

    def pick(self, kernel, veneer):
        """The one place where expectations differ; needs the test to name its deviation."""
        if not self._may_differ:
            raise RuntimeError("pick() in a test without @pytest.mark.deviation")
        return veneer if self.is_veneer else kernel

    # Checking

    def _work_faults(self):
        """Leftovers in workdir.  The kernel keeps the whiteout it hard-links from there."""
        if not self.work:
            return []
        faults = []
        for name in ("work", "index"):
            path = os.path.join(self.work, name)
            if not os.path.isdir(path):
                continue
            left = [each for each in os.listdir(path)
                    if name == "work" or each.startswith("#")]
            left = [each for each in left if each != "incompat"
                    and not trees.is_whiteout(os.path.join(path, each))]
            faults += [f"left in workdir: {name}/{each}" for each in left]
        return faults

    def check(self):
        """Unmount and return every complaint; the union is gone afterwards."""
        faults = []
        try:
            if self.mounted:
                self.umount()
        except AssertionError as error:
            faults.append(str(error))
        for path, before in self._before:
            changed = trees.difference(before, trees.snapshot(path, nlink=True))
            faults += [f"lower layer {os.path.basename(path)} changed: {line}" for line in changed]
        left = mounts_below(self.base)
        if left:
            faults.append(f"left mounted: {left}")
        return faults


def dir_nlink(path):
    """What st_nlink of a directory should be: 2 and its subdirectories."""
    return 2 + sum(stat.S_ISDIR(os.lstat(os.path.join(path, name)).st_mode)
                   for name in os.listdir(path))
