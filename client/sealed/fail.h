/* fail: errors of the parts beside librivulet, as rivulet.h has them. */
#pragma once

#include "client/rivulet.h"

/* Sets *ret_error (which may be NULL) and returns `code`. RV_RETRIABLE follows from the code. */
int fail_set(struct rv_error *ret_error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int fail_memory(struct rv_error *ret_error); /* RV_E_MEMORY */
