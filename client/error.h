/* error: results of the library as values: a code, flags and a text. */
#pragma once

#include "base/err.h"
#include "client/rivulet.h"

/* Sets *ret_error (which may be NULL) and returns `code`. The flags follow from the code. */
int error_set(struct rv_error *ret_error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int error_memory(struct rv_error *ret_error);                            /* RV_E_MEMORY */
int error_copy(struct rv_error *ret_error, const struct rv_error *from); /* returns its code */
unsigned error_flags(int code);    /* enum rv_flag that go with a code */
const char *error_about(int code); /* what a code means, in a few words */
int error_of(err e);               /* base's result as a code of ours */

/* The topic or partition is not where we thought: ask for metadata before the next attempt. */
bool error_is_metadata(int code);
/* The group's coordinator is not where we thought. */
bool error_is_coordinator(int code);

static inline bool error_is_retriable(int code)
{
    return (error_flags(code) & RV_RETRIABLE) != 0;
}
