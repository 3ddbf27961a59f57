"""One seed: its layers, its contenders, the operations done on all of them, the comparisons."""

import os
import random
import stat
import time

import syscalls
from ctimes import Stamps, judge
from contenders import KINDS, Failure
from layers import Drawer, Realiser
from ops import Generator, Tree
from rules import (Facts, copied_by_stale_size, explain_birth, explain_change, explain_fault,
                   explain_field, explain_inode, explain_links, explain_result, note_link,
                   note_mapped_write, orphan_lost, refused_by_kernel, refused_by_overlays,
                   truncated_to_its_size)
from snapshot import Snapshot, raw_tree

COMPARE_EVERY = 60
REMOUNT_CHANCE = 1 / 120
DROP_CHANCE = 1 / 200
MADE_OPS = 60
AFTER_SWAP = 1 / 8		# so many of the operations are done on the swapped layers


class Difference(Exception):
    """Contenders disagree.  kind names what was seen, so that minimising keeps to it."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Case:
    """One seed: its layers, its options and its scratch directory."""

    def __init__(self, seed, args, scratch):
        self.seed, self.args, self.scratch = seed, args, scratch
        self.rng = random.Random(f'{seed} layers')
        self.private = 'user.overlay.' if args.user else 'trusted.overlay.'
        self.options = ['userxattr'] if args.user else list(args.option_sets[
            seed % len(args.option_sets)])
        self.native = 'kernel' not in args.contenders	# by veneer's own defaults
        self.lowers, self.on_other = [], []
        self.xattr_whiteouts = False
        self.on_tmpfs = self.rng.random() < 0.5
        self.long_names = self.rng.random() < 0.25
        # The top lower is a layer that the kernel has written, with its redirects and metacopy
        # files.
        self.kernel_layer = self.rng.random() < 0.3 and 'kernel' in args.contenders
        self.mixed = not self.on_tmpfs and not args.user and 'index=on' not in self.options
        self.facts = Facts(self)
        self.contenders = [KINDS[name](self) for name in args.contenders]
        # Files made before this count as old; nothing here sets times within the last day.
        self.started_ns = time.time_ns() - 86400 * 10 ** 9

    def new_drawer(self, rng):
        return Drawer(rng, not self.args.user, self.long_names, not self.kernel_layer)

    def build(self):
        if self.on_tmpfs:
            syscalls.mount('tmpfs', self.scratch, 'tmpfs', 0, 'mode=755')
        drawer = self.new_drawer(self.rng)
        layers, merged = drawer.draw_stack()
        for i, layer in enumerate(layers):
            Realiser(self.private, form=self.draw_form(i)).realise(layer, self.new_layer(i))
        top = drawer.draw_dir()
        merged.mode, merged.owner, merged.mtime = top.mode, top.owner, top.mtime
        merged.xattrs = {}
        for contender in self.contenders:
            contender.prepare()
            if not contender.upper:
                self.build_model(contender, merged)
        for contender in self.contenders:
            if contender.upper:
                Realiser(self.private).dress(top, contender.upper)
        if self.kernel_layer:
            self.build_kernel_layer(top)

    def new_layer(self, i):
        path = f'{self.scratch}/lower{i}'
        os.mkdir(path)
        if self.mixed and self.rng.random() < 0.3:
            syscalls.mount('tmpfs', path, 'tmpfs', 0, None)
            self.on_other.append(path)
        self.lowers.append(path)
        return path

    def draw_form(self, i):
        """How a layer's whiteouts are written; xattr ones do not count in the lowest."""
        forms = ['device', 'device', 'xattr' if i > 0 else 'device']
        form = self.rng.choice(forms if 'kernel' in self.args.contenders else forms + ['name'])
        self.xattr_whiteouts |= form == 'xattr'
        return form

    def build_model(self, plain, merged):
        hidden = f'{plain.home}/hidden'
        os.mkdir(hidden)
        writer = Realiser(self.private, share_links=self.facts.index)
        writer.realise(merged, plain.tree)
        if self.facts.index:
            writer.add_hidden_links(merged, hidden)
        self.facts.plain_root = plain.tree
        self.facts.multi = {syscalls.inode_key(path) for path in writer.multi}

    def build_kernel_layer(self, top):
        """Operations on kernel overlayfs and on the model alike; then its upper is a lower."""
        made = KINDS['kernel'](self, 'made')
        made.prepare()
        Realiser(self.private).dress(top, made.upper)
        run = Run(self, [made] + [c for c in self.contenders if not c.upper])
        self.facts.model_follows = True
        try:
            run.generate_layer(MADE_OPS)
        finally:
            run.end()
            made.dispose()
        self.facts.model_follows = False
        self.lowers.append(made.upper)
        for contender in self.contenders:
            if contender.upper:
                dress_like(made.upper, contender.upper, self.private)

    def destroy(self):
        for contender in self.contenders:
            try:
                contender.dispose()
            except (Failure, OSError) as err:
                print(f'seed {self.seed}: clean-up: {err}', flush=True)
        for path in self.on_other + ([self.scratch] if self.on_tmpfs else []):
            syscalls.umount(path, syscalls.MNT_DETACH)


