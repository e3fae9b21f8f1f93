#include "protocol/error.h"

#include <stddef.h>

/* By code, from -1 on, without a gap (tests/unit/test_frame.c). */
static const struct kafka_error_info infos[] = {
#define X(n, c, r, t) {.code = (c), .retriable = (r), .name = #n, .text = (t)},
#include "protocol/error.def"
#undef X
};

const struct kafka_error_info *kafka_error_find(int16_t code)
{
    int index = code + 1;
    if (index < 0 || index >= (int)(sizeof infos / sizeof *infos)) {
        return NULL;
    }
    return &infos[index];
}

const char *kafka_error_name(int16_t code)
{
    const struct kafka_error_info *i = kafka_error_find(code);
    return i ? i->name : "UNKNOWN";
}

const char *kafka_error_text(int16_t code)
{
    const struct kafka_error_info *i = kafka_error_find(code);
    return i ? i->text : "An error code that is not known here.";
}

bool kafka_error_is_retriable(int16_t code)
{
    const struct kafka_error_info *i = kafka_error_find(code);
    return i && i->retriable;
}
