// Must not compile: a view of constants cannot become a view of variables.
#include "tensor/mat.h"
axon::Mat<float> wrong(axon::Mat<const float> view) { return view; }
