"""init, quantize, inspect, evaluate: what they write is right, and what they cannot finish leaves no trace."""
import math
import os
import resource
import signal
import subprocess
import time
import unittest

from support import (Case, ERROR, MIB, MODEL, PROGRAM, SANITIZED, TINY, USAGE, environment, main, read_safetensors,
                     snapshot)


class Results(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tiny = cls().new_model("tiny", *TINY)

    def runTest(self):
        """So that setUpClass can make models with the methods of an instance."""

    def weights(self, folder):
        return (folder / "model.safetensors").read_bytes()

    def test_equal_seeds_give_equal_files_whatever_the_threads(self):
        one = self.new_model("threads", *TINY, "--threads", "1")
        self.assertEqual(self.weights(one), self.weights(self.tiny))
        other = self.folder / "seed"
        self.succeed("init", "--seed", "2", "--tokenizer", "none", "-o", other, *TINY)
        self.assertNotEqual(self.weights(other), self.weights(self.tiny))
        for threads in (1, 2):
            self.succeed("quantize", self.tiny, "-o", self.folder / f"q4-{threads}", "--threads", threads)
        self.assertEqual(self.weights(self.folder / "q4-1"), self.weights(self.folder / "q4-2"))

    def test_every_precision_can_be_written_and_run(self):
        sizes = {}
        for bits in (2, 3, 4, 5, 6, 8):
            out = self.folder / f"bits{bits}"
            done = self.succeed("quantize", self.tiny, "-o", out, "--bits", bits, "--group-size", "32", "--json").json()
            self.assertEqual(done["output"], str(out))
            self.answer("-m", out, "-n", "2", "hi")
            sizes[bits] = done["data_bytes"]
            inspected = self.succeed("inspect", out, "--json").json()
            self.assertTrue(any(p["precision"].startswith(f"q{bits} g32") for p in inspected["precisions"]))
            self.assertEqual(inspected["bytes"], done["data_bytes"])
        self.assertEqual(sorted(sizes, key=sizes.get), [2, 3, 4, 5, 6, 8])
        for weights in ("f32", "f16", "q8", "q3"):
            self.answer("-m", self.new_model(weights, *TINY, "--weights", weights), "-n", "2", "hi")

    def test_init_in_a_precision_is_near_quantize_of_init(self):
        direct = self.new_model("direct", *TINY, "--weights", "q8")
        self.succeed("quantize", self.tiny, "-o", self.folder / "indirect", "--bits", "8")
        headers = [read_safetensors(folder / "model.safetensors")[0] for folder in (direct, self.folder / "indirect")]
        self.assertEqual(*({k: v["shape"] for k, v in header.items() if k != "__metadata__"} for header in headers))

    def test_what_is_written(self):
        self.assertEqual(sorted(p.name for p in self.tiny.iterdir()), 
                         ["config.json", "model.safetensors", "tokenizer.json"])
        self.assertEqual((self.tiny / "tokenizer.json").read_bytes(), (MODEL / "tokenizer.json").read_bytes())
        out = self.folder / "quantized"
        self.succeed("quantize", self.tiny, "-o", out, "--no-fold-rotation")
        for name in ("config.json", "tokenizer.json"):
            self.assertEqual((out / name).read_bytes(), (self.tiny / name).read_bytes())
        # Relative paths, a trailing slash, and a name that looks like an option.
        for name in ("relative", "slash/", "-dash"):
            self.succeed("quantize", self.tiny, f"--output={name}")
            self.assertTrue((self.folder / name / "model.safetensors").exists())

    def test_the_rotation_is_folded_where_it_can_be(self):
        def quantize(source, name, *options):
            done = self.succeed("quantize", source, "-o", self.folder / name, "--json", *options).json()
            config = self.succeed("inspect", self.folder / name, "--json").json()["config"]
            self.assertEqual(done["kv_rotation"]["in_weights"], "kv_rotation" in config)
            return config.pop("kv_rotation", None), done["kv_rotation"]["why"], config
        plain = self.succeed("inspect", self.tiny, "--json").json()["config"]
        self.assertEqual(quantize(self.tiny, "folded", "--bits", "8"),
                         ("turboquant-1", "folded into the attention weights", plain))
        self.assertEqual(quantize(self.folder / "folded", "again")[:2],
                         ("turboquant-1", "in the attention weights, as in the source"))
        self.assertEqual(quantize(self.tiny, "asked", "--bits", "8", "--no-fold-rotation")[:2],
                         (None, "not folded, as asked"))
        self.assertIn("are quantised", quantize(self.folder / "asked", "asked-q4")[1])
        told = self.succeed("quantize", self.tiny, "-o", self.folder / "told").out
        self.assertIn("rotation of the compressed KV cache: folded", told)
        self.assertNotIn("rotation", self.succeed("init", *TINY, "-o", self.folder / "random").out)
        # The same function: in 8 bits both are near the model that they were made from.
        text = self.folder / "rotation-text"
        text.write_text("The fox went down to the river, and the river was wide. " * 20)
        losses = [self.succeed("evaluate", model, "--text", text, "--window", "64", "--windows", "2", "--json",
                               "--exact").json()["mean_nll"]
                  for model in (self.tiny, self.folder / "folded", self.folder / "asked")]
        self.assertLess(max(losses) - min(losses), 0.02)

    def test_settings_reach_the_config(self):
        out = self.folder / "set"
        self.succeed("init", "--preset", "small", "--set", "swa_window_size=96", "--set", "rms_norm_eps=1e-5", "-o",
                     out)
        config = self.succeed("inspect", out, "--json").json()["config"]
        self.assertEqual((config["swa_window_size"], config["rms_norm_eps"], config["hidden_dim"]), (96, 1e-5, 256))

    def test_inspect_counts(self):
        shipped = self.succeed("inspect", "--json").json()
        self.assertEqual(shipped["parameters"], 33857792)
        self.assertLess(shipped["active_parameters"], shipped["parameters"])
        self.assertEqual(shipped["parameters"], sum(t["parameters"] for t in shipped["tensors"]))
        self.assertEqual(shipped["bytes"], sum(t["bytes"] for t in shipped["tensors"]))
        self.assertEqual(len(shipped["layers"]), shipped["config"]["num_layers"])
        plain = self.succeed("inspect", "--tensors").out
        self.assertIn("33857792 total", plain)
        for tensor in shipped["tensors"]:
            self.assertIn(tensor["name"], plain)

    def test_evaluate(self):
        text = self.folder / "text"
        text.write_text("The fox went down to the river, and the river was wide. " * 60)
        args = ["evaluate", "--text", text, "--window", "64", "--windows", "3"]
        done = self.succeed(*args, "--json", "--exact").json()
        self.assertEqual((done["tokens"], done["window"], done["windows"], done["exact"]), (192, 64, 3, True))
        self.assertAlmostEqual(done["perplexity"], math.exp(done["mean_nll"]), places=6)
        self.assertTrue(0 < done["mean_nll"] < math.log(8192))
        for options in (["--threads", "1"], ["--prefill-chunk", "5"]):
            self.assertAlmostEqual(self.succeed(*args, "--json", "--exact", *options).json()["mean_nll"],
                                   done["mean_nll"], places=5)
        # Random weights know nothing: every token is as likely as any other.
        self.assertAlmostEqual(self.succeed(*args, self.tiny, "--json").json()["mean_nll"], math.log(8192), delta=0.3)
        plain = self.succeed(*args, "--exact")
        self.assertIn(f"{done['mean_nll']:.4f}", plain.out)
        self.fail_with(ERROR, ["tokens", "4000", "4001"], "evaluate", "--text", text, "--window", "4000")
        self.fail_with(ERROR, ["999"], "evaluate", "--text", text, "--window", "64", "--windows", "999")
        self.fail_with(ERROR, ["no-such-text"], "evaluate", "--text", self.folder / "no-such-text")
        text.write_bytes(b"abc\xff")
        self.fail_with(ERROR, [str(text), "UTF-8", "byte 3"], "evaluate", "--text", text, "--window", "1")

    def test_wrong_arguments(self):
        out = self.folder / "never"
        for args, words in ((["quantize", self.tiny, "-o", out, "--bits", "7"], ["7"]),
                            (["quantize", self.tiny, "-o", out, "--group-size", "48"], ["48"]),
                            (["quantize", self.tiny], ["--output"]), (["quantize", "-o", out], ["model"]),
                            (["init"], ["--output"]), (["init", "-o", out, "--preset", "huge"], ["huge", "medium"]),
                            (["init", "-o", out, "--weights", "q7"], ["q7"]),
                            (["init", "-o", out, "--set", "window=1"], ["window", "swa_window_size"]),
                            (["init", "-o", out, "--set", "num_heads=7"], ["num_heads", "7", "320"]),
                            (["init", "-o", out, "--set", "num_layers=x"], ["num_layers"]),
                            (["init", "-o", out, "--set", "num_layers=99999999999999999999"], ["num_layers"]),
                            (["init", "-o", out, "--set", "vocab_size=100", "--tokenizer", MODEL / "tokenizer.json"],
                             ["8192", "100"]),
                            (["init", "-o", out, "--tokenizer", self.folder / "none.json"], ["none.json"]),
                            (["init", "-o", out, "--tokenizer", self.tiny / "config.json"], ["config.json"])):
            ended = self.call(*args)
            self.assertIn(ended.code, (ERROR, USAGE), f"{args}: {ended}")
            for word in words:
                self.assertIn(word, ended.err, args)
            self.assertFalse(out.exists())

    def test_rows_that_no_group_divides_keep_their_precision(self):
        odd = self.new_model("odd", *TINY, "--set", "moe_intermediate_dim=96")
        out = self.folder / "odd-q4"
        self.succeed("quantize", odd, "-o", out)
        form = {t["name"]: t["precision"] for t in self.succeed("inspect", out, "--json").json()["tensors"]}
        self.assertEqual(form["layer_1.moe.switch_mlp.down_proj.weight"], "BF16")
        self.assertTrue(form["layer_1.moe.switch_mlp.up_proj.weight"].startswith("q4 g64"))
        self.answer("-m", out, "-n", "2", "hi")


class Outputs(Case):
    """Whatever keeps a conversion from its end leaves the folder as it was."""

    def setUp(self):
        self.place = self.folder / self._testMethodName
        self.place.mkdir()

    def commands(self, out):
        yield ["init", *TINY, "-o", out]
        yield ["quantize", MODEL, "--bits", "3", "-o", out]

    def test_an_output_that_exists_is_refused_and_untouched(self):
        (self.place / "folder").mkdir()
        (self.place / "folder" / "mine").write_text("mine")
        (self.place / "file").write_text("mine")
        os.symlink("nowhere", self.place / "link")
        before = snapshot(self.place)
        for name in ("folder", "file", "link"):
            for command in self.commands(self.place / name):
                self.fail_with(ERROR, [name, "already exists"], *command)
        self.assert_unchanged(self.place, before)

    def test_a_place_that_cannot_be_written(self):
        (self.place / "file").write_text("no folder")
        for out, word in (("missing/out", "missing"), ("file/out", "file")):
            for command in self.commands(self.place / out):
                self.fail_with(ERROR, [word], *command)
        for command in self.commands(""):
            self.fail_with(ERROR, ["name"], *command)
        for command in self.commands("/proc/out"):
            self.fail_with(ERROR, ["/proc"], *command)
        self.assertEqual(list(snapshot(self.place)), ["file"])

    @unittest.skipIf(os.geteuid() == 0, "root may write anywhere")
    def test_a_read_only_place(self):
        self.place.chmod(0o555)
        self.addCleanup(self.place.chmod, 0o755)
        for command in self.commands(self.place / "out"):
            self.fail_with(ERROR, ["Permission denied"], *command)

    def test_a_full_disk(self):
        def little_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        for command in self.commands(self.place / "out"):
            self.fail_with(ERROR, ["out", "File too large"], *command, preexec_fn=little_room)
            self.assertEqual(snapshot(self.place), {})

    def test_an_interruption(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            # Large enough to be under way when the signal comes.
            with subprocess.Popen([PROGRAM, "init", "--preset", "medium", "--weights", "q4", "-o", self.place / "out"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
                deadline = time.monotonic() + 60
                while not any(p.suffix != ".json" for p in self.place.rglob("*") if p.is_file()):
                    self.assertLess(time.monotonic(), deadline)
                    self.assertIsNone(process.poll())
                    time.sleep(0.01)
                process.send_signal(number)
                out, err = process.communicate(timeout=120 if SANITIZED else 20)
            self.assertEqual(process.returncode, ERROR, err)
            self.assertEqual((out, snapshot(self.place)), (b"", {}))
            self.assertIn(b"interrupted", err)


if __name__ == "__main__":
    main()
