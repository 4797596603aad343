"""The memory contract: what was planned is what was taken, to the byte, and the machine saw no more."""
import os
import subprocess

from support import Case, DOES_NOT_FIT, ERROR, MIB, MODEL, PROGRAM, SANITIZED, TINY, USAGE, environment, main


class Contract(Case):
    def assert_kept(self, memory):
        self.assertEqual(memory["planned_bytes"], memory["ledger_peak_bytes"])
        if not SANITIZED:
            self.assertLessEqual(memory["resident_peak_bytes"], memory["planned_bytes"] * 1.02 + 8 * MIB)
        for line in memory.get("accounts", []):
            self.assertEqual(line["planned_bytes"], line["peak_bytes"], line["account"])
        if "accounts" in memory:
            self.assertEqual(sum(line["planned_bytes"] for line in memory["accounts"]), memory["planned_bytes"])

    def text_file(self):
        path = self.folder / "text"
        path.write_text("Once upon a time there was a fox who lived by the river. " * 400)
        return path

    def test_run_keeps_its_plan_and_plan_tells_it(self):
        for options in ([], ["--weights", "q8"], ["--weights", "bf16"], ["--weights", "f32"], ["--exact"],
                        ["--prefill-chunk", "16", "--context", "300"], ["--threads", "1"]):
            options = [*options, "-n", "20"]
            plan = self.succeed("plan", "--json", *options).json()
            memory = self.answer(*options, "Tell me a story.")["memory"]
            self.assertEqual(plan["total_bytes"], memory["planned_bytes"], options)
            self.assertEqual(plan["total_bytes"], sum(line["bytes"] for line in plan["accounts"]))
            self.assertEqual([(line["account"], line["bytes"]) for line in plan["accounts"]],
                             [(line["account"], line["planned_bytes"]) for line in memory["accounts"]])
            self.assert_kept(memory)

    def test_a_long_prompt_keeps_the_plan(self):
        words = "the dragon walked over a hill and saw " * 400
        answer = self.answer("-n", "3", stdin=words)
        self.assertGreater(answer["prompt_tokens"], 3000)
        self.assert_kept(answer["memory"])

    def test_evaluate_keeps_its_plan(self):
        for options in ([], ["--weights", "q8", "--exact"]):
            done = self.succeed("evaluate", "--text", self.text_file(), "--window", "128", "--windows", "2", "--json",
                                *options)
            self.assert_kept(done.json()["memory"])

    def test_init_and_quantize_keep_their_plans(self):
        whole = self.folder / "bf16"
        self.assert_kept(self.succeed("init", "--preset", "nano", "-o", whole, "--tokenizer", "none",
                                      "--json").json()["memory"])
        for threads in (1, 2):
            out = self.folder / f"q{threads}"
            done = self.succeed("quantize", whole, "-o", out, "--threads", threads, "--json")
            self.assert_kept(done.json()["memory"])

    def test_the_shipped_model_keeps_to_64_mib(self):
        memory = self.answer("--memory-budget", "64MiB", "-n", "40", "Write a story about a dragon.")["memory"]
        self.assertEqual((memory["budget_bytes"], memory["budget_source"]), (64 * MIB, "--memory-budget"))
        self.assert_kept(memory)
        if not SANITIZED:
            self.assertLess(memory["resident_peak_bytes"], 64 * MIB)

    def test_a_flood_on_standard_input_takes_no_memory(self):
        for args in (["run"], ["run", "--chat"]):
            with open(self.folder / "flood", "wb") as flood:
                flood.truncate(24 * MIB)
            with open(self.folder / "flood", "rb") as stdin:
                done = subprocess.Popen([PROGRAM, *args, "-n", "1", "--memory-budget", "64MiB"], stdin=stdin,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
                message = done.stderr.read().decode()
                done.stderr.close()
                _, status, usage = os.wait4(done.pid, 0)
                done.returncode = os.waitstatus_to_exitcode(status)
            self.assertIn("the prompt", message)
            if not SANITIZED:
                self.assertLess(usage.ru_maxrss * 1024, 64 * MIB, args)
            if "--chat" not in args:
                self.assertEqual(done.returncode, ERROR)


class Refusal(Case):
    def test_too_small_a_budget_names_the_largest_account_and_what_would_fit(self):
        options = ["-n", "4", "--weights", "q8"]
        plan = self.succeed("plan", "--json", *options).json()
        budget = plan["total_bytes"] - 6 * MIB
        refused = self.call("plan", "--json", *options, "--memory-budget", budget)
        self.assertEqual(refused.code, DOES_NOT_FIT)
        tight = refused.json()
        self.assertFalse(tight["fits"])
        self.assertEqual(tight["total_bytes"], plan["total_bytes"])
        self.assertTrue(tight["would_fit"])
        largest = max(plan["accounts"], key=lambda line: line["bytes"])["account"]
        said = self.fail_with(DOES_NOT_FIT, [largest, "--memory-budget", "MiB"], "run", *options, "--memory-budget",
                              budget, "hi")
        for change in tight["would_fit"]:
            self.assertIn(change["options"], said.err)
            self.assertLessEqual(change["total_bytes"], budget)
            words = change["options"].split()
            kept = ["-n", "4"] + ([] if "--weights" in words else ["--weights", "q8"])
            memory = self.answer(*kept, *words, "--memory-budget", budget, "hi")["memory"]
            self.assertEqual(memory["planned_bytes"], change["total_bytes"])

    def test_a_byte_decides(self):
        total = self.succeed("plan", "--json", "-n", "1").json()["total_bytes"]
        self.assertEqual(self.answer("-n", "1", "--memory-budget", total, "hi")["memory"]["planned_bytes"], total)
        self.fail_with(DOES_NOT_FIT, [], "run", "-n", "1", "--memory-budget", total - 1, "hi")

    def test_a_hopeless_budget_says_so(self):
        self.fail_with(DOES_NOT_FIT, ["5.0 MiB", "process"], "run", "--memory-budget", "5MiB", "hi")
        plan = self.call("plan", "--memory-budget", "5MiB")
        self.assertEqual(plan.code, DOES_NOT_FIT)
        self.assertIn("does not fit", plan.out)

    def test_other_commands_refuse_too_and_write_nothing(self):
        tiny = self.new_model("tiny", *TINY)
        self.fail_with(DOES_NOT_FIT, ["1.0 MiB"], "quantize", tiny, "-o", self.folder / "out", "--memory-budget",
                       "1MiB")
        self.fail_with(DOES_NOT_FIT, ["1.0 MiB"], "init", "-o", self.folder / "out", "--memory-budget", "1MiB")
        self.assertFalse((self.folder / "out").exists())
        text = self.folder / "text"
        text.write_text("word " * 300)
        self.fail_with(DOES_NOT_FIT, ["1.0 MiB"], "evaluate", tiny, "--text", text, "--window", "16",
                       "--memory-budget", "1MiB")

    def test_sizes_as_typed(self):
        for text, count in (("64MiB", 64 * MIB), ("0.5 GiB", 512 * MIB), ("90MB", 90_000_000), ("70000000", 70_000_000),
                            ("65536k", 64 * MIB), ("64m", 64 * MIB), ("1g", 1024 * MIB)):
            self.assertEqual(self.succeed("plan", "--json", "--memory-budget", text).json()["budget_bytes"], count)
        for text in ("12XB", "MiB", "-5MiB", "nan", "1e400", "0x10", "64 MiB x", "99999999999TiB", " "):
            for command in (["run", "hi"], ["plan"], ["quantize", MODEL, "-o", self.folder / "out"],
                            ["init", "-o", self.folder / "out"]):
                ended = self.call(*command, f"--memory-budget={text}")
                self.assertIn(ended.code, (ERROR, USAGE), f"{text}: {ended}")
                self.assertIn(text.strip(), ended.err)
                self.assertEqual(ended.out, "")


if __name__ == "__main__":
    main()
