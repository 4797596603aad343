// Must not compile: a size of memory is not a number.
#include "base/bytes.h"
axon::Bytes wrong() { return axon::Bytes{1} + 1; }
