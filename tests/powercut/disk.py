"""A disk image whose writes and flushes are logged, and the images that a power cut leaves."""

import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../crash'))

from stage import VENEER, syscalls, umount_patiently		# noqa: E402

BLOCKLOG = os.path.abspath(os.environ.get(
    'VENEER_BLOCKLOG', os.path.join(os.path.dirname(VENEER), 'tests/powercut/blocklog')))
SECTOR = 512
PHYSICAL_SECTOR = 4096			# what a disk writes as a whole; file systems rely on it
PATIENCE_S = 30

_RECORD = struct.Struct('<QII')			# of blocklog.c
_WRITE, _FLUSH = 1, 2

_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
_LOOP_CONFIG = struct.Struct('=II 5Q4I 64s64s32s2Q 64x')


def make_file_system(fstype, image):
    """An empty one in a sparse file, small, and made without asking the disk twice."""
    mib, command = {
        'ext4': (32, ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0']),
        # The smallest that its maker makes.
        'xfs': (300, ['mkfs.xfs', '-q', '-f']),
    }[fstype]
    with open(image, 'xb') as file:
        file.truncate(mib << 20)
    subprocess.run(command + [image], check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def loop_device(path):
    """A loop device over a file, which is given back when its last user is gone: its path."""
    backing = os.open(path, os.O_RDWR)
    control = os.open('/dev/loop-control', os.O_RDWR)
    device = None
    try:
        while device is None:
            name = f'/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}'
            device = os.open(name, os.O_RDWR)
            config = _LOOP_CONFIG.pack(backing, SECTOR, 0, 0, 0, 0, 0, 0, 0, 0,
                                       _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO,
                                       b'', b'', b'', 0, 0)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, config)
            except OSError:			# somebody else was quicker
                os.close(device)
                device = None
        yield name
    finally:
        for fd in (device, control, backing):
            if fd is not None:
                os.close(fd)


@contextlib.contextmanager
def mounted(fstype, image, target):
    """The image's file system; a journal is replayed first."""
    with loop_device(image) as device:
        syscalls.mount(device, target, fstype, 0, None)
    try:
        yield
    finally:
        try:
            umount_patiently(target)
        except OSError:
            syscalls.umount(target, syscalls.MNT_DETACH)
            raise


def copy_image(src, dst):
    subprocess.run(['cp', '--sparse=always', '--', src, dst], check=True)


class LoggedDisk:
    """A copy of an image, served and logged by blocklog as the file of self.path."""

    def __init__(self, home):
        self.image, self.log_path, self.path = f'{home}/live', f'{home}/blocks', f'{home}/disk'

    @contextlib.contextmanager
    def served(self, base):
        copy_image(base, self.image)
        with open(self.path, 'wb'):
            pass
        before, end = os.stat(self.path).st_dev, time.monotonic() + PATIENCE_S
        server = subprocess.Popen([BLOCKLOG, self.image, self.log_path, self.path],
                                  stdin=subprocess.DEVNULL)
        try:
            while os.stat(self.path).st_dev == before:
                assert server.poll() is None and time.monotonic() < end, 'blocklog does not start'
                time.sleep(0.002)
            yield
        finally:
            try:
                umount_patiently(self.path)
                server.wait(PATIENCE_S)
            except (OSError, subprocess.TimeoutExpired):
                server.kill()
                server.wait()
                with contextlib.suppress(OSError):
                    syscalls.umount(self.path, syscalls.MNT_DETACH)
                raise

    def position(self):
        """Where the log is now: what was acknowledged so far is before it."""
        return os.stat(self.log_path).st_size

    def log(self):
        return BlockLog(self.log_path)


class BlockLog:
    """What came to the disk, in order."""

    def __init__(self, path):
        self.writes = []			# (position, offset, data)
        self.flushes = []			# positions
        with open(path, 'rb') as file:
            raw = file.read()
        at = 0
        while at < len(raw):
            offset, size, kind = _RECORD.unpack_from(raw, at)
            assert kind in (_WRITE, _FLUSH), f'{path}: kind {kind} at {at}'
            if kind == _FLUSH:
                self.flushes.append(at)
            else:
                start = at + _RECORD.size
                self.writes.append((at, offset, raw[start:start + size]))
            at += _RECORD.size + (size if kind == _WRITE else 0)

    def cut(self, base, image, position, seed=None):
        """The image of a disk that lost its power right after the flush at position.  With a
        seed: a while later, before the next flush, having kept some of the sectors that were
        written meanwhile."""
        end = min([at for at in self.flushes if at > position], default=None)
        chance = random.Random(seed)
        copy_image(base, image)
        with open(image, 'r+b') as file:
            for at, offset, data in self.writes:
                if at > position and (seed is None or (end is not None and at > end)):
                    break
                if at < position:
                    self._put(file, offset, data)
                    continue
                for start in range(0, len(data), PHYSICAL_SECTOR):
                    if chance.random() < 0.5:
                        self._put(file, offset + start, data[start:start + PHYSICAL_SECTOR])

    @staticmethod
    def _put(file, offset, data):
        file.seek(offset)
        file.write(data)
