"""What every end-to-end test needs: the program, models, scratch folders, and the rules that hold for each call."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

if len(sys.argv) < 3:
    sys.exit(f"usage: python3 {sys.argv[0]} PROGRAM SOURCE_DIR [unittest arguments]")
PROGRAM = os.path.abspath(sys.argv[1])
SOURCE = Path(sys.argv[2]).resolve()
MODEL = Path(os.environ.get("BIT_AXON_MODEL") or SOURCE / "models" / "bit-axon-nano").resolve()
MIB = 1 << 20
ERROR, USAGE, DOES_NOT_FIT = 1, 2, 3

# A sanitizer's shadow memory and its slowness are none of the program's.
SANITIZED = b"__asan_init" in Path(PROGRAM).read_bytes()

# Small enough that a run takes a tenth of a second, with every kind of layer and the shipped vocabulary.
TINY = ["--set", "num_layers=3", "--set", "hidden_dim=64", "--set", "d_source_model=64", "--set",
        "moe_intermediate_dim=64", "--set", "swa_window_size=32", "--set", "max_seq_len=4096"]


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("BIT_AXON_CPU", "BIT_AXON_MODEL")}
    env.update({"BIT_AXON_MODEL": str(MODEL), "LC_ALL": "C.UTF-8"})
    env.update(changes)
    return env


class Ended:
    """A finished call. Texts are checked to be UTF-8."""

    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout.decode()
        self.err = process.stderr.decode()

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit status {self.code}\nstdout: {self.out[:2000]}\nstderr: {self.err[:2000]}"


class Case(unittest.TestCase):
    """A test class with a folder of its own, removed at the end."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="bit-axon-e2e-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)

    def call(self, *args, stdin=b"", env=None, timeout=120, **kw):
        """Runs the program. Whatever the arguments are, it must not crash, and must not colour what is no terminal."""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        process = subprocess.run([PROGRAM, *[a if isinstance(a, bytes) else str(a) for a in args]], input=stdin,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**(env or {})),
                                 timeout=timeout, cwd=kw.pop("cwd", self.folder), **kw)
        ended = Ended(process)
        self.assertGreaterEqual(ended.code, 0, f"killed by a signal: {ended}")
        self.assertNotIn("\x1b", ended.out + ended.err)
        return ended

    def succeed(self, *args, **kw):
        ended = self.call(*args, **kw)
        self.assertEqual(ended.code, 0, str(ended))
        return ended

    def fail_with(self, code, words, *args, **kw):
        """The call ends with `code`, prints nothing on stdout, and its message has all of `words`."""
        ended = self.call(*args, **kw)
        self.assertEqual(ended.code, code, str(ended))
        self.assertEqual(ended.out, "")
        for word in words:
            self.assertIn(str(word), ended.err)
        return ended

    def answer(self, *args, **kw):
        return self.succeed("run", "--json", *args, **kw).json()

    def new_model(self, name, *args):
        """Random weights; the tokenizer is the shipped one."""
        out = self.folder / name
        self.succeed("init", "--seed", "1", "--tokenizer", MODEL / "tokenizer.json", "-o", out, *args)
        return out

    def assert_unchanged(self, folder, before):
        self.assertEqual(snapshot(folder), before)


def snapshot(folder):
    """Names, sizes and times of everything below a folder."""
    return {str(p.relative_to(folder)): (p.lstat().st_size, p.lstat().st_mtime_ns)
            for p in sorted(Path(folder).rglob("*"))}


def copy_model(source, target):
    """Weights are large and mostly stay as they are: a link. The rest is copied, to be changed."""
    target.mkdir()
    for path in Path(source).iterdir():
        if path.suffix == ".safetensors":
            try:
                os.link(path, target / path.name)
            except OSError:  # on another file system
                shutil.copy(path, target)
        else:
            shutil.copy(path, target)
    return target


def read_safetensors(path):
    """(header, data)"""
    content = Path(path).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path = Path(path)
    path.unlink(missing_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def without_tensor(header, data, name):
    """The file without one tensor: offsets close the gap."""
    begin, end = header[name]["data_offsets"]
    out = {}
    for key, value in header.items():
        if key == name:
            continue
        if key != "__metadata__":
            value = dict(value, data_offsets=[o - (end - begin) if o >= end else o for o in value["data_offsets"]])
        out[key] = value
    return out, data[:begin] + data[end:]


def main():
    if not (MODEL / "config.json").exists():
        sys.exit(f"no model in {MODEL}; BIT_AXON_MODEL can name one")
    unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
