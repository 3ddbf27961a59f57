"""Random layers as values: a tree of Node is drawn from a seed, merged by the rules of the
on-disk format, and realised in a directory.  The merge here is the model's own: it reads no
layer and shares no code with what it judges."""

import os
import stat
import struct

LONG_NAME = 'n' * 255
NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'sp ace', '\udcff\udcfe']
NAME_WEIGHTS = [9, 9, 8, 7, 6, 5, 2, 1]
OWNERS = [(0, 0), (1000, 1000), (1001, 1000), (65534, 65534)]
FILE_MODES = [0o644, 0o600, 0o755, 0o666, 0o4755, 0o2755, 0o2644, 0o000, 0o444, 0o1644]
DIR_MODES = [0o755, 0o777, 0o1777, 0o2777, 0o700, 0o555]
LINK_TARGETS = ['a', 'b', 'c/d', 'd', '../a', 'e/f', 'missing', '.', 'a/b/c', '..', 'x' * 300]
OLD = 1_000_000_000_000_000_000		# explicit times lie here, far before any run
PATTERN = bytes((i * 31 + (i >> 8)) & 255 for i in range(1 << 20))


def pattern(tag, length):
    """length bytes that depend on tag; cheap, so that an operation can name its data."""
    return PATTERN[tag % 9973:tag % 9973 + length]


def acl(rng, default=False):
    """A valid POSIX ACL xattr value; `default` ones get the wider rights directories want."""
    wide = [7, 5, 4] if default else [7, 6, 5, 4, 0]
    entries = [(0x01, rng.choice([7, 6]), 0xffffffff)]
    entries += [(0x02, rng.choice(wide), uid) for uid in sorted(rng.sample([1000, 1001], 1))]
    entries += [(0x04, rng.choice(wide), 0xffffffff)]
    if rng.random() < 0.3:
        entries += [(0x08, rng.choice(wide), 1000)]
    entries += [(0x10, rng.choice(wide), 0xffffffff), (0x20, rng.choice([0, 4, 5]), 0xffffffff)]
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries)


class Node:
    """One object of a layer.  The same Node under two names is a hard link."""

    def __init__(self, kind, mode=0o644, owner=(0, 0), mtime=OLD):
        self.kind, self.mode, self.owner, self.mtime = kind, mode, owner, mtime
        self.xattrs, self.children = {}, {}
        self.extents, self.size = [], 0		# of a file: [(offset, tag, length)]
        self.target, self.rdev = '', 0
        self.opaque = False
        self.links = 0		# names in its own layer

    def clone_shell(self):
        """A directory's attributes without its children."""
        new = Node(self.kind, self.mode, self.owner, self.mtime)
        new.xattrs = dict(self.xattrs)
        return new


