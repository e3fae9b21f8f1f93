#include "base/err.h"

static const char *const texts[ERR_COUNT] = {
    [OK] = "ok",
    [ERR_MEMORY] = "out of memory",
    [ERR_LIMIT] = "limit reached",
    [ERR_CORRUPT] = "corrupt",
    [ERR_TRUNCATED] = "truncated",
    [ERR_INVALID] = "invalid",
    [ERR_UNSUPPORTED] = "unsupported",
    [ERR_NOT_FOUND] = "not found",
    [ERR_EXISTS] = "exists already",
    [ERR_IO] = "i/o error",
    [ERR_NO_SPACE] = "no space",
    [ERR_NO_FILES] = "out of file descriptors",
    [ERR_AGAIN] = "would block",
    [ERR_RANGE] = "out of range",
    [ERR_STALE] = "stale",
    [ERR_BUSY] = "busy",
    [ERR_CLOSED] = "closed",
    [ERR_TIMED_OUT] = "timed out",
    [ERR_ORDER] = "out of order",
    [ERR_DUPLICATE] = "duplicate",
    [ERR_FENCED] = "fenced",
    [ERR_DENIED] = "not permitted, or a read-only file system",
};

const char *err_text(err e)
{
    return (unsigned)e < ERR_COUNT ? texts[e] : "unknown";
}
