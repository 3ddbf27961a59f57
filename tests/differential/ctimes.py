"""Did an operation change what it is about, by st_ctime?  Times differ between contenders, but
whether they change must not."""

import os
import stat

# A file system may stamp changes by a clock that stands still for so long.
TICK_NS = 20_000_000


def op_paths(op):
    """The paths that an operation may change, with the directories they are in."""
    name, args = op[0], op[3:]
    paths = []
    if name in ('rename', 'link'):
        paths = args[:2]
    elif name in ('symlink', 'link_fd', 'open', 'tmpfile'):
        paths = args[1:2]
    elif isinstance(args[0], str):
        paths = args[:1]
    return sorted({*paths, *(os.path.dirname(path) for path in paths)})


class Stamps:
    """st_ctime of all that an operation may change in one tree, as it is now, by inode."""

    def __init__(self, tree, op):
        self.of, self.inode = {}, {}		# inode: time; where it is found: inode
        for rel in op_paths(op):
            self.take(rel, lambda path=tree.path(rel): os.lstat(path))
        if isinstance(op[3], int) and op[0] != 'map_sync':
            for slot in {op[3], *(op[4:5] if op[0] in ('copy_range', 'sendfile') else [])}:
                if slot in tree.slots:
                    self.take(slot, lambda fd=tree.slots[slot]: os.fstat(fd))

    def take(self, where, how):
        try:
            st = how()
        except OSError:
            return
        self.of[st.st_ino] = (st.st_ctime_ns, stat.S_ISDIR(st.st_mode))
        self.inode[where] = st.st_ino

    def changed_since(self, before):
        """{where it was: did its time change}, of what is still to be found."""
        return {where: self.of[ino][0] != before.of[ino][0]
                for where, ino in before.inode.items() if ino in self.of}

    def may_hide(self, where, since_ns):
        """Was the time so recent that another change may have the same one?"""
        return since_ns - self.of[self.inode[where]][0] < TICK_NS


def judge(want, got, before, since_ns):
    """[(where, text)] of what changed only in one of two trees, with their times before it."""
    out = []
    before_want, before_got = before
    for where in sorted(want.keys() & got.keys(), key=str):
        if want[where] == got[where]:
            continue
        if (before_got if want[where] else before_want).may_hide(where, since_ns):
            continue
        out.append((where, f'ctime of {where!r} ' + ('stays' if want[where] else 'changes')))
    return out
