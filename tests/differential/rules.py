"""The differences that are known, each under the id it has in docs/deviations.md.

A rule is as narrow as the fact behind it: it names the contender, the operation or field, and
the condition under which the fact holds.  Everything else is a failure."""

import os
import re
import stat

import syscalls


class Facts:
    """What the rules ask about the case in hand."""

    def __init__(self, case):
        self.case = case
        self.index = 'index=on' in case.options or case.native
        self.redirect = bool({'redirect_dir=on', 'metacopy=on'} & set(case.options)) or (
            case.native and 'redirect_dir=off' not in case.options)
        self.metacopy = 'metacopy=on' in case.options
        self.plain_root = None		# where the model is
        self.multi = set()		# inode keys of the model's files with several lower names
        self.on_kernel_layers = {'kernel'}	# who mounts what the kernel has written
        self.linked = set()		# of those that were given another name
        self.mapped = set()		# inode keys of the model's files written through mappings
        self.model_follows = False	# the model takes over what a rule lets the kernel do
        self.used = {}			# rule id: how often it explained something

    def use(self, rule):
        self.used[rule] = self.used.get(rule, 0) + 1
        return rule

    def model(self, rel):
        """The model's path of what `rel` names; one that is absolute already stays."""
        return rel if str(rel).startswith('/proc/') else f'{self.plain_root}/{rel}'

    def is_dir(self, rel):
        try:
            return stat.S_ISDIR(os.stat(self.model(rel), follow_symlinks=str(rel).startswith('/proc/')).st_mode)
        except OSError:
            return False

    def is_empty(self, rel):
        try:
            return not os.listdir(self.model(rel))
        except OSError:
            return False

    def is_multi(self, rel):
        """Is rel a file that a layer holds under several names, in a case without index?"""
        return not self.index and self.is_among(rel, self.multi)

    def is_among(self, rel, keys):
        return bool(keys) and any(self._key(rel, follow) in keys for follow in (False, True))

    def splits_names(self, contender):
        """Does the kernel, without origins, make several files of a file with several names?
        Whoever mounts such layers sees that."""
        return self.case.args.user and contender in self.on_kernel_layers

    def is_many_to(self, contender, rel):
        """Is the file with several names that rel is one of several files to the kernel, each
        with attributes and locks of its own?"""
        if rel is None or not self.splits_names(contender):
            return False
        return self.is_among(rel, self.linked) or self.is_among(rel, self.multi)

    def same_inode(self, one, two):
        return self._key(one, False) == self._key(two, False)

    def _key(self, rel, follow):
        try:
            return syscalls.inode_key(self.model(rel), follow)
        except OSError:
            return None


def note_link(facts, op, model):
    """Remember a file that has had several names."""
    if op[0] in ('link', 'link_fd'):
        try:
            facts.linked.add(syscalls.inode_key(model.path(op[4])))
        except OSError:
            pass


def note_mapped_write(facts, op, model):
    """Remember a file whose modification time is not to be compared from here on: it is
    written through a mapping, but not synced, or the model is on a file system that sets no
    times by that."""
    area = model.maps.get(op[3]) if op[0] == 'map_write' else None
    if area and area.shared and (not op[7] or facts.case.on_tmpfs or facts.case.args.user):
        facts.mapped.add(syscalls.inode_key(f'/proc/self/fd/{area.fd}', True))


def refused_by_kernel(facts, op, result):
    """The id of the rule by which kernel overlayfs alone refuses an operation; then nobody
    else may do it either."""
    if op[0] in ('rmdir', 'rename') and result == 'ENOTEMPTY' and facts.case.xattr_whiteouts:
        if facts.is_empty(op[3]) or (op[0] == 'rename' and facts.is_empty(op[4])):
            return facts.use('kernel-rmdir-xattr-whiteouts')
    if op[0] in ('rename', 'link', 'link_fd') and result == 'EXDEV' and facts.redirect:
        if facts.case.long_names:
            return facts.use('redirect-too-long')
    if op[0] == 'copy_range' and result == 'EXDEV' and facts.case.on_other:
        return facts.use('kernel-mixed-copy')
    return None


def refused_by_overlays(facts, op, result):
    """The id of the rule by which an overlay refuses what a plain directory would do; the
    model must then not do it either."""
    name, args = op[0], op[3:]
    if name == 'rename' and result == 'EXDEV' and not facts.redirect:
        if facts.is_dir(args[0]) or facts.is_dir(args[1]):
            return facts.use('dir-rename-exdev')
    if name == 'rename' and result == 'EXDEV' and facts.redirect and facts.case.long_names:
        if facts.is_dir(args[0]) or facts.is_dir(args[1]):
            return facts.use('redirect-too-long')
    if name == 'mknod' and result == 'EPERM' and stat.S_ISCHR(args[1]) and args[2:] == [0, 0]:
        return facts.use('mknod-whiteout')
    return None


def orphan_lost(facts, contender, model_fd, want, got):
    """Does kernel overlayfs fail to copy up a file that was removed while open?  The descriptor
    is of no use in a comparison from there on."""
    errors = ('EEXIST', 'ENOENT', 'ENOTDIR', 'ESTALE')
    if contender == 'kernel' and got in errors and want != got:
        if model_fd is not None and os.fstat(model_fd).st_nlink == 0:
            return facts.use('kernel-unlinked-copy-up')
    return None


def truncated_to_its_size(facts, op, results):
    """Do contenders differ by the modification time of a file truncated to the size it had?
    File systems differ there (ext4 sets it for extents, tmpfs does not), and the protocol does
    not tell truncate(2) from O_TRUNC, which must set it."""
    if op[0] != 'truncate' or not all(isinstance(r, dict) for r in results.values()):
        return None
    times = {record['mtime'] for record in results.values()}
    if len(times) == 2 and 'now' in times:
        return facts.use('truncate-same-size-mtime')
    return None


