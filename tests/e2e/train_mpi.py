"""bit-axon train as several processes: the same training as one process with batches as large as all of theirs."""
import json
import math
import os
import random
import signal
import struct
import subprocess
import time

from support import Case, ERROR, PROGRAM, TINY, environment, main, read_safetensors

COUNT, STEPS = 2, 6


def has_open_mpi():
    try:
        version = subprocess.run(["mpirun", "--version"], capture_output=True).stdout
    except OSError:
        return False
    return b"Open MPI" in version and b"libmpi.so" in open(PROGRAM, "rb").read()


def metrics(folder, kind):
    return [line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            if line["kind"] == kind]


def values_of(path):
    header, data = read_safetensors(path)
    return {name: struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]) for name, (begin, end) in
            ((name, tensor["data_offsets"]) for name, tensor in header.items() if name != "__metadata__")}


class Mpi(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        it = cls("call")  # to make files with
        cls.model = it.new_model("tiny", *TINY, "--weights", "f32")
        generator = random.Random(3)
        words = "the fox went over a hill and saw some river that was wide and cold".split()
        cls.data = cls.folder / "chats.jsonl"
        cls.data.write_text("".join(json.dumps({"messages": [
            {"role": "user", "content": " ".join(generator.choices(words, k=5))},
            {"role": "assistant", "content": " ".join(generator.choices(words, k=generator.randint(3, 15)))}]}) + "\n"
            for _ in range(30)))

    def options(self, out, *more):
        return ["train", self.data, "-m", self.model, "-o", out, "--max-seq-len", "64", "--rank", "4", "--threads", "1",
                *(() if "--max-steps" in more else ("--max-steps", STEPS)), "--grad-accum", "2", "--lr", "1e-3",
                "--warmup", "1", "--val-data", self.data, "--eval-batches", "3", "--exact", *more]

    def start(self, command):
        return subprocess.Popen(["mpirun", "-n", str(COUNT), "--oversubscribe", "--bind-to", "none",
                                 "--allow-run-as-root", *map(str, command)], cwd=self.folder, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment(), start_new_session=True)

    def end(self, process):
        """What all have said. A process that waits for one that has failed would be waited for here."""
        try:
            out, err = process.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.fail(f"a process did not end: {process.communicate()}")
        return out.decode(), err.decode()

    def succeed_as_two(self, *options):
        process = self.start([PROGRAM, *options])
        out, err = self.end(process)
        self.assertEqual(process.returncode, 0, err)
        return out, err

    def assert_same_but_for_rounding(self, one, two):
        for kind in ("train", "validation"):
            mine, theirs = metrics(one, kind), metrics(two, kind)
            self.assertEqual([line["step"] for line in mine], [line["step"] for line in theirs])
            for a, b in zip(mine, theirs):
                self.assertLessEqual(abs(a["loss"] - b["loss"]), 1e-6 * abs(a["loss"]), (a, b))
                self.assertEqual((a["tokens"], a["update"]), (b["tokens"], b["update"]))
        a, b = (values_of(folder / "adapter_model.safetensors") for folder in (one, two))
        self.assertEqual(a.keys(), b.keys())
        norm = math.sqrt(sum(x * x for values in a.values() for x in values))
        difference = math.sqrt(sum((x - y) ** 2 for name in a for x, y in zip(a[name], b[name])))
        self.assertLessEqual(difference, 1e-5 * norm)

    def test_two_processes_are_one_with_larger_batches(self):
        for name, more in (("lora", []), ("dora", ["--adapter", "dora", "--pack"])):
            one, two = self.folder / f"one-{name}", self.folder / f"two-{name}"
            batch = 2 if name == "lora" else 1
            self.succeed(*self.options(one, "--batch-size", COUNT * batch, *more))
            out, err = self.succeed_as_two(*self.options(two, "--batch-size", batch, "--json", *more))
            self.assert_same_but_for_rounding(one, two)
            told = json.loads(out)  # by the first alone
            self.assertEqual((told["processes"], told["steps"]), (COUNT, STEPS))
            self.assertEqual(told["memory"]["planned_bytes"], told["memory"]["ledger_peak_bytes"])
            self.assertEqual(err.count("adapter: "), 1)

    def test_killed_and_resumed(self):
        options = ["--batch-size", "2", "--dropout", "0.1", "--save-every", "1", "--max-steps", "24"]
        whole, out = self.folder / "whole", self.folder / "killed"
        self.succeed_as_two(*self.options(whole, *options))
        for victim in (0, 1):
            process = self.start(self.with_rank(victim, "echo $$ > victim; "
                                                "exec \"$0\" \"$@\"", self.options(out, *options, "--resume")))
            self.wait_for(process, out, 1 + 2 * victim)
            os.kill(int((self.folder / "victim").read_text()), signal.SIGKILL)
            self.end(process)
            self.assertNotEqual(process.returncode, 0)
        self.assertFalse((out / "adapter_model.safetensors").exists())
        self.succeed_as_two(*self.options(out, *options, "--resume"))
        last = "checkpoints/step-00000024"
        for file in ("adapter_model.safetensors", f"{last}/state.safetensors", f"{last}/adapter_model.safetensors"):
            self.assertEqual((out / file).read_bytes(), (whole / file).read_bytes(), file)
        self.assertEqual([line["loss"] for line in metrics(out, "train")],
                         [line["loss"] for line in metrics(whole, "train")])
        self.assertEqual([path for path in out.rglob("*") if ".tmp-" in path.name], [])

    def with_rank(self, rank, script, options):
        """The program, but one of the processes begins with a line of shell."""
        return ["sh", "-c", f'if [ "$OMPI_COMM_WORLD_RANK" = {rank} ]; then {script}; fi; exec "$0" "$@"', PROGRAM,
                *options]

    def wait_for(self, process, out, steps):
        end = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < end:
            if (out / "metrics.jsonl").exists() and len(
                    (out / "metrics.jsonl").read_text().split('"kind":"train"')) > steps:
                return
            time.sleep(0.002)
        self.fail(f"it never came to step {steps}: {self.end(process)}")

    def test_a_failed_process_ends_all(self):
        missing = self.folder / "missing.jsonl"
        for rank in range(COUNT):
            out = self.folder / f"failed-{rank}"
            # Before the training: another file for one of them, which is not there.
            process = self.start(self.with_rank(rank, f'shift 2; set -- train {missing} "$@"; exec "$0" "$@"',
                                                self.options(out, "--batch-size", "2")))
            _, err = self.end(process)
            self.assertEqual(process.returncode, ERROR, err)
            self.assertIn(f"{missing}: No such file", err)
        # In the midst of it, in the one that writes.
        out = self.folder / "full"
        process = self.start(self.with_rank(0, 'trap "" XFSZ; ulimit -f 100; exec "$0" "$@"',
                                            self.options(out, "--batch-size", "2", "--save-every", "2")))
        _, err = self.end(process)
        self.assertEqual(process.returncode, ERROR, err)
        self.assertIn("File too large", err)
        self.assertIn(f"{out}/checkpoints/step-00000002", err)
        self.assertEqual([path for path in out.rglob("*") if ".tmp-" in path.name], [])

    def test_another_number_of_processes_is_named(self):
        out = self.folder / "alone"
        self.succeed(*self.options(out, "--batch-size", "2"))
        process = self.start([PROGRAM, *self.options(out, "--batch-size", "2", "--resume")])
        _, err = self.end(process)
        self.assertEqual(process.returncode, ERROR, err)
        self.assertIn("the number of processes was 1, and is 2", err)


if __name__ == "__main__":
    if not has_open_mpi():
        print("skipped: no mpirun of Open MPI, or a program built without it")
        raise SystemExit(77)
    main()
