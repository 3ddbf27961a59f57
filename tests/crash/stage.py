"""Layers with everything in them, a veneer over them, and what must hold when it is mounted
again after a crash.  The fault loops and the power-cut loops stand on it."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(HERE, '../differential')]

import scenarios			# noqa: E402
import syscalls				# noqa: E402
import userns				# noqa: E402
from contenders import umount_patiently	# noqa: E402
from snapshot import Snapshot, raw_tree	# noqa: E402

VENEER = os.path.abspath(os.environ.get('VENEER', os.path.join(CHECKOUT, 'build/veneer')))
FAULTY = os.path.abspath(os.environ.get('VENEER_FAULTS', VENEER + '-faults'))
CONNECTIONS = '/sys/fs/fuse/connections'
PATIENCE_S = 30


def why_not(*programs):
    """Why tests that need a mount cannot run, or None."""
    if os.geteuid() != 0:
        return 'needs root, to make layers and mounts'
    if not os.path.exists('/dev/fuse'):
        return 'there is no /dev/fuse'
    for program in (VENEER, FAULTY) + programs:
        if not os.access(program, os.X_OK):
            return f'{program} is not built'
    return None


@contextlib.contextmanager
def private_scratch(prefix):
    """A tmpfs, in a mount namespace of this process alone: a copy of a mount of ours in a
    namespace that someone else makes meanwhile would keep its daemon from ending."""
    userns.isolate(False)
    if not os.path.ismount(CONNECTIONS):
        syscalls.mount('fusectl', CONNECTIONS, 'fusectl', 0, None)
    home = tempfile.mkdtemp(prefix=prefix, dir='/var/tmp')
    os.umask(0o022)
    syscalls.mount('tmpfs', home, 'tmpfs', 0, 'mode=755')
    try:
        yield home
    finally:
        syscalls.umount(home, syscalls.MNT_DETACH)
        os.rmdir(home)


class Stage:
    """The layers.  Where upper and work lie, and how they are made anew, is the user's."""

    def __init__(self, home, overlay_options, upper, work):
        self.home, self.upper, self.work = home, upper, work
        self.mnt, self.lowers = f'{home}/mnt', [f'{home}/lower1', f'{home}/lower0']
        # Served: what passes through is no step of veneer's.
        self.overlay_options, self.veneer_options = overlay_options, 'compat=kernel,data=served'
        for path in [self.mnt] + self.lowers:
            os.mkdir(path)
        self.started_ns = time.time_ns() - 86400 * 10 ** 9
        scenarios.build_lowers(self.lowers[1], self.lowers[0])
        self.lower_state = [raw_tree(path) for path in self.lowers]

    def options(self):
        """What both kinds of mount are given."""
        return (f'lowerdir={":".join(self.lowers)},upperdir={self.upper},workdir={self.work},'
                + self.overlay_options)

    def in_kernel(self, action):
        """action(root) under kernel overlayfs; its result."""
        syscalls.mount('overlay', self.mnt, 'overlay', 0, self.options())
        try:
            return action(self.mnt)
        finally:
            umount_patiently(self.mnt)

    def look(self, root):
        return tree_of(Snapshot(root, self.started_ns))


class Daemon:
    """A veneer in the foreground, mounted at stage.mnt."""

    def __init__(self, stage, program, fault=None, commit=None):
        """fault, commit: VENEER_FAULT and VENEER_COMMIT for veneer-faults."""
        self.stage, self.late = stage, False
        env = {name: value for name, value in os.environ.items()
               if name not in ('VENEER_FAULT', 'VENEER_COMMIT')}
        env.update({'VENEER_FAULT': fault} if fault else {})
        if commit:
            with open(commit, 'wb'):
                env['VENEER_COMMIT'] = commit
        self.log_path = f'{stage.home}/log'
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen([program, '-f', '-o',
                                             f'{stage.veneer_options},{stage.options()}',
                                             stage.mnt],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env)
        before, end = os.stat(stage.home).st_dev, time.monotonic() + PATIENCE_S
        while os.stat(stage.mnt).st_dev == before:
            if self.process.poll() is not None or time.monotonic() > end:
                self.end()
                raise AssertionError('veneer does not mount: ' + self.log())
            time.sleep(0.002)
        self.connection = os.minor(os.stat(stage.mnt).st_dev)
        self.timer = threading.Timer(PATIENCE_S, self.give_up)
        self.timer.start()

    def give_up(self):
        """An operation that hangs ends when its daemon does, or else with the connection."""
        self.late = True
        self.process.kill()
        with open(f'{CONNECTIONS}/{self.connection}/abort', 'w', encoding='ascii') as abort:
            abort.write('1')

    def log(self):
        with open(self.log_path, errors='replace') as log:
            return log.read()

    def wait_if_dead(self):
        """The mount is dead a moment before the process is a zombie."""
        if is_dead_mount(self.stage.mnt):
            self.process.wait(PATIENCE_S)

    def end(self):
        """Unmount; the exit status."""
        if hasattr(self, 'timer'):
            self.timer.cancel()
        try:
            umount_patiently(self.stage.mnt)
        except OSError:
            with contextlib.suppress(OSError):		# not mounted at all
                syscalls.umount(self.stage.mnt, syscalls.MNT_DETACH)
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        assert not self.late, 'the operation or the unmount hung: ' + self.log()
        return status