def copied_by_stale_size(facts, op, results):
    """Did kernel overlayfs copy less because, without origins, the names of one file are several
    inodes to it, each with a size of its own?"""
    counts = list(results.values())
    if op[0] != 'copy_range' or not all(isinstance(count, int) for count in counts):
        return None
    if facts.case.args.user and results.get('kernel', 0) < max(counts):
        return facts.use('kernel-user-stale-size')
    return None


def explain_result(facts, contender, op, rel, want, got):
    """The id of the rule that covers another result or errno of a whole operation, which is
    about rel, or None."""
    if contender == 'kernel' and op[0] == 'removexattr' and 'posix_acl' in op[4]:
        if want is None and got == 'ENODATA':
            return facts.use('remove-absent-acl')
    if contender == 'veneer' and op[0] in ('chown', 'fchown') and op[4:] == [-1, -1]:
        if want == 'EPERM' and not isinstance(got, str):
            return facts.use('chown-nothing-by-others')
    if contender == 'kernel' and op[0] in ('map_read', 'map_write'):
        return facts.use('kernel-stale-mapping')
    if facts.is_many_to(contender, rel):
        return facts.use('kernel-user-ino')
    if contender == 'kernel' and facts.case.args.user and op[0] == 'rename' and got == 'ESTALE':
        if want is None and facts.same_inode(op[3], op[4]):
            return facts.use('kernel-user-ino')
    return None


def explain_field(facts, contender, rel, field, want, got):
    """The id of the rule that covers a field of the record of rel, or None; want and got are
    the records."""
    is_dir = want['mode'].startswith('0o4')
    if field == 'nlink' and contender == 'kernel' and is_dir:
        return facts.use('kernel-dir-nlink')
    if field == 'nlink' and contender == 'kernel' and want['nlink'] == 0:
        return facts.use('kernel-unlinked-nlink')
    if field == 'mtime' and contender in facts.on_kernel_layers and is_dir and facts.redirect:
        if got['mtime'] == 'now':
            return facts.use('kernel-failed-rename-mtime')
    if field == 'mtime' and contender in facts.on_kernel_layers and facts.metacopy and not is_dir:
        if got['mtime'] == 'now':
            if facts.model_follows:
                os.utime(facts.model(rel), follow_symlinks=False)
            return facts.use('kernel-metacopy-mtime')
    if field == 'nlink' and facts.is_multi(rel):
        return facts.use('hardlink-without-index')
    if facts.is_many_to(contender, rel):
        return facts.use('kernel-user-ino')
    if field == 'mtime' and facts.is_among(rel, facts.mapped):
        return facts.use('mmap-write-times')
    return None


def explain_fault(facts, contender, code):
    """The id of the rule that covers an inconsistency of one contender with itself."""
    if contender == 'kernel' and code == 'dotdot':
        return facts.use('kernel-dotdot-ino')
    if contender == 'kernel' and code in ('st_dev', 'dot') and facts.case.on_other:
        return facts.use('kernel-mixed-ino')
    if contender == 'kernel' and code == 'd_ino':
        return facts.use('kernel-d-ino')
    return None


def explain_links(facts, contender, names):
    """The id of the rule by which names are one inode here and not there."""
    if any(facts.is_multi(rel[1:]) for rel in names):
        return facts.use('hardlink-without-index')
    if facts.splits_names(contender):
        return facts.use('kernel-user-ino')
    return None


def explain_inode(facts, contender, key):
    """The id of the rule by which an object's st_ino may change while it lives."""
    if key in facts.multi and not facts.index:
        return facts.use('hardlink-without-index')
    if contender == 'kernel' and facts.index:
        return facts.use('kernel-index-ino')
    if contender == 'kernel' and facts.case.on_other:
        return facts.use('kernel-mixed-ino')
    if contender == 'kernel' and facts.splits_names(contender):
        return facts.use('kernel-user-ino')
    if facts.splits_names(contender) and key in facts.linked | facts.multi:
        return facts.use('kernel-user-ino')
    return None


def explain_birth(facts, key, record):
    """The id of the rule by which the time of birth of veneer's objects may change."""
    if key in facts.multi and not facts.index:
        return facts.use('hardlink-without-index')
    if facts.splits_names('veneer') and key in facts.linked:
        return facts.use('kernel-user-ino')
    mode = int(record['mode'], 8)
    if facts.case.args.user and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return facts.use('user-special-btime')
    return None


def explain_change(facts, op, result, rel):
    """The id of the rule by which the change time of rel may change by an operation in one of
    veneer and the model only."""
    if facts.is_multi(rel):
        return facts.use('hardlink-without-index')
    if facts.is_among(rel, facts.mapped):
        return facts.use('mmap-write-times')
    if op[0] == 'fallocate' and result == 'ENOTSUP':
        return facts.use('refused-after-copy-up')
    if op[0] in ('setxattr', 'fsetxattr') and not isinstance(result, str):
        return facts.use('same-value-ctime')
    if op[0] in ('truncate', 'ftruncate'):
        return facts.use('truncate-same-size-mtime')
    if op[0] in ('chown', 'fchown') and op[4:] == [-1, -1]:
        return facts.use('chown-nothing-by-others')
    if op[0] == 'removexattr' and 'posix_acl' in op[4]:
        return facts.use('remove-absent-acl')
    return None


def unknown_ids(text):
    """The rule ids of this file that the text of docs/deviations.md does not list."""
    with open(__file__, encoding='ascii') as source:
        ids = set(re.findall(r"use\('([a-z-]+)'\)", source.read()))
    return sorted(rule for rule in ids if f'`{rule}`' not in text)
