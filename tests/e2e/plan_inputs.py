"""What `plan` is pointed at: files of many makers, made here with holes for their data, and how they can lie."""
import json
import os
import struct
import subprocess
import time

from support import Case, ERROR, MIB, PROGRAM, SANITIZED, USAGE, environment, main

GIB = 1 << 30

# As published, the fields that shape the model; with the number of parameters that follows from them.
LLAMA = {"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
         "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
QWEN3 = {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
         "max_position_embeddings": 40960, "tie_word_embeddings": True, "attention_bias": False,
         "use_sliding_window": False, "torch_dtype": "bfloat16"}
MIXTRAL = {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2,
           "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": None,
           "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
GEMMA3 = {"model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
          "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
          "max_position_embeddings": 32768, "sliding_window": 512, "torch_dtype": "bfloat16",
          "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3}
MAMBA = {"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 50280, "state_size": 16,
         "conv_kernel": 4, "intermediate_size": 1536, "expand": 2, "time_step_rank": 48, "use_conv_bias": True,
         "use_bias": False, "tie_word_embeddings": True, "torch_dtype": "float32"}
FAMILIES = ((LLAMA, 1_100_048_384), (QWEN3, 596_049_920), (MIXTRAL, 46_702_792_704), (GEMMA3, 268_098_176),
            (MAMBA, 129_135_360))

TYPE_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "U32": 4, "I8": 1}


def put_config(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def sparse_safetensors(path, tensors):
    """A header for {name: (type, shape)}, and a hole where the data would be."""
    header, at = {}, 0
    for name, (kind, shape) in tensors.items():
        size = TYPE_BYTES[kind]
        for n in shape:
            size *= n
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + at)
    return path


def llama_tensors(config):
    """The tensors of a llama, by the names and shapes of its own code."""
    width, wide, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = width // config["num_attention_heads"] * config["num_key_value_heads"]
    out = {"model.embed_tokens.weight": [vocab, width], "lm_head.weight": [vocab, width], "model.norm.weight": [width]}
    for i in range(config["num_hidden_layers"]):
        for name, shape in (("input_layernorm", [width]), ("post_attention_layernorm", [width]),
                            ("self_attn.q_proj", [width, width]), ("self_attn.k_proj", [keys, width]),
                            ("self_attn.v_proj", [keys, width]), ("self_attn.o_proj", [width, width]),
                            ("mlp.gate_proj", [wide, width]), ("mlp.up_proj", [wide, width]),
                            ("mlp.down_proj", [width, wide])):
            out[f"model.layers.{i}.{name}.weight"] = shape
    return {name: ("BF16", shape) for name, shape in out.items()}


def sharded_llama(folder, config, shards):
    """A Hugging Face folder: config, index and so many files. Returns the bytes of all tensors."""
    put_config(folder, config)
    tensors = llama_tensors(config)
    weight_map = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        sparse_safetensors(folder / file, {n: t for n, t in tensors.items() if weight_map[n] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(2 * shape[0] * (shape[1] if len(shape) > 1 else 1) for _, shape in tensors.values())


U32, TEXT, ARRAY = 4, 8, 9
GGML = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}


def gguf_text(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


class GgufFile:
    """A GGUF file, field by field; the data is a hole."""

    def __init__(self):
        self.entries, self.tensors, self.data = [], [], 0

    def value(self, key, kind, packed):
        self.entries.append(gguf_text(key) + struct.pack("<I", kind) + packed)
        return self

    def number(self, key, value):
        return self.value(key, U32, struct.pack("<I", value))

    def text(self, key, value):
        return self.value(key, TEXT, gguf_text(value))

    def tensor(self, name, dims, kind="Q4_0"):
        number, block, size = GGML[kind]
        self.tensors.append(gguf_text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
                            + struct.pack("<IQ", number, self.data))
        elements = 1
        for d in dims:
            elements *= d
        self.data += elements // block * size
        self.data += -self.data % 32
        return self

    def header(self, tensor_count=None, entry_count=None):
        counts = struct.pack("<IQQ", 3, len(self.tensors) if tensor_count is None else tensor_count,
                             len(self.entries) if entry_count is None else entry_count)
        out = b"GGUF" + counts + b"".join(self.entries) + b"".join(self.tensors)
        return out + bytes(-len(out) % 32)

    def write(self, path):
        path.write_bytes(self.header())
        os.truncate(path, len(self.header()) + self.data)
        return path


def llama_gguf(blocks=4, first=0, last=None, shard=None):
    """A small llama: width 256, 8 heads that share 2. `shard` (number, count) adds the keys of a part."""
    file = GgufFile().text("general.architecture", "llama")
    if shard is not None:
        file.value("split.no", 2, struct.pack("<H", shard[0]))
        file.value("split.count", 2, struct.pack("<H", shard[1]))
    if shard is None or shard[0] == 0:
        for key, value in (("block_count", blocks), ("context_length", 8192), ("embedding_length", 256),
                           ("feed_forward_length", 512), ("attention.head_count", 8), ("attention.head_count_kv", 2),
                           ("vocab_size", 1024)):
            file.number(f"llama.{key}", value)
        file.tensor("token_embd.weight", [256, 1024]).tensor("output_norm.weight", [256], "F32")
    for i in range(first, blocks if last is None else last):
        file.tensor(f"blk.{i}.attn_norm.weight", [256], "F32").tensor(f"blk.{i}.ffn_norm.weight", [256], "F32")
        for name, dims in (("attn_q", [256, 256]), ("attn_k", [256, 64]), ("attn_v", [256, 64]),
                           ("attn_output", [256, 256]), ("ffn_gate", [256, 512]), ("ffn_up", [256, 512]),
                           ("ffn_down", [512, 256])):
            file.tensor(f"blk.{i}.{name}.weight", dims)
    return file


LLAMA_GGUF_PARAMETERS = 1024 * 256 + 256 + 4 * (2 * 256 + 2 * 256 * 256 + 2 * 256 * 64 + 3 * 256 * 512)


class Inputs(Case):
    """A fresh path for each call of `fresh`."""

    def fresh(self, suffix=""):
        return self.folder / f"{len(list(self.folder.iterdir()))}{suffix}"

    def refused(self, target, *words, options=()):
        return self.fail_with(ERROR, ["error: ", *words], "plan", target, *options)


class BadConfigs(Inputs):
    def test_numbers_that_cannot_be(self):
        missing = object()
        for config, field in ((LLAMA, "num_hidden_layers"), (LLAMA, "hidden_size"), (LLAMA, "num_attention_heads"),
                              (LLAMA, "vocab_size"), (LLAMA, "intermediate_size"), (QWEN3, "head_dim"),
                              (MIXTRAL, "num_local_experts"), (MAMBA, "state_size"), (GEMMA3, "sliding_window")):
            for value in (missing, -1, 0, 2.5, 2 ** 62, 10 ** 30, 1e300, "many", [], {}, True):
                optional = field in ("head_dim", "sliding_window", "num_local_experts", "state_size",
                                     "intermediate_size")
                if optional and value in (missing, 0):
                    continue
                changed = {k: v for k, v in config.items() if k != field}
                if value is not missing:
                    changed[field] = value
                with self.subTest(family=config["model_type"], field=field, value=str(value)):
                    self.refused(put_config(self.fresh(), changed), "config.json", field)

    def test_products_that_pass_64_bits(self):
        huge = dict(LLAMA, hidden_size=2 ** 21, intermediate_size=2 ** 21, num_hidden_layers=4096, vocab_size=2 ** 21,
                    num_attention_heads=2 ** 16, num_key_value_heads=2 ** 16)
        for weights in ("keep", "fp32", "q4"):
            ended = self.call("plan", put_config(self.fresh(), huge), "--weights", weights, "--context", 2 ** 40,
                              "--kv", "fp32")
            self.assertEqual((ended.code, ended.out), (ERROR, ""), str(ended))
            self.assertIn("64 bits", ended.err)

    def test_numbers_that_are_none(self):
        for text in ("NaN", "Infinity", "-Infinity", "1e400", "0x10", "01", "+1", "1_000", "nan"):
            folder = put_config(self.fresh(), LLAMA)
            config = folder / "config.json"
            config.write_text(config.read_text().replace('"hidden_size": 2048', f'"hidden_size": {text}'))
            self.refused(folder, "config.json")

    def test_text_that_is_no_config(self):
        for text in (b"", b" ", b"{", b"[]", b"null", b'"text"', b"{}", b"\0", b"\xff\xfe{\0}\0", b"[" * 60_000,
                     b'{"a":' * 60_000, b'{"model_type": "llama"' + b" " * 10, b'{"model_type": "llama"}}',
                     b'{"model_type": "\xff"}', b'{"model_type": 3}', b'{"model_type": ["llama"]}',
                     b'{"model_type": "llama", "model_type": "llama"}'):
            folder = put_config(self.fresh(), {})
            (folder / "config.json").write_bytes(text)
            for target in (folder, folder / "config.json"):
                self.refused(target, "config.json")

    def test_deep_nesting_beside_good_fields(self):
        folder = put_config(self.fresh(), LLAMA)
        deep = json.dumps(LLAMA)[:-1] + ', "surprise": ' + "[" * 60_000 + "]" * 60_000 + "}"
        (folder / "config.json").write_text(deep)
        self.refused(folder, "config.json")

    def test_a_config_of_100_megabytes(self):
        folder = put_config(self.fresh(), {})
        (folder / "config.json").write_text('{"model_type": "llama"}')
        os.truncate(folder / "config.json", 100_000_000)
        self.refused(folder, "config.json", "4194304")

    def test_unknown_families(self):
        folder = put_config(self.fresh(), dict(LLAMA, model_type="hyena_next"))
        for target in (folder, folder / "config.json"):
            self.refused(target, "hyena_next", "unknown", "llama", "qwen3", "mamba", "--fallback")
        self.refused(folder, "hyena_next", "--layers", "--hidden-size", options=("--fallback",))

    def test_what_is_no_model(self):
        (self.folder / "nothing-in-it").mkdir()
        self.refused(self.folder / "nothing-in-it", "nothing-in-it", "config.json", "gguf")
        for name in ("folder.gguf", "folder.safetensors", "folder.json"):
            (self.folder / name).mkdir()
            self.refused(self.folder / name, name)
        for name in ("empty.gguf", "empty.safetensors", "empty.json", "empty.txt"):
            (self.folder / name).write_bytes(b"")
            self.refused(self.folder / name, name)
        (self.folder / "config-is-a-folder" / "config.json").mkdir(parents=True)
        self.refused(self.folder / "config-is-a-folder", "config.json")
        self.refused("/dev/null", "/dev/null")
        self.refused("20q", "20q", "preset", "known model", "size")
        self.refused("lama-3.1-8b", "lama-3.1-8b", "llama-3.1-8b")
        for text in ("b", "0b", "-1b", "1e3b", "nanb", "infb", "0x5b", "1,5b", "99999999999999b", "20bb", " 20b"):
            self.refused(f"./{text}" if text.startswith("-") else text, text)

    def test_a_fifo_does_not_hang(self):
        os.mkfifo(self.folder / "pipe.gguf")
        self.fail_with(ERROR, ["pipe.gguf"], "plan", self.folder / "pipe.gguf", timeout=10)
        put_config(self.folder / "piped", {})
        (self.folder / "piped" / "config.json").unlink()
        os.mkfifo(self.folder / "piped" / "config.json")
        self.fail_with(ERROR, ["config.json"], "plan", self.folder / "piped", timeout=10)


class BadSafetensors(Inputs):
    def folder_with(self, index=None, **files):
        folder = put_config(self.fresh(), LLAMA)
        for name, content in files.items():
            (folder / f"{name}.safetensors").write_bytes(content)
        if index is not None:
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    def test_a_missing_shard_is_named(self):
        folder = self.fresh()
        sharded_llama(folder, LLAMA, 5)
        self.succeed("plan", folder, "--budget", "4GiB")
        (folder / "model-00004-of-00005.safetensors").unlink()
        self.refused(folder, "model-00004-of-00005.safetensors")

    def test_an_index_that_leads_elsewhere(self):
        for name in ("model.safetensors.index.json", "../model.safetensors", "/etc/passwd", "a/b.safetensors", "",
                     "absent.safetensors", "\0.safetensors", 5, None, ["x.safetensors"]):
            self.refused(self.folder_with({"weight_map": {"x": name}}), "safetensors")
        for index in ({}, [], {"weight_map": []}, {"weight_map": None}, {"weight_map": "model.safetensors"}):
            self.refused(self.folder_with(index), "model.safetensors.index.json")

    def test_links_that_go_round(self):
        folder = self.folder_with({"weight_map": {"x": "a.safetensors"}})
        os.symlink("b.safetensors", folder / "a.safetensors")
        os.symlink("a.safetensors", folder / "b.safetensors")
        self.refused(folder, "a.safetensors")
        folder = put_config(self.fresh(), LLAMA)
        os.symlink("model.safetensors.index.json", folder / "model.safetensors.index.json")
        self.refused(folder, "model.safetensors.index.json")
        os.symlink("round", self.folder / "round")
        self.refused(self.folder / "round", "round")
        folder = put_config(self.fresh(), {})
        (folder / "config.json").unlink()
        os.symlink("config.json", folder / "config.json")
        self.refused(folder, "config.json")

    def test_a_lying_header(self):
        def file(header, size):
            text = json.dumps(header).encode() if isinstance(header, dict) else header
            return struct.pack("<Q", len(text)) + text + bytes(size)

        good = {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}
        self.succeed("plan", self.folder_with(model=file({"x": good}, 64)), "--budget", "4GiB")
        for change in ({"shape": [4, 9]}, {"shape": [2 ** 40, 2 ** 40]}, {"shape": [-4, -8]}, {"shape": "4"},
                       {"shape": [4.5, 8]}, {"dtype": "B3"}, {"dtype": 5}, {"data_offsets": [0, 65]},
                       {"data_offsets": [64, 0]}, {"data_offsets": [0, 2 ** 63]}, {"data_offsets": [0]},
                       {"data_offsets": [0, 64, 128]}, {"surprise": 1}):
            self.refused(self.folder_with(model=file({"x": dict(good, **change)}, 64)), "model.safetensors")
        self.refused(self.folder_with(model=file({"x": good, "y": good}, 64)), "model.safetensors")
        for content in (b"", b"\0" * 7, b"\0" * 8, struct.pack("<Q", 2 ** 64 - 1) + b"{}", struct.pack("<Q", 2 ** 63),
                        struct.pack("<Q", 100_000_000) + b"{}", struct.pack("<Q", 60_000) + b"[" * 60_000,
                        file({"x": good}, 63), file({"x": good}, 65), file(b'{"x":', 0)):
            folder = self.folder_with(model=content)
            for target in (folder, folder / "model.safetensors"):
                self.refused(target, "model.safetensors")

    def test_a_header_that_promises_gigabytes(self):
        """The length is within the file and absurd: it is not read into memory to find that out."""
        path = self.folder / "long-header.safetensors"
        path.write_bytes(struct.pack("<Q", 40 * GIB) + b"{")
        os.truncate(path, 41 * GIB)
        self.refused(path, "long-header.safetensors")


class BadGguf(Inputs):
    def gguf(self, content):
        path = self.fresh(".gguf")
        path.write_bytes(content)
        return path

    def test_cut_anywhere(self):
        header = llama_gguf(blocks=1).header()
        for size in [*range(0, 64), *range(64, len(header), 37), len(header) - 1, len(header), len(header) + 1]:
            path = self.gguf((header + bytes(64))[:size])
            self.refused(path, path.name)

    def test_counts_that_lie(self):
        file = llama_gguf(blocks=1)
        for count in (2 ** 60, 2 ** 63, 2 ** 64 - 1, 2 ** 31, 100_000, len(file.tensors) + 1):
            for content in (file.header(tensor_count=count), file.header(entry_count=count)):
                path = self.gguf(content + bytes(4096))
                self.refused(path, path.name)

    def test_texts_and_arrays_that_lie(self):
        for kind, packed in ((TEXT, struct.pack("<Q", 2 ** 63)), (TEXT, struct.pack("<Q", 2 ** 64 - 1)),
                             (TEXT, struct.pack("<Q", 10 ** 9)), (ARRAY, struct.pack("<IQ", U32, 2 ** 62)),
                             (ARRAY, struct.pack("<IQ", TEXT, 2 ** 60)), (ARRAY, struct.pack("<IQ", ARRAY, 1)),
                             (ARRAY, struct.pack("<IQ", 99, 1)), (99, b"\0" * 8)):
            path = self.gguf(GgufFile().value("surprise", kind, packed).header() + bytes(256))
            self.refused(path, path.name, "surprise")
        path = self.gguf(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2 ** 63) + bytes(64))
        self.refused(path, path.name)

    def test_fields_that_are_absurd(self):
        good = llama_gguf()
        at = {key: next(i for i, e in enumerate(good.entries) if key.encode() in e)
              for key in ("llama.block_count", "llama.embedding_length", "llama.attention.head_count_kv")}
        for key, index in at.items():
            for value in (0, 3, 2 ** 32 - 1):
                if (key, value) == ("llama.embedding_length", 3):
                    continue
                file = llama_gguf()
                file.entries[index] = GgufFile().number(key, value).entries[0]
                self.refused(file.write(self.fresh(".gguf")), key)
        file = llama_gguf()
        del file.entries[at["llama.block_count"]]
        self.refused(file.write(self.fresh(".gguf")), "llama.block_count")

    def test_an_unknown_architecture(self):
        self.refused(GgufFile().text("general.architecture", "hyena").write(self.fresh(".gguf")), "hyena", "llama")
        self.refused(GgufFile().text("general.name", "x").write(self.fresh(".gguf")), "general.architecture")

    def test_other_magic_and_versions(self):
        for content in (b"GGML", b"GGUF" + struct.pack("<I", 1) + bytes(64), b"GGUF" + struct.pack("<I", 4) + bytes(64),
                        b"GGUF" + struct.pack(">I", 3) + bytes(64), b"PK\3\4" + bytes(64)):
            path = self.gguf(content)
            self.refused(path, path.name)

    def test_shards(self):
        folder = self.fresh()
        folder.mkdir()
        names = [folder / f"part-{i:05}-of-00002.gguf" for i in (1, 2)]
        for i, name in enumerate(names):
            llama_gguf(4, first=2 * i, last=2 * i + 2, shard=(i, 2)).write(name)
        self.refused(names[1], names[1].name)
        names[1].unlink()
        for target in (names[0], folder):
            self.refused(target, names[1].name)
        os.symlink(names[0].name, names[1])
        self.refused(names[0], "part-0000")
        names[1].unlink()
        os.symlink(names[1].name, names[1])
        self.refused(names[0], names[1].name)

    def test_several_models_in_a_folder(self):
        folder = self.fresh()
        folder.mkdir()
        for name in ("one.gguf", "two.gguf"):
            llama_gguf().write(folder / name)
        self.refused(folder, "one.gguf", "two.gguf")


class BadValues(Case):
    def test_usage_errors_name_option_and_value(self):
        for option, *values in (("--context", "0", "4x", "1e5", "-1", "x", "", "2000000000000", "99999999999999999999"),
                                ("--weights", "q7", "Q4_Z", "", "keep it"), ("--kv", "zz", "q7", ""),
                                ("--machine", "foo", ""), ("--ram", "x", "-4GiB", ""), ("--budget", "zz", "1XB", ""),
                                ("--solve", "foo", ""), ("--layers", "0", "-1", "x", "99999999999999999999"),
                                ("--hidden-size", "0", "1.5"), ("--optimizer", "adam", ""),
                                ("--rank", "0", "x", "4097"),
                                ("--batch-size", "0", "x"), ("--max-seq-len", "0", "x", ""),
                                ("--attention-window", "0", "none", "-1"), ("--prefill-chunk", "0", "x"),
                                ("--threads", "0", "1025"), ("--max-tokens", "0", "x"), ("--page", "foo"),
                                ("--html", ""), ("--explain", "")):
            for value in values:
                with self.subTest(option=option, value=value):
                    self.fail_with(USAGE, ["error: ", option, value], "plan", "nano", f"{option}={value}")
                    self.fail_with(USAGE, ["error: ", option, value], "plan", "20b", option, value)

    def test_empty_elements_of_lists(self):
        for option, values in (("--context", ("4k,,8k", ",4k", "4k,")), ("--weights", ("q4,,q8", ",q4", "q4,")),
                               ("--kv", ("fp16,,q8",)), ("--solve", ("context,,kv",))):
            for value in values:
                with self.subTest(option=option, value=value):
                    self.fail_with(USAGE, ["error: ", option], "plan", "nano", option, value)

    def test_one_bad_value_in_a_list(self):
        self.fail_with(USAGE, ["--context", "8x"], "plan", "nano", "--context", "4k,8x,16k")
        self.fail_with(USAGE, ["--weights", "q9"], "plan", "nano", "--weights", "q4,q9")

    def test_a_reserve_that_leaves_nothing(self):
        for reserve in ("5GiB", "4GiB"):
            self.fail_with(USAGE, ["--reserve", "--ram", "4.00 GiB"], "plan", "nano", "--ram", "4GiB", "--reserve",
                           reserve)

    def test_options_that_need_or_exclude_others(self):
        self.fail_with(USAGE, ["--reserve", "--ram"], "plan", "--reserve", "1GiB")
        self.fail_with(USAGE, ["--machine", "--ram"], "plan", "--machine", "mac-mini-16gb", "--ram", "8GiB")
        self.fail_with(ERROR, ["--layers", "--hidden-size"], "plan", "20b", "--fallback")

    def test_a_context_beyond_the_model(self):
        self.fail_with(ERROR, ["--context", "131072", "65536"], "plan", "nano", "--context", "128k")

    def test_too_many_cells(self):
        contexts = ",".join(str(i) for i in range(1, 400))
        precisions = "fp32,bf16,fp16,q8,q6,q5,q4,q3,q2,nf4,fp4,ternary"
        self.fail_with(ERROR, ["399", "4096"], "plan", "20b", "--context", contexts, "--weights", precisions)


class HostileNames(Inputs):
    NAME = "<script>alert(1)</script>&\"'\n\x1b[31mred\x07\x9b"

    def hostile_folder(self, name=None):
        folder = self.folder / (name or self.NAME.replace("/", "")).encode()[:200].decode()
        if not folder.exists():
            put_config(folder, LLAMA)
        return folder

    def test_nothing_reaches_the_terminal_raw(self):
        folder = self.hostile_folder()
        for options in ([], ["--json"], ["--solve", "context,weights,kv"], ["--context", "1k,2k"],
                        ["--explain", "kv cache"], ["--train", "--solve", "train"]):
            shown = self.succeed("plan", folder, "--budget", "64GiB", *options)
            for byte in "\x1b\x07" if "--json" in options else "\x1b\x07\x9b":
                self.assertNotIn(byte, shown.out + shown.err)

    def test_errors_are_no_escape_codes_either(self):
        self.hostile_folder()
        for target in (self.NAME, self.hostile_folder() / "absent", "x\x1b[31m"):
            said = self.fail_with(ERROR, ["error: "], "plan", target)
            for byte in "\x1b\x07\x9b":
                self.assertNotIn(byte, said.err)
        put_config(self.folder / "family", dict(LLAMA, model_type="bad\x1b[31m\nfamily"))
        self.refused(self.folder / "family", "family")

    def test_names_that_are_not_utf_8(self):
        folder = os.path.join(os.fsencode(self.folder), b"latin-\xe9\xff")
        os.mkdir(folder)
        with open(os.path.join(folder, b"config.json"), "w") as file:
            json.dump(LLAMA, file)
        for options in ([], ["--json"], ["--html", self.folder / "latin.html"], ["--solve", "context"]):
            shown = self.succeed("plan", folder, "--budget", "64GiB", *options)
            self.assertIn("latin-", shown.out)
        self.fail_with(ERROR, ["latin-"], "plan", folder + b"/absent")

    def test_html_escapes(self):
        folder, page = self.hostile_folder(), self.folder / "page.html"
        page.unlink(missing_ok=True)
        self.succeed("plan", folder, "--budget", "64GiB", "--html", page)
        text = page.read_bytes().decode()
        self.assertNotIn("<script", text.lower())
        self.assertIn("&lt;script&gt;", text)
        self.assertFalse(set("\x1b\x07\x9b") & set(text))


class NothingButHeaders(Inputs):
    def answers_from(self, target, *args):
        """The plan, by a process that may not take more than 8 MiB of memory of its own. (Its ru_maxrss would be that
        of this process, too: what exec replaces counts.)"""
        limit = [] if SANITIZED else ["sh", "-c", 'ulimit -d 8192 && exec "$@"', "sh"]
        start = time.monotonic()
        process = subprocess.run([*limit, PROGRAM, "plan", str(target), "--json", *args], stdout=subprocess.PIPE,
                                 env=environment())
        self.assertEqual(process.returncode, 0)
        if not SANITIZED:
            self.assertLess(time.monotonic() - start, 5)
        return json.loads(process.stdout)

    def test_100_gb_of_safetensors(self):
        folder = put_config(self.fresh(), LLAMA)
        tensors = {f"t{i}": ("BF16", [2 ** 16, 2 ** 16]) for i in range(12)}
        sparse_safetensors(folder / "model.safetensors", tensors)
        self.assertGreater((folder / "model.safetensors").stat().st_size, 100e9)
        for target in (folder, folder / "model.safetensors"):
            plan = self.answers_from(target, "--budget", "200GiB")
            weights = sum(a["bytes"] for a in plan["accounts"] if a["account"].startswith("weights"))
            self.assertEqual(weights, 12 * 2 ** 33)

    def test_100_gb_of_gguf(self):
        file = llama_gguf()
        for i in range(12):
            file.tensor(f"blk.0.extra_{i}.weight", [2 ** 17, 2 ** 17])
        path = file.write(self.fresh(".gguf"))
        self.assertGreater(path.stat().st_size, 100e9)
        plan = self.answers_from(path, "--budget", "200GiB")
        weights = sum(a["bytes"] for a in plan["accounts"] if a["account"].startswith("weights"))
        self.assertGreater(weights, 100e9)


if __name__ == "__main__":
    main()
