"""plan: what it is asked about, its matrices and machines, its promises against what runs take, and its JSON."""
import json
import os
import re
import statistics
import subprocess
import time
import unittest
from html.parser import HTMLParser

from plan_inputs import (FAMILIES, GIB, LLAMA, LLAMA_GGUF_PARAMETERS, QWEN3, llama_gguf, llama_tensors,
                         put_config, sharded_llama, sparse_safetensors)
from support import Case, DOES_NOT_FIT, ERROR, MIB, PROGRAM, SANITIZED, SOURCE, TINY, environment, main

RUNNABLE = ["--set", "vocab_size=8192", "--set", "max_seq_len=65536"]  # any preset with room for the shipped tokenizer


class PlanCase(Case):
    def plan(self, *args, codes=(0,)):
        ended = self.call("plan", "--json", *args)
        self.assertIn(ended.code, codes, str(ended))
        self.assertEqual(ended.err, "")
        plan = ended.json()
        self.assertEqual(plan["fits"], ended.code == 0)
        for cell in [*plan["cells"], *([plan["training"]] if "training" in plan else [])]:
            self.assertEqual(sum(a["bytes"] for a in cell["accounts"]), cell["total_bytes"])
            for account in cell["accounts"]:
                self.assertEqual(sum(t["bytes"] for t in account["terms"]), account["bytes"], account["account"])
        return plan

    def account(self, plan, name):
        return next(a["bytes"] for a in plan["accounts"] if a["account"] == name)

    def weights(self, plan):
        return sum(a["bytes"] for a in plan["accounts"] if a["account"].startswith("weights"))


