#include "base/check.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Written with one write(2): the state of stdio and of the heap is not to be trusted here. */
static void say(const char *text, size_t size)
{
    ssize_t n = write(STDERR_FILENO, text, size);
    (void)n; /* nobody is left to tell */
}

_Noreturn void check_failed(const char *expression, const char *file, int line)
{
    char text[512];
    int n =
        snprintf(text, sizeof text, "level=fatal event=invariant_broken check=\"%s\" at=%s:%d\n",
                 expression, file, line);
    say(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
#ifdef RIVULET_ABORT_ON_CHECK
    __builtin_trap(); /* debug and sanitizer builds want the stack */
#else
    _exit(EXIT_INVARIANT);
#endif
}

_Noreturn void storage_fatal(const char *what, const char *path, int error_number)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "level=fatal event=storage_failed what=%s path=\"%s\" error=\"%s\"\n", what,
                     path, strerror(error_number));
    say(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    _exit(EXIT_STORAGE);
}
