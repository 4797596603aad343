#pragma once
// TurboQuant (arXiv 2504.19874): keys and values of attention in 2 to 4 bits a value, which attention reads as they
// are. docs/turboquant.md says what it is and what it costs; each header below is one part.

#include "quant/turboquant_head.h"       // IWYU pragma: export
#include "quant/turboquant_layout.h"     // IWYU pragma: export
#include "quant/turboquant_recode.h"     // IWYU pragma: export
#include "quant/turboquant_reference.h"  // IWYU pragma: export
#include "quant/turboquant_rotation.h"   // IWYU pragma: export
#include "quant/turboquant_scale.h"      // IWYU pragma: export
#include "quant/turboquant_tables.h"     // IWYU pragma: export
#include "quant/turboquant_vector.h"     // IWYU pragma: export
