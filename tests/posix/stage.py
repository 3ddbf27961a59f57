"""Where a table runs: a plain directory, or a union with the objects in one place of it."""

import os

import contenders
import oscalls
import trees
from trees import Dir
from union import Union

# A directory of a lower layer is renamed as on any other file system.
OPTIONS = ("redirect_dir=on",)


def _directories(spec):
    """The directories of a declaration without what is in them."""
    if isinstance(spec, dict):
        spec = Dir(children=spec)
    children = {name: _directories(child) for name, child in spec.children.items()
                if isinstance(child, (dict, Dir))}
    return Dir(mode=spec.mode, owner=spec.owner, xattrs=spec.xattrs, mtime=spec.mtime,
               children=children)


class Stage:
    """prepare() once; then `root` is where the tree is to be seen."""

    def __init__(self, base, name, placement, contender, may_differ=False):
        self.base = base
        self.name = name
        self.placement = placement
        self.union = Union(base, contender, OPTIONS, may_differ) if contender else None
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
        lower = {} if self.placement == "upper" else tree
        upper = {"upper": tree, "lower": {}, "merged": _directories(tree).children}[self.placement]
        self.union.declare([lower], upper)
        if guard:
            self.union.guard_lowers()
        self.union.mount()
        return self.root

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
