"""Fault loops: the N-th mutation of the upper or work directory fails, or the daemon is killed
right before it, for N = 1, 2, 3 ... until the operation gets through.  After each: the lower
layers are as they were, the next mount succeeds and empties the work directory, the tree is the
old one or the new one, and kernel overlayfs sees the same."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

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
# By hand also: redirect_dir=on,metacopy=on,index=on
OPTIONS = os.environ.get('VENEER_FAULT_OPTIONS', 'redirect_dir=on')
CONNECTIONS = '/sys/fs/fuse/connections'
FIRED = 'fault:'		# how veneer-faults starts the line that says its fault has come
MOST = 60			# mutations that no operation here needs
PATIENCE_S = 30


def why_not():
    if os.geteuid() != 0:
        return 'needs root, to make layers and mounts'
    if not os.path.exists('/dev/fuse'):
        return 'there is no /dev/fuse'
    for program in (VENEER, FAULTY):
        if not os.access(program, os.X_OK):
            return f'{program} is not built'
    return None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Daemon:
    """A veneer in the foreground, mounted at stage.mnt."""

    def __init__(self, stage, program, fault=None):
        self.stage, self.late = stage, False
        env = dict(os.environ)
        env.pop('VENEER_FAULT', None)
        if fault:
            env['VENEER_FAULT'] = fault
        self.log_path = f'{stage.home}/log'
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen([program, '-f', '-o', 'compat=kernel,' + stage.options(),
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


class Stage:
    """Layers, a template of the upper, and a fresh copy of it for each try."""

    def __init__(self, home):
        self.home = home
        self.mnt, self.lowers = f'{home}/mnt', [f'{home}/lower1', f'{home}/lower0']
        self.upper, self.work = f'{home}/upper', f'{home}/work'
        self.template = f'{home}/template'
        for path in [self.mnt, self.template] + self.lowers:
            os.mkdir(path)
        self.started_ns = time.time_ns() - 86400 * 10 ** 9
        scenarios.build_lowers(self.lowers[1], self.lowers[0])
        self.reset()
        self.in_kernel(scenarios.build_upper)
        os.rmdir(self.template)
        os.rename(self.upper, self.template)
        self.lower_state = [raw_tree(path) for path in self.lowers]

    def options(self):
        return (f'lowerdir={":".join(self.lowers)},upperdir={self.upper},workdir={self.work},'
                + OPTIONS)

    def reset(self):
        """An upper as it was before the operation, and an empty work directory."""
        shutil.rmtree(self.upper, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        subprocess.run(['cp', '-a', '--', self.template, self.upper], check=True)
        os.mkdir(self.work)

    def in_kernel(self, action):
        """action(root) under kernel overlayfs; its result."""
        syscalls.mount('overlay', self.mnt, 'overlay', 0, self.options())
        try:
            return action(self.mnt)
        finally:
            syscalls.umount(self.mnt)

    def look(self, root):
        return tree_of(Snapshot(root, self.started_ns))


def tree_of(shot):
    """A snapshot without what a crash may leave either way.  A directory's time changes when a
    copied-up child is put into it and is set back right after; its link count is not told by
    kernel overlayfs."""
    assert not [text for code, _, text in shot.faults if code not in ('dotdot', 'd_ino')], \
        shot.faults
    for record in shot.records.values():
        if 'size' not in record:
            del record['mtime'], record['nlink']
    return shot.records


@pytest.fixture(scope='module')
def stage():
    # Mounts of this process alone: a copy of one in a namespace that someone else makes
    # meanwhile would keep its daemon from ending.
    userns.isolate(False)
    if not os.path.ismount(CONNECTIONS):
        syscalls.mount('fusectl', CONNECTIONS, 'fusectl', 0, None)
    home = tempfile.mkdtemp(prefix='veneer-fault-', dir='/var/tmp')
    os.umask(0o022)
    # What is tested is the order of steps, not the disk: nothing here needs to be synced to one.
    syscalls.mount('tmpfs', home, 'tmpfs', 0, 'mode=755')
    try:
        yield Stage(home)
    finally:
        syscalls.umount(home, syscalls.MNT_DETACH)
        os.rmdir(home)


def expectations(stage, operation):
    """The trees before and after, by the kernel's judgement."""
    stage.reset()
    old = stage.in_kernel(stage.look)

    def act_and_look(root):
        operation(root)
        return stage.look(root)
    new = stage.in_kernel(act_and_look)
    assert old != new
    return old, new


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


def check_after(stage, old, new, what):
    """The state that the next mount finds; True if it is the new one."""
    daemon = Daemon(stage, VENEER)
    try:
        left = left_in_work(f'{stage.work}/work')
        assert not left, f'{what}: left in the work directory: {left}'
        tree = stage.look(stage.mnt)
    finally:
        status = daemon.end()
    assert status == 0, f'{what}: {daemon.log()}'
    if tree not in (old, new):
        pytest.fail(f'{what}: neither old nor new. Against the old tree:\n'
                    f'{explain(tree, old)}\nagainst the new one:\n{explain(tree, new)}')
    kernel = stage.in_kernel(stage.look)
    if kernel != tree:
        pytest.fail(f'{what}: the kernel sees another tree:\n{explain(kernel, tree)}')
    for path, before in zip(stage.lowers, stage.lower_state):
        if raw_tree(path) != before:
            pytest.fail(f'{what}: lower layer {path} changed')
    return tree == new


def try_once(stage, operation, fault):
    """(the operation's error or None, has the fault come).  It may also come as late as in the
    unmount."""
    stage.reset()
    daemon = Daemon(stage, FAULTY, fault)
    error = None
    try:
        try:
            operation(stage.mnt)
        except OSError as err:
            error = err
    finally:
        daemon.wait_if_dead()
        status = daemon.end()
    if 'kill' in fault:
        assert status in (0, -signal.SIGKILL), f'{fault}: status {status}: {daemon.log()}'
        return error, status != 0
    assert status == 0, f'{fault}: status {status}: {daemon.log()}'
    return error, FIRED in daemon.log()


@pytest.mark.parametrize('name', scenarios.SCENARIOS)
def test_error_at_nth(stage, name):
    operation = scenarios.SCENARIOS[name]
    old, new = expectations(stage, operation)
    for n in range(1, MOST):
        errno_name = 'ENOSPC' if n % 2 else 'EIO'
        what = f'{name}, mutation {n} fails with {errno_name}'
        error, fired = try_once(stage, operation, f'{n}:{errno_name}')
        is_new = check_after(stage, old, new, what)
        if error is None:
            assert is_new, f'{what}: success was reported, but the tree is the old one'
        if not fired:
            assert error is None, f'{what}: {error}'
            assert n > 1, f'{name} makes no mutation'
            return
    pytest.fail(f'{name}: {MOST} mutations and no end')


@pytest.mark.parametrize('name', scenarios.SCENARIOS)
def test_kill_at_nth(stage, name):
    operation = scenarios.SCENARIOS[name]
    old, new = expectations(stage, operation)
    for n in range(1, MOST):
        what = f'{name}, killed at mutation {n}'
        error, fired = try_once(stage, operation, f'{n}:kill')
        is_new = check_after(stage, old, new, what)
        assert is_new or error, f'{what}: success was reported, but the tree is the old one'
        if not fired:
            assert error is None, f'{what}: {error}'
            break
    else:
        pytest.fail(f'{name}: {MOST} mutations and no end')
    if n > 1:
        _, fired = try_once(stage, operation, f'{n - 1}:killafter')
        assert fired
        check_after(stage, old, new, f'{name}, killed after mutation {n - 1}')
