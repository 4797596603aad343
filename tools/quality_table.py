#!/usr/bin/env python3
"""Prints the table of docs/quality.md: mean NLL of a model in each precision, with exact and with fast arithmetic.

    python3 tools/quality_table.py build/release/bit-axon MODEL TEXT [WINDOWS] [PRECISION ...]
"""
import json
import subprocess
import sys


def evaluate(program, model, text, windows, weights, exact):
    command = [program, "evaluate", model, "--text", text, "--window", "1024", "--windows", windows, "--json", "--weights", weights]
    return json.loads(subprocess.run(command + ["--exact"] * exact, check=True, capture_output=True, text=True).stdout)


def main():
    program, model, text = sys.argv[1:4]
    windows = sys.argv[4] if len(sys.argv) > 4 else "64"
    precisions = sys.argv[5:] or ["keep", "q8", "q6", "q5", "q4", "q3", "q2"]
    base = None
    print("| weights | NLL, exact | NLL, fast | fast - exact | exact - bf16 | perplexity, fast |")
    print("|---|---:|---:|---:|---:|---:|")
    for weights in precisions:
        exact, fast = (evaluate(program, model, text, windows, weights, e) for e in (True, False))
        base = base if base is not None else exact["mean_nll"]
        print(f"| {'bf16' if weights == 'keep' else weights} | {exact['mean_nll']:.4f} | {fast['mean_nll']:.4f} "
              f"| {fast['mean_nll'] - exact['mean_nll']:+.4f} | {exact['mean_nll'] - base:+.4f} | {fast['perplexity']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
