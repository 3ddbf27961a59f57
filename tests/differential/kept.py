"""What is kept over operations besides descriptors: mappings, positions in directories, locks.

Like every operation these are drawn once as plain data and give a value to compare, or raise
OSError.  Memory is touched by system calls only: what would be SIGBUS is EFAULT then."""

import errno
import fcntl
import os
import stat
import struct
import zlib

import syscalls
from layers import LINK_TARGETS, pattern

MAPS = 4
MAP_LENGTH = 1 << 18
PAGE = 4096
OFD_GETLK, OFD_SETLK = 36, 37
NAMING = {'create', 'open', 'mkdir', 'mknod', 'symlink', 'link', 'rename', 'unlink', 'rmdir',
          'link_fd'}


# ---- mappings ----

class Mapping:
    """The first MAP_LENGTH bytes of a file, however long it is at any time."""

    def __init__(self, fd, shared, writable):
        self.shared = shared
        self.address = syscalls.mmap(fd, MAP_LENGTH, shared, writable)
        self.fd = os.dup(fd)

    def close(self):
        syscalls.munmap(self.address, MAP_LENGTH)
        os.close(self.fd)

    def clip(self, offset, size):
        """How much of [offset, offset + size) is defined: not what follows the end in the page
        of the end.  Beyond that page there is nothing, which shows as an error."""
        end = os.fstat(self.fd).st_size
        offset = min(offset, MAP_LENGTH)
        if offset >= -(-end // PAGE) * PAGE:
            return offset, min(size, MAP_LENGTH - offset)
        return offset, max(0, min(size, end - offset, MAP_LENGTH - offset))

    def read(self, offset, size):
        offset, size = self.clip(offset, size)
        return syscalls.peek(self.address + offset, size) if size else b''

    def write(self, offset, data, sync):
        offset, size = self.clip(offset, len(data))
        if self.shared:		# so that it is a first write, which sets times
            syscalls.msync(self.address, MAP_LENGTH)
        done = syscalls.poke(self.address + offset, data[:size]) if size else 0
        if sync:
            syscalls.msync(self.address, MAP_LENGTH)
        return done


def mapping(tree, slot):
    if slot not in tree.maps:
        raise OSError(errno.EBADF, 'empty slot')
    return tree.maps[slot]


def do_map(tree, slot, fd_slot, shared, writable):
    new = Mapping(tree.fd(fd_slot), shared, writable)
    tree.unmap(slot)
    tree.maps[slot] = new


def do_map_read(tree, slot, offset, size):
    data = mapping(tree, slot).read(offset, size)
    return f'{len(data)} bytes {zlib.crc32(data):08x} {data[:8].hex()}'


def loses_rights(tree, fd):
    """Does a write through a mapping take away what it should not?  `mmap-write-capability`"""
    in_userns = tree.contender.case.args.user
    return ('security.capability' in os.listxattr(fd) or
            (in_userns and os.fstat(fd).st_mode & (stat.S_ISUID | stat.S_ISGID) != 0))


def do_map_write(tree, slot, offset, size, tag, sync):
    area = mapping(tree, slot)
    if area.shared and loses_rights(tree, area.fd):
        return 'has rights'
    return area.write(offset, pattern(tag, size), sync)


def do_map_sync(tree, slot):
    syscalls.msync(mapping(tree, slot).address, MAP_LENGTH)
    return tree.stat(os.fstat(mapping(tree, slot).fd))


def do_unmap(tree, slot):
    tree.unmap(slot)


# ---- directories ----

class Stream:
    """A directory that is read in steps.  POSIX: what was there all the time is listed exactly
    once, what was never there is not, and the rest may be or not.  The order is the file
    system's own, so each is judged by what it did itself."""

    def __init__(self, fd):
        other = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.lseek(fd, 0, os.SEEK_SET)
            self.names = {name for name, _ino, _type in syscalls.getdents(other)}
        finally:
            os.close(other)
        self.touched = set()
        self.seen = []			# (name, position after it)

    def touch(self, op):
        """An operation that may change names anywhere."""
        if op[0] in NAMING:
            paths = [arg for arg in op[3:] if isinstance(arg, str)]
            if op[0] in ('create', 'open'):
                paths += LINK_TARGETS
            self.touched |= {os.path.basename(path) for path in paths}

    def step(self, fd, size):
        """Reads on; what is wrong, or None.  At the end it starts anew."""
        entries = syscalls.getdents_step(fd, size)
        self.seen += entries
        if entries:
            return None
        fault = self.fault()
        self.__init__(fd)
        return fault

    def fault(self):
        seen = [name for name, _position in self.seen]
        stable = self.names - self.touched
        twice = {name for name in seen if name in stable and seen.count(name) > 1}
        missed, strange = stable - set(seen), set(seen) - self.names - self.touched
        if twice or missed or strange:
            return (f'listed twice {sorted(twice)}, missed {sorted(missed)}, '
                    f'never there {sorted(strange)}')
        return None

    def back(self, fd, index):
        """To a position that was read before."""
        if self.seen:
            del self.seen[index % len(self.seen) + 1:]
            os.lseek(fd, self.seen[-1][1], os.SEEK_SET)


def stream(tree, slot):
    fd = tree.fd(slot)
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.ENOTDIR, 'no directory')
    if slot not in tree.streams:
        tree.streams[slot] = Stream(fd)
    return tree.streams[slot], fd


