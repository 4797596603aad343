#!/usr/bin/env python3
"""Prints the table of docs/memory.md: planned total against the resident peak (VmHWM), over presets, precisions, contexts, windows and KV types.

    python3 tools/memory_grid.py build/release/bit-axon FOLDER [PRESET ...]

FOLDER takes the random models (the 3b preset: 11 GiB in three precisions); what is there already is used again. Fails when a
cell differs by more than 2 % and 8 MiB.
"""
import itertools
import json
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
PRESETS = ["nano", "small", "medium", "3b"]
WEIGHTS = ["bf16", "q8", "q4"]
CONTEXTS = [1024, 4096, 16384, 65536]
KV = ["q8", "tq4", "tq3.5", "tq3", "lm3"]  # with q4 weights; fp16 with all


def byte_tokenizer(path):
    """256 byte tokens and nothing else: fits the smallest vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelling, extra = {}, 0
    for byte in range(256):
        spelling[byte] = chr(byte) if byte in printable else chr(256 + extra)
        extra += byte not in printable
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": level, "post_processor": None,
                                "decoder": level, "model": {"type": "BPE", "vocab": {spelling[b]: b for b in range(256)}, "merges": []}}))


def model(program, folder, preset, weights):
    out = folder / f"{preset}-{weights}"
    if not out.exists():
        command = [program, "init", "--preset", preset, "--weights", weights, "--seed", "1", "-o", out]
        if preset == "small":
            byte_tokenizer(folder / "bytes.json")
            command += ["--tokenizer", folder / "bytes.json"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return out


def measure(program, path, context, window, kv):
    command = [program, "run", "--model", path, "--raw", "--json", "-n", "4", "--seed", "1", "--context", str(context), "--kv", kv, "The dragon"]
    ended = subprocess.run(command + (["--attention-window", "all"] if window == "full" else []), capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(f"{path}, context {context}, window {window}, kv {kv}: exit status {ended.returncode}: {ended.stderr}")
    return json.loads(ended.stdout)["memory"]


def main():
    program, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    print("| preset | weights | window | " + " | ".join(f"{c:,}" for c in CONTEXTS) + " |")
    print("|---|---|---|" + "---:|" * len(CONTEXTS))
    worst, bad = 0.0, 0
    for preset in sys.argv[3:] or PRESETS:
        for weights in WEIGHTS:
            path = model(program, folder, preset, weights)
            for kv, window in itertools.product(["fp16"] + KV * (weights == "q4"), ("default", "full")):
                cells = []
                for context in CONTEXTS:
                    memory = measure(program, path, context, window, kv)
                    planned, resident = memory["planned_bytes"], memory["resident_peak_bytes"]
                    off = abs(planned - resident)
                    bad += off > max(planned * 0.02, 8 * MIB)
                    worst = max(worst, off / planned if off > 8 * MIB else 0)
                    cells.append(f"{planned / MIB:,.1f} / {resident / MIB:,.1f}")
                held = weights if kv == "fp16" else f"{weights}, kv {kv}"
                print(f"| {preset} | {held} | {window} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{bad} cells beyond both bounds; the largest share off, of cells more than 8 MiB off, is {worst:.2%}", file=sys.stderr)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
