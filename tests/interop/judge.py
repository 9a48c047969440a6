"""Counts what a run did. Tests whose class set-up failed, and so never ran, count as failed. usage: judge.py LOAD RESULTS LOG"""
import csv
import re
import sys

wanted = {line.split("[")[0].strip() for line in open(sys.argv[1])}
status, broken, skipped_classes = {}, [], set()
for row in csv.reader(open(sys.argv[2])):
    if len(row) < 2 or row[0] == "test":
        continue
    name = row[0].split("[")[0]
    if name in wanted:
        status[name] = row[1]
    elif row[0].startswith("setUpClass"):
        if row[1] == "skip":
            skipped_classes.add(re.sub(r"^setUpClass \(|\)$", "", row[0]))
        else:
            broken.append(row[0])
passed = {n for n, s in status.items() if s in ("success", "xfail")}
skipped = {n for n, s in status.items() if s == "skip"}
silent = wanted - set(status)
skipped |= {n for n in silent if n.rsplit(".", 1)[0] in skipped_classes}
failed = wanted - passed - skipped

log = open(sys.argv[3], errors="replace").read()
for name in sorted(failed):
    trace = re.search(re.escape(name) + r"[^\n]*\n-+\n(.*?)\n\n", log, re.S)
    lines = [line.strip() for line in trace.group(1).splitlines() if line.strip()] if trace else []
    print("failed:", name, "|", lines[-1][:200] if lines else "did not run")
for name in broken:
    print("set-up failed:", name)
for name in sorted(skipped):
    print("skipped:", name)
print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(0 if passed and not failed else 1)
