#!/usr/bin/python3
"""Seeded random differential test.

For each seed: random layers are mounted by veneer and by kernel overlayfs, and merged into a
plain directory by the model in layers.py; random operations are done on all three, and every
result, errno and (every so often, and after remounts) the whole trees are compared.  At the end
veneer mounts the kernel's layers and the kernel veneer's, and all is compared again."""

import argparse
import json
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import userns					# noqa: E402
from contenders import Failure, Veneer		# noqa: E402
from crowd import run_crowd			# noqa: E402
from layers import LONG_NAME			# noqa: E402
from rules import unknown_ids			# noqa: E402
from run import Case, Difference, Run		# noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
OPTION_SETS = [
    [],
    ['redirect_dir=on'],
    ['index=on'],
    ['redirect_dir=on', 'metacopy=on'],
    ['redirect_dir=off', 'xino=off'],
    ['redirect_dir=on', 'index=on', 'xino=on'],
    ['redirect_dir=on', 'xino=auto'],
    ['redirect_dir=on', 'metacopy=on', 'index=on', 'xino=auto'],
]


SWITCH = '/sys/module/fuse/parameters/enable_uring'


def run_seed(seed, args, ops=None):
    """(None or the Difference/Failure, the operation log, rule uses)."""
    scratch = tempfile.mkdtemp(prefix=f'veneer-diff-{seed}-', dir=args.scratch)
    case = Case(seed, args, scratch)
    run = None
    error = None
    try:
        case.build()
        run = Run(case, case.contenders)
        if args.crowd:
            run_crowd(case, args.crowd, args.ops)
        elif ops is None:
            run.generate(args.ops)
        else:
            run.replay(ops)
    except (Difference, Failure) as err:
        error = err
    finally:
        if run:
            for tree in run.trees:
                tree.close_all()
        case.destroy()
        shutil.rmtree(scratch, ignore_errors=True)
    return error, run.log if run else [], case.facts.used


def minimise(seed, args, ops, kind):
    """Drop operations while the same difference remains."""
    def fails(some):
        error, _, _ = run_seed(seed, args, some)
        return error is not None and getattr(error, 'kind', None) == kind

    chunk = max(1, len(ops) // 2)
    while True:
        start = len(ops)
        end = len(ops)
        while end > 0:
            rest = ops[:max(0, end - chunk)] + ops[end:]
            if fails(rest):
                ops = rest
            end -= chunk
        if chunk == 1 and len(ops) == start:
            return ops
        chunk = max(1, chunk // 2)


def report(seed, args, error, log, case_options):
    print(f'seed {seed}: {case_options}: operation {len(log)}: {error}')
    kind = getattr(error, 'kind', None)
    if args.minimise and kind:
        log = minimise(seed, args, log, kind)
        again, _, _ = run_seed(seed, args, log)
        print(f'seed {seed}: minimised to {len(log)} operations: {again}')
    print(f'# replay: {sys.argv[0]} --seeds {seed}-{seed} --contenders '
          f'{",".join(args.contenders)}{" --user" if args.user else ""} --script FILE')
    for op in log[-args.show:]:
        print(json.dumps(op).replace(LONG_NAME, '<long>'))


def refusal(option_set, args):
    """Why veneer does not mount with these options, or None."""
    scratch = tempfile.mkdtemp(prefix='veneer-diff-probe-', dir=args.scratch)
    try:
        case = Case(0, args, scratch)
        case.options, case.lowers = option_set, [f'{scratch}/lower0']
        veneer = Veneer(case)
        os.mkdir(case.lowers[0])
        veneer.prepare()
        why = None
        try:
            veneer.mount()
        except Failure as err:
            why = str(err)
        veneer.dispose()
        return why
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def effective(option_sets, args):
    """The option sets without the single options that veneer refuses; says which those are."""
    refused = {}
    for option in sorted({option for option_set in option_sets for option in option_set}):
        why = refusal([option], args)
        if why:
            refused[option] = why
            print(f'all cases are without {option}: {why}')
    return [[option for option in option_set if option not in refused]
            for option_set in option_sets]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', default='1-20', help='first-last')
    parser.add_argument('--ops', type=int, default=200)
    parser.add_argument('--contenders', default='veneer,kernel,plain')
    parser.add_argument('--veneer', default=os.path.join(HERE, '../../build/veneer'))
    parser.add_argument('--scratch', default='/var/tmp')
    parser.add_argument('--user', action='store_true', help='as root of a user namespace')
    parser.add_argument('--crowd', type=int, default=0, metavar='N',
                        help='N callers at once do as many operations each, see crowd.py')
    parser.add_argument('--minimise', action='store_true')
    parser.add_argument('--script', help='replay these operations instead of drawing some')
    parser.add_argument('--show', type=int, default=40, help='operations to print on a failure')
    parser.add_argument('--stop', action='store_true', help='stop at the first failure')
    args = parser.parse_args()
    args.contenders = ['veneer', 'kernel'] if args.crowd else args.contenders.split(',')
    args.minimise = args.minimise and not args.crowd
    args.option_sets = OPTION_SETS
    return args


def check_rules():
    with open(os.path.join(HERE, '../../docs/deviations.md'), encoding='utf-8') as file:
        missing = unknown_ids(file.read())
    if missing:
        sys.exit(f'rules without an entry in docs/deviations.md: {", ".join(missing)}')


def main():
    args = parse_args()
    check_rules()
    args.dropper = userns.CacheDropper()
    userns.isolate(args.user)
    os.umask(0)
    os.setgroups([])
    if args.user:
        args.scratch = userns.private_scratch(args.scratch)
    if 'veneer' in args.contenders:
        Veneer.program = os.path.abspath(args.veneer)
        if not args.user:
            args.option_sets = effective(OPTION_SETS, args)
    script = None
    if args.script:
        with open(args.script, encoding='ascii') as file:
            script = [json.loads(line.replace('<long>', LONG_NAME)) for line in file if line.startswith('[')]
    first, last = (int(n) for n in args.seeds.split('-'))
    passed = failed = 0
    used = {}
    for seed in range(first, last + 1):
        options = args.option_sets[seed % len(args.option_sets)]
        error, log, rules = run_seed(seed, args, script)
        for rule, count in rules.items():
            used[rule] = used.get(rule, 0) + count
        if error is None:
            passed += 1
            continue
        failed += 1
        report(seed, args, error, log, 'userxattr' if args.user else ','.join(options))
        if args.stop:
            break
    for rule, count in sorted(used.items()):
        print(f'known difference {rule}: {count} times')
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


def main_leaving_the_kernel_alone():
    """Mounting with io_uring=on switches it on in the kernel."""
    if not os.path.exists(SWITCH) or os.geteuid() != 0:
        return main()
    with open(SWITCH, encoding='ascii') as file:
        before = file.read()
    try:
        return main()
    finally:
        with open(SWITCH, 'w', encoding='ascii') as file:
            file.write(before)


if __name__ == '__main__':
    sys.exit(main_leaving_the_kernel_alone())
