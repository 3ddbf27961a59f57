"""Where a table runs: a plain directory, or a union with the objects in one place of it."""

import os

import contenders
import oscalls
import trees
from trees import Dir
from union import Union

# A directory of a lower layer is renamed as on any other file system.
OPTIONS = ("redirect_dir=on",)
EVERYTHING = ("redirect_dir=on", "metacopy=on", "index=on")

# Where objects come to lie by what is done through the mount.
BY_HAND = ("copied", "metacopy", "redirected", "covered", "opaque")


def _directories(spec):
    """The directories of a declaration without what is in them."""
    if isinstance(spec, dict):
        spec = Dir(children=spec)
    children = {name: _directories(child) for name, child in spec.children.items()
                if isinstance(child, (dict, Dir))}
    return Dir(mode=spec.mode, owner=spec.owner, xattrs=spec.xattrs, mtime=spec.mtime,
               children=children)


def _something_else(spec):
    """The same names, of other kinds."""
    if isinstance(spec, (dict, Dir)):
        return "was a file"
    return Dir(children={"hidden": "was in a directory"})


def _others(tree):
    """In each of the tree's directories other things than there shall be, and more."""
    return {name: Dir(children={**{each: _something_else(child)
                                   for each, child in spec.children.items()},
                                "-": "covered", "new": "covered", "missing": "covered"})
            for name, spec in tree.items()}


class Stage:
    """prepare() once; then `root` is where the tree is to be seen."""

    def __init__(self, base, name, placement, contender, may_differ=False):
        self.base = base
        self.name = name
        self.placement = placement
        options = EVERYTHING if placement in BY_HAND else OPTIONS
        self.union = Union(base, contender, options, may_differ) if contender else None
        self.root = os.path.join(base, "mnt" if contender else "plain")
        self._may_differ = may_differ

    @property
    def is_veneer(self):
        return self.name == "veneer"

    def prepare(self, tree, guard=True):
        """Build the tree (a dict) and mount; returns the root."""
        if not self.union:
            trees.build(self.root, tree)
            return self.root
        lower, upper = self._layers(tree)
        self.union.declare([lower], upper)
        if guard:
            self.union.guard_lowers()
        self.union.mount()
        if self.placement in BY_HAND:
            getattr(self, f"_make_{self.placement}")(tree)
            self.remount()
        return self.root

    def _layers(self, tree):
        if self.placement == "upper":
            return {}, tree
        if self.placement == "merged":
            return tree, _directories(tree).children
        if self.placement == "redirected":
            return {"r" + name: spec for name, spec in tree.items()}, {}
        if self.placement in ("covered", "opaque"):
            return _others(tree), {}
        return tree, {}

    def _below(self):
        for directory, _dirs, files in os.walk(self.root):
            yield directory
            for name in files:
                yield os.path.join(directory, name)

    def _make_metacopy(self, _tree):
        """What says nothing new still has to be written down."""
        for path in self._below():
            st = os.lstat(path)
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)

    def _make_copied(self, tree):
        self._make_metacopy(tree)
        for path in self._below():
            st = os.lstat(path)
            if trees.stat.S_ISREG(st.st_mode) and st.st_size:
                capability = trees.xattrs(path)
                with open(path, "rb+") as file:
                    data = file.read(1)
                    file.seek(0)
                    file.write(data)
                for name, value in capability:
                    os.setxattr(path, name, value)
                os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def _make_redirected(self, tree):
        for name in tree:
            os.rename(os.path.join(self.root, "r" + name), os.path.join(self.root, name))

    def _make_covered(self, tree):
        """Whiteouts below everything that is there, and where nothing is."""
        for name in tree:
            for each in os.scandir(os.path.join(self.root, name)):
                trees.remove(each.path)
        trees.build(self.root, tree)

    def _make_opaque(self, tree):
        for name in tree:
            trees.remove(os.path.join(self.root, name))
        trees.build(self.root, tree)

    def remount(self):
        """What was in memory only is gone afterwards."""
        if self.union:
            self.union.remount()

    def make_read_only(self):
        """From here on nothing can be changed."""
        if self.union:
            self.union.remount(OPTIONS + ("ro",))
            return
        oscalls.mount(self.root, self.root, "none", oscalls.MS_BIND)
        oscalls.mount("none", self.root, "none",
                      oscalls.MS_BIND | oscalls.MS_REMOUNT | oscalls.MS_RDONLY)

    def serve_data(self):
        """veneer itself reads and writes everything, as it does for all but root."""
        if self.is_veneer:
            self.union.opts += ("data=served",)

    def pick(self, plain, veneer):
        """Where veneer differs; needs the test to name its deviation."""
        if not self._may_differ:
            raise RuntimeError("pick() in a test without @pytest.mark.deviation")
        return veneer if self.is_veneer else plain

    def close(self):
        """Unmount; the complaints."""
        if self.union:
            return self.union.check() if self.union.layers else []
        if contenders.mounts_below(self.root):
            contenders.unmount(self.root)
        return []