class Drawer:
    """Draws one stack of layers, with names as long as they get if long_names."""

    def __init__(self, rng, privileged, long_names, may_link=True):
        self.rng, self.may_mknod, self.may_trusted = rng, privileged, privileged
        self.long_names, self.may_link = long_names, may_link

    def draw_name(self):
        if self.long_names and self.rng.random() < 0.04:
            return LONG_NAME
        return self.rng.choices(NAMES, NAME_WEIGHTS)[0]

    def draw_xattrs(self, node):
        rng = self.rng
        if node.kind in ('file', 'dir') and rng.random() < 0.25:
            for _ in range(rng.randint(1, 3)):
                value = pattern(rng.randrange(9999), rng.choice([0, 1, 20, 300]))
                node.xattrs['user.' + rng.choice('pqrs')] = value
        if self.may_trusted and node.kind != 'whiteout' and rng.random() < 0.1:
            node.xattrs['trusted.t'] = pattern(rng.randrange(9999), 9)
        if node.kind in ('file', 'dir') and rng.random() < 0.1:
            node.xattrs['system.posix_acl_access'] = acl(rng)
        if node.kind == 'dir' and rng.random() < 0.08:
            node.xattrs['system.posix_acl_default'] = acl(rng, default=True)
        if self.may_trusted and node.kind == 'file' and rng.random() < 0.05:
            node.xattrs['security.capability'] = struct.pack('<IIIII', 0x02000001, 0x400, 0, 0, 0)

    def draw_content(self, node):
        rng = self.rng
        kind = rng.random()
        if kind < 0.15:
            return
        if kind < 0.85:
            node.size = rng.choice([1, 7, 100, 4095, 4096, 4097, 9000, 70000])
            node.extents = [(0, rng.randrange(9999), node.size)]
            return
        node.size = rng.choice([65536, 300000, 1 << 20])		# sparse
        for _ in range(rng.randint(0, 3)):
            offset = rng.randrange(node.size // 4096) * 4096
            node.extents.append((offset, rng.randrange(9999), min(4096, node.size - offset)))

    def draw_node(self):
        rng = self.rng
        kinds, weights = ['dir', 'file', 'sym', 'fifo', 'sock'], [36, 36, 10, 3, 2]
        if self.may_mknod:
            kinds, weights = kinds + ['chr', 'blk'], weights + [3, 2]
        kind = rng.choices(kinds, weights)[0]
        node = Node(kind, rng.choice(DIR_MODES if kind == 'dir' else FILE_MODES),
                    rng.choices(OWNERS, [5, 4, 2, 1])[0], OLD + rng.randrange(10 ** 17))
        if kind == 'file':
            self.draw_content(node)
        elif kind == 'sym':
            node.target = rng.choice(LINK_TARGETS)
        elif kind in ('chr', 'blk'):
            node.rdev = rng.choice([os.makedev(1, 3), os.makedev(240, 300), os.makedev(300, 70000)])
        self.draw_xattrs(node)
        return node

    def draw_dir(self):
        rng = self.rng
        return Node('dir', rng.choice(DIR_MODES), rng.choice(OWNERS), OLD + rng.randrange(10 ** 17))

    def draw_layer(self, below, entries):
        """One layer over the merged tree `below` (None at the bottom)."""
        rng, root = self.rng, self.draw_dir()
        files = []
        for _ in range(entries):
            parent, under = root, below
            for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
                # Follow existing directories of this layer or of what is merged below it.
                names = [n for n, c in parent.children.items() if c.kind == 'dir']
                if under:
                    names += [n for n, c in under.children.items() if c.kind == 'dir'
                              and n not in parent.children]
                if not names:
                    break
                name = rng.choice(sorted(set(names)))
                if name not in parent.children:
                    parent.children[name] = self.draw_dir()
                parent = parent.children[name]
                under = under.children.get(name) if under and not parent.opaque else None
                under = under if under and under.kind == 'dir' else None
            self.draw_entry(parent, under, files)
        return root

    def draw_entry(self, parent, under, files):
        rng = self.rng
        hidden = sorted(set(under.children) - set(parent.children)) if under else []
        if hidden and rng.random() < 0.3:
            parent.children[rng.choice(hidden)] = Node('whiteout')
            return
        name = self.draw_name()
        if name in parent.children:
            return
        if files and self.may_link and rng.random() < 0.08:
            parent.children[name] = rng.choice(files)
            return
        node = self.draw_node()
        parent.children[name] = node
        if node.kind == 'file':
            files.append(node)
        if node.kind == 'dir' and under and name in under.children and rng.random() < 0.25:
            node.opaque = True

    def draw_stack(self):
        """[bottom, ..., top] of one to four lower layers, and the merged tree of them."""
        layers, merged = [], None
        for _ in range(self.rng.choice([1, 1, 2, 2, 3, 4])):
            layer = self.draw_layer(merged, self.rng.randint(10, 35))
            for node in walk(layer):
                node.links += 1
            merged = merge(layer, merged)
            layers.append(layer)
        return layers, merged


def walk(node):
    """Every object below node, a hard link once for each name."""
    for child in node.children.values():
        yield child
        yield from walk(child)


def merge(upper, lower):
    """The tree one sees of layer `upper` on the merged tree `lower`."""
    out = upper.clone_shell()
    beneath = lower.children if lower and not upper.opaque else {}
    for name, child in upper.children.items():
        if child.kind == 'whiteout':
            continue
        if child.kind != 'dir':
            out.children[name] = child
            continue
        other = beneath.get(name)
        out.children[name] = merge(child, other if other and other.kind == 'dir' else None)
    for name, child in beneath.items():
        if name not in upper.children:
            out.children[name] = merge(child, None) if child.kind == 'dir' else child
    return out


_MAKE = {'fifo': stat.S_IFIFO, 'sock': stat.S_IFSOCK, 'chr': stat.S_IFCHR, 'blk': stat.S_IFBLK}


class Realiser:
    """Writes a Node tree to a directory.  With share_links=False each name of a hard link
    becomes a file of its own, which is what an overlay without index makes of them.  form is
    how whiteouts are written: as a device, by an xattr, or by name as in OCI layers."""

    def __init__(self, private, share_links=True, form='device'):
        self.private, self.share_links, self.form = private, share_links, form
        self.multi = []		# paths of the files that have several names in their layer
        self.done, self.root = {}, None

    def realise(self, node, path):
        """Fill the existing directory `path` with the children of node."""
        self.root = self.root or node
        for name, child in node.children.items():
            self.make(child, f'{path}/{name}')
        self.dress(node, path)

    def make_whiteout(self, path):
        parent, name = os.path.split(path)
        if self.form == 'device' or (self.form == 'name' and name == LONG_NAME):
            os.mknod(path, stat.S_IFCHR, 0)
            return
        if self.form == 'name':
            path = f'{parent}/.wh.{name}'
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o644))
        if self.form == 'xattr':
            os.setxattr(path, self.private + 'whiteout', b'')

    def make(self, node, path):
        if node.kind == 'whiteout':
            self.make_whiteout(path)
            return
        if node.kind != 'dir' and node in self.done:
            if self.share_links:
                os.link(self.done[node], path, follow_symlinks=False)
                return
        self.done[node] = path
        if node.kind != 'dir' and node.links > 1:
            self.multi.append(path)
        if node.kind == 'dir':
            os.mkdir(path)
            self.realise(node, path)
            return
        if node.kind == 'sym':
            os.symlink(node.target, path)
        elif node.kind == 'file':
            with open(path, 'xb') as file:
                file.truncate(node.size)
                for offset, tag, length in node.extents:
                    file.seek(offset)
                    file.write(pattern(tag, length))
        else:
            os.mknod(path, _MAKE[node.kind] | 0o600, node.rdev)
        self.dress(node, path)

    def add_hidden_links(self, root, hidden):
        """Give files of the realised tree `root` the links of their layer that the merge hid."""
        seen = {}
        for node in walk(root):
            seen[node] = seen.get(node, 0) + 1
        for node, count in seen.items():
            for i in range(count, node.links if node.kind != 'dir' else 0):
                os.link(self.done[node], f'{hidden}/{len(os.listdir(hidden))}',
                        follow_symlinks=False)

    def announces(self, node):
        """Must the directory say that it holds xattr whiteouts?  The root speaks for all."""
        return node is self.root or any(c.kind == 'whiteout' for c in node.children.values())

    def dress(self, node, path):
        os.chown(path, *node.owner, follow_symlinks=False)
        if node.kind != 'sym':
            os.chmod(path, node.mode)
        for name, value in node.xattrs.items():
            os.setxattr(path, name, value, follow_symlinks=False)
        if node.opaque and self.form == 'name':
            os.close(os.open(f'{path}/.wh..wh..opq', os.O_CREAT | os.O_EXCL, 0o644))
        elif node.opaque:
            os.setxattr(path, self.private + 'opaque', b'y')
        elif self.form == 'xattr' and node.kind == 'dir' and self.announces(node):
            os.setxattr(path, self.private + 'opaque', b'x')
        os.utime(path, ns=(node.mtime, node.mtime), follow_symlinks=False)
