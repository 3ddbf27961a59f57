"""Many callers at once, without a model: what each operation gives is not known, but what must
hold of the tree afterwards is.  Nothing hangs or dies; the listing and the objects agree; a
remount changes nothing; and the kernel sees the same tree in the layers that were left."""

import os
import random
import signal
import time

from ops import Generator, Tree
from run import Difference
from snapshot import Snapshot

PATIENCE_S = 120


def call_all(case, contender, records, caller, count):
    """One caller: draws operations from what was there at first and does them."""
    rng = random.Random(f'{case.seed} caller {caller}')
    tree = Tree(contender, case.started_ns)
    source = Generator(rng, case.new_drawer(rng), tree)
    source.learn(records)
    for _ in range(count):
        op = source.draw()
        source.note(op, {'veneer': tree.do(op)})
    tree.close_all()


def start(call):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        finally:
            os._exit(status)
    return pid


def join(pids):
    """Wait for the processes; which of them failed or did not end."""
    end = time.monotonic() + PATIENCE_S
    failed = []
    for pid in pids:
        done, status = os.waitpid(pid, os.WNOHANG)
        while not done and time.monotonic() < end:
            time.sleep(0.01)
            done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            os.kill(pid, signal.SIGKILL)
            failed.append('does not end')
        elif status:
            failed.append(f'status {status}')
    return failed


def compare(what, want, got, directories_count=True):
    """The snapshots are of one tree.  Without directories_count their link counts and inode
    numbers are not compared."""
    out = [text for code, _rel, text in got.faults if directories_count]
    for rel in sorted(want.records.keys() | got.records.keys()):
        one, two = dict(want.records.get(rel, {})), dict(got.records.get(rel, {}))
        if not directories_count and one.get('mode', '').startswith('0o4'):
            one.pop('nlink'), two.pop('nlink', None)
        if one != two:
            out.append(f'{rel!r}: {one}, {what} {two}')
        elif directories_count and want.inodes[rel] != got.inodes[rel]:
            out.append(f'{rel!r}: st_ino {want.inodes[rel]}, {what} {got.inodes[rel]}')
    if out:
        raise Difference(('crowd', what), '\n'.join(out[:30]))


def run_crowd(case, callers, count):
    veneer = next(c for c in case.contenders if c.kind == 'veneer')
    kernel = next(c for c in case.contenders if c.kind == 'kernel')
    veneer.mount()
    records = Snapshot(veneer.root, case.started_ns).records
    failed = join([start(lambda n=n: call_all(case, veneer, records, n, count))
                   for n in range(callers)])
    if failed:
        raise Difference(('crowd', 'callers'), f'callers: {failed}')
    live = Snapshot(veneer.root, case.started_ns)
    compare('at once', live, live)
    veneer.unmount()
    veneer.mount()
    compare('after a remount', live, Snapshot(veneer.root, case.started_ns),
            directories_count=not case.args.user)
    veneer.unmount()
    kernel.upper, kernel.work = veneer.upper, veneer.work
    kernel.mount()
    compare('on the kernel', live, Snapshot(kernel.root, case.started_ns),
            directories_count=False)
    kernel.unmount()
