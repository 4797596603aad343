"""The 3b preset at full size: initialised in 4 bits, planned, and run at 65,536 tokens inside its plan."""
import shutil
import unittest

from support import Case, MIB, SANITIZED, SOURCE, main


@unittest.skipIf(SANITIZED, "a sanitizer would take an hour")
class FullSize(Case):
    def test_3b_in_four_bits_keeps_its_plan(self):
        free = shutil.disk_usage(self.folder).free
        self.assertGreater(free, 3 << 30, "the model takes 1.7 GiB of disk")
        model = self.folder / "3b"
        made = self.succeed("init", "--preset", "3b", "--weights", "q4", "--seed", "1", "-o", model, "--json", timeout=600).json()
        self.assertEqual(made["memory"]["planned_bytes"], made["memory"]["ledger_peak_bytes"])
        self.assertLessEqual(made["memory"]["resident_peak_bytes"], made["memory"]["planned_bytes"] * 1.02 + 8 * MIB)
        self.assertEqual(self.succeed("inspect", model, "--json").json()["parameters"], 3_218_739_200)

        plan = self.succeed("plan", model, "--context", "65536", "-n", "8", "--json").json()
        prompt = "The dragon walked over the hill and saw the sea. " * 60
        memory = self.answer("-m", model, "--context", "65536", "-n", "8", "--seed", "1", stdin=prompt, timeout=600)["memory"]
        self.assertEqual(memory["planned_bytes"], plan["total_bytes"])
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        # Every page is there, whatever the prompt touched: the two agree both ways.
        self.assertAlmostEqual(memory["resident_peak_bytes"], memory["planned_bytes"], delta=0.02 * memory["planned_bytes"])
        # Weights at 4.5 bits, a full ring, and little else.
        self.assertLess(memory["resident_peak_bytes"], 2150 * MIB)


@unittest.skipUnless((SOURCE / "../shared/models/bit-axon-nano/model.safetensors").exists(), "needs the float weights")
class FloatNano(Case):
    MODEL = SOURCE / "../shared/models/bit-axon-nano"
    TEXT = SOURCE / "../shared/data/heldout-stream.txt"

    def evaluate(self, *options):
        return self.succeed("evaluate", self.MODEL, "--text", self.TEXT, "--window", "1024", "--json", *options, timeout=900).json()

    def test_bf16_keeps_its_plan(self):
        memory = self.answer("-m", self.MODEL, "--context", "8192", "-n", "64", "--seed", "1", "Tell me a story.")["memory"]
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        self.assertLessEqual(memory["resident_peak_bytes"], memory["planned_bytes"] * 1.02 + 8 * MIB)

    def test_held_out_loss_is_the_oracles(self):
        self.assertAlmostEqual(self.evaluate("--windows", "64", "--weights", "bf16", "--exact")["mean_nll"], 2.1052, delta=0.0005)

    def test_int8_activations_cost_little(self):
        exact, fast = (self.evaluate("--windows", "16", "--weights", "q8", *mode)["mean_nll"] for mode in (["--exact"], []))
        self.assertLessEqual(fast - exact, 0.003)


if __name__ == "__main__":
    main()
