// Must not compile: a Result must be looked at (-Werror=unused-result).
#include "base/error.h"
axon::Status may_fail();
void wrong() { may_fail(); }