class Targets(PlanCase):
    def test_no_arguments(self):
        shown = self.succeed("plan").out
        plan = self.plan()
        for word in ("this machine", "memory", "available now", "swap", "cores", "fits: ", "kv cache"):
            self.assertIn(word, shown)
        self.assertEqual((plan["family"], plan["evidence"]), ("bit_axon", "files"))
        machine = plan["machine"]
        self.assertTrue(machine["this_machine"])
        self.assertEqual(machine["processors"], len(os.sched_getaffinity(0)))
        self.assertGreaterEqual(machine["physical_bytes"], machine["available_bytes"])
        self.assertLessEqual(plan["budget_bytes"], machine["physical_bytes"])

    def test_a_folder_and_its_parts(self):
        folder = self.new_model("tiny", *TINY)
        whole = self.plan(folder)
        self.assertEqual(self.plan(f"{folder}/")["total_bytes"], whole["total_bytes"])
        self.assertEqual(self.plan(folder / "model.safetensors")["parameters"], whole["parameters"])
        config = self.plan(folder / "config.json")
        self.assertEqual((config["evidence"], config["total_bytes"]), ("config.json", whole["total_bytes"]))

    def test_presets(self):
        for preset, parameters in (("nano", 33_853_440), ("3b", 3_218_739_200)):
            plan = self.plan(preset, "--budget", "64GiB")
            self.assertEqual((plan["evidence"], plan["runs_here"]), ("preset", True))
            self.assertAlmostEqual(plan["parameters"] / parameters, 1, delta=0.01)
            self.assertGreater(plan["parameters"], plan["active_parameters"])

    def test_configs_of_other_families(self):
        for config, parameters in FAMILIES:
            folder = put_config(self.folder / config["model_type"], config)
            for target in (folder, folder / "config.json"):
                plan = self.plan(target, "--budget", "200GiB", "--weights", "bf16")
                self.assertEqual(plan["parameters"], parameters, config["model_type"])
                self.assertEqual(self.weights(plan), 2 * parameters)
                self.assertEqual(plan["evidence"], "config.json")
                self.assertFalse(plan["runs_here"])
                self.assertTrue(plan["cannot_run"])

    def test_the_cache_follows_the_architecture(self):
        llama = put_config(self.folder / "llama-kv", LLAMA)
        qwen = put_config(self.folder / "qwen3-kv", QWEN3)
        for target, values in ((llama, 22 * 4 * 64), (qwen, 28 * 8 * 128)):
            for tokens in (1, 1000, 2048):
                plan = self.plan(target, "--context", tokens)
                self.assertEqual(self.account(plan, "kv cache"), 2 * values * tokens * 2)
        mamba, gemma = self.folder / "mamba-state", self.folder / "gemma-kv"
        put_config(mamba, dict(FAMILIES[4][0]))
        put_config(gemma, dict(FAMILIES[3][0]))
        short, long = self.plan(mamba, "--context", "1k"), self.plan(mamba, "--context", "1M")
        self.assertEqual(short["total_bytes"], long["total_bytes"])
        self.assertEqual(self.account(short, "recurrent state"), 24 * 1536 * 16 * 4)
        grown = self.account(self.plan(gemma, "--context", "32k"), "kv cache")
        self.assertEqual(grown, (15 * 512 + 3 * 32768) * 2 * 256 * 2)

    def test_files_count_as_they_are_stored(self):
        folder = put_config(self.folder / "llama-files", LLAMA)
        sparse_safetensors(folder / "model.safetensors", llama_tensors(LLAMA))
        bytes_in_shards = sharded_llama(self.folder / "llama-shards", LLAMA, 7)
        self.assertEqual(bytes_in_shards, 2 * 1_100_048_384)
        for target in (folder, folder / "model.safetensors", self.folder / "llama-shards"):
            plan = self.plan(target)
            self.assertEqual(self.weights(plan), bytes_in_shards)
            self.assertEqual(plan["parameters"], 1_100_048_384)
            self.assertIn("BF16", plan["stored"])
            self.assertIn("kv cache", [a["account"] for a in plan["accounts"]])
        lonely = sparse_safetensors(self.folder / "lonely.safetensors", llama_tensors(LLAMA))
        plan = self.plan(lonely)
        self.assertEqual((plan["family"], self.weights(plan)), ("unknown", bytes_in_shards))
        self.assertTrue(any("config.json" in note for note in plan["notes"]))
        self.fail_with(ERROR, ["--weights", "q4"], "plan", lonely, "--weights", "q4")

    def test_gguf(self):
        whole = llama_gguf().write(self.folder / "whole.gguf")
        folder = self.folder / "gguf-folder"
        folder.mkdir()
        for i in range(2):
            llama_gguf(4, first=2 * i, last=2 * i + 2, shard=(i, 2)).write(folder / f"m-{i + 1:05}-of-00002.gguf")
        elements = LLAMA_GGUF_PARAMETERS
        norms = 9 * 256
        for target in (whole, folder, folder / "m-00001-of-00002.gguf"):
            plan = self.plan(target)
            self.assertEqual((plan["family"], plan["evidence"]), ("llama", "GGUF header"))
            self.assertEqual(plan["parameters"], elements)
            self.assertEqual(self.weights(plan), (elements - norms) // 32 * 18 + norms * 4)
            self.assertEqual(self.account(plan, "kv cache"), 4 * 2 * 2 * 32 * 8192 * 2)

    def test_known_models(self):
        listed = self.succeed("plan", "--list").out
        for name, parameters in (("llama-3.1-8b", 8.03e9), ("qwen3-0.6b", 0.596e9), ("gpt-oss-20b", 20.9e9),
                                 ("mixtral-8x7b", 46.7e9), ("deepseek-v3", 671e9)):
            self.assertIn(name, listed)
            plan = self.plan(name, "--budget", "4TiB")
            self.assertAlmostEqual(plan["parameters"] / parameters, 1, delta=0.005)
            self.assertTrue(plan["source"].startswith("https://"))
        same = self.plan("meta-llama/Llama-3.1-8B-Instruct", "--budget", "4TiB")
        self.assertEqual(same["parameters"], self.plan("llama-3.1-8b", "--budget", "4TiB")["parameters"])

    def test_sizes(self):
        for text, weights, count in (("20b", "bf16", 40e9), ("20B", "fp8", 20e9), ("20b", "fp4", 10e9),
                                     ("0.6B", "bf16", 1.2e9), ("770m", "fp16", 1.54e9), ("1.5t", "fp32", 6e12)):
            plan = self.plan(text, "--weights", weights, "--budget", "10TiB")
            self.assertEqual((plan["total_bytes"], plan["family"]), (count, "unknown"))
            self.assertTrue(any("kv cache" in note for note in plan["notes"]))

    def test_pages(self):
        for page in ("memory-budget", "memory-101", "models"):
            shown = self.succeed("plan", "--page", page)
            self.assertRegex(shown.out, r"^# \w")
            self.assertEqual(shown.err, "")

    def test_the_list(self):
        listed = self.succeed("plan", "--list").out
        for word in ("nano", "3b", "llama-3.1-8b", "macbook-air-m4-16gb", "mac-mini-16gb", "nvfp4", "ternary", "q4_k",
                     "tq3.5"):
            self.assertIn(word, listed)


class Fallback(PlanCase):
    OPTIONS = ["--fallback", "--layers", 24, "--hidden-size", 2880, "--kv", "fp4"]

    def test_the_numbers_of_the_second_document(self):
        for tokens, count in (("4k", 283_115_520), (128 * 1024, 9_059_696_640), (10_000_000, 691_200_000_000)):
            plan = self.plan("20b", *self.OPTIONS, "--context", tokens, "--budget", "2TiB")
            self.assertEqual(self.account(plan, "kv cache"), count)
            self.assertTrue(next(a["estimate"] for a in plan["accounts"] if a["account"] == "kv cache"))
            self.assertTrue(any("fallback" in note for note in plan["notes"]))

    def test_only_when_asked(self):
        self.assertEqual([a["account"] for a in self.plan("20b", "--budget", "1TiB")["accounts"]], ["weights"])

    def test_an_unknown_family_with_files(self):
        folder = put_config(self.folder / "unknown", dict(LLAMA, model_type="hyena_next"))
        sparse_safetensors(folder / "model.safetensors", llama_tensors(LLAMA))
        self.fail_with(ERROR, ["hyena_next", "--fallback"], "plan", folder)
        plan = self.plan(folder, "--fallback", "--context", 1000)
        self.assertEqual(self.account(plan, "kv cache"), 2 * 22 * 2048 * 1000 * 2)
        self.assertEqual(self.weights(plan), 2 * 1_100_048_384)
        self.assertEqual(plan["family"], "unknown")


class Matrix(PlanCase):
    def test_cells_are_the_product_and_equal_single_calls(self):
        contexts, weights, kv = [4096, 16384, 65536], ["fp16", "q8", "q4", "ternary"], ["fp16", "tq3"]
        for target in ("nano", put_config(self.folder / "llama", LLAMA)):
            lists = ["--context", "4k,16k,64k", "--weights", ",".join(weights), "--kv", ",".join(kv)]
            plan = self.plan(target, *lists, "--budget", "64GiB")
            self.assertEqual([(c["kv"], c["weights"], c["context"]) for c in plan["cells"]],
                             [(k, w, c) for k in kv for w in weights for c in contexts])
            self.assertNotIn("total_bytes", plan)
            text = self.succeed("plan", target, *lists, "--budget", "64GiB").out
            for cell in plan["cells"]:
                one = ["--context", cell["context"], "--weights", cell["weights"], "--kv", cell["kv"]]
                single = self.plan(target, *one, "--budget", "64GiB")
                self.assertEqual(single["total_bytes"], cell["total_bytes"], one)
                self.assertEqual(single["accounts"], cell["accounts"])
                self.assertIn(size_words(cell["total_bytes"]), text)

    def test_more_never_takes_less(self):
        for target in ("nano", put_config(self.folder / "qwen3", QWEN3)):
            cells = self.plan(target, "--context", "1,100,1000,4k,40000", "--weights", "q2,q4,q8,bf16,fp32", "--budget",
                              "64GiB")["cells"]
            total = {(c["weights"], c["context"]): c["total_bytes"] for c in cells}
            for weights in ("q2", "q4", "q8", "bf16", "fp32"):
                row = [total[weights, c] for c in (1, 100, 1000, 4096, 40000)]
                self.assertEqual(row, sorted(row))
            for context in (1, 40000):
                column = [total[w, context] for w in ("q2", "q4", "q8", "bf16", "fp32")]
                self.assertEqual(column, sorted(column))

    def test_some_cell_that_fits_is_enough(self):
        plan = self.plan("3b", "--weights", "fp16,q4", "--budget", "4GiB")
        self.assertEqual([c["fits"] for c in plan["cells"]], [False, True])
        none = self.plan("3b", "--weights", "fp16,q8", "--budget", "1GiB", codes=(DOES_NOT_FIT,))
        self.assertFalse(any(c["fits"] for c in none["cells"]))


class Machines(PlanCase):
    def test_a_profile(self):
        plan = self.plan("llama-3.1-8b", "--weights", "q4", "--context", "4k", "--machine", "mac-mini-16gb")
        machine = plan["machine"]
        self.assertFalse(machine["this_machine"])
        self.assertEqual(machine["ram_bytes"], 16 * GIB)
        self.assertEqual(plan["budget_bytes"], 16 * GIB - sum(r["bytes"] for r in machine["reserves"]))
        self.assertEqual(plan["budget_source"], "mac-mini-16gb")
        self.assertTrue(all(r["source"] for r in machine["reserves"]))

    def test_every_machine_that_is_listed(self):
        listed = self.succeed("plan", "--list").out
        names = re.findall(r"^  (\S+) .* for a model$", listed, re.MULTILINE)
        self.assertGreater(len(names), 5)
        for name in names:
            self.plan("nano", "--machine", name)

    def test_ram_and_reserve(self):
        plan = self.plan("nano", "--ram", "16GiB", "--reserve", "3.5GiB")
        self.assertEqual(plan["budget_bytes"], 12.5 * GIB)
        self.assertEqual(self.plan("nano", "--ram", "16GiB")["budget_bytes"], 16 * GIB)

    def test_a_budget_overrides(self):
        for machine in ([], ["--machine", "mac-mini-16gb"], ["--ram", "16GiB", "--reserve", "1GiB"]):
            for option in ("--budget", "--memory-budget"):
                plan = self.plan("nano", *machine, option, "8GB")
                self.assertEqual(plan["budget_bytes"], 8_000_000_000)

    def test_a_byte_decides(self):
        total = self.plan("nano")["total_bytes"]
        self.plan("nano", "--budget", total)
        self.plan("nano", "--budget", total - 1, codes=(DOES_NOT_FIT,))

    def test_what_the_project_promises_of_3b(self):
        small = self.plan("3b", "--weights", "q4", "--context", "64k", "--threads", 2)
        self.assertLessEqual(small["total_bytes"], 2150 * MIB)
        full = ["--context", "64k", "--attention-window", "all", "--budget", "8GB"]
        q4 = self.plan("3b", "--weights", "q4", *full)
        self.assertGreater(q4["total_bytes"], 6.6 * GIB)
        fp16 = self.plan("3b", "--weights", "fp16", *full, codes=(DOES_NOT_FIT,))
        self.assertGreater(fp16["total_bytes"], 11 * GIB)
        self.assertTrue(fp16["would_fit"])
        self.assertIn("does not fit", self.call("plan", "3b", "--weights", "fp16", *full).out)


class PlannedAgainstRun(PlanCase):
    def test_the_same_number_to_the_byte(self):
        models = {"nano": self.new_model("nano", "--preset", "nano", *RUNNABLE), "tiny": self.new_model("tiny", *TINY)}
        for name, folder in models.items():
            for options in ([], ["--weights", "q4"], ["--weights", "f32"], ["--exact"], ["--threads", "1"],
                            ["--context", "100", "--prefill-chunk", "7"], ["--attention-window", "16"],
                            ["--attention-window", "all"], ["--attention-window", "1M", "--weights", "q8"],
                            ["--attention-window", "1k", "--context", "600", "--exact"], ["--kv", "tq3"],
                            ["--exact", "--kv", "fp16"], ["--kv", "q8", "--attention-window", "all"]):
                options = [*options, "-n", "3"]
                plan = self.plan(folder, *options)
                memory = self.answer("-m", folder, *options, "Once upon a time")["memory"]
                self.assertEqual(plan["total_bytes"], memory["planned_bytes"], (name, options))
                self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"], (name, options))
                self.assertEqual([(a["account"], a["bytes"]) for a in plan["accounts"]],
                                 [(a["account"], a["planned_bytes"]) for a in memory["accounts"]])

    def test_a_preset_is_what_init_writes(self):
        for weights in ("bf16", "q8", "q4"):
            folder = self.new_model(f"written-{weights}", "--preset", "nano", "--weights", weights)
            promised = self.plan("nano", "--weights", weights)
            self.assertEqual(promised["accounts"], self.plan(folder)["accounts"], weights)

    def test_a_window_beyond_the_context_is_all(self):
        whole = self.plan("nano", "--attention-window", "all")["total_bytes"]
        for window in ("64k", "1M", 2 ** 40):
            self.assertEqual(self.plan("nano", "--attention-window", window)["total_bytes"], whole)


class PlannedAgainstResident(PlanCase):
    """Memory is brought in when it is granted, so the system's peak is the plan's, up and down."""
    PRESETS = ("nano", "small")
    WEIGHTS = ("bf16", "q8", "q4")
    CONTEXTS = (1024, 4096, 65536)
    WINDOWS = ([], ["--attention-window", "all"])
    KV = ("q8", "tq4", "tq3.5", "tq3", "lm3")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        case = cls()
        cls.models = {(p, w): case.new_model(f"{p}-{w}", "--preset", p, "--weights", w, *RUNNABLE)
                      for p in cls.PRESETS for w in cls.WEIGHTS}

    def runTest(self):
        """So that setUpClass can make models with the methods of an instance."""

    def assert_cell(self, folder, *options):
        plan = self.plan(folder, *options, "-n", "1")
        memory = self.answer("-m", folder, *options, "-n", "1", "hi")["memory"]
        planned, resident = memory["planned_bytes"], memory["resident_peak_bytes"]
        self.assertEqual(plan["total_bytes"], planned)
        if not SANITIZED:
            self.assertLessEqual(abs(resident - planned), max(8 * MIB, planned // 50),
                                 f"{options}: planned {planned / MIB:.1f} MiB, resident {resident / MIB:.1f} MiB")

    def test_stored_in_the_precision(self):
        for (preset, weights), folder in self.models.items():
            for context in self.CONTEXTS:
                for window in self.WINDOWS:
                    with self.subTest(preset=preset, weights=weights, context=context, window=window):
                        self.assert_cell(folder, "--context", context, *window)

    def test_every_cache(self):
        """Long where it is large, and in a window of less than a tail and a tile."""
        for kv in self.KV:
            with self.subTest(kv=kv):
                self.assert_cell(self.models["nano", "q4"], "--kv", kv, "--context", 65536, *self.WINDOWS[1])
                self.assert_cell(self.models["small", "q4"], "--kv", kv, "--context", 4096)

    def test_converted_when_loaded(self):
        for preset in self.PRESETS:
            for weights in ("q8", "q4"):
                with self.subTest(preset=preset, weights=weights):
                    self.assert_cell(self.models[preset, "bf16"], "--weights", weights, "--context", 4096)


class Solve(PlanCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bin = cls.folder / "bin"
        cls.bin.mkdir()
        (cls.bin / "bit-axon").symlink_to(PROGRAM)
        cls.models = cls()
        cls.model = cls.models.new_model("a model's folder", "--preset", "nano", *RUNNABLE)

    def runTest(self):
        """So that setUpClass can make models with the methods of an instance."""

    def typed(self, command):
        """What a shell makes of a printed command, with `--json` where it says what it took."""
        if "bit-axon run " in command:
            command += " --json hi"
        elif command.startswith("bit-axon plan "):
            command += " --json"
        env = environment(PATH=f"{self.bin}:{os.environ['PATH']}")
        done = subprocess.run(["sh", "-c", command], capture_output=True, env=env, cwd=self.folder, timeout=120)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stderr.decode()}")
        return done.stdout.decode()

    def promised(self, option, budget):
        """The command of an option takes what the option says."""
        out = self.typed(option["command"])
        answer = json.loads(out[out.index("{"):])  # after what init says
        plan = answer.get("training", answer)
        taken = answer["memory"]["planned_bytes"] if "memory" in answer else plan["total_bytes"]
        self.assertEqual(taken, option["total_bytes"], option["command"])
        self.assertLessEqual(taken, budget)

    def solutions(self, target, what, *args, codes=(0, DOES_NOT_FIT)):
        plan = self.plan(target, "--solve", what, *args, codes=codes)
        self.assertEqual([s["solve"] for s in plan["solutions"]], what.split(","))
        for s in plan["solutions"]:
            totals = [s["best"]["total_bytes"]] if s["best"] else []
            totals += [o["total_bytes"] for o in s["cheaper"]]
            self.assertLessEqual(len(s["cheaper"]), 2)
            self.assertEqual(totals, sorted(set(totals), reverse=True))
            for total in totals + [o["total_bytes"] for o in s["also"]]:
                self.assertLessEqual(total, plan["budget_bytes"])
            self.assertEqual(s["best"] is None, s["smallest"] is not None)
            if s["smallest"]:
                self.assertGreater(s["smallest"]["total_bytes"], plan["budget_bytes"])
        return plan["solutions"]

    def test_the_longest_context_to_the_token(self):
        for target, options, budget in ((self.model, ["--attention-window", "all"], "200MiB"),
                                        ("nano", ["--attention-window", "all", "--weights", "q4"], "100MiB"),
                                        ("llama-3.1-8b", ["--weights", "q4"], "8GiB"),
                                        ("20b", [*Fallback.OPTIONS, "--weights", "fp4"], "16GiB")):
            solution, = self.solutions(target, "context", *options, "--budget", budget)
            self.assertFalse(solution["best_of_all"])
            longest = solution["best"]["choice"]["context"]
            at = self.plan(target, *options, "--budget", budget, "--context", longest)
            self.assertEqual(at["total_bytes"], solution["best"]["total_bytes"])
            self.plan(target, *options, "--budget", budget, "--context", longest + 1, codes=(DOES_NOT_FIT,))

    def test_the_maximum_is_the_best_of_all(self):
        solution, = self.solutions("nano", "context", "--budget", "1GiB")
        self.assertTrue(solution["best_of_all"])
        self.assertEqual(solution["best"]["choice"]["context"], 65536)

    def test_printed_commands_do_what_they_promise(self):
        for options in (["-n", 1], ["-n", 1, "--attention-window", "all", "--threads", 1],
                        ["-n", 1, "--prefill-chunk", 16, "--exact"]):
            for solution in self.solutions(self.model, "context,weights,kv", *options, "--budget", "90MiB"):
                for option in [solution["best"], *solution["cheaper"]]:
                    if option is not None:
                        self.promised(option, 90 * MIB)

    def test_commands_for_presets_write_the_model_first(self):
        solution, = self.solutions("nano", "weights", "--budget", "60MiB", "-n", 1)
        self.assertIn("bit-axon init", solution["best"]["command"])
        self.promised(solution["best"], 60 * MIB)

    def test_commands_for_models_that_run_elsewhere_are_plans(self):
        folder = put_config(self.folder / "a llama; echo $HOME", LLAMA)
        for solution in self.solutions(folder, "context,weights,kv", "--budget", "1.2GiB", "--prefill-chunk", 64):
            for option in [solution["best"], *solution["cheaper"]]:
                if option is not None:
                    self.promised(option, 1.2 * GIB)

    def test_training_of_ours_is_solved_to_the_token(self):
        lines = self.folder / "some lines.jsonl"
        lines.write_text('{"text": "a b c"}\n' * 1000)
        options = ["--rank", 8, "--adapter", "dora", "--data", lines, "--threads", 2]
        solution, = self.solutions(self.model, "train", "--budget", "300MiB", *options)
        self.assertFalse(solution["best_of_all"])
        for option in [solution["best"], *solution["cheaper"]]:
            self.promised(option, 300 * MIB)
        more = ["--train", "--budget", "300MiB", *options, "--max-seq-len"]
        longest = solution["best"]["choice"]["max_seq_len"]
        self.plan(self.model, *more, longest)
        self.plan(self.model, *more, longest + 1, codes=(DOES_NOT_FIT,))

    def test_training_of_others(self):
        options = ["--budget", "4GiB", "--rank", 8, "--optimizer", "sgd"]
        solution, = self.solutions("llama-3.2-1b", "train", *options)
        best = solution["best"]["choice"]
        for option in [solution["best"], *solution["cheaper"], *solution["also"]]:
            self.promised(option, 4 * GIB)
        more = ["--train", *options, "--max-seq-len", best["max_seq_len"], "--batch-size"]
        self.plan("llama-3.2-1b", *more, best["batch_size"])
        self.plan("llama-3.2-1b", *more, best["batch_size"] + 1, codes=(DOES_NOT_FIT,))

    def test_when_nothing_fits(self):
        for solution in self.solutions("nano", "context,weights,kv,train", "--budget", "13MiB"):
            self.assertIsNone(solution["best"])
            self.assertFalse(solution["cheaper"] or solution["also"])
        self.assertIn("nothing fits", self.call("plan", "nano", "--solve", "context", "--budget", "13MiB").out)


class Explain(PlanCase):
    def test_every_account_of_every_kind_of_subject(self):
        gguf = llama_gguf().write(self.folder / "explained.gguf")
        for target in ([], ["3b", "--weights", "q4"], ["gpt-oss-20b"], ["jamba-v0.1"], ["deepseek-v3"], [gguf],
                       ["20b", *Fallback.OPTIONS], ["3b", "--train"]):
            plan = self.plan(*target, "--budget", "4TiB")
            for account in plan.get("training", plan)["accounts"]:
                shown = self.succeed("plan", *target, "--explain", account["account"]).out
                self.assertIn("\n  sum ", shown)
                numbers = [int(n.replace(",", "")) for n in re.findall(r"  ([\d,]+) B +[\d.]+ \w+$", shown, re.M)]
                self.assertEqual(len(shown.splitlines()), 2 + len(account["terms"]))
                self.assertEqual((numbers[-1], sum(numbers[:-1])), (account["bytes"], account["bytes"]), shown)

    def test_a_prefix_explains_several(self):
        shown = self.succeed("plan", "3b", "--explain", "weights").out
        self.assertIn("weights: embedding", shown)
        self.assertIn("sum of all", shown)

    def test_a_matrix_has_no_single_explanation(self):
        self.fail_with(ERROR, ["--explain", "2 choices"], "plan", "3b", "--context", "1k,2k", "--explain", "kv cache")

    def test_an_unknown_account_lists_them(self):
        self.fail_with(ERROR, ["coffee", "kv cache", "weights: embedding", "process"], "plan", "nano", "--explain",
                       "coffee")


class Train(PlanCase):
    def train(self, *args, codes=(0,)):
        plan = self.plan("3b", "--train", "--budget", "64GiB", *args, codes=codes)
        return plan["training"]

    def test_accounts(self):
        training = self.train()
        names = [a["account"] for a in training["accounts"]]
        for name in ("weights: embedding", "adapters", "adapter gradients", "optimizer state", "block inputs",
                     "border states", "activations", "loss", "batch", "workspace", "text", "process"):
            self.assertIn(name, names)
        self.assertFalse(training["estimate"])
        self.assertEqual(training["cannot_run"], "")
        self.assertNotIn("~", self.succeed("plan", "3b", "--train", "--budget", "64GiB").out)

    def test_what_each_option_changes(self):
        base = self.train()
        self.assertEqual((base["weights"], base["rank"], base["optimizer"], base["checkpointing"]),
                         ("q4", 16, "adamw", True))
        gradients = self.account(base, "adapter gradients")
        self.assertEqual(self.account(self.train("--rank", 32), "adapter gradients"), 2 * gradients)
        self.assertGreaterEqual(self.account(base, "optimizer state"), 2 * gradients)
        self.assertEqual(self.train("--batch-size", 3)["total_bytes"], base["total_bytes"])
        self.assertEqual(self.account(self.train("--max-seq-len", "4k"), "block inputs"),
                         2 * self.account(base, "block inputs"))
        self.assertEqual(self.account(self.train("--method", "orpo"), "block inputs"),
                         2 * self.account(base, "block inputs"))
        self.assertGreater(self.account(self.train("--adapter", "dora"), "adapters"), self.account(base, "adapters"))
        self.assertLess(self.account(self.train("--targets", "attention,projections"), "adapters"),
                        self.account(base, "adapters"))
        self.assertLess(self.account(self.train("--chunk", 128), "activations"), self.account(base, "activations"))
        self.assertGreater(self.weights(self.train("--weights", "q8")), self.weights(base))
        for options in (["--scale", 4], ["--grad-accum", 8]):
            self.assertEqual(self.train(*options)["total_bytes"], base["total_bytes"])

    def test_data_is_counted(self):
        lines = self.folder / "lines.jsonl"
        totals = []
        for count in (16, 1616):
            lines.write_text('{"text": "a b c"}\n' * count)
            training = self.train("--data", lines)
            self.assertEqual(training["data"]["lines"], count)
            totals.append(self.account(training, "training data"))
        self.assertEqual(totals[1] - totals[0], 1600 * 36)
        both = self.train("--data", lines, "--val-data", lines)
        self.assertEqual(self.account(both, "training data"), 2 * totals[1])
        lines.write_text("")
        self.fail_with(ERROR, ["lines.jsonl", "no line"], "plan", "3b", "--train", "--data", lines)

    def test_what_train_does_not_have(self):
        self.fail_with(ERROR, ["AdamW", "sgd"], "plan", "3b", "--train", "--optimizer", "sgd")
        self.fail_with(ERROR, ["--no-checkpointing"], "plan", "3b", "--train", "--no-checkpointing")
        self.fail_with(ERROR, ["coffee", "q_proj"], "plan", "3b", "--train", "--targets", "coffee")
        self.fail_with(ERROR, ["llama-3.2-1b", "estimate"], "plan", "llama-3.2-1b", "--train", "--adapter", "dora")

    def test_stored_weights_are_kept(self):
        self.assertEqual(self.plan("--train", "--budget", "64GiB")["training"]["weights"], "keep")

    def test_other_families_and_sizes(self):
        def train(*args):
            return self.plan("llama-3.1-8b", "--train", "--budget", "200GiB", *args)["training"]
        base = train()
        self.assertGreater(base["total_bytes"], 4 * GIB)
        self.assertTrue(base["estimate"])
        self.assertIn("its own family alone", base["cannot_run"])
        adapters = self.account(base, "adapters")
        self.assertEqual(self.account(base, "adapter gradients"), adapters)
        self.assertEqual(self.account(base, "optimizer state"), 2 * adapters)
        self.assertEqual(self.account(train("--optimizer", "sgd"), "optimizer state"), 0)
        eight = self.account(train("--optimizer", "adamw8bit"), "optimizer state")
        self.assertTrue(adapters / 2 < eight < adapters * 0.51)
        self.assertEqual(self.account(train("--batch-size", 3), "activations"), 3 * self.account(base, "activations"))
        self.assertGreater(self.account(train("--no-checkpointing"), "activations"), self.account(base, "activations"))
        self.fail_with(ERROR, ["20b", "shapes"], "plan", "20b", "--train")

    def test_what_does_not_fit(self):
        plan = self.plan("3b", "--train", "--budget", "1GiB", codes=(DOES_NOT_FIT,))
        self.assertFalse(plan["training"]["fits"])
        self.assertEqual(plan["would_fit"], [])

    def test_what_would_fit_does(self):
        budget = self.train()["total_bytes"] - 1
        plan = self.plan("3b", "--train", "--budget", budget, codes=(DOES_NOT_FIT,))
        self.assertEqual(plan["would_fit"][0]["options"], "--max-seq-len 1024")
        self.assertGreaterEqual(len(plan["would_fit"]), 4)
        for way in plan["would_fit"]:
            there = self.plan("3b", "--train", "--budget", budget, *way["options"].split())
            self.assertEqual(there["training"]["total_bytes"], way["total_bytes"])


class Page(HTMLParser):
    """Checks that tags close and collects what could load something."""
    VOID = {"meta", "link", "br", "hr", "img", "input", "source", "wbr", "path", "line", "rect", "circle", "col"}

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags, self.text = [], [], set(), ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [(tag, name, value) for name, value in attributes
                       if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


class Html(PlanCase):
    def page(self, *args):
        path = self.folder / "page.html"
        path.unlink(missing_ok=True)
        before = set(self.folder.iterdir())
        ended = self.call("plan", *args, "--html", path)
        self.assertIn(ended.code, (0, DOES_NOT_FIT), str(ended))
        self.assertEqual(set(self.folder.iterdir()) - before, {path})
        return path.read_bytes().decode()

    def test_one_page_with_all_in_it(self):
        for args in (["nano"], ["3b", "--context", "4k,64k", "--weights", "fp16,q4", "--budget", "8GB"],
                     ["llama-3.1-8b", "--solve", "context,weights", "--machine", "mac-mini-16gb"], ["3b", "--train"],
                     ["20b"], ["mamba-2.8b"]):
            text = self.page(*args)
            page = Page()
            page.feed(text)
            page.close()
            self.assertEqual(page.open, [])
            for tag, name, value in page.links:
                self.assertTrue(tag == "a" and name == "href" or value.startswith(("#", "data:")), (tag, name, value))
            self.assertFalse(page.tags & {"script", "link", "iframe", "object", "embed", "img"})
            self.assertNotRegex(text, r"@import|url\(\s*['\"]?(https?:)?//")
            self.assertIn("prefers-color-scheme", text)
            plan = self.plan(*args, codes=(0, DOES_NOT_FIT))
            for part in [*plan["cells"], *([plan["training"]] if "training" in plan else [])]:
                self.assertIn(size_words(part["total_bytes"]), page.text)
            if plan["cells"]:
                self.assertIn("svg", page.tags)

    def test_a_page_is_written_again(self):
        path = self.folder / "mine.html"
        path.write_text("the page of yesterday")
        self.succeed("plan", "nano", "--html", path)
        self.assertTrue(path.read_text().startswith("<!"))

    def test_where_nothing_can_be_written(self):
        absent = self.folder / "absent" / "page.html"
        self.fail_with(ERROR, ["page.html"], "plan", "nano", "--html", absent)
        (self.folder / "a-folder.html").mkdir()
        self.fail_with(ERROR, ["a-folder.html"], "plan", "nano", "--html", self.folder / "a-folder.html")


class Schema(PlanCase):
    """docs/plan-json.md against what is printed: every key of the one is in the other, of the type that it says."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.objects, name = {}, None
        for line in (SOURCE / "docs" / "plan-json.md").read_text().splitlines():
            if line.startswith("## "):
                name = line[3:].strip().strip("`")
            row = re.match(r"\| `(\w+)` \| ([^|]+?) \| ([^|]+?) \|", line)
            if row:
                cls.objects.setdefault(name, {})[row[1]] = (row[2], row[3])

    SCALARS = {"text": str, "count": int, "bytes": int, "number": float, "true or false": bool}

    def check(self, name, value, seen):
        fields = self.objects[name]
        for key, (kind, when) in fields.items():
            if when == "always":
                self.assertIn(key, value, name)
            elif key not in value:
                seen.add((name, key, "absent"))
        for key, inner in value.items():
            self.assertIn(key, fields, f"{name} has a key that docs/plan-json.md does not")
            seen.add((name, key, "present"))
            self.check_value(f"{name}.{key}", fields[key][0], inner, seen)

    def check_value(self, where, kind, value, seen):
        if kind.endswith(" or null") and value is None:
            seen.add((where, "null"))
            return
        kind = kind.removesuffix(" or null")
        if kind.startswith("list of "):
            self.assertIsInstance(value, list, where)
            for element in value:
                self.check_value(where, kind.removeprefix("list of "), element, seen)
        elif kind in self.SCALARS:
            self.assertIs(type(value), self.SCALARS[kind], where)
            if kind in ("bytes", "count"):
                self.assertGreaterEqual(value, 0, where)
        else:
            names = re.findall(r"`(\w+)`", kind)
            self.assertTrue(names, f"{where}: no type {kind}")
            name = next((n for n in names if set(value) <= set(self.objects[n])), names[0])
            self.check(name, value, seen)

    def check_plan(self, plan, seen):
        """The keys of a single run stand at the top as well."""
        if len(plan["cells"]) == 1:
            self.assertEqual({k: plan.get(k) for k in plan["cells"][0]}, plan["cells"][0])
            plan = {k: v for k, v in plan.items() if k == "fits" or k not in plan["cells"][0]}
        self.check("plan", plan, seen)

    def test_both_ways(self):
        seen = set()
        gguf = llama_gguf().write(self.folder / "schema.gguf")
        lines = self.folder / "schema.jsonl"
        lines.write_text('{"text": "a b c"}\n')
        for args in ([], ["3b", "--weights", "fp16", "--budget", "3GiB", "--attention-window", "all"],
                     ["nano", "--context", "1k,2k", "--solve", "context,weights,kv", "--budget", "60MiB"],
                     ["nano", "--solve", "context,kv", "--budget", "13MiB", "--attention-window", "all"],
                     ["3b", "--train", "--solve", "train", "--machine", "mac-mini-16gb"], [gguf], ["gpt-oss-20b"],
                     ["20b", *Fallback.OPTIONS, "--ram", "16GiB", "--reserve", "2GiB"], ["20b", "--ram", "16GiB"],
                     ["nano", "--solve", "train", "--budget", "400MiB"],
                     ["llama-3.2-1b", "--solve", "train", "--budget", "4GiB"],
                     ["nano", "--solve", "train", "--budget", "13MiB", "--data", lines, "--val-data", lines]):
            self.check_plan(self.plan(*args, codes=(0, DOES_NOT_FIT)), seen)
        source = (SOURCE / "src" / "cli" / "plan_json.cc").read_text()
        for name, fields in self.objects.items():
            for key, (_, when) in fields.items():
                if when.startswith("where the system"):  # not on every machine
                    self.assertIn(f'"{key}"', source)
                    continue
                self.assertIn((name, key, "present"), seen, "documented, but never printed")
                if when != "always":
                    self.assertIn((name, key, "absent"), seen, f"documented as \"{when}\", but always printed")

    def test_the_example_is_real(self):
        text = (SOURCE / "docs" / "plan-json.md").read_text()
        command, shown = re.search(r"```sh\nbit-axon plan (.*?)\n```\s+```json\n(.*?)\n```", text, re.DOTALL).groups()
        self.assertEqual(json.loads(shown), self.plan(*command.replace("--json", "").split()))


class Speed(PlanCase):
    @unittest.skipIf(SANITIZED, "a sanitizer's slowness is none of the program's")
    def test_headers_of_60_shards(self):
        folder = self.folder / "sixty"
        sharded_llama(folder, dict(LLAMA, num_hidden_layers=33), 60)
        self.assertEqual(len(list(folder.glob("*.safetensors"))), 60)
        times = []
        for _ in range(5):
            start = time.monotonic()
            self.plan(folder, "--budget", "64GiB")
            times.append(time.monotonic() - start)
        median = statistics.median(times)
        print(f"median of 5 plans of 300 tensors in 60 shards: {median * 1000:.1f} ms", flush=True)
        self.assertLess(median, 1)


def size_words(count):
    """As the program prints it."""
    for unit, scale in (("GiB", 2 ** 30), ("MiB", 2 ** 20), ("KiB", 2 ** 10)):
        if count >= scale:
            return f"{count / scale:.{2 if unit == 'GiB' else 1}f} {unit}"
    return f"{count} B"


if __name__ == "__main__":
    main()
