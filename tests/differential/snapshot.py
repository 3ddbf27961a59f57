"""What a tree looks like to its users, as plain values that can be compared."""

import errno
import os
import stat
import zlib

import syscalls

_D_TYPES = {stat.S_IFREG: 8, stat.S_IFDIR: 4, stat.S_IFLNK: 10, stat.S_IFCHR: 2, stat.S_IFBLK: 6,
            stat.S_IFIFO: 1, stat.S_IFSOCK: 12}


def mtime_class(mtime_ns, started_ns):
    """A time that was set by hand lies long before the run and counts exactly; the time of a
    change made by the run is only known to be recent."""
    return mtime_ns if mtime_ns < started_ns else 'now'


def stat_record(st, started_ns):
    """The fields of a stat that all contenders must agree on."""
    record = {'mode': oct(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid, 'nlink': st.st_nlink,
              'mtime': mtime_class(st.st_mtime_ns, started_ns)}
    if not stat.S_ISDIR(st.st_mode):
        record['size'] = st.st_size
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        record['rdev'] = st.st_rdev
    return record


def read_xattrs(path):
    """{name: value in hex} of path itself, or the errno name."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as err:
        return errno.errorcode[err.errno]
    if len(set(names)) != len(names):
        return 'duplicate names: ' + ' '.join(names)
    out = {}
    for name in names:
        try:
            out[name] = os.getxattr(path, name, follow_symlinks=False).hex()
        except OSError as err:
            out[name] = errno.errorcode[err.errno]
    return out


def checksum_fd(fd, size):
    """A checksum of what read(2) gives from the descriptor's position to the end."""
    crc = total = 0
    while True:
        data = os.read(fd, 1 << 20)
        if not data:
            break
        crc, total = zlib.crc32(data, crc), total + len(data)
    return f'{crc:08x}' if total == size else f'{crc:08x}, {total} bytes read of {size}'


def read_content(path, size):
    """The checksum of the regular file path."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return checksum_fd(fd, size)
    finally:
        os.close(fd)


def list_dir(path):
    """{name: (d_ino, d_type)}; raises ValueError for a listing that is wrong by itself."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        entries = syscalls.getdents(fd)
    finally:
        os.close(fd)
    out = {name: (ino, dtype) for name, ino, dtype in entries}
    if len(out) != len(entries):
        names = [name for name, _, _ in entries]
        raise ValueError(f'duplicate names in {path!r}: {sorted(names)}')
    if '.' not in out or '..' not in out:
        raise ValueError(f'no dots in {path!r}')
    return out


class Snapshot:
    """records: {path: {field: value}}; inodes: {path: st_ino}; faults: what is wrong in
    itself, as (code, path, text)."""

    def __init__(self, root, started_ns):
        self.root, self.started_ns = root, started_ns
        self.records, self.inodes, self.devs, self.faults = {}, {}, {}, []
        top = os.lstat(root)
        self.records[''] = self._record(root, top)
        self.inodes[''] = top.st_ino
        self._walk('', top, None)

    def _record(self, path, st):
        record = stat_record(st, self.started_ns)
        record['xattrs'] = read_xattrs(path)
        if stat.S_ISREG(st.st_mode):
            record['content'] = read_content(path, st.st_size)
        elif stat.S_ISLNK(st.st_mode):
            record['target'] = os.readlink(path)
        return record

    def _walk(self, rel, st, parent):
        try:
            listing = list_dir(self.root + rel)
        except (OSError, ValueError) as err:
            self.faults.append(('listing', rel, f'listing {rel!r}: {err}'))
            return
        if listing.pop('.')[0] != st.st_ino:
            self.faults.append(('dot', rel, f'd_ino of . in {rel!r} is not st_ino'))
        dots = listing.pop('..')[0]
        if parent and dots != parent.st_ino:
            self.faults.append(('dotdot', rel,
                                f'd_ino of .. in {rel!r} is {dots}, the parent {parent.st_ino}'))
        for name in sorted(listing):
            self._enter(f'{rel}/{name}', listing[name], st)

    def _enter(self, rel, dirent, parent):
        path = self.root + rel
        try:
            st = os.lstat(path)
            self.records[rel] = self._record(path, st)
        except OSError as err:
            self.faults.append(('listed', rel, f'{rel!r} is listed, but: {err.strerror}'))
            return
        self.inodes[rel], self.devs[rel] = st.st_ino, st.st_dev
        if st.st_dev != parent.st_dev:
            self.faults.append(('st_dev', rel, f'{rel!r} has another st_dev than its parent'))
        if dirent[0] != st.st_ino:
            self.faults.append(('d_ino', rel,
                                f'd_ino of {rel!r} is {dirent[0]}, st_ino is {st.st_ino}'))
        if dirent[1] != _D_TYPES[stat.S_IFMT(st.st_mode)]:
            self.faults.append(('d_type', rel,
                                f'd_type of {rel!r} is {dirent[1]}, mode is {st.st_mode:o}'))
        if stat.S_ISDIR(st.st_mode):
            self._walk(rel, st, parent=parent)

    def links(self):
        """The sets of names that are one non-directory inode."""
        groups = {}
        for rel, ino in self.inodes.items():
            if 'size' in self.records[rel]:
                groups.setdefault((self.devs[rel], ino), []).append(rel)
        return {tuple(names) for names in groups.values() if len(names) > 1}


def raw_tree(root):
    """Everything about a layer as it lies on disk, to prove that nothing changed it."""
    out = {}
    for path, dirs, files in os.walk(root):
        for name in ['.'] + dirs + files:
            full = f'{path}/{name}'
            st = os.lstat(full)
            record = [st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size,
                      st.st_mtime_ns, st.st_ctime_ns, st.st_rdev, read_xattrs(full)]
            if stat.S_ISREG(st.st_mode):
                record.append(read_content(full, st.st_size))
            out[full] = record
    return out
