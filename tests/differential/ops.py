"""The operations: each is drawn once as plain data (a replayable script line) and then done
by every contender.  An operation's result is a value; an OSError becomes its errno name."""

import errno
import mmap
import os
import stat

import kept
import syscalls
from layers import LINK_TARGETS, acl, pattern
from snapshot import checksum_fd, list_dir, read_xattrs, stat_record

USERS = [(1000, 1000), (1001, 1000), (1001, 1001)]
SLOTS = 8
MODES = [0o644, 0o600, 0o755, 0o777, 0o4755, 0o2775, 0o1777, 0o000, 0o444, 0o2644]


class Tree:
    """One contender's mounted tree together with the descriptors kept open on it."""

    def __init__(self, contender, started_ns):
        self.contender, self.root, self.started_ns = contender, contender.root, started_ns
        self.slots, self.maps, self.streams = {}, {}, {}	# streams: by the slot they read

    def path(self, rel):
        return f'{self.root}/{rel}'

    def fd(self, slot):
        if slot not in self.slots:
            raise OSError(errno.EBADF, 'empty slot')
        return self.slots[slot]

    def put(self, slot, fd):
        self.close(slot)
        self.slots[slot] = fd

    def close(self, slot):
        self.streams.pop(slot, None)
        fd = self.slots.pop(slot, None)
        if fd is not None:
            os.close(fd)

    def unmap(self, slot):
        area = self.maps.pop(slot, None)
        if area:
            area.close()

    def mapped_fd(self, slot):
        return self.maps[slot].fd if slot in self.maps else None

    def close_all(self):
        for slot in list(self.slots):
            self.close(slot)
        for slot in list(self.maps):
            self.unmap(slot)

    def stat(self, st):
        return stat_record(st, self.started_ns)

    def do(self, op):
        """The result of one operation [name, uid, gid, arguments...]."""
        name, uid, gid, *args = op
        action = ACTIONS[name]
        for stream in self.streams.values():
            stream.touch(op)
        if uid:
            syscalls.become(uid, gid)
        try:
            return action(self, *args)
        except OSError as err:
            return errno.errorcode[err.errno]
        except ValueError as err:
            return f'broken: {err}'
        finally:
            if uid:
                syscalls.become(0, 0)


def value_bytes(value):
    """An xattr value: in hex, or as `tag,length` of the pattern."""
    if ',' in value:
        return pattern(*(int(n) for n in value.split(',')))
    return bytes.fromhex(value)


# ---- by path ----

def do_create(tree, rel, flags, mode, size, tag):
    fd = os.open(tree.path(rel), flags | os.O_CREAT, mode)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 'not a file'		# a device takes writes, and gives no result to compare
        return os.write(fd, pattern(tag, size)) if size else 0, tree.stat(os.fstat(fd))
    finally:
        os.close(fd)


