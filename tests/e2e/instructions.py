"""Instructions of a decode step and of a prompt token, counted by valgrind, against the record in instructions.json.

    python3 tests/e2e/instructions.py PROGRAM SOURCE_DIR             fails where a count grew by more than 3 %
    python3 tests/e2e/instructions.py PROGRAM SOURCE_DIR --update    writes the record anew

A count is a difference of two runs on one thread, so that start and loading cancel; it repeats to some 0.01 %.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support import PROGRAM, SOURCE, environment

SKIPPED = 77  # ctest's SKIP_RETURN_CODE
ROOM = 0.03
LEVELS = ("sse4", "avx2")  # valgrind has no AVX-512
RECORD = SOURCE / "tests" / "e2e" / "instructions.json"
STEPS = 8  # decode steps in a count
PHRASE = "the dragon walked over a hill and saw "


class Lacking(Exception):
    """This processor does not have the level."""


def compiler():
    """Who compiled the program, by its .comment: another compiler gives other counts."""
    content = Path(PROGRAM).read_bytes()
    for name, pattern in (("clang", rb"clang version (\d+)\."), ("g++", rb"GCC: \([^)]*\) (\d+)\.")):
        if found := re.search(pattern, content):
            return f"{name} {found[1].decode()}"
    return "unknown"


def count(level, prompt, tokens):
    """(instructions, prompt tokens) of a run that generates `tokens`"""
    with tempfile.TemporaryDirectory(prefix="bit-axon-e2e-") as folder:
        out = Path(folder) / "callgrind.out"
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", PROGRAM, "run", "-m",
                               SOURCE / "models" / "bit-axon-nano", "--threads", "1", "--temperature", "0", "--json",
                               "--raw", "-n", str(tokens), prompt],
                              env=environment(BIT_AXON_CPU=level), capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            if f"lacks the level {level}" in done.stderr:
                raise Lacking()
            sys.exit(f"exit status {done.returncode} under valgrind at the level {level}:\n{done.stderr}")
        answer = json.loads(done.stdout)
        if answer["completion_tokens"] != tokens:
            sys.exit(f"the answer has {answer['completion_tokens']} tokens, not {tokens}: it cannot be counted by")
        total = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        return int(total[1]), answer["prompt_tokens"]


def measure(level):
    short, short_tokens = count(level, PHRASE, 1)
    steps, _ = count(level, PHRASE, 1 + STEPS)
    long, long_tokens = count(level, PHRASE * 9, 1)
    return {"decode_step": round((steps - short) / STEPS),
            "prompt_token": round((long - short) / (long_tokens - short_tokens))}


def update():
    record = {"compiler": compiler(), **{level: measure(level) for level in LEVELS}}
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(RECORD.read_text(), end="")


def check():
    """True when nothing grew."""
    record = json.loads(RECORD.read_text())
    if compiler() != record["compiler"]:
        print(f"skipped: the record is of {record['compiler']}, the program of {compiler()}, whose counts are others")
        sys.exit(SKIPPED)
    good = True
    for level in LEVELS:
        try:
            counts = measure(level)
        except Lacking:
            print(f"{level}: not on this processor")
            continue
        for what, now in counts.items():
            before = record[level][what]
            change = now / before - 1
            print(f"{level} {what}: {now:,} instructions, {change:+.2%} of the recorded {before:,}")
            if change > ROOM:
                good = False
                print(f"  grew by more than {ROOM:.0%}; if it is worth it: python3 {sys.argv[0]} {sys.argv[1]} "
                      f"{sys.argv[2]} --update")
            elif change < -ROOM:
                print("  note: fell so far that the record can be lowered, with --update")
    return good


if __name__ == "__main__":
    if sys.argv[3:] not in ([], ["--update"]):
        sys.exit(f"usage: python3 {sys.argv[0]} PROGRAM SOURCE_DIR [--update]")
    if not shutil.which("valgrind"):
        print("skipped: there is no valgrind")
        sys.exit(SKIPPED)
    if sys.argv[3:]:
        update()
    elif not check():
        sys.exit(1)
