"""Prints the known tests that a list names, by full id or by prefix, less those behind a `!`. usage: select.py LIST KNOWN"""
import sys

lines = [line.split("[")[0].strip() for line in open(sys.argv[1]) if line.strip() and not line.startswith("#")]
wanted = [line for line in lines if not line.startswith("!")]
unwanted = [line[1:] for line in lines if line.startswith("!")]


def named(test, names):
    return test in names or test.startswith(tuple(name + "." for name in names))


tests = [line.strip() for line in open(sys.argv[2]) if line.strip()]
ids = [test.split("[")[0] for test in tests]
for test, name in zip(tests, ids):
    if named(name, wanted) and not named(name, unwanted):
        print(test)
missing = [name for name in wanted + unwanted if not any(named(test, [name]) for test in ids)]
for name in missing:
    print("not known here:", name, file=sys.stderr)
sys.exit(1 if missing else 0)
