"""Adapters: run, chat, evaluate, benchmark and plan with one, and merge; every form of file; what does not fit."""
import json
import random
import resource
import shutil
import signal
import struct
import unittest

from support import Case, ERROR, TINY, USAGE, main, read_safetensors, snapshot, write_safetensors

RANK, SCALE = 2, 3.0
# TINY's layers: 64 wide, SSM 192 inside; name: (in, out).
LAYERS = {"layer_0.ssm.in_proj": (64, 384), "layer_1.attention.q_proj": (64, 64), "layer_1.attention.o_proj": (64, 64),
          "layer_2.moe.shared_expert.down_proj": (64, 64), "output_proj": (64, 64)}


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def transposed(values, rows, cols):
    return [values[r * cols + c] for c in range(cols) for r in range(rows)]


def write(path, tensors):
    """tensors: name -> (shape, values)"""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
        data += floats(values)
    write_safetensors(path, header, data)


class Adapters(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        it = cls()
        cls.model = it.new_model("tiny", *TINY, "--weights", "f32")
        generator = random.Random(1)
        # A [rank, in] and B [rank, out]; those of the output last make the logits another.
        cls.values = {name: ([generator.uniform(-.2, .2) for _ in range(RANK * i)],
                             [generator.uniform(-.2, .2) for _ in range(RANK * o)]) for name, (i, o) in LAYERS.items()}
        cls.peft = it.write_peft("peft")
        cls.folder.joinpath("mlx").mkdir()
        mlx = {}
        for name, (i, o) in LAYERS.items():
            a, b = cls.values[name]
            mlx[f"{name}.lora_a"] = ([i, RANK], transposed(a, RANK, i))
            mlx[f"{name}.lora_b"] = ([RANK, o], b)
        cls.mlx = cls.folder / "mlx"
        write(cls.mlx / "adapters.safetensors", mlx)
        (cls.mlx / "adapter_config.json").write_text(json.dumps(
            {"fine_tune_type": "lora", "num_layers": 3,
             "lora_parameters": {"rank": RANK, "dropout": 0.0, "scale": SCALE}}))
        cls.original = cls.folder / "final_adapter.safetensors"
        write(cls.original, {f"inner.{name}": tensor for name, tensor in mlx.items()})

    def runTest(self):
        """So that setUpClass can make files with the methods of an instance."""

    def write_peft(self, name, change=lambda tensors, config: None):
        folder = self.folder / name
        folder.mkdir()
        tensors = {}
        for layer, (i, o) in LAYERS.items():
            a, b = self.values[layer]
            tensors[f"base_model.model.{layer}.lora_A.weight"] = ([RANK, i], a)
            tensors[f"base_model.model.{layer}.lora_B.weight"] = ([o, RANK], transposed(b, RANK, o))
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": SCALE * RANK}
        change(tensors, config)
        write(folder / "adapter_model.safetensors", tensors)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    def ids(self, *args, **kw):
        return self.answer("-m", self.model, "-n", "12", "--temperature", "0", "--exact", *args, "The fox", **kw)[
            "token_ids"]

    def test_every_form_is_the_same_adapter(self):
        plain, peft = self.ids(), self.ids("--adapter", self.peft)
        self.assertNotEqual(plain, peft)
        self.assertEqual(self.ids("--adapter", self.mlx), peft)
        self.assertEqual(self.ids("--adapter", self.mlx / "adapters.safetensors"), peft)
        self.assertEqual(self.ids("--adapter", self.original, "--adapter-scale", SCALE), peft)
        self.assertEqual(self.ids("--adapter", self.peft, "--threads", "1"), peft)
        self.assertEqual(self.ids("--adapter", self.peft, "--adapter-scale", "0"), plain)

    def test_memory_is_planned_to_the_byte(self):
        run = ["-m", self.model, "--adapter", self.peft, "-n", "2", "--context", "100"]
        memory = self.answer(*run, "hi")["memory"]
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        adapters = [a for a in memory["accounts"] if a["account"] == "adapters"]
        self.assertEqual([a["planned_bytes"] for a in adapters], [a["peak_bytes"] for a in adapters])
        # Values, rounded up to lines, and the scale once a rank.
        values = sum(RANK * (i + o) for i, o in LAYERS.values()) * 4
        self.assertEqual(adapters[0]["planned_bytes"], -(-values // 64) * 64 + 64)
        plan = self.succeed("plan", self.model, "--adapter", self.peft, "--context", "100", "-n", "2", "--json").json()
        self.assertIn(memory["planned_bytes"], [c["total_bytes"] for c in plan["cells"]])
        self.assertIn("adapters", self.succeed("plan", self.model, "--adapter", self.peft, "--context", "100").out)
        explained = self.succeed("plan", self.model, "--adapter", self.peft, "--explain", "adapters").out
        self.assertIn("x 4 B", explained)
        plain = self.answer("-m", self.model, "-n", "2", "--context", "100", "hi")["memory"]
        self.assertNotIn("adapters", [a["account"] for a in plain["accounts"]])
        over = self.fail_with(3, ["budget"], "run", *run, "--memory-budget",
                              memory["planned_bytes"] - 1, "hi")
        self.assertIn("needs", over.err)
        self.succeed("run", *run, "--memory-budget", memory["planned_bytes"], "hi")

    def test_merged_is_the_same_function(self):
        merged = self.folder / "merged"
        done = self.succeed("merge", "-m", self.model, "--adapter", self.peft, "-o", merged, "--json").json()
        self.assertEqual(done["memory"]["planned_bytes"], done["memory"]["ledger_peak_bytes"])
        self.assertEqual(sorted(p.name for p in merged.iterdir()), sorted(p.name for p in self.model.iterdir()))
        for name in ("config.json", "tokenizer.json"):
            self.assertEqual((merged / name).read_bytes(), (self.model / name).read_bytes())
        self.assertEqual(self.answer("-m", merged, "-n", "12", "--temperature", "0", "--exact", "The fox")["token_ids"],
                         self.ids("--adapter", self.peft))
        text = self.folder / "text"
        text.write_text("The fox went down to the river, and the river was wide. " * 20)

        def loss(*args):
            return self.succeed("evaluate", *args, "--text", text, "--window", "64", "--windows", "2", "--exact",
                                "--json").json()["mean_nll"]
        self.assertAlmostEqual(loss(merged), loss(self.model, "--adapter", self.peft), places=5)
        self.assertNotAlmostEqual(loss(merged), loss(self.model), places=3)
        for weights in ("bf16", "q8", "q4g32"):
            out = self.folder / weights
            self.succeed("merge", "-m", self.model, "--adapter", self.peft, "--weights", weights, "-o", out)
            self.assertAlmostEqual(loss(out), loss(merged), delta=0.2)
        # A model in codes: the adapter beside the codes, and added to them and rounded again.
        codes, again = self.folder / "codes", self.folder / "again"
        self.succeed("quantize", self.model, "-o", codes, "--bits", "8")
        self.assertAlmostEqual(loss(codes, "--adapter", self.peft), loss(merged), delta=0.02)
        self.succeed("merge", "-m", codes, "--adapter", self.peft, "-o", again)
        self.assertAlmostEqual(loss(again), loss(merged), delta=0.02)
        shapes = [{k: (v["dtype"], v["shape"]) for k, v in read_safetensors(f / "model.safetensors")[0].items()
                   if k != "__metadata__"} for f in (codes, again)]
        self.assertEqual(*shapes)

    def test_chat_state_and_benchmark(self):
        run = ["-m", self.model, "-n", "4", "--temperature", "0"]
        chat = self.succeed("run", "--chat", *run, "--adapter", self.peft, stdin="hello\n/exit\n")
        one = self.answer(*run, "--adapter", self.peft, "hello")
        self.assertEqual(chat.out.strip(), one["text"].strip())
        state = self.folder / "state"
        self.succeed("run", *run, "--adapter", self.peft, "--state", state, "hello")
        self.succeed("run", *run, "--adapter", self.peft, "--state", state, "and then?")
        for other in ([], ["--adapter", self.peft, "--adapter-scale", "1"]):
            self.fail_with(ERROR, ["--adapter"], "run", *run, *other, "--state", state, "and then?")
        bench = ["benchmark", self.model, "--adapter", self.peft, "--prefill", "8", "--depth", "0", "--decode", "8",
                 "--repetitions", "1", "--json"]
        memory = self.succeed(*bench, "--compare", "keep").json()["memory"]
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        self.assertIn("adapters", [a["account"] for a in memory["accounts"]])

    def test_what_does_not_fit_is_named(self):
        first = "base_model.model.layer_0.ssm.in_proj.lora_A.weight"

        def refused(adapter, *words):
            before = snapshot(self.folder)
            self.fail_with(ERROR, words, "run", "-m", self.model, "--adapter", adapter, "hi")
            self.fail_with(ERROR, words, "merge", "-m", self.model, "--adapter", adapter, "-o", self.folder / "never")
            self.fail_with(ERROR, words, "plan", self.model, "--adapter", adapter)
            self.assertEqual(snapshot(self.folder), before)
        refused(self.folder / "none", "none", "no such adapter")
        refused(self.model, str(self.model), "adapters.safetensors")
        self.fail_with(ERROR, ["layer_1.attention.o_proj"], "run", "--adapter", self.peft, "hi")  # the shipped model

        def peft(name, change, *words):
            refused(self.write_peft(name, change), *words)
        peft("rank", lambda t, c: c.update(r=3), "lora_A.weight", "rank 3")
        peft("half", lambda t, c: t.pop(first), first, "missing")
        peft("layer", lambda t, c: t.update({first.replace("_0", "_7"): ([2, 64], [0.0] * 128)}), "layer_7.ssm.in_proj")
        peft("shape", lambda t, c: t.update({first: ([4, 32], [0.0] * 128)}), first, "[4, 32]", "rank 2")
        peft("nan", lambda t, c: t.update({first: ([2, 64], [float("nan")] * 128)}), first, "nan", "finite")
        peft("type", lambda t, c: c.update(peft_type="IA3"), "IA3", "LORA")
        peft("bias", lambda t, c: c.update(bias="all"), "bias", "all")
        cut = self.folder / "cut"
        shutil.copytree(self.peft, cut)
        weights = cut / "adapter_model.safetensors"
        for size in (0, 7, 200, weights.stat().st_size - 1):
            weights.write_bytes((self.peft / "adapter_model.safetensors").read_bytes()[:size])
            refused(cut, "adapter_model.safetensors")
        (cut / "adapter_config.json").write_text('{"peft_type": "LORA", "r": ')
        refused(cut, "adapter_config.json")
        weights.unlink()
        (cut / "adapter_config.json").unlink()
        (cut / "adapter_model.bin").write_bytes(b"pickle")
        refused(cut, "adapter_model.bin", "safetensors")

    def test_merge_leaves_whole_folders_or_none(self):
        out = self.folder / "there"
        self.succeed("merge", "-m", self.model, "--adapter", self.peft, "-o", out)
        before = snapshot(self.folder)
        self.fail_with(ERROR, ["there", "already exists"], "merge", "-m", self.model, "--adapter", self.peft, "-o", out)

        def little_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        self.fail_with(ERROR, ["full", "File too large"], "merge", "-m", self.model, "--adapter", self.peft, "-o",
                       self.folder / "full", preexec_fn=little_room)
        self.fail_with(ERROR, ["no-such-folder"], "merge", "-m", self.model, "--adapter", self.peft, "-o",
                       self.folder / "no-such-folder/x")
        self.fail_with(3, ["adapter", "budget"], "merge", "-m", self.model, "--adapter", self.peft, "-o",
                       self.folder / "over", "--memory-budget", "1MiB")
        self.assertEqual(snapshot(self.folder), before)

    def test_wrong_usage(self):
        for args, words in ((["run", "--adapter", "", "hi"], ["--adapter"]),
                            (["run", "--adapter-scale", "2", "hi"], ["--adapter"]),
                            (["run", "--adapter", self.peft, "--adapter-scale", "x", "hi"], ["--adapter-scale", "x"]),
                            (["merge", "-o", "x"], ["--adapter"]), (["merge", "--adapter", self.peft], ["--output"]),
                            (["merge", "--adapter", self.peft, "-o", "x", "--weights", "q7"], ["q7"]),
                            (["plan", "--adapter", self.peft, "--train"], ["--adapter", "--train"])):
            self.fail_with(USAGE, words, *args)
        self.fail_with(ERROR, ["qwen3-8b"], "plan", "qwen3-8b", "--adapter", self.peft)
        self.assertIn("bit-axon merge", self.succeed("merge", "--help").out)
        self.assertIn("--adapter", self.succeed("run", "--help").out)

    def test_the_shipped_model_takes_one(self):
        layer = "layer_11.ssm.in_proj"
        a, b = [0.01] * (2 * 320), [0.01] * (1920 * 2)
        folder = self.folder / "shipped"
        folder.mkdir()
        write(folder / "adapters.safetensors", {f"{layer}.lora_a": ([320, 2], a), f"{layer}.lora_b": ([2, 1920], b)})
        with_it = self.answer("--adapter", folder, "-n", "8", "--seed", "1", "Hello")
        self.assertEqual(with_it["memory"]["planned_bytes"], with_it["memory"]["ledger_peak_bytes"])


if __name__ == "__main__":
    main()
