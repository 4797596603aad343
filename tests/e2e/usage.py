"""What the program says about itself, and what it says when it is called wrongly."""
import subprocess

from support import Case, ERROR, PROGRAM, USAGE, environment, main

COMMANDS = ("run", "plan", "quantize", "merge", "init", "inspect", "evaluate", "benchmark")


class Help(Case):
    def test_no_arguments_print_the_help(self):
        shown = self.succeed()
        self.assertEqual(shown.err, "")
        self.assertEqual(shown.out, self.succeed("--help").out)
        for command in COMMANDS:
            self.assertIn(f"  {command} ", shown.out)
        for word in ("Exit status", "BIT_AXON_CPU", "BIT_AXON_MODEL"):
            self.assertIn(word, shown.out)

    def test_every_command_explains_itself(self):
        model = "--weights --kv --memory-budget --prefill-chunk --threads --exact --adapter --adapter-scale --json "
        options = {"run": model + "--model --max-tokens --temperature --top-k --top-p --min-p --repetition-penalty "
                          "--seed --stop --system --state --raw --no-stream --context --chat",
                   "plan": model + "--context",
                   "quantize": "--output --bits --group-size --no-fold-rotation",
                   "merge": "--model --adapter --adapter-scale --output --weights --no-fold-rotation --threads --json",
                   "init": "--preset --weights --set --seed --output --tokenizer",
                   "inspect": "--json --tensors",
                   "evaluate": model + "--text --window --windows --kv-compare",
                   "benchmark": model + "--prefill --decode --depth --repetitions --compare --svg"}
        for command in COMMANDS:
            shown = self.succeed(command, "--help")
            self.assertEqual(shown.err, "")
            self.assertIn(f"bit-axon {command}", shown.out)
            for option in options[command].split():
                self.assertIn(option, shown.out)
            self.assertEqual(shown.out, self.succeed(command, "-h").out)

    def test_fits_a_terminal(self):
        for command in ("", *COMMANDS):
            for line in self.succeed(*command.split(), "--help").out.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_examples(self):
        for command in COMMANDS:
            self.assertRegex(self.succeed(command, "--help").out, rf"Examples?:\n(.*\n)*?.*bit-axon {command}")

    def test_defaults_are_the_originals(self):
        shown = self.succeed("run", "--help").out
        for default in ("--max-tokens UINT=512", "--temperature FLOAT=0.6", "--top-k UINT=50", "=0.95",
                        "--prefill-chunk UINT=256"):
            self.assertIn(default, shown)

    def test_version(self):
        for option in ("--version", "-V"):
            self.assertRegex(self.succeed(option).out, r"^bit-axon \d+\.\d+\.\d+\n$")


class Wrong(Case):
    def test_unknown_commands_and_options(self):
        self.fail_with(USAGE, ["error:", "dance", "--help"], "dance")
        self.fail_with(USAGE, ["error:", "--dance", "--help"], "--dance")
        for command in COMMANDS:
            self.fail_with(USAGE, ["error:", "--dance", "--help"], command, "--dance")

    def test_missing_and_surplus_arguments(self):
        for args, word in ((["run", "one", "two"], "two"), (["run", "--model"], "--model"), (["plan", "a", "b"], "b"),
                           (["quantize"], "required"), (["init"], "--output"), (["evaluate"], "--text"),
                           (["quantize", "a", "-o", "b", "--bits"], "--bits")):
            self.fail_with(USAGE, ["error:", word], *args)

    def test_values_of_the_wrong_kind(self):
        for args in (["run", "--max-tokens", "many", "hi"], ["run", "--seed", "1.5", "hi"],
                     ["run", "--temperature", "hot", "hi"], ["run", "--threads", "two", "hi"],
                     ["run", "--top-k", "", "hi"], ["run", "--max-tokens", "99999999999999999999999", "hi"],
                     ["quantize", "a", "-o", "b", "--bits", "four"], ["evaluate", "--text", "x", "--window", "w"]):
            self.fail_with(USAGE, ["error:", next(a for a in args if a.startswith("--") and a != "--text")], *args)

    def test_options_that_contradict(self):
        for other in ("--json", "--raw", "--no-stream"):
            self.fail_with(USAGE, ["--chat", other], "run", "--chat", other)

    def test_a_cpu_level_that_is_not_there(self):
        for level in ("fortran", "AVX-512", " "):
            self.fail_with(USAGE, ["CPU", level, "scalar"], "run", "hi", env={"BIT_AXON_CPU": level})

    def test_a_default_model_that_is_not_there(self):
        self.fail_with(ERROR, ["no-such-model"], "run", "hi", env={"BIT_AXON_MODEL": "no-such-model"})

    def test_stdin_may_be_closed(self):
        done = subprocess.run(f'"{PROGRAM}" run <&-', shell=True, capture_output=True, env=environment())
        self.assertEqual(done.returncode, ERROR, done)
        self.assertIn(b"error: ", done.stderr)


if __name__ == "__main__":
    main()
