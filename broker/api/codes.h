/* codes: from what the log says to Kafka's error codes. */
#pragma once

#include "base/err.h"

#include <stdint.h>

int16_t code_of_append(err e); /* log_append, written, durable */
int16_t code_of_read(err e);   /* log_read, log_warm, look-ups */
