"""benchmark: figures that belong together, the plan, comparisons, the picture, and what cannot be measured."""
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree

from support import Case, DOES_NOT_FIT, ERROR, MIB, MODEL, PROGRAM, SANITIZED, SOURCE, TINY, USAGE, environment, main, snapshot

QUICK = ["--prefill", "40,300", "--decode", "12", "--depth", "0,1k", "--repetitions", "2"]
PARTS = {"matmul", "embed", "rms_norm", "conv_silu", "scan", "rotate", "attend", "append", "route", "swiglu", "combine",
         "outside"}


class Figures(Case):
    def assert_spread(self, spread, count=None):
        places = [spread[k] for k in ("min", "lower_quartile", "median", "upper_quartile", "max")]
        self.assertEqual(places, sorted(places))
        self.assertGreater(places[0], 0)
        if count is not None:
            self.assertEqual(spread["count"], count)

    def assert_share(self, share):
        # A ceiling is measured a moment before or after: on a shared machine a share may pass 1.
        self.assertGreater(share, 0)
        if not SANITIZED:
            self.assertLess(share, 1.5)

    def assert_case(self, case, turns):
        self.assertEqual(len(case["turns"]), turns)
        decodes = case["kind"] == "decode"
        for turn in case["turns"]:
            self.assertAlmostEqual(turn["tokens_per_second"] * turn["seconds"], turn["tokens"], places=6)
            for key in ("weights_share", "bytes_share") if decodes else ("matmul_share", "compute_share"):
                self.assert_share(turn[key])
            self.assertEqual(turn["ceilings"]["read"] > 0, decodes)
            self.assertEqual(turn["ceilings"]["int8"] > 0, not decodes)
        self.assert_spread(case["tokens_per_second"], turns)
        rates = sorted(t["tokens_per_second"] for t in case["turns"])
        self.assertEqual((case["tokens_per_second"]["min"], case["tokens_per_second"]["max"]), (rates[0], rates[-1]))
        self.assertEqual(set(case["parts"]), PARTS)
        self.assertAlmostEqual(sum(case["parts"].values()) / case["seconds_per_unit"], 1, places=6)
        units = sum(t["tokens"] for t in case["turns"]) if decodes else turns
        self.assertAlmostEqual(sum(t["seconds"] for t in case["turns"]) / units / case["seconds_per_unit"], 1, places=6)
        for key in ("weight_bytes_per_second", "bytes_per_second", "operations_per_second"):
            self.assert_spread(case[key], turns)
        if decodes:
            self.assertLess(case["weights_share"]["median"], case["bytes_share"]["median"])
        else:
            self.assertLess(case["compute_share"]["median"], case["matmul_share"]["median"])

    def assert_memory(self, memory):
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        for line in memory["accounts"]:
            self.assertEqual(line["planned_bytes"], line["peak_bytes"], line["account"])
        self.assertEqual(sum(line["planned_bytes"] for line in memory["accounts"]), memory["planned_bytes"])
        if not SANITIZED:
            self.assertLessEqual(memory["resident_peak_bytes"], memory["planned_bytes"] * 1.02 + 8 * MIB)

    def test_json(self):
        done = self.succeed("benchmark", "--json", *QUICK).json()
        self.assertEqual([(c["name"], c["kind"], c["tokens"], c["depth"], c["start"]) for c in done["cases"]],
                         [("prefill 40", "prefill", 40, 0, 0), ("prefill 300", "prefill", 300, 0, 0),
                          ("decode at 0", "decode", 12, 0, 0), ("decode at 1024", "decode", 12, 1024, 1024)])
        for case in done["cases"]:
            self.assert_case(case, 2 if case["kind"] == "prefill" else 4)
        self.assertEqual([t["tokens"] for t in done["cases"][2]["turns"]], [8, 4, 8, 4])
        for name in ("read", "int8", "fp32"):
            self.assert_spread(done["ceilings"][name])
        self.assertGreaterEqual(done["ceilings"]["bf16"]["count"] if done["ceilings"]["bf16"] else 2, 2)
        self.assertEqual((done["model"], done["weights"], done["kv"], done["repetitions"], done["context"]),
                         (str(MODEL), "keep", "fp16", 2, 1036))
        self.assertNotIn("compare", done)
        self.assert_memory(done["memory"])

    def test_every_key_is_on_its_page(self):
        page = (SOURCE / "docs" / "benchmark.md").read_text()
        done = self.succeed("benchmark", "--json", "--prefill", "8", "--depth", "0", "--decode", "1", "--repetitions",
                            "1", "--compare", "kv=q8").json()
        cases = done["cases"] + done["compare"]["cases"]
        for keys in (done, done["read"], done["left_out"], done["ceilings"], *cases, *(c["turns"][0] for c in cases),
                     cases[0]["tokens_per_second"], cases[0]["turns"][0]["ceilings"]):
            for key in keys:
                self.assertTrue(f"`{key}`" in page, key)

    def test_bytes_and_operations_of_a_token_follow_from_the_model(self):
        model = self.new_model("eight", *TINY, "--weights", "q8")
        inspected = self.succeed("inspect", model, "--json").json()
        done = self.succeed("benchmark", model, "--json", "--prefill", "none", "--depth", "0,32,2k", "--decode", "8",
                            "--repetitions", "1").json()
        active = inspected["active_parameters"]
        shallow, _, deep = done["cases"]
        operations = sum(shallow[f"{kind}_per_token"] for kind in ("int8_ops", "bf16_flops", "fp32_flops"))
        self.assertAlmostEqual(operations / (2 * active), 1, delta=0.1)
        self.assertGreater(shallow["int8_ops_per_token"], 0.9 * operations)
        # 8 bits and a half-precision scale and bias to 64 weights; vectors and routers are held in more.
        self.assertAlmostEqual(shallow["weight_bytes_per_token"] / (active * 8.5 / 8), 1, delta=0.1)
        self.assertEqual(shallow["weight_bytes_per_token"], deep["weight_bytes_per_token"])
        # One attention layer of 32 heads of 2 halves, behind a full window of 32, its own token not counted.
        self.assertEqual(deep["kv_bytes_per_token"], 31 * 2 * 64 * 2)
        self.assertLess(shallow["kv_bytes_per_token"], deep["kv_bytes_per_token"])

    def test_exact_arithmetic_is_held_against_fp32(self):
        done = self.succeed("benchmark", "--json", "--exact", "--prefill", "40", "--depth", "none", "--repetitions",
                            "1").json()
        case = done["cases"][0]
        self.assertEqual(case["int8_ops_per_token"], 0)
        self.assertGreater(case["fp32_flops_per_token"], 0)
        self.assertGreater(case["turns"][0]["ceilings"]["fp32"], 0)
        self.assertEqual(case["turns"][0]["ceilings"]["int8"], 0)
        self.assert_share(case["matmul_share"]["median"])
        self.assertEqual(done["kv"], "fp32")

    def test_compare(self):
        other = self.new_model("other", *TINY, "--weights", "q4")
        for compared, model, weights, kv in (("q8", str(MODEL), "q8", "fp16"), ("kv=tq3", str(MODEL), "keep", "tq3"),
                                             (str(other), str(other), "keep", "fp16")):
            done = self.succeed("benchmark", "--json", "--compare", compared, "--prefill", "20", "--decode", "8",
                                "--depth", "600", "--repetitions", "3").json()
            against = done["compare"]
            self.assertEqual((against["model"], against["weights"], against["kv"]), (model, weights, kv))
            for first, second in zip(done["cases"], against["cases"], strict=True):
                self.assert_case(first, 3)
                self.assert_case(second, 3)
                pairs = sorted(a["tokens_per_second"] / b["tokens_per_second"]
                               for a, b in zip(first["turns"], second["turns"], strict=True))
                self.assertAlmostEqual(second["ratio"]["median"], pairs[1], places=9)
                self.assertEqual(second["ratio"]["count"], 3)
            decodes = done["cases"][1], against["cases"][1]
            if compared == "q8":
                self.assertGreater(decodes[1]["weight_bytes_per_token"], 1.5 * decodes[0]["weight_bytes_per_token"])
            if kv == "tq3":
                self.assertLess(decodes[1]["kv_bytes_per_token"], 0.5 * decodes[0]["kv_bytes_per_token"])
                self.assertGreater(against["cases"][0]["parts"]["rotate"] + against["cases"][0]["parts"]["append"],
                                   done["cases"][0]["parts"]["append"])
            self.assert_memory(done["memory"])
            process = [line for line in done["memory"]["accounts"] if line["account"] == "process"]
            self.assertEqual([line["planned_bytes"] for line in process], [12 * MIB], "once for both")

    def test_text(self):
        shown = self.succeed("benchmark", *QUICK, "--compare", "q8")
        for line in shown.out.splitlines():
            if str(MODEL) not in line:
                self.assertLessEqual(len(line), 110, line)
                self.assertEqual(line, line.rstrip())
        for word in ("ceilings", "int8", "prompt", "behind", "matmul", "scan", "outside", "1,024", "A/B", "time of B"):
            self.assertIn(word, shown.out)
        self.assertIn("equal to the byte", shown.err)

    def test_default_lengths_that_are_too_long_are_left_out(self):
        small = self.new_model("small", *TINY[:-1], "max_seq_len=600")
        done = self.succeed("benchmark", small, "--json", "--repetitions", "1", "--decode", "4").json()
        self.assertEqual([c["name"] for c in done["cases"]], ["prefill 128", "prefill 512", "decode at 0"])
        self.assertEqual(done["left_out"], {"prefill": [2048], "depth": [4096, 16384, 65536]})
        self.assertIn("left out: depth 4,096, 16,384, 65,536", self.succeed("benchmark", small, "--prefill", "8",
                                                                            "--repetitions", "1").out)
        # The last token is the last that fits.
        last = self.succeed("benchmark", small, "--json", "--prefill", "none", "--depth", "600", "--decode", "16",
                            "--repetitions", "1").json()
        self.assertEqual((last["cases"][0]["depth"], last["cases"][0]["start"], last["context"]), (600, 584, 600))


