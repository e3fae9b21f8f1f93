/* error: the error codes of Kafka's protocol. Another thing than `err` (base/err.h), which is the
 * result of our own functions. The table is error.def. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum kafka_error {
#define X(name, code, retriable, text) KERR_##name = (code),
#include "protocol/error.def"
#undef X
};

struct kafka_error_info {
    int16_t code;
    bool retriable;   /* the same request may succeed later */
    const char *name; /* "OFFSET_OUT_OF_RANGE" */
    const char *text; /* a sentence */
};

/* False for a code that is not known. */
bool kafka_error_find(int16_t code, struct kafka_error_info *ret_info);

/* Never NULL; "UNKNOWN" for a code that is not known. */
const char *kafka_error_name(int16_t code);
const char *kafka_error_text(int16_t code);

/* False for a code that is not known. */
bool kafka_error_is_retriable(int16_t code);