def do_dir_step(tree, slot, size):
    at, fd = stream(tree, slot)
    return at.step(fd, size)


def do_dir_rest(tree, slot, size):
    """To the end, in steps."""
    at, fd = stream(tree, slot)
    for _ in range(1000):
        count = len(at.seen)
        fault = at.step(fd, size)
        if fault or len(at.seen) <= count:
            return fault
    return 'no end'


def do_dir_back(tree, slot, index):
    at, fd = stream(tree, slot)
    if os.readlink(f'/proc/self/fd/{fd}').endswith(' (deleted)'):
        return 'removed'		# file systems differ in what a position is then
    at.back(fd, index)
    return None


# ---- locks ----

def flock_value(kind, start, length):
    return struct.pack('@hhqqi', kind, os.SEEK_SET, start, length, 0)


def do_flock(tree, slot, how):
    fcntl.flock(tree.fd(slot), how | (0 if how == fcntl.LOCK_UN else fcntl.LOCK_NB))


def do_range_lock(tree, slot, open_file, kind, start, length):
    """One of the open file, or one of the process."""
    fcntl.fcntl(tree.fd(slot), OFD_SETLK if open_file else fcntl.F_SETLK,
                flock_value(kind, start, length))


def do_range_test(tree, slot, kind, start, length):
    """Who stands in the way of a lock; -1 is an open file, any process is this one."""
    found = fcntl.fcntl(tree.fd(slot), OFD_GETLK, flock_value(kind, start, length))
    kind, _whence, start, length, pid = struct.unpack('@hhqqi', found)
    return 'free' if kind == fcntl.F_UNLCK else f'{kind} at {start}, {length} by {min(pid, 0)}'


ACTIONS = {
    'map': do_map, 'map_read': do_map_read, 'map_write': do_map_write, 'map_sync': do_map_sync,
    'unmap': do_unmap, 'dir_step': do_dir_step, 'dir_rest': do_dir_rest, 'dir_back': do_dir_back,
    'flock': do_flock, 'range_lock': do_range_lock, 'range_test': do_range_test,
}

ON_MAPPINGS = {'map_read', 'map_write', 'map_sync'}
ON_DESCRIPTORS = {'map', 'dir_step', 'dir_rest', 'dir_back', 'flock', 'range_lock', 'range_test'}

WEIGHTS = {
    'map': 4, 'map_read': 6, 'map_write': 4, 'map_sync': 1, 'unmap': 1, 'dir_step': 4,
    'dir_rest': 2, 'dir_back': 2, 'flock': 2, 'range_lock': 3, 'range_test': 2,
}


class Drawn:
    """The part of the generator that draws these; see ops.Generator."""

    def map_slot(self):
        good = sorted(self.kept.maps)
        return self.rng.choice(good) if good and self.rng.random() < 0.95 else self.any_map_slot()

    def any_map_slot(self):
        return self.rng.randrange(MAPS)

    def map_offset(self):
        return self.rng.choice([0, 0, 0, 1, 100, 4000, 4095, 4096, 65536, 200000])

    def draw_map(self):
        shared = self.rng.choice([0, 1, 1])
        return [self.any_map_slot(), self.file_slot(), shared, self.rng.choice([0, 1])]

    def draw_map_read(self):
        return [self.map_slot(), self.map_offset(), self.size()]

    def draw_map_write(self):
        return [self.map_slot(), self.map_offset(), self.size(), self.tag(),
                self.rng.choice([0, 1])]

    def draw_map_sync(self):
        return [self.map_slot()]

    draw_unmap = draw_map_sync

    def draw_dir_step(self):
        return [self.slot('dir'), self.rng.choice([48, 48, 100, 300])]

    draw_dir_rest = draw_dir_step

    def draw_dir_back(self):
        return [self.slot('dir'), self.rng.randrange(8)]

    def draw_flock(self):
        return [self.slot(), self.rng.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN])]

    def draw_range(self):
        kind = self.rng.choice([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK])
        return [kind, self.offset(), self.rng.choice([0, 1, 5000])]

    def draw_range_lock(self):
        return [self.slot(), self.rng.choice([0, 1, 1])] + self.draw_range()

    def draw_range_test(self):
        kind, *where = self.draw_range()
        return [self.slot(), fcntl.F_RDLCK if kind == fcntl.F_UNLCK else kind] + where
