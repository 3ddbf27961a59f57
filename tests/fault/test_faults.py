"""Fault loops: the N-th mutation of the upper or work directory fails, or the daemon is killed
right before it, for N = 1, 2, 3 ... until the operation gets through.  After each: the lower
layers are as they were, the next mount succeeds and empties the work directory, the tree is the
old one or the new one, and kernel overlayfs sees the same."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../crash'))

from stage import FAULTY, Daemon, Expected, Stage, look_after, private_scratch, why_not	# noqa: E402
import scenarios			# noqa: E402

OPTIONS = os.environ.get('VENEER_FAULT_OPTIONS', 'redirect_dir=on')
INDEXED_OPTIONS = 'redirect_dir=on,metacopy=on,index=on'
FIRED = 'fault:'		# how veneer-faults starts the line that says its fault has come
MOST = 60			# mutations that no operation here needs

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Copies(Stage):
    """A template of the upper, and a fresh copy of it for each try."""

    def __init__(self, home, options):
        super().__init__(home, options, f'{home}/upper', f'{home}/work')
        self.template = f'{home}/template'
        os.mkdir(self.template)
        self.reset()
        self.in_kernel(scenarios.build_upper)
        os.rmdir(self.template)
        os.rename(self.upper, self.template)

    def reset(self):
        """An upper as it was before the operation, and an empty work directory."""
        shutil.rmtree(self.upper, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)
        subprocess.run(['cp', '-a', '--', self.template, self.upper], check=True)
        os.mkdir(self.work)


@pytest.fixture(scope='module')
def stages():
    # What is tested is the order of steps, not the disk: a tmpfs will do.
    with private_scratch('veneer-fault-') as home:
        made = {}
        for options in (OPTIONS, INDEXED_OPTIONS):
            path = f'{home}/{len(made)}'
            os.mkdir(path)
            made[options] = Copies(path, options)
        yield made


@pytest.fixture
def stage(stages, name):
    return stages[INDEXED_OPTIONS if name in scenarios.INDEXED else OPTIONS]


def expectations(stage, name):
    """The trees before and after, by the kernel's judgement."""
    stage.reset()
    old = stage.in_kernel(stage.look)

    def act_and_look(root):
        scenarios.SCENARIOS[name](root)
        return stage.look(root)
    new = stage.in_kernel(act_and_look)
    assert old != new
    return Expected(name, old, new)


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
    expected = expectations(stage, name)
    for n in range(1, MOST):
        errno_name = 'ENOSPC' if n % 2 else 'EIO'
        what = f'{name}, mutation {n} fails with {errno_name}'
        error, fired = try_once(stage, operation, f'{n}:{errno_name}')
        is_new = expected.is_new(look_after(stage, expected, what))
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
    expected = expectations(stage, name)
    for n in range(1, MOST):
        what = f'{name}, killed at mutation {n}'
        error, fired = try_once(stage, operation, f'{n}:kill')
        is_new = expected.is_new(look_after(stage, expected, what))
        assert is_new or error, f'{what}: success was reported, but the tree is the old one'
        if not fired:
            assert error is None, f'{what}: {error}'
            break
    else:
        pytest.fail(f'{name}: {MOST} mutations and no end')
    if n > 1:
        _, fired = try_once(stage, operation, f'{n - 1}:killafter')
        assert fired
        look_after(stage, expected, f'{name}, killed after mutation {n - 1}')