def is_dead_mount(path):
    """Asked by the one call that the kernel answers from no cache."""
    try:
        os.statvfs(path)
        return False
    except OSError:
        return True


def tree_of(shot):
    """A snapshot without what a crash may leave either way.  A directory's time changes when a
    copied-up child is put into it and is set back right after; its link count is not told by
    kernel overlayfs; xfs shows an ACL once more, as an attribute of its own."""
    assert not [text for code, _, text in shot.faults if code not in ('dotdot', 'd_ino')], \
        shot.faults
    for record in shot.records.values():
        if 'size' not in record:
            del record['mtime'], record['nlink']
        for name in [name for name in record['xattrs'] if name.startswith('trusted.SGI_ACL')]:
            del record['xattrs'][name]
    return shot.records


class Expected:
    """The two trees that an operation may leave when it is interrupted."""

    def __init__(self, name, old, new):
        self.old, self.new = old, new
        self.is_data = name in scenarios.DATA
        trees = [old, new, self._torn()] if self.is_data else [old, new]
        self.allowed = [self._what_counts(tree) for tree in trees]

    def _what_counts(self, tree):
        if not self.is_data:
            return tree
        return {path: {key: value for key, value in record.items() if key != 'mtime'}
                for path, record in tree.items()}

    def _torn(self):
        """What was appended shows as zeroes if only the size has reached the disk."""
        tree = dict(self.new)
        for path, record in self.new.items():
            grown = record.get('size', 0) - self.old.get(path, record).get('size', 0)
            if grown > 0 and 'content' in record:
                content = zlib.crc32(bytes(grown), int(self.old[path]['content'], 16))
                tree[path] = dict(record, content=f'{content:08x}')
        return tree

    def is_either(self, tree):
        return self._what_counts(tree) in self.allowed

    def is_new(self, tree):
        """Entirely, for one who waited for the operation's end."""
        return self._what_counts(tree) == self._what_counts(self.new)


def explain(tree, expected):
    """Where a tree differs from one of the two it may be."""
    out = []
    for path in sorted(tree.keys() | expected.keys()):
        if tree.get(path) != expected.get(path):
            out.append(f'{path!r}: is {tree.get(path)}, was to be {expected.get(path)}')
    return '\n'.join(out)


def left_in_work(path):
    """What a mount should have removed.  The one whiteout that further ones are links of is
    made by the mount itself."""
    names = [name for name in os.listdir(path) if name != 'incompat']
    stats = [os.lstat(f'{path}/{name}') for name in names]
    if len(names) == 1 and stat.S_ISCHR(stats[0].st_mode) and stats[0].st_rdev == 0:
        return []
    return names


def look_after(stage, expected, what):
    """The tree that the next mount finds, which is the old or the new one; the kernel finds the
    same, and the lower layers are untouched."""
    daemon = Daemon(stage, VENEER)
    try:
        left = left_in_work(f'{stage.work}/work')
        assert not left, f'{what}: left in the work directory: {left}'
        tree = stage.look(stage.mnt)
    finally:
        status = daemon.end()
    assert status == 0, f'{what}: {daemon.log()}'
    if not expected.is_either(tree):
        pytest.fail(f'{what}: neither old nor new. Against the old tree:\n'
                    f'{explain(tree, expected.old)}\nagainst the new one:\n'
                    f'{explain(tree, expected.new)}')
    kernel = stage.in_kernel(stage.look)
    if kernel != tree:
        pytest.fail(f'{what}: the kernel sees another tree:\n{explain(kernel, tree)}')
    for path, before in zip(stage.lowers, stage.lower_state):
        if raw_tree(path) != before:
            pytest.fail(f'{what}: lower layer {path} changed')
    return tree
