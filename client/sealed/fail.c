#include "client/sealed/fail.h"

#include "protocol/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool is_retriable(int code)
{
    switch (code) {
    case RV_E_MEMORY:
    case RV_E_TIMED_OUT:
    case RV_E_FULL:
    case RV_E_CONNECT:
    case RV_E_LOST: return true;
    default: return code > 0 && kafka_error_is_retriable((int16_t)code);
    }
}

int fail_set(struct rv_error *ret_error, int code, const char *format, ...)
{
    if (ret_error) {
        char text[sizeof ret_error->text]; /* an argument may be the old text */
        va_list args;
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        memcpy(ret_error->text, text, sizeof text);
        ret_error->code = code;
        ret_error->flags = is_retriable(code) ? RV_RETRIABLE : 0;
    }
    return code;
}

int fail_memory(struct rv_error *ret_error)
{
    return fail_set(ret_error, RV_E_MEMORY, "out of memory");
}
