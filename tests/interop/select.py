"""Prints the known tests that a list names, by full id or by prefix. usage: select.py LIST KNOWN"""
import sys

wanted = [line.split("[")[0].strip() for line in open(sys.argv[1]) if line.strip() and not line.startswith("#")]
exact, prefixes = set(wanted), tuple(name + "." for name in wanted)
found = set()
for line in open(sys.argv[2]):
    test = line.strip().split("[")[0]
    if test in exact or test.startswith(prefixes):
        found.add(test)
        print(line.strip())
missing = [name for name in wanted if name not in found and not any(test.startswith(name + ".") for test in found)]
for name in missing:
    print("not known here:", name, file=sys.stderr)
sys.exit(1 if missing else 0)