class Run:
    """Does a case's operations, drawn or given, and compares."""

    def __init__(self, case, contenders):
        self.case, self.facts = case, case.facts
        self.rng = random.Random(f"{case.seed} {'made' if contenders[0].name == 'made' else 'ops'}")
        self.trees = [Tree(contender, case.started_ns) for contender in contenders]
        self.by_kind = {tree.contender.kind: tree for tree in self.trees}
        self.log = []
        self.inodes = [{} for _ in self.trees]
        self.births = {}		# of veneer's objects

    # -- what the phases are made of --

    def remount(self):
        for tree in self.trees:
            tree.close_all()
            tree.contender.unmount()
        for tree in self.trees:
            tree.contender.mount()

    def swap(self):
        """Give veneer the kernel's upper and work directory, and the reverse."""
        overlays = [tree.contender for tree in self.trees if tree.contender.upper]
        for tree in self.trees:
            tree.close_all()
            tree.contender.unmount()
        if len(overlays) == 2:
            one, two = overlays
            one.upper, two.upper = two.upper, one.upper
            one.work, two.work = two.work, one.work
            self.inodes = [{} for _ in self.trees]
            self.births = {}
            self.facts.on_kernel_layers = {'kernel', 'veneer'}
        for tree in self.trees:
            tree.contender.mount()

    def do(self, op):
        self.log.append(op)
        if op[0] == 'remount':
            self.remount()
        elif op[0] == 'swap':
            self.swap()
        elif op[0] == 'compare':
            self.compare_trees()
        elif op[0] == 'drop':
            self.case.args.dropper.drop()
        else:
            return self.do_everywhere(op)
        return None

    def do_everywhere(self, op):
        """The kernel first, then veneer, then the model: by what one refuses, a rule may say
        that those after it must not do it either."""
        results, skip_model = {}, None		# by kind of contender
        started_ns = time.time_ns()
        before = self.stamps(op)
        for kind in ('kernel', 'veneer', 'plain'):
            tree = self.by_kind.get(kind)
            if not tree or (kind == 'plain' and skip_model):
                continue
            results[kind] = tree.do(op)
            if 'plain' not in self.by_kind or kind == 'plain':
                continue
            if kind == 'kernel' and refused_by_kernel(self.facts, op, results[kind]):
                return results
            skip_model = skip_model or refused_by_overlays(self.facts, op, results[kind])
        if 'plain' in results:
            note_link(self.facts, op, self.by_kind['plain'])
            note_mapped_write(self.facts, op, self.by_kind['plain'])
        if truncated_to_its_size(self.facts, op, results):
            for tree in self.trees:		# go on from one state
                tree.do(['touch', 0, 0, op[3]])
                results[tree.contender.kind]['mtime'] = 'now'
        if copied_by_stale_size(self.facts, op, results):
            for tree in self.trees:		# the same here
                tree.do(['ftruncate', 0, 0, op[4], 0])
            return results
        model_fd = self.by_kind['plain'].slots.get(op[3]) if 'plain' in results else None
        if any(orphan_lost(self.facts, kind, model_fd, results.get('plain'), got)
               for kind, got in results.items()):
            for tree in self.trees:
                tree.close(op[3])
        else:
            self.compare_results(op, results)
            self.compare_changes(op, results.get('plain'), before, started_ns)
        return results

    def stamps(self, op):
        """Of veneer and the model: what the kernel's copy-up does to change times is known."""
        if not {'plain', 'veneer'} <= self.by_kind.keys():
            return {}
        return {kind: Stamps(self.by_kind[kind], op) for kind in ('plain', 'veneer')}

    def compare_changes(self, op, result, before, started_ns):
        changed = {kind: stamps.changed_since(before[kind])
                   for kind, stamps in (self.stamps(op) if before else {}).items()}
        if changed:
            out = judge(changed['plain'], changed['veneer'], (before['plain'], before['veneer']),
                        started_ns)
            out = [text for where, text in out
                   if not explain_change(self.facts, op, result, self.subject_of(where))]
            if out:
                raise Difference((op[0], 'veneer', 'ctime'), '\n'.join(out))

    def subject_of(self, where):
        """A path from the root, or of a descriptor its path in /proc."""
        if isinstance(where, str):
            return where
        return f"/proc/self/fd/{self.by_kind['plain'].slots[where]}"

    def compare_results(self, op, results):
        base = next(kind for kind in ('plain', 'kernel', 'veneer') if kind in results)
        for kind, got in results.items():
            unknown = [] if got == results[base] else self.unexplained(op, kind, results[base], got)
            if unknown:
                lines = [f'{f}: {base} {a!r}, {kind} {b!r}' for f, a, b in unknown]
                raise Difference((op[0], kind, str(unknown[0][0])), '\n'.join(lines))

    def unexplained(self, op, name, want, got):
        """[(field, want, got)] where two results differ and no rule says why."""
        one, two, rel = stat_part(want), stat_part(got), op_subject(op, self.trees)
        if one is None or two is None:
            known = explain_result(self.facts, name, op, rel, want, got)
            return [] if known else [('result', want, got)]
        out = [('result', want[0], got[0])] if isinstance(want, tuple) and want[0] != got[0] else []
        for field in sorted(one.keys() | two.keys()):
            if one.get(field) != two.get(field):
                if not explain_field(self.facts, name, rel, field, one, two):
                    out.append((field, one.get(field), two.get(field)))
        return out

    def compare_trees(self):
        shots = [Snapshot(tree.root, self.case.started_ns) for tree in self.trees]
        models = [i for i, tree in enumerate(self.trees) if not tree.contender.upper]
        base = models[0] if models else 0
        out = []
        for i, (tree, shot) in enumerate(zip(self.trees, shots)):
            name = tree.contender.kind
            out += [(('tree', name, code), f'{name}: {text}') for code, rel, text in shot.faults
                    if not explain_fault(self.facts, name, code)]
            out += self.compare_records(name, shots[base], shot)
            out += self.compare_links(name, shots[base], shot)
            if models:
                out += self.compare_inodes(i, name, shot)
        if out:
            raise Difference(out[0][0], '\n'.join(text for _, text in out[:30]))
        return shots[base]

    def compare_records(self, name, want, got):
        out = []
        for rel in sorted(want.records.keys() | got.records.keys()):
            one, two = want.records.get(rel), got.records.get(rel)
            if one is None or two is None:
                side = 'lacks' if two is None else 'has in addition'
                out.append((('tree', name, 'names'), f'{name} {side} {rel!r}'))
                continue
            for field in sorted(one.keys() | two.keys()):
                a, b = one.get(field), two.get(field)
                if a != b and not explain_field(self.facts, name, rel[1:], field, one, two):
                    out.append((('tree', name, field), f'{rel!r} {field}: {a!r}, {name} {b!r}'))
        return out

    def compare_links(self, name, want, got):
        out = []
        for names in sorted(want.links() ^ got.links()):
            if not explain_links(self.facts, name, names):
                side = 'only in ' + name if names in got.links() else 'not in ' + name
                out.append((('tree', name, 'links'), f'one inode {side}: {names}'))
        return out

    def compare_inodes(self, i, name, shot):
        """st_ino must stay what it was as long as the model's inode lives."""
        out, seen = [], self.inodes[i]
        for rel, ino in shot.inodes.items():
            try:
                key = syscalls.inode_key(self.facts.plain_root + rel)
            except OSError:
                continue
            out += self.compare_birth(name, key, rel, shot)
            before = seen.setdefault(key, ino)
            if before != ino:
                if not explain_inode(self.facts, name, key):
                    out.append((('tree', name, 'ino'),
                                f'{name}: st_ino of {rel!r} was {before}, is {ino}'))
        return out

    def compare_birth(self, name, key, rel, shot):
        """Nor does the time of birth change."""
        if name != 'veneer' or rel == '':
            return []
        birth = syscalls.inode_key(shot.root + rel)[1:]
        before = self.births.setdefault(key, birth)
        if before == birth or explain_birth(self.facts, key, shot.records[rel]):
            return []
        return [(('tree', name, 'birth'), f'{name}: birth of {rel!r} was {before}, is {birth}')]

    # -- whole runs --

    def generate(self, count):
        """Draw and do `count` operations with remounts, comparisons and the swap between."""
        source = Generator(self.rng, self.case.new_drawer(self.rng), self.trees[0])
        self.begin()
        source.learn(self.check())
        for phase in (count, int(count * AFTER_SWAP)):
            for i in range(phase):
                op = source.draw()
                source.note(op, self.do(op))
                if i % COMPARE_EVERY == COMPARE_EVERY - 1:
                    source.learn(self.check())
                if self.rng.random() < DROP_CHANCE:
                    self.do(['drop', 0, 0])
                if self.rng.random() < REMOUNT_CHANCE:
                    self.do(['remount', 0, 0])
                    source.learn(self.check())
            self.check()
            self.do(['swap', 0, 0])
            source.learn(self.check())
        self.finish()

    def generate_layer(self, count):
        """Operations that leave no file with several names: what the model has of those could
        not be told from what a layer has."""
        source = Generator(self.rng, self.case.new_drawer(self.rng), self.trees[0])
        for tree in self.trees:
            tree.contender.mount()
        source.learn(self.check())
        for _ in range(count):
            op = source.draw()
            if op[0] not in ('link', 'link_fd'):
                source.note(op, self.do(op))
        self.check()

    def end(self):
        for tree in self.trees:
            tree.close_all()
            tree.contender.unmount()

    def replay(self, ops):
        self.begin()
        for op in ops:
            self.do(op)
        self.finish()

    def check(self):
        self.log.append(['compare', 0, 0])
        return self.compare_trees().records

    def begin(self):
        self.before = [raw_tree(path) for path in self.case.lowers]
        for tree in self.trees:
            tree.contender.mount()

    def finish(self):
        self.end()
        for path, before in zip(self.case.lowers, self.before):
            after = raw_tree(path)
            if before != after:
                changed = [p for p in sorted(before.keys() | after.keys())
                           if before.get(p) != after.get(p)]
                raise Difference(('lower', 'any', 'changed'), f'lower layer changed: {changed}')


def dress_like(model, path, private):
    """Give directory path the attributes of model, but not the format's own."""
    st = os.stat(model)
    os.chown(path, st.st_uid, st.st_gid)
    os.chmod(path, stat.S_IMODE(st.st_mode))
    for name in os.listxattr(path):
        os.removexattr(path, name)
    for name in os.listxattr(model):
        if not name.startswith(private) or name.startswith(private + 'overlay.'):
            os.setxattr(path, name, os.getxattr(model, name))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def stat_part(result):
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
        return result[1]
    return result if isinstance(result, dict) and 'mode' in result else None


def op_subject(op, trees):
    """What the operation's stat result is about: a path from the root, or for operations on
    a descriptor the path in /proc by which the model's is reached."""
    name, args = op[0], op[3:]
    if name in ('link', 'symlink', 'link_fd'):
        return args[1]
    if isinstance(args[0], str):
        return args[0]
    for tree in trees:
        fd = tree.mapped_fd(args[0]) if name == 'map_sync' else tree.slots.get(args[0])
        if not tree.contender.upper and fd is not None:
            return f'/proc/self/fd/{fd}'
    return None
