#include "train/data_encode.h"

#include <gtest/gtest.h>

#include "train/data_for_test.h"

namespace axon::train {
namespace {

using testing::ByteTokenizer;
using testing::marked;
using testing::ok;

const Chat kChat{{{"system", "s"}, {"user", "u"}, {"assistant", "ab"}, {"user", "v"}, {"assistant", "w"}}};

std::string encoded(const Record& record, const EncodeOptions& options = {}, std::size_t sequence = 0) {
  const ByteTokenizer tokenizer;
  Example example;
  ok(encode_record(*tokenizer, record, options, example));
  EXPECT_EQ(example.sequences[sequence].ids.size(), example.sequences[sequence].trained.size());
  return marked(*tokenizer, example.sequences[sequence]);
}

TEST(DataEncode, AnswersAreLearnedAndTheirEnd) {
  EXPECT_EQ(encoded(kChat),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n[ab<|im_end|>]\n"
            "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n[w<|im_end|>]\n");
  EXPECT_EQ(encoded(Chat{{{"user", "u"}, {"assistant", "w"}}}, {.mask_prompt = false}),
            "[<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\nw<|im_end|>\n]");
}

// What is learned must be what generation would see: the ids of the chat up to the answer, and then the answer.
TEST(DataEncode, TheIdsAreThoseOfTheChat) {
  const ByteTokenizer tokenizer;
  Example example;
  ok(encode_record(*tokenizer, kChat, {}, example));
  std::vector<TokenId> chat;
  ok(encode_chat(*tokenizer, kChat.messages, false, chat));
  EXPECT_EQ(example.sequences[0].ids, chat);
  EXPECT_EQ(std::count(chat.begin(), chat.end(), testing::kEnd), 5);
}

TEST(DataEncode, ContentsAreTextWhateverTheyHold) {
  const ByteTokenizer tokenizer;
  Example example;
  ok(encode_record(*tokenizer, Chat{{{"assistant", "a<|im_end|>b"}}}, {}, example));
  const auto& ids = example.sequences[0].ids;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), testing::kEnd), 1);
}

TEST(DataEncode, CompletionsAndText) {
  EXPECT_EQ(encoded(Completion{"p", "c"}), "<|im_start|>user\np<|im_end|>\n<|im_start|>assistant\n[c<|im_end|>]\n");
  EXPECT_EQ(encoded(Completion{"p", "c"}, {.raw_completions = true}), "p[c<|im_end|>]");
  EXPECT_EQ(encoded(Completion{"p", "c"}, {.mask_prompt = false, .raw_completions = true}), "[pc<|im_end|>]");
  EXPECT_EQ(encoded(Text{"t"}), "[t<|im_end|>]");
  EXPECT_EQ(encoded(Text{"t<|im_end|>"}), "[t<|im_end|>]");
}

TEST(DataEncode, PairsLearnTheAnswersOnly) {
  const Preference pair{{{"user", "u"}}, {{"assistant", "c"}}, {{"assistant", "r"}}};
  EXPECT_EQ(encoded(pair, {.mask_prompt = false}),
            "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n[c<|im_end|>]\n");
  EXPECT_EQ(encoded(pair, {}, 1), "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n[r<|im_end|>]\n");
  // Earlier answers in the prompt are not what the pair is about; and a prompt that both sides repeat comes once.
  const std::vector<Message> prompt{{"user", "u"}, {"assistant", "x"}};
  const Preference repeated{prompt, {prompt[0], prompt[1], {"assistant", "c"}}, {{"assistant", "r"}}};
  EXPECT_EQ(encoded(repeated),
            "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n"
            "<|im_start|>assistant\n[c<|im_end|>]\n");
}

TEST(DataEncode, AsTheOriginalDoes) {
  const EncodeOptions options{.compat = true};
  EXPECT_EQ(encoded(kChat, options),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n[<|im_start|>assistant\nab<|im_end|>\n]"
            "<|im_start|>user\nv<|im_end|>\n[<|im_start|>assistant\nw<|im_end|>\n<|im_end|>]");
  EXPECT_EQ(encoded(Chat{{{"assistant", "w"}, {"user", "u"}}}, options),
            "[<|im_start|>assistant\nw<|im_end|>\n]<|im_start|>user\nu<|im_end|>\n<|im_end|>");
  const Preference pair{{{"user", "u"}}, {{"assistant", "c"}}, {{"assistant", "r"}}};
  EXPECT_EQ(encoded(pair, options, 1),
            "<|im_start|>user\nu<|im_end|>\n[<|im_start|>assistant\nr<|im_end|>\n<|im_end|>]");
  const ByteTokenizer tokenizer;
  Example example;
  const auto refused = encode_record(*tokenizer, Text{"t"}, options, example);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST(DataEncode, TruncationFromTheRight) {
  const ByteTokenizer tokenizer;
  Example example;
  const Chat chat{{{"user", "u"}, {"assistant", "wxyz"}}};
  const auto full = ok(encode_record(*tokenizer, chat, {}, example));
  const std::size_t length = example.sequences[0].ids.size();
  EXPECT_EQ(full.longest, length);
  EXPECT_FALSE(full.truncated);
  EXPECT_TRUE(full.has_targets);
  const auto cut = ok(encode_record(*tokenizer, chat, {.max_seq_len = length - 4}, example));
  EXPECT_EQ(marked(*tokenizer, example.sequences[0]), "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n[wx]");
  EXPECT_TRUE(cut.truncated && cut.has_targets && cut.had_targets);
  EXPECT_EQ(cut.longest, length);
  const auto emptied = ok(encode_record(*tokenizer, chat, {.max_seq_len = length - 6}, example));
  EXPECT_TRUE(emptied.truncated && emptied.had_targets);
  EXPECT_FALSE(emptied.has_targets);
  const auto silent = ok(encode_record(*tokenizer, Chat{{{"user", "u"}}}, {}, example));
  EXPECT_FALSE(silent.had_targets);
}

TEST(DataEncode, ATokenizerWithoutTheTokensIsRefused) {
  const ByteTokenizer tokenizer({"<|endoftext|>"});
  Example example;
  const auto chat = encode_record(*tokenizer, kChat, {}, example);
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.error().message, "the tokenizer has no added token <|im_start|>: messages cannot be kept apart");
  const auto text = encode_record(*tokenizer, Text{"t"}, {}, example);
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().message, "the tokenizer has neither <|im_end|> nor </s> to end a text");
}

}  // namespace
}  // namespace axon::train
