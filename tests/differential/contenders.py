"""The three file systems under comparison: veneer, kernel overlayfs, a plain directory."""

import errno
import os
import subprocess
import time

import syscalls

MOUNT_TIMEOUT_S = 10
END_TIMEOUT_S = 20
BUSY_TIMEOUT_S = 5


class Failure(Exception):
    """A contender broke where comparing makes no sense: a mount failed, a daemon died."""


def option_string(case, upper, work, more=()):
    options = ['lowerdir=' + ':'.join(reversed(case.lowers)), f'upperdir={upper}',
               f'workdir={work}', *more] + case.options
    return ','.join(options)


def like_kernel(options):
    """What makes veneer write what the kernel does with the same options."""
    says = any(opt.startswith('redirect_dir') or opt == 'metacopy=on' for opt in options)
    return ['compat=kernel'] + ([] if says else ['redirect_dir=follow'])


def umount_patiently(path):
    """A worker of the daemon may hold the mount for a moment after its last answer."""
    end = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return syscalls.umount(path)
        except OSError as err:
            if err.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


class Contender:
    """root is the mount point, in a read-only directory of its own: paths that leave the tree
    meet the same nothing with every contender.  What it consists of lies in home."""

    def __init__(self, case, name=None):
        self.case = case
        self.name = name or self.kind
        self.home = f'{case.scratch}/{self.name}.home'
        self.outside = f'{case.scratch}/{self.name}'
        self.root = f'{self.outside}/mnt'
        self.mounted = False

    def prepare(self):
        os.mkdir(self.home)
        os.mkdir(self.outside)
        syscalls.mount('tmpfs', self.outside, 'tmpfs', 0, 'mode=755')
        os.mkdir(self.root)
        syscalls.mount('tmpfs', self.outside, 'tmpfs', syscalls.MS_REMOUNT | syscalls.MS_RDONLY,
                       None)

    def dispose(self):
        try:
            self.unmount()
        finally:
            syscalls.umount(self.outside, syscalls.MNT_DETACH)


class Plain(Contender):
    """The model: a directory that holds the merged tree."""

    kind = 'plain'
    upper = None

    def prepare(self):
        super().prepare()
        self.tree = f'{self.home}/tree'
        os.mkdir(self.tree)

    def mount(self):
        syscalls.mount(self.tree, self.root, None, syscalls.MS_BIND, None)
        self.mounted = True

    def unmount(self):
        if self.mounted:
            syscalls.umount(self.root)
            self.mounted = False


class Overlay(Contender):
    """What both overlays share: an upper and a work directory."""

    def __init__(self, case, name=None):
        super().__init__(case, name)
        self.upper, self.work = f'{self.home}/upper', f'{self.home}/work'

    def prepare(self):
        super().prepare()
        os.mkdir(self.upper)
        os.mkdir(self.work)


class Kernel(Overlay):
    kind = 'kernel'

    def mount(self):
        try:
            syscalls.mount('overlay', self.root, 'overlay', 0,
                           option_string(self.case, self.upper, self.work))
        except OSError as err:
            raise Failure(f'kernel overlayfs does not mount: {err}') from None
        self.mounted = True

    def unmount(self):
        if self.mounted:
            syscalls.umount(self.root)
            self.mounted = False


def ways(case):
    """How requests come and data goes, in turn, of which a user has no choice; and whether the kernel
    is made to forget what it does not use, all the time."""
    nodes = [f'max_nodes={(0, 8)[case.seed // 4 % 2]}']
    if case.args.user:
        return nodes
    uring = os.path.exists('/sys/module/fuse/parameters/enable_uring') and case.seed % 4 > 1
    return nodes + [f'io_uring={"on" if uring else "off"}', f'data={("passthrough", "served")[case.seed % 2]}']


class Veneer(Overlay):
    kind = 'veneer'
    program = None		# path of the executable

    def __init__(self, case, name=None):
        super().__init__(case, name)
        self.daemon = None

    def mount(self):
        before = os.stat(self.root).st_dev
        more = [] if self.case.native else like_kernel(self.case.options)
        with open(f'{self.home}/log', 'ab') as log:
            self.daemon = subprocess.Popen(
                [self.program, '-f', '-o', option_string(self.case, self.upper, self.work,
                                                     more + ways(self.case)), self.root], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + MOUNT_TIMEOUT_S
        while self.daemon.poll() is None and time.monotonic() < end:
            if os.stat(self.root).st_dev != before:
                self.mounted = True
                return
            time.sleep(0.002)
        self.daemon.kill()
        self.daemon.wait()
        raise Failure('veneer does not mount: ' + self.log())

    def unmount(self):
        if not self.mounted:
            return
        self.mounted = False
        dead = self.daemon.poll()
        try:
            if dead is None:
                umount_patiently(self.root)
            else:
                syscalls.umount(self.root, syscalls.MNT_DETACH)
            self.daemon.wait(END_TIMEOUT_S)
        except (subprocess.TimeoutExpired, OSError) as err:
            syscalls.umount(self.root, syscalls.MNT_DETACH)
            self.daemon.kill()
            self.daemon.wait()
            raise Failure(f'veneer does not end after the unmount ({err}): {self.log()}') from None
        if self.daemon.returncode != 0:
            raise Failure(f'veneer ended with status {self.daemon.returncode}: {self.log()}')

    def log(self):
        with open(f'{self.home}/log', errors='replace') as log:
            return log.read()[-4000:].strip()


KINDS = {'plain': Plain, 'kernel': Kernel, 'veneer': Veneer}
