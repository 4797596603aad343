#!/usr/bin/env python3
"""Writes tests/golden/oracle_c.safetensors: what a right mask gives for the 600-token prompt of golden/mlx-tiny, where
the original's own recording sees the future. An independent numpy forward pass (float64), from the formulas alone.

    python3 tools/reference/oracle_long.py
"""
import json
import pathlib
import struct

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


def load(path):
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    types = {"F32": np.float32, "F16": np.float16, "I32": np.int32}
    out = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        out[name] = np.frombuffer(raw[8 + length + begin : 8 + length + end], types[t["dtype"]]).reshape(t["shape"])
    return out


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Oracle:
    def __init__(self, folder):
        self.c = json.loads((folder / "config.json").read_text())
        self.w = {k: v.astype(np.float64) for k, v in load(folder / "weights.safetensors").items()}

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[name + ".weight"]

    def ssm(self, x, p):
        n, taps = self.c["ssm_d_state"], self.w[p + ".conv1d.weight"][:, :, 0]
        xb, z = np.split(self.linear(x, p + ".in_proj"), 2, axis=-1)
        padded = np.concatenate([np.zeros((taps.shape[1] - 1, xb.shape[1])), xb])
        u = sum(padded[k : k + len(x)] * taps[:, k] for k in range(taps.shape[1])) + self.w[p + ".conv1d.bias"]
        u = u * sigmoid(u)
        bcdt = self.linear(u, p + ".x_proj")
        dt = np.logaddexp(bcdt[:, 2 * n :] * self.w[p + ".dt_proj.weight"][:, 0] + self.w[p + ".dt_proj.bias"], 0)
        dt = np.clip(dt, 1e-4, 100)
        a, h, y = -np.exp(self.w[p + ".A_log"]), 0.0, []
        for t in range(len(x)):
            h = np.exp(dt[t][:, None] * a) * h + (dt[t] * u[t])[:, None] * bcdt[t, :n]
            y.append((h * bcdt[t, n : 2 * n]).sum(-1) + self.w[p + ".D"] * u[t])
        return self.linear(np.stack(y) * z * sigmoid(z), p + ".out_proj")

    def swa(self, x, p):
        heads, t = self.c["num_heads"], np.arange(len(x))
        q, k, v = (self.linear(x, f"{p}.{n}_proj").reshape(len(x), heads, -1).transpose(1, 0, 2) for n in "qkv")
        distance = t[:, None] - t[None]
        s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        s = np.where((distance >= 0) & (distance < self.c["swa_window_size"]), s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        y = (s / s.sum(-1, keepdims=True)) @ v
        return self.linear(y.transpose(1, 0, 2).reshape(len(x), -1), p + ".o_proj")

    def mlp(self, x, gate, up, down):
        g = x @ gate.T
        return (g * sigmoid(g) * (x @ up.T)) @ down.T

    def moe(self, x, p):
        g = self.linear(x, p + ".gate")
        g = np.exp(g - g.max(-1, keepdims=True))
        g /= g.sum(-1, keepdims=True)
        chosen = np.argsort(-g, -1, kind="stable")[:, : self.c["moe_top_k"]]
        out = np.zeros_like(x)
        for e in range(self.c["moe_num_experts"]):
            score = g[:, e] * (chosen == e).any(-1)
            experts = (self.w[f"{p}.switch_mlp.{n}_proj.weight"][e] for n in ("gate", "up", "down"))
            out += score[:, None] * self.mlp(x, *experts)
        shared = (self.w[f"{p}.shared_expert.{n}_proj.weight"] for n in ("gate", "up", "down"))
        return out + sigmoid(self.linear(x, p + ".shared_expert_gate")) * self.mlp(x, *shared)

    def logits(self, ids):
        third = self.c["num_layers"] // 3
        x = self.linear(self.w["embed_tokens.weight"][ids], "input_proj")
        for i in range(self.c["num_layers"]):
            p = f"layer_{i}"
            normed = self.norm(x, p + ".input_norm")
            if third <= i < 2 * third:
                x = x + self.swa(normed, p + ".attention")
                x = x + self.moe(self.norm(x, p + ".post_attention_norm"), p + ".moe")
            else:
                x = x + self.ssm(normed, p + ".ssm")
                if i >= 2 * third:
                    x = x + self.moe(self.norm(x, p + ".post_ssm_norm"), p + ".moe")
        return self.linear(self.linear(x, "output_proj"), "lm_head")


def save(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": {"float32": "F32", "int32": "I32"}[str(array.dtype)], "shape": array.shape,
                        "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    oracle = Oracle(GOLDEN / "mlx-tiny" / "fp")
    recorded = load(GOLDEN / "mlx-tiny" / "forward.safetensors")
    short = oracle.logits(recorded["ids_a"][0])
    print("difference from the original on the short prompt:", np.abs(short - recorded["logits_a"][0]).max())
    ids = recorded["ids_c"][0]
    rows = np.arange(24, 600, 25, dtype=np.int32)
    save(GOLDEN / "oracle_c.safetensors", {"rows": rows, "logits": oracle.logits(ids)[rows].astype(np.float32)})


if __name__ == "__main__":
    main()