def do_write_path(tree, rel, flags, offset, size, tag):
    fd = os.open(tree.path(rel), os.O_WRONLY | os.O_NONBLOCK | flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 'not a file'
        return os.pwrite(fd, pattern(tag, size), offset)
    finally:
        os.close(fd)


def do_read_path(tree, rel):
    fd = os.open(tree.path(rel), os.O_RDONLY | os.O_NONBLOCK)
    try:
        st = os.fstat(fd)
        return checksum_fd(fd, st.st_size) if stat.S_ISREG(st.st_mode) else oct(st.st_mode)
    finally:
        os.close(fd)


def do_truncate(tree, rel, size):
    os.truncate(tree.path(rel), size)
    return tree.stat(os.stat(tree.path(rel)))


def do_mkdir(tree, rel, mode):
    os.mkdir(tree.path(rel), mode)
    return tree.stat(os.lstat(tree.path(rel)))


def do_mknod(tree, rel, mode, major, minor):
    os.mknod(tree.path(rel), mode, os.makedev(major, minor))
    return tree.stat(os.lstat(tree.path(rel)))


def do_symlink(tree, target, rel):
    os.symlink(target, tree.path(rel))
    return tree.stat(os.lstat(tree.path(rel)))


def do_link(tree, src, dst):
    syscalls.linkat(tree.path(src), tree.path(dst), 0)
    return tree.stat(os.lstat(tree.path(dst)))


def do_rename(tree, src, dst, flags):
    syscalls.renameat2(tree.path(src), tree.path(dst), flags)


def do_chmod(tree, rel, mode):
    os.chmod(tree.path(rel), mode)
    return tree.stat(os.stat(tree.path(rel)))


def do_chown(tree, rel, uid, gid):
    os.chown(tree.path(rel), uid, gid, follow_symlinks=False)
    return tree.stat(os.lstat(tree.path(rel)))


def do_utimens(tree, rel, atime, mtime):
    path = tree.path(rel)
    os.utime(path, ns=(atime, mtime), follow_symlinks=False)
    st = os.lstat(path)
    # Following a symbolic link, which a path of its own may do, reads it.
    return 0 if stat.S_ISLNK(st.st_mode) else st.st_atime_ns, st.st_mtime_ns


def do_touch(tree, rel):
    os.utime(tree.path(rel))


def do_setxattr(tree, rel, name, value, flags):
    os.setxattr(tree.path(rel), name, value_bytes(value), flags, follow_symlinks=False)
    return tree.stat(os.lstat(tree.path(rel)))


def do_removexattr(tree, rel, name):
    os.removexattr(tree.path(rel), name, follow_symlinks=False)


def do_getxattr(tree, rel, name):
    return os.getxattr(tree.path(rel), name, follow_symlinks=False).hex()


def do_readdir(tree, rel):
    listing = list_dir(tree.path(rel))
    return {name: dtype for name, (_ino, dtype) in listing.items()}


def do_stat(tree, rel, follow):
    return tree.stat(os.stat(tree.path(rel), follow_symlinks=bool(follow)))


def do_access(tree, rel, mode):
    syscalls.faccessat2(tree.path(rel), mode, syscalls.AT_EACCESS)


# ---- by descriptor ----

def do_open(tree, slot, rel, flags, mode):
    fd = os.open(tree.path(rel), flags | os.O_NONBLOCK, mode)
    st = os.fstat(fd)
    if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
        os.close(fd)
        return oct(st.st_mode)
    tree.put(slot, fd)
    return tree.stat(st)


def do_tmpfile(tree, slot, rel, mode):
    tree.put(slot, os.open(tree.path(rel), os.O_TMPFILE | os.O_RDWR, mode))
    return tree.stat(os.fstat(tree.fd(slot)))


def do_link_fd(tree, slot, rel):
    syscalls.linkat(f'/proc/self/fd/{tree.fd(slot)}', tree.path(rel), syscalls.AT_SYMLINK_FOLLOW)
    return tree.stat(os.lstat(tree.path(rel)))


def do_pwrite(tree, slot, offset, size, tag):
    return os.pwrite(tree.fd(slot), pattern(tag, size), offset), tree.stat(os.fstat(tree.fd(slot)))


def do_pread(tree, slot, offset, size):
    return os.pread(tree.fd(slot), size, offset).hex()


def do_mmap_write(tree, slot, offset, size, tag):
    fd = tree.fd(slot)
    length = os.fstat(fd).st_size
    if length == 0 or not stat.S_ISREG(os.fstat(fd).st_mode):
        return 'nothing to map'
    if kept.loses_rights(tree, fd):
        return 'has rights'
    with mmap.mmap(fd, length, mmap.MAP_SHARED) as area:
        start = offset % length
        data = pattern(tag, min(size, length - start))
        area[start:start + len(data)] = data


def do_ftruncate(tree, slot, size):
    os.ftruncate(tree.fd(slot), size)
    return tree.stat(os.fstat(tree.fd(slot)))


def do_fallocate(tree, slot, mode, offset, size):
    syscalls.fallocate(tree.fd(slot), mode, offset, size)
    return tree.stat(os.fstat(tree.fd(slot)))


def do_fchmod(tree, slot, mode):
    os.fchmod(tree.fd(slot), mode)
    return tree.stat(os.fstat(tree.fd(slot)))


def do_fchown(tree, slot, uid, gid):
    os.fchown(tree.fd(slot), uid, gid)
    return tree.stat(os.fstat(tree.fd(slot)))


def do_fsetxattr(tree, slot, name, value):
    os.setxattr(tree.fd(slot), name, value_bytes(value))


def do_fstat(tree, slot):
    return tree.stat(os.fstat(tree.fd(slot)))


def do_fsync(tree, slot):
    os.fsync(tree.fd(slot))


def do_seek(tree, slot, whence, offset):
    """Where holes lie is the file system's choice, so the answer is checked for truth: an
    offset in range, and nothing but zeros where it says hole."""
    fd = tree.fd(slot)
    size = os.fstat(fd).st_size
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return 'directory'
    if whence == os.SEEK_HOLE:
        at = os.lseek(fd, offset, whence)
        return 'true' if offset <= at <= size else f'hole at {at} of {size}'
    try:
        at = os.lseek(fd, offset, whence)
    except OSError as err:
        if err.errno != errno.ENXIO or offset >= size:
            raise
        at = size			# no data up to the end: then there is none but zeros
    if not offset <= at <= size:
        return f'data at {at} of {size}'
    flags = os.O_RDONLY
    try:
        other = os.open(f'/proc/self/fd/{fd}', flags)
    except OSError:
        return 'true'
    try:
        return 'true' if not os.pread(other, at - offset, offset).strip(b'\0') else 'data in hole'
    finally:
        os.close(other)


def do_copy_range(tree, src, dst, src_off, dst_off, size):
    if os.path.sameopenfile(tree.fd(src), tree.fd(dst)):
        return 'same file'		# whose end moves while it is copied
    done = 0			# a call may copy less than it could
    while done < size:
        copied = os.copy_file_range(tree.fd(src), tree.fd(dst), size - done, src_off + done,
                                    dst_off + done)
        if copied == 0:
            break
        done += copied
    return done


def do_sendfile(tree, src, dst, src_off, size):
    if os.path.sameopenfile(tree.fd(src), tree.fd(dst)):
        return 'same file'
    os.lseek(tree.fd(dst), 0, os.SEEK_SET)
    return os.sendfile(tree.fd(dst), tree.fd(src), src_off, size)


def do_freaddir(tree, slot):
    fd = tree.fd(slot)
    tree.streams.pop(slot, None)
    os.lseek(fd, 0, os.SEEK_SET)
    return {name: dtype for name, _ino, dtype in syscalls.getdents(fd)}


def do_close(tree, slot):
    tree.close(slot)


ACTIONS = {
    'create': do_create, 'write_path': do_write_path, 'read_path': do_read_path,
    'truncate': do_truncate, 'mkdir': do_mkdir, 'mknod': do_mknod, 'symlink': do_symlink,
    'link': do_link, 'rename': do_rename, 'chmod': do_chmod, 'chown': do_chown,
    'utimens': do_utimens, 'touch': do_touch, 'setxattr': do_setxattr,
    'removexattr': do_removexattr, 'getxattr': do_getxattr, 'readdir': do_readdir,
    'stat': do_stat, 'access': do_access, 'open': do_open, 'tmpfile': do_tmpfile,
    'link_fd': do_link_fd, 'pwrite': do_pwrite, 'pread': do_pread, 'mmap_write': do_mmap_write,
    'ftruncate': do_ftruncate, 'fallocate': do_fallocate, 'fchmod': do_fchmod,
    'fchown': do_fchown, 'fsetxattr': do_fsetxattr, 'fstat': do_fstat, 'fsync': do_fsync,
    'seek': do_seek, 'copy_range': do_copy_range, 'sendfile': do_sendfile,
    'freaddir': do_freaddir, 'close': do_close,
    'unlink': lambda tree, rel: os.unlink(tree.path(rel)),
    'rmdir': lambda tree, rel: os.rmdir(tree.path(rel)),
    'readlink': lambda tree, rel: os.readlink(tree.path(rel)),
    'listxattr': lambda tree, rel: read_xattrs(tree.path(rel)),
    **kept.ACTIONS,
}

ON_DESCRIPTORS = {'link_fd', 'pwrite', 'pread', 'mmap_write', 'ftruncate', 'fallocate', 'fchmod',
                  'fchown', 'fsetxattr', 'fstat', 'fsync', 'seek', 'copy_range', 'sendfile',
                  'freaddir', *kept.ON_DESCRIPTORS}

WEIGHTS = {
    'create': 9, 'write_path': 7, 'read_path': 4, 'truncate': 4, 'mkdir': 7, 'mknod': 3,
    'symlink': 3, 'link': 5, 'rename': 14, 'chmod': 5, 'chown': 4, 'utimens': 3, 'touch': 2,
    'setxattr': 5, 'removexattr': 2, 'getxattr': 2, 'readdir': 4, 'stat': 4, 'access': 2,
    'open': 12, 'tmpfile': 2, 'link_fd': 2, 'pwrite': 5, 'pread': 4, 'mmap_write': 2,
    'ftruncate': 2, 'fallocate': 3, 'fchmod': 1, 'fchown': 1, 'fsetxattr': 1, 'fstat': 3,
    'fsync': 1, 'seek': 3, 'copy_range': 3, 'freaddir': 2, 'close': 2, 'unlink': 9, 'rmdir': 6,
    'readlink': 1, 'listxattr': 2, 'sendfile': 1, **kept.WEIGHTS,
}


class Generator(kept.Drawn):
    """Draws operations, mostly on what there is: the names it has learnt, and what the Tree
    `kept` has open."""

    def __init__(self, rng, drawer, tree):
        self.rng, self.drawer, self.kept = rng, drawer, tree
        self.may_mknod, self.may_trusted = drawer.may_mknod, drawer.may_trusted
        self.names, self.weights = list(WEIGHTS), list(WEIGHTS.values())
        self.paths, self.dirs = [''], ['']

    def learn(self, records):
        """Take the paths to play with from a snapshot's records."""
        self.paths = sorted(path[1:] for path in records if path) or ['a']
        self.dirs = sorted(path[1:] for path, record in records.items()
                           if record['mode'].startswith('0o4'))

    def note(self, op, results):
        """Remember a name that an operation has made."""
        if op[0] in ('create', 'mkdir', 'mknod', 'link', 'rename', 'symlink'):
            rel = op[3] if op[0] in ('create', 'mkdir', 'mknod') else op[4]
            if not isinstance(next(iter(results.values())), str) and rel not in self.paths:
                self.paths.append(rel)
                if op[0] == 'mkdir':
                    self.dirs.append(rel)

    def open_path(self):
        """The name of what is open or mapped, so that operations meet there."""
        fds = [*self.kept.slots.values(), *(area.fd for area in self.kept.maps.values())]
        paths = [os.readlink(f'/proc/self/fd/{fd}') for fd in sorted(fds)]
        start = self.kept.root + '/'
        paths = [path[len(start):] for path in paths
                 if path.startswith(start) and not path.endswith(' (deleted)')]
        return self.rng.choice(paths) if paths else None

    def old(self):
        if self.rng.random() < 0.25:
            path = self.open_path()
            if path:
                return path
        return self.rng.choice(self.paths) if self.rng.random() < 0.9 else self.new()

    def directory(self):
        return self.rng.choice(self.dirs)

    def subdirectory(self):
        return self.rng.choice(self.dirs[1:] or ['a'])	# a mount point itself is EBUSY

    def new(self):
        parent = self.directory() if self.rng.random() < 0.9 else self.rng.choice(self.paths)
        name = self.drawer.draw_name()
        return f'{parent}/{name}' if parent else name

    def offset(self):
        return self.rng.choice([0, 0, 1, 100, 4095, 4096, 8192, 65536, 200000])

    def size(self):
        return self.rng.choice([1, 10, 500, 4096, 5000, 20000])

    def tag(self):
        return self.rng.randrange(9999)

    def slot(self, want=None):
        """One of those in use, of directories or of others if `want` says so; rarely any."""
        good = sorted(slot for slot, fd in self.kept.slots.items()
                      if want is None or stat.S_ISDIR(os.fstat(fd).st_mode) == (want == 'dir'))
        if self.rng.random() < 0.05:
            good = None
        return self.rng.choice(good or sorted(self.kept.slots) or range(SLOTS))

    def file_slot(self):
        return self.slot('file')

    def any_slot(self):
        return self.rng.randrange(SLOTS)

    def draw(self):
        rng = self.rng
        name = self.possible(rng.choices(self.names, self.weights)[0])
        uid, gid = rng.choice(USERS) if rng.random() < 0.2 else (0, 0)
        op = [name, uid, gid] + getattr(self, 'draw_' + name, self.draw_old)()
        if name == 'fallocate' and op[4] == syscalls.FALLOC_ZERO_RANGE:
            op[1:3] = [0, 0]	# where it is not supported, kernel overlayfs strips suid already
        if name == 'removexattr' and op[4] == 'system.posix_acl_access':
            op[1:3] = [0, 0]	# file systems differ in whether others than members lose setgid
        if name.startswith('dir_'):
            op[1:3] = [0, 0]	# the end, where a directory is opened again, comes when it comes
        return op

    def possible(self, name):
        """The operation, or mostly that which must come first."""
        if name in kept.ON_MAPPINGS and not self.kept.maps and self.rng.random() < 0.9:
            name = 'map'
        if name in ON_DESCRIPTORS and not self.kept.slots and self.rng.random() < 0.9:
            name = 'open'
        return name

    def draw_old(self):			# unlink, rmdir, readlink, listxattr, touch, read_path
        return [self.old()]

    def draw_rmdir(self):
        return [self.subdirectory() if self.rng.random() < 0.9 else self.old()]

    def draw_create(self):
        flags = self.rng.choice([os.O_RDWR, os.O_WRONLY | os.O_EXCL, os.O_RDWR | os.O_TRUNC,
                                 os.O_WRONLY | os.O_NOFOLLOW])
        rel = self.new() if self.rng.random() < 0.8 else self.old()
        return [rel, flags | os.O_NONBLOCK, self.rng.choice(MODES),
                self.rng.choice([0, 0, self.size()]), self.tag()]

    def draw_write_path(self):
        flags = self.rng.choice([0, 0, os.O_APPEND, os.O_TRUNC, os.O_NOFOLLOW])
        return [self.old(), flags, self.offset(), self.size(), self.tag()]

    def draw_truncate(self):
        return [self.old(), self.rng.choice([0, 0, 1, 50, 4096, 100000])]

    def draw_mkdir(self):
        return [self.new(), self.rng.choice([0o755, 0o777, 0o1777, 0o2775, 0o700])]

    def draw_mknod(self):
        kinds = [(stat.S_IFIFO, 0, 0), (stat.S_IFSOCK, 0, 0), (stat.S_IFREG, 0, 0)]
        if self.may_mknod:
            kinds += [(stat.S_IFCHR, 1, 5), (stat.S_IFBLK, 240, 3), (stat.S_IFCHR, 0, 0)]
        kind, major, minor = self.rng.choice(kinds)
        return [self.new(), kind | self.rng.choice(MODES), major, minor]

    def draw_symlink(self):
        return [self.rng.choice(LINK_TARGETS), self.new()]

    def draw_link(self):
        return [self.old(), self.new()]

    def draw_rename(self):
        flags = self.rng.choices([0, syscalls.RENAME_NOREPLACE, syscalls.RENAME_EXCHANGE],
                                 [6, 1, 3])[0]
        old = self.subdirectory() if self.rng.random() < 0.4 else self.old()
        fresh = 0.2 if flags == syscalls.RENAME_EXCHANGE else 0.6
        new = self.new() if self.rng.random() < fresh else self.old()
        return [old, new, flags]

    def draw_chmod(self):
        return [self.old(), self.rng.choice(MODES)]

    def draw_chown(self):
        return [self.old(), self.rng.choice([-1, 0, 1000, 1001]),
                self.rng.choice([-1, 0, 1000, 1001])]

    def draw_utimens(self):
        return [self.old(), self.rng.randrange(10 ** 18), self.rng.randrange(10 ** 18)]

    def draw_xattr_name(self):
        names = ['user.p', 'user.q', 'user.' + 'x' * 250, 'user.', 'bad.name',
                 'system.posix_acl_access', 'system.posix_acl_default']
        weights = [6, 6, 1, 1, 1, 4, 2]
        if self.may_trusted:
            names += ['trusted.t', 'trusted.overlay.opaque', 'trusted.overlay.zz',
                      'security.capability', 'user.overlay.redirect']
            weights += [2, 1, 1, 1, 1]
        return self.rng.choices(names, weights)[0]

    def draw_xattr_value(self, name):
        if name.startswith('system.'):
            return acl(self.rng, name.endswith('default')).hex()
        if name == 'security.capability':
            return '0100000200040000000000000000000000000000'
        return f'{self.tag()},{self.rng.choice([0, 1, 30, 300])}'

    def draw_setxattr(self):
        name = self.draw_xattr_name()
        rel = self.directory() if name.endswith('default') else self.old()
        flags = self.rng.choice([0, 0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])
        return [rel, name, self.draw_xattr_value(name), flags]

    def draw_removexattr(self):
        return [self.old(), self.draw_xattr_name()]

    draw_getxattr = draw_removexattr

    def draw_readdir(self):
        return [self.directory()]

    def draw_stat(self):
        return [self.old(), self.rng.choice([0, 1])]

    def draw_access(self):
        return [self.old(), self.rng.randrange(8)]

    def draw_open(self):
        access = self.rng.choice([os.O_RDONLY, os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY])
        extra = self.rng.choices([0, os.O_APPEND, os.O_TRUNC, os.O_CREAT, os.O_DIRECTORY],
                                 [8, 1, 1, 2, 1])[0]
        if self.rng.random() < 0.25:
            return [self.any_slot(), self.directory(), os.O_RDONLY | os.O_DIRECTORY, 0]
        return [self.any_slot(), self.old(), access | extra, 0o640]

    def draw_tmpfile(self):
        return [self.any_slot(), self.directory(), self.rng.choice(MODES)]

    def draw_link_fd(self):
        return [self.file_slot(), self.new()]

    def draw_pwrite(self):
        return [self.file_slot(), self.offset(), self.size(), self.tag()]

    draw_mmap_write = draw_pwrite

    def draw_pread(self):
        return [self.file_slot(), self.offset(), self.size()]

    def draw_ftruncate(self):
        return [self.file_slot(), self.rng.choice([0, 1, 5000, 65536])]

    def draw_fallocate(self):
        keep, punch = syscalls.FALLOC_KEEP_SIZE, syscalls.FALLOC_PUNCH_HOLE
        mode = self.rng.choice([0, keep, punch | keep, punch | keep, syscalls.FALLOC_ZERO_RANGE])
        if mode == syscalls.FALLOC_ZERO_RANGE and not self.may_trusted:
            mode = 0		# not on tmpfs, where overlays then strip set-id bits already
        return [self.file_slot(), mode, self.offset(), self.size()]

    def draw_slot(self):
        return [self.slot()]

    draw_fstat = draw_fsync = draw_close = draw_slot

    def draw_freaddir(self):
        return [self.slot('dir')]

    def draw_fchmod(self):
        return [self.slot(), self.rng.choice(MODES)]

    def draw_fchown(self):
        return [self.slot(), self.rng.choice([-1, 0, 1000]), self.rng.choice([-1, 0, 1000])]

    def draw_fsetxattr(self):
        return [self.slot(), 'user.' + self.rng.choice('pq'), f'{self.tag()},12']

    def draw_seek(self):
        return [self.file_slot(), self.rng.choice([os.SEEK_DATA, os.SEEK_HOLE]), self.offset()]

    def draw_copy_range(self):
        return [self.file_slot(), self.file_slot(), self.offset(), self.offset(), self.size()]

    def draw_sendfile(self):
        return [self.file_slot(), self.file_slot(), self.offset(), self.size()]
