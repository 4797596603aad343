#pragma once
// From the text of an example to its token ids, and to which of them are learned. docs/training-data.md says why.

#include "tokenizer/tokenizer.h"
#include "train/data.h"
#include "train/data_record.h"

namespace axon::train {

struct EncodeOptions {
  std::size_t max_seq_len = 2048;  // tokens; what is longer loses its end
  bool mask_prompt = true;         // learn answers only; otherwise every token
  bool raw_completions = false;    // prompt and completion are plain text, not a question and an answer of a chat
  // As Bit-Axon's Python original does it: the header of an answer is learned, and the end token comes twice.
  bool compat = false;
};

// What the encoding of an example did.
struct Encoded {
  std::size_t longest = 0;   // tokens of its longest sequence before truncation
  bool truncated = false;    // it, or one of its pair, was longer than max_seq_len
  bool has_targets = false;  // (both of its pair)
  bool had_targets = false;  // before truncation
};

// Replaces `out`. kUnsupported when the tokenizer lacks <|im_start|>, or any end token.
Result<Encoded> encode_record(const Tokenizer& tokenizer, const Record& record, const EncodeOptions& options,
                              Example& out);

}  // namespace axon::train
