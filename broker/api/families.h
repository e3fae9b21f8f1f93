/* The handlers of apis.def. Each file of this room implements one family of them. */
#pragma once

#include "broker/api/request.h"

#define X(name, min, max, advertised_min, handler, flags) err handler(struct request *req);
#include "broker/api/apis.def"
#undef X
