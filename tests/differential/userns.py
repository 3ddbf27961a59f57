"""Namespaces for a run: mounts of its own, and with --user the rights of an ordinary user who
is root of a user namespace."""

import os
import signal
import socket
import sys
import tempfile

import syscalls

FIRST_ID, IDS = 100000, 65536


def _detach_foreign_mounts():
    """A copy of someone else's FUSE mount in a namespace of ours would keep it alive."""
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as file:
        lines = [line.split() for line in file]
    for fields in reversed(lines):
        fstype = fields[fields.index('-') + 1]
        if fstype == 'overlay' or (fstype.startswith('fuse') and fstype != 'fusectl'):
            target = fields[4].encode('utf-8', 'surrogateescape').decode('unicode_escape')
            try:
                syscalls.umount(target, syscalls.MNT_DETACH)
            except OSError:
                pass


def _open_fuse_device():
    """/dev/fuse open to all, as udev makes it, in this mount namespace only."""
    node = tempfile.mktemp(prefix='veneer-diff-fuse-', dir='/var/tmp')
    os.mknod(node, 0o020666, os.makedev(10, 229))
    os.chmod(node, 0o666)
    syscalls.mount(node, '/dev/fuse', None, syscalls.MS_BIND, None)
    os.unlink(node)


def _map_ids_from_outside():
    """Enter a user namespace whose ids 0..65535 are unprivileged ones outside."""
    ready_r, ready_w = os.pipe()
    done_r, done_w = os.pipe()
    me = os.getpid()
    if os.fork() == 0:
        os.read(ready_r, 1)
        for kind in ('uid', 'gid'):
            with open(f'/proc/{me}/{kind}_map', 'w', encoding='ascii') as file:
                file.write(f'0 {FIRST_ID} {IDS}\n')
        os.write(done_w, b'x')
        os._exit(0)
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    os.write(ready_w, b'x')
    os.read(done_r, 1)
    os.wait()
    for fd in (ready_r, ready_w, done_r, done_w):
        os.close(fd)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


class CacheDropper:
    """A child with the rights this process is about to give up; it ends with its parent."""

    def __init__(self):
        self.ask, answer = socket.socketpair()
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.ask.close()
            self.serve(answer)
        answer.close()

    @staticmethod
    def serve(parent):
        while parent.recv(1):
            with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as file:
                file.write('2')
            try:
                parent.send(b'x')
            except BrokenPipeError:
                break
        os._exit(0)

    def drop(self):
        """The kernel forgets what it can: names, inodes, and their pages with them."""
        self.ask.send(b'x')
        self.ask.recv(1)


def isolate(user):
    """A mount namespace for this process and its children; it vanishes with them."""
    if os.geteuid() != 0:
        print('skipped: needs root, to make layers and namespaces')
        sys.exit(77)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount('none', '/', None, syscalls.MS_REC | syscalls.MS_SLAVE, None)
    _detach_foreign_mounts()
    if user:
        _open_fuse_device()
        # Its own tmpfs: made here, where it may be given to the unprivileged root.
        syscalls.mount('tmpfs', '/mnt', 'tmpfs', 0, f'mode=755,uid={FIRST_ID},gid={FIRST_ID}')
        _map_ids_from_outside()


def private_scratch(_default):
    """Where an unprivileged root may work: the tmpfs that isolate() made."""
    return '/mnt'