class Picture(Case):
    def test_is_whole_and_says_what_the_json_says(self):
        path = self.folder / "speed.svg"
        path.write_text("older")
        done = self.succeed("benchmark", "--json", *QUICK, "--svg", path).json()
        root = ElementTree.parse(path).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        width, height = (float(root.get(k)) for k in ("width", "height"))
        texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
        for case in done["cases"]:
            median = case["tokens_per_second"]["median"]
            self.assertTrue(any(t.startswith(f"{median:.1f} tokens/s, ") for t in texts), (median, texts))
        for word in ("40 tokens", "behind 1,024", "matmul", "scan"):
            self.assertIn(word, texts)
        for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
            x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
            self.assertLessEqual(x + float(rect.get("width")), width + 0.1)
            self.assertLessEqual(y + float(rect.get("height")), height + 0.1)
        self.assertNotRegex(path.read_text(), r"(href|src)=")
        self.assertEqual([p.name for p in self.folder.glob("speed*")], ["speed.svg"])

    def test_hostile_names_are_escaped(self):
        name = self.folder / "a<b>&\"'"
        self.succeed("init", "--seed", "1", "--tokenizer", "none", "-o", name, *TINY)
        path = self.folder / "escaped.svg"
        self.succeed("benchmark", name, "--prefill", "8", "--depth", "none", "--repetitions", "1", "--svg", path)
        texts = ["".join(t.itertext()) for t in ElementTree.parse(path).getroot().iter()]
        self.assertTrue(any("a<b>&\"'" in t for t in texts))


