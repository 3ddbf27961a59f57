"""Fault loops of the origin table: where private attributes are user.*, the inode number of a
symbolic link or a special file is the lower's after whatever crash, and the table holds no more
than it must."""

import os
import shutil
import signal
import stat
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../crash'))

from stage import FAULTY, VENEER, Daemon, Stage, left_in_work, private_scratch, why_not	# noqa: E402

MOST = 60			# mutations that no operation here needs
SPECIAL = ['sym', 'fifo', 'socket']

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Scenario:
    """What is done, after what; where each object is then, None: nowhere; and by how much the
    table may be too large if that is interrupted."""

    def __init__(self, operation, before=(), moved=None, waste=0):
        self.operation, self.before, self.moved, self.waste = operation, before, moved or {}, waste


SCENARIOS = {
    'copy-up-symlink': Scenario(lambda root: os.lchown(f'{root}/sym', 1, 1)),
    'copy-up-fifo': Scenario(lambda root: os.chmod(f'{root}/fifo', 0o600)),
    'copy-up-socket': Scenario(lambda root: os.chmod(f'{root}/socket', 0o600), before=['sym']),
    'rename-lower': Scenario(lambda root: os.rename(f'{root}/sym', f'{root}/ld/moved'),
                             moved={'sym': 'ld/moved'}),
    'rename-upper': Scenario(lambda root: os.rename(f'{root}/sym', f'{root}/ld/moved'),
                             before=SPECIAL, moved={'sym': 'ld/moved'}),
    'unlink-lower': Scenario(lambda root: os.unlink(f'{root}/sym'), moved={'sym': None}),
    'unlink-upper': Scenario(lambda root: os.unlink(f'{root}/sym'), before=SPECIAL,
                             moved={'sym': None}, waste=1),
    'rename-over-upper': Scenario(lambda root: os.rename(f'{root}/fifo', f'{root}/sym'),
                                  before=SPECIAL, moved={'sym': None, 'fifo': 'sym'}, waste=1),
}


@pytest.fixture(scope='module')
def stage():
    with private_scratch('veneer-numbers-') as home:
        made = Stage(home, 'userxattr', f'{home}/upper', f'{home}/work')
        os.mknod(f'{made.lowers[1]}/socket', stat.S_IFSOCK | 0o644)
        yield made


def prepare(stage, scenario):
    """A new upper, in which some objects are."""
    for path in (stage.upper, stage.work):
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path)
    daemon = Daemon(stage, VENEER)
    numbers = {name: os.lstat(f'{stage.mnt}/{name}').st_ino for name in SPECIAL}
    for name in scenario.before:
        os.lchown(f'{stage.mnt}/{name}', 7, 7)
    assert daemon.end() == 0
    return numbers


def try_once(stage, scenario, fault):
    """(the operation's error, has the fault come)"""
    daemon = Daemon(stage, FAULTY, fault)
    error = None
    try:
        scenario.operation(stage.mnt)
    except OSError as err:
        error = err
    finally:
        daemon.wait_if_dead()
        status = daemon.end()
    assert status in (0, -signal.SIGKILL), daemon.log()
    return error, status != 0 or 'fault:' in daemon.log()


def entries(stage):
    path = f'{stage.work}/origin'
    return len(os.listdir(path)) if os.path.isdir(path) else 0


def copies(stage):
    """How many objects of the upper must have an entry."""
    return sum(stat.S_IFMT(os.lstat(os.path.join(path, name)).st_mode) in
               (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)
               for path, _, files in os.walk(stage.upper) for name in files)


def look_after(stage, scenario, numbers, what, waste):
    daemon = Daemon(stage, VENEER)
    for name, number in numbers.items():
        places = [name, scenario.moved.get(name, name)]
        seen = [os.lstat(f'{stage.mnt}/{place}').st_ino for place in places
                if place and os.path.lexists(f'{stage.mnt}/{place}')]
        assert number in seen or places[1] is None, f'{what}: {name} was {number}, is {seen}'
    assert daemon.end() == 0
    assert left_in_work(f'{stage.work}/work') == [], what
    assert copies(stage) <= entries(stage) <= copies(stage) + waste, what


@pytest.mark.parametrize('kind', ['ENOSPC', 'kill'])
@pytest.mark.parametrize('name', SCENARIOS)
def test_nth(stage, name, kind):
    scenario = SCENARIOS[name]
    for n in range(1, MOST):
        what = f'{name}, mutation {n}: {kind}'
        numbers = prepare(stage, scenario)
        error, fired = try_once(stage, scenario, f'{n}:{kind}')
        look_after(stage, scenario, numbers, what, scenario.waste if fired else 0)
        if not fired:
            assert error is None, f'{what}: {error}'
            assert n > 1, f'{name} makes no mutation'
            return
    pytest.fail(f'{name}: {MOST} mutations and no end')
