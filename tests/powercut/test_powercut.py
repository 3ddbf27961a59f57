"""Power-cut loops: the upper lies on a disk that logs its writes and flushes; the power goes at
any flush, or between two, when the disk has kept an arbitrary part of what it was given since.
After each: the file system replays its journal, veneer mounts and empties the work directory,
the tree is the old one or the new one, after an fsync it is the new one, and kernel overlayfs
sees the same."""

import contextlib
import os
import random
import stat
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '../crash')]

from disk import BLOCKLOG, LoggedDisk, copy_image, make_file_system, mounted	# noqa: E402
from stage import (FAULTY, VENEER, Daemon, Expected, Stage, look_after,	# noqa: E402
                   private_scratch, why_not)
import scenarios			# noqa: E402

OPTIONS = os.environ.get('VENEER_FAULT_OPTIONS', 'redirect_dir=on,metacopy=on,index=on,xino=on')
FILE_SYSTEMS = os.environ.get('VENEER_POWERCUT_FS', 'ext4').split()
# Of each run, besides the last one; all: every flush, and a state between it and the next
CUTS = os.environ.get('VENEER_POWERCUT_CUTS', '2')

pytestmark = pytest.mark.skipif(why_not(BLOCKLOG) is not None, reason=str(why_not(BLOCKLOG)))


class Disk(Stage):
    """Upper and work on a disk of their own, the lowers elsewhere."""

    def __init__(self, home, fstype):
        self.top = f'{home}/top'
        super().__init__(home, OPTIONS, f'{self.top}/upper', f'{self.top}/work')
        self.fstype, self.base, self.cut = fstype, f'{home}/base', f'{home}/cut'
        self.logged = LoggedDisk(home)
        os.mkdir(self.top)
        make_file_system(fstype, self.base)
        with mounted(fstype, self.base, self.top):
            os.mkdir(self.upper)
            os.mkdir(self.work)
            self.in_kernel(scenarios.build_upper)
            self.old = self.in_kernel(self.look)

    def tree_after(self, operation):
        """By the kernel's judgement."""
        def act_and_look(root):
            operation(root)
            return self.look(root)
        copy_image(self.base, self.cut)
        with mounted(self.fstype, self.cut, self.top):
            return self.in_kernel(act_and_look)

    @contextlib.contextmanager
    def running(self, commit=False, options=''):
        """A veneer on the logged disk; with commit each of its steps reaches the disk.  Yields where
        the log is when it is mounted."""
        with self.logged.served(self.base):
            with mounted(self.fstype, self.logged.path, self.top):
                self.veneer_options += options
                try:
                    daemon = Daemon(self, FAULTY, commit=f'{self.top}/commit' if commit else None)
                finally:
                    self.veneer_options = self.veneer_options.removesuffix(options)
                try:
                    yield self.logged.position()
                finally:
                    status = daemon.end()
                assert status == 0, daemon.log()

    @contextlib.contextmanager
    def after_cut(self, log, position, seed=None):
        """The disk as it was after the cut, mounted."""
        log.cut(self.base, self.cut, position, seed)
        with mounted(self.fstype, self.cut, self.top):
            yield


@pytest.fixture(scope='module', params=FILE_SYSTEMS)
def stage(request):
    with private_scratch('veneer-powercut-') as home:
        yield Disk(home, request.param)


# ---- cuts ----

def some_cuts(flushes, name):
    """(position, seed of what was kept of the writes after it) of the cuts to try."""
    if CUTS == 'all':
        return [(at, seed) for at in flushes for seed in (None, at)]
    chance = random.Random(name)
    chosen = sorted(chance.sample(flushes, min(int(CUTS), len(flushes))))
    # The last one shows most: all steps are on the disk, and what they did not wait for is not.
    return [(at, chance.choice([None, at])) for at in chosen[:-1]] + [(at, None) for at in flushes[-1:]]


def check_cuts(stage, name, log, cuts, expected, must_be_new):
    """must_be_new: the position after which the new tree is promised."""
    for position, seed in cuts:
        what = f'{name} on {stage.fstype}, cut at {position}, seed {seed}'
        with stage.after_cut(log, position, seed):
            tree = look_after(stage, expected, what)
        if position >= must_be_new and not expected.is_new(tree):
            pytest.fail(f'{what}: was synced before the cut, but the tree is the old one')