class Refusals(Case):
    def test_values(self):
        for option, value, word in (("--prefill", "0", "0"), ("--prefill", "", "\"\""), ("--prefill", "4,,5", "\"\""),
                                    ("--prefill", "many", "many"), ("--prefill", "none,4", "none"),
                                    ("--depth", "-1", "-1"), ("--depth", "4x", "4x"), ("--depth", "1.5k", "1.5k"),
                                    ("--decode", "0", "0"), ("--repetitions", "0", "0"),
                                    ("--compare", "no-such-thing", "no-such-thing"), ("--compare", "kv=q7", "q7"),
                                    ("--compare", "tq3", "kv=tq3"), ("--svg", "", "--svg")):
            self.fail_with(USAGE, [option, word], "benchmark", option, value)
        self.fail_with(USAGE, ["--prefill none", "--depth none"], "benchmark", "--prefill", "none", "--depth", "none")

    def test_too_long_for_the_model(self):
        for option in ("--prefill", "--depth", "--decode"):
            self.fail_with(ERROR, [option, "1000000000", "max_seq_len"], "benchmark", option, "1000000000")

    def test_files(self):
        self.fail_with(ERROR, ["no-such-model"], "benchmark", "no-such-model")
        before = snapshot(self.folder)
        self.fail_with(ERROR, ["no-such-folder"], "benchmark", *QUICK, "--svg", self.folder / "no-such-folder" / "x.svg")
        self.assert_unchanged(self.folder, before)

    def test_a_kv_type_that_cannot_hold_the_model(self):
        odd = self.new_model("odd", *TINY, "--set", "num_heads=8")
        self.fail_with(ERROR, ["head_dim", "8"], "benchmark", odd, "--prefill", "8", "--compare", "kv=tq3")

    def test_over_budget(self):
        svg = self.folder / "over.svg"
        args = ["benchmark", "--prefill", "64", "--attention-window", "all", "--svg", svg]
        refused = self.fail_with(DOES_NOT_FIT, ["needs", "64.0 MiB", "kv cache", "--depth"], *args, "--depth", "0,16k",
                                 "--memory-budget", "64MiB")
        self.assertFalse(svg.exists())
        offered = re.search(r"--depth (\d+)(?= |$)", refused.err, re.M).group(1)
        chunk = re.search(rf"--depth {offered}(?: --prefill-chunk (\d+))?", refused.err).group(1)
        self.succeed(*args, "--depth", offered, "--memory-budget", "64MiB", "--repetitions", "1", "--decode", "64",
                     *(["--prefill-chunk", chunk] if chunk else []))
        # The sum of both decides.
        alone = ["benchmark", "--prefill", "16", "--depth", "none", "--repetitions", "1", "--memory-budget", "50MiB"]
        self.succeed(*alone)
        self.fail_with(DOES_NOT_FIT, ["50.0 MiB"], *alone, "--compare", "q8")

    def test_interruption_leaves_nothing(self):
        process = subprocess.Popen([PROGRAM, "benchmark", "--repetitions", "10000", "--svg", "stopped.svg"],
                                   env=environment(), cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.time() + 20
        while not list(self.folder.glob("stopped.svg*")) and time.time() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (ERROR, b""), err)
        self.assertIn(b"interrupted", err)
        self.assertEqual(list(self.folder.glob("stopped.svg*")), [])


if __name__ == "__main__":
    main()
