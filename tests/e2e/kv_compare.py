"""evaluate --kv-compare: every type of KV cache against fp16, and the bars that the compressed ones keep."""
import math
import os
import signal
import subprocess
import time
import unittest

from support import Case, ERROR, MODEL, PROGRAM, SANITIZED, SOURCE, TINY, USAGE, environment, main

NAMES = ["fp16", "q8", "tq4", "tq3.5", "tq3", "lm3"]
HELD_OUT = SOURCE.parent / "shared" / "data" / "heldout-stream.txt"


class Compare(Case):
    def compare(self, *args, **kw):
        done = self.succeed("evaluate", "--kv-compare", "--json", *args, **kw).json()
        self.assertEqual(done["memory"]["planned_bytes"], done["memory"]["ledger_peak_bytes"])
        return done, {t["kv"]: t for t in done["types"]}

    def text(self, times=40):
        path = self.folder / f"text{times}"
        path.write_text("The fox went down to the river, and the river was wide. " * times)
        return path

    def test_report(self):
        args = ["--text", self.text(), "--window", "96", "--windows", "2"]
        done, types = self.compare(*args)
        self.assertEqual([t["kv"] for t in done["types"]], NAMES)
        self.assertEqual((done["reference"], done["tokens"], done["window"], done["windows"], done["prefill_chunk"]),
                         ("fp16", 192, 96, 2, 8))
        reference = types["fp16"]
        self.assertEqual((reference["mean_kld"], reference["kld_999"], reference["top1_agreement"],
                          reference["perplexity_ratio"], reference["attend_ratio"]), (0, 0, 1, 1, 1))
        for t in done["types"]:
            self.assertAlmostEqual(t["perplexity"], math.exp(t["mean_nll"]), places=6)
            self.assertAlmostEqual(t["perplexity_ratio"], t["perplexity"] / reference["perplexity"], places=6)
            self.assertAlmostEqual(t["nll_difference"], t["mean_nll"] - reference["mean_nll"], places=6)
            self.assertGreater(t["attend_us_per_token"], 0)
            self.assertGreater(t["append_us_per_token"], 0)
            self.assertTrue(0 <= t["top1_agreement"] <= 1)
            if t is not reference:
                self.assertTrue(0 < t["mean_kld"] <= t["kld_999"] <= t["kld_largest"] * 1.001, t)
                self.assertLess(t["kv_bytes"], reference["kv_bytes"])
                self.assertGreater(t["mean_kld_error"], 0)
                self.assertGreater(t["nll_difference_error"], 0)
        # Each is what evaluate says of it alone.
        for kv in ("fp16", "tq3"):
            alone = self.succeed("evaluate", "--kv", kv, "--json", "--prefill-chunk", "8", *args).json()
            self.assertAlmostEqual(alone["mean_nll"], types[kv]["mean_nll"], places=9)
            self.assertAlmostEqual(alone["standard_error"], types[kv]["standard_error"], places=9)
        chunked = self.compare(*args, "--prefill-chunk", "16")[0]
        self.assertEqual(chunked["prefill_chunk"], 16)

    def test_table(self):
        shown = self.succeed("evaluate", "--kv-compare", "--text", self.text(), "--window", "64", "--windows", "1").out
        lines = shown.splitlines()
        self.assertEqual([line.split()[0] for line in lines[1:7]], NAMES)
        self.assertEqual(len({len(line) for line in lines[1:7]}), 1, shown)
        for word in ("PPL", "KLD", "top-1", "attention", "encoding", "64 tokens in 1 windows of 64"):
            self.assertIn(word, shown)

    def test_what_cannot_be_compared(self):
        self.fail_with(USAGE, ["--kv-compare", "--kv"], "evaluate", "--kv-compare", "--kv", "tq3", "--text",
                       self.text())
        odd = self.new_model("odd", *TINY, "--set", "num_heads=8")
        self.fail_with(ERROR, ["--kv-compare", "head_dim", "8"], "evaluate", odd, "--kv-compare", "--text", self.text(),
                       "--window", "16")
        self.fail_with(ERROR, ["tokens", "4000"], "evaluate", "--kv-compare", "--text", self.text(), "--window", "4000")

    def test_interruption_does_not_wait_for_the_window(self):
        process = subprocess.Popen([PROGRAM, "evaluate", "--kv-compare", "--text", str(self.text(4000)), "--window",
                                    "32768", "--windows", "1"], env=environment(), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (ERROR, b""), err)
        self.assertIn(b"interrupted", err)


@unittest.skipIf(SANITIZED or not HELD_OUT.exists(), "needs the held-out text, and speed")
@unittest.skipIf(os.environ.get("BIT_AXON_MODEL"), "the bars are of the shipped model")
class Bars(Case):
    def test_past_the_window(self):
        # Exact arithmetic, so that all that differs is the cache: int8 activations add some 0.003 nats to each type.
        done = self.succeed("evaluate", MODEL, "--kv-compare", "--json", "--exact", "--text", HELD_OUT, "--window",
                            "2048", "--windows", "1", timeout=550).json()
        types = {t["kv"]: t for t in done["types"]}
        for kv, bar in (("q8", 0.002), ("tq4", 0.005), ("tq3.5", 0.01), ("tq3", 0.03)):
            self.assertLess(abs(types[kv]["perplexity_ratio"] - 1), bar, types[kv])
        self.assertLessEqual(types["tq3"]["mean_kld"], 0.75 * types["lm3"]["mean_kld"])
        self.assertEqual(types["tq3"]["kv_bytes"], types["lm3"]["kv_bytes"])
        self.assertLess(types["q8"]["mean_kld"], types["tq4"]["mean_kld"])


if __name__ == "__main__":
    main()