def test_mount(stage):
    """Mounting and unmounting are not seen."""
    with stage.running(commit=True):
        pass
    log = stage.logged.log()
    cuts = log.flushes if CUTS == 'all' else log.flushes[::len(log.flushes) // 20 + 1]
    check_cuts(stage, 'mount', log, [(at, at) for at in cuts],
               Expected('mount', stage.old, stage.old), 0)


@pytest.mark.parametrize('name', scenarios.SCENARIOS)
def test_steps(stage, name):
    """Each step reaches the disk by itself, other people's data later or never."""
    operation = scenarios.SCENARIOS[name]
    expected = Expected(name, stage.old, stage.tree_after(operation))
    with stage.running(commit=True) as begin:
        operation(stage.mnt)
        done = stage.logged.position()
    log = stage.logged.log()
    flushes = [at for at in log.flushes if begin <= at < done]
    assert flushes, f'{name} never reached the disk'
    unmounted = log.flushes[-1]
    check_cuts(stage, name, log, some_cuts(flushes, name) + [(unmounted, None)], expected,
               unmounted)


def sync_what_changed(stage, new, data_only):
    """As a program would that wants its change kept: the objects, and the directories of names
    that came or went."""
    old, paths = stage.old, set()
    for path in old.keys() | new.keys():
        if old.get(path) == new.get(path):
            continue
        full = stage.mnt + path
        if path in new and stat.S_IFMT(int(new[path]['mode'], 8)) in (stat.S_IFREG, stat.S_IFDIR):
            paths.add(full)
        if path not in old or path not in new or 'content' not in new[path]:
            paths.add(os.path.dirname(full))
    for path in sorted(path for path in paths if os.path.exists(path)):
        fd = os.open(path, os.O_RDONLY)
        try:
            (os.fdatasync if data_only else os.fsync)(fd)
        finally:
            os.close(fd)


def check_sync(stage, name, data_only):
    operation = scenarios.SCENARIOS[name]
    new = stage.tree_after(operation)
    with stage.running() as begin:
        operation(stage.mnt)
        sync_what_changed(stage, new, data_only)
        done = stage.logged.position()
    log = stage.logged.log()
    flushes = [at for at in log.flushes if begin <= at < done]
    assert flushes, f'{name} was not synced'
    last = flushes.pop()
    check_cuts(stage, name, log, some_cuts(flushes, name) + [(last, last)],
               Expected(name, stage.old, new), last)


@pytest.mark.parametrize('name', scenarios.SCENARIOS)
def test_fsync(stage, name):
    check_sync(stage, name, False)


@pytest.mark.parametrize('name', sorted(scenarios.DATA))
def test_fdatasync(stage, name):
    check_sync(stage, name, True)


# ---- fsync= ----

COPIES = {'chmod-lower': 'lf', 'chmod-lower-dir': 'ld', 'chmod-deep': 'p/q/r/s',
          'chown-lower-symlink': 'sym', 'chmod-hardlink': 'hl/a'}


@pytest.mark.parametrize('name', COPIES)
def test_strict(stage, name):
    """What was copied is on the disk, under its name, when the operation returns."""
    with stage.running(options=',fsync=strict'):
        scenarios.SCENARIOS[name](stage.mnt)
        done = stage.logged.position()
    log = stage.logged.log()
    last = max(at for at in log.flushes if at < done)
    with stage.after_cut(log, last):
        assert os.path.lexists(f'{stage.upper}/{COPIES[name]}')


@pytest.mark.parametrize('name', ['write-lower', 'rename-dir-lower', 'unlink-lower'])
def test_volatile(stage, name):
    """Nothing is promised, but nobody takes what is left for a whole upper."""
    with stage.running(commit=True, options=',volatile'):
        scenarios.SCENARIOS[name](stage.mnt)
    log = stage.logged.log()
    nothing = Expected(name, stage.old, stage.old)
    refused = 0
    for position, seed in some_cuts(log.flushes[:-1], name) + [(log.flushes[-1], None)]:
        with stage.after_cut(log, position, seed):
            if not os.path.exists(f'{stage.work}/work/incompat/volatile'):
                look_after(stage, nothing, f'{name}, volatile, cut at {position}')
                continue
            with pytest.raises(AssertionError, match='volatile'):
                Daemon(stage, VENEER)
            refused += 1
    assert refused
